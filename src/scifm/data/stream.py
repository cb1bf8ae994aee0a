"""Where a training loop gets its batches: by step number, so that resuming is asking for the next number.

`Stream` makes fresh samples for every step and stores nothing. `Epochs` goes round a finite set. Both are pure
functions of their arguments and the step: no position to save, nothing to rewind.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from scifm.data.split import StoreSplit
from scifm.errors import ConfigError, DataError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.system import System

__all__ = ["BatchSource", "Epochs", "Stream", "require_batch_size"]


class BatchSource(Protocol):
    """What a training loop needs to know of its data."""

    @property
    def signature(self) -> Signature:
        """The names of every batch."""
        ...

    @property
    def grid(self) -> Grid:
        """The grid of every batch."""
        ...

    @property
    def num_samples(self) -> int | None:
        """Distinct samples; None when they never repeat."""
        ...

    def batch(self, step: int) -> Batch:
        """Return the batch of one optimizer step, counted from 0."""
        ...


def require_batch_size(batch_size: int) -> int:
    """Return `batch_size`.

    Raises:
        ConfigError: if it is not positive.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1; got {batch_size}.")
    return batch_size


class Stream:
    """Fresh samples of a system at every step; nothing is stored and no sample comes twice.

    Args:
        system: what to sample.
        grid: where.
        batch_size: samples a step.
        seed: another seed gives another stream.
        dtype: precision of solver and samples.
        device: where they are made. Another kind of device draws other samples.

    Raises:
        ConfigError: if batch_size is not positive.
    """

    num_samples = None

    def __init__(
        self,
        system: System,
        grid: Grid,
        *,
        batch_size: int,
        seed: int,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
    ) -> None:
        self.system = system
        self.grid = grid
        self.batch_size = require_batch_size(batch_size)
        self.seed = seed
        self.dtype = dtype
        self.device = device

    @property
    def signature(self) -> Signature:
        """The names of every batch."""
        return self.system.signature

    def batch(self, step: int) -> Batch:
        """Return the samples of `step`: a function of the seed and the step alone."""
        generator = generator_for(self.seed, "stream", step, device=self.device)
        return self.system.sample(self.batch_size, self.grid, generator, dtype=self.dtype, device=self.device)


class Epochs:
    """Rounds over a finite set, shuffled anew in each: every epoch shows each sample exactly once.

    The epochs are laid end to end and cut into batches, so every batch has the same size,
    ``min(batch_size, num_samples)``; a batch over the seam holds the end of one epoch and the start of the next.

    Args:
        samples: a batch in memory, or a split of a store, which is read as needed.
        batch_size: samples a step.
        seed: another seed gives another order.

    Raises:
        ConfigError: if batch_size is not positive.
        DataError: if there are no samples.
    """

    def __init__(self, samples: Batch | StoreSplit, *, batch_size: int, seed: int) -> None:
        if samples.num_samples < 1:
            raise DataError("There are no samples to go round; give at least one.")
        self.samples = samples
        self.batch_size = min(require_batch_size(batch_size), samples.num_samples)
        self.seed = seed
        self._orders: dict[int, Tensor] = {}

    @property
    def signature(self) -> Signature:
        """The names of every batch."""
        return self.samples.signature

    @property
    def grid(self) -> Grid:
        """The grid of every batch."""
        return self.samples.grid

    @property
    def num_samples(self) -> int:
        """Distinct samples."""
        return self.samples.num_samples

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = generator_for(self.seed, "epoch", epoch)
            kept = {e: order for e, order in self._orders.items() if e == epoch - 1}
            self._orders = {**kept, epoch: torch.randperm(self.num_samples, generator=generator)}
        return self._orders[epoch]

    def index(self, step: int) -> Tensor:
        """Return which samples the batch of `step` holds, ``(batch_size,)``: a function of seed and step alone."""
        if step < 0:
            raise ConfigError(f"Steps are counted from 0; got {step}.")
        first = step * self.batch_size
        epoch, start = divmod(first, self.num_samples)
        index = self._order(epoch)[start : start + self.batch_size]
        missing = self.batch_size - len(index)
        return torch.cat([index, self._order(epoch + 1)[:missing]]) if missing else index.clone()

    def batch(self, step: int) -> Batch:
        """Return the samples of `step`.

        Raises:
            StoreError: if a store cannot be read.
            DataError: if a store holds NaN.
        """
        index = self.index(step)
        return self.samples.select(index) if isinstance(self.samples, Batch) else self.samples.batch(index)
