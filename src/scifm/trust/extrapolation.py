"""What happens outside of the data? Each knob is taken beyond its range, one at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from scifm.errors import SciFMError
from scifm.fields.batch import Batch
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.systems.knobs import Knob
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.wording import plural

__all__ = ["Extrapolation", "beyond_range"]


class Extrapolation(Check):
    """Problems are drawn with one knob beyond either end of its range, all others within theirs, and answered.

    Beyond means: between the end and `beyond` of the width of the range behind it; of a logarithmic knob of the width
    of its logarithm, of a whole one at least the next number. An end behind which the equation has no problems, such as
    a viscosity below zero, is left out.

    Statistic: the mean relative L2 error of the end that is worst, over that within all ranges. Interval: none.

    Threshold: `most`. Good news below it. Bad news is an end where the mean error is one or more: answering zero would
    be as good there. Between them it is told without a verdict: how far is too far depends on what the answer is for.

    It needs to know what draws the samples: the ranges of the system that is asked about, those of the training where
    nothing else is said.

    Args:
        beyond: how far, in widths of the range.
        most: threshold.
    """

    name: ClassVar[str] = "extrapolation"
    question: ClassVar[str] = "How fast does the error grow where a knob leaves its range?"
    advice: ClassVar[str] = "Stay within the ranges, or fine-tune on a few samples from beyond that end."

    beyond: float = Field(0.25, gt=0, le=10)
    most: float = Field(2.0, gt=1)
    num_samples: int | None = Field(32, ge=4)

    def ask(self, case: Case) -> Finding:
        system = case.system
        if system is None:
            return Finding(said="What draws the samples is not known, so none could be drawn beyond their ranges.")
        ends = [
            (name, told, knob) for name, knob in system.knobs.items() for told, knob in beyond_range(knob, self.beyond)
        ]
        if not ends:
            return Finding(said="No knob of the system has a range, so there is no beyond.")
        count = min(self.num_samples or 32, max(4, case.samples.num_samples))
        within = _mean_error(case, case.drawn(count, system))
        if not within > 0:
            return Finding(said="Within the ranges the error is zero or not defined: nothing can be compared with it.")
        means: dict[str, float] = {}
        for name, told, knob in ends:
            if case.seconds_left <= 0:
                return Finding(said="The budget was spent before all knobs were asked about.", evidence=_told(means))
            try:
                batch = case.drawn(count, system.where(**{name: knob}))
            except SciFMError:  # the equation has no problems there
                continue
            mean = _mean_error(case, batch)
            if math.isinf(mean):
                return Finding(
                    said=f"Beyond its ranges it does not answer with finite numbers: {name} {told}.",
                    evidence=f"Of {plural(count, 'problem')} some answers are NaN or infinite; within {within:.3g}.",
                    good=False,
                )
            if not math.isnan(mean):
                means[f"{name} {told}"] = mean
        if not means:
            return Finding(said="Beyond its ranges the system has no problems.")
        worst = max(means, key=lambda end: means[end])
        ratio = means[worst] / within
        good = True if ratio <= self.most else False if means[worst] >= 1 else None
        words = {
            True: "A little beyond its ranges it is about as good as within.",
            False: f"Beyond its ranges it is no better than answering zero: {worst}.",
            None: f"Its error grows {ratio:.2g} times a little beyond its ranges: {worst}.",
        }
        return Finding(
            said=words[good],
            evidence=f"Mean relative L2 of {plural(count, 'problem')} each: within {within:.3g}; {_told(means)}.",
            good=good,
            statistic=ratio,
            threshold=self.most,
            unit="error beyond the worst end over that within",
            figure=_figure(means, within),
        )


def beyond_range(knob: Knob, part: float) -> Iterator[tuple[str, Knob]]:
    """Yield what lies behind each end of a range, and what that is called."""
    low, high = knob.low, knob.high
    if low == high:
        return
    line = knob.line
    beyond = part * (line.place(high) - line.place(low))
    ends = [(line.at(line.place(low) - beyond), low), (high, line.at(line.place(high) + beyond))]
    if knob.integer:
        ends = [(min(math.ceil(ends[0][0]), low - 1), low - 1), (high + 1, max(math.floor(ends[1][1]), high + 1))]
    for (first, last), told in zip(ends, (f"below {low:g}", f"above {high:g}"), strict=True):
        if line.above is None or first > line.above:
            yield told, Knob(first, last, scale=knob.scale, integer=knob.integer)


def _mean_error(case: Case, batch: Batch) -> float:
    """Return the mean relative L2 error over samples that define one; NaN of none, infinite of a broken answer."""
    errors = case.errors(batch)
    defined = ~errors.isnan()
    return float(errors[defined].mean()) if defined.any() else math.nan


def _told(means: dict[str, float]) -> str:
    return ", ".join(f"{end}: {mean:.3g}" for end, mean in means.items())


def _figure(means: dict[str, float], within: float) -> Figure:
    all_ = (within, *(mean for mean in means.values() if mean > 0))
    series = Series(label="operator", x=tuple(means.values()), y=tuple(range(len(means))), joined=False)
    panel = Panel(
        x=Axis(label="mean relative L2 error", scale="log", low=min(all_) / 3, high=3 * max(all_)),
        y=Axis(label="", categories=tuple(means)),
        series=(series,),
        rules=(Rule(at=float(f"{within:.3g}"), crosses="x", label="within all ranges"),),
    )
    return Figure(caption="Error with one knob beyond an end of its range.", panels=(panel,))
