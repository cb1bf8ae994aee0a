"""Does it know when it does not know? What it says of a question before it is answered, beside the error."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from scifm.data.origins import SystemOrigin
from scifm.errors import SciFMError
from scifm.evaluation.uncertainty import rank_correlation_interval, risk_coverage
from scifm.fields.batch import Batch
from scifm.fields.window import Window
from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.findings.finding import Finding
from scifm.models.calibration import FeatureSpace
from scifm.models.features import features_of, has_features
from scifm.systems.evolving import Evolving
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.trust.errors import errors_of
from scifm.trust.extrapolation import beyond_range
from scifm.wording import plural

__all__ = ["Abstention"]

_BROKEN = 1e12
_SEEN = 256  # samples without solutions that tell where features lie; of trajectories a fourth


class Abstention(Check):
    """Problems are drawn within the ranges of all knobs and, one knob at a time, beyond each end.

    What it says of a question beforehand is, of an ensemble, how much its members differ, over the size of the answer;
    else how far the question lies from those within the ranges inside the network (`scifm.models.calibration`). Either
    costs what an answer costs. What evolves is marched to the end; a fourth of the samples has to do there.

    Statistic: Spearman's rank correlation of that with the relative L2 error, mean over frames and channels. Interval:
    bootstrap over samples, 95 %.

    Threshold: `least`. Good news from there on: questions can be handed to the solver by it. Bad where the whole
    interval lies below `useless`. Between the two it is told without a verdict: a correlation over questions that are
    all lost is not high, though each of them was told apart.

    It needs to know what draws the samples.

    Args:
        beyond: how far, in widths of the range.
        least, useless: thresholds.
    """

    name: ClassVar[str] = "abstention"
    question: ClassVar[str] = "Does it tell beforehand which of its answers are wrong?"
    advice: ClassVar[str] = "Do not rely on its own warning: check answers by the equation, or solve some of them."

    beyond: float = Field(0.5, gt=0, le=10)
    least: float = Field(0.8, gt=0, lt=1)
    useless: float = Field(0.3, ge=0, lt=1)
    num_samples: int | None = Field(32, ge=4)

    def ask(self, case: Case) -> Finding:
        system = case.system
        if system is None:
            return Finding(said="What draws the samples is not known, so none could be drawn beyond their ranges.")
        ends = [knob for knob in system.knobs.items() if knob[1].low != knob[1].high]
        if not ends:
            return Finding(said="No knob of the system has a range, so there is no beyond.")
        if case.operator.num_members == 1 and not has_features(case.operator):
            return Finding(said="It has no members that could differ, and does not say where it has features.")
        count = min(self.num_samples or 32, max(4, case.samples.num_samples))
        count = max(4, count // 4) if case.samples.signature.evolves else count
        window = _far(case)
        within = case.drawn(2 * count, system, window=window)
        batches = [within]
        for name, own in ends:
            for _, knob in beyond_range(own, self.beyond):
                if case.seconds_left <= 0:
                    return Finding(said="The budget was spent before all knobs were asked about.")
                try:
                    batches.append(case.drawn(count, system.where(**{name: knob}), window=window))
                except SciFMError:  # the equation has no problems there
                    continue
        if len(batches) == 1:
            return Finding(said="Beyond its ranges the system has no problems.")
        scores = torch.cat(self._said_of(case, batches))
        errors = torch.cat([_errors(case, batch) for batch in batches])  # (sample, frame)
        errors = errors.clamp(max=_BROKEN)  # an answer that is no number comes last, and leaves sums finite
        known = ~errors.isnan().any(1)
        if known.sum() < 4:
            return Finding(said="The truth is zero in nearly every sample: there is no relative error to compare.")
        return self._told(scores[known], errors[known], case, len(batches) - 1)

    def _said_of(self, case: Case, batches: list[Batch]) -> list[Tensor]:
        """Return what the operator says of every sample, the higher the worse."""
        operator = case.operator
        if operator.num_members > 1:
            said = []
            for batch in batches:
                members = operator.spread(_frame(batch, 0)).double().flatten(2)
                sizes = members.mean(0).norm(dim=1).clamp(min=torch.finfo(torch.float64).tiny)
                said.append(members.std(0).norm(dim=1) / sizes)
            return said
        assert case.system is not None
        count = _SEEN // 4 if case.samples.signature.evolves else _SEEN
        space = FeatureSpace.of(features_of(operator, case.drawn(count, case.system)))
        return [space.distances(features_of(operator, batch)) for batch in batches]

    def _told(self, scores: Tensor, errors: Tensor, case: Case, num_ends: int) -> Finding:
        rank, low, high = rank_correlation_interval(scores, errors.mean(1), seed=case.seed)
        if math.isnan(rank):
            return Finding(said="It says the same of every question.", good=False, evidence="Its score is constant.")
        good = True if rank >= self.least else False if high < self.useless else None
        words = {
            True: "It tells beforehand which of its answers are wrong.",
            False: "What it says of a question beforehand has nothing to do with its error.",
            None: "What it says of a question beforehand goes with its error, not closely.",
        }
        shares, risks = risk_coverage(scores, errors.mean(1))
        half = len(shares) // 2 - 1
        how = "how its members differ" if case.operator.num_members > 1 else "how far it lies inside the network"
        return Finding(
            said=words[good],
            evidence=f"{plural(len(scores), 'problem')}, within their ranges and beyond {plural(num_ends, 'end')}, by "
            f"{how}: answering the half it is most sure of has a mean relative L2 of {float(risks[half]):.3g}, "
            f"answering all {float(risks[-1]):.3g}.",
            good=good,
            statistic=rank,
            low=low,
            high=high,
            threshold=self.least,
            unit="rank correlation with the error",
            figure=_figure(scores, errors),
        )


def _far(case: Case) -> Window | None:
    """Return, of what evolves, the window that marches as far as trajectories go; None: as the samples are."""
    origin, operator = case.origin, case.operator
    if not (isinstance(origin, SystemOrigin) and isinstance(origin.system, Evolving)):
        return None
    names, stride = operator.signature, origin.window.stride
    reaches = (origin.system.num_frames - 1) // stride - operator.history + 1
    return Window(operator.history, reaches if names.state == names.outputs else 1, stride)


def _frame(batch: Batch, place: int) -> Batch:
    """Return the samples with one of their target frames."""
    one = slice(place, place + 1)
    cut = {name: getattr(batch, name) for name in ("targets", "valid_targets", "lead_time")}
    return replace(batch, **{name: tensor[:, one] for name, tensor in cut.items() if tensor is not None})


def _errors(case: Case, batch: Batch) -> Tensor:
    """Return relative L2 errors, ``(sample, frame)``, the mean over channels; NaN where the truth defines none."""
    answer, frames = case.operator.answers(batch).require_targets(), range(batch.num_frames)
    parts = [_frame(batch, place) for place in frames]
    each = [
        errors_of(answer[:, place : place + 1], part.require_targets().double(), part)
        for place, part in zip(frames, parts, strict=True)
    ]
    return torch.stack(each, dim=1)


def _figure(scores: Tensor, errors: Tensor) -> Figure:
    frames = errors.shape[1]
    steps = sorted({0, frames // 2, frames - 1})
    lines = []
    for step in steps:
        own = errors[:, step]
        shares, risks = risk_coverage(scores, own)
        best = risk_coverage(own, own)[1]
        at = torch.linspace(0, len(shares) - 1, min(40, len(shares))).round().long().unique()
        told = f"step {step + 1}" if frames > 1 else "the operator's own"
        points = [(float(shares[i]), float(risks[i])) for i in at.tolist()]
        lines.append(_line(told, points, "solid"))
        if step == steps[-1]:
            ideal = [(float(shares[i]), float(best[i])) for i in at.tolist()]
            lines.append(_line(f"the best possible order{f' of {told}' if frames > 1 else ''}", ideal, "dashed"))
    panel = Panel(
        x=Axis(label="share of questions answered, the surest first", low=0, high=1),
        y=Axis(label="mean relative L2 error of these", scale="log"),
        series=tuple(lines),
    )
    return Figure(caption="Error of what is answered, where the rest is handed to the solver.", panels=(panel,))


def _line(label: str, points: list[tuple[float, float]], line: Literal["solid", "dashed"]) -> Series:
    values = tuple(risk if 0 < risk < _BROKEN else None for _, risk in points)
    return Series(label=label, x=tuple(share for share, _ in points), y=values, marked=False, line=line)
