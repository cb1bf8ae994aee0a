from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import ConfigError, DataError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.knobs import Knob

GRIDS = [Grid.square(64), Grid((40, 72), (0.6, 2.0), (True, True))]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ratio", [0.05, 0.2, 1.0, 5.0])
def test_every_sample_meets_its_ratio(ratio, dtype, grid):
    system = AdvectionDiffusion().where(advection_diffusion_ratio=ratio)
    batch = system.sample(64, grid, generator_for(0), dtype=dtype)
    assert (system.measured_ratio(batch.to(dtype=torch.float64)) / ratio - 1).abs().max() < 1e-4


def test_ratios_fill_their_knob():
    system = AdvectionDiffusion(advection_diffusion_ratio=[1, 2])
    measured = system.measured_ratio(system.sample(500, GRIDS[0], generator_for(0)))
    assert 1 - 1e-3 < measured.min() < 1.02
    assert 1.98 < measured.max() < 2 + 1e-3
    assert measured.mean().item() == pytest.approx(1.5, abs=0.05)


def test_the_drawn_ratio_is_met_sample_by_sample():
    """The ratio is the first thing drawn after the forcing, so it can be drawn again beside the batch."""
    system, generator = AdvectionDiffusion(), generator_for(4)
    batch = system.sample(32, GRIDS[0], generator_for(4))
    system.forcing.draw_amplitudes(system.forcing.draw_sparsities(32, generator, None), generator)
    drawn = system.draw(32, generator, None)["advection_diffusion_ratio"]
    torch.testing.assert_close(system.measured_ratio(batch).double(), drawn, rtol=1e-4, atol=0)


def test_calibrated_meets_the_ratio_on_average_only():
    system = AdvectionDiffusion(ratio="calibrated", advection_diffusion_ratio=[0.7, 0.7])
    batch = system.sample(600, GRIDS[0], generator_for(1))
    measured = system.measured_ratio(batch)
    assert measured.mean().item() == pytest.approx(0.7, abs=0.04)
    assert 0.08 < measured.std() < 0.4
    speed = torch.hypot(batch.coefficient("velocity_x"), batch.coefficient("velocity_y"))
    torch.testing.assert_close(speed, speed[:1].expand(600))


def test_velocity_and_diffusion_share_one_scale():
    batch = AdvectionDiffusion(anisotropy=[3, 3]).sample(64, GRIDS[0], generator_for(0), dtype=torch.float64)
    xx, yy, xy = (batch.coefficient(f"diffusion_{n}") for n in ("xx", "yy", "xy"))
    diffusive = ((xx * yy - xy**2) / 3).sqrt() / 0.01
    speed = torch.hypot(batch.coefficient("velocity_x"), batch.coefficient("velocity_y"))
    torch.testing.assert_close(diffusive + speed, torch.ones(64, dtype=torch.float64))


def test_plumes_lie_downstream():
    """With v along +x, u is larger to the right of a source than to its left."""
    system = AdvectionDiffusion(advection_diffusion_ratio=1, direction=0, anisotropy=1)
    batch = system.sample(64, GRIDS[0], generator_for(0), dtype=torch.float64)
    forcing, solution = batch.field("forcing"), batch.field("solution")
    downstream, upstream = (torch.roll(solution, shift, -1).mul(forcing).sum() for shift in (-6, 6))
    assert downstream > upstream


def test_a_ratio_out_of_reach_is_refused():
    system = AdvectionDiffusion(advection_diffusion_ratio=1000, direction=0)
    with pytest.raises(DataError, match="cannot be reached in sample"):
        system.sample(4, GRIDS[0], generator_for(0))
    with pytest.raises(DataError, match="calibrated"):
        AdvectionDiffusion(advection_diffusion_ratio=1e9, ratio="calibrated").sample(4, GRIDS[0], generator_for(0))


def test_bad_options_are_refused():
    with pytest.raises(ConfigError, match="low > 0"):
        AdvectionDiffusion(advection_diffusion_ratio=Knob(0, 1))
    with pytest.raises(ConfigError, match="Did you mean 'measured'"):
        AdvectionDiffusion(ratio="measure")
    with pytest.raises(ConfigError, match="anisotropy"):
        AdvectionDiffusion(anisotropy=[0, 1])
    with pytest.raises(ConfigError, match="diffusivity"):
        AdvectionDiffusion(diffusivity=math.nan)
