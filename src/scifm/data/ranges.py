"""Contiguous ranges of rows: which a choice of places makes, and which parts of several arrays one touches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

__all__ = ["overlaps", "runs"]


def runs(places: np.ndarray) -> list[slice]:
    """Return the ranges of places that follow each other, in order; of no places an empty one."""
    ends = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
    return [slice(int(places[a]), int(places[b - 1]) + 1) for a, b in pairwise(ends) if a < b] or [slice(0, 0)]


def overlaps(wanted: slice, ends: np.ndarray) -> list[tuple[int, slice]]:
    """Return which parts of a row, ending at `ends`, a range touches, and where in each; an empty one touches one."""
    first = min(int(np.searchsorted(ends, wanted.start, side="right")), len(ends) - 1)
    last = min(max(first, int(np.searchsorted(ends, wanted.stop))), len(ends) - 1)
    starts = [0, *ends.tolist()]
    return [
        (place, slice(max(wanted.start - starts[place], 0), min(wanted.stop, starts[place + 1]) - starts[place]))
        for place in range(first, last + 1)
    ]
