"""Samples to train on of which some have solutions, or none: `source_of` makes them of any origin.

`PartlySolved` is batches of which one half has solutions and the other half has none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from scifm.data.mixtures import MixtureOrigin
from scifm.data.origins import Origin, StoreOrigin, SystemOrigin
from scifm.data.staged import Staged
from scifm.data.stream import WHOLE, BatchSource, Epochs, Part
from scifm.data.unsolved import UnsolvedSamples, as_unsolved
from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for

__all__ = ["PartlySolved", "source_of", "unsolved_samples"]


def source_of(
    origin: Origin,
    batch_size: int,
    seed: int,
    *,
    num_samples: int | None = None,
    num_solved: int | None = None,
    blocks: int = 1,
) -> BatchSource:
    """Return the batches to train on, step by step, as `Origin.stream` does, or some with no solutions.

    Args:
        batch_size, seed, num_samples, blocks: as for `Origin.stream`.
        num_solved: how many of the samples have solutions, the same ones that `num_samples` of that number are; the
            others are never solved. None: all have; 0: none has.

    Raises:
        ConfigError: if a batch cannot hold both kinds, or samples without solutions cannot be made.
    """
    if isinstance(origin, SystemOrigin) and origin.curriculum is not None and num_solved is not None:
        turns = [replace(origin, config=config, curriculum=None) for config in origin.curriculum.stages(origin.config)]
        about: dict[str, Any] = {"num_samples": num_samples, "num_solved": num_solved, "blocks": blocks}
        return Staged([source_of(one, batch_size, seed, **about) for one in turns], origin.curriculum.steps)
    # one problem that is known is scored by its solution too
    if num_solved is None or num_solved == num_samples or origin.is_one_problem:
        return origin.stream(batch_size, seed, num_samples=num_samples, blocks=blocks)
    if num_solved:
        assert num_samples is not None, "the settings are checked: so many of so many"
        solved = origin.stream(batch_size, seed, num_samples=num_solved)
        assert isinstance(solved, Epochs), "what is counted comes round"
        others = unsolved_samples(origin, num_samples - num_solved, seed)
        return PartlySolved(solved.samples, others, batch_size=batch_size, seed=seed)
    if isinstance(origin, SystemOrigin | MixtureOrigin) and num_samples is None:
        return origin.fresh(batch_size, seed, blocks, solved=False)
    return Epochs(unsolved_samples(origin, num_samples or 0, seed), batch_size=batch_size, seed=seed)


def unsolved_samples(origin: Origin, num_samples: int, seed: int) -> Samples:
    """Return samples that nobody solved: so many that are drawn, or all that a store has to train on.

    Raises:
        ConfigError: if several input frames are asked for of what evolves and is drawn.
    """
    if isinstance(origin, StoreOrigin):
        return UnsolvedSamples(origin.split("train").kept())
    assert isinstance(origin, SystemOrigin | MixtureOrigin), "an origin is one of three"
    others = int(torch.randint(2**62, (), generator=generator_for(seed, "unsolved")))  # problems than solved ones are
    return origin.fresh(num_samples, others, solved=False).batch(0)


class PartlySolved:
    """Rounds over solved and over unsolved samples side by side: every batch takes turns between the two.

    However few are solved, they are half of every batch (the larger half of an odd one): a batch may then hold one
    twice. Each of the two goes round by itself, shuffled anew in each round. Unsolved samples have targets that count
    nowhere (`Batch.valid_targets`).

    Args:
        solved: with targets.
        unsolved: without.
        batch_size: samples a step, of both together; at least 2.
        seed: another seed gives another order.

    Raises:
        ConfigError: if a batch cannot hold both.
    """

    def __init__(self, solved: Samples, unsolved: Samples, *, batch_size: int, seed: int) -> None:
        if batch_size < 2:
            raise ConfigError(
                f"training.batch_size = {batch_size}: a batch holds solved and unsolved samples, so it has 2 at least."
            )
        half = batch_size // 2
        self.solved = Epochs(solved, batch_size=batch_size - half, seed=seed, order=("solved",), repeats=True)
        self.unsolved = Epochs(unsolved, batch_size=half, seed=seed, order=("unsolved",), repeats=True)
        self.signature, self.grid, self.batch_size, self.seed = solved.signature, solved.grid, batch_size, seed
        self.num_samples = solved.num_samples + unsolved.num_samples
        self.gaps = tuple(dict.fromkeys((*solved.gaps, *solved.signature.outputs)))
        times = [own for own in (solved.lead_times, unsolved.lead_times) if own is not None]
        self.lead_times = (min(t[0] for t in times), max(t[1] for t in times)) if times else None

    def batch(self, step: int, part: Part = WHOLE) -> Batch:
        """Return samples of `step`, solved ones at even places: a function of the seed and the step alone."""
        places = torch.arange(self.batch_size)[part.of(self.batch_size)]
        halves = []
        for rounds, parity in ((self.solved, 0), (self.unsolved, 1)):
            own = places[places % 2 == parity]
            halves.append(rounds.samples.batch(rounds.index(step)[own // 2]))
        both = Batch.concatenate([halves[0], as_unsolved(halves[1])])
        order = torch.cat([places[places % 2 == 0], places[places % 2 == 1]]).argsort()
        return both.select(order)

    def some(self, count: int) -> Batch:
        """Return at most `count` samples, half of them solved where there are so many."""
        solved = self.solved.samples.some(max(1, count // 2))
        unsolved = self.unsolved.samples.some(max(1, count - solved.num_samples))
        return Batch.concatenate([solved, as_unsolved(unsolved)])
