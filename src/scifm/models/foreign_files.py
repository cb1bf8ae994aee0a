"""Weights in other people's files, read without running anything that lies in them.

Pickles are read with ``weights_only=True``: tensors and plain containers come in, everything else is refused before it
is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from scifm.errors import RunError

__all__ = ["read_state_dict"]

_INSIDE = ("model_state", "model_state_dict", "state_dict")


class _Stranger:
    """Stands for a class or function named in a file, so that what lies beside it can be read; does nothing."""

    def __init__(self, *_arguments: Any, **_settings: Any) -> None:
        raise RunError("The file asks to call what it names; nothing was run.")


def read_state_dict(path: str | Path) -> dict[str, Any]:
    """Return the weights in a file: ``.safetensors``, or what ``torch.save`` wrote.

    Of a training checkpoint, such as the reference paper's ``.tar`` with iters, epoch, model_state, optimizer and
    scheduler, its ``model_state`` (or ``model_state_dict``, ``state_dict``) is returned.

    Args:
        path: the file.

    Raises:
        RunError: if it is missing, damaged, holds no weights, or asks to run something.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"There is no file '{path}'. Give a .safetensors file, or what torch.save wrote (.pt, .tar).")
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    if isinstance(content, Mapping):
        content = next((content[name] for name in _INSIDE if isinstance(content.get(name), Mapping)), content)
    if not isinstance(content, Mapping) or not any(isinstance(value, torch.Tensor) for value in content.values()):
        raise RunError(f"'{path}' holds no weights: it must be a state_dict, or a checkpoint with a model_state.")
    return {str(name): value for name, value in content.items()}


def _safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"'{path}' cannot be read as safetensors ({error}).") from error


def _pickled(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_named_by_neuraloperator(path)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if "Unsupported" in line or "GLOBAL" in line), "")
        reason = " ".join((reason or str(error)).split())[:200]
        raise RunError(
            f"'{path}' cannot be read as weights ({type(error).__name__}: {reason}). Nothing in it was run. If you "
            "trust it, load it where it was made and save its state_dict alone, best with safetensors."
        ) from error


def _named_by_neuraloperator(path: Path) -> list[Any]:
    """Return stand-ins for what neuraloperator names in the record of settings it saves among its weights."""
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (AttributeError, ValueError, RuntimeError):  # an older torch; no archive of torch's: read without
        return []
    harmless = [name for name in named if name.startswith("neuralop.layers.") or name == "torch._C._nn.gelu"]
    return [(type(name, (_Stranger,), {}), name) for name in harmless]
