"""How far does one point of the input reach? It finds a spectral block that is dead, which no training loss shows."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.training.weights import place
from scifm.trust.case import Case
from scifm.trust.check import Check, solved

__all__ = ["ReceptiveField"]

_NUM_RINGS = 24  # of the figure
_AVERAGED = 1 / 12  # standard deviation of the Gaussian, in sides of the box


class ReceptiveField(Check):
    """The sign of the input is turned at one grid point, and the change of the answer is looked at everywhere.

    Of each sample it is the point where the inputs, each in units of its root mean square, are largest. Turning a sign
    leaves the size of a field as it was, so a normalization that divides by it does not answer for the network.

    Statistic: share of the grid at which the change of the answer, averaged with a Gaussian of a twelfth of the sides,
    is more than ``level**dims`` of its largest, mean over samples, all in float64. A network that mixes neighbours only
    answers there; but through a coarser latent grid it rings over the whole box, with alternating signs, off as one
    tail for each axis. The average takes most of that out, and one factor `level` for each axis what is left. FNOs on
    three equations in two dimensions, latent grids of 8 to 24 points: dead spectral blocks reached 0.19 to 0.56 of the
    grid, live ones 0.63 to 0.94 before any training and 0.97 after it, on periodic boxes. Below 12 latent points in
    three dimensions all is near, and a dead block reaches 0.7: there this check is blind. In one dimension (0.61) and
    on boxes with walls (0.64) a dead one has been seen to pass, barely.

    Threshold: `least_share` of the share that the solver of the samples' system answers with, where that is known and
    solves the changed problem, else of the whole grid. Of an evolving problem a local answer may be the right one, and
    is told without a verdict.

    Args:
        level: change that counts as an answer, in parts of the largest, for each axis.
        least_share: threshold.
    """

    name: ClassVar[str] = "receptive_field"
    question: ClassVar[str] = "Does the answer everywhere hear of a change of the input at one point?"
    advice: ClassVar[str] = (
        "Look whether a spectral or attention layer has weights of zero or is passed over, and train again."
    )

    level: float = Field(0.1, gt=0, lt=1)
    least_share: float = Field(0.6, gt=0, le=1)
    num_samples: int | None = Field(8, ge=1)

    def ask(self, case: Case) -> Finding:
        operator, samples = case.operator, case.samples.to(dtype=torch.float64)
        place(operator, next(operator.parameters()).device, torch.float64)
        turned, points = _turned(samples)
        if not (turned.inputs != samples.inputs).any():
            return Finding(said="The inputs are zero everywhere: there is no point whose sign could be turned.")
        before, after = (operator.answers(batch).require_targets() for batch in (samples, turned))
        changes = _largest_one(_averaged(after - before, samples.grid))
        share = self._share(changes)
        least = self.least_share * self._share_of_solver(samples, turned)
        good = share >= least
        local = (
            "local: the answer changes near the point alone" if changes.any() else "none: the answer does not change"
        )
        answer = "One point of the input reaches far." if good else f"The reach of one point of the input is {local}."
        level = self.level**samples.grid.num_spatial_dims
        evidence = (
            f"At {share:.2f} of the grid the answer changes by more than {level:g} of its largest change when the "
            f"input does at one point; at least {least:.2f} are asked for."
        )
        advice = ""
        if not good and samples.signature.evolves:
            evidence += " Over a short time a local answer may be right, so this is no verdict."
            advice = "None, if nothing in the equation reaches further than that in one step."
        return Finding(
            said=answer,
            advice=advice,
            evidence=evidence,
            good=None if not good and samples.signature.evolves else good,
            statistic=share,
            threshold=least,
            unit="share of the grid",
            figure=_figure(changes, points, samples.grid, level),
        )

    def _share(self, changes: Tensor) -> float:
        """Return at which part of the grid changes ``(sample, *space)``, the largest being one, are above the level."""
        return float((changes > self.level ** (changes.dim() - 1)).double().mean())

    def _share_of_solver(self, samples: Batch, turned: Batch) -> float:
        right, other = solved(samples), solved(turned)
        if right is None or other is None or not (right.isfinite().all() and other.isfinite().all()):
            return 1.0
        return self._share(_largest_one(_averaged(other - right, samples.grid)))


def _turned(samples: Batch) -> tuple[Batch, Tensor]:
    """Return the samples with the sign of their inputs turned at one point each, and the points, ``(sample, axis)``."""
    space = samples.grid.num_points
    fields = samples.inputs.flatten(3).clone()  # (sample, time, channel, point)
    size = fields.square().mean(-1, keepdim=True)
    weight = torch.where(size > 0, fields.square() / size, 0.0)[:, -1].sum(1)
    chosen = weight.argmax(1)
    rows = torch.arange(len(chosen), device=chosen.device)
    fields[rows, -1, :, chosen] *= -1
    points = torch.stack(torch.unravel_index(chosen, space), dim=1)
    return replace(samples, inputs=fields.view_as(samples.inputs)), points


def _averaged(change: Tensor, grid: Grid) -> Tensor:
    """Return a field averaged with a Gaussian along every axis, around it where the axis is periodic."""
    for axis, (num, wraps) in enumerate(zip(grid.num_points, grid.periodic, strict=True), start=-grid.num_spatial_dims):
        away = _steps_away(torch.arange(num, device=change.device), num, wraps=wraps)
        weights = torch.exp(-0.5 * (away.to(change.dtype) / (_AVERAGED * num)).square())
        change = (change.movedim(axis, -1) @ (weights / weights.sum(0))).movedim(-1, axis)
    return change


def _steps_away(places: Tensor, num: int, *, wraps: bool) -> Tensor:
    """Return how many steps the points of an axis, the columns, lie from some places on it, the rows."""
    away = (torch.arange(num, device=places.device) - places.view(-1, 1)).abs()
    return torch.minimum(away, num - away) if wraps else away


def _largest_one(change: Tensor) -> Tensor:
    """Return the size of a change ``(sample, time, channel, *space)`` as ``(sample, *space)``, its largest being one.

    Every frame and channel is taken in units of its own largest change; where nothing changes it stays zero.
    """
    size = change.abs()
    largest = size.flatten(3).amax(-1).view(*size.shape[:3], *(1,) * (size.dim() - 3))
    return torch.where(largest > 0, size / largest, 0.0).amax((1, 2))


def _figure(changes: Tensor, points: Tensor, grid: Grid, level: float) -> Figure:
    """Return the median change over points of the grid in rings around the point, against the distance."""
    squared = torch.zeros(len(points), *grid.num_points, dtype=torch.float64)
    for axis, (num, step, wraps) in enumerate(zip(grid.num_points, grid.spacing, grid.periodic, strict=True)):
        away = _steps_away(points[:, axis].cpu(), num, wraps=wraps).double() * step
        squared += away.square().view(len(points), *(num if i == axis else 1 for i in range(len(grid.num_points))))
    distance, sizes = squared.sqrt().flatten(), changes.cpu().flatten()
    width = float(distance.max()) / _NUM_RINGS
    rings = (distance / width).long().clamp(max=_NUM_RINGS - 1)
    medians = [float(inside.median()) if len(inside := sizes[rings == ring]) else 0.0 for ring in range(_NUM_RINGS)]
    series = Series(
        label="change of the answer",
        x=tuple(width * (ring + 0.5) for ring in range(_NUM_RINGS)),
        y=tuple(value if value > 0 else None for value in medians),
    )
    panel = Panel(
        x=Axis(label="distance from the point"),
        y=Axis(label="change, largest = 1", scale="log"),
        series=(series,),
        rules=(Rule(at=level, label="counts as an answer"),),
    )
    caption = "Change of the answer when the input changes at one point: median over rings around it and over samples."
    return Figure(caption=caption, panels=(panel,))
