"""What a study's cells of size and samples say about scaling: the law along each axis, both together, the frontier.

A cell is a size of network with a number of samples seen in pre-training; its errors are those in distribution, of
every seed, averaged over the systems of the source.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scifm.errors import DataError
from scifm.findings.study import FrontierPoint, JointScaling, Parameter, Scaling, ScalingPoint
from scifm.studies.frontier import measured_frontier
from scifm.studies.joint_laws import JointLaw, bootstrap_joint_law, held_out_error
from scifm.studies.recipe import StudyRecipe
from scifm.studies.scaling import scaling_axis
from scifm.studies.table import Row

__all__ = ["Cell", "cells_of", "scaling_findings"]

_NUM_BUDGETS = 5


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
    found: dict[tuple[int, int, str], dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.kind == "in_distribution" and row.source.partition("+")[0] == source:
            found[row.num_params, row.num_pretrain_samples, row.size][row.seed].append(row)
    return [
        Cell(
            size,
            num_params,
            num_samples,
            next(iter(seeds.values()))[0].flops,
            tuple(float(np.mean([row.relative_l2 for row in of_seed])) for of_seed in seeds.values()),
        )
        for (num_params, num_samples, size), seeds in sorted(found.items())
    ]


def scaling_findings(recipe: StudyRecipe, rows: Sequence[Row]) -> Scaling:
    """Return laws along the axes, the joint law and its frontier; empty if the recipe does not ask for them.

    Raises:
        DataError: if an error is not positive.
    """
    if recipe.scaling is None:
        return Scaling()
    cells = cells_of(rows, recipe.scaling.source)
    longest = max(cell.num_samples for cell in cells)
    main = recipe.sizes[0] if recipe.sizes[0] in recipe.scaling.sizes else recipe.scaling.sizes[0]
    axes: list[tuple[str, str, list[tuple[float, Cell]]]] = [
        (
            "samples",
            f"samples seen in pre-training, size {main}",
            [(float(cell.num_samples), cell) for cell in cells if cell.size == main],
        ),
        (
            "size",
            f"weights, {longest:,} samples seen",
            [(float(cell.num_params), cell) for cell in cells if cell.num_samples == longest],
        ),
        ("compute", "floating-point operations of pre-training, the best of every size", _envelope(cells)),
    ]
    told = [
        scaling_axis(axis, label, [ScalingPoint(x=x, values=cell.errors) for x, cell in points])
        for axis, label, points in axes
        if points
    ]
    return Scaling(axes=tuple(told), joint=_joint(cells))


def _envelope(cells: list[Cell]) -> list[tuple[float, Cell]]:
    """Return the cells that no cheaper one is better than; none where a cost is not known."""
    kept: list[tuple[float, Cell]] = []
    best = np.inf
    costs = _costs(cells)
    for flops, cell in sorted(zip(costs, cells, strict=bool(costs)), key=lambda x: (x[0], np.median(x[1].errors))):
        error = float(np.median(cell.errors))
        if error < best:
            best = error
            kept.append((flops, cell))
    return kept


def _costs(cells: list[Cell]) -> list[float]:
    """Return the operations of every cell, or nothing if one of them is not known."""
    known = [cell.flops for cell in cells if cell.flops is not None]
    return known if len(known) == len(cells) else []


def _joint(cells: list[Cell]) -> JointScaling:
    points = [(cell.num_params, cell.num_samples, error) for cell in cells for error in cell.errors]
    n, d, y = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    try:
        boot = bootstrap_joint_law(n, d, y)
    except DataError as error:
        return JointScaling(told=f"No law of size and samples together: {error}")
    law, level = boot.law, 100 * boot.level
    intervals = ", ".join(f"{name} {boot.low[name]:.3g} to {boot.high[name]:.3g}" for name in ("E", "alpha", "beta"))
    told = f"{law.text}, fitted to {len(cells)} cells; {level:.0f} % intervals from cells drawn again: {intervals}."
    try:
        missed = held_out_error(n, d, y)
        told += f" Fitted without the largest cell it misses that by {100 * np.expm1(missed):.0f} %."
    except DataError:
        missed = None
        told += " There are too few cells to hold the largest out."
    if not _costs(cells):
        told += " Operations of this kind of operator cannot be counted, so nothing is said about compute."
    if law.at_bound:
        told += f" {', '.join(law.at_bound)} stopped at a bound of the search: not measured."
    parameters = {
        name: Parameter(value=getattr(law, name), low=boot.low[name], high=boot.high[name]) for name in boot.low
    }
    return JointScaling(
        text=law.text, told=told, parameters=parameters, held_out_error=missed, frontier=_frontier(cells, law)
    )


def _frontier(cells: list[Cell], law: JointLaw) -> tuple[FrontierPoint, ...]:
    """Return the best split of some budgets between the cheapest and the dearest cell; none where costs are unknown."""
    costs = _costs(cells)
    if not costs:
        return ()
    per_sample = {cell.num_params: flops / cell.num_samples for flops, cell in zip(costs, cells, strict=True)}
    budgets = np.geomspace(min(costs), max(costs), _NUM_BUDGETS)
    try:
        return measured_frontier(law, budgets, list(per_sample), list(per_sample.values()))
    except DataError:
        return ()  # one size only: there is nothing to split
