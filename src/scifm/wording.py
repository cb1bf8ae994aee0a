"""Numbers, counts and durations in words, the same wherever a user reads them.

A number that was not recorded is "not recorded", one that is NaN or infinite is "not finite": never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = [
    "KIND_NAMES",
    "MISSING",
    "box_text",
    "count_in_words",
    "count_text",
    "duration",
    "duration_text",
    "factor_text",
    "hidden_text",
    "number_text",
    "plain_number",
    "plural",
    "short_count",
    "signed",
    "span",
]

MISSING = "not recorded"
KIND_NAMES = {
    "in_distribution": "in distribution",
    "zero_shot": "zero-shot",
    "few_shot": "fine-tuned",
    "from_scratch": "from scratch",
    "from_scratch_converged": "from scratch, best budget",
    "pretrain": "pre-training",
    "adapt": "adaptations",
}
"""What is done with an operator, by the name that files have for it."""

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_UNITS = (("s", 1.0, 90.0), ("min", 60.0, 5400.0), ("h", 3600.0, 172800.0), ("days", 86400.0, 31557600.0))
_ENDS = {"periodic": "periodic", "wall": "with walls", "open": "open", "bounded": "not periodic"}
_YEAR = 31557600.0


def box_text(num_points: Sequence[int], extent: Sequence[float] = (), boundary: Sequence[str] = ()) -> str:
    """Return a grid in words: ``40 × 66 points on a box of 1 × 1.3, periodic along x, open along y``; or ``one place``.

    Args:
        num_points: per axis, x last.
        extent: sides of the box; left out, the points alone are told.
        boundary: what stands at the ends of each axis, as of `fields.grid.Boundary`.
    """
    if tuple(num_points) == (1,):
        return "one place"
    parts = [" × ".join(map(str, num_points)) + " points"]
    if extent:
        parts[0] += f" on a box of {' × '.join(f'{side:g}' for side in extent)}"
    for end, words in _ENDS.items():
        axes = [axis for axis, own in zip("zyx"[-len(num_points) :], boundary, strict=False) if own == end]
        parts += [f"{words} along {' and '.join(axes)}"] if axes else []
    return ", ".join(parts)


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


def duration_text(seconds: float | None) -> str:
    """Return measured seconds as ``8 min 32 s``, with spaces that do not break."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    return duration(seconds, exact=True).replace(" ", "\N{NO-BREAK SPACE}")


def number_text(value: float | None, *, digits: int = 3) -> str:
    """Return `value` to `digits` significant digits: ``0.0210``, ``not recorded`` or ``not finite``."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e4:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa} × 10{str(int(exponent)).translate(_RAISED)}"
    rounded = float(f"{value:.{digits}g}")
    if abs(rounded) >= 10**digits:  # where Python would write a power
        return f"{rounded:.0f}"
    return f"{value:#.{digits}g}".rstrip(".")


def plain_number(value: float) -> str:
    """Return a number without trailing zeros, as beside a tick: ``0.02``, ``1``, ``2×10⁷``."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    power = "10" + str(int(exponent)).translate(_RAISED)
    digits = mantissa.rstrip("0").rstrip(".")
    return power if digits == "1" else f"{digits}×{power}"


def signed(value: float, form: str = ".3g") -> str:
    """Return a finite number with a sign as it is printed, which is no hyphen: ``−0.021``."""
    return f"{value:{form}}".replace("-", "−")


def factor_text(value: float | None) -> str:
    """Return a factor with two or three digits: ``0.83``, ``4.8``, ``57``, ``1,240``."""
    if value is None:
        return "not known"
    if not math.isfinite(value):
        return "not finite"
    if value >= 99.5:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:#.2g}"


def count_in_words(count: float | None) -> str:
    """Return a number of samples to two digits; beyond a million no number is meant, None or infinity is no end."""
    if count is None or math.isinf(count):
        return "no end in sight"
    if count > 1e6:
        return "over a million"
    digits = max(0, len(str(int(count))) - 2)
    return f"{round(int(count), -digits):,}"


def count_text(value: int | None) -> str:
    """Return a count with thousands separated by commas."""
    return MISSING if value is None else f"{value:,}"


def short_count(value: float) -> str:
    """Return a large count as ``950 k`` or ``1.2 M``, with spaces that do not break."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g}\N{NO-BREAK SPACE}{unit}"
    return f"{value:g}"


def hidden_text(ratio: float, patch: int = 1, blur: Sequence[float] | None = None) -> str:
    """Return what is hidden of fields in words: ``60 % of the points hidden, blurred by 0 to 1 points``."""
    parts = [f"{plain_number(100 * ratio)} % of the {'points' if patch == 1 else f'patches of {patch} points'} hidden"]
    parts = parts if ratio else []
    parts += [] if blur is None else [f"blurred by {span(*(plain_number(width) for width in blur))} points"]
    return ", ".join(parts) or "nothing hidden"
