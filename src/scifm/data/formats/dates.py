"""Times by the climate and forecast conventions: numbers with a unit, and often a date from which they count."""

from __future__ import annotations

import numpy as np

__all__ = ["origin_of", "seconds_of"]

_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
}


def seconds_of(values: np.ndarray, units: str) -> tuple[np.ndarray, str | None]:
    """Return times in seconds since the first one, and what was done; as they are where the unit says nothing.

    Args:
        values: numbers in the file.
        units: its ``units``, such as ``hours since 2000-01-01``.
    """
    word, _, since = units.lower().partition(" since ")
    factor = _SECONDS.get(word.strip())
    if factor is None or (factor == 1.0 and not since):
        return values, None
    return (
        values - values[:1]
    ) * factor, f"Times are in seconds since the first frame; the file tells '{word.strip()}'."


def origin_of(values: np.ndarray, units: str, calendar: str) -> float:
    """Return what `seconds_of` takes away from times: seconds from 1970 to the first one, where the unit tells a date.

    Args:
        values: numbers in the file.
        units: its ``units``, such as ``hours since 2000-01-01``.
        calendar: its ``calendar``, such as ``noleap``.
    """
    word, _, since = units.lower().partition(" since ")
    factor = _SECONDS.get(word.strip())
    if factor is None or (factor == 1.0 and not since) or not len(values):
        return 0.0
    if not since:
        return float(values[0]) * factor
    start = _seconds_to(since, calendar)
    return 0.0 if start is None else start + float(values[0]) * factor


def _seconds_to(date: str, calendar: str) -> float | None:
    """Return the seconds from 1970 to a date; None where nobody can read it."""
    import xarray

    told = {"units": f"seconds since {date}", "calendar": calendar}
    try:
        epoch = xarray.decode_cf(xarray.Dataset({"t": ("t", [0.0], told)}))["t"].values[0]
    except (ValueError, OverflowError, TypeError, ImportError):  # then files cannot be told to follow each other
        return None
    if isinstance(epoch, np.datetime64):
        return float((epoch - np.datetime64(0, "s")) / np.timedelta64(1, "s"))
    if isinstance(epoch, float):  # no date after all
        return None
    first = epoch.replace(year=1970, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    return float((epoch - first).total_seconds())
