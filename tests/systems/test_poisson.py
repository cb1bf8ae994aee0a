from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.coefficients import diffusion_tensor
from scifm.systems.knobs import Knob
from scifm.systems.poisson import Poisson


def tensor_of(batch):
    xx, yy, xy = (batch.coefficient(f"diffusion_{n}") for n in ("xx", "yy", "xy"))
    return torch.stack([torch.stack([xx, xy], 1), torch.stack([xy, yy], 1)], 1)


@pytest.mark.parametrize("knob", [Knob(1, 5), Knob(5, 10), Knob(3, 3)])
def test_anisotropy_measured_on_the_output(knob):
    batch = Poisson(anisotropy=knob).sample(400, Grid.square(8), generator_for(0), dtype=torch.float64)
    eigenvalues = torch.linalg.eigvalsh(tensor_of(batch))
    torch.testing.assert_close(eigenvalues[:, 0], torch.full((400,), 0.01).double(), rtol=1e-6, atol=0)
    measured = eigenvalues[:, 1] / eigenvalues[:, 0]
    assert measured.min() >= knob.low - 1e-9
    assert measured.max() <= knob.high + 1e-9
    assert (measured.max() - measured.min()).item() == pytest.approx(knob.high - knob.low, abs=0.1)


def test_the_tensor_is_the_rotated_one():
    angle = torch.tensor([0.7], dtype=torch.float64)
    rotation = torch.tensor([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]], dtype=torch.float64)
    expected = 0.01 * rotation.T @ torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64)) @ rotation
    xx, yy, xy = diffusion_tensor(torch.tensor([4.0], dtype=torch.float64), angle, 0.01)[0]
    torch.testing.assert_close(torch.stack([xx, yy, xy]), expected.flatten()[[0, 3, 1]])


def test_every_angle_occurs():
    batch = Poisson(anisotropy=[2, 2]).sample(2000, Grid.square(8), generator_for(0), dtype=torch.float64)
    xx, yy, xy = (batch.coefficient(f"diffusion_{n}") for n in ("xx", "yy", "xy"))
    doubled = torch.atan2(2 * xy, yy - xx)  # twice the angle, uniform when the angle is
    assert doubled.histc(8, -math.pi, math.pi).min() > 150


def test_diffusion_spreads_along_the_strong_direction():
    """With angle 0 the strong direction is y, so u varies least along y."""
    batch = Poisson(anisotropy=[20, 20], angle=[0, 0]).sample(8, Grid.square(64), generator_for(0))
    solution = batch.field("solution")
    assert solution.diff(dim=-2).square().sum() < 0.5 * solution.diff(dim=-1).square().sum()


def test_bad_knobs_are_refused():
    with pytest.raises(ConfigError, match="anisotropy"):
        Poisson(anisotropy=[0.5, 2])
    with pytest.raises(ConfigError, match="Did you mean 'anisotropy'"):
        Poisson().where(anisotrophy=[1, 2])
    with pytest.raises(ConfigError, match="diffusivity"):
        Poisson(diffusivity=0.0)
