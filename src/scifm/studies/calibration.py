"""Do the planner's intervals hold? Checked on the table of a study, one system left out at a time.

For every curve of a system: take the points up to a few samples, predict the need for an error that was really reached
with more, and see where the number that reached it falls among the predictions. Priors come from the other systems.

Asking how many samples reach the error measured at N is asking which error is measured at N: the share of predictions
that need at most N is the share that is better at N. So if the beliefs are right, that share (`Case.share`) is uniform
between 0 and 1, and an interval of level 0.8 holds 80 % of the truths, although curves that never got there are unseen.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scifm.errors import DataError
from scifm.findings.plan import Kind
from scifm.studies.learning_curves import Curve, Prior
from scifm.studies.planner import KINDS, PRIORS
from scifm.studies.table import Row

__all__ = [
    "LEVELS",
    "Calibration",
    "Case",
    "StudyCurve",
    "calibrate",
    "curves_of",
    "priors_from_table",
    "widened_level",
]

LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))


@dataclass(frozen=True)
class StudyCurve:
    """One learning curve of a study.

    Args:
        kind: ``few_shot`` or ``from_scratch``.
        system: of the task.
        target: name of the task.
        source: pre-training; empty from scratch.
        size: of the architecture.
        method: of fine-tuning; empty from scratch.
        seed: of samples and first weights.
        curve: the points, by number of samples.
    """

    kind: Kind
    system: str
    target: str
    source: str
    size: str
    method: str
    seed: int
    curve: Curve

    def up_to(self, few: int) -> Curve | None:
        """Return the points with at most `few` samples; None if these do not span two numbers."""
        points = [(n, e) for n, e in zip(self.curve.num_samples, self.curve.errors, strict=True) if n <= few]
        if not points:
            return None
        curve = Curve(*zip(*points, strict=True))
        return curve if curve.spans else None

    def reached(self, few: int) -> list[tuple[float, float]]:
        """Return pairs of an error reached beyond `few` samples and the number that first reached it.

        Where the curve is not monotone an error may have been reached before; the number is then interpolated, linear
        in both logarithms. Errors already reached with `few` or less are left out.
        """
        counts, errors = self.curve.num_samples, self.curve.errors
        pairs = [(errors[i], _first_crossing(counts, errors, errors[i])) for i in range(len(counts)) if counts[i] > few]
        return [(error, needed) for error, needed in pairs if needed > few]


@dataclass(frozen=True)
class Case:
    """One prediction beside the truth.

    Args:
        kind: ``few_shot`` or ``from_scratch``.
        system: left out when the prior was made.
        target: name of the task.
        source: pre-training; empty from scratch.
        size: of the architecture.
        seed: of samples and first weights.
        error: what was to be reached.
        needed: samples that reached it.
        median: predicted; None where infinite.
        low: lower end of the interval; None where infinite.
        high: upper end; None where infinite.
        share: of predictions that need at most `needed`.
    """

    kind: Kind
    system: str
    target: str
    source: str
    size: str
    seed: int
    error: float
    needed: float
    median: float | None
    low: float | None
    high: float | None
    share: float

    @property
    def depth(self) -> float:
        """The smallest level whose central interval holds the truth: 0 at the median, 1 outside of all predictions."""
        return abs(2 * self.share - 1)


@dataclass(frozen=True)
class Calibration:
    """How often the intervals held the truth.

    Args:
        level: of the intervals.
        few: largest number of samples the predictions saw.
        cases: every prediction.
        coverage: share of truths in the intervals of `level`; by kind, and ``all``.
        levels: levels of the calibration plot.
        coverages: share of truths in the intervals of each.
        widened_coverages: the same once each level is replaced by what the other systems asked for, see
            `widened_level`; None for a level where they are too few.
        level_to_ask: by kind the level to ask for to get `level`, learned on all systems; None if cases are too few.
        median_factor: median over cases of the factor between predicted and true need, at least 1; infinite
            predictions count, and None means that most are.
    """

    level: float
    few: int
    cases: tuple[Case, ...]
    coverage: dict[str, float]
    levels: tuple[float, ...]
    coverages: tuple[float, ...]
    widened_coverages: tuple[float | None, ...]
    level_to_ask: dict[str, float | None]
    median_factor: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def curves_of(rows: Iterable[Row]) -> list[StudyCurve]:
    """Return the learning curves in the table of a study, one for each seed.

    A fine-tuned curve begins with the zero-shot error of its source, task and size, where the table holds one: that of
    its own seed, or the median where seeds share a pre-training.

    Raises:
        DataError: if an error in the table is not positive and finite.
    """
    rows = list(rows)
    zero_shot: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    for row in rows:
        if row.kind == "zero_shot":
            zero_shot[row.source, row.target, row.size][row.seed] = row.relative_l2
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row.kind in KINDS and row.num_samples > 0:
            groups[row.kind, row.system, row.target, row.source, row.size, row.method, row.seed].append(row)
    curves = []
    for key, group in groups.items():
        group.sort(key=lambda row: row.num_samples)
        first = group[0]
        before = zero_shot.get((first.source, first.target, first.size), {}) if first.kind == "few_shot" else {}
        zero = before.get(first.seed, float(np.median(list(before.values()))) if before else None)
        points = [(r.num_samples, r.relative_l2) for r in group]
        counts, errors = zip(*([(0, zero)] if zero is not None else []) + points, strict=True)
        kind, system, target, source, size, method, seed = key
        curves.append(StudyCurve(kind, system, target, source, size, method, seed, Curve(counts, errors)))
    return curves


def priors_from_table(rows: Iterable[Row], *, seed: int = 0) -> dict[Kind, Prior]:
    """Return the priors that the curves of a study teach, for `scifm.studies.planner.plan`.

    A kind with no curve of two different counts keeps its default.

    Raises:
        DataError: if the table holds no such curve at all.
    """
    curves = [c for c in curves_of(rows) if c.curve.spans]
    if not curves:
        raise DataError("The table holds no learning curve: one task with two different numbers of samples or more.")
    return _priors(curves, PRIORS, seed)


def calibrate(
    rows: Iterable[Row],
    *,
    level: float = 0.8,
    few: int = 32,
    levels: Sequence[float] = LEVELS,
    start: Mapping[Kind, Prior] = PRIORS,
    seed: int = 0,
) -> Calibration:
    """Check the predictions on a study, leaving one system out at a time.

    Args:
        rows: the table.
        level: of the intervals.
        few: points with at most so many samples are seen, those beyond are predicted.
        levels: of the calibration plot.
        start: priors that those of the other systems start from, and stand alone if there are none.
        seed: of the draws.

    Raises:
        DataError: if no curve has two counts up to `few` and an error first reached beyond.
    """
    curves = curves_of(rows)
    by_system = {name: [c for c in curves if c.system == name] for name in sorted({c.system for c in curves})}
    cases = {name: _cases(by_system, name, (), start, few, level, seed) for name in by_system}
    every = tuple(case for part in cases.values() for case in part)
    if not every:
        raise DataError(
            f"No prediction can be checked: it takes a curve with two numbers of samples up to few = {few} and a lower "
            "error beyond. Choose another 'few', or a study with more numbers of samples."
        )
    widened = _widened(by_system, cases, levels, start, few, seed)
    kinds = {kind: [c for c in every if c.kind == kind] for kind in KINDS}
    coverage = {"all": _coverage(every, level)}
    coverage |= {str(kind): _coverage(part, level) for kind, part in kinds.items() if part}
    return Calibration(
        level,
        few,
        every,
        coverage,
        tuple(levels),
        tuple(_coverage(every, asked) for asked in levels),
        widened,
        {str(kind): widened_level([case.depth for case in part], level) for kind, part in kinds.items() if part},
        _median_factor(every),
    )


def widened_level(depths: Sequence[float], level: float) -> float | None:
    """Return the level to ask for so that new truths are inside as often as `level` says (split conformal).

    The answer is the ⌈(n + 1) level⌉-th smallest of n depths (Lei et al. 2018, J. Am. Stat. Assoc. 113, 1094). The
    promise needs new cases to be exchangeable with those seen; cases of another system are so only in part.

    Args:
        depths: `Case.depth` of predictions whose truth is known.
        level: wanted.

    Returns:
        A level; None if there are too few depths for it.
    """
    rank = math.ceil((len(depths) + 1) * level - 1e-9)
    return sorted(depths)[rank - 1] if 1 <= rank <= len(depths) else None


def _first_crossing(counts: Sequence[int], errors: Sequence[float], target: float) -> float:
    first = next(i for i, error in enumerate(errors) if error <= target)
    if first == 0 or errors[first] == target or counts[first - 1] == 0:  # no logarithm of 0
        return float(counts[first])
    (n0, n1), (e0, e1) = np.log(counts[first - 1 : first + 1]), np.log(errors[first - 1 : first + 1])
    return float(np.exp(n0 + (n1 - n0) * (math.log(target) - e0) / (e1 - e0)))


def _priors(curves: Sequence[StudyCurve], start: Mapping[Kind, Prior], seed: int) -> dict[Kind, Prior]:
    priors = {}
    for kind in KINDS:
        ours = [c.curve for c in curves if c.kind == kind and c.curve.spans]
        priors[kind] = Prior.from_curves(ours, start=start[kind], seed=seed) if ours else start[kind]
    return priors


def _cases(
    by_system: Mapping[str, list[StudyCurve]],
    system: str,
    hidden: tuple[str, ...],
    start: Mapping[Kind, Prior],
    few: int,
    level: float,
    seed: int,
) -> list[Case]:
    """Predict the curves of one system with priors from all others but the `hidden` ones."""
    others = [c for name, part in by_system.items() if name != system and name not in hidden for c in part]
    priors = _priors(others, start, seed)
    return [case for c in by_system[system] for case in _predictions(c, priors[c.kind], few, level, seed)]


def _predictions(curve: StudyCurve, prior: Prior, few: int, level: float, seed: int) -> list[Case]:
    seen, reached = curve.up_to(few), curve.reached(few)
    if seen is None or not reached:
        return []
    draws = prior.condition(seen, seed=seed)
    about = (curve.kind, curve.system, curve.target, curve.source, curve.size, curve.seed)
    cases = []
    for error, needed in reached:
        need = draws.need(error, level=level).to_dict()
        share = float((draws.needed(error) <= needed).mean())
        cases.append(Case(*about, error, needed, need["median"], need["low"], need["high"], share))
    return cases


def _coverage(cases: Sequence[Case], level: float) -> float:
    return float(np.mean([case.depth <= level for case in cases]))


def _widened(
    by_system: Mapping[str, list[StudyCurve]],
    cases: Mapping[str, list[Case]],
    levels: Sequence[float],
    start: Mapping[Kind, Prior],
    few: int,
    seed: int,
) -> tuple[float | None, ...]:
    """Coverage at each level after widening, by kind; what widens a system's intervals never saw that system."""
    judged: list[tuple[list[Case], list[float]]] = []
    for system, ours in cases.items():
        others = [name for name in by_system if name != system]
        seen = [case for name in others for case in _cases(by_system, name, (system,), start, few, 0.5, seed)]
        for kind in KINDS:
            asked = [case for case in ours if case.kind == kind]
            judged.append((asked, [case.depth for case in seen if case.kind == kind]))
    return tuple(_widened_coverage([pair for pair in judged if pair[0]], level) for level in levels)


def _widened_coverage(judged: list[tuple[list[Case], list[float]]], level: float) -> float | None:
    inside: list[bool] = []
    for cases, depths in judged:
        wide = widened_level(depths, level)
        if wide is None:
            return None
        inside += [case.depth <= wide for case in cases]
    return float(np.mean(inside))


def _median_factor(cases: Sequence[Case]) -> float | None:
    factors = [math.inf if c.median is None else math.exp(abs(math.log(max(c.median, 1.0) / c.needed))) for c in cases]
    middle = float(np.quantile(factors, 0.5, method="inverted_cdf"))
    return middle if math.isfinite(middle) else None
