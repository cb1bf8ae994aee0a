"""What does the network see in the fields? A linear map is asked to tell the knobs from its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from scifm.errors import ConfigError, SignatureError
from scifm.evaluation.embedding import known_numbers
from scifm.evaluation.evaluate import ratio_of_means
from scifm.evaluation.spectra import energy_spectrum
from scifm.fields.batch import Batch
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.models.features import features_of
from scifm.models.operator import Operator
from scifm.training.beginning import never_trained
from scifm.training.weights import place
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.trust.ridge import folds_of, held_out, varies
from scifm.wording import plural

__all__ = ["Probe", "input_statistics"]

_FOLDS = 5
_LEAST = 20  # problems
_WINDOWS = 4  # of one trajectory
_TELLS = 0.1  # R² below which a number is not told
_MAGNITUDES = 10.0  # a positive number that spans more is taken by its logarithm
_QUIETEST = 1e-10  # energy of a band, as a share of the whole, below which all is round-off
FEATURES, RAW, FRESH = "features", "statistics of the inputs", "features of an untrained network"


class Probe(Check):
    """Each coefficient and each measured knob that varies is regressed from the features, by a linear map.

    An operator that is given its coefficients proves nothing by having them inside. So they are hidden from it: each is
    told as absent, which a network is given as zero, its mean; and what is measured in units of them is measured in one
    typical unit. What the features then tell of a coefficient the network has seen in the fields.

    The map is a ridge regression (`scifm.trust.ridge`): 5 folds, every problem predicted by a fit to the others, its
    penalty chosen among those alone. Windows of one trajectory, told by their equal numbers, are one problem, never on
    two sides; at most 4 of each are taken. R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)², ȳ the mean of those that were fitted: 0 is
    no better than not looking. A positive number that spans more than a factor of 10 is taken by its logarithm, where
    that leaves it less lopsided.

    Beside it, the same from what costs no network: of each input field its mean, its root mean square and the
    logarithms of its energy in octaves of wavenumber; and from the features of the same architecture with fresh
    weights, where it can be built.

    Statistic: mean squared error of what the features tell, in units of each number's spread, over that of the better
    of the two baselines, all numbers together. Interval: bootstrap over problems, 95 %.

    Threshold: 1. It is good news where the whole interval lies below and the features tell something (R² of 0.1, all
    numbers together). Else it is no verdict: an operator that is told a coefficient need not read it, and of a steady
    problem the inputs may know nothing of it. Bad news are features that are the same for all samples. Where
    neither the features nor the baselines tell anything (R² of all below 0.1), the question does not apply.

    Args:
        stage: behind which stage the features are taken; that of the kind when left out.
    """

    name: ClassVar[str] = "probe"
    question: ClassVar[str] = "With the coefficients hidden, do the features tell them better than the inputs do?"
    advice: ClassVar[str] = (
        "Look whether training converged; where a coefficient is given as a number this need not be bad."
    )

    stage: int | None = Field(None)

    def ask(self, case: Case) -> Finding:
        operator, samples = case.operator, case.samples
        seed = case.draw_seed()
        asked = _asked(samples)
        if not asked:
            return Finding(
                said="No coefficient and no known knob varies among these samples: there is nothing to tell."
            )
        groups = _problems(asked)
        kept = _few_of_each(groups)
        samples, asked = samples.select(kept), {name: values[kept.numpy()] for name, values in asked.items()}
        groups = np.unique(groups[kept.numpy()], return_inverse=True)[1]
        count = int(groups.max()) + 1
        if count < _LEAST:
            return Finding(
                said=f"{plural(count, 'problem')} are too few to probe.",
                evidence=f"Every knob is told by fits to the others; at least {_LEAST} problems are needed.",
            )
        try:
            own = features_of(operator, samples, stage=self.stage, blind=True)
        except (ConfigError, SignatureError) as reason:
            return Finding(said="Nobody can look into this network, so it was not probed.", evidence=str(reason))
        seen = {FEATURES: own, RAW: input_statistics(samples), FRESH: self._fresh(operator, samples, seed)}
        columns = {name: values.double().cpu().numpy() for name, values in seen.items() if values is not None}
        if not varies(columns[FEATURES]).any() and varies(columns[RAW]).any():
            return Finding(
                said="The features are the same for all samples: nothing can be told from them.",
                evidence=f"{own.shape[1]} features of {plural(len(own), 'sample')}, their coefficients hidden.",
                good=False,
            )
        told = {name: _Told.of(name, values, columns, groups, seed) for name, values in asked.items()}
        return _finding(told, groups, case.generator, operator.signature.coefficients)

    def _fresh(self, operator: Operator, samples: Batch, seed: int) -> Tensor | None:
        """Return the features of the same architecture before any training; None where it cannot be built."""
        fresh = never_trained(operator, seed=seed)
        if fresh is None:
            return None
        place(fresh, *operator.home)
        fresh.domain = operator.domain
        return features_of(fresh, samples, stage=self.stage, blind=True)


def input_statistics(samples: Batch) -> Tensor:
    """Return what a glance at the inputs tells, ``(sample, number)`` float64.

    Of each input field and frame: its mean, its root mean square, and the natural logarithms of its energy in octaves
    of wavenumber (1, 2–3, 4–7, … waves along a side), nothing counting for less than 1e-10 of all.
    """
    fields = samples.inputs.double()
    spectrum = energy_spectrum(fields, samples.grid)
    total = fields.square().flatten(3).mean(3)
    shells = torch.arange(1, spectrum.shape[3] + 1, device=fields.device)
    octaves = torch.log2(shells.double() + 1e-9).floor().long()
    bands = spectrum.new_zeros(*spectrum.shape[:3], int(octaves[-1]) + 1).index_add_(3, octaves, spectrum)
    floor = torch.where(total > 0, _QUIETEST * total, 1.0)[..., None]
    parts = [fields.flatten(3).mean(3, keepdim=True), total.sqrt()[..., None], torch.maximum(bands, floor).log()]
    return torch.cat(parts, dim=3).flatten(1)


def _asked(samples: Batch) -> dict[str, np.ndarray]:
    """Return the numbers that vary, by name, ``(sample,)``; NaN where a sample has none."""
    found = {}
    for name, values in known_numbers(samples).items():
        there = values[values.isfinite()]
        if len(there) < 2 or not varies(there.numpy()[:, None]).any():
            continue
        spans = bool(there.min() > 0) and float(there.max() / there.min()) > _MAGNITUDES
        if spans and _lopsided(there.log()) < _lopsided(there):
            name, values = f"log {name}", values.log()
        found[name] = values.numpy()
    return found


def _lopsided(values: Tensor) -> float:
    """Return the size of the skewness."""
    away = values - values.mean()
    return float(away.pow(3).mean().abs() / away.square().mean() ** 1.5)


def _problems(asked: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return which problem each sample is of, from 0 on: samples with the same numbers are windows of one."""
    table = np.stack([np.where(np.isfinite(own), own, np.inf) for own in asked.values()], axis=1)
    return np.unique(table, axis=0, return_inverse=True)[1].ravel()


def _few_of_each(groups: np.ndarray) -> Tensor:
    """Return the places of at most `_WINDOWS` samples of each problem, from all over it, in order."""
    kept = []
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        chosen = np.linspace(0, len(own) - 1, _WINDOWS).round().astype(int) if len(own) > _WINDOWS else slice(None)
        kept.append(own[chosen])
    return torch.from_numpy(np.sort(np.concatenate(kept)))


@dataclass(frozen=True)
class _Told:
    """What is told of one number.

    Args:
        truth: ``(sample,)`` of those that have it.
        rows: which samples these are.
        predicted: ``(sample,)`` by source.
        errors: ``(sample,)`` by source: squared, over the mean square of the distance from the mean.
    """

    truth: np.ndarray
    rows: np.ndarray
    predicted: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, name: str, values: np.ndarray, columns: Mapping[str, np.ndarray], groups: np.ndarray, seed: int
    ) -> _Told:
        """Regress a number from each source of columns."""
        rows = np.flatnonzero(np.isfinite(values))
        truth, own = values[rows], np.unique(groups[rows], return_inverse=True)[1]
        folds = folds_of(own, min(_FOLDS, int(own.max()) + 1), seed)
        predicted, errors = {}, {}
        for source, x in columns.items():
            predicted[source], trivial = held_out(x[rows], truth, folds)
            errors[source] = np.square(predicted[source] - truth) / np.square(trivial - truth).mean()
        return cls(truth, rows, predicted, errors)

    def r2(self, source: str) -> float:
        """Return how much of the variance is told."""
        return 1.0 - float(self.errors[source].mean())


def _over_problems(told: Mapping[str, _Told], source: str, groups: np.ndarray) -> Tensor:
    """Return the mean error of each problem over its samples and numbers."""
    total, count = np.zeros(int(groups.max()) + 1), np.zeros(int(groups.max()) + 1)
    for own in told.values():
        np.add.at(total, groups[own.rows], own.errors[source])
        np.add.at(count, groups[own.rows], 1.0)
    return torch.from_numpy(total[count > 0] / count[count > 0])


def _finding(
    told: Mapping[str, _Told], groups: np.ndarray, generator: torch.Generator, hidden: tuple[str, ...]
) -> Finding:
    sources = list(next(iter(told.values())).errors)
    errors = {source: _over_problems(told, source, groups) for source in sources}
    best = min(sources[1:], key=lambda source: float(errors[source].mean()))
    ratio, low, high = ratio_of_means(errors[FEATURES], errors[best], generator=generator)
    tells = {source: 1.0 - float(own.mean()) for source, own in errors.items()}
    good = True if high is not None and high < 1 and tells[FEATURES] >= _TELLS else None
    kept = ", ".join(f"{name} {_short(own.r2(FEATURES))}" for name, own in told.items())
    beside = "; ".join(
        f"from {source}: {', '.join(_short(own.r2(source)) for own in told.values())}" for source in sources[1:]
    )
    asked = f"with {plural(len(hidden), 'coefficient')} hidden from it, " if hidden else ""
    tellable = max(tells.values()) >= _TELLS
    numbers = {"statistic": ratio, "low": low, "high": high, "threshold": 1.0} if tellable else {}
    return Finding(
        said=_words(tells, best, good=good, low=low, hides=bool(hidden)),
        evidence=f"R² {asked}on problems left out of the fit, from the features: {kept}; {beside}. "
        f"{plural(int(groups.max()) + 1, 'problem')}, {plural(len(groups), 'sample')}.",
        good=good,
        **numbers,
        unit="unexplained variance over that of the better baseline" if numbers else "",
        figure=_figure(told, sources),
    )


def _words(tells: Mapping[str, float], best: str, *, good: bool | None, low: float | None, hides: bool) -> str:
    unseen = ", though they are hidden from it" if hides else ""
    if good:
        return f"The network sees the knobs in the fields{unseen}: its features tell them better than {best}."
    if max(tells.values()) < _TELLS:
        return "Of these knobs nothing can be told, neither from the features nor from the inputs."
    if tells[FEATURES] < _TELLS:
        need = " A network that is told them need not read them." if hides else ""
        return f"The features tell nothing of the knobs, and {best} do.{need}"
    if low is not None and low > 1:
        return f"The features tell the knobs{unseen}, but less well than {best}."
    return f"The features tell the knobs{unseen}, about as well as {best}."


def _short(r2: float) -> str:
    return f"{round(r2, 2) + 0.0:.2f}"  # and no negative zero


def _figure(told: Mapping[str, _Told], sources: list[str]) -> Figure:
    names = list(told)
    series = []
    for number, source in enumerate(sources):
        apart = 0.24 * (number - (len(sources) - 1) / 2)
        points: list[dict[str, Any]] = [
            {"x": own.r2(source), "y": row + apart, "told": f"{name}\nR² {own.r2(source):.3f} from {source}"}
            for row, (name, own) in enumerate(told.items())
        ]
        series.append(Series.of(points, label=source, joined=False, place=number))
    rules = (Rule(at=0.0, crosses="x", line="dotted"), Rule(at=1.0, crosses="x", line="dotted"))
    left = Panel(
        x=Axis(label="R² on problems left out"),
        y=Axis(label="", categories=tuple(names)),
        series=tuple(series),
        rules=rules,
        group="What is told of each",
    )
    best = max(names, key=lambda name: told[name].r2(FEATURES))
    own = told[best]
    ends = (float(own.truth.min()), float(own.truth.max()))
    dots = [
        Series(label=name, x=tuple(own.truth), y=tuple(own.predicted[name]), joined=False, place=sources.index(name))
        for name in (FEATURES, RAW)
    ]
    line = Series(x=ends, y=ends, marked=False, line="dotted")
    right = Panel(
        x=Axis(label=f"{best}, true"), y=Axis(label="predicted"), series=(*dots, line), group=f"Best told: {best}"
    )
    caption = (
        "What a linear map tells of each coefficient and knob on problems that it was not fitted to, the coefficients "
        "hidden from the network: R², 1 is all, 0 is no better than the mean of the others. Beside it the one that "
        "features tell best, sample by sample."
    )
    return Figure(caption=caption, panels=(left, right))
