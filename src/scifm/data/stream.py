"""Where a training loop gets its batches: by step number, so that resuming is asking for the next number.

`Stream` makes fresh samples for every step and stores nothing. `Epochs` goes round a finite set. Both are pure
functions of their arguments and the step: no position to save, nothing to rewind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from scifm.errors import ConfigError, DataError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.systems.system import System

__all__ = ["WHOLE", "BatchSource", "Epochs", "Part", "Stream", "require_batch_size", "require_blocks"]


@dataclass(frozen=True)
class Part:
    """A contiguous part of every batch: what one process trains on, or one micro-batch of it.

    Args:
        number: which part, from 0.
        count: parts in all.
    """

    number: int
    count: int

    def of(self, num_samples: int) -> slice:
        """Return which of `num_samples` samples are in this part; parts differ in length by 1 at most."""
        base, more = divmod(num_samples, self.count)
        start = self.number * base + min(self.number, more)
        return slice(start, start + base + (self.number < more))

    def split(self, count: int) -> list[Part]:
        """Return this part cut into `count` parts."""
        return [Part(self.number * count + piece, self.count * count) for piece in range(count)]


WHOLE = Part(0, 1)


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

    @property
    def lead_times(self) -> tuple[float, float] | None:
        """The shortest and the longest physical time from input to target; None for steady problems."""
        ...

    def batch(self, step: int, part: Part = WHOLE) -> Batch:
        """Return a part of the batch of one optimizer step, counted from 0; the parts together are the batch."""
        ...


def require_batch_size(batch_size: int) -> int:
    """Return `batch_size`.

    Raises:
        ConfigError: if it is not positive.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1; got {batch_size}.")
    return batch_size


def require_blocks(blocks: int, batch_size: int) -> int:
    """Return `blocks`, the independent draws of a step.

    Raises:
        ConfigError: if there are fewer than one, or more than samples.
    """
    if not 1 <= blocks <= require_batch_size(batch_size):
        raise ConfigError(f"A stream is drawn in 1 to batch_size = {batch_size} blocks a step; got {blocks}.")
    return blocks


class Stream:
    """Fresh samples of a system at every step; nothing is stored and no sample comes twice.

    Args:
        system: what to sample.
        grid: where.
        batch_size: samples a step.
        seed: another seed gives another stream.
        dtype: precision of solver and samples.
        device: where they are made. Another kind of device draws other samples.
        blocks: independent draws a step. Of several, a process makes only those it trains on; of one, it draws the
            whole batch and drops the others' samples. Another number draws other samples.

    Raises:
        ConfigError: if batch_size is not positive, or blocks are not from 1 to batch_size.
    """

    num_samples = None
    lead_times = None  # what a system draws is steady

    def __init__(
        self,
        system: System,
        grid: Grid,
        *,
        batch_size: int,
        seed: int,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
        blocks: int = 1,
    ) -> None:
        self.blocks = require_blocks(blocks, batch_size)
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

    def batch(self, step: int, part: Part = WHOLE) -> Batch:
        """Return samples of `step`: a function of the seed and the step alone."""
        wanted = part.of(self.batch_size)
        blocks = [Part(number, self.blocks) for number in range(self.blocks)]
        touched = [b for b in blocks if (s := b.of(self.batch_size)).start < wanted.stop and wanted.start < s.stop]
        touched = touched or blocks[-1:]  # of an empty part
        samples = Batch.concatenate(self._block(step, block) for block in touched)
        first = touched[0].of(self.batch_size).start
        return samples.select(slice(wanted.start - first, wanted.stop - first))

    def _block(self, step: int, block: Part) -> Batch:
        stream = ("stream", step) if self.blocks == 1 else ("stream", step, block.number)
        where = block.of(self.batch_size)
        generator = generator_for(self.seed, *stream, device=self.device)
        return self.system.sample(where.stop - where.start, self.grid, generator, dtype=self.dtype, device=self.device)


class Epochs:
    """Rounds over a finite set, shuffled anew in each: every epoch shows each sample exactly once.

    The epochs are laid end to end and cut into batches, so every batch has the same size,
    ``min(batch_size, num_samples)``; a batch over the seam holds the end of one epoch and the start of the next.

    Args:
        samples: a batch in memory, or a split of a store, which is read as needed.
        batch_size: samples a step.
        seed: another seed gives another order.
        order: what the orders are called in the rule of seeds.

    Raises:
        ConfigError: if batch_size is not positive.
        DataError: if there are no samples.
    """

    def __init__(
        self, samples: Samples, *, batch_size: int, seed: int, order: tuple[int | str, ...] = ("epoch",)
    ) -> None:
        if samples.num_samples < 1:
            raise DataError("There are no samples to go round; give at least one.")
        self.samples = samples
        self.batch_size = min(require_batch_size(batch_size), samples.num_samples)
        self.seed = seed
        self._order_names = order
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

    @property
    def lead_times(self) -> tuple[float, float] | None:
        """Those of its samples."""
        return self.samples.lead_times

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = generator_for(self.seed, *self._order_names, epoch)
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

    def batch(self, step: int, part: Part = WHOLE) -> Batch:
        """Return samples of `step`; only those of `part` are read.

        Raises:
            StoreError: if a store cannot be read.
            DataError: if a store holds NaN.
        """
        index = self.index(step)
        index = index[part.of(len(index))]
        return self.samples.batch(index)
