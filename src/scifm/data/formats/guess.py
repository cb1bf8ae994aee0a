"""Does an axis wrap around? Guessed from a few samples, where a file does not say."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Guess", "guess_periodic"]

_MIN_POINTS = 8
_ROUGH = 0.6  # jumps between neighbours, of the spread, above which one jump more proves nothing
_AT_REST = 0.02  # of the usual jump: nothing happens near the ends
_SAME = 1e-5  # of the spread: two points are one
_USUAL = 2.5  # times the usual jump or bend a seam may show


class Guess(NamedTuple):
    """What was guessed about one axis.

    Args:
        periodic: whether it wraps around.
        told: how that was decided, a sentence.
        repeated_end: whether the last point repeats the first.
        sure: False where the samples do not tell; then walls are assumed.
    """

    periodic: bool
    told: str
    repeated_end: bool = False
    sure: bool = True


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def guess_periodic(block: np.ndarray, axis: int) -> Guess:
    """Guess whether an axis wraps around, from the jump and the bend where its ends would meet.

    On a periodic axis the step from the last point to the first is one like all others. Walls give themselves away by
    a jump there, or, where both ends hold the same value, by a bend.

    Args:
        block: some samples, with the whole length of the axis.
        axis: which one.
    """
    rows = np.moveaxis(np.asarray(block, dtype=np.float64), axis, -1)
    rows = rows.reshape(-1, rows.shape[-1])
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return _unsure("no line without NaN or infinity was found in the samples looked at")
    if rows.shape[1] < _MIN_POINTS:
        return _unsure(f"{rows.shape[1]} points are too few to see it")
    spread = _rms(rows - rows.mean())
    steps = np.diff(rows, axis=1)
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
        return Guess(False, f"walls: both ends hold the same value, and a bend {bend:.2g} times the usual one is there")
    return Guess(True, f"periodic: the last point repeats the first, and the bend there is usual ({bend:.2g})", True)


def _judge_seam(rows: np.ndarray, usual_step: float, usual_bend: float) -> Guess:
    jump = _rms(rows[:, 0] - rows[:, -1]) / usual_step
    bends = np.stack([rows[:, -2] - 2 * rows[:, -1] + rows[:, 0], rows[:, -1] - 2 * rows[:, 0] + rows[:, 1]])
    bend = _rms(bends) / usual_bend
    measured = f"from the last point to the first the jump is {jump:.2g} and the bend {bend:.2g} times the usual one"
    if jump <= _USUAL and bend <= _USUAL:
        return Guess(True, f"periodic: {measured}")
    if max(jump, bend) <= 2 * _USUAL:
        return _unsure(measured)
    return Guess(False, f"walls: {measured}")


def _unsure(reason: str) -> Guess:
    return Guess(False, f"unsure, walls assumed: {reason}", sure=False)
