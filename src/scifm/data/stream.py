"""Where a training loop gets its batches: by step number, so that resuming is asking for the next number.

`Stream` makes fresh samples for every step and stores nothing. `Epochs` goes round a finite set. `MixtureStream` does
both for several systems and stores. All are pure functions of their arguments and the step: no position to save,
nothing to rewind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from scifm.data.split import StoreSplit, windows_of
from scifm.data.unsolved import asked_for_times, require_one_frame
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.fields.window import NEXT_FRAME, Window
from scifm.systems.evolving import Evolving
from scifm.systems.system import System

__all__ = [
    "WHOLE",
    "BatchSource",
    "Epochs",
    "MixtureStream",
    "Part",
    "Stream",
    "Taking",
    "drawn_problems",
    "drawn_samples",
    "steps_of",
    "weighed",
]


@dataclass(frozen=True)
class Part:
    """The contiguous part of every batch of that number, from 0: what one process trains on, or one micro-batch."""

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

    @property
    def gaps(self) -> tuple[str, ...]:
        """Names of the fields of which points may be missing."""
        ...

    def batch(self, step: int, part: Part = WHOLE) -> Batch:
        """Return a part of the batch of one optimizer step, counted from 0; the parts together are the batch."""
        ...


def _check(batch_size: int, blocks: int = 1) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1; got {batch_size}.")
    if not 1 <= blocks <= batch_size:
        raise ConfigError(f"A stream is drawn in 1 to batch_size = {batch_size} blocks a step; got {blocks}.")


@dataclass(frozen=True)
class Taking:
    """How samples to train on are taken of problems that are drawn for them.

    Args:
        window: of an evolving system, which frames of a trajectory make a sample.
        per_trajectory: how many samples are taken of each trajectory that is drawn.
        same_knobs: how many problems one behind the other have the same knobs, see `drawn_problems`; None: knobs are
            drawn for each.
        solved: whether samples have solutions; those of trajectories that have none begin at time 0.
    """

    window: Window = NEXT_FRAME
    per_trajectory: int = 1
    same_knobs: int | None = None
    solved: bool = True


def drawn_samples(
    system: System,
    num_samples: int,
    grid: Grid,
    generator: torch.Generator,
    taking: Taking,
    *,
    dtype: torch.dtype = torch.float32,
    device: Any = None,
) -> Batch:
    """Return fresh samples to train on: of an evolving system windows, so many of each trajectory that is drawn.

    Args:
        system, num_samples, grid, generator, dtype, device: as for `System.sample`.
        taking: how they are taken.

    Raises:
        ConfigError: if the window is longer than a trajectory; or what `System.sample` raises.
    """
    window, solved = taking.window, taking.solved
    about: dict[str, Any] = {"same_knobs": taking.same_knobs, "dtype": dtype, "device": device, "solved": solved}
    if not solved:
        require_one_frame(system, window)
        drawn = drawn_problems(system, num_samples, grid, generator, **about)
        return asked_for_times(drawn, system, window, generator)
    if not isinstance(system, Evolving):
        return drawn_problems(system, num_samples, grid, generator, **about)
    per_trajectory = min(taking.per_trajectory, window.fits(system.num_frames))
    count = -(-num_samples // per_trajectory)
    drawn = drawn_problems(system, count, grid, generator, **about)
    windows = windows_of(drawn, window)
    places = torch.rand(count, windows.windows_per_trajectory, generator=generator, device=generator.device).argsort(1)
    starts = torch.arange(count)[:, None] * windows.windows_per_trajectory
    index = (starts + places[:, :per_trajectory].cpu()).T.flatten()[:num_samples]  # one of each first
    samples = windows.batch(index).to(drawn.inputs.device)
    if drawn.group is None:
        return samples
    turn = torch.arange(len(index)) // count  # each turn is a group of its own, with one window of a trajectory
    return replace(samples, group=drawn.group[index // windows.windows_per_trajectory] + turn.to(drawn.group.device))


def drawn_problems(
    system: System,
    num_problems: int,
    grid: Grid,
    generator: torch.Generator,
    *,
    same_knobs: int | None = None,
    solved: bool = True,
    **about: Any,
) -> Batch:
    """Return problems of a system as `System.sample` draws them; or so many one behind the other with the same knobs.

    Args:
        system, num_problems, grid, generator: as for `System.sample`.
        same_knobs: how many share them, which `Batch.group` then says by a number that is drawn for them; the last
            ones may be fewer. None: knobs are drawn anew for each problem.
        solved: whether they are solved; else they are as `System.sample_inputs` leaves them.
        **about: further arguments of `System.sample`.
    """

    def draw(system: System, count: int) -> Batch:
        return (system.sample if solved else system.sample_inputs)(count, grid, generator, **about)

    if same_knobs is None:
        return draw(system, num_problems)
    sizes = [min(same_knobs, num_problems - start) for start in range(0, num_problems, same_knobs)]
    knobs = {name: knob.draw(len(sizes), generator, dtype=torch.float64) for name, knob in system.knobs.items()}
    numbers = torch.randint(2**62, (len(sizes),), generator=generator, device=generator.device)
    drawn = Batch.concatenate(
        draw(system.where(**{name: float(values[place]) for name, values in knobs.items()}), size)
        for place, size in enumerate(sizes)
    )
    counts = torch.tensor(sizes, device=numbers.device)
    return replace(drawn, group=numbers.repeat_interleave(counts).to(drawn.inputs.device))


class Stream:
    """Fresh samples of a system at every step; nothing is stored and no sample comes twice.

    Args:
        system, grid: what to sample, and where.
        batch_size: samples a step.
        seed: another seed gives another stream.
        dtype, device: precision of solver and samples, and where they are made. Another kind of device draws other
            samples.
        blocks: independent draws a step. Of several, a process makes only those it trains on; of one, it draws the
            whole batch and drops the others' samples. Another number draws other samples.
        taking: how samples are taken of problems.

    Raises:
        ConfigError: if batch_size is not positive, or blocks are not from 1 to batch_size.
    """

    num_samples = None
    gaps: tuple[str, ...] = ()

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
        taking: Taking | None = None,
    ) -> None:
        _check(batch_size, blocks)
        self.blocks, self.batch_size, self.taking = blocks, batch_size, taking or Taking()
        self.system, self.signature, self.grid = system, system.signature, grid
        self.seed, self.dtype, self.device = seed, dtype, device

    @property
    def lead_times(self) -> tuple[float, float] | None:
        """The time from frame to frame, of an evolving system."""
        return steps_of(self.system, self.taking.window)

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
        return drawn_samples(
            self.system,
            where.stop - where.start,
            self.grid,
            generator,
            self.taking,
            dtype=self.dtype,
            device=self.device,
        )


def steps_of(system: System, window: Window) -> tuple[float, float] | None:
    """Return the shortest and longest time from frame to frame of a system's windows; None of what is steady."""
    if not isinstance(system, Evolving):
        return None
    shortest = window.stride * system.save_interval
    return shortest, window.leads * shortest


class Epochs:
    """Rounds over a finite set, shuffled anew in each: every epoch shows each sample exactly once.

    The epochs are laid end to end and cut into batches, so every batch has the same size,
    ``min(batch_size, num_samples)``; a batch over the seam holds the end of one epoch and the start of the next.

    Args:
        samples: a batch in memory, or a split of a store, which is read as needed.
        batch_size: samples a step.
        seed: another seed gives another order.
        order: what the orders are called in the rule of seeds.
        repeats: let a batch be larger than the set, which then goes round within it.
        groups: ``(num_samples,)`` whole numbers, which `Batch.group` will say: samples of one group stay together, and
            groups are shuffled. None: as a batch in memory says itself, else samples are shuffled.

    Raises:
        ConfigError: if batch_size is not positive.
        DataError: if there are no samples.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        seed: int,
        order: tuple[int | str, ...] = ("epoch",),
        groups: Tensor | None = None,
        repeats: bool = False,
    ) -> None:
        _check(batch_size)
        if samples.num_samples < 1:
            raise DataError("There are no samples to go round; give at least one.")
        self.samples, self.num_samples = samples, samples.num_samples
        self.signature, self.grid, self.lead_times = samples.signature, samples.grid, samples.lead_times
        self.gaps = samples.gaps
        self.batch_size = batch_size if repeats else min(batch_size, samples.num_samples)
        self.seed, self._order_names = seed, order
        self._orders: dict[int, Tensor] = {}
        groups = samples.group if groups is None and isinstance(samples, Batch) else groups
        self.groups = None if groups is None else groups.cpu()

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = generator_for(self.seed, *self._order_names, epoch)
            before = {e: order for e, order in self._orders.items() if e == epoch - 1}
            self._orders = {**before, epoch: self._shuffled(generator)}
        return self._orders[epoch]

    def _shuffled(self, generator: torch.Generator) -> Tensor:
        if self.groups is None:
            return torch.randperm(self.num_samples, generator=generator)
        names, of = self.groups.unique(return_inverse=True)
        return torch.randperm(len(names), generator=generator)[of].argsort(stable=True)

    def index(self, step: int) -> Tensor:
        """Return which samples the batch of `step` holds, ``(batch_size,)``: a function of seed and step alone."""
        if step < 0:
            raise ConfigError(f"Steps are counted from 0; got {step}.")
        first = step * self.batch_size
        epoch, start = divmod(first, self.num_samples)
        index = self._order(epoch)[start : start + self.batch_size]
        while missing := self.batch_size - len(index):
            epoch += 1
            index = torch.cat([index, self._order(epoch)[:missing]])
        return index.clone()

    def batch(self, step: int, part: Part = WHOLE) -> Batch:
        """Return samples of `step`; only those of `part` are read.

        Raises:
            StoreError: if a store cannot be read.
            DataError: if a store holds NaN.
        """
        index = self.index(step)[part.of(self.batch_size)]
        batch = self.samples.batch(index)
        return batch if self.groups is None else replace(batch, group=self.groups[index].to(batch.inputs.device))


def weighed(batch: Batch, signature: Signature, loss_weight: float) -> Batch:
    """Return the samples of a member as those of its mixture."""
    weights: Tensor = batch.inputs.new_full((batch.num_samples,), loss_weight)
    return replace(batch.aligned(signature), loss_weights=weights)


class MixtureStream:
    """Several systems and stores in one stream, over the union of their names; what one of them lacks is zero.

    Of a system fresh samples are drawn at every step, those of a store come round after round. How many of a step come
    from which member is drawn by systematic sampling: exact in the mean, and never more than one sample away from it in
    any batch.

    Args:
        sources: the members, systems to sample and splits of stores.
        grid: where.
        weights: share of each in the samples, relative to the others'.
        loss_weights: how much each of a member's samples counts in the loss.
        batch_size: samples a step, of all members together.
        seed: another seed gives another stream.
        blocks: independent draws of every system a step, as for `Stream`: a process makes only those it trains on.
        taking: how samples are taken of problems, of every member by itself; where they have no solutions, those of
            stores are left out.

    Raises:
        ConfigError: if there is no member, a weight is not positive, batch_size is not positive, blocks are not from 1
            to batch_size, or a store holds fewer samples than its share of a step.
        SignatureError: if the members cannot be joined, or a store lives on another grid.
    """

    num_samples = None

    def __init__(
        self,
        sources: Sequence[System | StoreSplit],
        grid: Grid,
        *,
        weights: Sequence[float],
        loss_weights: Sequence[float],
        batch_size: int,
        seed: int,
        blocks: int = 1,
        taking: Taking | None = None,
    ) -> None:
        if not sources:
            raise ConfigError("A mixture needs at least one member, a system or a store.")
        if not all(0 < weight < math.inf for weight in (*weights, *loss_weights)):
            raise ConfigError(
                f"The weights of a mixture must be positive; got weights {list(weights)}, loss weights "
                f"{list(loss_weights)}."
            )
        _check(batch_size, blocks)
        self.blocks, self.taking = blocks, taking or Taking()
        self.sources, self.loss_weights = tuple(sources), tuple(loss_weights)
        self.signature = reduce(Signature.union, (source.signature for source in sources))
        self.grid, self.batch_size, self.seed = grid, batch_size, seed
        parts = torch.tensor(weights, dtype=torch.float64)
        self._shares = parts / parts.sum()
        self._epochs = [self._rounds(place) for place in range(len(sources))]

    def _rounds(self, place: int) -> Epochs | None:
        """Return the rounds over a store, by the most samples that a step may hold of it; None for a system."""
        source, most = self.sources[place], math.ceil(float(self._shares[place]) * self.batch_size)
        if isinstance(source, System):
            return None
        if source.grid != self.grid:
            raise SignatureError(
                f"All members of a mixture live on one grid, here {self.grid.told}; those of '{source.system}' live on "
                f"{source.grid.told}."
            )
        if source.num_samples < most:
            raise ConfigError(
                f"The store of '{source.system}' holds {source.num_samples} training samples, fewer than the {most} "
                "that are its share of one step. Lower its weight or the batch size, or give a larger store."
            )
        return Epochs(source, batch_size=most, seed=self.seed, order=("mixture epoch", place))

    @property
    def lead_times(self) -> tuple[float, float] | None:
        """The shortest and the longest of all members'."""
        each = (
            steps_of(source, self.taking.window) if isinstance(source, System) else source.lead_times
            for source in self.sources
        )
        ends = [end for range_ in each for end in range_ or ()]
        return (min(ends), max(ends)) if ends else None

    @property
    def gaps(self) -> tuple[str, ...]:
        """Those of all members' that are stores."""
        each = (source.gaps for source in self.sources if not isinstance(source, System))
        return tuple(dict.fromkeys(name for names in each for name in names))

    def counts(self, step: int) -> list[int]:
        """Return how many samples of each member the batch of `step` holds."""
        offset = torch.rand((), generator=generator_for(self.seed, "mixture", step), dtype=torch.float64)
        ends = (self._shares.cumsum(0) * self.batch_size + offset).floor().long()
        ends[-1] = self.batch_size  # whatever rounding made of the sum of the shares
        return torch.diff(ends, prepend=ends.new_zeros(1)).tolist()

    def batch(self, step: int, part: Part = WHOLE) -> Batch:
        """Return samples of `step`: a function of the seed and the step alone.

        The samples of a step, member by member, are dealt out in turn to blocks and to parts, so that each holds its
        share of every member. Only the blocks that share a sample with the part are drawn, and of a store only the
        samples of the part are read.
        """
        counts, shared = self.counts(step), math.gcd(self.blocks, part.count)
        ends = torch.tensor([0, *counts]).cumsum(0).tolist()
        pieces = []
        for block in range(part.number % shared, self.blocks, shared):
            places = torch.arange(block, self.batch_size, self.blocks)
            for place, (start, end) in enumerate(pairwise(ends)):
                own = places[(start <= places) & (places < end)]
                if len(own):
                    mine = own % part.count == part.number
                    samples = self._samples(step, place, own - start, mine, () if self.blocks == 1 else (block,))
                    pieces.append(weighed(samples, self.signature, self.loss_weights[place]))
        return Batch.concatenate(pieces)

    def _samples(self, step: int, place: int, index: Tensor, mine: Tensor, block: tuple[int, ...]) -> Batch:
        """Return those samples of a member in a step and block that are `mine`."""
        source, epochs = self.sources[place], self._epochs[place]
        # Of a store a step takes the first of the most it may hold, so it needs not know how many the steps before it
        # held, and no sample comes twice in a round; one that is passed over comes in another round, in another order.
        if epochs is not None:
            # the remainder is for rounding alone, which may once in a long while count one sample more than the share
            read = epochs.samples.batch(epochs.index(step)[index[mine] % epochs.batch_size])
            return read if self.taking.solved else read.with_targets(None)
        assert isinstance(source, System), "stores have rounds"
        generator = generator_for(self.seed, "mixture", step, place, *block)
        drawn = drawn_samples(source, len(index), self.grid, generator, self.taking)
        return drawn if bool(mine.all()) else drawn.select(mine.nonzero().flatten())
