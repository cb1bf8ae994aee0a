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
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
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
from scifm.fields.seeds import lent_to_torch
from scifm.models.codecs import decoded, encoded, shapes_of
from scifm.models.model_card import ModelCard
from scifm.models.module_operator import ModuleConfig, ModuleOperator, module_class
from scifm.models.operator import Operator
from scifm.models.registry import operator_class
from scifm.runs import Run, write_atomically, write_json

__all__ = [
    "FILES",
    "ModelPlace",
    "digest",
    "fetch_model",
    "find_model",
    "holds_operator",
    "load_operator",
    "refusal",
    "save_operator",
]

FILES = ("config.json", "normalization.json", "model.safetensors", "README.md")
"""The files of a model."""

_LARGEST_JSON = 16 * 2**20
_ON_HUB = re.compile(r"hf:/{0,2}([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?", re.ASCII)  # a Path makes one / of two


def save_operator(
    operator: Operator,
    path: str | Path,
    *,
    card: ModelCard | Mapping[str, Any] | None = None,
    codec: str | None = None,
) -> None:
    """Write an operator into the folder `path`.

    Args:
        operator: any whose class is in ``OPERATORS``.
        path: the folder; made when it is not there.
        card: what only you can say about it, see `ModelCard`.
        codec: how its weights are written, a name in ``scifm.models.codecs.CODECS``; as they are when left out.

    Raises:
        ConfigError: if the card has settings it does not know.
        DataError: if a codec cannot write the weights, which are not finite.
        RunError: if the folder cannot be written; a file that was there before is whole.
    """
    path = Path(path)
    if not isinstance(card, ModelCard):
        card = build_config(ModelCard, card or {}, source="the model card")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in operator.state_dict().items()}
    entries = operator.describe()
    normalization = entries.pop("normalization")
    if codec is not None:
        tensors, entries["codec"] = encoded(tensors, codec)
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


@dataclass(frozen=True)
class ModelPlace:
    """Where a model lies.

    Args:
        folder: of its files.
        run: the run it is of; None for a model alone.
    """

    folder: Path
    run: Run | None

    @property
    def path(self) -> Path:
        """The folder a user knows it by: that of the run, else of the model."""
        return self.folder if self.run is None else self.run.path


def find_model(source: Run | str | Path) -> ModelPlace:
    """Find the model that is meant: every verb and function that takes one takes all of these.

    Args:
        source: a complete run or its folder; the folder of a model; or ``hf:name/model``, where wanted with
            ``@revision``, whose files are fetched from the Hugging Face hub.

    Raises:
        RunError: if there is none, the run is not complete, or the hub cannot be reached.
    """
    if not isinstance(source, Run):
        on_hub = _ON_HUB.fullmatch(str(source))
        if on_hub is not None:
            return ModelPlace(fetch_model(on_hub[1], revision=on_hub[2]), None)
        folder = Path(source)
        if holds_operator(folder):
            around = folder.absolute().parent
            inside = folder.absolute().name == "model" and (around / "config.toml").is_file()
            return ModelPlace(folder, Run(around) if inside else None)
        if not (folder / "config.toml").is_file():
            raise _no_model(folder)
        source = Run(folder)
    source.require_complete()
    return ModelPlace(source.path / "model", source)


def _no_model(folder: Path) -> RunError:
    give = "Give the folder of a finished run or of a model, or hf:NAME/MODEL for one on the Hugging Face hub."
    if not folder.is_dir():
        return RunError(f"There is no folder '{folder}', so it holds no model. {give}")
    missing = next(folder / name for name in FILES[:3] if not (folder / name).is_file())
    return RunError(f"'{folder}' is not a run folder and holds no model: {missing} is missing. {give}")


def fetch_model(repo_id: str, *, revision: str | None = None) -> Path:
    """Fetch the four files of a model from the Hugging Face hub; return the folder they lie in.

    Args:
        repo_id: ``name/model``.
        revision: branch, tag or commit.

    Raises:
        RunError: if there is no such model, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(FILES), library_name="scifm"))
    except Exception as error:
        raise refusal(f"The model '{repo_id}' is no folder here and cannot be fetched from the hub", error) from error


def refusal(what: str, error: Exception) -> RunError:
    """Return what is told where the hub refuses."""
    return RunError(
        f"{what} ({type(error).__name__}: {_short(error, 300)}). Check the id, the revision, the network and, for what "
        "is not public, 'hf auth login'."
    )


def load_operator(path: Run | str | Path, *, module: nn.Module | None = None) -> Operator:
    """Rebuild a saved operator.

    Args:
        path: a complete run, its folder, the folder of a model, or ``hf:name/model``; see `find_model`.
        module: for one that was wrapped from an object: a network of the same class, whose weights are replaced.

    Raises:
        RunError: if the folder is missing, truncated, of another kind, or names something that must not be run.
    """
    path = find_model(path).folder
    try:
        entries, normalization = _json(path / "config.json"), _json(path / "normalization.json")
        with safe_open(path / "model.safetensors", framework="pt") as handle:
            names = list(handle.keys())
            shapes = {name: tuple(handle.get_slice(name).get_shape()) for name in names}
            codec = entries.get("codec")
            operator = _rebuild(entries, normalization, shapes_of(shapes, codec), module)
            operator.lead_times = _lead_times(entries)
            # copies: what lies in the file as it lies there goes when the file does, and may not be aligned
            tensors: dict[str, Tensor] = {name: handle.get_tensor(name).clone() for name in names}
        _fill(operator, decoded(tensors, codec))
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


def _short(error: Exception, most: int = 600) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= most else text[:most] + " …"


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
    with torch.device("meta"):  # no first weights, which would cost time
        operator = cls(signature, config, normalization=Normalization.from_dict(normalization))
    _compare(operator, shapes)
    return operator


def _lead_times(entries: Mapping[str, Any]) -> tuple[float, float] | None:
    if entries.get("lead_times") is None:
        return None
    low, high = map(float, entries["lead_times"])
    if not 0 < low <= high < math.inf:
        raise ConfigError(f"lead_times in config.json are positive, the shorter one first; got {low:g} and {high:g}")
    return low, high


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
        with lent_to_torch([torch.Generator()]):  # for first weights that are replaced
            return ModuleOperator(signature, config, normalization=normalization, module=module)

    try:
        if module is None and config.target is not None:
            module_class(config.target, file=config.file)
            try:
                with torch.device("meta"):
                    _compare(make(), shapes)
            except ConfigError as error:
                if "meta" not in str(error.__cause__):
                    raise  # else: its constructor reads numbers off tensors, and can only be called for real
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
