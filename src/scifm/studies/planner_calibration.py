"""Do the planner's intervals hold? Checked on the table of a study, one system left out at a time.

For every curve of a system: take the points up to a few samples, predict the need for an error that was really reached
with more, and see where the number that reached it falls among the predictions. Priors come from the other systems.

Asking how many samples reach the error measured at N is asking which error is measured at N: the share of predictions
that need at most N is the share that is better at N. So if the beliefs are right, that share (`PredictedNeed.share`) is
uniform between 0 and 1, and an interval of level 0.8 holds 80 % of the truths, although curves that never got there are
unseen.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from scifm.errors import DataError, RunError
from scifm.findings.plan import Kind, SamplesNeeded
from scifm.findings.study import Analysis
from scifm.models.folder import find_model, reading
from scifm.runs import Run
from scifm.studies.learning_curves import Curve, Prior
from scifm.studies.plan_advice import KINDS
from scifm.studies.planner import PRIORS
from scifm.studies.table import Row, read_table
from scifm.studies.transfer_scores import log_line

__all__ = [
    "LEVELS",
    "PlannerCalibration",
    "PredictedNeed",
    "StudyCurve",
    "calibrate_planner",
    "curves_of",
    "priors_from_study",
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
        curve = Curve(*zip(*points, strict=True)) if points else None
        return curve if curve is not None and curve.spans else None

    def reached(self, few: int) -> list[tuple[float, float]]:
        """Return pairs of an error reached beyond `few` samples and the number that first reached it.

        Where the curve is not monotone an error may have been reached before; the number is then interpolated, linear
        in both logarithms. Errors already reached with `few` or less are left out.
        """
        counts, errors = self.curve.num_samples, self.curve.errors
        pairs = []
        for count, wanted in zip(counts, errors, strict=True):
            first = next(i for i, error in enumerate(errors) if error <= wanted)
            needed = float(counts[first])
            if first > 0 and errors[first] < wanted and counts[first - 1] > 0:  # 0 samples have no logarithm
                needed = log_line(errors[first], wanted, errors[first - 1], counts[first], counts[first - 1])
            if min(count, needed) > few:
                pairs.append((wanted, needed))
        return pairs


@dataclass(frozen=True)
class PredictedNeed:
    """One prediction beside the truth.

    Args:
        curve: predicted from its first points; its system was left out when the prior was made.
        error: what was to be reached.
        needed: samples that reached it.
        need: what was predicted.
        share: of predictions that need at most `needed`.
    """

    curve: StudyCurve
    error: float
    needed: float
    need: SamplesNeeded
    share: float

    @property
    def depth(self) -> float:
        """The smallest level whose central interval holds the truth: 0 at the median, 1 outside of all predictions."""
        return abs(2 * self.share - 1)


@dataclass(frozen=True)
class PlannerCalibration:
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
    cases: tuple[PredictedNeed, ...]
    coverage: dict[str, float]
    levels: tuple[float, ...]
    coverages: tuple[float, ...]
    widened_coverages: tuple[float | None, ...]
    level_to_ask: dict[str, float | None]
    median_factor: float | None


def curves_of(rows: Iterable[Row]) -> list[StudyCurve]:
    """Return the learning curves in the table of a study, one for each seed.

    A fine-tuned curve begins with the zero-shot error of its source, task and size, where the table holds one: that of
    its own seed, or the median where seeds share a pre-training.

    Raises:
        DataError: if an error in the table is not positive and finite.
    """
    zero_shot: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    groups: dict[tuple[Any, ...], list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if row.kind == "zero_shot":
            zero_shot[row.source, row.target, row.size][row.seed] = row.relative_l2
        if row.kind in KINDS and row.num_samples > 0:
            key = (row.kind, row.system, row.target, row.source, row.size, row.method, row.seed)
            groups[key].append((row.num_samples, row.relative_l2))
    curves = []
    for key, points in groups.items():
        kind, _, target, source, size, _, seed = key
        before = zero_shot.get((source, target, size), {}) if kind == "few_shot" else {}
        if before:
            points.append((0, before.get(seed, float(np.median(list(before.values()))))))
        counts, errors = zip(*sorted(points, key=lambda point: point[0]), strict=True)
        curves.append(StudyCurve(*key, Curve(counts, errors)))
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


def priors_from_study(folder: str | Path, parent: Run | str | Path) -> dict[Kind, Prior]:
    """Return the priors that a study teaches about operators of the kind of `parent`.

    Learning curves of other kinds of operators in it are left out. A study of before, which does not say of what kind
    its networks are, is taken whole.

    Args:
        folder: of the study.
        parent: the model that a plan is made for, see `find_model`.

    Raises:
        DataError: if none of its networks is of that kind.
        RunError: if the study or the model cannot be read.
    """
    place = Path(folder)
    rows, file = read_table(place / "table.parquet"), place / "analysis.json"
    try:
        sizes = Analysis.model_validate_json(file.read_bytes()).sizes if file.is_file() else ()
    except (OSError, ValueError) as error:
        raise RunError(
            f"'{file}' cannot be read ({type(error).__name__}). Run the study again to make it anew."
        ) from error
    kinds = {size.name: size.kind for size in sizes if size.kind}
    with reading(find_model(parent).folder) as content:
        kind = content.kind
    own = [row for row in rows if kinds.get(row.size, kind) == kind]
    if not own:
        there = ", ".join(sorted(set(kinds.values())))
        raise DataError(
            f"The study '{place}' has learning curves of other kinds of operators only ({there}); the model is of kind "
            f"'{kind}'. Leave the study out, or give one of that kind."
        )
    return priors_from_table(own)


def _priors(curves: Sequence[StudyCurve], start: Mapping[Kind, Prior], seed: int) -> dict[Kind, Prior]:
    priors = {}
    for kind in KINDS:
        ours = [c for c in curves if c.kind == kind and c.curve.spans]
        if ours:
            systems = [c.system for c in ours]
            priors[kind] = Prior.from_curves([c.curve for c in ours], families=systems, start=start[kind], seed=seed)
        else:
            priors[kind] = start[kind]
    return priors


def calibrate_planner(
    rows: Iterable[Row],
    *,
    level: float = 0.8,
    few: int = 32,
    levels: Sequence[float] = LEVELS,
    start: Mapping[Kind, Prior] = PRIORS,
    seed: int = 0,
) -> PlannerCalibration:
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
    curves = sorted(curves_of(rows), key=lambda c: c.system)
    systems = list(dict.fromkeys(c.system for c in curves))

    @cache
    def priors_without(hidden: frozenset[str]) -> dict[Kind, Prior]:
        return _priors([c for c in curves if c.system not in hidden], start, seed)

    def cases_of(system: str, *hidden: str) -> list[PredictedNeed]:
        """Predict the curves of one system with priors from all others but the `hidden` ones."""
        priors = priors_without(frozenset({system, *hidden}))
        return [case for c in curves if c.system == system for case in _predict(c, priors[c.kind], few, level, seed)]

    def widened(wanted: float) -> float | None:
        """Return how often the truth is inside once `wanted` is replaced by what the other systems ask for."""
        inside: list[bool] = []
        for ours, others in judged:
            if (wide := widened_level(others, wanted)) is None:
                return None
            inside += [depth <= wide for depth in ours]
        return float(np.mean(inside))

    by_system = {system: cases_of(system) for system in systems}
    every = [case for part in by_system.values() for case in part]
    if not every:
        raise DataError(
            f"No prediction can be checked: it takes a curve with two numbers of samples up to few = {few} and a lower "
            "error beyond. Choose another 'few', or a study with more numbers of samples."
        )
    judged: list[tuple[list[float], list[float]]] = []  # what widens a system's intervals never saw that system
    for system, own in by_system.items():
        others = [case for name in systems if name != system for case in cases_of(name, system)]
        judged += [(depths, _depths(others, kind)) for kind in KINDS if (depths := _depths(own, kind))]
    kinds = {str(kind): depths for kind in KINDS if (depths := _depths(every, kind))}
    all_depths = np.array([case.depth for case in every])
    return PlannerCalibration(
        level,
        few,
        tuple(every),
        {name: float((np.array(part) <= level).mean()) for name, part in ({"all": all_depths} | kinds).items()},
        tuple(levels),
        tuple(float((all_depths <= wanted).mean()) for wanted in levels),
        tuple(map(widened, levels)),
        {name: widened_level(depths, level) for name, depths in kinds.items()},
        _median_factor(every),
    )


def _depths(cases: Iterable[PredictedNeed], kind: Kind) -> list[float]:
    return [case.depth for case in cases if case.curve.kind == kind]


def _predict(curve: StudyCurve, prior: Prior, few: int, level: float, seed: int) -> list[PredictedNeed]:
    seen, reached = curve.up_to(few), curve.reached(few)
    if seen is None or not reached:
        return []
    draws = prior.condition(seen, seed=seed)
    return [
        PredictedNeed(
            curve, error, needed, draws.need(error, level=level), float((draws.needed(error) <= needed).mean())
        )
        for error, needed in reached
    ]


def widened_level(depths: Sequence[float], level: float) -> float | None:
    """Return the level to ask for so that new truths are inside as often as `level` says (split conformal).

    The answer is the ⌈(n + 1) level⌉-th smallest of n depths (Lei et al. 2018, J. Am. Stat. Assoc. 113, 1094). The
    promise needs new cases to be exchangeable with those seen; cases of another system are so only in part.

    Args:
        depths: `PredictedNeed.depth` of predictions whose truth is known.
        level: wanted.

    Returns:
        A level; None if there are too few depths for it.
    """
    rank = math.ceil((len(depths) + 1) * level - 1e-9)
    return sorted(depths)[rank - 1] if 1 <= rank <= len(depths) else None


def _median_factor(cases: Sequence[PredictedNeed]) -> float | None:
    medians = [(case.need.median, case.needed) for case in cases]
    factors = [math.inf if m is None else math.exp(abs(math.log(max(m, 1.0) / needed))) for m, needed in medians]
    middle = float(np.quantile(factors, 0.5, method="inverted_cdf"))
    return middle if math.isfinite(middle) else None
