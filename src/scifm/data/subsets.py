"""Which samples a few-shot study may see: nested, distinct, seeded, and known by their index."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from scifm.errors import ConfigError, DataError
from scifm.fields.seeds import generator_for
from scifm.wording import plural

__all__ = ["cross_validation", "nested_subsets", "split_validation"]


def nested_subsets(num_available: int, counts: Iterable[int], seed: int) -> dict[int, Tensor]:
    """Return, for each count, which samples to take: prefixes of one permutation, int64 ``(count,)``.

    So a larger subset holds every smaller one, no sample comes twice, and the subset of a count depends neither on
    which other counts are asked for nor on their order.

    Args:
        num_available: samples to choose from.
        counts: sizes wanted; 0 is allowed (zero-shot).
        seed: another seed gives other subsets.

    Raises:
        DataError: if a count is negative or larger than `num_available`.
    """
    counts = sorted(set(counts))
    if counts and counts[0] < 0:
        raise DataError(f"A subset cannot hold {counts[0]} samples; allowed are 0 to {num_available}.")
    if counts and counts[-1] > num_available:
        raise DataError(
            f"A subset of {plural(counts[-1], 'sample')} was asked for; there are {num_available:,}. Ask for at "
            "most that many, or generate a store with more."
        )
    order = torch.randperm(num_available, generator=generator_for(seed, "subset"))
    return {count: order[:count].clone() for count in counts}


def split_validation(num_samples: int, held_out: float | int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Split samples into a part to train on and a part to choose settings with.

    Args:
        num_samples: samples to split.
        held_out: an int is the number to hold out; a float is the fraction, rounded to at least 1 sample and leaving at
            least 1 to train on.
        seed: another seed gives another split.

    Returns:
        Indices to train on and indices held out; together every sample once, each in random order.

    Raises:
        DataError: if there are too few samples to have both parts.
        ConfigError: if `held_out` is neither a positive count nor a fraction strictly between 0 and 1.
    """
    return cross_validation(num_samples, held_out, min_scored=1, seed=seed)[0]


def cross_validation(
    num_samples: int, held_out: float | int, *, min_scored: int, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """Split samples several ways, so that few samples do not choose settings by one or two of them.

    Each split holds out other samples; there are as many as it takes to hold out `min_scored` samples in all, and no
    sample is held out twice. The first is that of `split_validation`.

    Args:
        num_samples, held_out, seed: see `split_validation`.
        min_scored: samples wanted among those held out, of all splits together; 1: one split.

    Returns:
        For each split, indices to train on and indices held out.

    Raises:
        DataError, ConfigError: as `split_validation`.
    """
    count = _num_held_out(num_samples, held_out)
    order = torch.randperm(num_samples, generator=generator_for(seed, "validation"))
    num_splits = max(1, min(-(-min_scored // count), num_samples // count))
    starts = [place * count for place in range(num_splits)]
    return [(torch.cat([order[:a], order[a + count :]]), order[a : a + count].clone()) for a in starts]


def _num_held_out(num_samples: int, held_out: float | int) -> int:
    if isinstance(held_out, float):
        if not 0 < held_out < 1:
            raise ConfigError(f"The fraction held out must lie strictly between 0 and 1; got {held_out}.")
        count = max(1, min(round(held_out * num_samples), num_samples - 1))
    else:
        count = held_out
    if count < 1:
        raise ConfigError(f"At least 1 sample must be held out; got {held_out}.")
    if num_samples < count + 1:
        raise DataError(
            f"Too few samples to split: {num_samples} given, {count} to hold out and at least 1 to train on are "
            f"needed. Give at least {count + 1} samples, or hold out fewer."
        )
    return count
