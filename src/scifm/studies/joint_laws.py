"""The scaling law in two variables, L(N, D) = E + A N^−α + B D^−β: fits, intervals, and a budget spent by it.

N is the number of parameters, D the number of training samples (tokens, pairs or trajectories: the caller says which)
and L the loss or error. The form and the Huber fit are approach 3 of Hoffmann et al. 2022, arXiv 2203.15556; its traps
are told in Besiroglu et al. 2024, arXiv 2404.10102. Variable projection for this law: arXiv 2603.22339.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, nnls

from scifm.errors import ConfigError, DataError
from scifm.findings.study import FrontierPoint
from scifm.studies.laws import check_points, check_settings, descend, huber

__all__ = ["PARAMETERS", "JointLaw", "bootstrap_joint_law", "fit_joint_law", "held_out_error", "measured_frontier"]

Floats = NDArray[np.float64]
Bounds = tuple[float, float]

PARAMETERS = ("E", "A", "B", "alpha", "beta")
_MIN_CELLS = len(PARAMETERS) + 2
# How a typical loss is shared between E, A N^−α and B D^−β where a search begins.
_SHARES = ((1 / 3, 1 / 3, 1 / 3), (0.8, 0.1, 0.1), (0.1, 0.45, 0.45))
# A term this many e-folds below a typical loss is not told from zero.
_REACH = 30.0


@dataclass(frozen=True)
class JointLaw:
    """A fitted L(N, D) = E + A N^−alpha + B D^−beta.

    Args:
        E: what is left with endless parameters and samples; unit of L.
        A: of the term of parameters.
        B: of the term of samples.
        alpha: exponent of parameters.
        beta: exponent of samples.
        objective: summed Huber loss of log L.
        at_bound: exponents that stopped at a bound: limits of the search, not measurements.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    objective: float = 0.0
    at_bound: tuple[str, ...] = ()

    def __call__(self, num_params: ArrayLike, num_samples: ArrayLike) -> Floats:
        """Return L at positive N and D, which broadcast."""
        n, d = np.asarray(num_params, dtype=np.float64), np.asarray(num_samples, dtype=np.float64)
        return np.asarray(self.E + self.A * n**-self.alpha + self.B * d**-self.beta)

    @property
    def text(self) -> str:
        """The formula with its numbers, to be read by people."""
        return f"{self.E:.3g} + {self.A:.3g}·N^−{self.alpha:.3g} + {self.B:.3g}·D^−{self.beta:.3g}"


def fit_joint_law(
    num_params: ArrayLike,
    num_samples: ArrayLike,
    loss: ArrayLike,
    *,
    delta: float = 1e-3,
    alpha_bounds: Bounds = (0.0, 1.5),
    beta_bounds: Bounds = (0.0, 1.5),
) -> JointLaw:
    """Fit the five parameters to points; several seeds of one cell (N, D) are several points.

    The loss is Σ Huber_δ(log L − log-sum-exp of the three terms), summed, minimized by L-BFGS with analytic gradient
    from a grid of 48 starts and from the variable projection; bounded Gauss–Newton steps finish the best.

    Variable projection is least squares of relative residuals: for fixed (α, β) the law is linear in (E, A, B) ≥ 0,
    solved by nonnegative least squares; (α, β) is searched on a 31 × 31 grid and refined by Nelder–Mead.

    Args:
        num_params: N, `(points,)`.
        num_samples: D, `(points,)`.
        loss: L, `(points,)`.
        delta: log residual from which a point counts as an outlier.
        alpha_bounds: of α.
        beta_bounds: of β.

    Raises:
        ConfigError: if delta or a bound is not valid.
        DataError: if a number is NaN or not positive, or there are fewer than 7 cells, 3 different N and 3 different D.
    """
    n, d, y = check_points(num_params=num_params, num_samples=num_samples, loss=loss)
    check_settings(delta, alpha_bounds, beta_bounds)
    if (reason := _too_few(n, d)) is not None:
        raise DataError(f"A law of parameters and samples {reason}. Measure more cells, or fit one variable.")
    fit = _JointFit(n, d, y, delta, alpha_bounds, beta_bounds)
    return fit.law(fit.robust(fit.grid_starts()))


def bootstrap_joint_law(
    num_params: ArrayLike,
    num_samples: ArrayLike,
    loss: ArrayLike,
    law: JointLaw,
    *,
    num_replicates: int = 200,
    seed: int = 0,
) -> Floats:
    """Return the parameters that other draws of cells would have given, `(replicates, 5)` in the order of `PARAMETERS`.

    Cells (N, D) are drawn with replacement, each with all its seeds: they share the law's misfit, so drawing single
    points would make intervals too narrow. A replicate is searched from its own variable projection and from `law`
    only; one that drew too few different cells is left out.

    Args:
        num_params: as in `fit_joint_law`.
        num_samples: as in `fit_joint_law`.
        loss: as in `fit_joint_law`.
        law: the fit to all points.
        num_replicates: at least 2.
        seed: of the draws.

    Raises:
        ConfigError: if there is to be fewer than two replicates.
        DataError: if a number is not positive, or fewer than two replicates could be fitted.
    """
    if num_replicates < 2:
        raise ConfigError(f"num_replicates = {num_replicates}: give at least 2.")
    n, d, y = check_points(num_params=num_params, num_samples=num_samples, loss=loss)
    cells, cell_of = np.unique(np.stack([n, d]), axis=1, return_inverse=True)
    members = [np.flatnonzero(cell_of.ravel() == k) for k in range(cells.shape[1])]
    random = np.random.default_rng(seed)
    samples = []
    for _ in range(num_replicates):
        drawn = np.concatenate([members[k] for k in random.integers(len(members), size=len(members))])
        if _too_few(n[drawn], d[drawn]) is None:
            fit = _JointFit(n[drawn], d[drawn], y[drawn])
            one = fit.law(fit.robust([fit.projected(13), fit.centered(law)], num_finished=1))
            samples.append([getattr(one, name) for name in PARAMETERS])
    if len(samples) < 2:
        raise DataError(f"Only {len(samples)} of {num_replicates} replicates drew enough cells. Measure more cells.")
    return np.array(samples)


def held_out_error(num_params: ArrayLike, num_samples: ArrayLike, loss: ArrayLike) -> float:
    """Return abs(log(predicted / observed)) at the cell of largest N·D, by the law fitted to the others.

    What is observed is the geometric mean of the cell's seeds.

    Args:
        num_params: as in `fit_joint_law`.
        num_samples: as in `fit_joint_law`.
        loss: as in `fit_joint_law`.

    Raises:
        DataError: as in `fit_joint_law`, for the cells that remain.
    """
    n, d, y = check_points(num_params=num_params, num_samples=num_samples, loss=loss)
    largest = int(np.argmax(n * d))
    out = (n == n[largest]) & (d == d[largest])
    law = fit_joint_law(n[~out], d[~out], y[~out])
    return float(np.abs(np.log(law(n[largest], d[largest])) - np.log(y[out]).mean()))


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
    d = budgets[:, None] / np.exp(np.interp(np.log(n), np.log(sizes[order]), np.log(costs[order])))
    losses = law(n, d)
    return tuple(
        FrontierPoint(
            flops=float(budget),
            num_params=float(n[best]),
            num_samples=float(d[row, best]),
            error=float(losses[row, best]),
            at_edge=best in (0, len(n) - 1),
        )
        for row, (budget, best) in enumerate(zip(budgets, losses.argmin(axis=1).tolist(), strict=True))
    )


def _too_few(n: Floats, d: Floats) -> str | None:
    num_cells, num_n, num_d = len(set(zip(n, d, strict=True))), len(np.unique(n)), len(np.unique(d))
    if num_cells >= _MIN_CELLS and num_n >= 3 and num_d >= 3:
        return None
    return (
        f"needs {_MIN_CELLS} cells with 3 different numbers of parameters and 3 of samples; "
        f"there are {num_cells} with {num_n} and {num_d}"
    )


def _log_sum_exp(terms: Floats) -> Floats:
    """Log of the sum over the first axis; scipy's is ten times slower on arrays this small."""
    largest = terms.max(axis=0)
    return np.asarray(largest + np.log(np.exp(terms - largest).sum(axis=0)))


class _JointFit:
    """Searches for θ = (log E, log A, log B, α, β) in centered units: log N, log D and log L less their means."""

    def __init__(
        self,
        n: Floats,
        d: Floats,
        y: Floats,
        delta: float = 1e-3,
        alpha_bounds: Bounds = (0.0, 1.5),
        beta_bounds: Bounds = (0.0, 1.5),
    ) -> None:
        self.centers = np.array([np.log(n).mean(), np.log(d).mean()])
        self.n, self.d = np.log(n) - self.centers[0], np.log(d) - self.centers[1]
        self.scale = float(np.log(y).mean())
        self.v = np.log(y) - self.scale
        self.delta = delta
        self.bounds = [(-_REACH, _REACH)] * 3 + [alpha_bounds, beta_bounds]

    def law(self, theta: Floats) -> JointLaw:
        """Put θ into the units of the points; a term out of reach is zero."""
        terms = np.where(theta[:3] > -_REACH, np.exp(theta[:3] + self.scale), 0.0)
        terms[1:] *= np.exp(theta[3:] * self.centers)
        ends = zip(("alpha", "beta"), theta[3:], self.bounds[3:], strict=True)
        at_bound = tuple(name for name, value, (low, high) in ends if min(value - low, high - value) <= 1e-6)
        parameters = dict(zip(PARAMETERS, map(float, [*terms, *theta[3:]]), strict=True))
        return JointLaw(**parameters, objective=huber(self.residuals(theta), self.delta), at_bound=at_bound)

    def centered(self, law: JointLaw) -> Floats:
        """Return the θ of a law, brought within reach."""
        with np.errstate(divide="ignore"):
            logs = np.log([law.E, law.A, law.B]) - self.scale
        exponents = np.array([law.alpha, law.beta])
        logs[1:] -= exponents * self.centers
        return np.concatenate([np.maximum(logs, -_REACH), exponents])

    def terms(self, theta: Floats) -> Floats:
        """Logarithms of the three terms, `(3, points)`."""
        flat = np.full_like(self.n, theta[0])
        return np.stack([flat, theta[1] - theta[3] * self.n, theta[2] - theta[4] * self.d])

    def residuals(self, theta: Floats) -> Floats:
        return _log_sum_exp(self.terms(theta)) - self.v

    def jacobian(self, theta: Floats) -> Floats:
        """Derivatives of the residuals, `(points, 5)`: each term's share of the whole, times what it depends on."""
        terms = self.terms(theta)
        shares = np.exp(terms - _log_sum_exp(terms))
        return np.stack([*shares, -shares[1] * self.n, -shares[2] * self.d], axis=1)

    def value_and_gradient(self, theta: Floats) -> tuple[float, Floats]:
        """The objective over δ², and its gradient.

        Two traps, both met in published fits, end the search far from the minimum: L-BFGS stops on an *absolute* change
        wherever the objective is below one, and with δ = 1e-3 the summed loss is about 1e-3, the averaged one about
        1e-6. Over δ² it is about the number of points, whatever δ.
        """
        scaled = self.residuals(theta) / self.delta
        gradient = np.clip(scaled, -1, 1) @ self.jacobian(theta) / self.delta
        return huber(scaled, 1.0), gradient

    def grid_starts(self) -> list[Floats]:
        """48 starts over exponents and shares of a typical loss, and the variable projection."""
        parts = (0.1, 0.3, 0.6, 0.9)
        alphas, betas = ([low + (high - low) * part for part in parts] for low, high in self.bounds[3:])
        grid = itertools.product(np.log(_SHARES), alphas, betas)
        return [self.projected(31)] + [np.array([*shares, alpha, beta]) for shares, alpha, beta in grid]

    def robust(self, starts: list[Floats], num_finished: int = 4) -> Floats:
        """Return the lowest of rough searches from all starts, the best few searched on, by Gauss–Newton steps last."""
        rough = sorted((self.search(start, 1e-8) for start in starts), key=lambda end: end[0])
        best = min((self.search(theta, 1e-13) for _, theta in rough[:num_finished]), key=lambda end: end[0])[1]
        low, high = np.array(self.bounds).T
        candidates = [best, descend(self.residuals, self.jacobian, best, (low, high), self.delta)]
        # E only ever approaches zero in logarithms; it is zero if that fits no worse.
        candidates += [np.array([-_REACH, *theta[1:]]) for theta in candidates]
        return min(reversed(candidates), key=lambda theta: huber(self.residuals(theta), self.delta))

    def search(self, start: Floats, tolerance: float) -> tuple[float, Floats]:
        options = {"maxiter": 1000, "maxfun": 2000, "maxcor": 20, "ftol": tolerance, "gtol": 1e-9}
        end = minimize(self.value_and_gradient, start, jac=True, method="L-BFGS-B", bounds=self.bounds, options=options)
        return float(end.fun), np.asarray(end.x)

    def solve(self, alpha: float, beta: float) -> tuple[Floats, float]:
        """Return the best (E, A, B) ≥ 0 for fixed exponents and the norm of the relative residuals."""
        columns = np.stack([np.zeros_like(self.n), -alpha * self.n, -beta * self.d], axis=1) - self.v[:, None]
        coefficients, distance = nnls(np.exp(columns), np.ones_like(self.n))
        return np.asarray(coefficients), float(distance)

    def projected(self, num_grid: int) -> Floats:
        """Return the θ of the variable projection."""
        axes = [np.linspace(low, high, num_grid) for low, high in self.bounds[3:]]
        start = min(itertools.product(*axes), key=lambda pair: self.solve(*pair)[1])
        end = minimize(
            lambda pair: self.solve(*pair)[1],
            np.array(start),
            method="Nelder-Mead",
            bounds=self.bounds[3:],
            options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 1000},
        )
        with np.errstate(divide="ignore"):
            logs = np.log(self.solve(*end.x)[0])
        return np.concatenate([np.maximum(logs, -_REACH), end.x])
