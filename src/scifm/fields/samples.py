"""`Samples`: what is trained and scored on, wherever it lies: a `Batch` in memory, or a split of a store on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid

__all__ = ["Samples"]


@runtime_checkable
class Samples(Protocol):
    """Samples of one signature on one grid.

    A **problem** is what was drawn: a sample of a steady system, a whole trajectory of an evolving one, of which every
    window is a sample. Windows of one trajectory never part.
    """

    @property
    def signature(self) -> Signature:
        """The names of every sample."""
        ...

    @property
    def grid(self) -> Grid:
        """The grid of every sample."""
        ...

    @property
    def num_samples(self) -> int:
        """How many there are."""
        ...

    @property
    def num_problems(self) -> int:
        """How many problems they are of."""
        ...

    @property
    def lead_times(self) -> tuple[float, float] | None:
        """The shortest and the longest physical time from input to target; None for steady problems."""
        ...

    @property
    def gaps(self) -> tuple[str, ...]:
        """Names of the fields of which points may be missing."""
        ...

    def batch(self, index: slice | Sequence[int] | Tensor) -> Batch:
        """Return some samples, in the order of `index`."""
        ...

    def some(self, count: int) -> Batch:
        """Return at most `count` samples: the first of independent ones, evenly spread ones of trajectories."""
        ...

    def in_memory(self, at_most: int) -> Batch:
        """Return all samples where they are in memory already, else `some` of them."""
        ...

    def pieces(self, batch_size: int) -> Iterator[Batch]:
        """Yield all samples in order: what lies on disk `batch_size` at a time, what is in memory whole."""
        ...

    def problems(self, index: Sequence[int] | Tensor) -> Samples:
        """Return all samples of some problems, in the order of `index`; read into memory where they are small."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return in plain values which samples these are, as far as they say it themselves."""
        ...
