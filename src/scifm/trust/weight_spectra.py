"""Is every layer alive, and does none hang on single entries? And what the spectra of its weights are, told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.findings.finding import Finding
from scifm.training.beginning import never_trained, operator_before
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.trust.spectra import LayerChange, LayerSpectrum, compare, left_out, spectra_of
from scifm.wording import plural

__all__ = ["WeightSpectra"]

_DRAWN = 4  # layers whose tails are drawn
_POINTS = 60  # of each
_LISTED = 40  # layers whose exponents are drawn
_LEAST_DRAWN = 0.03  # eigenvalues over the mean


class WeightSpectra(Check):
    """Of every layer the eigenvalues (`scifm.trust.spectra`), compared with those of fresh weights.

    Statistic: the number of broken layers. Threshold: 0. Broken is a layer

    * that is dead: all its weights are zero, or all the same number, or its largest singular value is below the
      round-off (2⁻²³) of the median over layers. A layer that is so in fresh weights of the same architecture too is
      meant to begin there, and is told only;
    * that hangs on single entries: more than half of the sum of its squares is in entries each of which outweighs its
      matrix, or its entries, permuted at random, leave an eigenvalue more than `most_permuted` times as large as noise
      has. No correlation is left then that could make one. Matrices smaller than 8 × 8 are too small to tell.

    Good news says that no layer is broken, and nothing more. Where a permutation leaves an eigenvalue larger than noise
    has, and no layer is broken, there is no verdict: that may be right. Of the networks in the zoo the one for
    Helmholtz's equation, which errs 0.6 %, reaches 1.5 to 1.7 times noise, by the permutation (0.7 % of a layer's
    squares are in entries that outweigh their mode), and that of a mixture 1.0 to 1.3.

    Exponents, ranks and the distance from what training began with are told, and never judged: fresh weights have
    exponents too.

    Args:
        most_permuted: the largest eigenvalue after a permutation, in units of that of noise.
    """

    name: ClassVar[str] = "weight_spectra"
    leaves_out_gaps: ClassVar[bool] = True
    question: ClassVar[str] = "Is every layer alive, and does none hang on single entries?"
    advice: ClassVar[str] = (
        "Look at the gradients and the learning rate of that layer; train again, from a state before it broke."
    )

    num_samples: int | None = Field(1, ge=1)
    most_permuted: float = Field(3.0, gt=1, allow_inf_nan=False)

    def ask(self, case: Case) -> Finding:
        operator = case.operator
        seed = case.draw_seed()
        if odd := [name for name, weight in operator.named_parameters() if not weight.isfinite().all()]:
            return Finding(
                said="There are weights that are no finite numbers.",
                evidence=f"Answers do not show it: {_names(odd)}.",
                good=False,
                statistic=float(len(odd)),
                threshold=0.0,
                unit="weights",
            )
        spectra = spectra_of(operator, seed=seed)
        if not spectra:
            return Finding(said="No layer of this operator says that it has matrices: there are no spectra.")
        before = None if case.place is None else operator_before(case.place, operator)
        fresh = never_trained(operator, seed=seed)
        first = {} if fresh is None else {own.name: own for own in spectra_of(fresh, seed=seed)}
        dead, idle = _dead(spectra), set[str]()
        if first:
            idle = {name for name in dead if name in _dead(list(first.values()))}
        ruled = {own.name: told for own in spectra if (told := self._ruled(own))}
        broken = {**{name: why for name, why in dead.items() if name not in idle}, **ruled}
        spiked = [own.name for own in spectra if own.name not in broken and (own.permuted or 0) > 1]
        changes = None if before is None else compare(before[0], operator)
        return Finding(
            said=_said(broken, spiked),
            evidence=" ".join(filter(None, [
                _broken_words(broken), _permuted_words(spectra), _exponent_words(spectra, first),
                "" if before is None or changes is None else _distance_words(changes, before[1]),
                f"Zero, as in fresh weights: {_names(sorted(idle))}." if idle else "",
                _left_words(left_out(operator)),
            ])),
            good=False if broken else None if spiked else True,
            statistic=float(len(broken)),
            threshold=0.0,
            unit="broken layers" if len(broken) != 1 else "broken layer",
            advice="" if broken or not spiked else "Where its errors are right, nothing; else look at that layer.",
            figure=_figure(spectra, first),
        )  # fmt: skip

    def _ruled(self, own: LayerSpectrum) -> str:
        """Return in words how a layer hangs on single entries; empty: it does not."""
        if own.outlier_share is not None and own.outlier_share > 0.5:
            return f"single entries hold {own.outlier_share:.0%} of its squares"
        if own.permuted is None or own.permuted <= self.most_permuted:
            return ""
        return f"permuted, its largest eigenvalue is {own.permuted:.3g} times that of noise"


def _dead(spectra: Sequence[LayerSpectrum]) -> dict[str, str]:
    """Return by its name why a layer does nothing."""
    usual = float(np.median([own.largest for own in spectra])) * torch.finfo(torch.float32).eps ** 2
    told = {}
    for own in spectra:
        if own.is_zero:
            told[own.name] = "all its weights are zero"
        elif own.is_constant:
            told[own.name] = "all its weights are the same number"
        elif own.largest < usual:
            told[own.name] = (
                f"its largest singular value is {math.sqrt(own.largest):.2g}, below the round-off of others"
            )
    return told


def _said(broken: dict[str, str], spiked: list[str]) -> str:
    if broken:
        return f"{plural(len(broken), 'layer is', 'layers are')} broken: {_names(list(broken))}."
    if spiked:
        return f"Every layer is alive; large single entries stand out in {_names(spiked)}, which may be right."
    return "Every layer is alive, and none hangs on single entries."


def _names(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _broken_words(broken: dict[str, str]) -> str:
    return " ".join(f"{name}: {why}." for name, why in list(broken.items())[:4])


def _permuted_words(spectra: Sequence[LayerSpectrum]) -> str:
    times = {own.name: own.permuted for own in spectra if own.permuted is not None}
    if not times:
        return f"{plural(len(spectra), 'layer')}, none of 8 × 8 channels or more."
    worst = max(times, key=lambda name: times[name])
    return (
        f"{plural(len(spectra), 'layer')}; with entries permuted the largest eigenvalue is at most {times[worst]:.2g} "
        f"times what noise reaches ({worst})."
    )


def _exponent_words(spectra: Sequence[LayerSpectrum], first: dict[str, LayerSpectrum]) -> str:
    fitted = [own for own in spectra if own.tail is not None]
    if not fitted:
        return ""
    alphas, fresh = _alphas(fitted), _alphas([first[own.name] for own in fitted if own.name in first])
    ranks, of_fresh = _ranks(fitted), _ranks([first[own.name] for own in fitted if own.name in first])
    beside = f", of fresh weights {np.median(fresh):.2f}" if fresh else ""
    off = np.median([own.tail.distance for own in fitted if own.tail is not None])
    words = (
        f"Exponents of the tails, told without a verdict: median {np.median(alphas):.2f} ({min(alphas):.2f} to "
        f"{max(alphas):.2f}){beside}; the tails are {off:.2g} off a power law (median). Stable rank of a matrix: "
        f"median {np.median(ranks):.2g}"
    )
    return f"{words}, of fresh weights {np.median(of_fresh):.2g}." if of_fresh else f"{words}."


def _alphas(spectra: Sequence[LayerSpectrum]) -> list[float]:
    return [own.tail.alpha for own in spectra if own.tail is not None]


def _ranks(spectra: Sequence[LayerSpectrum]) -> list[float]:
    return [own.mean_stable_rank for own in spectra if not own.is_zero]


def _distance_words(changes: Sequence[LayerChange], began: str) -> str:
    known = {own.name: own.relative for own in changes if own.relative is not None}
    if not known:
        return f"No layer is as large as in {began}: there is no distance."
    most, others = max(known, key=lambda name: known[name]), len(changes) - len(known)
    beside = f"; {plural(others, 'layer')} cannot be compared" if others else ""
    return (
        f"Distance from {began}: {np.median(list(known.values())):.2g} of a layer's norm (median), at most "
        f"{known[most]:.2g} ({most}){beside}."
    )


def _left_words(names: Sequence[str]) -> str:
    return f"Not looked at, since no layer says that they are matrices: {_names(names)}." if names else ""


def _figure(spectra: Sequence[LayerSpectrum], first: dict[str, LayerSpectrum]) -> Figure | None:
    fitted = [own for own in spectra if own.tail is not None]
    if not fitted:
        return None
    drawn = sorted(sorted(fitted, key=lambda own: -own.eigenvalues.size)[:_DRAWN], key=spectra.index)
    panels = [_tails(drawn), _exponents(fitted[:_LISTED], first)]
    if modes := [own for own in drawn if own.wavenumbers is not None]:
        panels.append(_energies(modes, drawn, first))
    return Figure(
        caption="Spectra of the weights. Tails: the share of eigenvalues (squared singular values, over their mean) "
        "above a value, of the layers that have most of them, with the power law that fits the tail best (dashed). "
        "Exponents: those of the fits, with one standard error, beside those of fresh weights, which know nothing and "
        "have one as well; of spectral layers also with each mode's eigenvalues over their own mean. Modes: of "
        "spectral layers the mean of the squared weights by wavenumber, and of fresh weights (dotted).",
        panels=tuple(panels),
    )


def _tails(drawn: Sequence[LayerSpectrum]) -> Panel:
    series = []
    for place, own in enumerate(drawn):
        tail, values = own.tail, np.sort(own.eigenvalues.ravel())[::-1]
        assert tail is not None
        mean, values = values.mean(), values[: tail.num_values]
        ranks = np.unique(np.geomspace(1, len(values), _POINTS).astype(int))
        ranks = ranks[values[ranks - 1] >= _LEAST_DRAWN * mean]
        x, ends = values[ranks - 1] / mean, np.array([tail.x_min, values[0]])
        looks: dict[str, Any] = {"label": own.name, "marked": False, "place": place}
        series.append(Series(x=tuple(x), y=tuple(ranks / tail.num_values), **looks))
        series.append(Series(x=tuple(ends / mean), y=tuple(tail.survival(ends)), line="dashed", **looks))
    axes = Axis(label="eigenvalue, over the mean", scale="log"), Axis(label="share above", scale="log")
    return Panel(x=axes[0], y=axes[1], series=tuple(series), group="Tails")


def _exponents(fitted: Sequence[LayerSpectrum], first: dict[str, LayerSpectrum]) -> Panel:
    rows = list(enumerate(fitted))
    found = {
        "as it is": [(row, own.tail) for row, own in rows],
        "modes over their mean": [(row, own.even_tail) for row, own in rows if own.wavenumbers is not None],
        "fresh weights": [(row, first[own.name].tail) for row, own in rows if own.name in first],
    }
    series = []
    for place, (label, tails) in enumerate(found.items()):
        points: list[dict[str, Any]] = [
            {
                "x": tail.alpha,
                "y": row + 0.22 * (place - 1),
                "low": tail.alpha - tail.sigma,
                "high": tail.alpha + tail.sigma,
                "told": f"{fitted[row].name}\n{label}: {tail.alpha:.2f} ± {tail.sigma:.2f}, {tail.num_tail} of "
                f"{tail.num_values} eigenvalues, distance {tail.distance:.3f}",
            }
            for row, tail in tails
            if tail is not None
        ]
        if points:
            looks: dict[str, Any] = {
                "joined": False,
                "interval": "bar",
                "hollow": label == "fresh weights",
                "place": _DRAWN + place,
            }
            series.append(Series.of(points, label=label, **looks))
    names = tuple(own.name.removesuffix(".weight") for own in fitted)
    axes = Axis(label="exponent of the tail", scale="log"), Axis(label="", categories=names)
    return Panel(x=axes[0], y=axes[1], series=tuple(series), group="Exponents")


def _energies(modes: Sequence[LayerSpectrum], drawn: Sequence[LayerSpectrum], first: dict[str, LayerSpectrum]) -> Panel:
    series = []
    for own in modes:
        looks: dict[str, Any] = {"label": own.name, "marked": False, "place": drawn.index(own)}
        series.append(_by_shell(own, looks))
        if own.name in first:
            series.append(_by_shell(first[own.name], {**looks, "line": "dotted"}))
    axes = Axis(label="wavenumber of the mode"), Axis(label="mean square of its weights", scale="log")
    return Panel(x=axes[0], y=axes[1], series=tuple(series), group="Modes")


def _by_shell(own: LayerSpectrum, looks: Mapping[str, Any]) -> Series:
    """Return the mean square of the entries of modes whose wavenumber rounds to each whole number."""
    assert own.wavenumbers is not None
    shell = np.rint(np.linalg.norm(own.wavenumbers.astype(float), axis=1)).astype(int)
    entries, found = own.shape[1] * own.shape[2], np.unique(shell)
    means = [float(own.energies[shell == k].mean()) / entries for k in found]
    return Series(x=tuple(float(k) for k in found), y=tuple(mean if mean > 0 else None for mean in means), **looks)
