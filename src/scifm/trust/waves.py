"""Which waves of the answer are right, and what does it make of those that only a finer grid holds?"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from scifm.errors import SciFMError
from scifm.evaluation.forecast import spectral_error
from scifm.evaluation.spectra import shortest_wave
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.trust.resolution import finer
from scifm.wording import plural

__all__ = ["Waves"]

_NEARLY = 0.05
_WORDS = {"low": "long waves", "middle": "middle waves", "high": "short waves", "beyond": "waves beyond its own grid"}


class Waves(Check):
    """Problems are drawn, solved and answered on a grid with twice as many points; errors are told by wavenumber.

    The waves that the grid of the samples holds are cut into thirds, equal on a logarithmic scale; those that only the
    finer grid holds are **beyond**. A total error on a finer grid tells neither that the answer lost the short waves of
    its own grid there, nor that it made up waves which no training sample could have shown.

    Statistic: √(energy of the error / energy of the truth) of the worst of the four bands, mean over samples and
    fields. A band in which the truth has less than `least_share` of its energy counts as if it had that.
    Interval: none.

    Threshold: 1, the error of answering nothing. Bad news where it is reached in one of the thirds, or exceeded beyond:
    there waves are made up. An answer without any waves beyond has an error of one there: told, not judged.

    It needs to know what draws the samples.

    Args:
        least_share: of the energy outside of the mean; 10⁻⁴ is a hundredth of the size of the field.
    """

    name: ClassVar[str] = "waves"
    question: ClassVar[str] = "Which waves of its answer are right on a finer grid, and does it make some up?"
    advice: ClassVar[str] = (
        "Filter its answer above the last wavenumber that is right; take no derivatives of the rest."
    )

    least_share: float = Field(1e-4, gt=0, lt=1)
    num_samples: int | None = Field(16, ge=1)

    def ask(self, case: Case) -> Finding:
        system, own = case.system, case.samples.grid
        if system is None:
            return Finding(said="What draws the samples is not known, so none could be drawn on a finer grid.")
        try:
            batch = case.drawn(case.samples.num_samples, system, grid=finer(own, 2))
            answer = case.operator.answers(batch).require_targets().double()
        except SciFMError as reason:
            return Finding(said="It does not answer on a finer grid.", evidence=str(reason))
        truth, resolved = batch.require_targets().double(), shortest_wave(own)
        if not answer.isfinite().all():
            return Finding(
                said="On a finer grid it does not answer with finite numbers.",
                evidence=f"{plural(int((~answer.isfinite()).flatten(1).any(1).sum()), 'answer')} of "
                f"{batch.num_samples} are NaN or infinite.",
                good=False,
            )
        bands = spectral_error(answer, truth, batch.grid, resolved=resolved, least_share=self.least_share)
        errors = {name: _mean(values) for name, values in bands.items()}
        if any(error is None for error in errors.values()):
            return Finding(said="The truth does not vary in space: there are no waves to tell apart.")
        found = {name: error for name, error in errors.items() if error is not None}
        beyond = found.pop("beyond")
        third = max(found, key=lambda name: found[name])
        worst = third if found[third] >= beyond else "beyond"
        values = {**found, "beyond": beyond}
        told = ", ".join(f"{_WORDS[name]} {error:.3g}" for name, error in values.items())
        good, said = _verdict(found[third], beyond, _WORDS[third])
        return Finding(
            said=said,
            evidence=f"Error over truth on {batch.grid.told_points}, {plural(batch.num_samples, 'problem')}: {told}. "
            f"Its own grid holds waves to {resolved:g} along a side.",
            good=good,
            statistic=values[worst],
            threshold=1.0,
            unit=f"error over truth, {_WORDS[worst]}",
            figure=_figure(values),
        )


def _verdict(third: float, beyond: float, words: str) -> tuple[bool | None, str]:
    if third >= 1 - _NEARLY:
        return False, f"Of the {words} the answer is no better than nothing."
    if beyond > 1 + _NEARLY:
        return False, "It makes up waves that its own grid could not show."
    if beyond > 1 - _NEARLY:
        return None, "What its own grid holds is right; shorter waves it does not answer."
    return True, "Waves of its own grid and shorter ones are better than nothing."


def _mean(errors: Tensor) -> float | None:
    """Return the mean over samples, frames and fields that have an error; None for none."""
    known = errors[errors.isfinite()]
    return float(known.mean()) if known.numel() else None


def _figure(errors: dict[str, float]) -> Figure:
    names = {"low": "long", "middle": "middle", "high": "short", "beyond": "beyond"}
    places = tuple(range(len(errors)))
    series = Series(label="operator", x=places, y=tuple(error or None for error in errors.values()))
    panel = Panel(
        x=Axis(label="waves", categories=tuple(names[name] for name in errors)),
        y=Axis(label="error over truth", scale="log"),
        series=(series,),
        rules=(Rule(at=1.0, label="answering nothing"),),
    )
    return Figure(caption="Error by thirds of the waves of its own grid, and of those beyond.", panels=(panel,))
