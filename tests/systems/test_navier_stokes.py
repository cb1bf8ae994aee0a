from __future__ import annotations

import math

import pytest
import torch

from scifm.errors import ConfigError, SignatureError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.spectral import divergence, gradient
from scifm.systems.navier_stokes import NavierStokes, velocity_of
from scifm.systems.periodic_evolution import SpectralBox

GRID = Grid((27, 32), (0.7, 1.9), (True, True))
VISCOSITY = torch.tensor([[0.002], [0.003]], dtype=torch.float64)
FORCE = torch.tensor([0.0, 0.15], dtype=torch.float64)


def places(grid=GRID):
    y, x = (torch.arange(n, dtype=torch.float64) * e / n for n, e in zip(grid.num_points, grid.extent, strict=True))
    return y[:, None], x[None, :]


def shear(force, waves=4, grid=GRID):
    """Return the curl of the force χ sin(ky) along x, ``(batch, 1, ny, nx)``."""
    y, x = places(grid)
    k = waves * 2 * math.pi / grid.extent[0]
    return force.view(-1, 1, 1, 1) * (-k * torch.cos(k * y) + 0 * x)


def march(state, viscosity, interval, *, force=None, num_frames=1, grid=GRID):
    forcing = torch.zeros_like(state) if force is None else force
    inputs = torch.cat([state, forcing], dim=1)
    return NavierStokes().advance(inputs, viscosity, grid, interval=interval, num_frames=num_frames)


def waves(num=2, grid=GRID):
    return NavierStokes().initial(num, grid, generator_for(0), torch.device("cpu"))[0][:, :1]


def test_taylor_and_greens_vortices_only_decay():
    """Their transport vanishes, on a box with any sides, so what is left is exact."""
    y, x = places()
    k, m = 2 * 2 * math.pi / 1.9, 3 * 2 * math.pi / 0.7
    start = (5 * torch.cos(k * x + 0.3) * torch.cos(m * y - 1.0)).expand(2, 1, -1, -1)
    made = march(start, VISCOSITY, 0.5, num_frames=2)
    for frame in (0, 1):
        fallen = torch.exp(-VISCOSITY[:, 0] * (k * k + m * m) * 0.5 * (frame + 1)).view(2, 1, 1, 1)
        assert (made[:, frame] - start * fallen).abs().max() < 1e-10 * start.max()


def test_crossed_waves_of_one_length_only_decay():
    """Not a product of cosines, but all |k| alike: a flow in which fluid moves along curves that cross the grid."""
    grid = Grid.square(24)
    y, x = places(grid)
    one = 2 * math.pi
    start = torch.cos(one * (3 * x + 4 * y)) + 2 * torch.sin(one * 5 * x) - torch.cos(one * (4 * x - 3 * y) + 0.7)
    start = start.expand(1, 1, -1, -1)
    made = march(start, VISCOSITY[:1], 0.2, grid=grid)
    assert (made[:, 0] - start * math.exp(-0.002 * 25 * one**2 * 0.2)).abs().max() < 1e-10


def test_the_force_drives_a_shear_from_rest_to_its_steady_state():
    y, x = places()
    viscosity, push, k = 0.003, 0.15, 2 * 2 * math.pi / 0.7
    rest = torch.zeros(1, 1, *GRID.num_points, dtype=torch.float64)
    steady = -push / (viscosity * k) * torch.cos(k * y) + 0 * x
    force = shear(FORCE[1:], waves=2)
    made = march(rest, VISCOSITY[1:], 0.3, force=force, num_frames=2)
    for frame in (0, 1):
        exact = steady * (1 - math.exp(-viscosity * k * k * 0.3 * (frame + 1)))
        assert (made[0, frame, 0] - exact).abs().max() < 1e-10 * steady.max()
    still = march(steady.expand(1, 1, -1, -1), VISCOSITY[1:], 0.3, force=force)[:, 0]
    assert (still - steady).abs().max() < 1e-10 * steady.max()
    v_x, _ = velocity_of(steady, GRID)  # the force is χ sin(ky) along x, held by viscosity
    assert (v_x - push / (viscosity * k * k) * torch.sin(k * y)).abs().max() < 1e-12


def test_the_velocity_has_this_vorticity_no_divergence_and_turns_counterclockwise():
    state = waves()
    v_x, v_y = velocity_of(state, GRID)
    curl = gradient(v_y, GRID)[1] - gradient(v_x, GRID)[0]
    assert (curl - state).abs().max() < 1e-12 * state.abs().max()
    assert divergence((v_y, v_x), GRID).abs().max() < 1e-12 * state.abs().max()
    grid = Grid.square(32)
    y, x = places(grid)
    vortex = torch.exp(-((x - 0.5) ** 2 + (y - 0.5) ** 2) / 0.01)
    v_x, v_y = velocity_of(vortex, grid)
    assert v_y[16, 20] > 0.01 > -0.01 > v_y[16, 12]  # up on the right, down on the left
    assert v_x[20, 16] < -0.01 < 0.01 < v_x[12, 16]


def test_transport_changes_neither_energy_nor_enstrophy_nor_the_mean():
    """The products of velocities, cut to the modes that are kept, conserve both as the equation does."""
    box = SpectralBox(GRID, NavierStokes.keeps, torch.float64, torch.device("cpu"))
    state = torch.randn(3, 1, *GRID.num_points, generator=generator_for(0), dtype=torch.float64)
    spectrum = box.to_modes(state) * box.kept
    spectrum[..., 0, 0] = 0
    viscosity = torch.full((3, 1), 0.001, dtype=torch.float64)
    inputs = torch.cat([state, torch.zeros_like(state)], dim=1)
    change = box.to_grid(NavierStokes().nonlinear(box, viscosity, inputs)(spectrum))
    kept = box.to_grid(spectrum)
    v_x, v_y = velocity_of(kept, GRID)
    w_x, w_y = velocity_of(change, GRID)
    size = change.flatten(1).norm(dim=1)
    assert ((kept * change).sum((1, 2, 3)) / (kept.flatten(1).norm(dim=1) * size)).abs().max() < 1e-14
    work = (v_x * w_x + v_y * w_y).sum((1, 2, 3))
    speed, push = (torch.hypot(*pair).flatten(1).norm(dim=1) for pair in ((v_x, v_y), (w_x, w_y)))
    assert (work / (speed * push)).abs().max() < 1e-14
    assert (change.mean((1, 2, 3)) / size).abs().max() < 1e-15
    assert size.min() > 1


def test_energy_and_enstrophy_are_balanced_along_a_trajectory():
    """What viscosity takes and the force gives, added up by Simpson's rule over the frames, is what is missing."""
    step, state, viscosity = 0.01, waves(), VISCOSITY
    made = march(state, viscosity, step, force=shear(FORCE), num_frames=20)
    frames = torch.cat([state[:, None], made], dim=1)[:, :, 0]
    y, _ = places()
    k, push = 4 * 2 * math.pi / 0.7, FORCE[:, None]
    v_x, v_y = velocity_of(frames, GRID)
    slope_y, slope_x = gradient(frames, GRID)

    def mean(field):
        return field.mean((2, 3))

    weights = torch.tensor([1.0, *[4.0, 2.0] * 9, 4.0, 1.0], dtype=torch.float64) * step / 3
    rates = {
        "energy": -viscosity * mean(frames**2) + push * mean(v_x * torch.sin(k * y)),
        "enstrophy": -viscosity * mean(slope_x**2 + slope_y**2) - push * k * mean(frames * torch.cos(k * y)),
    }
    have = {"energy": 0.5 * mean(v_x**2 + v_y**2), "enstrophy": 0.5 * mean(frames**2)}
    for name, rate in rates.items():
        change = have[name][:, -1] - have[name][:, 0]
        assert (change - (rate * weights).sum(1)).abs().max() < 1e-7 * have[name].max(), name
        assert change.abs().min() > 1e-3 * have[name].max()
    assert (frames.mean((2, 3)).abs() < 1e-14).all()


def test_a_sample_says_where_its_force_acts():
    """On a periodic box a network sees no position, so that a number for the force could not tell it."""
    system = NavierStokes(force=0.15, num_frames=2)
    batch = system.sample(2, GRID, generator_for(0), dtype=torch.float64)
    forcing = batch.field("forcing")
    assert (forcing[:, 0] - shear(FORCE[1:]).expand(2, -1, -1, -1)[:, 0]).abs().max() < 1e-13
    assert batch.signature.outputs == ("vorticity",)
    assert batch.signature.coefficients == ("viscosity",)
    measured = system.measured_knobs(batch)
    assert measured["force"].tolist() == pytest.approx([0.15, 0.15])
    assert NavierStokes(force=0).sample(1, GRID).field("forcing").abs().max() == 0


def test_any_force_may_be_given():
    """The march takes the field as it is: here one that turns with the box and stands askew."""
    y, x = places()
    k, m = 3 * 2 * math.pi / 1.9, 2 * 2 * math.pi / 0.7
    force = (0.4 * torch.cos(k * x + m * y)).expand(1, 1, -1, -1)
    rest = torch.zeros_like(force)
    made = march(rest, VISCOSITY[:1], 0.3, force=force)  # of one wavenumber, so transport is nothing
    rate = 0.002 * (k * k + m * m)
    assert (made[:, 0] - force * (1 - math.exp(-rate * 0.3)) / rate).abs().max() < 1e-12


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="'viscosity' of 'navier_stokes' needs low > 0"):
        NavierStokes(viscosity=0)
    with pytest.raises(ConfigError, match="'force' of 'navier_stokes' needs low >= 0; got low=-1"):
        NavierStokes(force=-1)
    with pytest.raises(ConfigError, match="1 wave or more; got force_waves=0"):
        NavierStokes(force_waves=0)
    with pytest.raises(SignatureError, match="cannot hold the 6 waves of the force along y"):
        NavierStokes(force_waves=6).sample(1, Grid.square(16))
    assert NavierStokes(force=0).knobs["force"].high == 0


@pytest.mark.slow
def test_statistics_of_the_forced_flow_do_not_depend_on_the_grid():
    """Time-averaged energy by shells of two resolutions agrees within its sampling error."""
    system = NavierStokes(viscosity=0.001, force=0.15, force_waves=2, spin_up=30.0, save_interval=2.0, num_frames=31)
    shells = {}
    for num, seed in ((32, 0), (48, 1)):
        batch = system.sample(12, Grid.square(num), generator_for(seed))
        power = torch.fft.fft2(batch.targets[:, :, 0].double(), norm="forward").abs().square().mean(1)
        n = torch.fft.fftfreq(num, 1 / num)
        shell = torch.hypot(n[:, None], n[None, :]).round().long()
        by_shell = torch.stack([power[:, shell == s].sum(1) / s**2 for s in range(1, 9)], dim=1)
        shells[num] = by_shell.mean(0), by_shell.std(0) / math.sqrt(len(by_shell))
    (one, off_one), (two, off_two) = shells.values()
    error = torch.hypot(off_one, off_two)
    assert ((one - two).abs() < 4 * error).all()
    assert (error < 0.15 * two).all()  # or the comparison would say little
