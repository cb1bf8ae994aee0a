"""Convection, reaction, reaction with diffusion: published problems, by closed forms and a solver of another kind."""

from __future__ import annotations

import math

import pytest
import torch

from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.convection import Convection
from scifm.systems.reaction import Reaction
from scifm.systems.reaction_diffusion import ReactionDiffusion

RING = Grid((256,), (2 * math.pi,), (True,))
(X,) = RING.coordinates()
TIMES = torch.arange(1, 100, dtype=torch.float64)[:, None] / 99
BUMP = torch.exp(-((X - math.pi) ** 2) / (2 * (math.pi / 4) ** 2))


def trajectory(system):
    batch = system.sample(1, RING, generator_for(0, "pinn"), dtype=torch.float64)
    assert batch.lead_time[0, -1] == pytest.approx(1.0)
    return batch.inputs[0, 0, 0], batch.targets[0, :, 0]


@pytest.mark.parametrize("speed", [1.0, 30.0])
def test_a_wave_comes_round(speed):
    first, frames = trajectory(Convection(speed=speed))
    torch.testing.assert_close(first, torch.sin(X))
    torch.testing.assert_close(frames, torch.sin(X - speed * TIMES), rtol=0, atol=1e-11)


def test_a_bump_grows_until_it_is_full():
    first, frames = trajectory(Reaction(rate=5.0))
    torch.testing.assert_close(first, BUMP)
    grown = BUMP * torch.exp(5 * TIMES)
    torch.testing.assert_close(frames, grown / (grown + 1 - BUMP), rtol=0, atol=1e-12)


@pytest.mark.parametrize("diffusivity", [2.0, 6.0])
def test_a_bump_that_spreads_is_that_of_a_split_scheme_in_short_steps(diffusivity):
    """Strang's splitting, 40 steps a frame: half a step of the closed form of reaction around one of diffusion."""
    _, frames = trajectory(ReactionDiffusion(diffusivity=diffusivity, rate=5.0))
    step = 1 / 99 / 40
    waves = torch.fft.rfftfreq(256, 1 / 256, dtype=torch.float64)
    smooth = torch.exp(-diffusivity * waves**2 * step)

    def react(u):
        grown = u * math.exp(5 * step / 2)
        return grown / (grown + 1 - u)

    state = BUMP
    for frame in range(99):
        for _ in range(40):
            state = react(torch.fft.irfft(torch.fft.rfft(react(state)) * smooth, n=256))
        assert (state - frames[frame]).norm() / frames[frame].norm() < 2e-5
    # in steps of 0.01, the first order of Lie's splitting and a last time of 0.99: what is published is 0.6 % off
    state, whole = BUMP, torch.exp(-diffusivity * waves**2 * 0.01)
    for _ in range(99):
        grown = state * math.exp(5 * 0.01)
        state = torch.fft.irfft(torch.fft.rfft(grown / (grown + 1 - state)) * whole, n=256)
    assert 1e-3 < (state - frames[-1]).norm() / frames[-1].norm() < 1e-2
