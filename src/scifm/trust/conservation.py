"""Does it lose what the equation keeps? What answers hold, step by step, beside what they have to hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from scifm.errors import SciFMError
from scifm.fields.batch import Batch
from scifm.fields.norms import integral
from scifm.fields.spectral import spread_of
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.models.rollout import rollout
from scifm.systems.catalog import evolving_of
from scifm.systems.evolving import Evolving
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.wording import plural

__all__ = ["Conservation"]

_DRIFTS = 10.0  # times the truth's own
_BAD = 10.0  # times what is allowed


@dataclass(frozen=True)
class _Kept:
    """One quantity: how far answers are from what they have to hold, and the truth is, over the scale of the quantity.

    Args:
        after: mean over samples after one step from the truth.
        own_after: the same of the truth.
        marched: ``(time,)``, means over the trajectories that stayed within every bound.
        own: the same of the truth.
        allowed: what the largest of them may be.
    """

    after: float
    own_after: float
    marched: Tensor
    own: Tensor
    allowed: float

    @property
    def worst(self) -> float:
        """The largest defect of the answers; NaN where there is one."""
        return float(torch.cat([torch.tensor([self.after], dtype=torch.float64), self.marched]).max())


class Conservation(Check):
    """The operator answers single steps, then marches from unseen first frames as far as trajectories go.

    Looked at are what the system says that it conserves (`Evolving.quantities`), integrals that change by a known
    amount (`Evolving.budgets`), the divergence of fields that have none (`Evolving.solenoidal`), and, of a field that
    is nowhere below zero in the truth, how far answers are below it. Each is measured over its own scale: that of the
    quantity, the integral of |u|, ‖∇v‖ of the answer itself, the largest value of the truth.

    Statistic: the largest defect, of single steps or at any frame of the march, mean over samples, over what is allowed
    of that quantity: `most`, or ten times the solver's own defect, whichever is more. Interval: none.

    Threshold: 1. Bad news from ten times that on. Between the two it is told without a verdict: how much may be lost
    before it matters, the question at hand decides.

    It does not apply where nobody says what is conserved and the truth has both signs.

    Args:
        num_steps: how far it marches at most; None: as far as the trajectories go.
        most: largest defect of a quantity, over its scale, that nobody minds.
    """

    name: ClassVar[str] = "conservation"
    question: ClassVar[str] = "Does it lose what the equation keeps?"
    advice: ClassVar[str] = (
        "Let its answers hold what is known (scifm.models.conserved, or model.hold from training on), or do not use "
        "them where sums matter."
    )

    num_steps: int | None = Field(None, ge=1)
    most: float = Field(1e-3, gt=0, lt=1)
    num_samples: int | None = Field(8, ge=1)

    def ask(self, case: Case) -> Finding:
        names = case.samples.signature
        if not names.evolves or names.state != names.outputs:
            return Finding(said="What it answers does not evolve, so nothing is kept from frame to frame.")
        if case.samples.targets is None:
            return Finding(said="What answers have to hold is seen beside the truth, and these samples have none.")
        try:
            found, num_marched = self._found(case)
        except SciFMError as reason:
            return Finding(said="What is conserved could not be measured.", evidence=str(reason))
        if not found:
            return Finding(said="Nobody says that the equation conserves anything, and the truth has both signs.")
        ratios = {name: kept.worst / kept.allowed for name, kept in found.items()}
        name = max(ratios, key=lambda which: math.inf if math.isnan(ratios[which]) else ratios[which])
        worst = ratios[name]
        good = True if worst <= 1 else False if not worst < _BAD else None
        words = {
            True: "It keeps what the equation keeps.",
            False: f"It loses what the equation keeps: {name}.",
            None: f"It keeps this roughly: {name}.",
        }
        told = "; ".join(_told(name, kept) for name, kept in found.items())
        about = f"{plural(case.samples.num_samples, 'sample')}, {plural(num_marched, 'trajectory', 'trajectories')}"
        return Finding(
            said=words[good],
            evidence=f"{about}, over the scale of each (the solver's own): {told}.",
            good=good,
            statistic=worst if math.isfinite(worst) else None,
            threshold=1.0,
            unit="times what is allowed",
            figure=_figure(found),
        )

    def _found(self, case: Case) -> tuple[dict[str, _Kept], int]:
        """Return every quantity by name, and how many trajectories were marched."""
        operator = case.operator
        truth, system = case.trajectories(self.num_steps)
        system = system or evolving_of(truth)
        frames = list(rollout(operator, truth, truth.num_frames))
        lost = truth.num_frames - len(frames)  # all were lost: the rest is NaN too
        nothing = torch.full_like(truth.require_targets()[:, :lost], math.nan)
        marched = truth.with_targets(torch.cat([*(frame.require_targets() for frame in frames), nothing], dim=1))
        pairs = [(case.samples.with_targets(case.answer), case.samples), (marched, truth)]
        measured = [[_defects(system, each, beside) for each in (answer, beside)] for answer, beside in pairs]
        found = {}
        for name in measured[0][0]:
            after, own_after = (float(values[name].abs().amax(1).mean()) for values in measured[0])
            ours, own = (values[name].abs() for values in measured[1])
            allowed = max(self.most, _DRIFTS * max(own_after, float(own.mean(0).max())))
            stayed = ours.isfinite().all(1)
            if bool(stayed.any()):
                ours, own = ours[stayed], own[stayed]
            found[name] = _Kept(after, own_after, ours.mean(0), own.mean(0), allowed)
        return found, truth.num_samples


def _defects(system: Evolving | None, answer: Batch, truth: Batch) -> dict[str, Tensor]:
    """Return how far answers are from what they have to hold, over its scale, ``(batch, time)`` each, in float64."""
    answer, truth = answer.to(dtype=torch.float64), truth.to(dtype=torch.float64)
    found: dict[str, Tensor] = {}
    if system is not None:
        found |= system.drifts(answer)
        kept = system.kept(truth.grid)  # which the quantities tell already
        for name, values in system.budgets(truth).items():
            if name not in kept:
                size = integral(truth.target(name).abs(), truth.grid)
                found[f"integral of {name}"] = (integral(answer.target(name), truth.grid) - values) / size
        if system.solenoidal:
            together = f"divergence of {', '.join(system.solenoidal)}"
            found[together] = spread_of([answer.target(name) for name in system.solenoidal], truth.grid)
    for name in truth.signature.outputs:
        field = truth.target(name)
        if truth.has((name,)) is None and bool((field >= 0).all()):
            largest = field.flatten(1).amax(1).clamp(min=torch.finfo(field.dtype).tiny)
            below = answer.target(name).flatten(2).amin(2)
            found[f"{name} below zero"] = below.clamp(max=0) / largest[:, None]
    return found


def _told(name: str, kept: _Kept) -> str:
    last = float(kept.marched[-1])
    return (
        f"{name} {kept.after:.2g} after one step ({kept.own_after:.1g}), {last:.2g} at the end of a march of "
        f"{plural(len(kept.marched), 'step')} ({float(kept.own[-1]):.1g})"
    )


def _figure(found: dict[str, _Kept]) -> Figure:
    """Return the defects of a march, a panel a quantity."""

    def curve(label: str, values: Tensor) -> Series:
        y = tuple(float(v) if math.isfinite(v) and v > 0 else None for v in values.tolist())
        return Series(label=label, x=tuple(range(1, len(y) + 1)), y=y)

    panels = tuple(
        Panel(
            title=name,
            x=Axis(label="step"),
            y=Axis(label="defect over its scale", scale="log"),
            series=(curve("operator", kept.marched), curve("solver", kept.own)),
            rules=(Rule(at=kept.allowed, label="what is allowed"),),
        )
        for name, kept in found.items()
    )
    return Figure(caption="What answers hold less what they have to hold, along a march: mean size.", panels=panels)
