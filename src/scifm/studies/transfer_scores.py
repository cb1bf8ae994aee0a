"""Scores of transfer: curves, gains, needs, crossovers, mixtures, and how errors follow the shift.

Every function takes a `ScoredTable` and returns parts of an `Analysis`; a number that could not be computed is None.
Formulas, trivial cases and what the intervals cover: docs/concepts/transfer-scores.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from scifm.errors import DataError
from scifm.findings.study import (
    Converged,
    Crossover,
    ErrorCurve,
    ErrorPoint,
    Gain,
    Mixing,
    Need,
    Shift,
    ShiftMeasure,
    ShiftTask,
    Size,
    Source,
    Target,
)
from scifm.studies.scored_table import CurveKey, ScoredTable, SeedRows
from scifm.studies.statistics import Estimate, finite_or_none, log_interval, rank_correlation

__all__ = [
    "ShiftValues",
    "by_params",
    "converged",
    "crossovers",
    "curves",
    "first_reaching",
    "gains",
    "is_ahead",
    "mixing",
    "needs",
    "shift",
]

ShiftValues = Mapping[tuple[str, str], Mapping[str, float | None]]
"""For ``(source, target)`` the value of each measure of shift by name."""


def curves(table: ScoredTable) -> list[ErrorCurve]:
    """Return the median error over seeds at each number of samples, with its interval, single values and runs."""
    return [
        ErrorCurve(**key._asdict(), points=tuple(_point(table, count, rows) for count, rows in points.items()))
        for key, points in table.curves.items()
    ]


def _point(table: ScoredTable, num_samples: int, rows: SeedRows) -> ErrorPoint:
    values = tuple(finite_or_none(row.relative_l2) for row in rows)
    runs = tuple(row.run for row in rows)
    return ErrorPoint(num_samples=num_samples, **_interval(table.error(rows), "median"), values=values, runs=runs)


def gains(table: ScoredTable) -> list[Gain]:
    """Return error from scratch over fine-tuned error on as many samples, paired by seed.

    Above 1: fine-tuning is better · 1: pre-training changes nothing · ``negative``: the whole interval lies below 1,
    pre-training hurts; None where there is no interval to say so.
    """
    found = []
    for key, points in table.few_shot():
        scratch = table.scratch(key.target, key.size)
        for count in sorted(points.keys() & scratch.keys()):
            numbers = _interval(table.ratio(scratch[count], points[count]), "gain")
            negative = None if numbers["high"] is None else numbers["high"] < 1
            found.append(Gain(**_where(key), num_samples=count, **numbers, negative=negative))
    return found


def converged(table: ScoredTable, most_steps: Callable[[int], int]) -> list[Converged]:
    """Return, source by source, what training from scratch reaches when it goes on as long as its held-out error falls.

    ``equal``: the error on as many samples with the budget of fine-tuning. ``fewest``: the fewest samples on which
    fine-tuning has no larger error than the long training; None: it has a larger one on all. ``num_limited``: seeds
    that were still getting better when they reached `most_steps`, the longest training allowed on so many samples.
    """
    found = []
    for key, points in table.converged():
        scratch = table.scratch(key.target, key.size)
        tuned = [(k, p) for k, p in table.few_shot() if (k.target, k.size) == (key.target, key.size)]
        for curve, reached in tuned:
            for count, rows in points.items():
                long = table.error(rows)
                part = Converged(
                    **_where(curve),
                    num_samples=count,
                    **_interval(long, "error"),
                    equal=_center(table, scratch.get(count)),
                    num_steps=tuple(row.num_steps for row in rows),
                    num_limited=sum(row.num_steps >= most_steps(count) for row in rows),
                    fewest=min((n for n, r in reached.items() if table.error(r).center <= long.center), default=None),
                )
                found.append(part)
    return found


def first_reaching(counts: Sequence[int], errors: Sequence[float], wanted: float) -> tuple[float, str | None]:
    """Return the number of samples at which a curve first comes down to an error.

    The curve is made non-increasing first (running minimum: more samples need not be used), then read as straight
    lines in log error over log samples.

    Args:
        counts: numbers of samples, rising.
        errors: at each; positive. A NaN leaves everything from there on unknown.
        wanted: error to come down to.

    Returns:
        The number, and None; or the smallest count and ``"at most"`` when that already reaches it; or the largest and
        ``"more than"`` when even that does not; or NaN and None when a NaN hides the answer.
    """
    lowest = np.minimum.accumulate(np.asarray(errors, dtype=np.float64))
    if not lowest.size or not wanted > 0 or not math.isfinite(wanted):
        return math.nan, None
    for i, error in enumerate(lowest):
        if math.isnan(error):
            return math.nan, None
        if error <= wanted:
            if i == 0:
                return float(counts[0]), "at most"
            # An error of 0 has no logarithm, so there is no line to it.
            return (_log_line(error, wanted, lowest[i - 1], counts[i], counts[i - 1]) if error > 0 else math.nan), None
    return float(counts[-1]), "more than"


def _log_line(x0: float, x: float, x1: float, y0: float, y1: float) -> float:
    """Return y at x on the line through (x0, y0) and (x1, y1) in double logarithmic axes."""
    share = math.log(x / x0) / math.log(x1 / x0)
    return math.exp(math.log(y0) + share * math.log(y1 / y0))


def needs(table: ScoredTable, reference_samples: int | None = None) -> list[Need]:
    """Return how many fine-tuning samples reach the error from scratch on `reference_samples`: how many times fewer.

    ``ratio = reference_samples / needed``. With the bound ``"at most"`` the true ratio is that or more, with
    ``"more than"`` less than that. Zero-shot reaching the error gives ``"at most"`` the smallest count. The interval is
    of the ratios seed by seed; None when one of them is only a bound, or unknown.

    Args:
        table: the study's.
        reference_samples: one of the numbers trained on from scratch; the largest in the table by default.

    Raises:
        DataError: if nothing was trained from scratch on `reference_samples`.
    """
    trained = {count for key, points in table.curves.items() if key.kind == "from_scratch" for count in points}
    if reference_samples is not None and reference_samples not in trained:
        raise DataError(
            f"Nothing was trained from scratch on {reference_samples} samples; there are {sorted(trained)}."
        )
    if not trained:
        return []
    reference = reference_samples or max(trained)
    return [
        _need(table, key, points, reference)
        for key, points in table.few_shot()
        if reference in table.scratch(key.target, key.size)
    ]


def _need(table: ScoredTable, key: CurveKey, points: dict[int, SeedRows], reference: int) -> Need:
    scratch = table.scratch(key.target, key.size)[reference]
    zero_shot = table.zero_shot(key.source, key.target, key.size)
    wanted = table.error(scratch).center
    needed, bound = first_reaching(list(points), [table.error(rows).center for rows in points.values()], wanted)
    if zero_shot and table.error(zero_shot).center <= wanted:
        needed, bound = float(min(points)), "at most"
    ratio = reference / needed
    low, high = math.nan, math.nan
    if bound is None and math.isfinite(ratio):
        low, high = log_interval(_ratios_by_seed(points, scratch, reference), table.level)
    return Need(
        **_where(key),
        reference_samples=reference,
        reference_error=finite_or_none(wanted),
        needed=finite_or_none(needed),
        ratio=finite_or_none(ratio),
        ratio_low=finite_or_none(min(low, ratio)),
        ratio_high=finite_or_none(max(high, ratio)),
        bound=bound,
    )


def _ratios_by_seed(points: dict[int, SeedRows], scratch: SeedRows, reference: int) -> list[float]:
    """Return the ratio of each seed that has the whole curve; NaN where it is only bounded."""
    errors = {count: {row.seed: row.relative_l2 for row in rows} for count, rows in points.items()}
    ratios = []
    for row in scratch:
        if all(row.seed in by_seed for by_seed in errors.values()):
            curve = [by_seed[row.seed] for by_seed in errors.values()]
            needed, bound = first_reaching(list(errors), curve, row.relative_l2)
            ratios.append(math.nan if bound else reference / needed)
    return ratios


def crossovers(table: ScoredTable) -> list[Crossover]:
    """Return where fine-tuning is no longer ahead of training from scratch on as many samples.

    That is the smallest number measured in both at which the gain's interval holds 1 or lies below it (with one seed:
    at which the gain is not above 1). Where the gain itself falls to 1 or below there, the number is the crossing on
    the line in log gain over log samples from the number before.
    """
    measured = gains(table)
    found = []
    for key, _ in table.few_shot():
        own = [g for g in measured if (g.source, g.target, g.size, g.method) == key[1:]]
        found.append(Crossover(**_where(key), **_crossover([(g, g.gain) for g in own if g.gain is not None], len(own))))
    return found


def _crossover(measured: list[tuple[Gain, float]], num_shared: int) -> dict[str, Any]:
    if not measured:
        why = "their gains are not finite" if num_shared else "there is no number of samples both were trained on"
        return {"told": f"fine-tuning and training from scratch cannot be compared: {why}"}
    gap = "" if num_shared == len(measured) else f" ({num_shared - len(measured)} more could not be computed)"
    sure = "" if all(g.low is not None for g, _ in measured) else ", by the gain alone: no interval from one seed"
    first = next((i for i, (g, _) in enumerate(measured) if not is_ahead(g)), None)
    if first is None:
        last = f"{measured[-1][0].num_samples:,}"
        return {"told": f"fine-tuning is ahead at every number of samples measured (up to {last}){gap}{sure}"}
    (here, gain), again = measured[first], [g.num_samples for g, _ in measured[first + 1 :] if is_ahead(g)]
    where, told = float(here.num_samples), f"fine-tuning is not clearly ahead any more at {here.num_samples:,}"
    if first == 0:
        told = f"fine-tuning is not clearly ahead even at the smallest number measured, {here.num_samples:,}"
    elif gain <= 1:
        before, gain_before = measured[first - 1]
        where = _log_line(gain_before, 1.0, gain, before.num_samples, where)
        told = f"the gain falls to 1 at about {where:,.0f}"
    told += f" samples; it is ahead again at {', '.join(f'{n:,}' for n in again)}" if again else " samples"
    return {"num_samples": where, "told": told + gap + sure}


def is_ahead(gain: Gain) -> bool:
    """Return whether a gain's interval lies above 1, or the gain itself where one seed gives no interval."""
    bound = gain.gain if gain.low is None else gain.low
    return bound is not None and bound > 1


def mixing(table: ScoredTable, *, method: str = "all") -> list[Mixing]:
    """Compare pre-training on several systems with pre-training on the target's own system alone.

    Every such pair at every number of samples that both were fine-tuned on, of one size, paired by seed.
    ``ratio = mixture error / specialist error``: below 1 the mixture is better. ``contains_system`` is False for a
    mixture that never saw the target's system.

    Args:
        table: the study's.
        method: of fine-tuning.
    """
    return [
        pair
        for target in table.targets
        for size in table.sizes
        for specialist in table.sources
        if specialist.systems == (target.system,)
        for mixture in table.sources
        if len(mixture.systems) > 1
        for pair in _compare(table, target, size, specialist, mixture, method)
    ]


def _compare(
    table: ScoredTable, target: Target, size: Size, specialist: Source, mixture: Source, method: str
) -> Iterator[Mixing]:
    ours, theirs = (
        table.curves.get(CurveKey("few_shot", source.name, target.name, size.name, method), {})
        for source in (specialist, mixture)
    )
    scratch = table.scratch(target.name, size.name)
    for count in sorted(ours.keys() & theirs.keys()):
        yield Mixing(
            target=target.name,
            size=size.name,
            num_samples=count,
            specialist=specialist.name,
            mixture=mixture.name,
            contains_system=target.system in mixture.systems,
            specialist_error=_center(table, ours[count]),
            mixture_error=_center(table, theirs[count]),
            **_interval(table.ratio(theirs[count], ours[count]), "ratio"),
            scratch_error=_center(table, scratch.get(count)),
        )


def shift(table: ScoredTable, values: ShiftValues | None = None, *, labels: Mapping[str, str] | None = None) -> Shift:
    """Set the zero-shot error of every task beside how far it was shifted, and rank-correlate the two.

    A task is a source and a target; correlated are the tasks of one size, the one with most tasks scored zero-shot (of
    equals the largest), since one shift seen by several sizes is not several shifts. Tasks without a value, or without
    a finite error, cannot be ranked.

    Args:
        table: the study's.
        values: for ``(source, target)`` the value of each measure of shift by name, larger for a stronger shift.
        labels: what to call the measures; their names by default.

    Raises:
        DataError: if `values` names a source or target that the study lacks.
    """
    given = values or {}
    _check_shift_values(table, given)
    tasks = []
    for key, points in table.curves.items():
        if key.kind == "zero_shot":
            own = {name: finite_or_none(x) for name, x in given.get((key.source, key.target), {}).items()}
            place = {"source": key.source, "target": key.target, "size": key.size}
            tasks.append(ShiftTask(**place, zero_shot=_center(table, points[0]), values=own))
    ranked = _of_fullest_size(table, tasks)
    names = dict.fromkeys(name for by_name in given.values() for name in by_name)
    measures = tuple(_correlate(table, ranked, name, (labels or {}).get(name, name)) for name in names)
    return Shift(measures=measures, tasks=tuple(tasks))


def _check_shift_values(table: ScoredTable, values: ShiftValues) -> None:
    sources, targets = {s.name for s in table.sources}, {t.name for t in table.targets}
    unknown = [pair for pair in values if pair[0] not in sources or pair[1] not in targets]
    if unknown:
        raise DataError(f"Shift values are given for (source, target) {unknown[0]}, which the study does not have.")


def _of_fullest_size(table: ScoredTable, tasks: list[ShiftTask]) -> list[ShiftTask]:
    by_size = [[task for task in tasks if task.size == size.name] for size in by_params(table.sizes)]
    return max(reversed(by_size), key=len, default=[])  # of equals the first, which is the largest size


def by_params(sizes: Iterable[Size]) -> list[Size]:
    """Return the sizes, fewest weights first."""
    return sorted(sizes, key=lambda size: (size.num_params, size.name))


def _correlate(table: ScoredTable, tasks: list[ShiftTask], name: str, label: str) -> ShiftMeasure:
    systems = {target.name: target.system for target in table.targets}
    pooled = rank_correlation(*_columns(tasks, name))
    within = {
        system: rank_correlation(*_columns([t for t in tasks if systems[t.target] == system], name)).rho
        for system in dict.fromkeys(systems.values())
    }
    return ShiftMeasure(
        name=name,
        label=label,
        rank_correlation=finite_or_none(pooled.rho),
        num_tasks=pooled.num_pairs,
        p_value=finite_or_none(pooled.p_value),
        within={system: finite_or_none(rho) for system, rho in within.items()},
    )


def _columns(tasks: list[ShiftTask], name: str) -> tuple[list[float], list[float]]:
    pairs = [(task.values.get(name), task.zero_shot) for task in tasks]
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in known], [y for _, y in known]


def _where(key: CurveKey) -> dict[str, str]:
    return {"source": key.source, "target": key.target, "size": key.size, "method": key.method}


def _center(table: ScoredTable, rows: SeedRows | None) -> float | None:
    return None if rows is None else finite_or_none(table.error(rows).center)


def _interval(estimate: Estimate, center: str) -> dict[str, float | None]:
    low, high = finite_or_none(estimate.low), finite_or_none(estimate.high)
    return {center: finite_or_none(estimate.center), "low": low, "high": high}
