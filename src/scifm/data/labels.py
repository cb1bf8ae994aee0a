"""`Labels`: what files say in words about what they hold, and where their axes begin. Kept, never computed with.

Grids here begin at zero and times at the first frame, in seconds. `Labels` remembers what the file had instead, so that
what is written again has the file's own names, points and dates.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from scifm.config import Config

__all__ = ["Dates", "Labels"]


class Dates(Config):
    """How a file tells times.

    Args:
        units: such as ``hours since 2001-01-01``.
        calendar: such as ``noleap``; empty where the file names none.
        first: time of the first frame, in these units; a whole number where float64 cannot hold it.
        seconds: in one of these units.
    """

    units: str
    calendar: str = ""
    first: float | int
    seconds: float = Field(gt=0)

    @property
    def attributes(self) -> dict[str, str]:
        """Those of an array of times."""
        return {"units": self.units} | ({"calendar": self.calendar} if self.calendar else {})

    def of(self, seconds: np.ndarray) -> np.ndarray:
        """Return times in the file's units, of seconds since the first frame."""
        since = np.asarray(seconds, dtype=np.float64) / self.seconds
        return self.first + (since if isinstance(self.first, float) else np.rint(since).astype(np.int64))


class Labels(Config):
    """What a file says of what became fields, coefficients and axes.

    Args:
        texts: attributes in words, such as ``long_name``, by name of a field, a coefficient, an axis or ``time``; those
            of the file itself under an empty name.
        called: what the file calls an axis.
        lines: first point and spacing along an axis of space, in the file's own units; the spacing is negative where
            points run downward.
        dates: how it tells times; None where these are as the file has them.
        left_out: arrays of the file that are used for nothing.
    """

    texts: dict[str, dict[str, str]] = Field(default_factory=dict)
    called: dict[str, str] = Field(default_factory=dict)
    lines: dict[str, tuple[float, float]] = Field(default_factory=dict)
    dates: Dates | None = None
    left_out: tuple[str, ...] = ()

    def points(self, axis: str, num_points: int) -> np.ndarray | None:
        """Return the file's points along an axis; None where it tells none."""
        if axis not in self.lines:
            return None
        first, spacing = self.lines[axis]
        return first + spacing * np.arange(num_points)

    def attributes(self, name: str) -> dict[str, str]:
        """Return what is said of a field, a coefficient, an axis or ``time``."""
        return dict(self.texts.get(name, {}))

    def name(self, axis: str) -> str:
        """Return what the file calls an axis, else what is said here."""
        return self.called.get(axis, axis)
