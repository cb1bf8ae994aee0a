"""What flows through a face between two states: HLLC, three waves, for gases and for shallow water.

The speeds of the outer waves are Einfeldt's: the least and the largest of those of the two sides and of their average
with the weights √ρ (for water √h). Then no density and no pressure that a first-order step makes is negative.

States are primitive, ``(batch, channel, *faces)``: density or depth, velocities, and for gases the pressure last. What
flows is conserved: mass, momenta, and for gases the energy last.

References: Toro, Spruce and Speares, Shock Waves 4 (1994) 25, doi:10.1007/BF01414629; Einfeldt, SIAM J. Numer. Anal. 25
(1988) 294, doi:10.1137/0725021; Batten, Clarke, Lambert and Causon, SIAM J. Sci. Comput. 18 (1997) 1553,
doi:10.1137/S1064827593260140.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gas_flux", "water_flux"]


def gas_flux(before: Tensor, behind: Tensor, normal: int, ratio: Tensor) -> Tensor:
    """Return what flows along an axis of a gas with p = (γ − 1) ρ e.

    Args:
        before: state on the side of smaller coordinates.
        behind: on the other side.
        normal: the channel of the velocity along the axis.
        ratio: γ, ``(batch, 1, 1, …)`` to act on ``(batch, *faces)``.
    """
    speed_l, speed_r = before[:, normal], behind[:, normal]
    press_l, press_r = before[:, -1], behind[:, -1]
    sound_l, sound_r = ratio * press_l / before[:, 0], ratio * press_r / behind[:, 0]  # squared
    slow, fast = _outer_speeds((before[:, 0], behind[:, 0]), (speed_l, speed_r), (sound_l, sound_r), gas=True)
    mass_l, mass_r = (slow - speed_l) * before[:, 0], (fast - speed_r) * behind[:, 0]
    middle = (press_r - press_l + speed_l * mass_l - speed_r * mass_r) / (mass_l - mass_r)

    forward = middle >= 0
    side = torch.where(forward.unsqueeze(1), before, behind)
    density, speed, pressure = side[:, 0], side[:, normal], side[:, -1]
    outer, mass = torch.where(forward, slow, fast), torch.where(forward, mass_l, mass_r)
    reach = torch.where(forward, slow.clamp_(max=0), fast.clamp_(min=0))
    squeezed = mass / outer.sub_(middle)
    momentum = density * speed
    energy = torch.addcmul(pressure / (ratio - 1), density, _squares(side), value=0.5)
    between = torch.addcmul(energy / density, middle - speed, middle + pressure / mass).mul_(squeezed)

    flow = torch.addcmul(momentum, reach, squeezed - density)
    flux = side * flow.unsqueeze(1)  # what is carried along: the velocities across
    flux[:, 0] = flow
    carried = torch.addcmul(pressure, momentum, speed)
    flux[:, normal] = carried.addcmul_(reach, squeezed.mul_(middle).sub_(momentum))
    flux[:, -1] = between.sub_(energy).mul_(reach).addcmul_(energy.add_(pressure), speed)
    return flux


def water_flux(before: Tensor, behind: Tensor, normal: int, gravity: Tensor) -> Tensor:
    """Return what flows along an axis of shallow water, the pressure g h²/2 among it.

    Args:
        before: state on the side of smaller coordinates.
        behind: on the other side.
        normal: the channel of the velocity along the axis.
        gravity: g, ``(batch, 1, 1, …)`` to act on ``(batch, *faces)``.
    """
    depth_l, depth_r = before[:, 0], behind[:, 0]
    speed_l, speed_r = before[:, normal], behind[:, normal]
    slow, fast = _outer_speeds(
        (depth_l, depth_r), (speed_l, speed_r), (gravity * depth_l, gravity * depth_r), gas=False
    )
    mass_l, mass_r = (slow - speed_l) * depth_l, (fast - speed_r) * depth_r
    width, gained = fast - slow, mass_r - mass_l
    depth = gained / width
    middle = (slow * mass_r - fast * mass_l) / gained
    push_l, push_r = 0.5 * gravity * depth_l.square(), 0.5 * gravity * depth_r.square()
    between = (speed_r * mass_r - speed_l * mass_l + push_l - push_r) / width  # momentum, as HLL has it

    forward = middle >= 0
    side = torch.where(forward.unsqueeze(1), before, behind)
    reach = torch.where(forward, slow.clamp_(max=0), fast.clamp_(min=0))
    momentum = side[:, 0] * side[:, normal]
    flow = momentum + reach * (depth - side[:, 0])
    flux = side * flow.unsqueeze(1)
    flux[:, 0] = flow
    push = torch.where(forward, push_l, push_r)
    flux[:, normal] = momentum * side[:, normal] + push + reach * (between - momentum)
    return flux


def _squares(state: Tensor) -> Tensor:
    """Return |u|² of a gas; the sum of a few channels is written out, for torch is slow at it."""
    total = state[:, 1].square()
    for channel in range(2, state.shape[1] - 1):
        total.addcmul_(state[:, channel], state[:, channel])
    return total


def _outer_speeds(
    weights: tuple[Tensor, Tensor], speeds: tuple[Tensor, Tensor], sounds: tuple[Tensor, Tensor], *, gas: bool
) -> tuple[Tensor, Tensor]:
    """Return the speeds of the slowest and the fastest wave, given both sides; speeds of sound are given squared."""
    (speed_l, speed_r), (sound_l, sound_r) = speeds, sounds
    root_l, root_r = weights[0].sqrt(), weights[1].sqrt()
    share = root_l / root_r.add_(root_l)
    jump = speed_l - speed_r
    speed = torch.addcmul(speed_r, share, jump)
    if gas:  # Einfeldt's estimate, at least Roe's average for every γ up to 2
        sound = torch.addcmul(sound_r, share, sound_l - sound_r)
        sound.addcmul_(torch.addcmul(share, share, share, value=-1), jump.square_(), value=0.5)
    else:  # Roe's average of water
        sound = (sound_l + sound_r).mul_(0.5)
    sound.sqrt_()
    slow = torch.minimum(speed_l - sound_l.sqrt(), speed - sound)
    return slow, torch.maximum(speed_r + sound_r.sqrt(), speed.add_(sound))
