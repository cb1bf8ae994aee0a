"""Coefficients that several systems share."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.systems.knobs import Knob

__all__ = ["diffusion_basis", "diffusion_tensor", "measured_diffusion", "nearest_turn", "require_knob"]

_ISOTROPIC = 1e-3  # below this anisotropy − 1 the rounding of float32 decides the angle


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


def measured_diffusion(batch: Batch, angle: Knob) -> dict[str, Float[Tensor, " batch"]]:
    """Return ``anisotropy`` and ``angle`` of the batch's K, ``(batch,)`` float64 each, as `diffusion_tensor` has them.

    Args:
        batch: with coefficients diffusion_xx, diffusion_yy and diffusion_xy.
        angle: the knob; of all angles that give this K, which are half a turn apart, the nearest to the middle of its
            range is returned. A K with an anisotropy below 1.001 has any angle: the middle itself.
    """
    xx, yy, xy = (batch.coefficient(f"diffusion_{name}").to(torch.float64) for name in ("xx", "yy", "xy"))
    gap = torch.hypot(yy - xx, 2 * xy)
    anisotropy = (xx + yy + gap) / (xx + yy - gap)
    turned = nearest_turn(0.5 * torch.atan2(2 * xy, yy - xx), math.pi, angle)
    middle = torch.full_like(turned, 0.5 * (angle.low + angle.high))
    return {"anisotropy": anisotropy, "angle": torch.where(anisotropy - 1 < _ISOTROPIC, middle, turned)}


def nearest_turn(angle: Float[Tensor, " batch"], period: float, knob: Knob) -> Float[Tensor, " batch"]:
    """Return, of all values that differ from `angle` by whole periods, the nearest to the middle of a knob's range."""
    middle = 0.5 * (knob.low + knob.high)
    return angle - period * ((angle - middle) / period).round()


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
