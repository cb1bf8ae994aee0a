"""How to spend a budget of operations on parameters and samples, by a law in both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scifm.errors import ConfigError, DataError
from scifm.studies.joint_laws import JointLaw
from scifm.studies.laws import check_points

__all__ = ["Frontier", "compute_optimal", "measured_frontier"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Frontier:
    """The best way to spend each budget.

    Args:
        flops: budgets, `(budgets,)`.
        num_params: best N.
        num_samples: best D.
        loss: the law's L there.
        at_edge: whether the best N lies at the edge of the sizes allowed, so that the true one may lie outside.
    """

    flops: Floats
    num_params: Floats
    num_samples: Floats
    loss: Floats
    at_edge: NDArray[np.bool_]


def compute_optimal(law: JointLaw, flops: ArrayLike, *, flops_per_param_sample: float = 6.0) -> Frontier:
    """Return the N and D of lowest L for budgets C = k N D: arXiv 2203.15556, eq. 4.

    N* = G (C/k)^(β/(α+β)), D* = G⁻¹ (C/k)^(α/(α+β)), G = (αA/(βB))^(1/(α+β)).

    Args:
        law: a fitted law.
        flops: budgets C, `(budgets,)`.
        flops_per_param_sample: k, 6 for a dense network that uses each weight once a sample. Spectral convolutions use
            theirs more often: see `measured_frontier`.

    Raises:
        DataError: if the law has no optimum inside: an exponent or a term is zero.
    """
    (budgets,) = check_points(flops=flops)
    if not np.isfinite(flops_per_param_sample) or flops_per_param_sample <= 0:
        raise ConfigError(f"flops_per_param_sample = {flops_per_param_sample} is not positive.")
    if min(law.A, law.B, law.alpha, law.beta) <= 0:
        raise DataError(f"{law.text} has no best split of a budget: one of its terms does not fall.")
    product, total = budgets / flops_per_param_sample, law.alpha + law.beta
    ratio = (law.alpha * law.A / (law.beta * law.B)) ** (1 / total)
    num_params = ratio * product ** (law.beta / total)
    num_samples = product ** (law.alpha / total) / ratio
    return Frontier(budgets, num_params, num_samples, law(num_params, num_samples), np.zeros(len(budgets), dtype=bool))


def measured_frontier(law: JointLaw, flops: ArrayLike, num_params: ArrayLike, flops_per_sample: ArrayLike) -> Frontier:
    """Return the frontier for measured costs: D = C / c(N), with c interpolated log-log between the measured sizes.

    N is searched on 1001 sizes between the smallest and the largest measured one, never beyond.

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
    d = budgets[:, None] / cost
    losses = law(n, d)
    best = np.argmin(losses, axis=1)
    rows = np.arange(len(budgets))
    return Frontier(budgets, n[best], d[rows, best], losses[rows, best], (best == 0) | (best == len(n) - 1))
