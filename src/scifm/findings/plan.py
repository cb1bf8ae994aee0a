"""What a plan tells: how many more samples a target error needs, and whether pre-training is worth it.

`plan` of the room `studies` returns one of these and leaves it as ``plan.json``; the report draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from scifm.findings.figure import Figure
from scifm.findings.finding import Finding
from scifm.findings.part import Number, Part

__all__ = ["Kind", "Outlook", "Plan", "Point", "SamplesNeeded", "Verdict"]

Kind = Literal["few_shot", "from_scratch"]
Verdict = Literal["reached", "collect", "collect and ask again", "cannot be told"]


class SamplesNeeded(Part):
    """How many samples a target error needs, in all; None where it is reached at no number.

    Args:
        median: half of the possible curves need fewer.
        low: lower end of the central interval.
        high: its upper end.
        level: probability of the interval.
        reachable: probability that the target is reached at any number of samples.
    """

    median: Number = None
    low: Number = None
    high: Number = None
    level: float
    reachable: float


class Outlook(Part):
    """Where one kind of training stands and what it needs; all None where it could not be measured.

    Args:
        num_trained_samples: the most samples it was trained on.
        current_error: mean error then.
        need: samples in all for the target.
        effective_draws: how many learning curves carry what is believed; a few mean that the points are no such curve.
    """

    num_trained_samples: int | None = None
    current_error: Number = None
    need: SamplesNeeded | None = None
    effective_draws: Number = None


class Point(Part):
    """One operator trained on some of the few samples and scored on those held out.

    Args:
        kind: ``few_shot`` (fine-tuned) or ``from_scratch``.
        num_samples: samples trained on; of trajectories, whole ones.
        repeat: which split.
        relative_l2: mean error on the samples held out; None where training diverged.
        errors: of each of them, the mean over its windows; empty where training diverged.
        held_out: which they are, counted through all splits of the store.
        run: folder of the run, relative to the plan's; None where training diverged.
    """

    kind: Kind
    num_samples: int
    repeat: int
    relative_l2: Number = None
    errors: tuple[float, ...] = ()
    held_out: tuple[int, ...] = ()
    run: str | None = None


class Plan(Part):
    """``plan.json``.

    Args:
        target_error: mean relative L2 error wanted.
        num_samples: samples there are; of trajectories, whole ones.
        zero_shot: error of the pre-trained operator as it is, on all of them; None where it does not know their names.
        few_shot: current error and need of samples, fine-tuned.
        from_scratch: the same without pre-training.
        verdict: what to do, in a word or three.
        findings: what to do and whether pre-training is worth it, in sentences with their numbers.
        figure: the learning curves, measured and predicted; None where nothing was trained.
        points: the numbers behind it.
        parent: folder of the pre-trained operator.
        store: folder of the samples.
        level: probability of the intervals.
        priors: what was believed before, by kind.
        seconds: wall time over all sittings.
    """

    target_error: float
    num_samples: int
    zero_shot: Number = None
    few_shot: Outlook = Outlook()
    from_scratch: Outlook = Outlook()
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    figure: Figure | None = None
    points: tuple[Point, ...] = ()
    parent: str = ""
    store: str = ""
    level: float | None = None
    priors: Mapping[str, Mapping[str, tuple[float, float] | float | None]] = Field(default_factory=dict)
    seconds: Number = None

    def outlook(self, kind: Kind) -> Outlook:
        """Return the outlook of one kind of training."""
        return self.few_shot if kind == "few_shot" else self.from_scratch
