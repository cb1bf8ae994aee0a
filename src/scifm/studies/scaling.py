"""Does more still help? Laws and verdicts along each axis of scale, and of size and samples together.

Three questions are put to the points of an axis: does the error still fall from one doubling to the next, beyond the
scatter of seeds; which law describes them, one with a floor or one without; and would the next doubling gain more than
seeds scatter. Where the answers disagree, or there are too few points or seeds to ask, the verdict is "cannot tell".

A cell is a size of network with a number of samples seen in pre-training; its errors are those in distribution, of
every seed, averaged over the systems of the source.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scifm.errors import DataError
from scifm.findings.study import FrontierPoint, JointScaling, Parameter, Scaling, ScalingAxis, ScalingPoint
from scifm.findings.study import Law as DrawnLaw
from scifm.studies.joint_laws import (
    PARAMETERS,
    JointLaw,
    bootstrap_joint_law,
    fit_joint_law,
    held_out_error,
    measured_frontier,
)
from scifm.studies.laws import Law, choose_law, why_not
from scifm.studies.recipe import StudyRecipe
from scifm.studies.statistics import LEVEL
from scifm.studies.table import Row
from scifm.wording import signed

__all__ = ["Cell", "Saturation", "Slope", "cells_of", "saturation", "scaling_axis", "scaling_findings"]

Floats = NDArray[np.float64]
Points = list[tuple[float, Floats]]  # x, and the logarithms of its seeds' errors

# Below this share of the median early slope a doubling counts as flat.
_FLAT_SHARE = 0.1
# Slopes are taken between x at least this factor apart: sizes are seldom doubled exactly.
_APART = 1.5
_ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
_NUM_DRAWS = 2000  # of seeds
_NUM_BUDGETS = 5


@dataclass(frozen=True)
class Slope:
    """How fast the error falls between two x, in powers of two a doubling: log2(y₁/y₂) / log2(x₂/x₁).

    Args:
        start: x₁.
        end: x₂.
        value: from geometric means over seeds; 0 is flat, positive falls.
        low: lower end of its interval; None with fewer than two seeds at either x.
        high: upper end.
    """

    start: float
    end: float
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Saturation:
    """A verdict and what it rests on.

    Args:
        verdict: ``saturated``, ``not saturated`` or ``cannot tell``.
        told: one sentence with the evidence in numbers.
        slopes: between successive doublings, smallest x first.
        early_slope: median slope before the last two (of two, the first); None where there are fewer than two.
        gain: share of the error that the law predicts the next doubling to take away; None without a law.
        spread: scatter of seeds as a share of the error, one standard deviation; None without two seeds.
        law: that the points ask for; None where not one could be fitted.
    """

    verdict: str
    told: str
    slopes: tuple[Slope, ...]
    early_slope: float | None
    gain: float | None
    spread: float | None
    law: Law | None


def saturation(x: ArrayLike, values_by_seed: Sequence[ArrayLike]) -> Saturation:
    """Tell whether the error has stopped falling.

    *Flat*: in each of the last two doublings the interval of the slope holds 0 or the slope is below 10 % of the median
    early slope, and the interval lies below the steepest early slope that is clearly positive (an interval that holds
    everything shows nothing).
    *Falling*: the interval of the last slope lies above 0 and the slope is at least 10 % of the early one.

    ``saturated``: flat, and the law (chosen by AICc among those with and without floor or break) predicts the next
    doubling to gain no more than the seeds scatter. ``not saturated``: falling, and the predicted gain is more than
    that. Without a law the slopes decide alone. Everything else: ``cannot tell``. At least two seeds at the last x are
    needed, three x to see it fall and four to see it stop.

    Args:
        x: samples, parameters or operations, `(points,)`; one closer than a factor 1.5 to the next larger one is left
            out of the slopes.
        values_by_seed: errors of all seeds, one list an x; numbers of seeds may differ.

    Raises:
        DataError: if a number is NaN or not positive, lists do not match, or an x comes twice.
    """
    points = _check(x, values_by_seed)
    slopes = _slopes(points)
    early = float(np.median([slope.value for slope in (slopes[:-2] or slopes[:1])])) if len(slopes) > 1 else None
    law, largest = _law(points), points[-1][0]
    gain = None if law is None else float(1 - law(2 * largest) / law(largest))
    spread, trend = _spread(points), _trend(slopes, early)
    result = Saturation(_verdict(trend, gain, spread), "", slopes, early, gain, spread, law)
    return replace(result, told=_tell(result, trend))


def scaling_axis(axis: str, label: str, points: Sequence[ScalingPoint]) -> ScalingAxis:
    """Return what is told of one axis: its points by x, the law (50 points of it to twice the largest x), the verdict.

    Args:
        axis: ``samples``, ``size`` or ``compute``.
        label: what x counts, to be read by people.
        points: in any order.

    Raises:
        DataError: as in `saturation`, or if there are no points.
    """
    ordered = sorted(points, key=lambda point: point.x)
    x, values = [point.x for point in ordered], [np.array(point.values, dtype=np.float64) for point in ordered]
    result, drawn = saturation(x, values), None
    if result.law is not None:
        law, grid = result.law, np.geomspace(x[0], 2 * x[-1], 50)
        drawn = DrawnLaw(form=law.form, text=law.text, grid_x=tuple(grid.tolist()), grid_y=tuple(law(grid).tolist()))
    return ScalingAxis(
        axis=axis, label=label, points=tuple(ordered), law=drawn, verdict=result.verdict, told=result.told
    )


# --- points -----------------------------------------------------------------------------------------------------------


def _check(x: ArrayLike, values: Sequence[ArrayLike]) -> Points:
    """Return x and the logarithms of its seeds' errors, by x."""
    places = np.asarray(x, dtype=np.float64)
    rows = [np.asarray(row, dtype=np.float64) for row in values]
    if places.ndim != 1 or len(places) != len(rows) or not rows or any(r.ndim != 1 or not r.size for r in rows):
        shapes = [row.shape for row in rows]
        raise DataError(f"Give one list of seeds' errors an x, none empty; got x {places.shape} and errors {shapes}.")
    both = np.concatenate([places, *rows])
    if not (np.isfinite(both) & (both > 0)).all():
        bad = both[~(np.isfinite(both) & (both > 0))][0]
        raise DataError(f"x and errors must be positive and finite, got {bad:g}. Leave out what could not be measured.")
    if len(np.unique(places)) < len(places):
        raise DataError(f"An x comes twice in {places.tolist()}; put all seeds of one x into one list.")
    return [(float(places[k]), np.log(rows[k])) for k in np.argsort(places)]


def _slopes(points: Points) -> tuple[Slope, ...]:
    """Return the slopes between successive doublings, with intervals from seeds drawn with replacement.

    Seeds are drawn at each x by itself, and their deviations from the mean of logarithms are widened by √(n/(n−1)),
    because n drawn ones scatter too little.
    """
    *rest, last = points
    apart = [last]
    for point in reversed(rest):
        if apart[-1][0] / point[0] >= _APART:
            apart.append(point)
    random = np.random.default_rng(0)
    drawn_from = [(place, logs, _drawn_means(logs, random)) for place, logs in reversed(apart)]
    slopes = []
    for (start, before, drawn), (end, after, drawn_after) in pairwise(drawn_from):
        doublings = np.log(end / start)
        low = high = None
        if drawn is not None and drawn_after is not None:
            ends = np.quantile((drawn - drawn_after) / doublings, _ENDS)
            low, high = map(float, ends)
        slopes.append(Slope(start, end, float((before.mean() - after.mean()) / doublings), low, high))
    return tuple(slopes)


def _drawn_means(logs: Floats, random: np.random.Generator) -> Floats | None:
    count = len(logs)
    if count < 2:
        return None
    deviations = (logs - logs.mean()) * np.sqrt(count / (count - 1))
    drawn = deviations[random.integers(count, size=(_NUM_DRAWS, count))].mean(axis=1)
    return np.asarray(logs.mean() + drawn)


# --- evidence ---------------------------------------------------------------------------------------------------------


def _law(points: Points) -> Law | None:
    x = np.concatenate([np.full(len(logs), place) for place, logs in points])
    if why_not(x, "power law") is not None:  # the form that asks for least
        return None
    return choose_law(x, np.exp(np.concatenate([logs for _, logs in points]))).law


def _spread(points: Points) -> float | None:
    """Standard deviation of log errors, pooled over the last three x: the first ones scatter more."""
    groups = [logs for _, logs in points[-3:] if len(logs) > 1]
    if not groups:
        return None
    squares = sum(float(((logs - logs.mean()) ** 2).sum()) for logs in groups)
    return float(np.sqrt(squares / sum(len(logs) - 1 for logs in groups)))


def _flat(slope: Slope, early: float, steepest: float) -> bool:
    assert slope.low is not None
    assert slope.high is not None
    return (slope.low <= 0 or slope.value < _FLAT_SHARE * early) and slope.high < steepest


def _trend(slopes: Sequence[Slope], early: float | None) -> str:
    """Return ``flat``, ``falling``, or why it is neither."""
    if early is None:
        return "a verdict needs errors at three x a doubling apart, at least"
    if any(slope.low is None for slope in slopes[-2:]):
        return "the last x have one seed only, so a change cannot be told from scatter"
    last = slopes[-1]
    assert last.low is not None
    # Only a positive early slope sets a mark: a plateau may come before the fall.
    if last.low > 0 and last.value >= _FLAT_SHARE * early:
        return "falling"
    clear = [slope.value for slope in slopes[:-2] if slope.value > 0 and (slope.low is None or slope.low > 0)]
    if not clear:
        return "the error did not clearly fall before, so there is nothing to compare with"
    if all(_flat(slope, early, max(clear)) for slope in slopes[-2:]):
        return "flat"
    return "the last doublings are neither clearly flat nor clearly falling"


def _verdict(trend: str, gain: float | None, spread: float | None) -> str:
    # Seeds are at hand wherever the trend is known.
    worth = None if gain is None or spread is None else gain > spread
    if trend == "flat" and worth is not True:
        return "saturated"
    if trend == "falling" and worth is not False:
        return "not saturated"
    return "cannot tell"


# --- sentences --------------------------------------------------------------------------------------------------------


_DISAGREE = {
    "flat": "the error has been flat, but the law predicts more than the scatter of seeds from the next doubling",
    "falling": "the error still falls, but the law predicts less than the scatter of seeds from the next doubling",
}


def _tell(result: Saturation, trend: str) -> str:
    parts = []
    if result.verdict == "cannot tell":
        parts.append(_DISAGREE.get(trend, trend))
    for slope in result.slopes[-1:]:
        between = f"from {slope.start:,.6g} to {slope.end:,.6g} the error changed by {_change(slope.value)} a doubling"
        if slope.low is not None and slope.high is not None:
            between += f" ({100 * LEVEL:.0f} % interval {_change(slope.high)} to {_change(slope.low)})"
        parts.append(between)
    if result.early_slope is not None:
        parts.append(f"earlier doublings changed it by {_change(result.early_slope)} (median)")
    if result.gain is not None and result.law is not None:
        parts.append(f"the next one is predicted to change it by {_change_of(result.gain)} ({result.law.form})")
    if result.spread is not None:
        parts.append(f"seeds scatter by {_percent(result.spread)}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def _change(slope: float) -> str:
    """A slope as the change of the error in one doubling."""
    return _change_of(1 - 2**-slope)


def _change_of(gain: float) -> str:
    return "0 %" if abs(gain) < 5e-5 else _percent(-gain) if gain > 0 else f"+{_percent(-gain)}"


def _percent(share: float) -> str:
    return f"{signed(100 * share, '.2g')} %"


# --- cells ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """Pre-trainings of one size on one number of samples.

    Args:
        size: name of the size.
        num_params: N.
        num_samples: D.
        flops: of one of them; None where they cannot be counted.
        errors: relative L2 in distribution, one a seed.
    """

    size: str
    num_params: int
    num_samples: int
    flops: float | None
    errors: tuple[float, ...]


def cells_of(rows: Sequence[Row], source: str) -> list[Cell]:
    """Return the cells of a source, by size and then samples; pre-trainings of other lengths are ``source+steps``."""
    cells: dict[tuple[int, int, str], dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.kind == "in_distribution" and row.source.partition("+")[0] == source:
            cells[row.num_params, row.num_pretrain_samples, row.size][row.seed].append(row)
    return [
        Cell(
            size,
            num_params,
            num_samples,
            next(iter(seeds.values()))[0].flops,
            tuple(float(np.mean([row.relative_l2 for row in of_seed])) for of_seed in seeds.values()),
        )
        for (num_params, num_samples, size), seeds in sorted(cells.items())
    ]


def scaling_findings(recipe: StudyRecipe, rows: Sequence[Row]) -> Scaling:
    """Return laws along the axes, the joint law and its frontier; empty if the recipe does not ask for them.

    Of several architectures each has its own: a law over the weights of different networks has no meaning.

    Raises:
        DataError: if an error is not positive.
    """
    if recipe.scaling is None:
        return Scaling()
    cells, architectures = cells_of(rows, recipe.scaling.source), recipe.architectures
    asked = list(dict.fromkeys(architectures[size] for size in recipe.scaling.sizes))
    axes, joints = [], []
    for architecture in asked:
        own = [cell for cell in cells if architectures[cell.size] == architecture]
        name = architecture if len(asked) > 1 else ""
        sizes = [size for size in recipe.scaling.sizes if architectures[size] == architecture]
        main = recipe.sizes[0] if recipe.sizes[0] in sizes else sizes[0]
        axes += [axis.model_copy(update={"architecture": name}) for axis in _axes(own, main, name)]
        joints.append(_joint(own).model_copy(update={"architecture": name}))
    return Scaling(axes=tuple(axes), joints=tuple(joints))


def _axes(cells: list[Cell], main: str, architecture: str) -> list[ScalingAxis]:
    """Return the axes of one architecture; where there are several, labels hold its name, and one size is no axis."""
    longest = max(cell.num_samples for cell in cells)
    behind = f", {architecture}" if architecture else ""
    by_size = cells if not architecture or len({cell.size for cell in cells}) > 1 else []
    axes: list[tuple[str, str, list[tuple[float, Cell]]]] = [
        (
            "samples",
            f"samples seen in pre-training, {main if main == architecture else f'size {main}{behind}'}",
            [(float(cell.num_samples), cell) for cell in cells if cell.size == main],
        ),
        (
            "size",
            f"weights, {longest:,} samples seen{behind}",
            [(float(cell.num_params), cell) for cell in by_size if cell.num_samples == longest],
        ),
        ("compute", f"floating-point operations of pre-training, the best of every size{behind}", _envelope(cells)),
    ]
    return [
        scaling_axis(axis, label, [ScalingPoint(x=x, values=cell.errors) for x, cell in points])
        for axis, label, points in axes
        if points
    ]


def _envelope(cells: list[Cell]) -> list[tuple[float, Cell]]:
    """Return the cells that no cheaper one is better than, by cost; none where a cost is not known."""
    best: list[tuple[float, Cell]] = []
    lowest = np.inf
    costs = _costs(cells)
    for flops, cell in sorted(zip(costs, cells, strict=bool(costs)), key=lambda x: (x[0], np.median(x[1].errors))):
        error = float(np.median(cell.errors))
        if error < lowest:
            lowest = error
            best.append((flops, cell))
    return best


def _costs(cells: list[Cell]) -> list[float]:
    """Return the operations of every cell, or nothing if one of them is not known."""
    known = [cell.flops for cell in cells if cell.flops is not None]
    return known if len(known) == len(cells) else []


def _joint(cells: list[Cell]) -> JointScaling:
    points = [(cell.num_params, cell.num_samples, error) for cell in cells for error in cell.errors]
    n, d, y = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    try:
        law = fit_joint_law(n, d, y)
        samples = bootstrap_joint_law(n, d, y, law)
    except DataError as error:
        return JointScaling(told=f"No law of size and samples together: {error}")
    ends = np.quantile(samples, _ENDS, axis=0).T.tolist()
    parameters = {
        name: Parameter(value=getattr(law, name), low=low, high=high)
        for name, (low, high) in zip(PARAMETERS, ends, strict=True)
    }
    shown = [(name, parameters[name]) for name in ("E", "alpha", "beta")]
    intervals = ", ".join(f"{name} {own.low:.3g} to {own.high:.3g}" for name, own in shown)
    text = f"{law.text}, fitted to {len(cells)} cells; {100 * LEVEL:.0f} % intervals from cells drawn again: "
    text += f"{intervals}."
    try:
        missed = held_out_error(n, d, y)
        text += f" Fitted without the largest cell it misses that by {100 * np.expm1(missed):.0f} %."
    except DataError:
        missed = None
        text += " There are too few cells to hold the largest out."
    if not _costs(cells):
        text += " Operations of this kind of operator cannot be counted, so nothing is said about compute."
    if law.at_bound:
        text += f" {', '.join(law.at_bound)} stopped at a bound of the search: not measured."
    frontier = _frontier(cells, law)
    return JointScaling(text=law.text, told=text, parameters=parameters, held_out_error=missed, frontier=frontier)


def _frontier(cells: list[Cell], law: JointLaw) -> tuple[FrontierPoint, ...]:
    """Return the best split of some budgets between the cheapest and the dearest cell; none where costs are unknown."""
    costs = _costs(cells)
    per_sample = {cell.num_params: flops / cell.num_samples for flops, cell in zip(costs, cells, strict=bool(costs))}
    if len(per_sample) < 2:  # of one size only there is nothing to split
        return ()
    budgets = np.geomspace(min(costs), max(costs), _NUM_BUDGETS)
    return measured_frontier(law, budgets, list(per_sample), list(per_sample.values()))
