"""Counts and durations in words, the same wherever a user reads them."""

from __future__ import annotations

__all__ = ["duration", "plural", "span"]

_UNITS = (("s", 1.0, 90.0), ("min", 60.0, 5400.0), ("h", 3600.0, 172800.0), ("days", 86400.0, 31557600.0))
_YEAR = 31557600.0


def plural(count: int, noun: str, many: str | None = None) -> str:
    """Return a count with its noun: ``1 sample``, ``1,024 samples``; `many` is a plural that no s makes."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def span(low: str, high: str) -> str:
    """Return two ends as they are written: ``1 to 5``, and one that does not differ once."""
    return low if low == high else f"{low} to {high}"


def duration(seconds: float, *, exact: bool = False) -> str:
    """Return a finite duration to two digits, in the unit that suits: ``12 s``, ``1.5 h``, ``1.5 years``.

    Args:
        seconds: at least 0.
        exact: whether a measured one under a day is told to the second: ``8 min 32 s``, ``3 h 05 min``.
    """
    if exact and seconds < 60:
        return f"{seconds:.1f} s"
    if exact and seconds < 86400:
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
    for unit, length, most in _UNITS:
        if seconds < most:
            return f"{_two_digits(seconds / length)} {unit}"
    return f"{_two_digits(seconds / _YEAR)} years"


def _two_digits(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < 9.95 else f"{value:,.0f}"
