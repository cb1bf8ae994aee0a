"""How many steps ahead can it be trusted? A march is judged frame by frame beside the truth."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from scifm.errors import SciFMError
from scifm.evaluation.forecast import Forecast, judge
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.wording import plural

__all__ = ["LeadTimes"]

_LEAST_DRIFT = 1e-3  # of its scale: less is nobody's concern
_DRIFTS = 10.0  # times the truth's own


class LeadTimes(Check):
    """The operator marches from the first frames of unseen trajectories, `num_steps` far or as far as these go.

    A step can be used as long as, there and at every step before it, the mean VRMSE over trajectories and fields is at
    most `most`, it is lower than that of persistence, and no forecast has left every bound.

    Statistic: the number of steps that can be used. Interval: none.

    Threshold: the number of steps marched. Good news where all of them can be used, bad where the first cannot. Between
    the two it is told without a verdict: the number is the answer. What the system conserves is told beside it: a
    quantity that drifts ten times as much as the solver's own truth, and more than a thousandth of its scale, is named.

    It needs trajectories: samples that come from one evolving system that is known, or from a store.

    Args:
        num_steps: how far at most; None: as far as the trajectories go.
        most: largest mean VRMSE of a step that can be used; 1 is what answering the mean of every frame has.
    """

    name: ClassVar[str] = "lead_times"
    question: ClassVar[str] = "How many steps ahead can it be used?"

    num_steps: int | None = Field(None, ge=1)
    most: float = Field(0.5, gt=0, lt=1)
    num_samples: int | None = Field(8, ge=1)

    def ask(self, case: Case) -> Finding:
        names = case.samples.signature
        if not names.evolves or names.state != names.outputs:
            return Finding(said="What it answers does not evolve, so there is nothing to march.")
        try:
            truth, system = case.trajectories(self.num_steps)
            if case.origin is None and truth.num_frames == 1:
                return Finding(said="These are single steps, and where their trajectories are is not known.")
            found = judge(case.operator, truth, system=system)
        except SciFMError as reason:
            return Finding(said="No trajectory could be marched.", evidence=str(reason))
        usable = self._usable(found)
        good = True if usable == found.num_steps else False if not usable else None
        times = [0.0, *found.times]
        words = {
            True: f"All {plural(found.num_steps, 'step')} that were looked at can be used.",
            False: "Not even its first step can be used.",
            None: f"Do not use it beyond step {usable}, time {times[usable]:.4g}.",
        }
        lost = int((found.lost_at > 0).sum())
        own, still = found.curve("vrmse"), found.baseline("persistence", "vrmse")
        evidence = (
            f"{plural(len(found.lost_at), 'trajectory', 'trajectories')}, {plural(found.num_steps, 'step')}: mean "
            f"VRMSE {own[0]:.3g} at the first, {own[-1]:.3g} at the last; persistence {still[0]:.3g} and "
            f"{still[-1]:.3g}; "
            f"{lost or 'none'} left every bound.{_drifts(found)}"
        )
        return Finding(
            said=words[good],
            evidence=evidence,
            good=good,
            statistic=float(usable),
            threshold=float(found.num_steps),
            unit="steps that can be used",
            advice="" if good else "Stop there, start anew from a known state, or train with unrolled steps or noise.",
            figure=_figure(found, self.most),
        )

    def _usable(self, found: Forecast) -> int:
        """Return how many steps can be used."""
        own, still = found.curve("vrmse"), found.baseline("persistence", "vrmse")
        fine = [math.isfinite(e) and e <= self.most and not e >= p for e, p in zip(own, still, strict=True)]
        lost = [int(step) for step in found.lost_at.tolist() if step]
        first = fine.index(False) if False in fine else len(fine)
        return min([first, *(step - 1 for step in lost)])


def _drifts(found: Forecast) -> str:
    """Return the quantities that the operator loses and the solver keeps, in words."""
    told = []
    for name, values in found.drifts.items():
        kept = found.lost_at == 0  # what is lost has no quantities any more
        ours, own = (float(v[:, -1][kept].abs().mean()) for v in (values, found.own_drifts[name]))
        if ours > max(_LEAST_DRIFT, _DRIFTS * own):
            told.append(f"{name} by {ours:.2g} of its scale (the solver by {own:.1g})")
    return f" It does not conserve: {', '.join(told)}." if told else ""


def _figure(found: Forecast, most: float) -> Figure:
    steps = tuple(range(1, found.num_steps + 1))

    def series(label: str, values: list[float]) -> Series:
        return Series(label=label, x=steps, y=tuple(v if math.isfinite(v) and v > 0 else None for v in values))

    lines = (series("operator", found.curve("vrmse")), series("persistence", found.baseline("persistence", "vrmse")))
    panel = Panel(
        x=Axis(label="step"),
        y=Axis(label="mean VRMSE", scale="log"),
        series=lines,
        rules=(Rule(at=most, label="largest that can be used"),),
    )
    return Figure(caption="Error of a march, step by step, mean over trajectories and fields.", panels=(panel,))
