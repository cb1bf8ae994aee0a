"""Several systems in one stream: batches over the union of their names, what a system lacks being zero.

How many samples of a step come from which system is drawn by systematic sampling: exact in the mean, and never more
than one sample away from it in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from scifm.data.stream import WHOLE, Part, require_batch_size, require_blocks
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.seeds import generator_for
from scifm.systems.system import System

__all__ = ["MixtureMember", "MixtureStream", "joined_homogeneities", "joined_signature"]


@dataclass(frozen=True)
class MixtureMember:
    """A system of a mixture.

    Args:
        system: what to sample.
        weight: its share of the samples, relative to the others'.
        loss_weight: how much each of its samples counts in the loss.

    Raises:
        ConfigError: if a weight is not positive.
    """

    system: System
    weight: float = 1.0
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.weight < float("inf") and 0 < self.loss_weight < float("inf")):
            raise ConfigError(
                f"The weights of '{self.system.name}' in a mixture must be positive; got weight = {self.weight}, "
                f"loss_weight = {self.loss_weight}."
            )


def joined_signature(systems: Sequence[System]) -> Signature:
    """Return the union of the systems' names.

    Raises:
        SignatureError: if they differ in dimension or in being steady.
    """
    return reduce(Signature.union, (system.signature for system in systems))


def joined_homogeneities(systems: Sequence[System]) -> tuple[Homogeneity, ...]:
    """Return the scalings that hold for every system of a mixture.

    The first of each system are told as one, then the second, and so on, as far as every system declares some: what
    one of them does not declare would change its solutions.

    Raises:
        SignatureError: if two systems scale one quantity differently.
    """
    return tuple(Homogeneity.joined(members) for members in zip(*(s.homogeneities for s in systems), strict=False))


class MixtureStream:
    """Fresh samples of several systems at every step.

    Args:
        members: the systems with their weights.
        grid: where.
        batch_size: samples a step, of all systems together.
        seed: another seed gives another stream.
        blocks: independent draws of every system a step, as for `Stream`: a process makes only those it trains on.

    Raises:
        ConfigError: if there is no member, batch_size is not positive, or blocks are not from 1 to batch_size.
        SignatureError: if the systems cannot be joined.
    """

    num_samples = None

    def __init__(
        self, members: Sequence[MixtureMember], grid: Grid, *, batch_size: int, seed: int, blocks: int = 1
    ) -> None:
        if not members:
            raise ConfigError("A mixture needs at least one system.")
        self.blocks = require_blocks(blocks, batch_size)
        self.members = tuple(members)
        self.grid = grid
        self.batch_size = require_batch_size(batch_size)
        self.seed = seed
        self.signature = joined_signature([member.system for member in members])
        weights = torch.tensor([member.weight for member in members], dtype=torch.float64)
        self._shares = weights / weights.sum()

    def counts(self, step: int) -> list[int]:
        """Return how many samples of each member the batch of `step` holds."""
        offset = torch.rand((), generator=generator_for(self.seed, "mixture", step), dtype=torch.float64)
        ends = (self._shares.cumsum(0) * self.batch_size + offset).floor().long()
        ends[-1] = self.batch_size  # whatever rounding made of the sum of the shares
        return torch.diff(ends, prepend=ends.new_zeros(1)).tolist()

    def batch(self, step: int, part: Part = WHOLE) -> Batch:
        """Return samples of `step`: a function of the seed and the step alone.

        The samples of a step, member by member, are dealt out in turn to blocks and to parts, so that each holds its
        share of every system. Only the blocks that share a sample with the part are drawn.
        """
        counts, shared = self.counts(step), math.gcd(self.blocks, part.count)
        pieces = []
        for block in range(part.number % shared, self.blocks, shared):
            drawn = self._block(counts, step, block)
            places = torch.arange(block, self.batch_size, self.blocks)
            mine = places % part.count == part.number
            pieces.append(drawn if bool(mine.all()) else drawn.select(mine.nonzero().flatten()))
        return Batch.concatenate(pieces)

    def _block(self, counts: Sequence[int], step: int, block: int) -> Batch:
        """Draw the samples of a step whose places leave the remainder `block` when divided by the number of blocks."""
        ends = torch.tensor([0, *counts]).cumsum(0)
        dealt = torch.diff((ends - block + self.blocks - 1).div(self.blocks, rounding_mode="floor").clamp(min=0))
        return self._join(dealt.tolist(), step, *(() if self.blocks == 1 else (block,)))

    def draw(self, num_samples: int, purpose: str) -> Batch:
        """Return `num_samples` of each member that no step holds: to fit a normalization, or to score."""
        return self._join([num_samples] * len(self.members), purpose)

    def _join(self, counts: Sequence[int], purpose: int | str, *block: int) -> Batch:
        return Batch.concatenate(
            self._weighed(
                member.system.sample(count, self.grid, generator_for(self.seed, "mixture", purpose, place, *block)),
                member,
            )
            for place, (member, count) in enumerate(zip(self.members, counts, strict=True))
            if count
        )

    def _weighed(self, batch: Batch, member: MixtureMember) -> Batch:
        weights: Tensor = batch.inputs.new_full((batch.num_samples,), member.loss_weight)
        return replace(batch.aligned(self.signature), loss_weights=weights)
