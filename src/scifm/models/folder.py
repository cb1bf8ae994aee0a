"""A model on disk: dictionaries and tensors in the layout of the Hugging Face hub, and their way to and from there.

::

    config.json         kind, signature and architecture: what the constructor is given
    normalization.json  numbers fitted on training data
    model.safetensors   the weights
    README.md           the model card
    provenance.json     where it comes from; models of before have none
    calibration.safetensors  how wrong it was on samples it had not seen, where somebody looked

Nothing is unpickled, and no memory is taken on the word of a file: `reading` tells what the weights' file declares
before a tensor is read. What operator the numbers belong to is not known here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from scifm.errors import ConfigError, RunError, SignatureError, cause_of
from scifm.fields.batch import Signature
from scifm.fields.domain import Domain
from scifm.fields.grid import Grid
from scifm.fields.normalization import Normalization
from scifm.fields.window import Pace
from scifm.findings.provenance import PROVENANCE, Provenance
from scifm.models.calibration import CALIBRATION, Calibration
from scifm.models.codecs import find_codec
from scifm.runs import Run, write_atomically, write_json
from scifm.shipped import shipped_model

__all__ = [
    "FILES", "ModelContent", "ModelPlace", "digest", "fetch_model", "find_model", "grid_of", "holds_operator",
    "pace_of", "pretrained_folder", "reading", "send_folder", "write_folder",
]  # fmt: skip

FILES = ("config.json", "normalization.json", "model.safetensors", "README.md", PROVENANCE)
"""The files of every model; one that was calibrated has `CALIBRATION` too."""

_LARGEST_JSON = 16 * 2**20
_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_ON_HUB = re.compile(r"hf:/{0,2}([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?", re.ASCII)  # a Path makes one / of two


@dataclass(frozen=True)
class ModelContent:
    """What the files of a model say.

    Args:
        shapes: of the weights, as their file declares them.
        tensors: reads the weights.
        calibration: of the operator they were, if it was calibrated.
    """

    entries: dict[str, Any]
    signature: Signature
    normalization: Normalization
    shapes: dict[str, tuple[int, ...]]
    tensors: Callable[[], dict[str, Tensor]]
    provenance: Provenance
    calibration: Calibration | None = None

    @property
    def kind(self) -> str:
        """The kind of the operator."""
        return str(self.entries["kind"])

    @property
    def domain(self) -> Domain:
        """What it was trained on, as far as it was recorded.

        Raises:
            ConfigError: if that makes no sense.
        """
        before = {name: self.entries[name] for name in ("lead_times", "forms") if self.entries.get(name)}
        domain = Domain.from_dict(self.entries.get("domain") or before)
        odd = [name for form in domain.forms for name in form if name not in self.signature.fields]
        if odd:
            raise ConfigError(f"forms in config.json hold fields of the signature; got {odd[0]!r}")
        return domain

    @property
    def pace(self) -> Pace:
        """The input frames it takes, and its lead times."""
        network = self.entries["network"]
        own = network.get("member", network)  # of an ensemble, that of its members
        return Pace(int(own.get("history") or 1), self.domain.lead_times)

    def require_shapes(self, expected: Mapping[str, tuple[int, ...]]) -> None:
        """Check that the weights are those of an architecture.

        Raises:
            SignatureError: names the first that is not.
        """
        for name in sorted({*expected, *self.shapes}):
            if expected.get(name) != self.shapes.get(name):
                have, want = self.shapes.get(name, "missing"), expected.get(name, "unknown")
                raise SignatureError(f"the weight '{name}' is {have} in model.safetensors and {want} in config.json")


def write_folder(
    path: str | Path,
    entries: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    card: str,
    *,
    provenance: Provenance,
    calibration: Calibration | None = None,
    codec: str | None = None,
) -> None:
    """Write a model into the folder `path`, see `Operator.save_pretrained`; `entries` are those of `Operator.describe`.

    Raises:
        DataError: if a codec cannot write the weights, which are not finite.
        RunError: if the folder cannot be written; a file that was there before is whole.
    """
    path, entries = Path(path), dict(entries)
    normalization = entries.pop("normalization")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if codec is not None:
        tensors, entries["codec"] = find_codec(codec).encode(tensors)
    path.mkdir(parents=True, exist_ok=True)
    (path / CALIBRATION).unlink(missing_ok=True)  # of other weights
    write_atomically(path / "model.safetensors", save_tensors(dict(tensors)))  # first: it is what a full disk refuses
    write_json(path / "config.json", entries)
    write_json(path / "normalization.json", normalization)
    provenance.write(path)
    if calibration is not None:
        calibration.write(path)
    write_atomically(path / "README.md", card.encode())


def pace_of(path: Path) -> Pace:
    """Return how the model in the folder `path` goes through time.

    Raises:
        RunError: if there is no readable one.
    """
    with reading(path) as content:
        return content.pace


def grid_of(path: Path) -> Grid | None:
    """Return the grid that the model in the folder `path` was trained on; None where that was not recorded.

    Raises:
        RunError: if there is no readable one.
    """
    with reading(path) as content:
        return content.domain.grid


@contextmanager
def reading(path: Path) -> Iterator[ModelContent]:
    """Give what the folder `path` holds, for as long as this lasts.

    Raises:
        RunError: if a file is missing, damaged, or does not fit what is built from it inside.
    """
    try:
        entries, numbers = _json(path / "config.json"), _json(path / "normalization.json")
        with safe_open(path / "model.safetensors", framework="pt") as handle:
            shapes = {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
            notes, signature = entries.get("codec"), Signature.from_dict(entries["signature"])
            codec = None if notes is None else find_codec(str(notes["name"]))
            _require_numbers(signature, numbers)

            def tensors() -> dict[str, Tensor]:
                # copies: what lies in the file as it lies there goes when the file does, and may not be aligned
                stored = {name: handle.get_tensor(name).clone() for name in handle.keys()}  # noqa: SIM118
                return stored if codec is None else codec.decode(stored, notes)

            wide = shapes if codec is None else codec.shapes(shapes, notes)
            past, found = Provenance.read(path), Calibration.read(path)
            yield ModelContent(entries, signature, Normalization.from_dict(numbers), wide, tensors, past, found)
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


def _json(path: Path) -> Any:
    if path.stat().st_size > _LARGEST_JSON:
        raise ConfigError(f"{path.name} is larger than {_LARGEST_JSON} bytes")
    return json.loads(path.read_text(encoding="utf-8"))


def _require_numbers(signature: Signature, normalization: Mapping[str, Any]) -> None:
    """Check that the normalization has one number for each name."""
    roles = {"input": signature.inputs, "coefficient": signature.coefficients, "output": signature.outputs}
    for entry, names in ((f"{role}_{kind}", names) for role, names in roles.items() for kind in ("shift", "scale")):
        if len(normalization[entry]) != len(names):
            raise SignatureError(
                f"'{entry}' in normalization.json has {len(normalization[entry])} numbers for {len(names)} names"
            )


def _short(error: Exception, most: int = 600) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= most else text[:most] + " …"


def holds_operator(path: str | Path) -> bool:
    """Return whether a folder is a model itself, and not a run that holds one."""
    return all(os.path.isfile(Path(path) / name) for name in FILES[:3])


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
    def provenance(self) -> Provenance:
        """What the model says of its past."""
        return Provenance.read(self.folder)

    @property
    def path(self) -> Path:
        """The folder a user knows it by: that of the run, else of the model."""
        return self.folder if self.run is None else self.run.path


def find_model(source: Run | str | Path) -> ModelPlace:
    """Find the model that is meant: every verb and function that takes one takes all of these.

    Args:
        source: a complete run or its folder; the folder of a model; ``scifm/name``, one that comes with the package;
            or ``hf:name/model``, where wanted with ``@revision``, whose files are fetched from the Hugging Face hub.

    Raises:
        RunError: if there is none, the run is not complete, or the hub cannot be reached.
    """
    if not isinstance(source, Run):
        if on_hub := _ON_HUB.fullmatch(str(source)):
            return ModelPlace(fetch_model(on_hub[1], revision=on_hub[2]), None)
        folder = Path(source)
        if (shipped := shipped_model(source)) is not None:
            return ModelPlace(shipped, None)
        if holds_operator(folder):
            around = folder.absolute().parent
            inside = folder.absolute().name == "model" and os.path.isfile(around / "config.toml")
            return ModelPlace(folder, Run(around) if inside else None)
        if not os.path.isfile(folder / "config.toml"):
            give = (
                "Give the folder of a finished run or of a model, scifm/NAME for one that comes with SciFM ('scifm "
                "models'), or hf:NAME/MODEL for one on the Hugging Face hub."
            )
            if not os.path.isdir(folder):
                raise RunError(f"There is no folder '{folder}', so it holds no model. {give}")
            missing = next(folder / name for name in FILES[:3] if not os.path.isfile(folder / name))
            raise RunError(f"'{folder}' is not a run folder and holds no model: {missing} is missing. {give}")
        source = Run(folder)
    source.require_complete()
    return ModelPlace(source.path / "model", source)


def digest(path: str | Path) -> str:
    """Return the SHA-256 of a model: two with the same one answer alike."""
    parts = []
    for name in FILES[:3]:
        with (Path(path) / name).open("rb") as handle:
            parts.append(hashlib.file_digest(handle, "sha256").hexdigest())
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def pretrained_folder(path_or_id: str | Path, *, revision: str | None = None) -> Path:
    """Return the folder of a model: one that is here, of a model or of a finished run, or else fetched from the hub.

    Args:
        path_or_id: a folder, or ``name/model`` on the hub; a folder that is there wins.
        revision: branch, tag or commit on the hub.

    Raises:
        ConfigError: if a revision is asked of a folder.
        RunError: if there is no such model, or the hub cannot be reached.
    """
    if Path(path_or_id).is_dir():
        if revision is not None:
            raise ConfigError(f"'{path_or_id}' is a folder, and a folder has no revision '{revision}': leave it out.")
        return find_model(path_or_id).folder
    if isinstance(path_or_id, Path) or not _ID.fullmatch(path_or_id) or path_or_id.startswith("."):
        raise RunError(f"There is no folder '{path_or_id}', and it is no id of the hub, which reads name/model.")
    return fetch_model(path_or_id, revision=revision)


def fetch_model(repo_id: str, *, revision: str | None = None) -> Path:
    """Fetch the four files of a model from the Hugging Face hub; return the folder they lie in.

    Raises:
        RunError: if there is no such model, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    try:
        wanted: dict[str, Any] = {"allow_patterns": [*FILES, CALIBRATION], "library_name": "scifm"}
        return Path(snapshot_download(repo_id, revision=revision, **wanted))
    except Exception as error:
        raise _refusal(f"The model '{repo_id}' is no folder here and cannot be fetched from the hub", error) from error


def send_folder(
    folder: str | Path, repo_id: str, *, private: bool, branch: str | None, token: str | None, message: str
) -> str:
    """Upload the files of a model, see `Operator.push_to_hub`; return its address.

    Raises:
        RunError: if the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi(token=token, library_name="scifm")
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        what: dict[str, Any] = {"folder_path": str(folder), "allow_patterns": [*FILES, CALIBRATION]}
        what["commit_message"] = message
        api.upload_folder(repo_id=repo_id, revision=branch, **what)
    except Exception as error:
        raise _refusal(f"The model cannot be uploaded to '{repo_id}'", error) from error
    return str(address)


def _refusal(what: str, error: Exception) -> RunError:
    return RunError(
        f"{what} ({type(error).__name__}: {_short(error, 300)}). Check the id, the revision, the network and, for what "
        "is not public, 'hf auth login'."
    )
