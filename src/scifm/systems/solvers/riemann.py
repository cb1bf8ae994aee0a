"""Two states that meet: the exact solution of the Riemann problem of a gas and of shallow water.

At time 0 one uniform state lies at x < 0 and another at x > 0. Two waves run apart, each a shock or a rarefaction, and
between them pressure (depth) and velocity are the same on both sides of a contact. The middle pressure is the zero of

    f(p) = f_L(p) + f_R(p) + u_R − u_L,

f_K the change of velocity across wave K, found by Newton's method from a pressure where f is not positive: f grows
and is concave, so that no step passes the zero. All problems of a batch are solved at once, in float64.

    gas, f_K(p)     p > p_K:  (p − p_K) √(A/(p + B)),  A = 2/((γ+1) ρ_K),  B = p_K (γ−1)/(γ+1)
                    p ≤ p_K:  2c_K/(γ−1) ((p/p_K)^((γ−1)/2γ) − 1)
    water, f_K(h)   h > h_K:  (h − h_K) √(g (h + h_K) / (2 h h_K))
                    h ≤ h_K:  2 (√(g h) − √(g h_K))

Two gases (two waters) that fly apart faster than their waves would leave a vacuum (dry ground); those are refused.

References: Toro, Riemann Solvers and Numerical Methods for Fluid Dynamics, 3rd ed., Springer 2009, ch. 4,
doi:10.1007/b79761; Stoker, Water Waves, Interscience 1957, ch. 10 (the dam break).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scifm.errors import DataError

__all__ = ["Middle", "gas_middle", "gas_riemann", "water_middle", "water_riemann"]

_MOST_STEPS = 60
_CLOSE = 1e-15


@dataclass(frozen=True)
class Middle:
    """The state between the two waves.

    Args:
        pressure: of a gas; of water the depth.
        velocity: of both sides of the contact, and of the contact.
        before: density behind the wave to the left; of water the depth.
        behind: density behind the wave to the right.
    """

    pressure: Tensor
    velocity: Tensor
    before: Tensor
    behind: Tensor


def gas_middle(left: Any, right: Any, ratio: Any) -> Middle:
    """Return the middle of a gas with p = (γ − 1) ρ e.

    Args:
        left: density, velocity and pressure, ``(…, 3)``.
        right: the same.
        ratio: γ, ``(…)``.

    Raises:
        DataError: if a density or a pressure is not positive, or a vacuum would form.
    """
    left, right, ratio = _double(left), _double(right), _double(ratio)
    (rho_l, u_l, p_l), (rho_r, u_r, p_r) = left.unbind(-1), right.unbind(-1)
    _require_positive("density and pressure", rho_l, rho_r, p_l, p_r)
    c_l, c_r = (ratio * p_l / rho_l).sqrt(), (ratio * p_r / rho_r).sqrt()
    if bool((2 / (ratio - 1) * (c_l + c_r) <= u_r - u_l).any()):
        raise DataError("The gases fly apart so fast that a vacuum forms; give velocities closer to each other.")
    power = (ratio - 1) / (2 * ratio)

    def change(p: Tensor, rho: Tensor, p_side: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        a, b = 2 / ((ratio + 1) * rho), p_side * (ratio - 1) / (ratio + 1)
        root = (a / (p + b)).sqrt()
        shock, shock_slope = (p - p_side) * root, root * (1 - 0.5 * (p - p_side) / (p + b))
        fan = 2 * c / (ratio - 1) * ((p / p_side) ** power - 1)
        fan_slope = (p / p_side) ** (-(ratio + 1) / (2 * ratio)) / (rho * c)
        return torch.where(p > p_side, shock, fan), torch.where(p > p_side, shock_slope, fan_slope)

    def total(p: Tensor) -> tuple[Tensor, Tensor]:
        (one, one_slope), (other, other_slope) = change(p, rho_l, p_l, c_l), change(p, rho_r, p_r, c_r)
        return one + other + u_r - u_l, one_slope + other_slope

    fans = ((c_l + c_r - 0.5 * (ratio - 1) * (u_r - u_l)) / (c_l / p_l**power + c_r / p_r**power)) ** (1 / power)
    p = _zero(total, torch.minimum(p_l, p_r), torch.maximum(p_l, p_r), fans)
    u = 0.5 * (u_l + u_r + change(p, rho_r, p_r, c_r)[0] - change(p, rho_l, p_l, c_l)[0])
    return Middle(p, u, _compressed(rho_l, p / p_l, ratio), _compressed(rho_r, p / p_r, ratio))


def gas_riemann(left: Any, right: Any, ratio: Any, rays: Tensor) -> Tensor:
    """Return density, velocity and pressure of a gas along rays from the origin.

    Args:
        left: density, velocity and pressure, ``(…, 3)``.
        right: the same.
        ratio: γ, ``(…)``.
        rays: x/t, ``(num_rays,)``.

    Returns:
        ``(…, 3, num_rays)`` in float64.

    Raises:
        DataError: as `gas_middle`.
    """
    left, right, ratio = _double(left), _double(right), _double(ratio)
    middle = gas_middle(left, right, ratio)
    rays, gamma = _double(rays), ratio[..., None]
    parts = []
    for sign, side, inner in ((1.0, left, middle.before), (-1.0, right, middle.behind)):
        rho, u, p = (part[..., None] for part in side.unbind(-1))
        rho_m, p_m, u_m = inner[..., None], middle.pressure[..., None], sign * middle.velocity[..., None]
        ray, u = sign * rays, sign * u  # seen in a mirror the wave to the right is one to the left
        c, c_m = (gamma * p / rho).sqrt(), (gamma * p_m / rho_m).sqrt()
        shocked = p_m > p
        shock = u - c * ((gamma + 1) / (2 * gamma) * p_m / p + (gamma - 1) / (2 * gamma)).sqrt()
        head, tail = torch.where(shocked, shock, u - c), torch.where(shocked, shock, u_m - c_m)
        fan_c = ((2 * c + (gamma - 1) * (u - ray)) / (gamma + 1)).clamp(min=0)
        fan_rho = rho * (fan_c / c) ** (2 / (gamma - 1))
        fan = torch.stack([fan_rho, sign * (ray + fan_c), p * (fan_c / c) ** (2 * gamma / (gamma - 1))], dim=-2)
        parts.append(_wave(ray, head, tail, (rho, sign * u, p), fan, (rho_m, sign * u_m, p_m)))
    before, behind = parts
    return torch.where((rays < middle.velocity[..., None])[..., None, :], before, behind)


def water_middle(left: Any, right: Any, gravity: Any) -> Middle:
    """Return the middle of shallow water on a flat bottom.

    Args:
        left: depth and velocity, ``(…, 2)``.
        right: the same.
        gravity: g, ``(…)``.

    Raises:
        DataError: if a depth is not positive, or dry ground would appear.
    """
    left, right, gravity = _double(left), _double(right), _double(gravity)
    (h_l, u_l), (h_r, u_r) = left.unbind(-1), right.unbind(-1)
    _require_positive("depth", h_l, h_r)
    c_l, c_r = (gravity * h_l).sqrt(), (gravity * h_r).sqrt()
    if bool((2 * (c_l + c_r) <= u_r - u_l).any()):
        raise DataError("The water flies apart so fast that dry ground appears; give velocities closer to each other.")

    def change(h: Tensor, h_side: Tensor) -> tuple[Tensor, Tensor]:
        root = (0.5 * gravity * (h + h_side) / (h * h_side)).sqrt()
        shock, shock_slope = (h - h_side) * root, root - 0.25 * gravity * (h - h_side) / (root * h * h)
        fan, fan_slope = 2 * ((gravity * h).sqrt() - (gravity * h_side).sqrt()), (gravity / h).sqrt()
        return torch.where(h > h_side, shock, fan), torch.where(h > h_side, shock_slope, fan_slope)

    def total(h: Tensor) -> tuple[Tensor, Tensor]:
        (one, one_slope), (other, other_slope) = change(h, h_l), change(h, h_r)
        return one + other + u_r - u_l, one_slope + other_slope

    fans = (0.5 * (c_l + c_r) - 0.25 * (u_r - u_l)).square() / gravity
    h = _zero(total, torch.minimum(h_l, h_r), torch.maximum(h_l, h_r), fans)
    return Middle(h, 0.5 * (u_l + u_r + change(h, h_r)[0] - change(h, h_l)[0]), h, h)


def water_riemann(left: Any, right: Any, gravity: Any, rays: Tensor) -> Tensor:
    """Return depth and velocity of shallow water along rays from the origin: Stoker's dam break, and all others.

    Args:
        left: depth and velocity, ``(…, 2)``.
        right: the same.
        gravity: g, ``(…)``.
        rays: x/t, ``(num_rays,)``.

    Returns:
        ``(…, 2, num_rays)`` in float64.

    Raises:
        DataError: as `water_middle`.
    """
    left, right, gravity = _double(left), _double(right), _double(gravity)
    middle = water_middle(left, right, gravity)
    rays, g = _double(rays), gravity[..., None]
    h_m, parts = middle.pressure[..., None], []
    for sign, side in ((1.0, left), (-1.0, right)):
        h, u = (part[..., None] for part in side.unbind(-1))
        ray, u, u_m = sign * rays, sign * u, sign * middle.velocity[..., None]
        c, c_m = (g * h).sqrt(), (g * h_m).sqrt()
        shocked = h_m > h
        shock = u - c * (0.5 * h_m * (h_m + h) / h.square()).sqrt()
        head, tail = torch.where(shocked, shock, u - c), torch.where(shocked, shock, u_m - c_m)
        fan_c = (2 * c + u - ray) / 3
        fan = torch.stack([fan_c.square() / g, sign * (ray + fan_c)], dim=-2)
        parts.append(_wave(ray, head, tail, (h, sign * u), fan, (h_m, sign * u_m)))
    before, behind = parts
    return torch.where((rays < middle.velocity[..., None])[..., None, :], before, behind)


def _wave(
    ray: Tensor, head: Tensor, tail: Tensor, outside: tuple[Tensor, ...], fan: Tensor, inside: tuple[Tensor, ...]
) -> Tensor:
    """Return what a wave to the left leaves: the state before its head, its fan, the state behind its tail."""
    alike = fan[..., 0, :]
    before, behind = (torch.stack([part.expand_as(alike) for part in state], -2) for state in (outside, inside))
    rest = torch.where((ray > tail).unsqueeze(-2), behind, fan)
    return torch.where((ray < head).unsqueeze(-2), before, rest)


def _zero(total: Callable[[Tensor], tuple[Tensor, Tensor]], low: Tensor, high: Tensor, fans: Tensor) -> Tensor:
    """Return the zero of a growing concave function; `fans` is it where both waves are rarefactions."""
    two_fans = total(low)[0] >= 0
    value = torch.where(total(high)[0] <= 0, high, low)
    for _ in range(_MOST_STEPS):
        missed, slope = total(value)
        change = missed / slope
        value = value - change
        if bool((two_fans | (change.abs() <= _CLOSE * value)).all()):
            break
    return torch.where(two_fans, fans, value)


def _compressed(density: Tensor, rise: Tensor, ratio: Tensor) -> Tensor:
    """Return the density behind a wave across which the pressure rises by a factor."""
    part = (ratio - 1) / (ratio + 1)
    return density * torch.where(rise > 1, (rise + part) / (part * rise + 1), rise ** (1 / ratio))


def _double(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def _require_positive(what: str, *values: Tensor) -> None:
    least = min(float(value.min()) for value in values)
    if not least > 0:
        raise DataError(f"The exact Riemann solution needs positive {what} on both sides; got {least:g}.")
