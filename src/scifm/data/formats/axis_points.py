"""What the points along an axis tell: whether they are equally spaced, the same as others, and how long the axis is.

Points may lie far from zero, such as meters of a map projection or seconds since 1970. So differences come first, and
what is tolerated is a part of these, or the rounding of the type in which the points are written.
"""

from __future__ import annotations

import numpy as np

__all__ = ["are_even", "axis_length", "same_points"]

_UNEVEN = 1e-3  # of the spacing
_LAST_DIGITS = 8  # times the usual rounding that a length may be off, after arithmetic of who wrote it
_AT_LEAST = 1e-12  # of the length


def _rounding(points: np.ndarray, precision: np.dtype) -> float:
    """Return the distance between two neighboring numbers of a type, where the points are farthest from zero."""
    if precision.kind != "f" or not points.size:
        return 0.0
    return float(np.finfo(precision).eps) * float(np.abs(points).max())


def are_even(points: np.ndarray, precision: np.dtype | None = None) -> bool:
    """Return whether points are finite, at least two, apart, and equally spaced, upward or downward.

    Args:
        points: along the axis.
        precision: type in which the file holds them, whose rounding is no unevenness; that of `points` if left out.
    """
    if points.ndim != 1 or len(points) < 2 or not np.isfinite(points).all():
        return False
    steps = np.diff(points.astype(np.float64))
    tolerated = max(_UNEVEN * abs(steps.mean()), _rounding(points, precision or points.dtype))
    apart = bool((steps > 0).all() or (steps < 0).all())
    return apart and bool(np.abs(steps - steps.mean()).max() <= tolerated)


def same_points(ours: np.ndarray, theirs: np.ndarray, precision: np.dtype) -> bool:
    """Return whether two lines of points are the same but for rounding and a thousandth of the smallest spacing.

    Args:
        ours: a line.
        theirs: another one.
        precision: type in which the coarser of the two is written.
    """
    if ours.shape != theirs.shape:
        return False
    spacing = float(np.abs(np.diff(ours)).min()) if len(ours) > 1 else 0.0
    tolerated = _LAST_DIGITS * _rounding(ours, precision) + _UNEVEN * spacing
    if not np.isfinite(tolerated):  # for the caller to refuse: here the lines are only compared
        tolerated = 0.0
    return bool(np.allclose(theirs, ours, rtol=0, atol=tolerated, equal_nan=True))


def axis_length(points: np.ndarray, num_points: int, precision: np.dtype, *, wraps: bool) -> float:
    """Return the length of an axis: from its first to its last point, or, if it wraps around, one spacing more.

    Args:
        points: at least two, along the axis.
        num_points: how many points the fields have there; some files tell one more.
        precision: type in which the file holds the points. The shortest number is meant that these cannot be told from,
            as far as they are off a straight line: points that are not rounded at all leave no doubt.
        wraps: whether the axis wraps around, its last point not repeating the first.
    """
    exact = points.astype(np.float64)
    off = float(np.abs(exact - np.linspace(exact[0], exact[-1], len(exact))).max())
    unsure = _LAST_DIGITS * min(_rounding(exact, precision), off)
    spacings = (num_points if wraps else num_points - 1) / (len(points) - 1)
    written, decimal = float(exact[-1] - exact[0]), _shortest(exact[-1], precision) - _shortest(exact[0], precision)
    meant = [_shortest_near(abs(difference) * spacings, unsure) for difference in (written, decimal)]
    return min(meant, key=lambda length: len(repr(length)))


def _shortest_near(length: float, unsure: float) -> float:
    shorter = (float(f"{length:.{digits}g}") for digits in range(1, 17))
    return next((number for number in shorter if abs(number - length) <= max(unsure, _AT_LEAST * length)), length)


def _shortest(point: float, precision: np.dtype) -> float:
    """Return the shortest number that a type rounds to this one: 0.1 for what float32 makes of 0.1."""
    return float(str(precision.type(point))) if precision.kind == "f" else point
