"""Numbers that are none: where they are refused, and how the gaps they leave are filled from their neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scifm.errors import DataError
from scifm.wording import plural

__all__ = ["interpolated", "require_finite"]


def require_finite(
    values: np.ndarray,
    name: str,
    place: str,
    rows: Sequence[int] | np.ndarray | None = None,
    first_frame: int | None = None,
    *,
    gaps: bool = False,
    remedy: str = "",
) -> None:
    """Raise DataError if `values`, ``(n, …)`` of the samples `rows`, hold NaN or infinity; says where.

    Args:
        first_frame: of a field that evolves, ``(n, frames, …)``, the number of its first frame here.
        gaps: NaN marks a point that is missing, and is no fault.
        remedy: what to do, sentences; without, what to do with finished data.
    """
    fine = ~np.isinf(values) if gaps else np.isfinite(values)
    good = fine.reshape(len(values), -1).all(axis=1)
    if good.all():
        return
    first = int(np.argmin(good))
    sample = str(first if rows is None else int(rows[first]))
    if first_frame is not None:
        frames = fine[first].reshape(values.shape[1], -1).all(axis=1)
        sample += f", frame {first_frame + int(np.argmin(frames))},"
    more = int((~good).sum()) - 1
    others = f", and in {plural(more, 'other')} of those read with it" if more else ""
    what = "infinity" if gaps else "NaN or infinity"
    remedy = remedy or (
        "Only finite numbers are allowed, and what a file masks, declares invalid or never wrote is none: make the "
        "data again, or leave such samples out."
    )
    raise DataError(f"'{name}' holds {what} in sample {sample} of {place}{others}. {remedy}")


def interpolated(values: np.ndarray, periodic: Sequence[bool]) -> np.ndarray:
    """Return fields whose missing points, NaN, are filled smoothly from their neighbours in space.

    Every point that was missing is the mean of its neighbours (Laplace's equation, with the others as its boundary): on
    a line that is linear interpolation. At the end of an axis that does not wrap around the neighbours that are there
    count.

    Args:
        values: ``(..., *space)``; each field by itself.
        periodic: for each axis of space, whether it wraps around.

    Raises:
        DataError: if a field has no number at all.
    """
    space = values.shape[values.ndim - len(periodic) :]
    fields = values.reshape(-1, *space)
    missing = np.isnan(fields)
    if not missing.any():
        return values
    filled = fields.copy()
    solve, solved = None, np.zeros(space, dtype=bool)
    for place in np.flatnonzero(missing.reshape(len(fields), -1).any(axis=1)):
        holes = missing[place]
        if holes.all():
            raise DataError("a frame has no number at all, so nothing can be interpolated from")
        if solve is None or not np.array_equal(holes, solved):
            solve, solved = _Laplace(holes, periodic), holes
        filled[place][holes] = solve(fields[place])
    return filled.reshape(values.shape)


class _Laplace:
    """Solves for the missing points of a field."""

    def __init__(self, holes: np.ndarray, periodic: Sequence[bool]) -> None:
        from scipy.sparse import coo_matrix
        from scipy.sparse.linalg import splu

        self.holes = holes
        count, place = int(holes.sum()), np.full(holes.shape, -1)
        place[holes] = np.arange(count)
        rows, columns, self._beside = [], [], list[tuple[np.ndarray, np.ndarray]]()
        degree = np.zeros(count)
        for axis, wraps in enumerate(periodic):
            for step in (-1, 1):
                here = np.argwhere(holes)
                there = here.copy()
                there[:, axis] += step
                length = holes.shape[axis]
                inside = np.full(count, True) if wraps else (there[:, axis] >= 0) & (there[:, axis] < length)
                there[:, axis] %= length
                own, other = np.flatnonzero(inside), tuple(there[inside].T)
                degree[own] += 1
                both = holes[other]
                rows.append(own[both])
                columns.append(place[other][both])
                self._beside.append((own[~both], np.ravel_multi_index(other, holes.shape)[~both]))
        entries = np.concatenate(rows), np.concatenate(columns)
        matrix = coo_matrix((-np.ones(len(entries[0])), entries), shape=(count, count)).tocsc()
        matrix.setdiag(degree)
        self._factors = splu(matrix)

    def __call__(self, field: np.ndarray) -> np.ndarray:
        known, numbers = np.zeros(int(self.holes.sum())), field.ravel().astype(np.float64)
        for own, other in self._beside:
            np.add.at(known, own, numbers[other])
        found: np.ndarray = self._factors.solve(known)
        return found
