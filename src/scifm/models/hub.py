"""Operators on disk, in the layout of the Hugging Face hub.

::

    config.json         kind, signature and architecture: what the constructor is given
    normalization.json  numbers fitted on training data
    model.safetensors   the weights
    README.md           the model card

Nothing is unpickled, and no memory is taken on the word of a file: what the weights' file declares must be what the
architecture asks for before a tensor is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from scifm.config import build_config
from scifm.errors import ConfigError, RunError, SignatureError, cause_of
from scifm.fields.batch import Signature
from scifm.fields.normalization import Normalization
from scifm.fields.seeds import GLOBAL_GENERATOR
from scifm.models.model_card import ModelCard
from scifm.models.module_operator import ModuleConfig, ModuleOperator, require_installed
from scifm.models.operator import Operator
from scifm.models.registry import operator_class
from scifm.runs import write_atomically, write_json

__all__ = ["FILES", "digest", "holds_operator", "load_operator", "save_operator"]

FILES = ("config.json", "normalization.json", "model.safetensors", "README.md")
"""The files of a model."""

_LARGEST_JSON = 16 * 2**20


def save_operator(operator: Operator, path: str | Path, *, card: ModelCard | Mapping[str, Any] | None = None) -> None:
    """Write an operator into the folder `path`.

    Args:
        operator: any whose class is in ``OPERATORS``.
        path: the folder; made when it is not there.
        card: what only you can say about it, see `ModelCard`.

    Raises:
        ConfigError: if the card has settings it does not know.
        RunError: if the folder cannot be written; a file that was there before is whole.
    """
    path = Path(path)
    if not isinstance(card, ModelCard):
        card = build_config(ModelCard, card or {}, source="the model card")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in operator.state_dict().items()}
    entries = operator.describe()
    normalization = entries.pop("normalization")
    write_atomically(path / "model.safetensors", save_tensors(tensors))  # first: it is what a full disk refuses
    write_json(path / "config.json", entries)
    write_json(path / "normalization.json", normalization)
    write_atomically(path / "README.md", card.text(operator).encode())


def holds_operator(path: str | Path) -> bool:
    """Return whether a folder is a model itself, and not a run that holds one."""
    return all((Path(path) / name).is_file() for name in FILES[:3])


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a model: two with the same one answer alike."""
    parts = []
    for name in FILES[:3]:
        with (Path(path) / name).open("rb") as handle:
            parts.append(hashlib.file_digest(handle, "sha256").hexdigest())
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def load_operator(path: str | Path, *, module: nn.Module | None = None) -> Operator:
    """Rebuild the operator saved in the folder `path`.

    Args:
        path: the folder.
        module: for one that was wrapped from an object: a network of the same class, whose weights are replaced.

    Raises:
        RunError: if the folder is missing, truncated, of another kind, or names something that must not be run.
    """
    path = Path(path)
    try:
        entries, normalization = _json(path / "config.json"), _json(path / "normalization.json")
        with safe_open(path / "model.safetensors", framework="pt") as handle:
            names = list(handle.keys())
            shapes = {name: tuple(handle.get_slice(name).get_shape()) for name in names}
            operator = _rebuild(entries, normalization, shapes, module)
            # copies: what lies in the file as it lies there goes when the file does, and may not be aligned
            tensors: dict[str, Tensor] = {name: handle.get_tensor(name).clone() for name in names}
        _fill(operator, tensors)
    except RunError as error:
        raise RunError(f"The model in '{path}' is not loaded: {error}") from error
    except FileNotFoundError as error:
        missing = next((path / name for name in FILES[:3] if not (path / name).is_file()), path)
        raise RunError(f"'{path}' holds no model: {missing} is missing. Give the folder of a finished run.") from error
    except (
        OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError, OverflowError,
        RecursionError,
    ) as error:  # fmt: skip
        damage = (
            f"it is damaged or was written by another program ({type(error).__name__}: {_short(error)}). Copy it "
            "again, or train it anew."
        )
        raise RunError(f"The model in '{path}' cannot be read: {cause_of(error) or damage}") from error
    return operator


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 600 else text[:600] + " …"


def _json(path: Path) -> Any:
    if path.stat().st_size > _LARGEST_JSON:
        raise ConfigError(f"{path.name} is larger than {_LARGEST_JSON} bytes")
    return json.loads(path.read_text(encoding="utf-8"))


def _rebuild(
    entries: dict[str, Any], normalization: dict[str, Any], shapes: dict[str, tuple[int, ...]], module: nn.Module | None
) -> Operator:
    _require_numbers(entries["signature"], normalization)
    cls = operator_class(str(entries["kind"]))
    signature = Signature.from_dict(entries["signature"])
    config = build_config(cls.settings_class, entries["network"], source="config.json")
    if isinstance(config, ModuleConfig):
        return _rebuild_module(signature, config, Normalization.from_dict(normalization), shapes, module)
    if module is not None:
        raise RunError(f"module= is for operators of kind 'module'; this one is of kind '{cls.kind}'.")
    with torch.device("meta"):  # no first weights: they would cost time and draw from torch's global generator
        operator = cls(signature, config, normalization=Normalization.from_dict(normalization))
    _compare(operator, shapes)
    return operator


def _require_numbers(signature: Mapping[str, Any], normalization: Mapping[str, Any]) -> None:
    """Check that the normalization has one number for each name."""
    roles = {"input": "inputs", "coefficient": "coefficients", "output": "outputs"}
    for entry in (f"{role}_{kind}" for role in roles for kind in ("shift", "scale")):
        names = signature[roles[entry.partition("_")[0]]]
        if len(normalization[entry]) != len(names):
            raise SignatureError(
                f"'{entry}' in normalization.json has {len(normalization[entry])} numbers for {len(names)} names"
            )


def _rebuild_module(
    signature: Signature,
    config: ModuleConfig,
    normalization: Normalization,
    shapes: dict[str, tuple[int, ...]],
    module: nn.Module | None,
) -> Operator:
    """Construct someone else's network: for comparison without memory first, then with what it keeps beside weights."""

    def make() -> Operator:
        return ModuleOperator(signature, config, normalization=normalization, module=module)

    try:
        if module is None and config.target is not None:
            require_installed(config.target)
            try:
                with torch.device("meta"):
                    _compare(make(), shapes)
            except ConfigError as error:
                if "meta" not in str(error.__cause__):
                    raise  # else: its constructor reads numbers off tensors, and can only be called for real
        with GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
            operator = make()
    except ConfigError as error:
        raise RunError(str(error)) from error
    _compare(operator, shapes)
    return operator


def _compare(operator: Operator, shapes: dict[str, tuple[int, ...]]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in operator.state_dict().items()}
    if expected == shapes:
        return
    for name in sorted({*expected, *shapes}):
        if expected.get(name) != shapes.get(name):
            have, want = shapes.get(name, "missing"), expected.get(name, "unknown")
            raise SignatureError(f"the weight '{name}' is {have} in model.safetensors and {want} in config.json")


def _fill(operator: Operator, tensors: dict[str, Tensor]) -> None:
    if isinstance(operator, ModuleOperator):
        operator.take_precision(tensors)
        operator.load_state_dict(tensors)  # into the tensors that are there, so that tied weights stay tied
    else:
        operator.load_state_dict(tensors, assign=True)
