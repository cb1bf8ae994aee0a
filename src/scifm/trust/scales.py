"""In which scales is the answer right? An error of two percent can be all of the small ones."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field

from scifm.evaluation.spectra import energy_spectrum
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.wording import plural

__all__ = ["Scales"]


class Scales(Check):
    """Energy of the error by wavenumber, over that of the truth: where it is one, nothing is as good an answer.

    Energies are means over samples, frames and fields, each field in units of its own mean square; shells are those of
    `scifm.evaluation.spectra`. Looked at are those which hold at least `least_share` of the truth's energy outside of
    the mean: what holds less is not seen in any error, nor needed.

    Statistic: √(energy of the error / energy of the truth), the largest of these shells. Interval: none.

    Threshold: 1, the error of answering nothing at that scale. Bad news is a shell above it.

    Args:
        least_share: of the energy, of shells that are looked at.
    """

    name: ClassVar[str] = "scales"
    question: ClassVar[str] = "Is the answer better than nothing at every scale that the truth has?"
    advice: ClassVar[str] = "Filter the answer above that wavenumber, and take no derivatives of it."

    least_share: float = Field(1e-3, gt=0, lt=1)
    num_samples: int | None = Field(64, ge=1)

    def ask(self, case: Case) -> Finding:
        grid, truth = case.samples.grid, case.samples.require_targets().double()
        answer = case.answer.double()
        spectra = [energy_spectrum(fields, grid).mean((0, 1)) for fields in (truth, answer - truth)]  # (field, shell)
        size = truth.square().mean((0, 1)).flatten(1).mean(1)
        units = torch.where(size > 0, 1 / size, 0.0)[:, None]
        whole, off = ((spectrum * units).sum(0) for spectrum in spectra)
        if not whole.sum() > 0:
            return Finding(said="The truth does not vary in space: there are no scales to tell apart.")
        seen = whole >= self.least_share * whole.sum()
        errors = (off / whole).sqrt()
        worst = int(torch.where(seen, errors, -math.inf).argmax())
        first = next((k for k in range(len(errors)) if seen[k] and errors[k] >= 1), None)
        good = first is None
        looked_at = f"{plural(int(seen.sum()), 'shell')} of {len(errors)} hold {self.least_share:g} of the energy each"
        return Finding(
            said="The answer is better than nothing at every scale that the truth has."
            if good
            else f"From {plural(first + 1, 'wave')} along a side on, the answer is no better than nothing.",  # type: ignore[operator]
            evidence=f"{looked_at}; the error is largest at {plural(worst + 1, 'wave')} along a side, "
            f"{float(errors[worst]):.3g} of the truth, and {float((off.sum() / whole.sum()).sqrt()):.3g} over all.",
            good=good,
            statistic=float(errors[worst]),
            threshold=1.0,
            unit="error over truth, in the worst shell",
            figure=_figure(whole, off, self.least_share),
        )


def _figure(whole: torch.Tensor, off: torch.Tensor, least_share: float) -> Figure:
    x = tuple(range(1, len(whole) + 1))
    series = tuple(
        Series(label=label, x=x, y=tuple(v if v > 0 else None for v in energy.tolist()))
        for label, energy in (("truth", whole), ("error of the answer", off))
    )
    axes = Axis(label="waves along a side", scale="log"), Axis(label="energy, of the mean square", scale="log")
    rule = Rule(at=least_share * float(whole.sum()), label="least that is looked at", line="dotted")
    panel = Panel(x=axes[0], y=axes[1], series=series, rules=(rule,))
    return Figure(caption="Energy of truth and error by wavenumber, means over samples and fields.", panels=(panel,))
