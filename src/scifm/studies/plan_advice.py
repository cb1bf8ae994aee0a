"""What a plan says: what to do, in a word or three, as a finding, and as a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.findings.plan import Kind, Outlook, Point, SamplesNeeded, Verdict
from scifm.studies.learning_curves import CurveDraws
from scifm.wording import KIND_NAMES, count_in_words, plural

__all__ = ["KINDS", "advise", "plan_figure"]

KINDS: tuple[Kind, ...] = ("few_shot", "from_scratch")
_MIN_EFFECTIVE_DRAWS = 50.0
_WIDE = 30.0  # an interval whose ends differ by more than this factor names no number
_FAR = 100.0  # times the samples at hand; beyond, two decades of extrapolation from less than one
_SURE = 0.9
_NUM_DRAWN = 40  # places at which a predicted curve is drawn


def advise(
    outlooks: Mapping[Kind, Outlook],
    draws: Mapping[Kind, CurveDraws],
    target: float,
    num_samples: int,
    zero_shot: float | None,
) -> tuple[Verdict, Finding]:
    """Say what to do: in a word or three, and as a finding with the need it rests on.

    Args:
        outlooks: of both kinds.
        draws: possible learning curves of those kinds that could be measured.
        target: error wanted.
        num_samples: samples there are.
        zero_shot: error of the pre-trained operator as it is; None where it cannot be asked.
    """
    if zero_shot is not None and zero_shot <= target:
        how = f"without any training the pre-trained operator's error on your {plural(num_samples, 'sample')}"
        return _reached(f"{how} is {zero_shot:.3g}")
    ways: dict[Kind, str] = {"few_shot": "fine-tuned", "from_scratch": "trained from scratch"}
    for way, how in ways.items():
        own = outlooks[way]
        if own.current_error is not None and own.current_error <= target:
            how = f"{how} on {own.num_trained_samples} of your samples, the error on those held out"
            return _reached(f"{how} is {own.current_error:.3g}")
    kind: Kind = "few_shot"
    name = "Fine-tuning"
    probability, worth = _worth(draws, outlooks["from_scratch"].need, target, num_samples)
    if probability is not None and probability <= 1 - _SURE:
        kind, name = "from_scratch", "Training from scratch"
    need, why = outlooks[kind].need, _why_not(outlooks[kind], target, name)
    if need is None or why:
        return "cannot be told", _finding("How many samples are needed cannot be told.", why, good=False)
    return _collect(need, name, num_samples, worth)


def _reached(how: str) -> tuple[Verdict, Finding]:
    return "reached", _finding(f"The target is already reached: {how}. No more samples are needed.", good=True)


def _finding(said: str, why: str = "", need: SamplesNeeded | None = None, good: bool | None = None) -> Finding:
    numbers: dict[str, Any] = {}
    if need is not None:
        numbers = {"statistic": need.median, "low": need.low, "high": need.high, "unit": "samples"}
    return Finding(name="samples needed", said=said, evidence=why, good=good, **numbers)


def _why_not(outlook: Outlook, target: float, name: str) -> str:
    """Return why no number can be said; empty where one can."""
    if outlook.need is None or outlook.effective_draws is None:
        return f"{name} diverged at too many of the sizes tried. Give smaller learning rates."
    if outlook.effective_draws < _MIN_EFFECTIVE_DRAWS:
        return (
            "The measured errors do not look like a learning curve as they are known (they jump, rise with more "
            "samples, or stay what they are). Look at the points in plan.json. If fine-tuning stays at the zero-shot "
            "error, no training beat the pre-trained operator: train longer, or at larger learning rates (--set "
            "adapt.training.num_steps=1000, --set adapt.learning_rates=[1e-2,3e-2]). Else collect some more samples "
            "and ask again."
        )
    if outlook.need.median is None:
        return (
            f"{name} reaches {target:g} at no number of samples in {100 * (1 - outlook.need.reachable):.0f} % of the "
            "learning curves that agree with what was measured. A larger or longer trained operator, or one "
            "pre-trained nearer to your system, may help more than samples."
        )
    return ""


def _collect(need: SamplesNeeded, name: str, num_samples: int, worth: str) -> tuple[Verdict, Finding]:
    median, low, high = (_further(count, num_samples) for count in (need.median, need.low, need.high))
    between = f"{100 * need.level:.0f} % interval {count_in_words(low)} to {count_in_words(high)}"
    if median < 1:
        return "collect", _finding(f"Nearly there: a few more samples should do ({between}). {worth}", need=need)
    if high <= _WIDE * max(low, num_samples) and median <= _FAR * num_samples:
        return "collect", _finding(
            f"Collect about {count_in_words(median)} more samples ({between}). {worth}", need=need
        )
    said = (
        f"{name} may need about {count_in_words(median)} more samples ({between}), too wide to plan by. Collect "
        f"{count_in_words(max(low, num_samples))} more first, and ask again with them. {worth}"
    )
    return "collect and ask again", _finding(said, need=need)


def _further(needed: float | None, num_samples: int) -> float:
    return math.inf if needed is None else max(0.0, math.ceil(needed) - num_samples)


def _worth(
    draws: Mapping[Kind, CurveDraws], scratch_need: SamplesNeeded | None, target: float, num_samples: int
) -> tuple[float | None, str]:
    """Return how probably fine-tuning needs fewer samples than training from scratch, and a sentence about it."""
    if scratch_need is None or len(draws) < 2:
        return None, "Training from scratch could not be measured beside it."
    ours, theirs = draws["few_shot"].needed(target), draws["from_scratch"].needed(target)
    decided = ~(np.isinf(ours) & np.isinf(theirs))
    if not decided.any():
        return None, "Neither fine-tuning nor training from scratch seems to reach it."
    probability = float((ours < theirs)[decided].mean())
    scratch = "more than can be told, if it gets there at all"
    if scratch_need.median is not None:
        scratch = f"about {count_in_words(_further(scratch_need.median, num_samples))} more"
    if probability >= _SURE:
        return probability, f"Pre-training is worth it: from scratch it takes {scratch}."
    if probability <= 1 - _SURE:
        return probability, f"Pre-training is not worth it here: train from scratch, which takes {scratch}."
    doubt = f"Whether pre-training needs fewer samples is not sure (probability {probability:.2f})"
    return probability, f"{doubt}: from scratch it takes {scratch}."


def plan_figure(
    points: Sequence[Point],
    draws: Mapping[Kind, CurveDraws],
    target: float,
    num_samples: int,
    level: float,
    zero_shot: float | None,
) -> Figure | None:
    """Return the errors measured, those predicted for more samples and the target; None where none was measured."""
    measured = [point for point in points if point.relative_l2 is not None]
    if not measured:
        return None
    counts = np.geomspace(min(point.num_samples for point in measured), _FAR * num_samples, _NUM_DRAWN)
    shares = (0.5, (1 - level) / 2, (1 + level) / 2)
    series = []
    for place, kind in enumerate(KINDS):
        name = KIND_NAMES[kind]
        ours = [point for point in measured if point.kind == kind]
        x, y = tuple(float(p.num_samples) for p in ours), tuple(p.relative_l2 for p in ours)
        series.append(Series(label=f"{name}, measured", x=x, y=y, joined=False, place=place))
        if kind in draws:
            center, low, high = np.array([np.quantile(draws[kind].errors(n), shares) for n in counts]).T.tolist()
            curve = {"x": counts.tolist(), "y": center, "low": low, "high": high}
            series.append(Series(label=f"{name}, predicted", **curve, marked=False, place=place))
    level_of = [] if zero_shot is None else [(zero_shot, "zero-shot (no sample)")]
    panel = Panel(
        x=Axis(label="number of samples trained on", scale="log", form="count"),
        y=Axis(label="relative L2 error", scale="log"),
        series=tuple(series),
        rules=(
            Rule(at=target, label=f"error wanted, {target:g}", place=3),
            *(Rule(at=error, label=label, line="dashed", place=2) for error, label in level_of),
            Rule(at=num_samples, crosses="x", label=plural(num_samples, "sample") + " at hand", line="dotted", place=4),
        ),
    )
    caption = (
        f"Errors on held-out samples, and those of the next training on more: median and {100 * level:.0f} % interval "
        "of the learning curves that agree with what was measured."
    )
    return Figure(caption=caption, panels=(panel,))
