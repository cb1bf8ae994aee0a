"""Operators by where they lie: a run, its folder, the folder of a model, the Hugging Face hub.

What lies there are dictionaries and tensors (`folder`); which operator they make, the registry says, and it is asked
here alone.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from scifm.errors import RunError
from scifm.models.folder import FILES, fetch_model, holds_operator, reading
from scifm.models.operator import Operator
from scifm.models.registry import operator_class
from scifm.runs import Run

__all__ = ["ModelPlace", "digest", "find_model", "load_operator", "save_operator"]

_ON_HUB = re.compile(r"hf:/{0,2}([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?", re.ASCII)  # a Path makes one / of two


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
            give = "Give the folder of a finished run or of a model, or hf:NAME/MODEL for one on the Hugging Face hub."
            if not folder.is_dir():
                raise RunError(f"There is no folder '{folder}', so it holds no model. {give}")
            missing = next(folder / name for name in FILES[:3] if not (folder / name).is_file())
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


def save_operator(operator: Operator, path: str | Path, **settings: Any) -> None:
    """Write an operator into the folder `path`; settings are those of `Operator.save_pretrained`."""
    operator.save_pretrained(path, **settings)


def load_operator(path: Run | str | Path, *, module: nn.Module | None = None) -> Operator:
    """Rebuild a saved operator of any kind, ours or a plug-in's.

    Args:
        path: a complete run, its folder, the folder of a model, or ``hf:name/model``; see `find_model`.
        module: for one that was wrapped from an object: a network of the same class, whose weights are replaced.

    Raises:
        RunError: if the folder is missing, truncated, of another kind, or names something that must not be run.
    """
    with reading(find_model(path).folder) as content:
        return operator_class(content.kind).rebuilt(content, module=module)
