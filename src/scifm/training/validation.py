"""Errors on held-out samples while a model trains, defined also where the truth vanishes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from scifm.data.stream import Part
from scifm.evaluation.pointwise import METRICS
from scifm.fields.batch import Batch
from scifm.fields.norms import relative_l2, typical_sizes
from scifm.models.operator import Operator
from scifm.training.processes import ALONE, World

__all__ = ["sample_errors", "validation_error", "validation_errors"]


def validation_errors(
    operator: Operator, batch: Batch, metrics: Sequence[str], world: World = ALONE
) -> dict[str, float]:
    """Return means over samples, frames and channels by metric, each process scoring its part of the samples.

    The relative L2 error is divided by the typical size over the batch where the truth vanishes.

    Args:
        operator: it answers as it is.
        batch: all samples.
        metrics: names in ``scifm.evaluation.METRICS``.
        world: the processes that score together.
    """
    typical = _typical(operator, batch)
    part = batch.select(Part(world.rank, world.size).of(batch.num_samples)) if world.size > 1 else batch
    answer, target = operator.predict(part).require_targets(), operator.align(part).require_targets()
    errors = {name: _errors(name, answer, target, part, typical) for name in dict.fromkeys(metrics)}
    return {name: float(world.gather(values).mean()) for name, values in errors.items()}


def validation_error(operator: Operator, batch: Batch) -> float:
    """Return the mean relative L2 error; see `validation_errors`."""
    return validation_errors(operator, batch, ("relative_l2",))["relative_l2"]


def sample_errors(operator: Operator, batch: Batch) -> Tensor:
    """Return the relative L2 error of each sample, ``(batch,)``, the mean over frames and channels; see above."""
    target, answer = operator.align(batch).require_targets(), operator.predict(batch).require_targets()
    return _errors("relative_l2", answer, target, batch, _typical(operator, batch)).flatten(1).mean(1)


def _typical(operator: Operator, batch: Batch) -> Tensor:
    return typical_sizes(operator.align(batch).require_targets(), batch.grid)


def _errors(metric: str, answer: Tensor, target: Tensor, batch: Batch, typical: Tensor) -> Tensor:
    if metric == "relative_l2":
        return relative_l2(answer, target, batch.grid, typical=typical)
    return METRICS[metric](answer, target, batch.grid)
