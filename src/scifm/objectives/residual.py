"""`Residual`: the equation as the teacher. Answers are pushed to where they meet it; no solution is read.

After Li et al., "Physics-informed neural operator" (arXiv:2111.03794), who add it to a loss on solutions, and fine-tune
by it alone. The residual is on the grid, by the derivatives of the system itself, and not by those of a network.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor

from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models.operator import Operator
from scifm.objectives.equation import Equation, Norm, residual_floor
from scifm.objectives.objective import Objective
from scifm.objectives.supervised import mean_over_members, mean_over_samples

__all__ = ["Residual"]


class Residual(Objective):
    """Mean over samples of how much answers miss their equation by, in parts of what is known without a solution.

    `scifm.objectives.equation` says what that is. Of windows with several targets the operator marches, and the
    equation is asked between all frames. Missing points of solutions are of no account, those of inputs are refused.

    Args:
        norm: of a residual over space: ``l2``, ``h-1`` or ``h-2``; absent: ``h-1`` of what is steady on a periodic box,
            else ``l2``.
        system: name of the system of samples that do not say one that is installed, such as files of somebody else's.
        through: of a march, how many steps gradients go back through at most; absent: all.
    """

    name: ClassVar[str] = "residual"
    needs_solutions: ClassVar[bool] = False

    norm: Norm | None = None
    system: str | None = None
    through: int | None = Field(None, ge=1)
    _equation: Equation | None = PrivateAttr(None)

    @property
    def equation(self) -> Equation:
        """What answers are asked by; prepared by `on` it knows the usual sizes of what is known."""
        return self._equation or Equation(self.norm, self.system)

    @property
    def num_looked_at(self) -> int:
        return 512

    def counted_gaps(self, signature: Signature, gaps: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in gaps if name in signature.inputs)

    def require_systems(self, names: Iterable[str], grid: Grid) -> None:
        self.equation.require_systems(names, grid)

    def __call__(self, operator: Operator, batch: Batch, *, step: int, generator: torch.Generator) -> Tensor:
        asked = operator.align(batch.with_targets(None))
        through = None if asked.num_frames == 1 else self.through
        losses = [
            mean_over_samples(self.equation.missed(answer), asked) for answer in operator.each(asked, through=through)
        ]
        return mean_over_members(losses)

    def on(self, samples: Batch) -> Self:
        """Return this objective with the usual sizes of what is known.

        Raises:
            ConfigError: if a sample is of no system that has a residual.
        """
        prepared = self.model_copy()
        prepared._equation = self.equation.on(samples)
        return prepared

    def stand_ins(self, samples: Batch) -> Batch:
        return self.equation.guessed(samples)

    def floor(self, samples: Batch) -> dict[str, float]:
        return residual_floor(samples, norm=self.norm, system=self.system)
