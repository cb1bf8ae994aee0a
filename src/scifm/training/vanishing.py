"""Targets that vanish, such as a trajectory at rest: named before the first step, with a rule for the relative loss.

A relative error is not defined where the truth is zero. There the error is divided by the typical size of that channel
over the training samples instead, and by that of ones if the channel is zero in all of them, so that such samples are
learned too. Numbers of an evaluation stay what they are by definition: infinite there.
"""

from __future__ import annotations

import warnings
from functools import partial

from scifm.data.stream import BatchSource, Epochs
from scifm.fields.batch import Batch
from scifm.models.operator import Operator
from scifm.objectives.supervised import VANISHES, objective_named, relative_l2_loss, sizes_of, typical_sizes
from scifm.training.sharing import Objective

__all__ = ["objective_for", "tell_vanishing"]

_NUM_LOOKED_AT = 512  # samples of a store, evenly spread


def objective_for(name: str, source: BatchSource, operator: Operator) -> Objective:
    """Return the loss of that name for samples of a source; a warning names the targets that vanish.

    Args:
        name: key in ``SUPERVISED``.
        source: where training batches come from. What is sampled without end is not looked at.
        operator: which orders the channels.

    Raises:
        ConfigError: if there is no such loss.
        StoreError, DataError: if the samples cannot be read.
    """
    objective = objective_named(name)
    if objective is not relative_l2_loss or not isinstance(source, Epochs):
        return objective
    samples = source.samples
    batch = operator.align(samples if isinstance(samples, Batch) else samples.some(_NUM_LOOKED_AT))
    tell_vanishing(batch)
    return partial(relative_l2_loss, typical=typical_sizes(batch.require_targets()))


def tell_vanishing(batch: Batch) -> None:
    """Warn of channels whose targets vanish in some samples of a batch; says in how many."""
    targets = batch.require_targets()
    vanished = (sizes_of(targets) <= VANISHES * typical_sizes(targets)).any(dim=1)
    for name, count in zip(batch.signature.outputs, vanished.sum(dim=0).tolist(), strict=True):
        if count:
            warnings.warn(
                f"The target '{name}' is zero in {count} of {len(vanished)} training samples that were looked at. A "
                "relative error is not defined there; it is divided by the typical size of the channel instead. Leave "
                'those samples out, or choose training.objective = "mean_squared_error", if that is not meant.',
                stacklevel=2,
            )
