"""Moving textures: each layer keeps its shape and its way; shapes are what they are said to be."""

from __future__ import annotations

import pytest
import torch

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.moving_textures import MovingTextures

GRID = Grid((64, 48), (1.0, 0.75))


def test_each_layer_goes_its_own_way_and_keeps_its_shape():
    """Over a time in which a layer goes whole cells its field is rolled by them, whatever the other one does."""
    system = MovingTextures()
    inputs, _ = system.initial(3, GRID, generator_for(0), torch.device("cpu"))
    cell = 1 / 64
    velocity = torch.tensor([[3 * cell, 0.0, -5 * cell, 2 * cell]], dtype=torch.float64).expand(3, -1)
    made = system.advance(inputs, velocity, GRID, interval=1.0, num_frames=2)
    for frame in (1, 2):
        background, foreground = inputs[:, 0], inputs[:, 1]
        torch.testing.assert_close(made[:, frame - 1, 0], background.roll(3 * frame, -1), rtol=0, atol=1e-10)
        moved = foreground.roll((2 * frame, -5 * frame), (-2, -1))
        # Nyquist waves stay where they are, and shapes have a little of them
        torch.testing.assert_close(made[:, frame - 1, 1], moved, rtol=0, atol=5e-3)


def test_shapes_are_bright_within_and_dark_between():
    batch = MovingTextures(num_shapes=2).sample(200, GRID, generator_for(0), dtype=torch.float64)
    shapes = batch.field("foreground")[:, 0]
    assert float(shapes.min()) > -1e-12
    assert float(shapes.amax((-2, -1)).min()) > 0.45
    assert float(shapes.amax((-2, -1)).max()) < 2.01
    # two shapes of area between a disk's and a box's of radius 0.08 to 0.2 of the shorter side 0.75
    covered = (shapes > 0.25).double().mean((-2, -1)) * 0.75
    assert 2 * 3.14 * 0.06**2 < float(covered.mean()) < 2 * 4 * 0.15**2


def test_speeds_are_those_of_the_knob_in_both_layers():
    batch = MovingTextures(speed=[0.5, 0.5]).sample(300, GRID, generator_for(0), dtype=torch.float64)
    layers = batch.coefficients.view(300, 2, 2)
    assert layers.norm(dim=-1).sub(0.5).abs().max() < 1e-14
    assert layers.mean(0).abs().max() < 0.08
    assert (layers[:, 0] * layers[:, 1]).sum(1).mean().abs() < 0.05  # neither layer knows of the other


@pytest.mark.parametrize(("settings", "told"), [({"num_shapes": 0}, "num_shapes"), ({"edge": 0.0}, "edge")])
def test_options_out_of_range_are_told(settings, told):
    with pytest.raises(ConfigError, match=told):
        MovingTextures(**settings)
