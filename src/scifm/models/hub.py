"""Operators on disk, in the hub layout: ``config.json`` and ``model.safetensors``.

The folder holds everything needed to rebuild the operator: architecture, signature and normalization. Nothing is
unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from scifm.config import build_config
from scifm.errors import ConfigError, RunError, suggest
from scifm.fields.batch import Signature
from scifm.fields.normalization import Normalization
from scifm.models.fno import FNO, FNOConfig
from scifm.models.operator import Operator
from scifm.runs import write_atomically, write_json

__all__ = ["load_operator", "save_operator"]


def save_operator(operator: Operator, path: str | Path) -> None:
    """Write an operator into the folder `path`.

    Raises:
        RunError: if the folder cannot be written; what was there before is untouched.
    """
    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in operator.state_dict().items()}
    write_json(path / "config.json", operator.describe())
    write_atomically(path / "model.safetensors", save_tensors(tensors))


def load_operator(path: str | Path) -> Operator:
    """Rebuild the operator saved in the folder `path`.

    Raises:
        RunError: if the folder is missing, truncated, or of another kind.
    """
    path = Path(path)
    try:
        entries: dict[str, Any] = json.loads((path / "config.json").read_text())
        content = (path / "model.safetensors").read_bytes()
        tensors = load_tensors(content)
        with torch.device("meta"):  # no first weights: they would cost time and draw from torch's global generator
            operator = _rebuild(entries)
        operator.load_state_dict(tensors, assign=True)
    except FileNotFoundError as error:
        raise RunError(
            f"'{path}' holds no model: {error.filename} is missing. Give the folder of a finished run."
        ) from error
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            f"The model in '{path}' cannot be read ({type(error).__name__}: {error}). It is damaged or was written by "
            "another program; copy it again or train it anew."
        ) from error
    return operator


def _rebuild(entries: dict[str, Any]) -> Operator:
    if entries["kind"] != FNO.kind:
        raise ConfigError(suggest(str(entries["kind"]), [FNO.kind]))
    return FNO(
        Signature.from_dict(entries["signature"]),
        build_config(FNOConfig, entries["network"]),
        normalization=Normalization.from_dict(entries["normalization"]),
    )
