"""Several systems and stores in one stream: batches over the union of their names, what one of them lacks being zero.

How many samples of a step come from which member is drawn by systematic sampling: exact in the mean, and never more
than one sample away from it in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Protocol

import torch
from torch import Tensor

from scifm.data.split import StoreSplit
from scifm.data.stream import WHOLE, Epochs, Part, require_batch_size, require_blocks
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.seeds import generator_for
from scifm.systems.system import System

__all__ = ["MixtureMember", "MixtureStream", "joined_homogeneities", "joined_signature", "weighed"]


@dataclass(frozen=True)
class MixtureMember:
    """A member of a mixture.

    Args:
        source: a system to sample, or a split of a store to go round.
        weight: its share of the samples, relative to the others'.
        loss_weight: how much each of its samples counts in the loss.

    Raises:
        ConfigError: if a weight is not positive.
    """

    source: System | StoreSplit
    weight: float = 1.0
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.weight < float("inf") and 0 < self.loss_weight < float("inf")):
            name = self.source.name if isinstance(self.source, System) else self.source.system
            raise ConfigError(
                f"The weights of '{name}' in a mixture must be positive; got weight = {self.weight}, "
                f"loss_weight = {self.loss_weight}."
            )


def joined_signature(signatures: Sequence[Signature]) -> Signature:
    """Return the union of the members' names.

    Raises:
        SignatureError: if they differ in dimension or in being steady.
    """
    return reduce(Signature.union, signatures)


def joined_homogeneities(members: Sequence[tuple[Homogeneity, ...]]) -> tuple[Homogeneity, ...]:
    """Return the scalings that hold for every member of a mixture.

    The first of each member are told as one, then the second, and so on, as far as every member declares some: what
    one of them does not declare would change its solutions.

    Raises:
        SignatureError: if two members scale one quantity differently.
    """
    return tuple(Homogeneity.joined(scalings) for scalings in zip(*members, strict=False))


def weighed(batch: Batch, signature: Signature, loss_weight: float) -> Batch:
    """Return the samples of a member as those of its mixture."""
    weights: Tensor = batch.inputs.new_full((batch.num_samples,), loss_weight)
    return replace(batch.aligned(signature), loss_weights=weights)


class _Share(Protocol):
    """Where the samples of one member come from."""

    def batch(self, step: int, index: Tensor, mine: Tensor, block: tuple[int, ...]) -> Batch:
        """Return those samples of a step and block that are `mine`; `index` counts the member's own of that step."""
        ...


@dataclass(frozen=True)
class _DrawnShare:
    """A block draws all its samples of a system and drops those of other processes."""

    system: System
    grid: Grid
    seed: int
    place: int

    def batch(self, step: int, index: Tensor, mine: Tensor, block: tuple[int, ...]) -> Batch:
        generator = generator_for(self.seed, "mixture", step, self.place, *block)
        drawn = self.system.sample(len(index), self.grid, generator)
        return drawn if bool(mine.all()) else drawn.select(mine.nonzero().flatten())


@dataclass(frozen=True)
class _ReadShare:
    """A step goes on in rounds over a split by the most samples it may hold, of which it reads its own.

    So a step needs not know how many samples those before it held, and no sample comes twice in a round; one that a
    step of fewer samples passes over comes in another round, which has another order.
    """

    epochs: Epochs

    def batch(self, step: int, index: Tensor, mine: Tensor, block: tuple[int, ...]) -> Batch:
        # the remainder is for rounding alone, which may once in a long while count one sample more than the share
        return self.epochs.samples.batch(self.epochs.index(step)[index[mine] % self.epochs.batch_size])


class MixtureStream:
    """Samples of several members at every step: fresh ones of a system, those of a store round after round.

    Args:
        members: systems and stores with their weights.
        grid: where.
        batch_size: samples a step, of all members together.
        seed: another seed gives another stream.
        blocks: independent draws of every system a step, as for `Stream`: a process makes only those it trains on.

    Raises:
        ConfigError: if there is no member, batch_size is not positive, blocks are not from 1 to batch_size, or a store
            holds fewer samples than its share of a step.
        SignatureError: if the members cannot be joined, or a store lives on another grid.
    """

    num_samples = None

    def __init__(
        self, members: Sequence[MixtureMember], grid: Grid, *, batch_size: int, seed: int, blocks: int = 1
    ) -> None:
        if not members:
            raise ConfigError("A mixture needs at least one member, a system or a store.")
        self.blocks = require_blocks(blocks, batch_size)
        self.members = tuple(members)
        self.grid = grid
        self.batch_size = require_batch_size(batch_size)
        self.seed = seed
        self.signature = joined_signature([member.source.signature for member in members])
        weights = torch.tensor([member.weight for member in members], dtype=torch.float64)
        self._shares = weights / weights.sum()
        self._sources = [self._share(member.source, place) for place, member in enumerate(members)]

    def _share(self, source: System | StoreSplit, place: int) -> _Share:
        if isinstance(source, System):
            return _DrawnShare(source, self.grid, self.seed, place)
        if source.grid != self.grid:
            raise SignatureError(
                f"All members of a mixture live on one grid, here {self.grid}; those of '{source.system}' live on "
                f"{source.grid}."
            )
        most = math.ceil(float(self._shares[place]) * self.batch_size)
        if source.num_samples < most:
            raise ConfigError(
                f"The store of '{source.system}' holds {source.num_samples} training samples, fewer than the {most} "
                "that are its share of one step. Lower its weight or the batch size, or give a larger store."
            )
        return _ReadShare(Epochs(source, batch_size=most, seed=self.seed, order=("mixture epoch", place)))

    @property
    def lead_times(self) -> tuple[float, float] | None:
        """The shortest and the longest of all members'."""
        all_of_them = [member.source.lead_times for member in self.members if isinstance(member.source, StoreSplit)]
        ends = [times for times in all_of_them if times is not None]
        return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None

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
            for member, source, start, end in zip(self.members, self._sources, ends, ends[1:], strict=False):
                own = places[(start <= places) & (places < end)]
                if len(own):
                    mine = own % part.count == part.number
                    drawn = source.batch(step, own - start, mine, () if self.blocks == 1 else (block,))
                    pieces.append(weighed(drawn, self.signature, member.loss_weight))
        return Batch.concatenate(pieces)
