"""Solved examples to show an operator: of one system, none of them among what is scored."""

from __future__ import annotations

from dataclasses import replace

import torch

from scifm.data.mixtures import MixtureOrigin
from scifm.data.origins import Origin, StoreOrigin
from scifm.data.subsets import nested_subsets
from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.fields.window import Window
from scifm.wording import plural

__all__ = ["demonstrations_of", "some_demonstrations"]


def some_demonstrations(samples: Samples, count: int, *, seed: int = 0) -> Batch:
    """Return some of given samples as demonstrations: of trajectories one window of each, anywhere in it.

    Which ones is a matter of the seed: a larger choice holds every smaller one, and subsets of fine-tuning of the same
    pool and seed are of the same problems.

    Args:
        samples: whose targets are one frame.
        count: how many problems.
        seed: another one gives others.

    Raises:
        ConfigError: if there are not so many problems.
    """
    available = samples.num_problems
    if count > available:
        raise ConfigError(
            f"{plural(count, 'demonstration')} were asked for, each of a problem of its own; there are {available:,}. "
            "Ask for fewer (--demonstrations)."
        )
    windows = samples.num_samples // max(1, available)
    within = torch.randint(windows, (available,), generator=generator_for(seed, "demonstrations", "window"))
    chosen = nested_subsets(available, [count], seed)[count]
    return samples.batch(chosen * windows + within[chosen])


def demonstrations_of(origin: Origin, count: int, *, seed: int = 0) -> Batch:
    """Return demonstrations of a system, drawn for this by the rule of seeds, or of the training split of a store.

    Args:
        origin: of what will be asked about; of trajectories its window says the history and the time ahead.
        count: how many.
        seed: another one gives others.

    Raises:
        ConfigError: if it is a mixture, or does not have so many.
        StoreError: if a store cannot be read.
    """
    if isinstance(origin, MixtureOrigin):
        raise ConfigError(
            "Demonstrations are of the one system that is asked about; these samples are of a mixture. Give one of its "
            "systems (--system NAME, with --knob) or stores (--store FOLDER)."
        )
    if origin.signature.evolves:
        origin = origin.framed(_of_one_step(origin.window))
    if isinstance(origin, StoreOrigin):
        return some_demonstrations(origin.split("train"), count, seed=seed)
    return some_demonstrations(origin.problems(count, "demonstrations", seed=seed), count, seed=seed)


def _of_one_step(window: Window) -> Window:
    return replace(window, horizon=1, observed=False)
