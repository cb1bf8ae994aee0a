"""Coefficients that several systems share."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError
from scifm.systems.knobs import Knob

__all__ = ["diffusion_basis", "diffusion_tensor", "require_knob"]


def diffusion_tensor(
    anisotropy: Float[Tensor, " batch"], angle: Float[Tensor, " batch"], scale: float
) -> Float[Tensor, "batch 3"]:
    """Return K = scale · Rᵀ diag(1, anisotropy) R with R the rotation by `angle`.

    Args:
        anisotropy: ``(batch,)`` ratio of the eigenvalues.
        angle: ``(batch,)`` [rad]; the strong direction is (sin angle, cos angle) in (x, y).
        scale: the smaller eigenvalue.

    Returns:
        ``(batch, 3)`` with columns K_xx, K_yy, K_xy.
    """
    cos, sin = angle.cos(), angle.sin()
    columns = (cos**2 + anisotropy * sin**2, sin**2 + anisotropy * cos**2, (anisotropy - 1) * sin * cos)
    return scale * torch.stack(columns, 1)


def diffusion_basis(wave_y: Tensor, wave_x: Tensor) -> Tensor:
    """Return the symbols of −∂xx, −∂yy and −2∂xy, stacked first: those of −∇·(K∇·) for a unit of each entry of K."""
    return torch.stack([wave_x * wave_x, wave_y * wave_y, 2 * wave_x * wave_y])


def require_knob(system: str, name: str, knob: Knob, low: float, reason: str) -> None:
    """Check that a knob stays at or above `low`.

    Raises:
        ConfigError: if it does not, saying why.
    """
    if knob.low < low:
        raise ConfigError(f"Knob '{name}' of '{system}' needs low >= {low:g} ({reason}); got low={knob.low:g}.")
