"""Eigenvalues of a large symmetric matrix that is known by its products alone: both ends, the trace, the density.

Each takes a linear operator of SciPy; that of a loss is `scifm.trust.hessian.Hessian`. The ends are found by SciPy's
``eigsh``; trace and density by products with random signs (Hutchinson 1989; Ubaru, Chen & Saad, SIAM J. Matrix Anal.
Appl. 38:1075, 2017; of the Hessian of a loss: Yao, Gholami, Keutzer & Mahoney, arXiv:1912.07145).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from scifm.errors import ConfigError, DataError

__all__ = ["Density", "Ends", "Krylov", "Trace", "density_of", "ends_of", "lanczos", "trace_of"]

_DENSE = 64  # rows, below which the matrix itself is as cheap
_LEAST_PROBES = 8  # before a standard error is believed


@dataclass(frozen=True)
class Ends:
    """Eigenvalues at both ends, with vectors of length one.

    Args:
        top: the largest, falling.
        top_vectors: ``(number, P)``.
        bottom: the smallest, rising.
        bottom_vectors: ``(number, P)``.
    """

    top: np.ndarray
    top_vectors: np.ndarray
    bottom: np.ndarray
    bottom_vectors: np.ndarray


def ends_of(
    matrix: LinearOperator,
    num_top: int = 5,
    num_bottom: int = 1,
    *,
    tolerance: float = 1e-6,
    max_rounds: int = 100,
    seed: int = 0,
) -> Ends:
    """Return the largest and the smallest eigenvalues with their vectors.

    The eigenvalue of largest size may lie at either end, so each end is sought by itself: the lower one as the upper
    end of λ₁ − H, where a tolerance means something though eigenvalues crowd around zero. Of fewer than 64 rows the
    matrix is put together.

    Args:
        matrix: symmetric, ``(P, P)``.
        num_top: how many of the largest.
        num_bottom: how many of the smallest, which are negative if any are.
        tolerance: of a vector v: ‖H v − λ v‖ over the size of the end it is sought by.
        max_rounds: restarts of about 40 products each.
        seed: of the first vector.

    Raises:
        ConfigError: if more are asked for than there are, or none.
        DataError: if they do not converge.
    """
    count = matrix.shape[0]
    if min(num_top, num_bottom) < 0 or max(num_top, num_bottom) > count or not num_top + num_bottom:
        raise ConfigError(
            f"There are {count} eigenvalues; {num_top} from above and {num_bottom} from below were asked."
        )
    if count < _DENSE or max(num_top, num_bottom) > count // 4:
        values, vectors = np.linalg.eigh(matrix @ np.eye(count))
        values, vectors = values[::-1], vectors.T[::-1]
        last = slice(count - num_bottom, None)
        return Ends(values[:num_top], vectors[:num_top], values[last][::-1], vectors[last][::-1])
    random = np.random.default_rng(seed)
    start = random.standard_normal(count)
    values, vectors = _upper(matrix, max(num_top, 1), start, tolerance, max_rounds)
    top, top_vectors, shift = values[:num_top], vectors[:num_top], values[0]
    if not num_bottom:
        return Ends(top, top_vectors, values[:0], vectors[:0])
    turned = LinearOperator(matrix.shape, matvec=lambda v: shift * v - matrix.matvec(v), dtype=np.float64)
    below, below_vectors = _upper(turned, num_bottom, start, tolerance, max_rounds)
    return Ends(top, top_vectors, shift - below, below_vectors)


def _upper(
    matrix: LinearOperator, count: int, start: np.ndarray, tolerance: float, max_rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    about = {"ncv": min(len(start), max(2 * count + 1, 40)), "maxiter": max_rounds}
    try:
        values, vectors = eigsh(matrix, k=count, which="LA", v0=start, tol=tolerance, **about)
    except ArpackNoConvergence as problem:
        raise DataError(
            f"{len(problem.eigenvalues)} of {count} eigenvalues converged to {tolerance:g}. Ask for fewer, or give a "
            "larger tolerance or more rounds."
        ) from problem
    order = np.argsort(values)[::-1]
    return values[order], vectors[:, order].T


@dataclass(frozen=True)
class Trace:
    """An estimate of a trace, by its probes."""

    probes: tuple[float, ...]

    @property
    def value(self) -> float:
        """The mean of the probes."""
        return float(np.mean(self.probes))

    @property
    def standard_error(self) -> float:
        """Of the mean; NaN of a single probe."""
        return float(np.std(self.probes, ddof=1) / math.sqrt(len(self.probes))) if len(self.probes) > 1 else math.nan


def trace_of(matrix: LinearOperator, *, relative_error: float = 0.05, max_probes: int = 1000, seed: int = 0) -> Trace:
    """Return the sum of all eigenvalues by Hutchinson's estimator: the mean of vᵀHv over vectors v of random signs.

    One probe has the variance 2 Σ Hᵢⱼ², i ≠ j. Probes are drawn until the standard error of their mean, told by their
    own spread, is `relative_error` of it; 8 at least. To stop where two running means hardly differ, as is also done,
    says nothing of the error: the mean of k probes moves by a kth of what the next one is off, however wrong it is.

    Args:
        matrix: symmetric, ``(P, P)``.
        relative_error: of the mean, one standard error.
        max_probes: drawn at most; the error is then what it is.
        seed: of the signs.

    Raises:
        ConfigError: if a number is not allowed.
    """
    if not relative_error > 0 or max_probes < 2:
        raise ConfigError(
            f"A trace takes a relative error above 0 and at least 2 probes; got {relative_error:g} and {max_probes}."
        )
    random, values = np.random.default_rng(seed), list[float]()
    while len(values) < max_probes:
        signs = random.choice((-1.0, 1.0), matrix.shape[0])
        values.append(float(signs @ matrix.matvec(signs)))
        found = Trace(tuple(values))
        if len(values) >= _LEAST_PROBES and found.standard_error <= relative_error * abs(found.value):
            break
    return Trace(tuple(values))


@dataclass(frozen=True)
class Krylov:
    """What Lanczos' method finds of a symmetric matrix from a vector v: the matrix within span {v, Hv, H²v, …}.

    Args:
        length: ‖v‖.
        nodes: eigenvalues of the tridiagonal matrix, rising, ``(steps,)``; none lies beyond those of H.
        parts: first entries of its eigenvectors, squared: vᵀ f(H) v ≈ ‖v‖² Σ parts f(nodes), sum 1.
        bounds: for each node how far the nearest eigenvalue of H is at most.
        vectors: of the nodes in the space of H, ``(steps, P)``, of length one.
        is_whole: whether it went as many steps as were asked for, or found the space closed before.
    """

    length: float
    nodes: np.ndarray
    parts: np.ndarray
    bounds: np.ndarray
    vectors: np.ndarray
    is_whole: bool


def lanczos(matrix: LinearOperator, start: np.ndarray, num_steps: int, *, until: float = math.inf) -> Krylov:
    """Follow Lanczos' method, each vector made orthogonal to all before it, twice.

    Args:
        matrix: symmetric, ``(P, P)``.
        start: ``(P,)``, not zero.
        num_steps: products, fewer where the space closes. As many vectors of float64 are kept.
        until: of `time.monotonic`: no product begins later, but for the first.

    Raises:
        ConfigError: if no step is asked for.
        DataError: if the start is zero or not finite.
    """
    length = float(np.linalg.norm(start))
    if num_steps < 1:
        raise ConfigError(f"Lanczos' method takes at least one step; got {num_steps}.")
    if not (math.isfinite(length) and length > 0):
        raise DataError(f"Lanczos' method starts at a finite vector that is not zero; got one of length {length:g}.")
    num_steps = min(num_steps, matrix.shape[0])
    basis = np.empty((num_steps, len(start)))
    basis[0] = start / length
    diagonal, beside, rest = list[float](), list[float](), 0.0  # of the tridiagonal matrix
    for step in range(num_steps):
        if step and time.monotonic() > until:
            break
        image = matrix.matvec(basis[step])
        size = float(np.linalg.norm(image))
        diagonal.append(float(basis[step] @ image))
        for _ in range(2):
            image = image - basis[: step + 1].T @ (basis[: step + 1] @ image)
        rest = float(np.linalg.norm(image))
        if rest <= 1e-12 * max(size, max(np.abs(diagonal))):  # the space is closed: all it has is found
            rest = 0.0
            break
        if step + 1 < num_steps:
            beside.append(rest)
            basis[step + 1] = image / rest
    nodes, small = eigh_tridiagonal(np.array(diagonal), np.array(beside[: len(diagonal) - 1]))
    vectors = small.T @ basis[: len(diagonal)]
    is_whole = len(diagonal) == num_steps or rest == 0.0
    return Krylov(length, nodes, small[0] ** 2, rest * np.abs(small[-1]), vectors, is_whole)


@dataclass(frozen=True)
class Density:
    """How eigenvalues are distributed: nodes with weights, run by run, each the distribution as one start sees it.

    Args:
        runs: nodes, rising, and weights that sum to 1.
        num_rows: P, how many eigenvalues there are.
        is_whole: whether there were as many runs and steps as were asked for.
    """

    runs: tuple[tuple[np.ndarray, np.ndarray], ...]
    num_rows: int
    is_whole: bool = True

    @property
    def nodes(self) -> np.ndarray:
        """Those of all runs."""
        return np.concatenate([nodes for nodes, _ in self.runs])

    @property
    def weights(self) -> np.ndarray:
        """What share of the eigenvalues each node stands for, sum 1."""
        return np.concatenate([weights for _, weights in self.runs]) / len(self.runs)

    def moment(self, power: int) -> tuple[float, float]:
        """Return tr(Hᵏ)/P and its standard error over runs, NaN of a single one."""
        each = [float(weights @ nodes**power) for nodes, weights in self.runs]
        return float(np.mean(each)), Trace(tuple(each)).standard_error

    @property
    def trace(self) -> Trace:
        """The sum of all eigenvalues, each run a probe of Hutchinson's."""
        return Trace(tuple(self.num_rows * float(weights @ nodes) for nodes, weights in self.runs))

    @property
    def negative_mass(self) -> float:
        """The sum of the sizes of negative eigenvalues over that of positive ones; infinite where none is positive."""
        mass = self.weights * self.nodes
        above, below = float(mass[mass > 0].sum()), -float(mass[mass < 0].sum())
        return below / above if above > 0 else math.inf

    def at(self, values: np.ndarray, width: float) -> np.ndarray:
        """Return the density at values, each node spread as a normal distribution of a standard deviation."""
        away = (np.asarray(values)[:, None] - self.nodes) / width
        return np.exp(-0.5 * away**2) @ self.weights / (width * math.sqrt(2 * math.pi))

    def share_above(self, values: np.ndarray) -> np.ndarray:
        """Return what share of the eigenvalues lies above each value."""
        return (self.nodes > np.asarray(values)[:, None]) @ self.weights


def density_of(
    matrix: LinearOperator, num_runs: int = 10, num_steps: int = 50, *, seed: int = 0, until: float = math.inf
) -> Density:
    """Return how eigenvalues are distributed, by stochastic Lanczos quadrature.

    Args:
        matrix: symmetric, ``(P, P)``.
        num_runs: of Lanczos' method, each from random signs.
        num_steps: of each; what a run tells of vᵀ Hᵏ v is exact up to k = 2·num_steps − 1.
        seed: of the signs.
        until: of `time.monotonic`: no run begins later, and no product but the first of all.

    Raises:
        ConfigError: if there is not at least one run of one step.
    """
    if num_runs < 1:
        raise ConfigError(f"A density takes at least one run; got {num_runs}.")
    random, runs = np.random.default_rng(seed), list[Krylov]()
    while len(runs) < num_runs and not (runs and time.monotonic() > until):
        runs.append(lanczos(matrix, random.choice((-1.0, 1.0), matrix.shape[0]), num_steps, until=until))
    is_whole = len(runs) == num_runs and all(run.is_whole for run in runs)
    return Density(tuple((run.nodes, run.parts) for run in runs), matrix.shape[0], is_whole)
