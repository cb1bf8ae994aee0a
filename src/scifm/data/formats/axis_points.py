"""What the points along an axis tell: whether they are equally spaced, and how long the axis is."""

from __future__ import annotations

import numpy as np

__all__ = ["are_even", "axis_length"]

_UNEVEN = 1e-3  # of the spacing
_LAST_DIGITS = 8  # spacings of neighbouring numbers that a coordinate may be off, after its own arithmetic
_AT_LEAST = 1e-12  # of the length


def are_even(points: np.ndarray) -> bool:
    """Return whether points are finite, at least two, apart, and equally spaced, upward or downward."""
    if points.ndim != 1 or len(points) < 2 or not np.isfinite(points).all():
        return False
    steps = np.diff(points.astype(np.float64))
    return bool(np.abs(steps - steps.mean()).max() <= _UNEVEN * abs(steps.mean()) != 0)


def axis_length(points: np.ndarray, num_points: int, precision: np.dtype, *, wraps: bool) -> float:
    """Return the length of an axis: from its first to its last point, or, if it wraps around, one spacing more.

    Args:
        points: at least two, along the axis.
        num_points: how many points the fields have there; some files tell one more.
        precision: type in which the file holds the points. The shortest number that these cannot be told from is meant.
        wraps: whether the axis wraps around, its last point not repeating the first.
    """
    spacing = abs(float(points[-1]) - float(points[0])) / (len(points) - 1)
    length = spacing * (num_points if wraps else num_points - 1)
    digits = np.finfo(precision).eps if precision.kind == "f" else 0.0
    unsure = max(_LAST_DIGITS * float(digits) * float(np.abs(points).max()), _AT_LEAST * length)
    shorter = (float(f"{length:.{digits}g}") for digits in range(1, 17))
    return next((number for number in shorter if abs(number - length) <= unsure), length)
