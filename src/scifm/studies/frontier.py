"""How to spend a budget of operations on parameters and samples, by a law in both."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from scifm.errors import DataError
from scifm.findings.study import FrontierPoint
from scifm.studies.joint_laws import JointLaw
from scifm.studies.laws import check_points

__all__ = ["measured_frontier"]


def measured_frontier(
    law: JointLaw, flops: ArrayLike, num_params: ArrayLike, flops_per_sample: ArrayLike
) -> tuple[FrontierPoint, ...]:
    """Return for each budget the N and D of lowest L: D = C / c(N), with c interpolated log-log between measured sizes.

    N is searched on 1001 sizes between the smallest and the largest measured one, never beyond; a best N at the edge
    is told, since the true one may lie outside.

    Args:
        law: a fitted law.
        flops: budgets C, `(budgets,)`.
        num_params: measured sizes, `(sizes,)`, at least two different ones.
        flops_per_sample: training operations of one sample at those sizes, `(sizes,)`.

    Raises:
        DataError: if a number is not positive or a size comes twice.
    """
    (budgets,) = check_points(flops=flops)
    sizes, costs = check_points(num_params=num_params, flops_per_sample=flops_per_sample)
    if len(sizes) < 2 or len(np.unique(sizes)) < len(sizes):
        raise DataError(f"Give the cost of at least two sizes, each once; got sizes {sizes.tolist()}.")
    order = np.argsort(sizes)
    n = np.geomspace(sizes.min(), sizes.max(), 1001)
    cost = np.exp(np.interp(np.log(n), np.log(sizes[order]), np.log(costs[order])))
    points = []
    for budget in budgets:
        losses = law(n, budget / cost)
        best = int(np.argmin(losses))
        point = FrontierPoint(
            flops=float(budget),
            num_params=float(n[best]),
            num_samples=float(budget / cost[best]),
            error=float(losses[best]),
            at_edge=best in (0, len(n) - 1),
        )
        points.append(point)
    return tuple(points)
