"""What axes are: which one a dimension is, what the points along it tell, and when its times are.

Points may lie far from zero, such as meters of a map projection or seconds since 1970. So differences come first, and
what is tolerated is a part of these, or the rounding of the type in which the points are written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scifm.data.labels import Dates
from scifm.errors import DataError

__all__ = [
    "CIRCLE",
    "Times",
    "are_even",
    "axis_length",
    "axis_of_attributes",
    "has_date",
    "is_closed",
    "is_on_globe",
    "same_points",
]

# --- names: as people write them, or by the climate and forecast conventions ------------------------------------------

_STANDARD = {
    **dict.fromkeys(("longitude", "grid_longitude", "projection_x_coordinate"), "x"),
    **dict.fromkeys(("latitude", "grid_latitude", "projection_y_coordinate"), "y"),
    **dict.fromkeys(("altitude", "height", "depth", "air_pressure"), "z"),
    "time": "time",
    "realization": "trajectory",
}

CIRCLE = 360.0
"""Degrees of longitude all the way around."""

_EAST = {"degrees_east", "degree_east", "degrees_e", "degree_e"}
_NORTH = {"degrees_north", "degree_north", "degrees_n", "degree_n"}


def axis_of_attributes(attributes: Mapping[str, Any]) -> str | None:
    """Return the axis that the attributes of a coordinate tell (``axis``, ``standard_name``, ``units``), or None."""
    letter = str(attributes.get("axis", "")).lower()
    if letter in ("x", "y", "z", "t"):
        return "time" if letter == "t" else letter
    units = str(attributes.get("units", "")).lower()
    if units in _EAST | _NORTH:
        return "x" if units in _EAST else "y"
    if has_date(units):
        return "time"
    return _STANDARD.get(str(attributes.get("standard_name", "")).lower())


def is_on_globe(units: str) -> bool:
    """Return whether points along an axis are longitudes or latitudes."""
    return units.lower() in _EAST | _NORTH


def is_closed(points: np.ndarray, units: str) -> bool:
    """Return whether longitudes go all the way around, so that the first and the last meridian are one."""
    degrees = units.lower().startswith("degree") and len(points) > 1
    return degrees and bool(np.isclose(abs(points[-1] - points[0]), CIRCLE))


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

_DAY = 86400.0
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), _DAY),
    **dict.fromkeys(("week", "weeks"), 7 * _DAY),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
}
_MONTHS = {**dict.fromkeys(("month", "months"), 1), **dict.fromkeys(("year", "years"), 12)}
_DAYS_OF_MONTHS = {  # where all months, or all years, are of one length
    "360_day": {1: 30, 12: 360},
    "noleap": {12: 365},
    "365_day": {12: 365},
    "all_leap": {12: 366},
    "366_day": {12: 366},
}
_CALENDARS = {"360": "360_day", "365": "365_day", "366": "366_day"}  # as some archives call them
_SINCE = re.compile(r"\s+(?:since|after|from|ref)\s+|\s*@\s*", re.IGNORECASE)  # what UDUNITS takes for "since"
_AS_DATES = ("day as %y%m%d.%f", "day as %y%m%d", "yyyymmdd")  # 20000131.5 is noon of that day
_ROUND = (_DAY, 3600.0, 60.0, 1.0)  # in which an interval may be a short number


def has_date(units: str) -> bool:
    """Return whether units tell times that are counted from a date, or are dates."""
    return len(_SINCE.split(units, maxsplit=1)) == 2 or " ".join(units.lower().split()) in _AS_DATES


@dataclass(frozen=True)
class Times:
    """Times of frames as they are used here, and how the file tells them.

    Args:
        values: seconds since the first frame, or, where nothing tells how long a unit is, times as they are.
        unit: of `values`.
        origin: what has to be added to `values` to compare them with those of other files.
        dates: how the file tells them; None where `values` are as they are.
        remarks: what a user should know.
    """

    values: np.ndarray
    unit: str
    origin: float = 0.0
    dates: Dates | None = None
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: np.ndarray, units: str, calendar: str, precision: np.dtype) -> Times:
        """Return the times that a file tells.

        Args:
            values: as they are written.
            units: of these, such as ``hours since 2000-01-01``.
            calendar: as the file calls it; empty where it names none.
            precision: type in which the file holds them.

        Raises:
            DataError: if they are written as dates and one is none.
        """
        units, known = " ".join(units.split()), _CALENDARS.get(calendar, calendar) or "standard"
        remarks: list[str] = []
        if units.lower() in _AS_DATES:
            values, units = _days_of_dates(values, known), "days since 1970-01-01"
            remarks.append("Times are told as dates, year, month and day in one number.")
        word, *rest = _SINCE.split(units, maxsplit=1)
        date = rest[0] if rest else ""
        epoch = _epoch(date, known) if date else None
        if date and epoch is None:
            remarks.append(f"'{date}' is no date that can be read, so files cannot be told to follow each other by it.")
        months = _MONTHS.get(word.lower(), 0)
        days = _DAYS_OF_MONTHS.get(known, {}).get(months)
        factor = _SECONDS.get(word.lower()) if days is None else days * _DAY
        if factor is None or (factor == 1.0 and not date):
            origin = 0.0 if epoch is None or not months else _months_to(epoch) / months
            return cls(values.astype(np.float64), "s" if factor == 1.0 else word, origin, None, tuple(remarks))
        unknown = (date and epoch is None) or not len(values)
        start = 0.0 if epoch is None else _seconds_to(epoch)
        origin = 0.0 if unknown else start + float(values[0]) * factor
        rounding = _rounding(values, precision if values.dtype.kind == "f" else values.dtype)
        since = values - values[:1]  # before anything is rounded
        seconds = _as_meant(since * factor if factor >= 1 else since / round(1 / factor), rounding * factor)
        remarks.insert(0, f"Times are in seconds since the first frame; the file tells '{word.lower()}'.")
        first = (values[0].item() if len(values) else 0.0) if values.dtype.kind == "i" else float(next(iter(values), 0))
        told = Dates(
            units=f"{word} since {date}" if date else units,
            calendar=calendar,
            first=first if float(first) != first else float(first),
            seconds=factor,
        )
        return cls(seconds, "s", origin, told, tuple(remarks))


def _as_meant(seconds: np.ndarray, unsure: float) -> np.ndarray:
    """Return times as they were before a type rounded them, by up to `unsure`, where they then are equally spaced.

    float32 holds days since 1900 no better than to five minutes. Of the intervals that it cannot tell from theirs the
    shortest number of days, hours, minutes or seconds is meant. Points that are not rounded at all leave no doubt.
    """
    count = len(seconds)
    if count < 3 or not unsure or not np.isfinite(seconds).all():
        return seconds
    steps, interval = np.diff(seconds), float(seconds[-1]) / (count - 1)
    off = float(np.abs(seconds - interval * np.arange(count)).max())
    if not off or (steps <= 0).any() or np.abs(steps - interval).max() > unsure:
        return seconds
    doubt = min(unsure, off) / (count - 1)
    short = [(_shortest_near(interval / unit, doubt / unit), unit) for unit in _ROUND]
    number, unit = min(short, key=lambda pair: len(f"{pair[0]:.15e}".partition("e")[0].rstrip("0")))
    return number * unit * np.arange(count)


def _days_of_dates(values: np.ndarray, calendar: str) -> np.ndarray:
    """Return the days from 1970 to dates that are written as numbers, such as 20000131.25."""
    whole = np.floor(np.asarray(values, dtype=np.float64) + 1e-6)
    texts = [f"{int(day) // 10000:04d}-{int(day) // 100 % 100:02d}-{int(day) % 100:02d}" for day in whole]
    epochs = {text: _epoch(text, calendar) for text in dict.fromkeys(texts)}
    wrong = next((text for text, epoch in epochs.items() if epoch is None), None)
    if wrong is not None:
        raise DataError(
            f"The times are told as dates, such as {whole[0]:.0f}, and '{wrong}' is none of the calendar '{calendar}'. "
            "Write them as 'days since' a date ('cdo -r copy IN OUT' does so)."
        )
    return np.array([_seconds_to(epochs[text]) / _DAY for text in texts]) + (np.asarray(values) - whole).clip(0)


def _epoch(date: str, calendar: str) -> Any:
    """Return a date as NumPy's or cftime's; None where nobody can read it."""
    import xarray

    attributes = {"units": f"seconds since {date}", "calendar": calendar}
    try:
        epoch = xarray.decode_cf(xarray.Dataset({"t": ("t", [0.0], attributes)}))["t"].values[0]
    except (ValueError, OverflowError, TypeError, ImportError):  # then files cannot be told to follow each other
        return None
    return None if isinstance(epoch, float) else epoch


def _seconds_to(epoch: Any) -> float:
    """Return the seconds from 1970 to a date."""
    if isinstance(epoch, np.datetime64):
        return float((epoch - np.datetime64(0, "s")) / np.timedelta64(1, "s"))
    first = epoch.replace(year=1970, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    return float((epoch - first).total_seconds())


def _months_to(epoch: Any) -> float:
    """Return the months from 1970 to a date, a day as the thirty-first part of one."""
    if isinstance(epoch, np.datetime64):
        epoch = epoch.astype("M8[us]").item()
    return float(12 * (epoch.year - 1970) + epoch.month - 1 + (epoch.day - 1) / 31)
