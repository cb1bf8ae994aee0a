"""What axes are: which one a dimension is, what the points along it tell, and when its times are.

Points may lie far from zero, such as meters of a map projection or seconds since 1970. So differences come first, and
what is tolerated is a part of these, or the rounding of the type in which the points are written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = [
    "are_even",
    "axis_length",
    "axis_of_attributes",
    "axis_of_name",
    "is_on_globe",
    "same_points",
    "seconds_in",
    "seconds_of",
    "unit_of_times",
]

# --- names: as people write them, or by the climate and forecast conventions ------------------------------------------

_NAMES = {
    "time": ("time", "times", "t", "sim_time"),
    "x": ("x", "xx", "xs", "lon", "longitude"),
    "y": ("y", "yy", "ys", "lat", "latitude"),
    "z": ("z", "zz", "zs", "lev", "level", "depth", "height"),
    "trajectory": (
        *("trajectory", "trajectories", "sample", "samples", "ensemble", "member", "realization", "realisation"),
        *("run", "sim", "simulation", "batch", "n"),
    ),
    "channel": ("channel", "channels", "component", "components"),
}
_BY_NAME = {name: axis for axis, names in _NAMES.items() for name in names}
_STANDARD = {
    **dict.fromkeys(("longitude", "grid_longitude", "projection_x_coordinate"), "x"),
    **dict.fromkeys(("latitude", "grid_latitude", "projection_y_coordinate"), "y"),
    **dict.fromkeys(("altitude", "height", "depth", "air_pressure"), "z"),
    "time": "time",
    "realization": "trajectory",
}
_FILLING = {"coordinate", "coordinates", "coord", "coords", "grid", "mesh", "axis", "points"}
_EAST = {"degrees_east", "degree_east", "degrees_e", "degree_e"}
_NORTH = {"degrees_north", "degree_north", "degrees_n", "degree_n"}


def axis_of_name(name: str) -> str | None:
    """Return the axis of a name, whatever groups it lies in, or None; ``x-coordinate`` and ``grid_x`` are x."""
    name = name.rpartition("/")[2].lower()
    if name in _BY_NAME:
        return _BY_NAME[name]
    words = [word for word in re.split(r"[^a-z0-9]+", name) if word and word not in _FILLING]
    return _BY_NAME.get(words[0]) if len(words) == 1 and words[0] != name else None


def axis_of_attributes(attributes: Mapping[str, Any]) -> str | None:
    """Return the axis that the attributes of a coordinate tell (``axis``, ``standard_name``, ``units``), or None."""
    letter = str(attributes.get("axis", "")).lower()
    if letter in ("x", "y", "z", "t"):
        return "time" if letter == "t" else letter
    units = str(attributes.get("units", "")).lower()
    if units in _EAST | _NORTH:
        return "x" if units in _EAST else "y"
    if " since " in units:
        return "time"
    return _STANDARD.get(str(attributes.get("standard_name", "")).lower())


def is_on_globe(units: str) -> bool:
    """Return whether points along an axis are longitudes or latitudes."""
    return units.lower() in _EAST | _NORTH


# --- points -----------------------------------------------------------------------------------------------------------

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

    The rounding of `precision`, in which the file holds them, is no unevenness; that of `points` if left out.
    """
    if points.ndim != 1 or len(points) < 2 or not np.isfinite(points).all():
        return False
    steps = np.diff(points.astype(np.float64))
    tolerated = max(_UNEVEN * abs(steps.mean()), _rounding(points, precision or points.dtype))
    apart = bool((steps > 0).all() or (steps < 0).all())
    return apart and bool(np.abs(steps - steps.mean()).max() <= tolerated)


def same_points(ours: np.ndarray, theirs: np.ndarray, precision: np.dtype) -> bool:
    """Return whether two lines of points are the same but for rounding and a thousandth of the smallest spacing.

    The rounding is that of `precision`, the type in which the coarser of the two is written.
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


# --- times ------------------------------------------------------------------------------------------------------------

_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
}


def seconds_of(values: np.ndarray, units: str, calendar: str) -> tuple[np.ndarray, float, str | None]:
    """Return times in seconds since the first one, what was taken away from them for that, and a remark.

    Where `units` tells a date, as ``hours since 2000-01-01``, seconds from 1970 to the first time are taken away. Where
    it says nothing, times are as they are: nothing is taken away and there is no remark.
    """
    word, _, since = units.lower().partition(" since ")
    factor = _SECONDS.get(word.strip())
    if factor is None or (factor == 1.0 and not since):
        return values, 0.0, None
    start = _seconds_to(since, calendar) if since else 0.0
    origin = 0.0 if start is None or not len(values) else start + float(values[0]) * factor
    remark = f"Times are in seconds since the first frame; the file tells '{word.strip()}'."
    return (values - values[:1]) * factor, origin, remark


def seconds_in(units: str) -> float:
    """Return the seconds in one of the units of times that `seconds_of` converts."""
    return _SECONDS[units.lower().partition(" since ")[0].strip()]


def unit_of_times(units: str) -> str:
    """Return in what `seconds_of` gives times whose file tells these units: seconds, or what it cannot convert."""
    word = units.partition(" since ")[0].strip()
    return "s" if word.lower() in _SECONDS else word


def _seconds_to(date: str, calendar: str) -> float | None:
    """Return the seconds from 1970 to a date; None where nobody can read it."""
    import xarray

    attributes = {"units": f"seconds since {date}", "calendar": calendar}
    try:
        epoch = xarray.decode_cf(xarray.Dataset({"t": ("t", [0.0], attributes)}))["t"].values[0]
    except (ValueError, OverflowError, TypeError, ImportError):  # then files cannot be told to follow each other
        return None
    if isinstance(epoch, np.datetime64):
        return float((epoch - np.datetime64(0, "s")) / np.timedelta64(1, "s"))
    if isinstance(epoch, float):  # no date after all
        return None
    first = epoch.replace(year=1970, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    return float((epoch - first).total_seconds())
