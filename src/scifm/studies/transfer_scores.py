"""Scores of transfer: curves, gains, needs, crossovers, mixtures, and how errors follow the shift.

Every function takes a `ScoredTable` and returns parts of an `Analysis`; a number that could not be computed is None.
Formulas, trivial cases and what the intervals cover: docs/concepts/transfer-scores.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

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
)
from scifm.studies.shift import SHIFT_MEASURES
from scifm.studies.statistics import LEVEL, log_interval, rank_correlation
from scifm.studies.table import CurveKey, Points, ScoredTable, SeedRows

__all__ = [
    "ShiftValues",
    "by_params",
    "converged",
    "crossovers",
    "curves",
    "first_reaching",
    "gains",
    "is_ahead",
    "log_line",
    "mixing",
    "needs",
    "shift",
]

ShiftValues = Mapping[tuple[str, str], Mapping[str, float | None]]
"""For ``(source, target)`` the value of each measure of shift by name."""


def curves(table: ScoredTable) -> list[ErrorCurve]:
    """Return the median error over seeds at each number of samples, with its interval, single values and runs."""
    return [
        ErrorCurve(kind=key.kind, **key.where, points=tuple(_point(table, *each) for each in points.items()))
        for key, points in table.curves.items()
    ]


def _point(table: ScoredTable, num_samples: int, rows: SeedRows) -> ErrorPoint:
    center, low, high = table.error(rows)
    values, runs = zip(*((row.relative_l2, row.run) for row in rows), strict=True)
    return ErrorPoint(num_samples=num_samples, median=center, low=low, high=high, values=values, runs=runs)


def gains(table: ScoredTable) -> list[Gain]:
    """Return error from scratch over fine-tuned error on as many samples, paired by seed.

    Above 1: fine-tuning is better · 1: pre-training changes nothing · ``negative``: the whole interval lies below 1,
    pre-training hurts; None where there is no interval to say so.
    """
    measured = []
    for key, points in table.of_kind("few_shot"):
        scratch = table.scratch(key.target, key.size)
        for count in sorted(points.keys() & scratch.keys()):
            gain, low, high = table.ratio(scratch[count], points[count])
            negative = None if math.isnan(high) else high < 1
            measured.append(Gain(**key.where, num_samples=count, gain=gain, low=low, high=high, negative=negative))
    return measured


def converged(table: ScoredTable, most_steps: Callable[[str, int], int]) -> list[Converged]:
    """Return, source by source, what training from scratch reaches when it goes on as long as its held-out error falls.

    ``equal``: the error on as many samples with the budget of fine-tuning. ``fewest``: the fewest samples on which
    fine-tuning has no larger error than the long training; None: it has a larger one on all. ``num_limited``: seeds
    that were still getting better when they reached `most_steps`, the longest training allowed of a network on so many
    samples.
    """
    reached = []
    for key, points in table.of_kind("from_scratch_converged"):
        scratch = table.scratch(key.target, key.size)
        for curve, tuned in table.of_kind("few_shot"):
            if (curve.target, curve.size) != (key.target, key.size):
                continue
            for count, rows in points.items():
                error, low, high = table.error(rows)
                part = Converged(
                    **curve.where,
                    num_samples=count,
                    error=error,
                    low=low,
                    high=high,
                    equal=table.error(scratch.get(count, ())).center,
                    num_steps=tuple(row.num_steps for row in rows),
                    num_limited=sum(row.num_steps >= most_steps(key.size, count) for row in rows),
                    fewest=min((n for n, own in tuned.items() if table.error(own).center <= error), default=None),
                )
                reached.append(part)
    return reached


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
    if not lowest.size or not 0 < wanted < math.inf:
        return math.nan, None
    there = np.isnan(lowest) | (lowest <= wanted)
    if not there.any():
        return float(counts[-1]), "more than"
    i = int(np.argmax(there))
    if i == 0 and not math.isnan(lowest[0]):
        return float(counts[0]), "at most"
    if not lowest[i] > 0:  # an error of 0 has no logarithm, so there is no line to it
        return math.nan, None
    return log_line(lowest[i], wanted, lowest[i - 1], counts[i], counts[i - 1]), None


def log_line(x0: float, x: float, x1: float, y0: float, y1: float) -> float:
    """Return y at x on the line through (x0, y0) and (x1, y1) in double logarithmic axes."""
    share = math.log(x / x0) / math.log(x1 / x0)
    return math.exp(math.log(y0) + share * math.log(y1 / y0))


def needs(table: ScoredTable) -> list[Need]:
    """Return how many fine-tuning samples reach the error from scratch on the most there are: how many times fewer.

    ``ratio = reference_samples / needed``. With the bound ``"at most"`` the true ratio is that or more, with
    ``"more than"`` less than that. Zero-shot reaching the error gives ``"at most"`` the smallest count. The interval is
    of the ratios seed by seed; None when one of them is only a bound, or unknown.
    """
    reference = max((count for _, points in table.of_kind("from_scratch") for count in points), default=0)
    return [
        _need(table, key, points, reference)
        for key, points in table.of_kind("few_shot")
        if reference in table.scratch(key.target, key.size)
    ]


def _need(table: ScoredTable, key: CurveKey, points: Points, reference: int) -> Need:
    scratch = table.scratch(key.target, key.size)[reference]
    wanted = table.error(scratch).center
    needed, bound = first_reaching(list(points), [table.error(rows).center for rows in points.values()], wanted)
    if table.error(table.zero_shot(key.source, key.target, key.size)).center <= wanted:
        needed, bound = float(min(points)), "at most"
    ratio, low, high = reference / needed, math.nan, math.nan
    if bound is None and math.isfinite(ratio):
        low, high = log_interval(_ratios_by_seed(points, scratch, reference), LEVEL)
    return Need(
        **key.where,
        reference_samples=reference,
        reference_error=wanted,
        needed=needed,
        ratio=ratio,
        ratio_low=min(low, ratio),  # min(NaN, x) is NaN: an interval that is missing stays missing
        ratio_high=max(high, ratio),
        bound=bound,
    )


def _ratios_by_seed(points: Points, scratch: SeedRows, reference: int) -> list[float]:
    """Return the ratio of each seed that has the whole curve; NaN where it is only bounded."""
    errors = [{row.seed: row.relative_l2 for row in rows} for rows in points.values()]
    ratios = []
    for row in scratch:
        if all(row.seed in by_seed for by_seed in errors):
            needed, bound = first_reaching(list(points), [each[row.seed] for each in errors], row.relative_l2)
            ratios.append(math.nan if bound else reference / needed)
    return ratios


def crossovers(table: ScoredTable) -> list[Crossover]:
    """Return where fine-tuning is no longer ahead of training from scratch on as many samples.

    That is the smallest number measured in both at which the gain's interval holds 1 or lies below it (with one seed:
    at which the gain is not above 1). Where the gain itself falls to 1 or below there, the number is the crossing on
    the line in log gain over log samples from the number before.
    """
    measured = gains(table)
    return [
        _crossover(key, [gain for gain in measured if (gain.source, gain.target, gain.size, gain.method) == key[1:]])
        for key, _ in table.of_kind("few_shot")
    ]


def _crossover(key: CurveKey, shared: list[Gain]) -> Crossover:
    measured = [(gain, gain.gain) for gain in shared if gain.gain is not None]
    if not measured:
        why = "their gains are not finite" if shared else "there is no number of samples both were trained on"
        return Crossover(**key.where, told=f"fine-tuning and training from scratch cannot be compared: {why}")
    gap = "" if len(shared) == len(measured) else f" ({len(shared) - len(measured)} more could not be computed)"
    sure = "" if all(g.low is not None for g, _ in measured) else ", by the gain alone: no interval from one seed"
    first = next((i for i, (g, _) in enumerate(measured) if not is_ahead(g)), None)
    if first is None:
        last = f"{measured[-1][0].num_samples:,}"
        text = f"fine-tuning is ahead at every number of samples measured (up to {last}){gap}{sure}"
        return Crossover(**key.where, told=text)
    (here, gain), again = measured[first], [g.num_samples for g, _ in measured[first + 1 :] if is_ahead(g)]
    where, text = float(here.num_samples), f"fine-tuning is not clearly ahead any more at {here.num_samples:,}"
    if first == 0:
        text = f"fine-tuning is not clearly ahead even at the smallest number measured, {here.num_samples:,}"
    elif gain <= 1:
        before, gain_before = measured[first - 1]
        where = log_line(gain_before, 1.0, gain, before.num_samples, where)
        text = f"the gain falls to 1 at about {where:,.0f}"
    text += f" samples; it is ahead again at {', '.join(f'{n:,}' for n in again)}" if again else " samples"
    return Crossover(**key.where, num_samples=where, told=text + gap + sure)


def is_ahead(gain: Gain) -> bool:
    """Return whether a gain's interval lies above 1, or the gain itself where one seed gives no interval."""
    bound = gain.gain if gain.low is None else gain.low
    return bound is not None and bound > 1


def mixing(table: ScoredTable) -> list[Mixing]:
    """Compare pre-training on several systems with pre-training on the target's own system alone.

    Every such pair at every number of samples that all weights of both were fine-tuned on, of one size, paired by seed.
    ``ratio = mixture error / specialist error``: below 1 the mixture is better. ``contains_system`` is False for a
    mixture that never saw the target's system.
    """
    few_shot = {key[1:4]: points for key, points in table.of_kind("few_shot") if key.method == "all"}
    pairs = []
    for target, size, specialist, mixture in product(table.targets, table.sizes, table.sources, table.sources):
        if specialist.systems != (target.system,) or len(mixture.systems) < 2:
            continue
        ours, theirs = (few_shot.get((own.name, target.name, size.name), {}) for own in (specialist, mixture))
        scratch = table.scratch(target.name, size.name)
        for count in sorted(ours.keys() & theirs.keys()):
            ratio, low, high = table.ratio(theirs[count], ours[count])
            pair = Mixing(
                target=target.name,
                size=size.name,
                num_samples=count,
                specialist=specialist.name,
                mixture=mixture.name,
                contains_system=target.system in mixture.systems,
                specialist_error=table.error(ours[count]).center,
                mixture_error=table.error(theirs[count]).center,
                ratio=ratio,
                low=low,
                high=high,
                scratch_error=table.error(scratch.get(count, ())).center,
            )
            pairs.append(pair)
    return pairs


def shift(table: ScoredTable, values: ShiftValues | None = None) -> Shift:
    """Set the zero-shot error of every task beside how far it was shifted, and rank-correlate the two.

    A task is a source and a target; correlated are the tasks of one network, the one with most tasks scored zero-shot
    (of equals the largest of the first architecture), since one shift seen by several networks is not several shifts.
    Tasks without a value, or without a finite error, cannot be ranked.

    Args:
        table: the study's.
        values: for ``(source, target)`` the value of each measure of shift by name, larger for a stronger shift.

    Raises:
        DataError: if `values` names a source or target that the study lacks.
    """
    given = values or {}
    sources, targets = {s.name for s in table.sources}, {t.name for t in table.targets}
    unknown = [pair for pair in given if pair[0] not in sources or pair[1] not in targets]
    if unknown:
        raise DataError(f"Shift values are given for (source, target) {unknown[0]}, which the study does not have.")
    tasks = [
        ShiftTask(
            source=key.source,
            target=key.target,
            size=key.size,
            zero_shot=table.error(points[0]).center,
            values=given.get((key.source, key.target), {}),
        )
        for key, points in table.of_kind("zero_shot")
    ]
    order = list(dict.fromkeys(size.architecture for size in table.sizes))
    smallest = sorted(by_params(table.sizes), key=lambda size: -order.index(size.architecture))
    by_size = [[task for task in tasks if task.size == size.name] for size in reversed(smallest)]
    ranked = max(by_size, key=len, default=[])  # of equals the first
    names = dict.fromkeys(name for by_name in given.values() for name in by_name)
    measures = [_correlate(table, ranked, name) for name in names]
    return Shift(size=ranked[0].size if ranked else "", measures=tuple(measures), tasks=tuple(tasks))


def by_params(sizes: Iterable[Size]) -> list[Size]:
    """Return the sizes, fewest weights first."""
    return sorted(sizes, key=lambda size: (size.num_params, size.name))


def _correlate(table: ScoredTable, tasks: list[ShiftTask], name: str) -> ShiftMeasure:
    system_of = {target.name: target.system for target in table.targets}
    pairs = [(system_of[task.target], task.values.get(name), task.zero_shot) for task in tasks]
    known = [(system, x, y) for system, x, y in pairs if x is not None and y is not None]
    pooled = rank_correlation([x for _, x, _ in known], [y for *_, y in known])
    within = {
        own: rank_correlation([x for system, x, _ in known if system == own], [y for s, _, y in known if s == own]).rho
        for own in dict.fromkeys(system_of.values())
    }
    return ShiftMeasure(
        name=name,
        label=SHIFT_MEASURES[name][0],
        rank_correlation=pooled.rho,
        num_tasks=pooled.num_pairs,
        p_value=pooled.p_value,
        within=within,
    )
