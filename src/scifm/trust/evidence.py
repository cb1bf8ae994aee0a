"""What the evidence says of models with more weights than data, and what it does not say of their predictions.

The evidence (marginal likelihood) of weights with a Gaussian prior, without noise: how likely the data are before they
were seen. `interpolating_criterion` is the log of it per sample, best over the scale of the prior; for linear models it
is exact, for others (`criterion_of`) the leading term as that scale goes to zero (Laplace's method on the manifold of
weights that interpolate). The criterion is that of Hodgkinson et al., "The interpolating information criterion for
overparameterized models" (arXiv:2307.07785) in its terms; it is derived here, and its constants are ours.

The experiments are after Hodgkinson et al., "Monotonicity and double descent in uncertainty estimation with Gaussian
processes", ICML 2023 (arXiv:2210.07612): with more inputs that have nothing to do with the answer, the evidence of a
Gaussian process only improves, while its predictions are at their worst where there are as many inputs as samples. See
`docs/concepts/ensembles.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.autograd.functional import hessian as hessian_of
from torch.autograd.functional import jacobian as jacobian_of

from scifm.errors import DataError

__all__ = [
    "Criterion", "best_free_energy", "criterion_of", "excess_evidence", "excess_limit", "free_energy",
    "interpolating_criterion", "nearest_interpolator", "negative_log_evidence", "predictive_loss",
]  # fmt: skip


@dataclass(frozen=True)
class Criterion:
    """The interpolating information criterion, by its terms; of two models of the same data the lower one is better.

    Args:
        regularization: ``log 2R``, R half the squared distance of the weights from the middle of their prior.
        sharpness: ``(1/n) log det J Jᵀ``, J the derivatives of all n answers by the weights.
        curvature: ``(1/n)(log det H_M − log det H)``, H_M the second derivatives of the Lagrangian along the manifold
            of interpolating weights, H those of R: zero of what is linear in its weights.
        num_data: n.
    """

    regularization: float
    sharpness: float
    curvature: float
    num_data: int

    @property
    def value(self) -> float:
        """``log 2R + (1/n) log det J Jᵀ + (1/n) K − log n``: 2/n of the negative log evidence, without 1 + log 2π."""
        return self.regularization + self.sharpness + self.curvature - math.log(self.num_data)

    @property
    def negative_log_evidence(self) -> float:
        """The negative log evidence at the best scale of the prior."""
        return self.num_data / 2 * (self.value + 1 + math.log(2 * math.pi))


def _system(features: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(features, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if x.ndim != 2 or y.shape != x.shape[:1] or not len(y):
        raise DataError(f"Features are (sample, weight) and truths (sample,); got {x.shape} and {y.shape}.")
    if x.shape[1] < x.shape[0]:
        raise DataError(
            f"{x.shape[1]} weights do not interpolate {x.shape[0]} samples, and the evidence without noise is of those "
            "that do. Give at least as many features as samples."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all() and y.any()):
        raise DataError("Features and truths are finite numbers, and not all truths are zero.")
    return x, y


def _gram(x: np.ndarray) -> tuple[np.ndarray, float]:
    """Return X Xᵀ and the logarithm of its determinant."""
    gram = x @ x.T
    sign, logarithm = np.linalg.slogdet(gram)
    if sign <= 0 or np.linalg.matrix_rank(x) < len(x):
        raise DataError("Samples with dependent features cannot be interpolated: some are the same, or too few differ.")
    return gram, float(logarithm)


def interpolating_criterion(features: ArrayLike, truth: ArrayLike) -> Criterion:
    """Return the criterion of a linear model ``y = X θ``, θ normal about zero with one variance: exact.

    Args:
        features: X, ``(sample, weight)``, at least as many weights as samples.
        truth: y, ``(sample,)``.

    Raises:
        DataError: if the weights cannot interpolate the samples.
    """
    x, y = _system(features, truth)
    gram, logarithm = _gram(x)
    return Criterion(math.log(float(y @ np.linalg.solve(gram, y))), logarithm / len(y), 0.0, len(y))


def negative_log_evidence(features: ArrayLike, truth: ArrayLike, variance: float) -> float:
    """Return −log p(y) of ``y = X θ``, θ normal about zero with a variance: y is normal with covariance variance·X Xᵀ.

    Raises:
        DataError: if the weights cannot interpolate the samples, or the variance is not positive.
    """
    x, y = _system(features, truth)
    if not variance > 0:
        raise DataError(f"A variance is positive; got {variance}.")
    gram, logarithm = _gram(x)
    fit = float(y @ np.linalg.solve(gram, y)) / variance
    return 0.5 * (fit + logarithm + len(y) * math.log(2 * math.pi * variance))


Answers = Callable[[Tensor], Tensor]
"""All answers of a model, ``(answer,)``, as a function of its weights, ``(weight,)``, in torch."""


def nearest_interpolator(
    answers: Answers, truth: Tensor, start: Tensor, *, num_steps: int = 500, tolerance: float = 1e-10
) -> Tensor:
    """Return the weights nearest to `start`, as far as steps downhill can tell, that answer `truth`.

    Each step goes towards the weights that are nearest by the linearized answers, so far that half the squared distance
    and a multiple of the error fall together (sequential quadratic programming with an exact penalty).

    Args:
        answers: of the model.
        truth: ``(answer,)``, fewer than there are weights.
        start: the middle of the prior, ``(weight,)``, float64.
        tolerance: length of a step, of the weights', at which they have settled.

    Raises:
        DataError: if the steps do not settle: the model cannot answer so, or bends too much for this way.
    """
    theta, weight, share = start, 0.0, 1.0

    def price(weights: Tensor) -> float:
        return float((weights - start).square().sum()) / 2 + weight * float((answers(weights) - truth).abs().sum())

    for _ in range(num_steps):
        jacobian = jacobian_of(answers, theta)
        off = answers(theta) - truth
        multipliers, is_singular = torch.linalg.solve_ex(jacobian @ jacobian.T, jacobian @ (theta - start) - off)
        if is_singular:  # answers that do not hang on the weights any more
            break
        step = start + jacobian.T @ multipliers - theta
        length = float(step.norm())
        if not math.isfinite(length):
            break
        if length <= tolerance * max(1.0, float(theta.norm())):
            return theta + step
        weight = max(weight, 2 * float(multipliers.abs().max()))
        slope = float((theta - start) @ step) - weight * float(off.abs().sum())
        if length > 1e-6:  # below that the fall is round-off, and the last share serves
            share, before = 1.0, price(theta)
            while price(theta + share * step) > before + 1e-4 * share * slope and share > 1e-6:
                share /= 2
        theta = theta + share * step
    raise DataError(f"No weights that answer so were found in {num_steps} steps from the start: give another start.")


def criterion_of(answers: Answers, weights: Tensor, start: Tensor) -> Criterion:
    """Return the criterion of a small model at the weights nearest to `start` that interpolate.

    The evidence it stands for is that of answers without noise and weights that are normal about `start`, as their
    variance goes to zero. J and second derivatives are those of torch, dense: a few hundred weights.

    Args:
        answers: of the model; twice differentiable.
        weights: as `nearest_interpolator` finds them, ``(weight,)``, float64.
        start: the middle of the prior.

    Raises:
        DataError: if these are not nearest: the way to `start` is not at a right angle to the manifold of weights that
            answer alike, or distances from it do not grow along all of that.
    """
    jacobian = jacobian_of(answers, weights)
    num_data, num_weights = jacobian.shape
    away = weights - start
    gram = jacobian @ jacobian.T
    multipliers, is_singular = torch.linalg.solve_ex(gram, jacobian @ away)
    if is_singular:
        raise DataError("Answers that hang on the weights in one way only cannot be told apart: some are the same.")
    along = float((away - jacobian.T @ multipliers).norm()) / max(float(away.norm()), 1e-300)
    if not along < 1e-6:
        raise DataError(f"These weights are not the nearest that answer so: {along:.2g} of the way is along others.")
    bent = hessian_of(lambda theta: answers(theta) @ multipliers, weights)
    basis = torch.linalg.svd(jacobian, full_matrices=True)[2][num_data:].T  # of what changes no answer, to first order
    hessian = basis.T @ (torch.eye(num_weights, dtype=weights.dtype) - bent) @ basis
    values = torch.linalg.eigvalsh(hessian) if num_weights > num_data else hessian.new_ones(1)
    if not float(values.min()) > 0:
        raise DataError("These weights are not the nearest that answer so: others along the same answers are nearer.")
    return Criterion(
        regularization=math.log(float(away.square().sum())),
        sharpness=float(torch.linalg.slogdet(gram).logabsdet) / num_data,
        curvature=float(values.log().sum()) / num_data,
        num_data=num_data,
    )


def free_energy(gram: ArrayLike, truth: ArrayLike, scale: float, *, temperature: float = 0.0) -> float:
    """Return Bayes' free energy of a Gaussian process: −log evidence, of the kernel over `scale`.

    ``(λ/2) yᵀ(K + λγ I)⁻¹ y + ½ log det(K + λγ I) − (n/2) log(λ/2π)``, λ the scale and γ the temperature, the variance
    of noise.

    Args:
        gram: K, ``(sample, sample)``.
        truth: y, ``(sample,)``.

    Raises:
        DataError: if shapes do not fit, the scale is not positive, or K + λγ I is not positive definite.
    """
    k, y = np.asarray(gram, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if y.ndim != 1 or k.shape != (len(y), len(y)) or not scale > 0 or temperature < 0:
        raise DataError(
            f"A kernel is (sample, sample), truths (sample,), the scale positive and the temperature not negative; got "
            f"{k.shape}, {y.shape}, {scale} and {temperature}."
        )
    whole = k + scale * temperature * np.eye(len(y))
    try:
        factor = np.linalg.cholesky(whole)
    except np.linalg.LinAlgError as error:
        raise DataError("The kernel of these samples is singular: give a temperature, or fewer samples.") from error
    fit = np.linalg.solve(factor, y)
    return float(scale / 2 * fit @ fit + np.log(np.diag(factor)).sum() - len(y) / 2 * math.log(scale / (2 * math.pi)))


def best_free_energy(gram: ArrayLike, truth: ArrayLike) -> float:
    """Return the least free energy over the scale, without noise; there it is ``n/(yᵀ K⁻¹ y)``.

    Raises:
        DataError: as `free_energy`.
    """
    y = np.asarray(truth, dtype=np.float64)
    unit = free_energy(gram, y, 1.0)  # checks what is given
    fit = float(y @ np.linalg.solve(np.asarray(gram, dtype=np.float64), y))
    n = len(y)
    return unit - fit / 2 + n / 2 - n / 2 * math.log(n / fit)


def excess_evidence(num_samples: int, num_inputs: int, *, num_draws: int, seed: int = 0) -> np.ndarray:
    """Return how much worse than white noise a linear Gaussian process takes data that hang on none of its inputs.

    Each draw has independent normal inputs and truths, the kernel X Xᵀ/d, and the best scale. Told is ``(2/n) F − 1 −
    log 2π − log(‖y‖²/n)``: zero is what normal numbers of the right size have.

    Args:
        num_samples: n.
        num_inputs: d, more than samples.

    Returns:
        ``(draw,)``.

    Raises:
        DataError: if there are not more inputs than samples.
    """
    if num_inputs <= num_samples:
        raise DataError(f"Without noise there are more inputs than samples; got {num_inputs} and {num_samples}.")
    generator, found = np.random.default_rng(seed), []
    for _ in range(num_draws):
        x, y = generator.standard_normal((num_samples, num_inputs)), generator.standard_normal(num_samples)
        least = 2 / num_samples * best_free_energy(x @ x.T / num_inputs, y)
        found.append(least - 1 - math.log(2 * math.pi) - math.log(float(y @ y) / num_samples))
    return np.array(found)


def excess_limit(ratio: float) -> float:
    """Return what `excess_evidence` tends to for many samples and c times as many inputs: ``c log(c/(c − 1)) − 1``.

    Raises:
        DataError: if c is not larger than one.
    """
    if not ratio > 1:
        raise DataError(f"There are more inputs than samples: their ratio is larger than one; got {ratio}.")
    return ratio * math.log(ratio / (ratio - 1)) - 1


def predictive_loss(
    num_samples: int, num_inputs: Sequence[int], *, noise: float, num_draws: int, num_unseen: int = 50, seed: int = 0
) -> np.ndarray:
    """Return the expected squared error of draws of a linear Gaussian process's posterior, of truths that are noise.

    Each draw has independent normal inputs and truths of unit variance, the kernel X Xᵀ/d as it is, and a variance of
    noise. Told is the mean of ``(y − m)² + v`` over unseen samples, m and v the mean and the variance of the posterior
    without its noise. Without noise and d > n + 1 it is ``2 + n/(d − n − 1) − n/d``.

    Args:
        num_samples: n.
        num_inputs: d, one after the other.
        noise: variance, above zero.

    Returns:
        ``(num_inputs,)``, means over draws.

    Raises:
        DataError: if the noise is not positive.
    """
    if not noise > 0:
        raise DataError(f"The variance of noise is above zero; got {noise}.")
    generator, found = np.random.default_rng(seed), []
    for inputs in num_inputs:
        losses = []
        for _ in range(num_draws):
            x, y = generator.standard_normal((num_samples, inputs)), generator.standard_normal(num_samples)
            unseen, truth = generator.standard_normal((num_unseen, inputs)), generator.standard_normal(num_unseen)
            gram, between = x @ x.T / inputs + noise * np.eye(num_samples), unseen @ x.T / inputs
            solved = np.linalg.solve(gram, np.column_stack([y, between.T]))
            mean = between @ solved[:, 0]
            variance = np.square(unseen).sum(1) / inputs - (between * solved[:, 1:].T).sum(1)
            losses.append(float(np.mean(np.square(truth - mean) + variance)))
        found.append(float(np.mean(losses)))
    return np.array(found)
