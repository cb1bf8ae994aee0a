"""Samples of a batch that are shown to each other: how an operator learns to use solved examples.

Every sample is a question, and with its answer an example for the others: what is read from each is found once, and a
matrix of random shares says who is told what. None is shown itself, also where a batch over the seam of two rounds
holds it twice, nor another problem's physics: examples are of the same system, have the same fields and, where samples
say so, are of the same group. Windows of one trajectory know each other's answers, so samples that evolve have to say
their group, of which no two are of one trajectory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.models.demonstrated import LearnsInContext
from scifm.models.operator import Operator

__all__ = ["require_learning", "shares_of", "showing"]


def require_learning(cls: type[Operator], shows: int) -> None:
    """Check that operators of a class learn to use examples.

    Raises:
        ConfigError: if they do not.
    """
    if not issubclass(cls, LearnsInContext):
        raise ConfigError(
            f"shows = {shows} of the objective is for operators that learn to use solved examples, such as those of "
            f"kind 'in_context'; one of kind '{cls.config_class.kind or cls.__name__}' would not look at them. Leave "
            "it out, or choose model.kind = 'in_context'."
        )


@contextmanager
def showing(operator: Operator, batch: Batch, most: int, generator: torch.Generator) -> Iterator[None]:
    """Let an operator answer samples of a batch of which each has been shown some others.

    Args:
        operator: one that learns to use them.
        batch: samples with targets, in its order of names. Of several target frames the first one is shown.
        most: how many others each is shown at most.
        generator: draws who is shown what.

    Raises:
        ConfigError: if the operator does not learn to use examples.
        SignatureError: if samples evolve, and do not say their group.
    """
    require_learning(type(operator), most)
    assert isinstance(operator, LearnsInContext)
    shares = shares_of(batch, most, generator)
    targets, valid = batch.require_targets()[:, :1], batch.valid_targets
    first = None if batch.lead_time is None else batch.lead_time[:, :1]
    step = replace(batch, targets=targets, valid_targets=None if valid is None else valid[:, :1], lead_time=first)
    with operator.told_by(operator.context(operator.tokens(step), shares.to(targets))):
        yield


def shares_of(batch: Batch, most: int, generator: torch.Generator) -> Float[Tensor, "question demonstration"]:
    """Return how much of each sample's example every other one is told: rows sum to 1, or are zero.

    Raises:
        SignatureError: if samples evolve, and do not say their group.
    """
    if batch.signature.evolves and batch.group is None:
        raise SignatureError(
            "Samples that evolve are shown to each other where they say which share their physics and are of different "
            "trajectories: draw them so (data.same_knobs = 8), or leave shows of the objective out."
        )
    count, device = batch.num_samples, generator.device
    allowed = ~_same_problems(batch).to(device)
    number = {name: place for place, name in enumerate(dict.fromkeys(batch.systems))}
    alike = [torch.tensor([number[name] for name in batch.systems], device=device)] if number else []
    alike += [] if batch.group is None else [batch.group.to(device)]
    for own in alike:
        allowed &= own[:, None] == own
    if batch.present is not None:
        there = batch.present.to(device)
        allowed &= (there[:, None] == there).all(dim=2)
    drawn = torch.rand(count, count, generator=generator, device=device).masked_fill(~allowed, 2.0)
    wanted = torch.rand(count, generator=generator, device=device) * (allowed.sum(1).clamp(max=most) + 1)
    chosen = (drawn.argsort(dim=1).argsort(dim=1) < wanted.floor()[:, None]) & allowed
    return chosen / chosen.sum(1, keepdim=True).clamp(min=1)


def _same_problems(batch: Batch) -> Tensor:
    """Return which samples are the same problem, ``(sample, sample)`` bool: each is the same as itself."""
    fields = torch.cat([batch.inputs.detach().flatten(1), batch.require_targets().detach().flatten(1)], dim=1).double()
    same = torch.eye(len(fields), dtype=torch.bool, device=fields.device)
    marks = (fields.sum(1), fields.square().sum(1))
    return same | torch.stack([own[:, None] == own for own in marks]).all(dim=0)
