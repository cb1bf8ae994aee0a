"""Answers with a spread, brought to where linear quantities of theirs are known: conservation as a hard constraint.

An answer is a mean μ with a covariance Σ over n numbers, of which k linear quantities G μ should be b: the integral of
a field over space, say, whose change is known from what flows through the ends. Given b, what a Gaussian says is
Gaussian again,

    μ̃ = μ − Σ Gᵀ (N + G Σ Gᵀ)⁻¹ (G μ − b),    Σ̃ = Σ − Σ Gᵀ (N + G Σ Gᵀ)⁻¹ G Σ,

N the variance of what is known, zero for what is exact. μ̃ is then the answer with G μ̃ = b that is nearest to μ in the
norm of Σ⁻¹: it moves where the spread is large, at fronts, and hardly elsewhere. Without a spread (Σ = 1) it moves
alike everywhere. After Hansen et al., "Learning physical models that can respect conservation laws" (arXiv:2302.11002).

Σ is never formed where it is diagonal or that of an ensemble. All is solved in float64, and returned in the precision
that came.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import DataError, SignatureError
from scifm.fields.grid import Grid
from scifm.fields.norms import point_weights
from scifm.wording import plural

__all__ = [
    "Covariance", "Dense", "Deviations", "Diagonal", "Known", "conserve", "integral_weights", "is_met",
    "require_finite", "seen",
]  # fmt: skip

_DEGENERATE = 1e-13  # of its largest: what a variance is that rounding has made
_MET = 1e-9  # of the sizes added up: by how much a quantity may miss its value and count as met
_ROUNDED = 1e-15  # of the largest number: less than that is nothing, where all that is added up vanishes
_SYMMETRIC = 1e-6  # of its largest: by how much a covariance may differ from its transpose, or be negative


class Covariance(abc.ABC):
    """How numbers vary together; `conserve` asks no more of it than what stands here."""

    @property
    @abc.abstractmethod
    def variance(self) -> Float[Tensor, "... n"]:
        """Of each number by itself."""

    @abc.abstractmethod
    def along(self, rows: Float[Tensor, "... k n"]) -> Float[Tensor, "... n k"]:
        """Return Σ Gᵀ."""

    @abc.abstractmethod
    def dense(self) -> Float[Tensor, "... n n"]:
        """Return Σ itself."""

    @abc.abstractmethod
    def root(self) -> Float[Tensor, "... n r"]:
        """Return R with R Rᵀ = Σ."""

    @abc.abstractmethod
    def double(self) -> Covariance:
        """Return it in float64, or say what it may not be."""


@dataclass(frozen=True)
class Diagonal(Covariance):
    """Numbers that vary by themselves, as a network says that answers a mean and a variance at every point.

    Args:
        values: variances, ``(…, n)``, zero or above.
    """

    values: Tensor

    @property
    def variance(self) -> Tensor:
        return self.values

    def along(self, rows: Tensor) -> Tensor:
        return (rows * self.values.unsqueeze(-2)).transpose(-1, -2)

    def dense(self) -> Tensor:
        return torch.diag_embed(self.values)

    def root(self) -> Tensor:
        return torch.diag_embed(self.values.sqrt())

    def double(self) -> Diagonal:
        require_finite(self.values, "A variance")
        if bool((self.values < 0).any()):
            raise DataError(f"A variance is zero or above; the least given is {float(self.values.min()):.3g}.")
        return Diagonal(self.values.double())


@dataclass(frozen=True)
class Dense(Covariance):
    """Any covariance.

    Args:
        matrix: ``(…, n, n)``, symmetric, without negative eigenvalues.
    """

    matrix: Tensor

    @property
    def variance(self) -> Tensor:
        return self.matrix.diagonal(dim1=-2, dim2=-1)

    def along(self, rows: Tensor) -> Tensor:
        return self.matrix @ rows.transpose(-1, -2)

    def dense(self) -> Tensor:
        return self.matrix

    def root(self) -> Tensor:
        sizes, ways = torch.linalg.eigh(self.matrix)
        return ways * sizes.clamp(min=0).sqrt().unsqueeze(-2)

    def double(self) -> Dense:
        if self.matrix.dim() < 2 or self.matrix.shape[-1] != self.matrix.shape[-2]:
            raise SignatureError(f"A dense covariance is (…, n, n); got {tuple(self.matrix.shape)}.")
        require_finite(self.matrix, "A covariance")
        matrix = self.matrix.double()
        turned = matrix.transpose(-1, -2)
        largest = float(matrix.abs().max())
        if float((matrix - turned).abs().max()) > _SYMMETRIC * largest:
            raise DataError("A covariance is symmetric; the one given differs from its transpose.")
        if bool((self.variance < 0).any()):
            raise DataError("A covariance has no negative variance on its diagonal; the one given has.")
        matrix = (matrix + turned) / 2
        least = float(torch.linalg.eigvalsh(matrix).min())
        if least < -_SYMMETRIC * largest:
            raise DataError(f"A covariance has no negative eigenvalues; the least of the one given is {least:.3g}.")
        return Dense(matrix)


@dataclass(frozen=True)
class Deviations(Covariance):
    """The covariance of an ensemble, Σ deviationᵀ deviation / (members − 1), of which nobody forms the matrix.

    Args:
        values: each member less their mean, ``(…, members, n)``, two members or more.
        rest: variances that members do not share, ``(…, n)``, added on the diagonal; None: none.
    """

    values: Tensor
    rest: Tensor | None = None

    @property
    def variance(self) -> Tensor:
        own = self.values.square().sum(-2) / (self.values.shape[-2] - 1)
        return own if self.rest is None else own + self.rest

    def along(self, rows: Tensor) -> Tensor:
        seen = self.values @ rows.transpose(-1, -2)  # (…, members, k)
        shared = self.values.transpose(-1, -2) @ seen / (self.values.shape[-2] - 1)
        return shared if self.rest is None else shared + Diagonal(self.rest).along(rows)

    def dense(self) -> Tensor:
        shared = self.values.transpose(-1, -2) @ self.values / (self.values.shape[-2] - 1)
        return shared if self.rest is None else shared + torch.diag_embed(self.rest)

    def root(self) -> Tensor:
        shared = self.values.transpose(-1, -2) / (self.values.shape[-2] - 1) ** 0.5
        if self.rest is None:
            return shared
        own = torch.diag_embed(self.rest.sqrt()).expand(*shared.shape[:-2], -1, -1)
        return torch.cat([shared, own], dim=-1)

    def double(self) -> Deviations:
        if self.values.dim() < 2 or self.values.shape[-2] < 2:
            raise SignatureError(
                f"Deviations are (…, members, n) of two members or more; got {tuple(self.values.shape)}. One answer "
                "alone has no spread."
            )
        require_finite(self.values, "A deviation")
        rest = None if self.rest is None else Diagonal(self.rest).double().values
        return Deviations(self.values.double(), rest)


@dataclass(frozen=True)
class Known:
    """What is said of numbers once linear quantities of them are known.

    Args:
        mean: μ̃, ``(…, n)``.
        prior: Σ, in float64.
        rows: G, ``(…, k, n)``, in float64.
        gain: Σ Gᵀ (N + G Σ Gᵀ)⁻¹, ``(…, n, k)``, in float64.
        noise: the diagonal of N, ``(…, k)``, in float64.
        missed: G μ − b before, ``(…, k)``, in float64.
    """

    mean: Tensor
    prior: Covariance
    rows: Tensor
    gain: Tensor
    noise: Tensor
    missed: Tensor

    @property
    def variance(self) -> Float[Tensor, "... n"]:
        """The diagonal of Σ̃, without forming it; not below zero."""
        taken = (self.gain * self.prior.along(self.rows)).sum(-1)
        return (self.prior.variance - taken).clamp(min=0).to(self.mean.dtype)

    def covariance(self) -> Float[Tensor, "... n n"]:
        """Return Σ̃ itself, (1 − K G) Σ (1 − K G)ᵀ + K N Kᵀ, which rounding leaves without negative eigenvalues."""
        matrix = self.prior.dense()
        matrix = matrix - self.gain @ (self.rows @ matrix)
        matrix = matrix - (matrix @ self.rows.transpose(-1, -2)) @ self.gain.transpose(-1, -2)
        matrix = matrix + (self.gain * self.noise.unsqueeze(-2)) @ self.gain.transpose(-1, -2)
        return ((matrix + matrix.transpose(-1, -2)) / 2).to(self.mean.dtype)

    def moved(self, deviations: Float[Tensor, "... members n"]) -> Float[Tensor, "... members n"]:
        """Return deviations of an ensemble as they are once what is known is exact: each without its own quantity.

        Raises:
            DataError: if what is known has noise: members would then have to be moved by draws of it.
        """
        if bool((self.noise > 0).any()):
            raise DataError(
                "Members are moved to what is known exactly; with noise each of them would need a draw of it."
            )
        seen = deviations.double() @ self.rows.transpose(-1, -2)
        return (deviations - seen @ self.gain.transpose(-1, -2)).to(self.mean.dtype)


def integral_weights(grid: Grid) -> Float[Tensor, " point"]:
    """Return the row whose product with a field is its integral over space, ``(n,)`` of all points, in float64.

    It is the rule of `scifm.fields.norms`: all points alike on periodic axes, half of it at the ends of others.
    """
    weights = torch.ones(grid.num_points, dtype=torch.float64)
    ends = point_weights(grid, weights)
    return ((weights if ends is None else ends) * math.prod(grid.spacing)).flatten()


def conserve(
    mean: Float[Tensor, "... n"],
    covariance: Covariance | None,
    rows: Tensor,
    values: Tensor,
    *,
    noise: float | Tensor = 0.0,
) -> Known:
    """Return what is said of numbers once k linear quantities of them are known.

    Args:
        mean: μ, of any number of samples, frames, …, each by itself.
        covariance: Σ; None: the identity, so that all numbers move alike.
        rows: G, ``(…, k, n)``, which may repeat each other; or a single one, ``(n,)``.
        values: b, ``(…, k)``; of a single row ``(…)``.
        noise: variance of what is known, one number or ``(…, k)``; zero: it is exact.

    Raises:
        SignatureError: if sizes do not fit.
        DataError: if a number is not finite, a variance is negative, or an exact value cannot be met: two rows ask for
            different things, or what a row counts has no spread, and so nothing there may move.
    """
    if rows.dim() == 1:
        rows, values = rows.unsqueeze(0), values.unsqueeze(-1)
    if rows.dim() < 2 or rows.shape[-1] != mean.shape[-1] or values.shape[-1:] != rows.shape[-2:-1]:
        raise SignatureError(
            f"Quantities of {plural(mean.shape[-1], 'number')} are rows (…, k, {mean.shape[-1]}) with values (…, k); "
            f"got rows {tuple(rows.shape)} and values {tuple(values.shape)}."
        )
    for what, given in (("The mean", mean), ("A row", rows), ("A value", values)):
        require_finite(given, what)
    prior = (Diagonal(torch.ones_like(mean)) if covariance is None else covariance).double()
    if prior.variance.shape[-1] != mean.shape[-1]:
        raise SignatureError(
            f"The covariance is of {plural(prior.variance.shape[-1], 'number')}, the mean of {mean.shape[-1]}."
        )
    start, rows, values = mean.double(), rows.to(mean.device).double(), values.to(mean.device).double()
    noise = torch.as_tensor(noise, dtype=torch.float64, device=mean.device)
    if not bool((noise.isfinite() & (noise >= 0)).all()):
        raise DataError("The noise of what is known is a variance, zero or above and finite.")
    missed = seen(rows, start) - values
    noise = noise.expand(missed.shape)
    gain = _gain(prior, rows, noise)
    moved = start - (gain @ missed.unsqueeze(-1)).squeeze(-1)
    left = (seen(rows, moved) - values).where(noise == 0, 0.0)
    moved = moved - (gain @ left.unsqueeze(-1)).squeeze(-1)  # what rounding left
    _require_met(rows, moved, values, noise)
    return Known(moved.to(mean.dtype), prior, rows, gain, noise, missed)


def _gain(prior: Covariance, rows: Tensor, noise: Tensor) -> Tensor:
    """Return Σ Gᵀ (N + G Σ Gᵀ)⁻¹; of rows that repeat others, or see nothing that varies, the pseudo-inverse."""
    along = prior.along(rows)  # (…, n, k)
    seen = rows @ along
    seen = (seen + seen.transpose(-1, -2)) / 2 + torch.diag_embed(noise)
    # A row sees what varies if its variance is more than rounding: of the most that these variances could add up to.
    most = (rows.abs() * prior.variance.clamp(min=0).sqrt().unsqueeze(-2)).sum(-1).square()
    own = seen.diagonal(dim1=-2, dim2=-1)
    sees = own > _DEGENERATE * most
    size = torch.where(sees, own, 1.0).sqrt()
    scaled = torch.where(sees.unsqueeze(-1) & sees.unsqueeze(-2), seen / (size.unsqueeze(-1) * size.unsqueeze(-2)), 0.0)
    inverse = torch.linalg.pinv(scaled, rtol=1e-11, hermitian=True)
    return along @ (inverse / (size.unsqueeze(-1) * size.unsqueeze(-2)))


def seen(rows: Float[Tensor, "... k n"], numbers: Float[Tensor, "... n"]) -> Float[Tensor, "... k"]:
    """Return G μ."""
    return (rows @ numbers.unsqueeze(-1)).squeeze(-1)


def is_met(off: Tensor, rows: Tensor, numbers: Tensor, values: Tensor) -> Tensor:
    """Return where what quantities miss is rounding, ``(…, k)``: of the sizes added up, or of the largest number."""
    size = values.abs() + seen(rows.abs(), numbers.abs())
    largest = rows.abs().sum(-1) * numbers.abs().amax(-1, keepdim=True)
    return off <= (_MET * size).maximum(_ROUNDED * largest)


def _require_met(rows: Tensor, numbers: Tensor, values: Tensor, noise: Tensor) -> None:
    off = (seen(rows, numbers) - values).abs()
    unmet = (noise == 0) & ~is_met(off, rows, numbers, values)
    if not bool(unmet.any()):
        return
    which = sorted({place[-1] for place in unmet.nonzero().tolist()})
    raise DataError(
        f"What is known cannot be met: quantity {', '.join(map(str, which))} misses its value by up to "
        f"{float(off.detach()[unmet].max()):.3g}. Either two rows ask for different things, or what it counts has no "
        "spread, so that nothing may move: give a covariance that varies there, or a noise above zero."
    )


def require_finite(given: Tensor, what: str) -> None:
    """Raise DataError where something that is brought to what is known is no number."""
    if not bool(given.isfinite().all()):
        raise DataError(f"{what} that is brought to what is known is NaN or infinite: leave such samples out.")
