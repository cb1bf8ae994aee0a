"""Spectra of weights: what the singular values of every layer say, and how far weights have moved.

Each layer is a stack of matrices (`scifm.models.parts.matrices`): a linear map is one, a convolution one a tap, a
spectral layer one complex matrix a Fourier mode. Its eigenvalues λ are the squared singular values, not divided by
anything, of all matrices together. Complex matrices are decomposed as such: the real matrix of twice the size that acts
alike has every λ twice, and would make every error of a fit too small by √2.

Modes differ in scale, and numbers of unlike scales alone make a heavy tail. So what is fitted to a stack is told twice:
of the λ as they are, and of those of each matrix over their mean.

Exponents, norms and names after Martin, Peng & Mahoney, "Predicting trends in the quality of state-of-the-art neural
networks without access to training or testing data", Nature Communications 12:4122 (2021). There, averages over many
layers followed the test error of series of large networks for images and language. Small layers have few λ: an exponent
has the error `PowerTail.sigma`, and pure noise has one as well. `docs/concepts/weight-spectra.md` tells what was found
of neural operators.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from scifm.models.operator import Operator
from scifm.models.parts.matrices import Matrices, matrices_of
from scifm.trust.heavy_tails import PowerTail, fit_tail
from scifm.trust.random_matrices import bulk_variance, edges, largest_of_noise

__all__ = ["LayerChange", "LayerSpectrum", "compare", "left_out", "spectra_of"]

LEAST = 8
"""Rows and columns below which a matrix is too small to be told from noise."""

_NOTHING = 1e-5  # an eigenvalue below it is round-off, where entries have a mean square of one


@dataclass(frozen=True, eq=False)
class LayerSpectrum:
    """What the weights of one layer are.

    Args:
        name: of the parameter, as the operator names it.
        part: the part it plays, a key of `Operator.groups`; empty where the operator does not tell.
        shape: matrices, rows and columns.
        is_complex: whether the matrices are.
        eigenvalues: ``(matrix, min(rows, columns))``, squared singular values, the largest first.
        wavenumbers: ``(matrix, axis)``, of each matrix the mode it acts on; None: they are no modes.
        tail: the power law fitted to all eigenvalues together; None where there are fewer than 8, or all are alike.
        even_tail: the same where those of each matrix are divided by their mean; of a single one the same exponent.
        permuted: the largest eigenvalue after the entries, each over the root mean square of its matrix and less the
            mean of all, have been permuted at random over all matrices, in units of what noise with their mean square
            exceeds in fewer than one of 1,000 draws; None where matrices are smaller than 8. Above 1, entries are so
            large that no correlation between them is needed to stand out ("correlation traps").
        outlier_share: the share of the sum of all squares that single entries hold, of which each outweighs its
            matrix: alone it makes a larger eigenvalue than noise with the mean square of that matrix would.
        is_constant: whether all entries are the same number.
    """

    name: str
    part: str
    shape: tuple[int, int, int]
    is_complex: bool
    eigenvalues: np.ndarray
    wavenumbers: np.ndarray | None
    tail: PowerTail | None
    even_tail: PowerTail | None
    permuted: float | None
    outlier_share: float | None
    is_constant: bool

    @property
    def energies(self) -> np.ndarray:
        """Sum of the squares of the entries of each matrix, ``(matrix,)``: of a mode, what it carries."""
        return self.eigenvalues.sum(1)

    @property
    def largest(self) -> float:
        """The largest eigenvalue."""
        return float(self.eigenvalues.max())

    @property
    def is_zero(self) -> bool:
        """Whether nothing is there."""
        return self.largest == 0

    @property
    def alpha(self) -> float | None:
        """The exponent of `tail`."""
        return None if self.tail is None else self.tail.alpha

    @property
    def alpha_hat(self) -> float | None:
        """``α log₁₀ λ_max``, which grows with the scale of the weights."""
        return None if self.tail is None else self.tail.alpha * math.log10(self.largest)

    @property
    def log_alpha_norm(self) -> float | None:
        """``log₁₀ Σ λ^α``."""
        if self.tail is None:
            return None
        shares = (self.eigenvalues / self.largest) ** self.tail.alpha  # λ^α itself may be too large
        return float(np.log10(shares.sum())) + self.tail.alpha * math.log10(self.largest)

    @property
    def log_norm(self) -> float:
        """``log₁₀ Σ λ``, of the squared Frobenius norm; −∞ of nothing."""
        return _log10(float(self.eigenvalues.sum()))

    @property
    def log_spectral_norm(self) -> float:
        """``log₁₀ λ_max``, of the squared spectral norm; −∞ of nothing."""
        return _log10(self.largest)

    @property
    def stable_rank(self) -> float:
        """``Σ λ / λ_max`` of all matrices together; NaN of nothing."""
        return float(self.eigenvalues.sum()) / self.largest if self.largest else math.nan

    @property
    def mean_stable_rank(self) -> float:
        """Mean over the matrices that are not nothing of each one's own ``Σ λ / λ_max``; NaN where there are none."""
        own = self.eigenvalues[self.eigenvalues[:, 0] > 0]
        return float((own.sum(1) / own[:, 0]).mean()) if len(own) else math.nan

    @property
    def entropy(self) -> float:
        """``−Σ p ln p / ln(rank)``, p = λ/Σλ: 1 where all directions count alike; NaN where the rank is below two."""
        rank = int((self.eigenvalues > self.largest * np.finfo(np.float32).eps ** 2).sum())
        if rank < 2:
            return math.nan
        p = self.eigenvalues[self.eigenvalues > 0] / self.eigenvalues.sum()
        return float(-(p * np.log(p)).sum() / math.log(rank))

    @cached_property
    def even_eigenvalues(self) -> np.ndarray:
        """Eigenvalues of each matrix over their mean, ``(matrix, min(rows, columns))``; matrices of zeros left out."""
        alive = self.eigenvalues[self.energies > 0]
        return alive / alive.mean(1, keepdims=True)

    @property
    def noise_end(self) -> float | None:
        """Where, of `even_eigenvalues`, the bulk would end if it were noise; None where matrices are smaller than 8.

        The mean square of that noise is such that its median is theirs, so what stands out of it does not count.
        """
        if min(self.shape[1:]) < LEAST or self.is_zero:
            return None
        return edges(*self.shape[1:], self._noise)[1]

    @property
    def num_spikes(self) -> int | None:
        """How many `even_eigenvalues` lie above the largest of noise; None where matrices are smaller than 8."""
        if self.noise_end is None:
            return None
        count, rows, columns = self.shape
        limit = largest_of_noise(rows, columns, self._noise, count=count, is_complex=self.is_complex)
        return int((self.even_eigenvalues > limit).sum())

    @property
    def soft_rank(self) -> float | None:
        """`noise_end` over the largest of `even_eigenvalues`: near 1 of noise; None as for `noise_end`."""
        return None if self.noise_end is None else self.noise_end / float(self.even_eigenvalues.max())

    @cached_property
    def _noise(self) -> float:
        return bulk_variance(self.even_eigenvalues, *self.shape[1:])


@dataclass(frozen=True)
class LayerChange:
    """How far the weights of one layer are from those of another operator.

    Args:
        name: of the parameter.
        part: the part it plays.
        distance: root of the sum of the squared differences of entries (Frobenius norm); None where the other one has
            no such layer, or one of another shape.
        relative: that over the same norm of the weights before; None as well where these are zero.
        stable_rank: of the differences, ``Σ λ / λ_max`` of all matrices together; None where nothing changed.
    """

    name: str
    part: str
    distance: float | None
    relative: float | None
    stable_rank: float | None


def spectra_of(operator: Operator, *, seed: int = 0) -> list[LayerSpectrum]:
    """Return the spectrum of every layer, in the order in which the operator names them; it is not changed.

    What carries no matrices, such as biases and norms, is not among them; `left_out` names the tables that nobody says
    how to read. Weights that two layers share are told once.

    Args:
        seed: of the permutation of entries.

    Raises:
        ValueError: if a weight is not finite.
    """
    return [_spectrum(name, part, layer, seed) for name, part, layer in _layers(operator)]


def compare(before: Operator, after: Operator) -> list[LayerChange]:
    """Return how far each layer of `after` is from the one of its name in `before`: first weights, or a parent's.

    Raises:
        ValueError: if a weight is not finite.
    """
    known = {name: _numbers(name, layer) for name, _, layer in _layers(before)}
    return [_change(name, part, known.get(name), _numbers(name, layer)) for name, part, layer in _layers(after)]


def left_out(operator: Operator) -> list[str]:
    """Return the names of parameters with two axes or more that no layer says how to read as matrices."""
    read = {name for name, _, _ in _layers(operator)}
    ids = {id(weight) for name, weight in _plain_parameters(operator) if name in read}
    unread = {id(weight): name for name, weight in _plain_parameters(operator) if weight.dim() > 1}
    return [name for number, name in unread.items() if number not in ids]


def _plain_parameters(operator: Operator) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield parameters by the name of the weight they are of, whether or not an adapter stands before it."""
    for name, parameter in operator.named_parameters(remove_duplicate=False):
        if ".parametrizations." not in name:
            yield name, parameter
        elif name.endswith(".original"):
            yield name.replace(".parametrizations.", ".").removesuffix(".original"), parameter


def _layers(operator: Operator) -> Iterator[tuple[str, str, Matrices]]:
    parts = {id(weight): part for part, weights in operator.groups().items() for weight in weights}
    parameters, seen = dict(_plain_parameters(operator)), set[int]()
    for place, layer in operator.named_modules():
        matrices = matrices_of(layer)
        if matrices is None or not matrices.stack.numel():
            continue
        name = f"{place}.{matrices.name}" if place else matrices.name
        parameter = parameters.get(name)
        if parameter is not None and id(parameter) in seen:
            continue
        seen.add(id(parameter))
        yield name, parts.get(id(parameter), ""), matrices


def _numbers(name: str, layer: Matrices) -> np.ndarray:
    wide = layer.stack.cpu().to(torch.complex128 if layer.stack.is_complex() else torch.float64).numpy()
    if not np.isfinite(wide).all():
        raise ValueError(f"the weight '{name}' holds numbers that are not finite")
    return wide


def _eigenvalues(stack: np.ndarray) -> np.ndarray:
    return np.linalg.svd(stack, compute_uv=False) ** 2


def _spectrum(name: str, part: str, layer: Matrices, seed: int) -> LayerSpectrum:
    stack = _numbers(name, layer)
    count, rows, columns = stack.shape
    eigenvalues, is_complex = _eigenvalues(stack), np.iscomplexobj(stack)
    # sizes before thresholds: a spectral layer whose entries are 1/(in·out) is no round-off
    scale = float(np.mean(np.abs(stack) ** 2))
    raw = _tail(eigenvalues, scale)
    alive = eigenvalues[eigenvalues.sum(1) > 0]
    even = _tail(alive / alive.mean(1, keepdims=True), 1 / max(rows, columns))
    return LayerSpectrum(
        name=name,
        part=part,
        shape=(count, rows, columns),
        is_complex=is_complex,
        eigenvalues=eigenvalues,
        wavenumbers=None if layer.wavenumbers is None else np.asarray(layer.wavenumbers),
        tail=raw,
        even_tail=even,
        permuted=_permuted(stack, seed),
        outlier_share=_outlier_share(stack),
        is_constant=stack.size > 1 and bool((stack == stack.flat[0]).all()),
    )


def _tail(eigenvalues: np.ndarray, scale: float) -> PowerTail | None:
    """Fit the tail of what is more than round-off, where the mean square of the entries is `scale`."""
    kept = eigenvalues[eigenvalues > _NOTHING * scale] if scale > 0 else eigenvalues[:0]
    return fit_tail(kept) if kept.size >= LEAST else None


def _permuted(stack: np.ndarray, seed: int) -> float | None:
    """Return the largest eigenvalue of permuted entries in units of that of noise, see `LayerSpectrum`."""
    rows, columns = stack.shape[1:]
    sizes = np.sqrt(np.mean(np.abs(stack) ** 2, axis=(1, 2), keepdims=True))
    alive = stack[sizes[:, 0, 0] > 0] / sizes[sizes > 0].reshape(-1, 1, 1)
    if min(rows, columns) < LEAST or not alive.size:
        return None
    centered = alive - alive.mean()  # a mean alone is a spike, which no permutation takes away
    variance = float(np.mean(np.abs(centered) ** 2))
    if variance <= np.finfo(np.float32).eps ** 2:
        return None
    random = np.random.default_rng(seed)
    mixed = random.permutation(centered.ravel()).reshape(centered.shape)
    noise = largest_of_noise(rows, columns, variance, count=len(mixed), is_complex=np.iscomplexobj(mixed))
    return float(_eigenvalues(mixed).max()) / noise


def _outlier_share(stack: np.ndarray) -> float | None:
    """Return what share of all squares single entries hold that outweigh their matrix, see `LayerSpectrum`."""
    rows, columns = stack.shape[1:]
    squares = np.abs(stack) ** 2
    if min(rows, columns) < LEAST or not squares.any():
        return None
    limit = largest_of_noise(rows, columns, is_complex=np.iscomplexobj(stack))
    outliers = squares > limit * squares.mean((1, 2), keepdims=True)
    return float(squares[outliers].sum() / squares.sum())


def _change(name: str, part: str, before: np.ndarray | None, after: np.ndarray) -> LayerChange:
    if before is None or before.shape != after.shape:
        return LayerChange(name, part, None, None, None)
    distance, size = float(np.linalg.norm((after - before).ravel())), float(np.linalg.norm(before.ravel()))
    eigenvalues = _eigenvalues(after - before)
    rank = float(eigenvalues.sum() / eigenvalues.max()) if distance else None
    return LayerChange(name, part, distance, distance / size if size else None, rank)


def _log10(number: float) -> float:
    return math.log10(number) if number > 0 else -math.inf
