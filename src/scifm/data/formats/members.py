"""Files that belong together: which split each is in, and one lazy array out of the arrays of many."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scifm.data.formats.axis_points import same_points
from scifm.data.formats.contents import WHOLE, Concatenated, LazyArray, Stacked, read_whole
from scifm.errors import DataError

__all__ = ["NumberArray", "group_by_split", "join_arrays", "joined_attributes", "same_lines", "split_words"]

_WORDS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}


class NumberArray:
    """One number as an array without axes, of a file that tells it as an attribute.

    Args:
        value: the number.
    """

    shape: tuple[int, ...] = ()
    dtype = np.dtype(np.float64)

    def __init__(self, value: float) -> None:
        self.value = value

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self.value)[index]


def joined_attributes(
    told: Mapping[Path, Mapping[str, float]],
) -> tuple[dict[str, float], dict[str, dict[Path, float]]]:
    """Return the numbers that all files tell alike, and by file those that all tell and that differ."""
    files = list(told)
    names = [name for name in told[files[0]] if all(name in told[file] for file in files)]
    same = {name: told[files[0]][name] for name in names if len({told[file][name] for file in files}) == 1}
    return same, {name: {file: told[file][name] for file in files} for name in names if name not in same}


def split_words(text: str) -> tuple[set[str], str]:
    """Return which splits a name tells, and the name without these words: ``train_u`` tells train, and is ``u``."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", text) if word]
    found = {_WORDS[word.lower()] for word in words if word.lower() in _WORDS}
    if not found:
        return found, text
    return found, "_".join(word for word in words if word.lower() not in _WORDS)


def group_by_split(path: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the files of each split; all under `WHOLE` where names of files and folders tell no split.

    Args:
        path: folder they were found in, or the only file.
        files: what was found, in order.

    Raises:
        DataError: if some are in a split and some are not, in two, or none is in train.
    """
    told = {}
    for file in files:
        place = file.relative_to(path) if file != path else Path(file.name)
        told[file] = set().union(*(split_words(part.partition(".")[0])[0] for part in place.parts))
    if len(files) == 1 or not any(told.values()):
        return {WHOLE: list(files)}
    odd = [file for file, splits in told.items() if len(splits) != 1]
    if odd:
        raise DataError(
            f"'{odd[0]}' belongs to no split or to several, while other files of '{path}' tell theirs by a folder or a "
            "word in the name (train, valid or val, test). Name all so, or none; move away what does not belong."
        )
    groups = {split: [file for file in files if split in told[file]] for split in ("train", "valid", "test")}
    if not groups["train"]:
        raise DataError(f"No file of '{path}' is for training: none has 'train' in its name or its folder.")
    return {split: found for split, found in groups.items() if found}


def join_arrays(
    files: Sequence[Path],
    arrays: Sequence[Mapping[str, LazyArray]],
    *,
    along_first: Collection[str] = (),
    shared: Collection[str] = (),
) -> dict[str, LazyArray]:
    """Return the arrays of several files as one array a name: each file a trajectory.

    Args:
        files: where they lie, for messages.
        arrays: those of each file, by name.
        along_first: names whose first axis already counts trajectories; these are joined along it.
        shared: names of coordinates, which must be the same in all files; they are told once.

    Raises:
        DataError: if a name is missing in a file, or shapes or coordinates differ.
    """
    joined: dict[str, LazyArray] = {}
    for name, first in arrays[0].items():
        for file, own in zip(files, arrays, strict=True):
            if name not in own:
                raise DataError(f"'{name}' is in '{files[0]}' and not in '{file}'. They must be alike.")
            keep = 1 if name in along_first else 0
            ours, theirs = tuple(first.shape)[keep:], tuple(own[name].shape)[keep:]
            if ours != theirs:
                raise DataError(
                    f"'{name}' has shape {tuple(first.shape)} in '{files[0]}', {tuple(own[name].shape)} in "
                    f"'{file}'. Each is one trajectory, so shapes agree: cut or resample them. Pieces of one "
                    "trajectory are joined where each tells its times and these follow each other, files of many "
                    "trajectories where their axes have names."
                )
        parts = [own[name] for own in arrays]
        if name in shared:
            _require_same(name, files, parts)
            joined[name] = first
            continue
        joined[name] = Concatenated(parts) if name in along_first else Stacked(parts)
    return joined


def same_lines(ours: LazyArray, theirs: LazyArray) -> bool:
    """Return whether two arrays of coordinates or times hold the same points."""
    coarser = max((ours.dtype, theirs.dtype), key=lambda own: np.finfo(own).eps if own.kind == "f" else 0.0)
    return same_points(read_whole(ours), read_whole(theirs), coarser)


def _require_same(name: str, files: Sequence[Path], parts: Sequence[LazyArray]) -> None:
    for file, part in zip(files, parts, strict=True):
        if not same_lines(parts[0], part):
            raise DataError(
                f"The coordinate '{name}' differs between '{files[0]}' and '{file}'. All trajectories need the same "
                "grid and the same times: resample them to common ones."
            )
