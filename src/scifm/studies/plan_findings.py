"""What to do, in words and as a figure, once the need of samples is known with its doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scifm.findings import plan as plans
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.studies.learning_curves import CurveDraws, Need
from scifm.wording import count_in_words, plural

__all__ = ["Advice", "Outlook", "advise", "learning_curves_figure"]

_MIN_EFFECTIVE_DRAWS = 50.0
_WIDE = 30.0  # an interval whose ends differ by more than this factor names no number
_FAR = 100.0  # times the samples at hand; beyond, two decades of extrapolation from less than one
_SURE = 0.9
_NUM_DRAWN = 40  # places at which a predicted curve is drawn


@dataclass(frozen=True)
class Outlook:
    """Where one kind of training stands and what it needs; all None where it could not be measured.

    Args:
        num_samples: the most samples it was trained on.
        error: mean error then.
        need: samples in all for the target.
        draws: possible learning curves.
    """

    num_samples: int | None
    error: float | None
    need: Need | None
    draws: CurveDraws | None

    def told(self) -> plans.Outlook:
        """Return what is known to be written down; the draws are left out."""
        return plans.Outlook(
            num_trained_samples=self.num_samples,
            current_error=self.error,
            need=None if self.need is None else plans.SamplesNeeded(**self.need.to_dict()),
            effective_draws=None if self.draws is None else self.draws.effective,
        )


@dataclass(frozen=True)
class Advice:
    """A recommendation.

    Args:
        verdict: ``reached``, ``collect``, ``collect and ask again`` or ``cannot be told``.
        said: the same in words, with the numbers.
        need: what it rests on.
        why: the reason, where no number can be said.
    """

    verdict: plans.Verdict
    said: str
    need: Need | None = None
    why: str = ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The same as findings."""
        good = {"reached": True, "cannot be told": False}.get(self.verdict)
        numbers: dict[str, Any] = {}
        if self.need is not None:
            needed = self.need.to_dict()
            numbers = {"statistic": needed["median"], "low": needed["low"], "high": needed["high"], "unit": "samples"}
        return (Finding(name="samples needed", said=self.said, evidence=self.why, good=good, **numbers),)


def advise(few_shot: Outlook, from_scratch: Outlook, target: float, num_samples: int, zero_shot: float) -> Advice:
    """Say what to do.

    Args:
        few_shot: of fine-tuning.
        from_scratch: of training from scratch.
        target: error wanted.
        num_samples: samples there are.
        zero_shot: error of the pre-trained operator as it is.
    """
    if zero_shot <= target:
        return Advice(
            "reached",
            f"The target is already reached: without any training the pre-trained operator's error on your "
            f"{plural(num_samples, 'sample')} is {zero_shot:.3g}. No more samples are needed.",
        )
    for name, outlook in (("fine-tuned", few_shot), ("trained from scratch", from_scratch)):
        if outlook.error is not None and outlook.error <= target:
            return Advice(
                "reached",
                f"The target is already reached: {name} on {outlook.num_samples} of your samples, the error on those "
                f"held out is {outlook.error:.3g}. No more samples are needed.",
            )
    best, name = (few_shot, "Fine-tuning")
    worth = _worth(few_shot, from_scratch, target, num_samples)
    if worth.probability is not None and worth.probability <= 1 - _SURE:
        best, name = (from_scratch, "Training from scratch")
    reason = _why_not(best, target, name)
    if reason is not None:
        return Advice("cannot be told", "How many samples are needed cannot be told.", why=reason)
    assert best.need is not None
    return _collect(best.need, name, num_samples, worth.told)


def _why_not(outlook: Outlook, target: float, name: str) -> str | None:
    if outlook.need is None or outlook.draws is None:
        return f"{name} diverged at too many of the sizes tried. Give smaller learning rates."
    if outlook.draws.effective < _MIN_EFFECTIVE_DRAWS:
        return (
            "The measured errors do not look like a learning curve as they are known (they jump, rise with more "
            "samples, or stay what they are). Look at the points in plan.json. If fine-tuning stays at the zero-shot "
            "error, no training beat the pre-trained operator: give larger learning rates (--set "
            "adapt.learning_rates=[1e-3,1e-2]). Else collect some more samples and ask again."
        )
    if math.isinf(outlook.need.median):
        return (
            f"{name} reaches {target:g} at no number of samples in {100 * (1 - outlook.need.reachable):.0f} % of the "
            "learning curves that agree with what was measured. A larger or longer trained operator, or one "
            "pre-trained nearer to your system, may help more than samples."
        )
    return None


def _collect(need: Need, name: str, num_samples: int, worth: str) -> Advice:
    median, low, high = (_further(count, num_samples) for count in (need.median, need.low, need.high))
    between = f"{100 * need.level:.0f} % interval {count_in_words(low)} to {count_in_words(high)}"
    if median < 1:
        return Advice("collect", f"Nearly there: a few more samples should do ({between}). {worth}", need)
    if high <= _WIDE * max(low, num_samples) and median <= _FAR * num_samples:
        return Advice("collect", f"Collect about {count_in_words(median)} more samples ({between}). {worth}", need)
    return Advice(
        "collect and ask again",
        f"{name} may need about {count_in_words(median)} more samples ({between}), too wide to plan by. Collect "
        f"{count_in_words(max(low, num_samples))} more first, and ask again with them. {worth}",
        need,
    )


def _further(needed: float, num_samples: int) -> float:
    return max(0.0, math.ceil(needed) - num_samples) if math.isfinite(needed) else math.inf


@dataclass(frozen=True)
class _Worth:
    probability: float | None
    told: str


def _worth(few_shot: Outlook, from_scratch: Outlook, target: float, num_samples: int) -> _Worth:
    """Say whether fine-tuning needs fewer samples than training from scratch, and how surely."""
    if few_shot.draws is None or from_scratch.draws is None or from_scratch.need is None:
        return _Worth(None, "Training from scratch could not be measured beside it.")
    ours, theirs = few_shot.draws.needed(target), from_scratch.draws.needed(target)
    decided = ~(np.isinf(ours) & np.isinf(theirs))
    if not decided.any():
        return _Worth(None, "Neither fine-tuning nor training from scratch seems to reach it.")
    probability = float((ours < theirs)[decided].mean())
    median = from_scratch.need.median
    if math.isfinite(median):
        scratch = f"about {count_in_words(_further(median, num_samples))} more"
    else:
        scratch = "more than can be told, if it gets there at all"
    if probability >= _SURE:
        return _Worth(probability, f"Pre-training is worth it: from scratch it takes {scratch}.")
    if probability <= 1 - _SURE:
        return _Worth(probability, f"Pre-training is not worth it here: train from scratch, which takes {scratch}.")
    return _Worth(
        probability,
        f"Whether pre-training needs fewer samples is not sure (probability {probability:.2f}): from scratch it takes "
        f"{scratch}.",
    )


def learning_curves_figure(
    points: Sequence[plans.Point],
    outlooks: Mapping[plans.Kind, Outlook],
    target: float,
    num_samples: int,
    level: float,
    zero_shot: float,
) -> Figure | None:
    """Return the errors measured and those predicted for more samples, with the target; None where none was measured.

    Args:
        points: the errors measured.
        outlooks: possible curves, by kind.
        target: error wanted.
        num_samples: samples there are.
        level: probability of the band.
        zero_shot: error of the pre-trained operator as it is.
    """
    measured = [point for point in points if point.relative_l2 is not None]
    if not measured:
        return None
    names: dict[plans.Kind, str] = {"few_shot": "fine-tuned", "from_scratch": "from scratch"}
    counts = np.geomspace(min(point.num_samples for point in measured), _FAR * num_samples, _NUM_DRAWN)
    shares = (0.5, (1 - level) / 2, (1 + level) / 2)
    series = []
    for place, (kind, name) in enumerate(names.items()):
        ours = [point for point in measured if point.kind == kind]
        x, y = tuple(float(p.num_samples) for p in ours), tuple(p.relative_l2 for p in ours)
        series.append(Series(label=f"{name}, measured", x=x, y=y, joined=False, place=place))
        draws = outlooks[kind].draws
        if draws is not None:
            center, low, high = np.array([np.quantile(draws.errors(n), shares) for n in counts]).T.tolist()
            curve = {"x": counts.tolist(), "y": center, "low": low, "high": high}
            series.append(Series(label=f"{name}, predicted", **curve, marked=False, place=place))
    panel = Panel(
        x=Axis(label="number of samples trained on", scale="log", form="count"),
        y=Axis(label="relative L2 error", scale="log"),
        series=tuple(series),
        rules=(
            Rule(at=target, label=f"error wanted, {target:g}", place=3),
            Rule(at=zero_shot, label="zero-shot (no sample)", line="dashed", place=2),
            Rule(at=num_samples, crosses="x", label=plural(num_samples, "sample") + " at hand", line="dotted", place=4),
        ),
    )
    caption = (
        f"Errors on held-out samples, and those of the next training on more: median and {100 * level:.0f} % interval "
        "of the learning curves that agree with what was measured."
    )
    return Figure(caption=caption, panels=(panel,))
