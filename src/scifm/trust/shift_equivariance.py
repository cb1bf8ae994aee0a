"""Does the answer move with the question? On a periodic box with constant coefficients it has to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from scifm.fields.batch import Batch
from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.findings.finding import Finding
from scifm.models.operator import Operator
from scifm.trust.check import Check
from scifm.trust.reference import solved
from scifm.wording import plural

__all__ = ["ShiftEquivariance"]

_ROUND_OFF = {torch.float64: 1e-10, torch.float32: 1e-4}
_INVARIANT = 1e-6  # defect of a solver whose equation is the same everywhere


@dataclass(frozen=True)
class _Shift:
    told: str
    points: tuple[int, ...]
    allowed: float
    defect: float = 0.0

    @property
    def excess(self) -> float:
        return self.defect / self.allowed


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
        num_samples: samples looked at, from the first on.
    """

    name: ClassVar[str] = "shift_equivariance"
    question: ClassVar[str] = "Does the answer move with the input on a periodic box?"

    aliasing: float = Field(0.05, gt=0, allow_inf_nan=False)
    num_samples: int = Field(16, ge=1)

    def ask(self, operator: Operator, samples: Batch, generator: torch.Generator) -> Finding:
        grid = samples.grid
        if not any(grid.periodic):
            return Finding(said="The box has no periodic axis, so nothing can be rolled: this does not apply.")
        samples = samples.select(slice(0, self.num_samples))
        answer = operator.predict(samples).require_targets()
        if not answer.flatten(1).any(1).all():
            return Finding(said="The operator answers zero, which moves with everything: this says nothing.")
        precision = next(p.dtype for p in operator.parameters() if p.is_floating_point())
        least = min(precision, samples.inputs.dtype, key=lambda dtype: -torch.finfo(dtype).eps)
        shifts = [
            replace(shift, defect=_defect(operator.predict(_rolled(samples, shift)).require_targets(), answer, shift))
            for shift in self._shifts(samples, _ROUND_OFF.get(least, self.aliasing))
        ]
        return self._told(shifts, samples)

    def _shifts(self, samples: Batch, round_off: float) -> list[_Shift]:
        grid = samples.grid
        along = list(zip(grid.num_points, grid.periodic, strict=True))
        third = tuple((n // 3) | 1 if wraps else 0 for n, wraps in along)  # odd: between points of an even latent grid
        shifts = [
            _Shift("one point", tuple(int(wraps) for _, wraps in along), self.aliasing),
            _Shift("a third of the box", third, self.aliasing),
        ]
        if all(n % 2 == 0 for n, wraps in along if wraps):
            shifts.append(_Shift("half the box", tuple(n // 2 if wraps else 0 for n, wraps in along), round_off))
        return shifts

    def _told(self, shifts: list[_Shift], samples: Batch) -> Finding:
        worst = max(shifts, key=lambda shift: shift.excess)
        good: bool | None = worst.defect <= worst.allowed
        numbers = ", ".join(f"{s.told} {s.defect:.2g} (allowed {s.allowed:g})" for s in shifts)
        evidence = f"Relative L2 defect over {plural(samples.num_samples, 'sample')}: {numbers}."
        said = (
            "The answer moves with the input." if good else f"The answer does not move with the input by {worst.told}."
        )
        if not good:
            invariant = _invariant(samples, worst)
            good = False if invariant else None
            if invariant is None:
                evidence += " Whether the equation is the same everywhere is not known, so this is no verdict."
            elif not invariant:
                said += " Neither does the equation."
        series = Series(
            label="defect", x=tuple(range(len(shifts))), y=tuple(s.defect or None for s in shifts), joined=False
        )
        limits = Series(label="allowed", x=series.x, y=tuple(s.allowed for s in shifts), joined=False)
        panel = Panel(
            x=Axis(label="shift", categories=tuple(s.told for s in shifts)),
            y=Axis(label="relative L2 defect", scale="log"),
            series=(series, limits),
        )
        return Finding(
            said=said,
            evidence=evidence,
            good=good,
            statistic=worst.defect,
            threshold=worst.allowed,
            unit="relative L2 defect",
            figure=Figure(caption="By how much the answer misses the rolled answer, for each shift.", panels=(panel,)),
        )


def _roll(field: Tensor, shift: _Shift) -> Tensor:
    return field.roll(shift.points, tuple(range(-len(shift.points), 0)))


def _rolled(samples: Batch, shift: _Shift) -> Batch:
    return replace(samples, inputs=_roll(samples.inputs, shift), targets=None)


def _defect(moved: Tensor, answer: Tensor, shift: _Shift) -> float:
    size = torch.linalg.vector_norm(answer.double().flatten(1), dim=1)
    return float((torch.linalg.vector_norm((moved - _roll(answer, shift)).double().flatten(1), dim=1) / size).mean())


def _invariant(samples: Batch, shift: _Shift) -> bool | None:
    """Return whether the solver of the samples' system moves with the input; None where it is not known."""
    before, after = solved(samples), solved(_rolled(samples, shift))
    if before is None or after is None or not before.flatten(1).any(1).all():
        return None
    return _defect(after, before, shift) <= _INVARIANT
