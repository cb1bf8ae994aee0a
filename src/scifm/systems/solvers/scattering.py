"""Waves of one frequency in a medium that differs from place to place, in a box that absorbs: −∇·∇u − m u = f.

In the layers coordinates are stretched into the complex plane, ∂ᵢ → (1/sᵢ)∂ᵢ with sᵢ = 1 + i aᵢ/k (a perfectly matched
layer, Berenger 1994; Chew and Weedon 1994). Derivatives are staggered differences of fourth order, so the operator is
sparse: it is factorized once for each medium and wavenumber, and serves as many right-hand sides as share them.

The solution is differentiable with respect to all that stands in the equation, by one solution more with the conjugate
transpose (the adjoint): with A u₀ = f solved and r(u₀, …) what is missed there, u = u₀ − A⁻¹ r has the value u₀ and the
derivative of the solution, by the theorem of implicit functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex, Float
from scipy.sparse import csc_matrix, diags, identity, kron
from scipy.sparse.linalg import splu
from torch import Tensor

from scifm.errors import DataError
from scifm.fields.grid import Grid

__all__ = ["apply_waves", "solve_waves", "stretched_lines"]

_STAGGERED = (9 / 8, -1 / 24)  # of the differences between points 1 and 3 half spacings to both sides


def stretched_lines(
    wavenumber: Float[Tensor, " batch"],
    grid: Grid,
    absorption: Callable[[Tensor, float], Tensor],
) -> tuple[Complex[Tensor, "batch y y"], Complex[Tensor, "batch x x"]]:
    """Return (1/s)∂((1/s)∂·) along y and along x, a matrix for each sample, complex128.

    Args:
        wavenumber: k, ``(batch,)``.
        grid: periodic; the layers stand at its ends, so that nothing comes around.
        absorption: a [1/L] at places along an axis with a side.
    """
    k = wavenumber.double()[:, None]
    made = []
    for num, side, points in zip(grid.num_points, grid.extent, grid.coordinates(device=k.device), strict=True):
        step = side / num
        inner, half = (
            1 / torch.complex(torch.ones_like(k), absorption(at, side) / k) for at in (points, points + step / 2)
        )
        eye = torch.eye(num, dtype=torch.float64, device=k.device)
        forward = torch.stack(
            [c * (eye.roll(m + 1, 1) - eye.roll(-m, 1)) / step for m, c in enumerate(_STAGGERED)]
        ).sum(0)  # row j: the slope half a spacing beyond point j
        backward = -forward.T
        made.append(inner[:, :, None] * (backward.to(half) @ (half[:, :, None] * forward)))
    return made[0], made[1]


def apply_waves(
    field: Complex[Tensor, "batch y x"],
    medium: Float[Tensor, "batch y x"],
    lines: tuple[Complex[Tensor, "batch y y"], Complex[Tensor, "batch x x"]],
) -> Complex[Tensor, "batch y x"]:
    """Return −∇·∇u − m u; differentiable.

    Args:
        field: u.
        medium: m = k²(1 + q) [1/L²].
        lines: of `stretched_lines`.
    """
    along_y, along_x = lines
    return -(along_y @ field) - field @ along_x.transpose(1, 2) - medium * field


def solve_waves(
    forcing: Float[Tensor, "batch y x"],
    medium: Float[Tensor, "batch y x"],
    lines: tuple[Complex[Tensor, "batch y y"], Complex[Tensor, "batch x x"]],
) -> Complex[Tensor, "batch y x"]:
    """Return u with −∇·∇u − m u = f, complex128, differentiable with respect to all three.

    Factorizations are done on the CPU, one for each medium that differs from the others.

    Raises:
        DataError: if a medium is not finite, or its operator has no inverse.
    """
    factors = _Factors(medium.detach(), (lines[0].detach(), lines[1].detach()))
    solution = factors.solve(forcing.detach().to(torch.complex128))
    if not (torch.is_grad_enabled() and any(part.requires_grad for part in (forcing, medium, *lines))):
        return solution
    missed = apply_waves(solution, medium, lines) - forcing
    return solution - _Inverse.apply(missed, factors)


class _Factors:
    """The factorized operators of a batch; samples with the same medium share one."""

    def __init__(self, medium: Tensor, lines: tuple[Tensor, Tensor]) -> None:
        if not bool(torch.isfinite(medium).all()):
            raise DataError("A medium is finite everywhere; the given one is not. Look at what was read in its place.")
        numbers = [part.cpu().numpy() for part in (medium.double(), *lines)]
        self._own: list[Any] = []
        self._which: list[int] = []
        seen: dict[tuple[bytes, ...], int] = {}
        for sample in zip(*numbers, strict=True):
            key = tuple(part.tobytes() for part in sample)
            if key not in seen:
                seen[key] = len(self._own)
                self._own.append(_factorized(*sample))
            self._which.append(seen[key])

    def solve(self, right: Tensor, *, adjoint: bool = False) -> Tensor:
        """Return A⁻¹ times right-hand sides ``(batch, y, x)``, or A⁻ᴴ times them."""
        sides = right.detach().cpu().numpy().reshape(len(right), -1)
        made, which = np.empty_like(sides), np.array(self._which)
        for number, factor in enumerate(self._own):
            rows = np.flatnonzero(which == number)
            made[rows] = factor.solve(np.ascontiguousarray(sides[rows].T), "H" if adjoint else "N").T
        return torch.from_numpy(made).view(right.shape).to(right.device)


def _factorized(medium: np.ndarray, along_y: np.ndarray, along_x: np.ndarray) -> Any:
    ny, nx = medium.shape
    operator = -kron(csc_matrix(along_y), identity(nx)) - kron(identity(ny), csc_matrix(along_x))
    try:
        return splu(
            csc_matrix(operator - diags(medium.ravel())),
            permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.1, options={"SymmetricMode": True},
        )  # fmt: skip
    except RuntimeError as error:
        raise DataError(
            f"The waves of a medium have no single solution ({error}). Give the box an absorbing layer."
        ) from error


class _Inverse(torch.autograd.Function):
    """A⁻¹ of what is given, whose gradient is A⁻ᴴ of what comes back."""

    @staticmethod
    def forward(ctx: Any, right: Tensor, factors: _Factors) -> Tensor:
        ctx.factors = factors
        return factors.solve(right)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.factors.solve(gradient, adjoint=True), None
