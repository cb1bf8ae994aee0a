"""Has it learned fields or grid points? On a finer grid the same problems have the same answers."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from scifm.errors import SciFMError
from scifm.evaluation.evaluate import ratio_of_means
from scifm.fields.grid import Grid
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.wording import plural

__all__ = ["Resolution", "finer"]


class Resolution(Check):
    """The same problems are drawn and solved on the grid of the samples and on finer ones, and answered there.

    Statistic: mean relative L2 error on the grid with twice as many points along each axis, over that on the samples'
    own. Interval: bootstrap over problems, 95 %.

    Threshold: `most`. What was learned as an operator between fields keeps its error, but for what the finer grid shows
    of the problem that the coarser one did not; what was learned as a map between grid points has an error of order one
    there. Beyond it is bad news for a network that says that it answers on any grid, and a thing to know for one that
    does not.

    It needs to know what draws the samples. Of steady problems in one and two dimensions four times as many points are
    looked at too.

    Args:
        most: threshold.
    """

    name: ClassVar[str] = "resolution"
    question: ClassVar[str] = "Does it keep its error on a finer grid than it was trained on?"
    advice: ClassVar[str] = "Ask it on its own grid alone, and interpolate its answer to others."

    most: float = Field(2.0, gt=1)
    num_samples: int | None = Field(16, ge=1)

    def ask(self, case: Case) -> Finding:
        system, own = case.system, case.samples.grid
        if system is None:
            return Finding(said="What draws the samples is not known, so none could be drawn on a finer grid.")
        count, errors = case.samples.num_samples, dict[int, Tensor]()
        steady = own.num_spatial_dims < 3 and not case.samples.signature.evolves
        for factor in (1, 2, 4) if steady else (1, 2):
            if errors and case.seconds_left <= 0:
                break
            try:
                errors[factor] = case.errors(case.drawn(count, system, grid=finer(own, factor)))
            except SciFMError as reason:
                return Finding(said="It does not answer on a finer grid.", evidence=str(reason))
        if 2 not in errors:
            return Finding(said="The budget was spent before a finer grid was reached.")
        if any(own.isinf().any() for own in errors.values()):
            return Finding(
                said="On a finer grid it does not answer with finite numbers.",
                evidence="; ".join(f"{_points(finer(own, f))}: {int(e.isinf().sum())}" for f, e in errors.items())
                + f" of {plural(count, 'answer')} are NaN or infinite.",
                good=False,
            )
        known = ~errors[1].isnan() & ~errors[2].isnan()
        if not known.any():
            return Finding(said="The truth is zero in every sample: there is no relative error to compare.")
        ratio, low, high = ratio_of_means(errors[2][known], errors[1][known], generator=case.generator)
        claims = case.operator.any_resolution
        good = (False if claims else None) if ratio > self.most else True
        means = {factor: float(values[known].mean()) for factor, values in errors.items()}
        told = ", ".join(f"{_points(finer(own, factor))} points {mean:.3g}" for factor, mean in means.items())
        words = "It keeps its error on a finer grid." if good else "On a finer grid its error is another one."
        if not good and not claims:
            words += " It does not say that it answers there."
        return Finding(
            said=words,
            evidence=f"Mean relative L2 of the same {plural(int(known.sum()), 'problem')}: {told}.",
            good=good,
            statistic=ratio,
            low=low,
            high=high,
            threshold=self.most,
            unit="error on twice as many points over that on its own grid",
            figure=_figure(own, means, self.most),
        )


def finer(grid: Grid, factor: int) -> Grid:
    """Return the grid with so many times the intervals along each axis: ends of walls stay ends."""
    points = (
        n * factor if wraps else (n - 1) * factor + 1 for n, wraps in zip(grid.num_points, grid.periodic, strict=True)
    )
    return replace(grid, num_points=tuple(points))


def _points(grid: Grid) -> str:
    return " × ".join(map(str, grid.num_points))


def _figure(own: Grid, means: dict[int, float], most: float) -> Figure:
    places, ends = tuple(own.num_points[-1] * factor for factor in means), (min(means.values()), max(means.values()))
    series = Series(label="operator", x=places, y=tuple(mean or None for mean in means.values()))
    about = {"low": ends[0] / 3, "high": 3 * ends[1]} if ends[0] > 0 else {}  # what hardly differs looks so
    panel = Panel(
        x=Axis(label="points along x", scale="log", form="count", ticks=places),
        y=Axis(label="mean relative L2 error", scale="log", **about),
        series=(series,),
        rules=(Rule(at=most * means[1], label="most that is allowed"),) if means[1] > 0 else (),
    )
    return Figure(caption="Error of the same problems on finer grids; the leftmost is its own.", panels=(panel,))
