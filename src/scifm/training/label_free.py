"""Adapting without a label: samples nobody solved, and candidates compared by the objective itself.

An objective that reads no solution says of any answer how far it is from right by what is asked alone. So nothing has
to be held out: it cannot be fitted to labels, and what is adapted is made to answer the very samples it is given.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from scifm.data.origins import DownstreamPool, Origin, StoreOrigin
from scifm.data.partly_solved import unsolved_samples
from scifm.data.unsolved import UnsolvedSamples
from scifm.errors import ConfigError
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.models.operator import Operator
from scifm.objectives.objective import Objective

__all__ = ["objective_of_each", "unsolved_pool", "without_solutions"]


def unsolved_pool(origin: Origin, num_samples: int, seed: int, objective: Objective) -> DownstreamPool:
    """Return the problems that are adapted to, of an origin: drawn and not solved, or read without their solutions.

    Raises:
        ConfigError: if the objective cannot be asked about them, or they cannot be made without being solved.
    """
    objective.require_systems(origin.systems, origin.grid)
    samples = unsolved_samples(origin, num_samples, seed)
    about = {**origin.describe(), "num_samples": samples.num_problems, "solved": False}
    about |= {"split": "train"} if isinstance(origin, StoreOrigin) else {"seed": seed}
    return DownstreamPool(samples, about, origin.homogeneities, origin.meanings)


def without_solutions(pool: DownstreamPool, outputs: tuple[str, ...]) -> DownstreamPool:
    """Return a pool whose solutions nobody sees.

    Args:
        outputs: names of what is asked for, where its samples are inputs alone and do not say it.

    Raises:
        ConfigError: if nobody says what is asked for.
    """
    names = pool.samples.signature
    if not (names.outputs or outputs):
        raise ConfigError(
            f"The samples are inputs alone, {', '.join(names.inputs)}, and nobody says which fields are the answer: "
            "fine-tune a model that answers them, instead of training from scratch."
        )
    if isinstance(pool.samples, UnsolvedSamples) and names.outputs:
        return pool
    return replace(pool, samples=UnsolvedSamples(pool.samples, () if names.outputs else outputs))


def objective_of_each(objective: Objective, operator: Operator, samples: Samples, most: int) -> Tensor:
    """Return what an objective is of each of at most so many samples, ``(sample,)``, on the operator's device."""
    few = operator.align(samples.some(most))
    weight = next(operator.parameters())
    few = few.to(weight.device, weight.dtype if weight.is_floating_point() else None)
    prepared, was = objective.on(few), operator.training
    operator.eval()
    with torch.no_grad():
        each = [
            prepared(operator, few.select([place]), step=0, generator=generator_for(0, "scores", device=weight.device))
            for place in range(few.num_samples)
        ]
    operator.train(was)
    return torch.stack(each)
