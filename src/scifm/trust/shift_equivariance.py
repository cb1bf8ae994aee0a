"""Does the answer move with the question? On a periodic box with constant coefficients it has to."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.findings.finding import Finding
from scifm.trust.case import Case
from scifm.trust.check import Check, solved
from scifm.wording import plural

__all__ = ["ShiftEquivariance"]

_ROUND_OFF = {torch.float64: 1e-10, torch.float32: 1e-4}
_INVARIANT = 1e-6  # defect of a solver whose equation is the same everywhere


Shift = tuple[int, ...]
"""Points along each axis."""


class ShiftEquivariance(Check):
    """The inputs are rolled along the periodic axes, and the answers compared with the rolled answers.

    Statistic: ‖N(roll f) − roll N(f)‖₂ / ‖N(f)‖₂ over space, frames and channels, mean over samples, of the shift that
    misses its threshold by most. The shifts: half the box, where it has an even number of points on every axis, which
    any network with an even latent grid or even strides has to follow exactly; one point, and about a third of the box,
    which fall between the points of a coarser latent grid.

    Thresholds: for half the box round-off, 1e-4 in float32 and 1e-10 in float64. For the others `aliasing`: where
    hidden layers live on a coarser grid, what their activations make beyond its highest wave comes back as another one.
    An FNO trained to an error of 0.04 has a defect of 0.003; what is added at a fixed place stays as large as it is.

    Where an equation is not the same everywhere, an answer need not follow: the solver of the samples' system says,
    where it is known. Where it is not, a defect above the threshold is told without a verdict. A box without a periodic
    axis has nothing to roll.

    Args:
        aliasing: threshold of shifts that fall between latent points.
    """

    name: ClassVar[str] = "shift_equivariance"
    question: ClassVar[str] = "Does the answer move with the input on a periodic box?"
    advice: ClassVar[str] = (
        "Look for what tells the network where it stands: positions given as inputs, padding, strides."
    )

    aliasing: float = Field(0.05, gt=0, allow_inf_nan=False)
    num_samples: int | None = Field(16, ge=1)

    def ask(self, case: Case) -> Finding:
        operator, samples = case.operator, case.samples
        grid = samples.grid
        if not any(grid.periodic):
            return Finding(said="The box has no periodic axis, so nothing can be rolled: this does not apply.")
        answer = case.answer
        if not answer.flatten(1).any(1).all():
            return Finding(said="The operator answers zero, which moves with everything: this says nothing.")
        least = min(operator.home[1], samples.inputs.dtype, key=lambda dtype: -torch.finfo(dtype).eps)
        shifts = self._shifts(grid, _ROUND_OFF.get(least, self.aliasing))
        defects = {
            name: _defect(operator.answers(_rolled(samples, shift)).require_targets(), answer, shift)
            for name, (shift, _) in shifts.items()
        }
        worst = max(shifts, key=lambda name: defects[name] / shifts[name][1])
        good: bool | None = defects[worst] <= shifts[worst][1]
        numbers = ", ".join(f"{name} {defects[name]:.2g} (allowed {most:g})" for name, (_, most) in shifts.items())
        evidence = f"Relative L2 defect over {plural(samples.num_samples, 'sample')}: {numbers}."
        words = "The answer moves with the input." if good else f"The answer does not move with the input by {worst}."
        if not good:
            invariant = _invariant(samples, shifts[worst][0])
            good = False if invariant else None
            if invariant is None:
                evidence += " Whether the equation is the same everywhere is not known, so this is no verdict."
            elif not invariant:
                words += " Neither does the equation."
        x = tuple(range(len(shifts)))
        series = (
            Series(label="defect", x=x, y=tuple(defect or None for defect in defects.values()), joined=False),
            Series(label="allowed", x=x, y=tuple(most for _, most in shifts.values()), joined=False),
        )
        axes = Axis(label="shift", categories=tuple(shifts)), Axis(label="relative L2 defect", scale="log")
        return Finding(
            said=words,
            evidence=evidence,
            good=good,
            statistic=defects[worst],
            threshold=shifts[worst][1],
            unit="relative L2 defect",
            figure=Figure(
                caption="By how much the answer misses the rolled answer, for each shift.",
                panels=(Panel(x=axes[0], y=axes[1], series=series),),
            ),
        )

    def _shifts(self, grid: Grid, round_off: float) -> dict[str, tuple[Shift, float]]:
        """Return shifts by name, each with the largest defect that is allowed."""
        along = list(zip(grid.num_points, grid.periodic, strict=True))
        third = tuple((n // 3) | 1 if wraps else 0 for n, wraps in along)  # odd: between points of an even latent grid
        shifts = {
            "one point": (tuple(int(wraps) for _, wraps in along), self.aliasing),
            "a third of the box": (third, self.aliasing),
        }
        if all(n % 2 == 0 for n, wraps in along if wraps):
            shifts["half the box"] = (tuple(n // 2 if wraps else 0 for n, wraps in along), round_off)
        return shifts


def _roll(field: Tensor, shift: Shift) -> Tensor:
    return field.roll(shift, tuple(range(-len(shift), 0)))


def _rolled(samples: Batch, shift: Shift) -> Batch:
    return replace(samples, inputs=_roll(samples.inputs, shift), targets=None)


def _defect(moved: Tensor, answer: Tensor, shift: Shift) -> float:
    size = torch.linalg.vector_norm(answer.double().flatten(1), dim=1)
    return float((torch.linalg.vector_norm((moved - _roll(answer, shift)).double().flatten(1), dim=1) / size).mean())


def _invariant(samples: Batch, shift: Shift) -> bool | None:
    """Return whether the solver of the samples' system moves with the input; None where it is not known."""
    before, after = solved(samples), solved(_rolled(samples, shift))
    if before is None or after is None or not before.flatten(1).any(1).all():
        return None
    return _defect(after, before, shift) <= _INVARIANT
