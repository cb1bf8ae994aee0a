"""Does what it says of its own error hold? Bands of a calibrated operator, and the spread of an ensemble."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from scipy import stats

from scifm.errors import SciFMError
from scifm.evaluation.calibrate import one_of_each
from scifm.evaluation.uncertainty import crps_ensemble, spread_skill
from scifm.fields.batch import Batch
from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.findings.finding import Finding
from scifm.models.bands import scores_of
from scifm.models.calibration import Calibration
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.wording import plural

__all__ = ["Coverage", "Spread"]


class Coverage(Check):
    """Bands of a calibrated operator are put around answers to samples it has not seen, and those that hold counted.

    Statistic: the share of bands of the level `level` that hold their part of a field. Interval: exact binomial
    (Clopper–Pearson), 95 %; fields of one sample count by themselves,
    windows of one trajectory as one of them.

    Threshold: the level. Bad where the whole interval lies below it: these samples are not of the kind that it was
    calibrated on, or the weights are not those that were calibrated.

    Args:
        level: of the bands that are counted.
    """

    name: ClassVar[str] = "coverage"
    leaves_out_gaps: ClassVar[bool] = True
    question: ClassVar[str] = "Do its bands hold the truth as often as they say?"
    advice: ClassVar[str] = "Calibrate it again, on samples like these ('scifm calibrate')."

    level: float = Field(0.9, gt=0, lt=1)

    def ask(self, case: Case) -> Finding:
        operator, known, samples = case.operator, case.operator.calibration, case.samples
        if known is None:
            return Finding(said="It was not calibrated, and says nothing of its error ('scifm calibrate').")
        if samples.num_frames > known.num_frames:
            return Finding(said=f"It was calibrated for {plural(known.num_frames, 'step')}, and these are more.")
        windows = 1 if case.origin is None else case.origin.windows
        if samples.num_samples % windows == 0:  # those of one trajectory hold together
            samples = one_of_each(samples, windows, case.seed)
        scores = scores_of(operator, samples, known.share)
        there = ~scores.isnan()
        try:
            curve = [_held(scores, there, known, level) for level in (self.level, *_levels(known))]
        except SciFMError as reason:
            return Finding(said="It has no bands of that level.", evidence=str(reason))
        holding, count = curve[0]
        if not count:
            return Finding(said="None of these samples has a field that it was calibrated on.")
        share = holding / count
        low, high = (float(end) for end in stats.binomtest(holding, count).proportion_ci(0.95))
        good = not high < self.level
        words = "Its bands hold the truth as often as they say." if good else "Its bands hold less often than they say."
        return Finding(
            said=words,
            evidence=f"{holding} of {plural(count, 'field')} lie within bands of level {self.level:g}.",
            good=good,
            statistic=share,
            low=low,
            high=high,
            threshold=self.level,
            unit="share of bands that hold",
            figure=_coverage_figure(
                [(level, held / count) for level, (held, _) in zip(_levels(known), curve[1:], strict=True)]
            ),
        )


def _held(scores: torch.Tensor, there: torch.Tensor, known: Calibration, level: float) -> tuple[int, int]:
    """Return how many fields lie within bands of a level, and how many could."""
    widths = known.widths(level)[: scores.shape[1]]
    counted = there & ~widths.isnan()
    return int(((scores <= widths) & counted).sum()), int(counted.sum())


def _levels(calibration: Calibration) -> list[float]:
    most = calibration.num_samples / (calibration.num_samples + 1)
    return [level for level in (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99) if level <= most]


def _coverage_figure(points: list[tuple[float, float]]) -> Figure:
    places = tuple(level for level, _ in points)
    series = (
        Series(label="operator", x=places, y=tuple(share for _, share in points)),
        Series(label="as they say", x=(0.0, 1.0), y=(0.0, 1.0), marked=False, line="dashed"),
    )
    panel = Panel(
        x=Axis(label="level of the bands", low=0, high=1),
        y=Axis(label="share that holds", low=0, high=1),
        series=series,
    )
    return Figure(caption="How often bands hold the truth, beside how often they say they do.", panels=(panel,))


class Spread(Check):
    """The members of an ensemble answer samples that none of them has seen; how they differ is compared with the error.

    Statistic: spread over skill, the root mean square of the members' standard deviation, made as large as that of a
    further member would be, over that of the error of their mean; fields in units of their own size. Interval:
    bootstrap over samples, 95 %.

    Threshold: `least`. Bad where the whole interval lies below it: members agree far more than they are right, and
    their spread must not be taken for the error. Above it is good news up to `most`; beyond that they say less than
    they know, which is told without a verdict.

    Args:
        least, most: thresholds; 1 is where the truth could be a further member.
    """

    name: ClassVar[str] = "spread"
    question: ClassVar[str] = "Do its members differ as much as they err?"
    advice: ClassVar[str] = (
        "Do not take the spread for the error: calibrate it ('scifm calibrate'), or train more members."
    )

    least: float = Field(0.5, gt=0, le=1)
    most: float = Field(2.0, ge=1)
    num_samples: int | None = Field(64, ge=2)

    def ask(self, case: Case) -> Finding:
        if case.operator.num_members < 2:
            return Finding(said="It is no ensemble: it has one answer to a question.")
        members, truth = _in_their_sizes(case)
        if not len(truth):
            return Finding(said="The truth is zero in every sample: there is nothing to compare with.")
        ratio = spread_skill(members, truth)
        drawn = torch.randint(len(truth), (200, len(truth)), generator=case.generator)
        many = torch.tensor([spread_skill(members[:, some], truth[some]) for some in drawn], dtype=torch.float64)
        low, high = torch.quantile(many, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        good = False if high < self.least else True if self.least <= ratio <= self.most else None
        words = {
            True: "Its members differ about as much as they err.",
            False: "Its members agree far more than they are right.",
            None: "Its members differ more than they err." if ratio > 1 else "Its members hardly differ as they err.",
        }
        crps = float(crps_ensemble(members, truth).mean())
        error = float((members.mean(0) - truth).square().mean().sqrt())
        return Finding(
            said=words[good],
            evidence=f"{plural(len(members), 'member')}, {plural(len(truth), 'sample')}, fields in units of their "
            f"size: error of the mean {error:.3g}, CRPS {crps:.3g}.",
            good=good,
            statistic=ratio,
            low=low,
            high=high,
            threshold=self.least,
            unit="spread over error",
            figure=_spread_figure(members, truth),
        )


def _in_their_sizes(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Return members, ``(member, sample, number)``, and the truth, fields in units of their size, without zero ones."""
    samples: Batch = case.samples
    truth = samples.require_targets().double()
    members = case.operator.spread(samples).double()
    axes = tuple(range(3, truth.dim()))
    size = truth.square().mean(axes, keepdim=True).sqrt()
    there = size > 0
    scaled = torch.where(there, 1 / torch.where(there, size, 1.0), 0.0)
    kept = there.flatten(1).any(1)
    return (members * scaled)[:, kept].flatten(2), (truth * scaled)[kept].flatten(1)


def _spread_figure(members: torch.Tensor, truth: torch.Tensor) -> Figure:
    spreads = members.var(0).mean(1).sqrt().tolist()
    errors = (members.mean(0) - truth).square().mean(1).sqrt().tolist()
    points = [(s, e) for s, e in zip(spreads, errors, strict=True) if s > 0 and e > 0]
    ends = (min(min(p) for p in points), max(max(p) for p in points)) if points else (0.1, 1.0)
    series = (
        Series(label="sample", x=tuple(s for s, _ in points), y=tuple(e for _, e in points), joined=False),
        Series(label="as they say", x=ends, y=ends, marked=False, line="dashed"),
    )
    panel = Panel(
        x=Axis(label="spread of the members", scale="log"),
        y=Axis(label="error of their mean", scale="log"),
        series=series,
    )
    return Figure(caption="Spread and error of each sample, in units of the field's size.", panels=(panel,))
