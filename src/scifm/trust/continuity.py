"""Has it learned a continuous operator, or a map of the step it was trained with? Finer steps must be as right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from scifm.errors import SciFMError
from scifm.evaluation.evaluate import ratio_of_means
from scifm.fields.batch import Batch
from scifm.fields.norms import VANISHES, l2_norm
from scifm.fields.window import are_within, told_times
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.models.architecture import Stepped
from scifm.models.operator import Operator
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.wording import plural

__all__ = ["Continuity"]

_FACTORS = (2, 4, 8)


class Continuity(Check):
    """The same weights go to the same time in finer steps, and the answer is held against the truth again.

    Of an operator that follows a rate of change (`scifm.models.architecture.Stepped`) steps of its scheme are made 2, 4
    and 8 times as fine, and the finest are asked by the other schemes too. Of one that is told how far ahead it looks
    the time is gone in 2 and 4 parts, as far as it was trained at such short times.

    Errors are those of the change: ‖answer − truth‖/‖truth − last frame‖, so 1 is what standing still has; of steady
    problems, whose depth is the time, ‖answer − truth‖/‖truth‖.

    Statistic: mean error in the finest steps over that in its own. Errors below `least` count as that. Interval:
    bootstrap over samples, 95 %.

    Threshold: `most`. What learned a rate of change keeps its error, up to the part in which its scheme was wrong; what
    learned a map of its step has a larger one as soon as the step is another one: Krishnapriyan, Queiruga, Erichson,
    Mahoney, arXiv:2202.08494. Where its own error is one or more nothing was learned that could be lost, and nothing
    is judged. An error of training that is larger than what the scheme is wrong by hides the difference.

    Of an operator that answers the next state alone it cannot be asked, and the finding says so.

    Args:
        most: threshold.
        least: errors below are nobody's concern.
    """

    name: ClassVar[str] = "continuity"
    question: ClassVar[str] = "Is what it learned a continuous operator, as right in finer steps as in its own?"
    advice: ClassVar[str] = "Ask it in its own steps alone, or train it by a scheme of higher order or in more steps."

    most: float = Field(2.0, gt=1)
    least: float = Field(1e-3, gt=0, lt=1)
    num_samples: int | None = Field(32, ge=1)

    def ask(self, case: Case) -> Finding:
        case = replace(case, samples=_first_answers(case.samples))
        ways = _steps_of(case) if isinstance(case.operator, Stepped) else _parts_of(case)
        if isinstance(ways, str):
            return Finding(said="The question does not apply.", evidence=ways)
        case, asked, others = ways
        errors: dict[int, Tensor] = {}
        for factor, answer in asked.items():
            if len(errors) > 1 and case.seconds_left <= 0:
                break
            try:
                errors[factor] = _errors(answer(), case.samples)
            except SciFMError as reason:
                return Finding(said="It could not be asked in finer steps.", evidence=str(reason))
        finest = max(errors)
        told = {name: _errors(answer(), case.samples) for name, answer in others.items()}
        known = ~(errors[1].isnan() | errors[finest].isnan())
        if not known.any():
            return Finding(said="The truth stands still in every sample: there is no change to be right about.")
        return self._judged(case, errors, told, known)

    def _judged(self, case: Case, errors: dict[int, Tensor], told: dict[str, Tensor], known: Tensor) -> Finding:
        finest, means = max(errors), {factor: float(values[known].mean()) for factor, values in errors.items()}
        own, fine = (errors[factor][known].clamp(min=self.least) for factor in (1, finest))
        ratio, low, high = ratio_of_means(fine, own, generator=case.generator)
        evidence = (
            f"Mean error{' of the change' if case.samples.signature.evolves else ''}, "
            f"{plural(int(known.sum()), 'sample')}: {means[1]:.3g} in its own steps, "
            + ", ".join(f"{means[factor]:.3g} in {factor} times as fine" for factor in errors if factor > 1)
            + "".join(f", {float(values[known].mean()):.3g} in the finest by {name}" for name, values in told.items())
            + "."
        )
        if means[finest] == float("inf"):
            broken = plural(int(errors[finest].isinf().sum()), "answer")
            return Finding(
                said="In finer steps it does not answer with finite numbers.",
                evidence=f"{broken} of {len(known)} are NaN or infinite in steps {finest} times as fine.",
                good=False,
            )
        if means[1] >= 1:
            return Finding(said="It is wrong in its own steps already; finer ones tell nothing.", evidence=evidence)
        good = ratio <= self.most
        return Finding(
            said="Finer steps are as right as its own: it learned a rate of change."
            if good
            else "In finer steps it is wrong: what it learned is a map of the step it was trained with.",
            evidence=evidence,
            good=good,
            statistic=ratio,
            low=low,
            high=high,
            threshold=self.most,
            unit=f"error in steps {finest} times as fine over that in its own",
            advice=""
            if isinstance(case.operator, Stepped) or good
            else "Ask for a time at once, and not in parts of it.",
            figure=_figure(means, {name: float(values[known].mean()) for name, values in told.items()}, self.most),
        )


Answers = dict[int, Callable[[], Tensor]]


def _first_answers(samples: Batch) -> Batch:
    """Return the samples with the first of their answers alone."""
    targets, valid, times = (
        part if part is None else part[:, :1] for part in (samples.targets, samples.valid_targets, samples.lead_time)
    )
    return replace(samples, targets=targets, valid_targets=valid, lead_time=times)


def _steps_of(case: Case) -> tuple[Case, Answers, dict[str, Callable[[], Tensor]]]:
    """Return how a rate of change is asked in its own steps and in finer ones, and these by other schemes."""
    operator = case.operator
    assert isinstance(operator, Stepped)
    own = operator.num_steps

    def asked(factor: int, scheme: str | None = None) -> Callable[[], Tensor]:
        def answer() -> Tensor:
            assert isinstance(operator, Stepped)
            other = operator.stepped(scheme=scheme, num_steps=factor * own)
            assert isinstance(other, Operator)
            return other.answers(case.samples).require_targets()

        return answer

    others = {scheme: asked(_FACTORS[-1], scheme) for scheme in ("midpoint", "rk4")}
    return case, {factor: asked(factor) for factor in (1, *_FACTORS)}, others


def _parts_of(case: Case) -> tuple[Case, Answers, dict[str, Callable[[], Tensor]]] | str:
    """Return how one that is told the time goes in parts of it, with the samples it can; or why it cannot."""
    operator, samples = case.operator, case.samples
    names = samples.signature
    if not names.evolves:
        return "It answers what does not evolve, at once: there are no steps to be made finer."
    known = operator.domain.lead_times
    if not operator.sees_lead_time or samples.lead_time is None:
        told = "" if known is None else f", {told_times(known)} later,"
        return (
            f"It answers the next state{told} and nothing between: it has no rate of change, and a map of one step is "
            "bound to that step by its making."
        )
    if operator.history > 1 or names.state != names.outputs:
        return "It cannot go a part of its time: that takes one input frame, and states alone as answers."
    factors, times = [1], samples.lead_time[:, 0]
    for factor in _FACTORS[:2]:
        fits = [known is None or are_within((float(t) / factor,) * 2, known) for t in times]
        if any(fits):
            factors.append(factor)
            keep = torch.tensor(fits)
    if len(factors) == 1:
        assert known is not None
        return f"It was trained at lead times of {told_times(known)}, and none of the samples' has a half among them."
    case = replace(case, samples=samples.select(keep.nonzero().flatten()))
    return case, {factor: _in_parts(case, factor) for factor in factors}, {}


def _in_parts(case: Case, factor: int) -> Callable[[], Tensor]:
    lead = case.samples.lead_time
    assert lead is not None
    times = lead * torch.arange(1, factor + 1).to(lead) / factor
    question = replace(case.samples, targets=None, valid_targets=None, lead_time=times)
    return lambda: case.operator.answers(question).require_targets()[:, -1:]


def _errors(answer: Tensor, samples: Batch) -> Tensor:
    """Return the error of each sample over the size of what had to be found out; NaN for none, infinite for no number.

    Of several outputs each counts in units of its own.
    """
    grid, truth, names = samples.grid, samples.require_targets().double(), samples.signature
    known = torch.zeros_like(truth)
    for place, name in enumerate(names.outputs):
        if name in names.state:
            known[:, :, place] = samples.inputs[:, -1:, names.inputs.index(name)]
    size, off = l2_norm(truth - known, grid), l2_norm(answer.double() - truth, grid)
    moves = size > VANISHES * l2_norm(truth, grid)
    relative = torch.where(moves, off / torch.where(moves, size, 1.0), 0.0).flatten(1).sum(1)
    counted = moves.flatten(1).sum(1)  # none where nothing moves: the mean is then NaN
    broken = ~answer.isfinite().flatten(1).all(1)
    return torch.where(broken, torch.inf, relative / counted)


def _figure(means: dict[int, float], told: dict[str, float], most: float) -> Figure:
    def height(value: float) -> float | None:
        return value if 0 < value < float("inf") else None

    places = tuple(1 / factor for factor in means)
    series = [Series(label="its own scheme", x=places, y=tuple(map(height, means.values())))]
    series += [
        Series(label=f"{name}, finest steps", x=places[-1:], y=(height(value),), joined=False)
        for name, value in told.items()
    ]
    shown = [value for value in (*means.values(), *told.values()) if height(value)]
    ends = {"low": min(shown) / 3, "high": 3 * max(shown)} if shown else {}  # what hardly differs looks so
    rules = (Rule(at=most * means[1], label="most that is allowed"),) if means[1] > 0 else ()
    panel = Panel(
        x=Axis(label="step, over its own", scale="log", ticks=places[::-1]),
        y=Axis(label="mean error", scale="log", **ends),
        series=tuple(series),
        rules=rules,
    )
    return Figure(caption="Error at the same time in finer steps; the rightmost is its own.", panels=(panel,))
