"""The example fields of a study: ``examples.npz``, read without unpickling and checked against itself."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scifm.report.files import AGAIN, unreadable

__all__ = ["Examples", "read_examples"]

_KINDS = ("zero_shot", "few_shot", "from_scratch")


@dataclass(frozen=True)
class Examples:
    """Fields of shape (example, y, x) for looking at."""

    forcing: NDArray[np.floating]
    truth: NDArray[np.floating]
    predictions: Mapping[str, NDArray[np.floating]]
    """By kind: ``zero_shot``, ``few_shot``, ``from_scratch``; a kind that was not stored is absent."""
    labels: Mapping[str, str]
    sample_errors: Mapping[str, NDArray[np.floating]]
    """Relative L2 error of shape (example,) by kind."""
    coefficients: NDArray[np.floating] | None
    coefficient_names: tuple[str, ...]
    extent: tuple[float, float]
    """Side lengths (y, x)."""

    @property
    def num_examples(self) -> int:
        return len(self.truth)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, AttributeError) as error:
        raise unreadable(path, f"it is not a whole .npz file ({error})", remedy=AGAIN) from error


def read_examples(path: Path) -> Examples | None:
    """Return the example fields of a file, None where there is no file.

    Raises:
        RunError: if it cannot be read, or its arrays do not fit together.
    """
    if not path.is_file():
        return None
    arrays = _arrays(path)
    if lost := [name for name in ("forcing", "truth") if name not in arrays]:
        raise unreadable(path, f"it has no array '{lost[0]}'", remedy=AGAIN)
    shape = arrays["truth"].shape
    for name in ("forcing", *_KINDS):
        if name in arrays and (len(shape) != 3 or arrays[name].shape != shape):
            why = f"'{name}' has shape {arrays[name].shape} and 'truth' {shape}; both should be (example, y, x)"
            raise unreadable(path, why, remedy=AGAIN)
    given = arrays.get("extent", np.ones(2))
    if given.shape != (2,) or not np.all(given > 0):
        raise unreadable(path, f"'extent' should be two positive lengths (y, x) and is {given}", remedy=AGAIN)
    for name in ("coefficients", *(f"sample_error_{kind}" for kind in _KINDS)):
        if name in arrays and arrays[name].shape[:1] != shape[:1]:
            why = f"'{name}' has shape {arrays[name].shape}, there are {shape[0]} examples"
            raise unreadable(path, why, remedy=AGAIN)
    return Examples(
        forcing=arrays["forcing"],
        truth=arrays["truth"],
        predictions={kind: arrays[kind] for kind in _KINDS if kind in arrays},
        labels={kind: str(arrays[f"{kind}_label"]) for kind in _KINDS if f"{kind}_label" in arrays},
        sample_errors={kind: arrays[f"sample_error_{kind}"] for kind in _KINDS if f"sample_error_{kind}" in arrays},
        coefficients=arrays.get("coefficients"),
        coefficient_names=tuple(str(name) for name in arrays.get("coefficient_names", np.empty(0, str))),
        extent=(float(given[0]), float(given[1])),
    )
