"""What a few samples tell where a file does not: whether an axis wraps around, whether float32 holds what varies."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from scifm.data.formats.axes import is_closed
from scifm.data.formats.format import Contents, LazyArray, read_whole, reading
from scifm.data.formats.mapping import SPACE
from scifm.fields.grid import Boundary

__all__ = ["MOST_LOST", "Guess", "guess_periodic", "loses_in_float32", "lost_in_float32", "periodicity"]

MOST_LOST = 1e-3
"""Of the standard deviation along a line: what rounding to float32 may take away."""

_SPREAD_SAMPLES = 3  # places looked at along trajectories and along time
_LINES = 64  # looked at in each of these

_MIN_POINTS = 8
_ROUGH = 0.6  # jumps between neighbours, of the spread, above which one jump more proves nothing
_AT_REST = 0.02  # of the usual jump: nothing happens near the ends
_SAME = 1e-5  # of the spread: two points are one
_USUAL = 2.5  # times the usual jump or bend a seam may show


class Guess(NamedTuple):
    """What was guessed about one axis.

    Args:
        boundary: what stands at its ends; no more is seen of one that does not wrap around than that it is bounded.
        reason: how that was decided, a sentence.
        repeated_end: whether the last point repeats the first.
        sure: False where the samples do not tell; then it counts as bounded.
    """

    boundary: Boundary
    reason: str
    repeated_end: bool = False
    sure: bool = True

    @property
    def periodic(self) -> bool:
        """Whether the axis wraps around."""
        return self.boundary == "periodic"


def _sample_lines(array: LazyArray, axes: tuple[str, ...], axis: str) -> np.ndarray:
    """Return some lines along an axis, the axis last, from trajectories and frames far apart."""
    places: list[list[slice]] = []
    width = round(_LINES ** (1 / max(1, len(set(axes) & set(SPACE)) - 1)))  # of the block of lines, in its middle
    for name, length in zip(axes, array.shape, strict=True):
        if name == axis:
            places.append([slice(0, length)])
        elif name in SPACE:
            first = max(0, (length - width) // 2)
            places.append([slice(first, min(length, first + width))])
        else:
            chosen = sorted({round(i) for i in np.linspace(0, length - 1, _SPREAD_SAMPLES)})
            places.append([slice(i, i + 1) for i in chosen])
    blocks = []
    for index in product(*places[::-1]):
        block = np.moveaxis(np.asarray(array[index[::-1]], dtype=np.float64), axes.index(axis), -1)
        blocks.append(block.reshape(-1, block.shape[-1]))
    return np.concatenate(blocks)


# --- does it wrap around? ---------------------------------------------------------------------------------------------


def periodicity(contents: Contents, name: str, axes: tuple[str, ...], axis: str) -> Guess:
    """Return what stands at the ends of an axis: what the file tells, or a guess from samples of the array `name`.

    Raises:
        StoreError: if these cannot be read.
    """
    if axis in contents.boundary:
        told, line = contents.boundary[axis], contents.coordinates.get(axis)
        known = told == "periodic" and line in contents.units and line in contents.arrays
        if known and line is not None and is_closed(read_whole(contents.arrays[line]), contents.units[line]):
            return Guess(told, "periodic: the file says so, and tells one meridian at both ends", repeated_end=True)
        return Guess(told, f"{told}: the file says so")
    with reading(contents.path, name):
        lines = _sample_lines(contents.arrays[name], axes, axis)
    return guess_periodic(lines)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def guess_periodic(lines: np.ndarray) -> Guess:
    """Guess whether an axis wraps around from lines along it, ``(lines, points)``: jump and bend where ends would meet.

    On a periodic axis the step from the last point to the first is one like all others. Walls give themselves away by
    a jump there, or, where both ends hold the same value, by a bend.
    """
    rows = np.asarray(lines, dtype=np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return _unsure("no line without NaN or infinity was found in the samples looked at")
    if rows.shape[1] < _MIN_POINTS:
        return _unsure(f"{rows.shape[1]} points are too few to see it")
    spread, steps = _rms(rows - rows.mean()), np.diff(rows, axis=1)
    usual_step = _rms(steps)
    usual_bend = max(_rms(np.diff(steps, axis=1)), 1e-9 * usual_step)  # straight lines do not bend at all
    if usual_step <= 1e-12 * max(abs(float(rows.mean())), spread, 1e-300):
        return _unsure("the samples looked at do not vary along it")
    if usual_step > _ROUGH * spread:
        return _unsure("neighbouring points have little to do with each other, as in noise")
    if _rms(np.concatenate([steps[:, :3], steps[:, -3:], rows[:, :1] - rows[:, -1:]], 1)) < _AT_REST * usual_step:
        return _unsure("nothing happens near its ends in the samples looked at")
    if float(np.abs(rows[:, -1] - rows[:, 0]).max()) <= _SAME * spread:
        return _judge_equal_ends(rows, usual_bend)
    return _judge_seam(rows, usual_step, usual_bend)


def _judge_equal_ends(rows: np.ndarray, usual_bend: float) -> Guess:
    """Both ends hold the same value: one point told twice, or two walls at the same value."""
    bend = _rms(rows[:, -2] - 2 * rows[:, 0] + rows[:, 1]) / usual_bend
    if bend > _USUAL:
        reason = f"bounded: both ends hold the same value, and a bend {bend:.2g} times the usual one is there"
        return Guess("bounded", reason)
    reason = f"periodic: the last point repeats the first, and the bend there is usual ({bend:.2g})"
    return Guess("periodic", reason, repeated_end=True)


def _judge_seam(rows: np.ndarray, usual_step: float, usual_bend: float) -> Guess:
    jump = _rms(rows[:, 0] - rows[:, -1]) / usual_step
    bends = np.stack([rows[:, -2] - 2 * rows[:, -1] + rows[:, 0], rows[:, -1] - 2 * rows[:, 0] + rows[:, 1]])
    bend = _rms(bends) / usual_bend
    measured = f"from the last point to the first the jump is {jump:.2g} and the bend {bend:.2g} times the usual one"
    if jump <= _USUAL and bend <= _USUAL:
        return Guess("periodic", f"periodic: {measured}")
    if max(jump, bend) <= 2 * _USUAL:
        return _unsure(measured)
    return Guess("bounded", f"bounded: {measured}")


def _unsure(reason: str) -> Guess:
    return Guess("bounded", f"unsure, taken as bounded: {reason}", sure=False)


# --- does float32 hold what varies? 101325.00 ± 0.02 has seven numbers left in it -------------------------------------


def lost_in_float32(lines: np.ndarray) -> float:
    """Return how far float32 rounds numbers, as a part of how much they vary along a line; 0 where nothing varies.

    Of several lines, ``(lines, points)``, the one in the middle counts, by its standard deviation.
    """
    lines = np.asarray(lines, dtype=np.float64)
    lines = lines[np.isfinite(lines).all(axis=-1)]
    spread = lines.std(axis=-1)
    varying = spread > np.finfo(np.float64).eps * np.abs(lines).max(axis=-1, initial=0.0)
    if not varying.any():
        return 0.0
    rounding = float(np.finfo(np.float32).eps) / 2 * np.abs(lines).max(axis=-1)
    return float(np.median(rounding[varying] / spread[varying]))


def loses_in_float32(contents: Contents, name: str, axes: tuple[str, ...]) -> float:
    """Return what `lost_in_float32` tells of an array, along the axis where it varies most; 0 if it is small.

    Raises:
        StoreError: if it cannot be read.
    """
    array = contents.arrays[name]
    if np.can_cast(array.dtype, np.float32) or 0 in array.shape:
        return 0.0
    with reading(contents.path, name):
        lost = [lost_in_float32(_sample_lines(array, axes, axis)) for axis in axes if axis in SPACE]
    least = min((share for share in lost if share), default=0.0)
    return least if least > MOST_LOST else 0.0
