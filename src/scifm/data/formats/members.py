"""Files that belong together: which split each is in, and one lazy array out of the arrays of many."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from scifm.data.formats.contents import WHOLE, Concatenated, LazyArray, Stacked
from scifm.errors import DataError

__all__ = ["group_by_split", "join_arrays", "split_words"]

_WORDS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}


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
    files: Sequence[Path], arrays: Sequence[Mapping[str, LazyArray]], *, along_first: frozenset[str] = frozenset()
) -> dict[str, LazyArray]:
    """Return the arrays of several files as one array a name: each file a trajectory.

    Args:
        files: where they lie, for messages.
        arrays: those of each file, by name.
        along_first: names whose first axis already counts trajectories; these are joined along it.

    Raises:
        DataError: if a name is missing in a file, or shapes differ.
    """
    joined: dict[str, LazyArray] = {}
    for name, first in arrays[0].items():
        for file, own in zip(files, arrays, strict=True):
            if name not in own:
                raise DataError(
                    f"'{name}' is in '{files[0]}' and not in '{file}'. Files that belong together are alike."
                )
            keep = 1 if name in along_first else 0
            ours, theirs = tuple(first.shape)[keep:], tuple(own[name].shape)[keep:]
            if ours != theirs:
                raise DataError(
                    f"'{name}' has shape {tuple(first.shape)} in '{files[0]}' and {tuple(own[name].shape)} in "
                    f"'{file}'. Every file is one trajectory, all of one shape; join files of many trajectories to one "
                    "first."
                )
        parts = [own[name] for own in arrays]
        joined[name] = Concatenated(parts) if name in along_first else Stacked(parts)
    return joined
