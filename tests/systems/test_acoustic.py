"""Acoustic waves against d'Alembert, Poisson and Green, the open field, and the equation itself marched otherwise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.acoustic import Acoustic
from scifm.systems.evolving_contract import EvolvingContract
from scifm.systems.media import Pulses, RandomMedium

NOTHING = torch.zeros(1, 0, dtype=torch.float64)


def marched(system: Acoustic, grid: Grid, *fields: torch.Tensor, time: float, num_frames: int = 1) -> torch.Tensor:
    """Return the frames of one problem, ``(frames, state, *space)``."""
    inputs = torch.stack(fields)[None]
    return system.advance(inputs, NOTHING, grid, interval=time, num_frames=num_frames)[0]


def bump(off: torch.Tensor, width: float, side: float) -> torch.Tensor:
    return sum(torch.exp(-0.5 * ((off + image * side) / width) ** 2) for image in range(-4, 5))


@pytest.mark.parametrize("points", [128, 101])
def test_one_dimension_is_dalembert(points):
    side, width, speed, time = 1.7, 0.06, 1.3, 0.77
    grid = Grid((points,), (side,), (True,))
    (x,) = grid.coordinates()
    still, moving = bump(x - 0.4, width, side), bump(x - 1.1, width, side)
    fields = still + moving, moving / speed, torch.full_like(x, speed)
    pressure, velocity = marched(Acoustic(num_spatial_dims=1), grid, *fields, time=time, num_frames=3)[-1]
    way = 3 * time * speed
    right, left = bump(x - 0.4 - way, width, side) / 2, bump(x - 0.4 + way, width, side) / 2
    moved = bump(x - 1.1 - way, width, side)
    assert (pressure - right - left - moved).abs().max() < 1e-10
    assert (velocity - (right - left + moved) / speed).abs().max() < 1e-10


def struck(grid: Grid, width: float, speed: float) -> list[torch.Tensor]:
    """Return p = 0 and the flow that makes its rate a bump of integral 1 in the middle of the box, less its mean."""
    side = grid.extent[0]
    (y, x) = grid.coordinates()
    rate = bump(y - side / 2, width, side)[:, None] * bump(x - side / 2, width, side) / (2 * math.pi * width**2)
    waves = 2 * math.pi * torch.fft.fftfreq(len(x), side / len(x), dtype=torch.float64)
    square = waves[:, None] ** 2 + waves**2
    square[0, 0] = math.inf
    flow = torch.fft.fft2(rate) / square / speed**2  # −c² ∇·u = rate, with u a gradient
    velocity = [torch.fft.ifft2(1j * wave * flow).real for wave in (waves, waves[:, None])]
    return [torch.zeros_like(rate), *velocity, torch.full_like(rate, speed)]


def test_two_dimensions_are_poissons_formula():
    width, speed, time, side = 0.1, 1.2, 0.5, 2.0
    grid = Grid((64, 64), (side, side), (True, True))
    pressure = marched(Acoustic(), grid, *struck(grid, width, speed), time=time)[0, 0]
    # p(x, t) = t/2π ∫∫ rate(x + ct sin θ e) sin θ dθ dφ, by Gauss and by the midpoint rule
    nodes, weights = np.polynomial.legendre.leggauss(80)
    angle = torch.tensor((nodes + 1) * math.pi / 4)
    weight = torch.tensor(weights * math.pi / 4) * angle.sin()
    turn = 2 * math.pi * (torch.arange(160, dtype=torch.float64) + 0.5) / 160
    reach = speed * time * angle.sin()
    for place in (32, 40, 50):
        off = (place - 32) * side / 64
        square = (off + reach[:, None] * turn.cos()) ** 2 + (reach[:, None] * turn.sin()) ** 2
        rate = torch.exp(-0.5 * square / width**2) / (2 * math.pi * width**2)
        exact = time * (rate.mean(1) * weight).sum() - time / side**2
        assert abs(pressure[32, place] - exact) < 1e-9


def test_a_narrow_pulse_is_greens_function_to_one_percent():
    speed, time, side, points = 1.2, 0.7, 2.0, 128
    grid = Grid((points, points), (side, side), (True, True))
    pressure = marched(Acoustic(), grid, *struck(grid, 0.025, speed), time=time)[0, 0, points // 2, points // 2 :]
    radius = torch.arange(points // 2, dtype=torch.float64) * side / points
    inside = radius < 0.75 * speed * time
    green = 1 / (2 * math.pi * speed * ((speed * time) ** 2 - radius[inside] ** 2).sqrt())
    # a bump has no mean on a periodic box: what it lacks is made good
    off = pressure[inside] + time / side**2 - green
    assert (off.abs() / green).max() < 0.01


@pytest.mark.parametrize(
    ("dims", "points", "layer", "steps"), [(1, (24,), 0.0, 100), (2, (20, 18), 0.0, 100), (3, (17, 18, 17), 0.2, 30)]
)
def test_it_is_the_equation_marched_otherwise(dims, points, layer, steps):
    """Runge and Kutta's steps of the right-hand side, which knows nothing of the solver."""
    system = Acoustic(num_spatial_dims=dims, absorbing_layer=layer, num_frames=2, save_interval=0.1)
    grid = Grid(points, (1.3, 0.8, 1.0)[:dims], (True,) * dims)
    inputs, none = system.initial(1, grid, generator_for(0, "acoustic"), torch.device("cpu"))
    state, step = inputs, system.save_interval / steps
    num_outputs = len(system.signature.outputs)
    still = torch.zeros_like(inputs[:, num_outputs:])

    def rate(now: torch.Tensor) -> torch.Tensor:
        return torch.cat([system.tendency(now, none, grid), still], dim=1)

    for _ in range(steps):
        one = rate(state)
        two = rate(state + step / 2 * one)
        three = rate(state + step / 2 * two)
        state = state + step / 6 * (one + 2 * two + 2 * three + rate(state + step * three))
    ours = system.advance(inputs, none, grid, interval=system.save_interval, num_frames=1, refine=8 if layer else 1)
    off = (ours[:, 0] - state[:, :num_outputs]).norm() / (state - inputs).norm()
    assert off < (1e-4 if layer else 1e-8)


@pytest.mark.parametrize("kind", ["random", "layered"])
def test_energy_mass_and_momentum_are_kept_to_rounding(kind):
    system = Acoustic(medium=RandomMedium(kind), contrast=[0.3, 0.3], num_frames=6, save_interval=0.2)
    batch = system.sample(2, Grid((32, 30), (1.0, 1.3), (True, True)), generator_for(1, "a"), dtype=torch.float64)
    drifts = system.invariants(batch)
    assert set(drifts) == {f"{name}_drift" for name in ("energy", "mass", "momentum_x", "momentum_y")}
    for name, drift in drifts.items():
        assert drift.max() < 1e-12, name
    assert system.invariants(batch.with_targets(1.001 * batch.targets))["energy_drift"].min() > 1e-3


def test_one_precision_is_the_other():
    system, grid = Acoustic(num_frames=5, save_interval=0.25), Grid.square(32)
    exact, rounded = (
        system.sample(2, grid, generator_for(2, "a"), dtype=dtype).targets for dtype in (torch.float64, torch.float32)
    )
    assert (rounded - exact).norm() / exact.norm() < 2e-5


class TestWithALayer(EvolvingContract):
    """All promises hold with the layer as well; its splitting has an error in time, of order 2."""

    system = Acoustic(num_spatial_dims=1, absorbing_layer=0.2, num_frames=3)
    grids = (Grid((40,), (1.3,), (True,)), Grid((32,), (1.0,), (True,)), Grid((37,), (1.0,), (True,)))
    tolerance = 1e-3
    num_tried = 3


def test_the_layer_is_said_where_it_stands():
    """A box with layers wraps, so that a network sees no ends: the damping along each axis is a field."""
    grid = Grid((24, 30), (1.0, 1.5), (True, True))
    batch = Acoustic(absorbing_layer=0.2, num_frames=2).sample(2, grid, generator_for(0, "a"))
    assert batch.signature.inputs[-3:] == ("wave_speed", "damping_x", "damping_y")
    along_x, along_y = (batch.field(name)[:, 0] for name in ("damping_x", "damping_y"))
    assert torch.equal(along_x, along_x[:1, :1].expand_as(along_x))
    assert torch.equal(along_y, along_y[:1, :, :1].expand_as(along_y))
    assert along_x[0, 0].argmax() == along_y[0, :, 0].argmax() == 0
    assert (along_x[0, 0, 5:26] == 0).all()
    assert along_x[0, 0, 3] > 0
    assert "damping_x" not in Acoustic(num_frames=2).signature.inputs


@pytest.mark.parametrize("width", [0.03, 0.05])
def test_the_layer_sends_back_one_part_in_ten_thousand(width):
    near, far = Grid((128,), (1.0,), (True,)), Grid((512,), (4.0,), (True,))
    (x,) = far.coordinates()
    inside = slice(20, 109)
    pulse = bump(x - 0.5, width, 4.0)
    fields = pulse, 0.3 * pulse, torch.ones_like(x)
    open_field = marched(Acoustic(num_spatial_dims=1), far, *fields, time=0.1, num_frames=15)[:, 0, inside]
    system = Acoustic(num_spatial_dims=1, absorbing_layer=0.15, mean_speed=1.0)
    layer = system.initial(1, near, None, torch.device("cpu"))[0][0, -1]
    boxed = marched(system, near, *(field[:128] for field in fields), layer, time=0.1, num_frames=15)[:, 0, inside]
    assert (boxed - open_field).abs().max() < 2e-4


def test_the_layer_takes_waves_from_every_side():
    points, layer = 48, 0.2
    near = Grid.square(points)
    far = Grid((2 * points, 2 * points), (2.0, 2.0), (True, True))
    y, x = torch.meshgrid(*far.coordinates(), indexing="ij")
    pressure = torch.exp(-((y - 0.4) ** 2 + (x - 0.55) ** 2) / 2 / 0.05**2)
    pressure = pressure + torch.exp(-((y - 2.4) ** 2 + (x - 0.55) ** 2) / 2 / 0.05**2)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    open_field = marched(Acoustic(), far, pressure, zero, zero, one, time=0.2, num_frames=4)[:, 0]
    system = Acoustic(absorbing_layer=layer, mean_speed=1.0)
    layers = system.initial(1, near, None, torch.device("cpu"))[0][0, -2:]
    cut = [*(part[:points, :points] for part in (pressure, zero, zero, pressure / 2, one)), *layers]
    boxed = marched(system, near, *cut, time=0.2, num_frames=4)[:, 0]
    inside = slice(math.ceil(layer * points), points - math.ceil(layer * points) + 1)
    right = open_field[:, inside, inside]
    assert (boxed[:, inside, inside] - right).norm() / right.norm() < 1e-3


def test_a_random_medium_has_the_contrast_and_the_correlation_it_says():
    length = torch.full((400,), 0.1, dtype=torch.float64)
    grid = Grid((128,), (2.0,), (True,))
    field = RandomMedium(max_wave=40).draw(length, grid, generator_for(0, "medium"))
    assert (field.square().mean(1) - 1).abs().max() < 1e-12
    assert field.mean(1).abs().max() < 1e-12
    correlation = torch.stack([(field * field.roll(shift, 1)).mean() for shift in range(12)])
    expected = torch.exp(-((torch.arange(12) / 64 / 0.1) ** 2).double())
    # less the mean that is taken away, √π ℓ of the whole line
    mean = math.sqrt(math.pi) * 0.1 / 2
    assert (correlation - (expected - mean) / (1 - mean)).abs().max() < 0.05


def test_a_layered_medium_changes_with_depth_only():
    length = torch.tensor([0.1, 0.3], dtype=torch.float64)
    field = RandomMedium("layered").draw(length, Grid((96, 20), (1.0, 1.0), (True, True)), generator_for(0, "medium"))
    assert torch.equal(field, field[..., :1].expand_as(field))
    assert field.mean((1, 2)).abs().max() < 0.02
    assert (field.square().mean((1, 2)) - 1).abs().max() < 0.02
    flat = (field.diff(dim=1).abs() < 0.05 * field.abs().amax((1, 2), keepdim=True)).double().mean((1, 2))
    assert (flat > 0.5).all()


def test_pulses_stay_out_of_the_margin():
    width = torch.full((20,), 0.03, dtype=torch.float64)
    bumps, moving = Pulses(num=2).draw(width, Grid.square(64), generator_for(0, "pulses"), margin=0.25)
    assert bumps[:, 16:-15, 16:-15].abs().amax((1, 2)).min() > 0.3
    assert bumps[:, :8].abs().max() < 1e-3
    assert moving.shape == (20, 2, 64, 64)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"absorbing_layer": -0.1}, "absorbing_layer >= 0"),
        ({"num_spatial_dims": 4}, "1, 2 or 3 dimensions"),
        ({"mean_speed": [0, 1]}, "'mean_speed' of 'acoustic' needs low > 0"),
        ({"contrast": [-0.1, 1]}, "'contrast' of 'acoustic' needs low >= 0"),
        ({"num_frames": 1}, "at least 2 frames"),
        ({"save_interval": 0.0}, "positive finite save_interval"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        Acoustic(**options)


def test_bad_media_and_pulses_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'random'"):
        RandomMedium("rando")
    with pytest.raises(ConfigError, match="max_wave >= 1"):
        RandomMedium(max_wave=0)
    with pytest.raises(ConfigError, match="num >= 1"):
        Pulses(num=0)


def test_what_cannot_be_marched_is_refused():
    system, grid = Acoustic(num_frames=2), Grid.square(20)
    batch = system.sample(2, grid, generator_for(0, "a"))
    inputs = batch.inputs.clone()
    inputs[1, 0, -1, 3, 4] = 0
    with pytest.raises(DataError, match="'wave_speed' is positive"):
        system.solve(replace(batch, inputs=inputs))
    system = Acoustic(num_frames=2, absorbing_layer=0.2)
    batch = system.sample(2, grid, generator_for(0, "a"))
    inputs = batch.inputs.clone()
    inputs[1, 0, -1, 3, 4] = -1
    with pytest.raises(DataError, match="'damping' is zero or positive"):
        system.solve(replace(batch, inputs=inputs))
    with pytest.raises(SignatureError, match="leave nothing of a box"):
        Acoustic(absorbing_layer=0.5).sample(1, grid)
    with pytest.raises(SignatureError, match="periodic on every axis"):
        system.sample(1, Grid((20, 20), (1.0, 1.0), (True, False)))
    with pytest.raises(SignatureError, match="cannot hold 8 waves"):
        system.sample(1, Grid.square(16))
