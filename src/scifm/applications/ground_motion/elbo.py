"""`EvidenceBound`: the objective that a generator of records is trained by."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from scifm.applications.ground_motion.network import MotionGenerator
from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.models.operator import Operator
from scifm.objectives.objective import Objective

__all__ = ["EvidenceBound"]


class EvidenceBound(Objective):
    """The evidence lower bound with its sign turned, mean over records, frames and frequencies [nat].

    Args:
        beta: weight of the divergence; with 1 it is a bound of the likelihood, with less it is none, and what the prior
            draws is scattered less than what the posterior saw.
        warmup: steps in which that weight rises to its own from zero.
    """

    name: ClassVar[str] = "evidence_bound"
    needs_solutions: ClassVar[bool] = False

    beta: float = Field(1.0, gt=0, allow_inf_nan=False)
    warmup: int = Field(0, ge=0)

    def require_operator(self, cls: type[Operator]) -> None:
        if not issubclass(cls, MotionGenerator):
            raise ConfigError(f"The evidence bound is of generators of records; '{cls.config_class.kind}' is none.")

    def __call__(self, operator: Operator, batch: Batch, *, step: int, generator: torch.Generator) -> Tensor:
        assert isinstance(operator, MotionGenerator), "what trains by it asks require_operator"
        aligned = operator.align(batch)
        parts = operator.bound(aligned, generator)
        weight = self.beta * (1.0 if step >= self.warmup else (step + 1) / self.warmup)
        frames, frequencies = aligned.grid.num_points
        return (parts.misfit + weight * parts.divergence).mean() / (frames * frequencies)
