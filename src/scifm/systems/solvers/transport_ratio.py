"""The speed at which advection and diffusion stand in a given ratio on the solution.

With û = f̂ / (D + i s a) the two terms of mode k share the power |f̂|² in the proportion s²a² : D², so with
balance = a²/D² and weights |f̂|²

    ratio²(s) = Σ power · s² balance/(1 + s² balance) / Σ power · 1/(1 + s² balance).

log ratio² grows strictly with x = log s², with a slope between 0 and 1: Newton's method in x needs a few steps, and a
bracket keeps it safe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import DataError

__all__ = ["RatioCurve", "meet_ratio", "ratio_at"]

_CLOSE_ENOUGH = 1e-2  # in log ratio²; the Newton step taken from there leaves about a tenth of its square
_MAX_STEPS = 100
_MAX_LOG_SPEED_SQUARED = 2 * math.log(1e6)  # beyond it diffusion is round-off
_MIN_LOG_SPEED_SQUARED = -_MAX_LOG_SPEED_SQUARED


def _shares(log_speed_squared: Tensor, power: Tensor, balance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return Σ power·n, Σ power·t and Σ power·n·t with t = 1/(1 + s² balance), n = 1 − t; each ``(batch,)``."""
    scaled = balance * log_speed_squared.exp()[:, None].to(balance.dtype)
    diffused = (scaled + 1).reciprocal_()
    diffusion = power * diffused
    advection = scaled.mul_(diffusion)  # not power − diffusion, which would cancel for small ratios
    return advection.sum(1), diffusion.sum(1), diffused.mul_(advection).sum(1)


def ratio_at(speed: Tensor, power: Tensor, balance: Tensor) -> Tensor:
    """Return the ratio at a speed, ``(batch,)``; arguments as in `meet_ratio`."""
    advection, diffusion, _ = _shares(2 * speed.log(), power, balance)
    return (advection / diffusion).sqrt()


def meet_ratio(
    ratio: Float[Tensor, " batch"], power: Float[Tensor, "batch modes"], balance: Float[Tensor, "batch modes"]
) -> Float[Tensor, " batch"]:
    """Return the speed at which each sample meets its ratio, ``(batch,)`` float64.

    Args:
        ratio: ``(batch,)`` wanted ‖advection term‖ / ‖diffusion term‖, positive.
        power: ``(batch, modes)`` power of the forcing, none in the mean.
        balance: ``(batch, modes)`` a²/D² at unit speed, finite.

    Raises:
        DataError: if a ratio cannot be reached at a speed between 1e-6 and 1e6.
    """
    wanted = 2 * ratio.to(torch.float64).log()
    power = power / power.sum(1, keepdim=True)
    low = torch.full_like(wanted, _MIN_LOG_SPEED_SQUARED)
    high = torch.full_like(wanted, _MAX_LOG_SPEED_SQUARED)
    x = (wanted - (power * balance).sum(1).log()).clamp(low, high)
    for _ in range(_MAX_STEPS):
        advection, diffusion, mixed = (share.to(torch.float64) for share in _shares(x, power, balance))
        miss = (advection / diffusion).log() - wanted
        newton = x - miss / (mixed / advection + mixed / diffusion)
        if bool((miss.abs() < _CLOSE_ENOUGH).all()):
            return (0.5 * newton).exp()
        low, high = torch.where(miss < 0, x, low), torch.where(miss > 0, x, high)
        x = torch.where((newton > low) & (newton < high), newton, 0.5 * (low + high))
    worst = int(miss.abs().argmax())
    raise DataError(
        f"An advection-diffusion ratio of {float(ratio[worst]):g} cannot be reached in sample {worst}: the forcing has "
        f"too much power in waves across the flow. Lower the ratio or let the direction vary."
    )


@dataclass(frozen=True)
class RatioCurve:
    """The mean ratio of many problems as a function of speed, and its inverse.

    Args:
        log_speed: ``(points,)`` increasing.
        log_ratio: ``(points,)`` increasing, log of the mean ratio.
    """

    log_speed: Tensor
    log_ratio: Tensor

    @classmethod
    def run(cls, power: Tensor, balance: Tensor, *, num_points: int = 161) -> RatioCurve:
        """Return the curve for these problems; arguments as in `meet_ratio`."""
        center = -0.5 * (power * balance).sum().div(power.sum()).log()
        log_speed = center + torch.linspace(-8, 8, num_points, dtype=power.dtype, device=power.device)
        means = [ratio_at(log.exp().expand(len(power)), power, balance).mean() for log in log_speed]
        return cls(log_speed, torch.stack(means).log())

    def speed(self, ratio: Tensor) -> Tensor:
        """Return the speed with this mean ratio, ``(batch,)``.

        Raises:
            DataError: if a ratio lies outside of the calibrated curve.
        """
        wanted = ratio.log()
        if bool((wanted < self.log_ratio[0]).any()) or bool((wanted > self.log_ratio[-1]).any()):
            first, last = float(self.log_ratio[0].exp()), float(self.log_ratio[-1].exp())
            raise DataError(f"The calibrated ratios reach from {first:.3g} to {last:.3g}; the knob asks for others.")
        right = torch.searchsorted(self.log_ratio, wanted).clamp(1, len(self.log_ratio) - 1)
        left = right - 1
        share = (wanted - self.log_ratio[left]) / (self.log_ratio[right] - self.log_ratio[left])
        return (self.log_speed[left] + share * (self.log_speed[right] - self.log_speed[left])).exp()
