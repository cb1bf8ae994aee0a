"""What a comparison of made records with true ones found, as an account: sentences, figures, spectrograms, tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scifm.applications.ground_motion.assessing import AssessRecipe, Compared, Likeness
from scifm.findings.account import Account, Chapter, KeyFigure, MapOf, Maps, Rows
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.wording import plural

__all__ = ["ALLOWED_BIAS", "ALLOWED_SHARE", "account_of", "arrays_of"]

ALLOWED_BIAS = 0.1
"""Of a median spectrum, in log₁₀."""
ALLOWED_SHARE = 0.1
"""Of slopes and standard deviations, in parts of the true ones."""

_TRUE, _MADE, _MEDIAN = "true records", "made records", "median of the law"
_NUM_CELLS = 3


def account_of(found: Compared, recipe: AssessRecipe, *, model: str, store: str) -> Account:
    """Return the account of a comparison.

    Args:
        found: what was compared.
        recipe: how.
        model: what made the records.
        store: where the true ones are from.
    """
    told = ", ".join(found.conditions)
    low, high = found.centers[0], found.centers[-1]
    count = plural(len(found.true), "record")
    findings = [_median(found, f"{count.capitalize()} of {store}, and as many made by {model} for the same {told}.")]
    findings += [_slope(found, row) for row in range(len(found.regressors))]
    findings += [_sigma(found), *_told_apart(found), _phases(found, recipe)]
    findings += [Finding(name="outside", said=f"{sentence}.", good=False) for sentence in found.outside]
    chapters = (
        Chapter(title="Spectra", figures=(_spectra(found),)),
        Chapter(title="How motion scales, and how it scatters", figures=(_scaling(found),), tables=(_table(found),)),
        Chapter(title="What is left, by condition", figures=(_residuals(found),)),
        Chapter(title="Waveforms", figures=(_waveforms(found),), maps=(_spectrograms(found),)),
    )
    return Account(
        application="ground motion",
        question=f"Are made records like true ones, from {float(low):.3g} to {float(high):.3g} Hz?",
        findings=tuple(findings),
        key_figures=_key_figures(found),
        chapters=chapters,
        definitions=_definitions(found, recipe),
        limits=(
            "Every made record is an event of its own: what records of one earthquake have in common is in their "
            "scatter, and not between them.",
            "Spectra have no phases: when phases arrive, and how long motion lasts, they do not compare.",
            "Phases by Griffin and Lim are off by a share of the strongest motion, which is far above the noise of the "
            "place: before the motion begins made records are louder than true ones, by which they can be told apart.",
        ),
    )


def arrays_of(found: Compared) -> Mapping[str, NDArray[np.floating]]:
    """Return what is drawn as maps, and records and spectra to be looked at further."""
    row = _example(found)
    maps = {name: own[row].T for name, own in zip(("levels true", "levels made"), found.levels, strict=True)}
    kept = {
        "frequencies": found.centers, "velocity true": found.true.float(), "velocity made": found.made.float(),
        "spectra true": found.spectra[0], "spectra made": found.spectra[1],
        **{f"condition {name}": own for name, own in found.conditions.items()},
    }  # fmt: skip
    if found.medians is not None:
        kept["spectra median"] = found.medians
    return {name: own.detach().double().numpy() for name, own in {**maps, **kept}.items()}


# --- findings ---------------------------------------------------------------------------------------------------------


def _worst(values: Tensor) -> tuple[float, int]:
    place = int(values.abs().argmax())
    return float(values[place]), place


def _at(found: Compared, place: int) -> str:
    return f"at {float(found.centers[place]):.3g} Hz"


def _beside(found: Compared, of: str, row: int | None = None) -> str:
    """Return how far other true records are off, in words."""
    if found.itself is None:
        return ""
    own = getattr(found.itself, of)
    worst = float((own if row is None else own[row]).abs().max())
    told = f"{worst:.3f} in log₁₀" if of == "bias" else f"{100 * worst:.1f} %"
    return f" As many other true records of these conditions are off by {told} at most."


def _median(found: Compared, evidence: str) -> Finding:
    off, place = _worst(found.likeness.bias)
    mean = float(found.likeness.bias.abs().mean())
    return Finding(
        name="median spectrum", statistic=abs(off), threshold=ALLOWED_BIAS, good=abs(off) <= ALLOWED_BIAS,
        said=f"The median spectrum of made records is off by {abs(off):.3f} in log₁₀ at most, {_at(found, place)}.",
        evidence=f"Mean over frequencies: {mean:.3f}. {evidence}{_beside(found, 'bias')}",
    )  # fmt: skip


def _slope(found: Compared, row: int) -> Finding:
    name = found.regressors[row]
    off, place = _worst(found.likeness.slopes[row])
    true, made = (own.coefficients[1 + row, place] for own in found.scalings)
    return Finding(
        name=f"slope in {name}", statistic=abs(off), threshold=ALLOWED_SHARE, good=abs(off) <= ALLOWED_SHARE,
        said=f"How spectra scale with {name} is off by {100 * abs(off):.1f} % at most, {_at(found, place)}.",
        evidence=f"There the slope is {float(made):.3f} instead of {float(true):.3f} in ln units, with a standard "
        f"error of {float(found.scalings[0].errors[1 + row, place]):.3f} of either.{_beside(found, 'slopes', row)}",
    )  # fmt: skip


def _sigma(found: Compared) -> Finding:
    off, place = _worst(found.likeness.sigma)
    true, made = (float(own.sigma[place]) for own in found.scalings)
    return Finding(
        name="scatter", statistic=abs(off), threshold=ALLOWED_SHARE, good=abs(off) <= ALLOWED_SHARE,
        said=f"How made records scatter around that is off by {100 * abs(off):.1f} % at most, {_at(found, place)}.",
        evidence=f"There the standard deviation of residuals is {made:.3f} instead of {true:.3f} in ln units."
        f"{_beside(found, 'sigma')}",
    )  # fmt: skip


def _told_apart(found: Compared) -> list[Finding]:
    if found.score is None:
        return []
    beside = (
        "" if found.score_itself is None else f" Between two sets of true records it scores {found.score_itself:.3f}."
    )
    return [Finding(
        name="told apart", statistic=found.score,
        said=f"A small network tells made records from true ones in {100 * (0.5 + found.score):.0f} % of the cases; "
        "50 % would be guessing.",
        evidence=f"Its discriminative score is {found.score:.3f}.{beside}",
    )]  # fmt: skip


def _phases(found: Compared, recipe: AssessRecipe) -> Finding:
    return Finding(
        name="phases", statistic=found.convergence,
        said=f"Amplitudes of made waveforms are {100 * found.convergence:.1f} % off those that were asked for.",
        evidence=f"Spectral convergence of the median record after {recipe.iterations} iterations of Griffin and Lim.",
    )  # fmt: skip


def _key_figures(found: Compared) -> tuple[KeyFigure, ...]:
    own: Likeness = found.likeness
    figures = [
        KeyFigure(label="Median spectrum", value=f"{float(own.bias.abs().max()):.3f}", note="off in log₁₀, at most")
    ]
    figures += [
        KeyFigure(
            label=f"Slope in {name}", value=f"{100 * float(own.slopes[row].abs().max()):.1f} %", note="off, at most"
        )
        for row, name in enumerate(found.regressors)
    ]
    figures.append(KeyFigure(label="Scatter", value=f"{100 * float(own.sigma.abs().max()):.1f} %", note="off, at most"))
    if found.score is not None:
        figures.append(
            KeyFigure(label="Discriminative score", value=f"{found.score:.3f}", note="0: cannot be told apart")
        )
    return tuple(figures)


def _definitions(found: Compared, recipe: AssessRecipe) -> tuple[str, ...]:
    return (
        "Spectrum: Fourier amplitude of velocity, its power smoothed as Konno and Ohmachi do, "
        f"b = {recipe.bandwidth:g}.",
        f"Slopes and scatter: ln of it by least squares on {' and '.join(found.regressors)}, frequency by frequency; "
        "scatter is the standard deviation of what is left.",
        "Median spectrum: the mean of ln, which is that of the median where spectra are lognormal; bias is its "
        "difference between made and true records of the same conditions.",
        "Discriminative score: |accuracy − ½| on records that the network was not trained on.",
    )


# --- figures ----------------------------------------------------------------------------------------------------------


def _list(values: Tensor) -> tuple[float, ...]:
    return tuple(float(one) for one in values)


def _parts(values: Tensor, count: int = _NUM_CELLS) -> list[Tensor]:
    """Return which records lie in each part of a condition, as many in each."""
    return list(values.argsort().tensor_split(count))


def _first(found: Compared) -> tuple[str, Tensor]:
    """Return the condition that records are told by: the magnitude where there is one."""
    name = "magnitude" if "magnitude" in found.conditions else next(iter(found.conditions))
    return name, found.conditions[name]


def _spectra(found: Compared) -> Figure:
    name, values = _first(found)
    f, panels = _list(found.centers), []
    for rows in _parts(values):
        series = []
        for label, spectra in zip((_TRUE, _MADE), found.spectra, strict=True):
            logs = spectra[rows].log()
            low, high = (logs.quantile(part, dim=0).exp() for part in (0.16, 0.84))
            about = {"low": _list(low), "high": _list(high), "marked": False}
            series.append(Series(label=label, x=f, y=_list(logs.mean(dim=0).exp()), **about))
        if found.medians is not None:
            middle = _list(found.medians[rows].log().mean(dim=0).exp())
            series.append(Series(label=_MEDIAN, x=f, y=middle, marked=False, line="dashed"))
        first, last = float(values[rows].min()), float(values[rows].max())
        panels.append(Panel(
            x=Axis(label="frequency, Hz", scale="log"), y=Axis(label="Fourier amplitude, m", scale="log"),
            series=tuple(series), title=f"{name} {first:.2g} to {last:.2g}",
        ))  # fmt: skip
    caption = "Geometric mean of smoothed spectra, and the band that holds 68 % of them."
    if found.medians is not None:
        caption += (
            " Dashed is the median that records were drawn from; spectra of noise of random phase lie beneath it where "
            "few frequencies are smoothed over, true and made ones alike."
        )
    return Figure(caption=caption, panels=tuple(panels), shared=("y",))


def _scaling(found: Compared) -> Figure:
    f, panels = _list(found.centers), []
    x = Axis(label="frequency, Hz", scale="log")

    def panel(title: str, label: str, numbers: Sequence[tuple[Tensor, Tensor]]) -> Panel:
        series = tuple(
            Series(label=name, x=f, y=_list(own), low=_list(own - error), high=_list(own + error))
            for name, (own, error) in zip((_TRUE, _MADE), numbers, strict=True)
        )
        return Panel(x=x, y=Axis(label=label), series=series, title=title)

    for row, name in enumerate(found.regressors):
        numbers = [(own.coefficients[1 + row], own.errors[1 + row]) for own in found.scalings]
        panels.append(panel(f"slope in {name}", f"d ln A / d {name}", numbers))
    spread = math.sqrt(2 * len(found.true))
    panels.append(panel("scatter", "σ, ln units", [(own.sigma, own.sigma / spread) for own in found.scalings]))
    caption = "Slopes of ln spectra and the standard deviation of their residuals, with one standard error."
    return Figure(caption=caption, panels=tuple(panels))


def _table(found: Compared) -> Rows:
    headers = ["Hz", "bias, log₁₀"]
    for name in (*found.regressors, "scatter"):
        headers += [f"{name}: true", "made", "off"]
    rows = []
    for place, center in enumerate(found.centers.tolist()):
        row = [f"{center:.3g}", f"{float(found.likeness.bias[place]):+.3f}"]
        pairs = [(*(own.coefficients[1 + k, place] for own in found.scalings), found.likeness.slopes[k, place])
                 for k in range(len(found.regressors))]  # fmt: skip
        pairs.append((*(own.sigma[place] for own in found.scalings), found.likeness.sigma[place]))
        for true, made, off in pairs:
            row += [f"{float(true):.3f}", f"{float(made):.3f}", f"{100 * float(off):+.1f} %"]
        rows.append(tuple(row))
    caption = "Bias, slopes and scatter at each frequency, in ln units but for the bias."
    return Rows(name="likeness", caption=caption, headers=tuple(headers), rows=tuple(rows))


def _residuals(found: Compared) -> Figure:
    """Return residuals of both around the regression of true records, by condition, at the middle frequency."""
    middle, panels = len(found.centers) // 2, []
    intercept = found.scalings[0].coefficients[0, middle]
    for name in found.regressors:
        condition = found.conditions[name.removeprefix("ln ")]
        series = []
        for label, spectra in zip((_TRUE, _MADE), found.spectra, strict=True):
            said = intercept + sum(
                found.scalings[0].coefficients[1 + k, middle] * _column(found, k) for k in range(len(found.regressors))
            )
            left = spectra[:, middle].log() - said
            parts = _parts(condition, 6)
            quantiles = [torch.stack([left[rows].quantile(part) for rows in parts]) for part in (0.16, 0.5, 0.84)]
            at = torch.stack([condition[rows].median() for rows in parts])
            low, y, high = map(_list, quantiles)
            series.append(Series(label=label, x=_list(at), y=y, low=low, high=high))
        axis = Axis(label=name.removeprefix("ln "), scale="log" if name.startswith("ln ") else "linear")
        panels.append(Panel(
            x=axis, y=Axis(label="residual, ln units"), series=tuple(series),
            rules=(Rule(at=0.0, told="the regression of true records", line="dotted"),),
        ))  # fmt: skip
    caption = f"Residuals around the regression of true records {_at(found, middle)}: medians, and 16 to 84 %."
    return Figure(caption=caption, panels=tuple(panels), shared=("y",))


def _column(found: Compared, row: int) -> Tensor:
    name = found.regressors[row]
    values = found.conditions[name.removeprefix("ln ")]
    return values.log() if name.startswith("ln ") else values


def _example(found: Compared) -> int:
    """Return a record in the middle of all conditions."""
    off = sum((_column(found, k) - _column(found, k).median()).abs() / _column(found, k).std()
              for k in range(len(found.regressors)))  # fmt: skip
    assert isinstance(off, Tensor)
    return int(off.argmin())


def _waveforms(found: Compared) -> Figure:
    name, values = _first(found)
    times = tuple((torch.arange(found.true.shape[1]) / found.rate).tolist())
    panels = []
    for rows in _parts(values):
        row = int(rows[len(rows) // 2])
        told = ", ".join(f"{name} {float(own[row]):.3g}" for name, own in found.conditions.items() if name != "event")
        both = found.true[row], found.made[row]
        most = max(float(own.abs().max()) for own in both)
        for label, own in zip((_TRUE, _MADE), both, strict=True):
            panels.append(Panel(
                x=Axis(label="time, s"), y=Axis(label="velocity, m/s", low=-most, high=most),
                series=(Series(label=label, x=times, y=_list(own), marked=False),), group=told,
            ))  # fmt: skip
    caption = f"A true and a made record for three choices of {name}: not one and the same, but of one law."
    return Figure(caption=caption, panels=tuple(panels), columns=2)


def _spectrograms(found: Compared) -> Maps:
    row = _example(found)
    told = ", ".join(f"{name} {float(own[row]):.3g}" for name, own in found.conditions.items() if name != "event")
    maps = (MapOf(array="levels true", title="true"), MapOf(array="levels made", title="made"))
    caption = (
        f"ln of spectral amplitudes over time (across, {found.extent[1]:.3g} s) and frequency (up, to "
        f"{found.extent[0]:.3g} Hz), for {told}. The true one is as it was recorded, the made one that of its waveform."
    )
    return Maps(caption=caption, rows=(maps,), extent=found.extent)
