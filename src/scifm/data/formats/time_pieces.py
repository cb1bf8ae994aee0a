"""Pieces that follow each other in time, such as the years of a record: told as one trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from scifm.data.formats.axis_names import axis_of_name
from scifm.data.formats.contents import Concatenated, LazyArray
from scifm.data.formats.members import join_arrays
from scifm.data.formats.pieces import Piece, first_to_last
from scifm.data.formats.views import Clipped, Repeated
from scifm.errors import DataError

__all__ = ["joined_in_time"]

_GAP = 1.5  # times the longest interval in a piece, up to which the next one follows it
_SAME = 1e-6  # of an interval
_NEW = -1  # in place of an axis: there is none yet


def joined_in_time(pieces: Sequence[Piece]) -> list[Piece]:
    """Return one piece for each trajectory: those whose times follow each other are joined.

    A piece follows another where it begins at most one and a half intervals after its end. Where every piece is one
    frame, frames follow each other as long as their times increase.

    Raises:
        DataError: if trajectories made of pieces differ in length, or an array does not fit.
    """
    timed = [_with_own_time(piece) for piece in pieces]
    if len(timed) == 1 or any(piece.times is None for piece in timed):
        return list(pieces)
    chains = _chains(timed)
    ordered = _chains(sorted(timed, key=_start))
    if len(ordered) == 1:  # such as months called by their names
        chains = ordered
    longest = max(map(len, chains))
    if longest == 1:
        return list(pieces)
    single = all(_times(piece).size == 1 for piece in timed)
    if single and {len(chain) for chain in chains} != {longest}:
        return list(pieces)  # numbers that go up and down are no times of one trajectory
    joined = [_joined(chain) for chain in chains]
    counts = {_times(piece).size: piece for piece in joined}
    if len(counts) > 1:
        (few, short), (most, long) = min(counts.items()), max(counts.items())
        raise DataError(
            f"Pieces in time make a trajectory of {few} frames that begins with '{short.place}' and one of {most} that "
            f"begins with '{long.place}'. Trajectories need the same times: import each from a folder of its own, or "
            "add what is missing between them."
        )
    return joined


def _times(piece: Piece) -> np.ndarray:
    times = piece.times
    assert times is not None, "only pieces with times are asked"
    return times


def _start(piece: Piece) -> float:
    times = _times(piece)
    return float(times[0]) if times.size else np.inf


def _with_own_time(piece: Piece) -> Piece:
    """Return a piece with its times in memory, also where the only one is told as a number."""
    times = piece.times
    if times is not None:  # read once, and here
        return replace(piece, arrays={**piece.arrays, piece.coordinates["time"]: times - piece.origin})
    name = next((name for name in piece.numbers if axis_of_name(name.rpartition("/")[2]) == "time"), None)
    if name is None:
        return piece
    return replace(
        piece,
        arrays={**piece.arrays, name: np.array([piece.numbers[name]])},
        coordinates={**piece.coordinates, "time": name},
        numbers={other: value for other, value in piece.numbers.items() if other != name},
    )


def _chains(pieces: Sequence[Piece]) -> list[list[Piece]]:
    chains: list[list[Piece]] = []
    for piece in pieces:
        if chains and _follows(_times(chains[-1][-1]), _times(piece)):
            chains[-1].append(piece)
        else:
            chains.append([piece])
    return chains


def _follows(before: np.ndarray, after: np.ndarray) -> bool:
    if not before.size or not after.size:
        return False
    gap, steps = after[0] - before[-1], np.abs(np.concatenate([np.diff(before), np.diff(after)]))
    if not steps.size:
        return bool(gap > 0)
    return bool(-_SAME * steps.max() <= gap <= _GAP * steps.max())


def _joined(chain: Sequence[Piece]) -> Piece:
    """Return the pieces of one trajectory as one."""
    if len(chain) == 1:
        return chain[0]
    first, name = chain[0], chain[0].coordinates["time"]
    again = [False, *(_times(before)[-1] >= _times(after)[0] - _tiny(before) for before, after in pairwise(chain))]
    times = np.concatenate([_times(piece)[int(twice) :] for piece, twice in zip(chain, again, strict=True)])
    along = {other: _time_axis(other, chain) for other in first.arrays if other != name}
    constant = [other for other, axis in along.items() if axis is None]
    found = [{n: a for n, a in piece.arrays.items() if n in constant} for piece in chain]
    arrays = join_arrays([piece.place for piece in chain], found, shared=constant)
    axes = {other: own for other, own in first.axes.items() if other != name}
    for other, axis in along.items():
        if axis is None:
            continue
        parts = [_frames(piece, other, axis, twice) for piece, twice in zip(chain, again, strict=True)]
        _require_alike(other, chain, parts, max(axis, 0))
        arrays[other] = Concatenated(parts, max(axis, 0))
        if axis == _NEW and other in axes:
            axes[other] = ("time", *axes[other])
    differing = sorted(n for n in first.numbers if any(piece.numbers.get(n) != first.numbers[n] for piece in chain))
    told = [f"{len(chain)} pieces that follow each other in time, {first_to_last(chain)}, are one trajectory."]
    if any(again):
        told.append("Frames told twice, at the end of a piece and at the beginning of the next, are read once.")
    if differing:
        told.append(f"Left out, because they differ between the pieces of a trajectory: {', '.join(differing)}.")
    return replace(
        first,
        arrays={**arrays, name: times - first.origin},
        axes=axes,
        numbers={n: value for n, value in first.numbers.items() if n not in differing},
        remarks=(*first.remarks, *told),
    )


def _tiny(piece: Piece) -> float:
    steps = np.abs(np.diff(_times(piece)))
    return _SAME * float(steps.max()) if steps.size else 0.0


def _time_axis(name: str, chain: Sequence[Piece]) -> int | None:
    """Return which axis of an array is time: as told, else that of as many entries as there are times.

    `_NEW` where every piece is one frame of it, None where it does not change in time.
    """
    first = chain[0]
    if name in first.coordinates.values() or not all(name in piece.arrays for piece in chain):
        return None
    new = (
        None if any("time" in axes for axes in first.axes.values()) or any(_times(p).size > 1 for p in chain) else _NEW
    )
    if name in first.axes:
        return first.axes[name].index("time") if "time" in first.axes[name] else new
    counts, shapes = [_times(piece).size for piece in chain], [tuple(piece.arrays[name].shape) for piece in chain]
    fitting = [axis for axis in range(min(map(len, shapes))) if [shape[axis] for shape in shapes] == counts]
    if len(fitting) > 1:
        raise DataError(
            f"'{first.place}' and others follow each other in time, and which axis of '{name}', of shape {shapes[0]}, "
            "is time cannot be told: several have as many entries as there are times. Join the files first."
        )
    return fitting[0] if fitting else new


def _frames(piece: Piece, name: str, axis: int, twice: bool) -> LazyArray:
    """Return the frames of a piece, without the first where it was told before."""
    if axis == _NEW:
        return Repeated(piece.arrays[name], 0, 1)
    array = piece.arrays[name]
    return Clipped(array, axis, 1, int(array.shape[axis]) - 1) if twice else array


def _require_alike(name: str, chain: Sequence[Piece], parts: Sequence[LazyArray], axis: int) -> None:
    shapes = [(*part.shape[:axis], *part.shape[axis + 1 :]) for part in parts]
    odd = next((place for place, shape in enumerate(shapes) if shape != shapes[0]), None)
    if odd is not None:
        raise DataError(
            f"'{name}' has shape {tuple(parts[0].shape)} in '{chain[0].place}' and {tuple(parts[odd].shape)} in "
            f"'{chain[odd].place}', which follow each other in time. Pieces of one trajectory differ in the number of "
            "frames only."
        )
