from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import finite_volume_problems as problems
from scifm.errors import ConfigError, DataError
from scifm.fields.grid import Boundary, Grid
from scifm.systems.euler import Euler
from scifm.systems.evolving_contract import EvolvingContract
from scifm.systems.initial_cells import CellFields
from scifm.systems.solvers.riemann import gas_riemann

LINE = Euler(num_spatial_dims=1)


def box(*num_points: int, boundary: Boundary = "periodic", sides: tuple[float, ...] = (1.1, 0.7, 1.9)) -> Grid:
    return Grid(num_points, sides[-len(num_points) :], boundary)


class TestBetweenWalls(EvolvingContract):
    """The contract between walls on both axes, and in one dimension on a box that wraps."""

    tolerance = 1e-5
    num_tried = 3
    tendency_tolerance = 0.12  # of the coarsest grid, in space; `test_it_is_of_second_order_in_space` sees it fall

    @pytest.fixture(autouse=True, params=[2, 1])
    def choose(self, request):
        interval = 0.02 if request.param == 2 else 0.05
        self.system = Euler(num_frames=3, save_interval=interval, num_spatial_dims=request.param)
        shapes = [(20, 30), (24, 24), (17, 21)] if request.param == 2 else [(66,), (64,), (47,)]
        ends = "periodic" if request.param == 1 else "wall"
        self.grids = tuple(Grid(shape, (0.9, 1.3)[-request.param :], ends) for shape in shapes)


@pytest.mark.parametrize(
    ("left", "right", "gamma", "time", "bounds"),
    [
        ([1, 0, 1], [0.125, 0, 0.1], 1.4, 0.2, (0.013, 0.031, 0.011)),
        ([1, 0, 0.2], [0.125, 0, 0.02], 1.4, 0.4, (0.013, 0.039, 0.012)),
        ([0.5, 0, 0.1], [2, 0, 0.05], 2.0, 0.4, (0.021, 0.077, 0.009)),
    ],
)
def test_shock_tubes_are_those_of_the_exact_solution(left, right, gamma, time, bounds):
    """In the mean, of first order (contacts of order 2/3 and more); hardly an overshoot of density and pressure."""
    errors = []
    for num in (100, 200):
        states, grid, x = problems.broken_states(left, right, num)
        ratio = torch.full((1, 1), gamma, dtype=torch.float64)
        found = LINE.advance(states, ratio, grid, interval=time, num_frames=1)[0, 0]
        exact = gas_riemann(left, right, gamma, x / time)
        errors.append((found - exact).abs().mean(1) / exact.abs().mean(1))
    assert (errors[0] < torch.tensor(bounds)).all(), errors
    assert ((errors[0] / errors[1]).log2() > 0.6).all(), errors
    slack = 0.003 * (exact.amax(1) - exact.amin(1))
    slack[1] = 0.005 * (gamma * left[2] / left[0]) ** 0.5  # of velocities in parts of the speed of sound
    assert (found.amax(1) < exact.amax(1) + slack).all()
    assert (found.amin(1) > exact.amin(1) - slack).all()


@pytest.mark.parametrize(
    ("left", "right", "time"),
    [
        ([1, -2, 0.4], [1, 2, 0.4], 0.15),  # nearly a vacuum in the middle
        ([1, 0, 1000], [1, 0, 0.01], 0.012),
        ([5.99924, 19.5975, 460.894], [5.99242, -6.19633, 46.095], 0.035),
    ],
)
def test_density_and_pressure_stay_positive(left, right, time):
    states, grid, _ = problems.broken_states(left, right, 100)
    found = LINE.advance(states, torch.full((1, 1), 1.4).double(), grid, interval=time, num_frames=1)
    assert found[:, :, [0, -1]].min() > 0


@pytest.mark.parametrize("kind", ["waves", "blocks", "column"])
@pytest.mark.parametrize("num_points", [(40,), (16, 20), (8, 10, 9)])
def test_mass_momentum_and_energy_are_conserved_to_round_off(kind, num_points):
    grid = box(*num_points)
    system = Euler(num_spatial_dims=len(num_points), contrast=0.5, initial_state=CellFields(kind))
    frames = problems.moved(system, grid, 0.1)
    values = system.quantities(frames, problems.drawn(system, grid)[1], grid)
    assert len(values) == 2 + len(num_points)
    for name, value in values.items():
        assert (value[:, 1] - value[:, 0]).abs().max() < 1e-14, name


def test_walls_keep_mass_and_energy_and_take_momentum():
    grid = Grid((16, 20), (1.0, 1.0), ("periodic", "wall"))
    system = Euler(contrast=0.5)
    frames = problems.moved(system, grid, 0.3)
    values = system.quantities(frames, problems.drawn(system, grid)[1], grid)
    assert set(values) == {"mass", "energy", "momentum_y"}  # along y, which wraps
    assert max(float((value[:, 1] - value[:, 0]).abs().max()) for value in values.values()) < 1e-14
    across = (frames[:, :, 0] * frames[:, :, 1]).mean((-1, -2))
    assert (across[:, 1] - across[:, 0]).abs().min() > 1e-4
    for leaky in ("open", "bounded"):
        elsewhere = replace(grid, boundary=("periodic", leaky))
        assert system.quantities(frames, torch.full((2, 1), 1.4).double(), elsewhere) == {}


def test_open_ends_let_sound_out():
    """A pulse in the middle leaves; hardly anything comes back."""
    grid = Grid((80,), boundary="open")
    x = grid.coordinates()[0] - 0.5
    bump = 1e-3 * torch.exp(-((x / 0.06) ** 2))
    states = torch.stack([1 + bump, 0 * x, (1 + 1.4 * bump) / 1.4])[None]
    later = LINE.advance(states, torch.full((1, 1), 1.4).double(), grid, interval=1.5, num_frames=1)[0, 0]
    assert later[1].abs().max() < 1e-2 * bump.max()
    assert (later[-1] - 1 / 1.4).abs().max() < 1e-2 * bump.max()


def test_a_density_carried_along_converges_faster_than_second_order():
    """With velocity and pressure constant the density is carried along: exact."""

    def density(x):
        return 1 + 0.3 * torch.sin(2 * math.pi * x) + 0.1 * torch.cos(4 * math.pi * x)

    errors = []
    for num in (32, 64):
        grid = Grid((num,), (1.0,), "periodic")
        x = grid.coordinates()[0]
        states = torch.stack([density(x), 0.7 + 0 * x, 1 + 0 * x])[None]
        later = LINE.advance(states, torch.full((1, 1), 1.4).double(), grid, interval=0.5, num_frames=1)[0, 0]
        errors.append(float((later[0] - density(x - 0.35)).abs().mean()))
        assert (later[1] - 0.7).abs().max() < 1e-12
        assert (later[2] - 1).abs().max() < 1e-12
    assert errors[1] < 2.5e-3
    assert math.log2(errors[0] / errors[1]) > 2.0


@pytest.mark.parametrize("boundary", ["periodic", "wall"])
@pytest.mark.parametrize("dims", [1, 2])
def test_it_is_of_second_order_in_space(boundary, dims):
    grid = box(*(48, 40)[-dims:], boundary=boundary, sides=(1.0, 0.8))
    left, order = problems.orders_in_space(Euler(num_spatial_dims=dims), grid)
    assert left < 0.012
    assert order > 1.8


def test_turned_by_a_right_angle_it_is_the_same():
    system, grid = Euler(), Grid((14, 18), (0.8, 1.0), ("periodic", "wall"))
    inputs, numbers = problems.drawn(system, grid)
    later = system.advance(inputs, numbers, grid, interval=0.1, num_frames=1)
    turned = Grid((18, 14), (1.0, 0.8), ("wall", "periodic"))
    order = [0, 2, 1, 3]
    other = system.advance(inputs[:, order].mT.contiguous(), numbers, turned, interval=0.1, num_frames=1)
    torch.testing.assert_close(other, later[:, :, order].mT, rtol=1e-11, atol=1e-12)


def test_the_mach_number_is_that_of_the_state():
    system = Euler(mach=0.3, contrast=0.05)
    inputs, numbers = problems.drawn(system, box(20, 24), 4)
    sound = (numbers[:, 0, None, None] * inputs[:, -1] / inputs[:, 0]).sqrt()
    mach = (inputs[:, 1:3].square().sum(1).mean((-1, -2)) / sound.square().mean((-1, -2))).sqrt()
    assert (mach - 0.3).abs().max() < 0.02


def test_three_dimensions_that_do_not_change_across_are_one():
    line, room = Euler(num_spatial_dims=1), Euler(num_spatial_dims=3)
    inputs, numbers = problems.drawn(line, box(24))
    zero = torch.zeros_like(inputs[:, 1])
    states = torch.stack([inputs[:, 0], zero, zero, inputs[:, 1], inputs[:, 2]], dim=1)  # along z, the first axis
    states = states[..., None, None].expand(-1, -1, -1, 3, 4).contiguous()
    grid = Grid((24, 3, 4), (1.9, 1.0, 1.0), "periodic")
    one = line.advance(inputs, numbers, box(24), interval=0.01, num_frames=1, refine=4)
    three = room.advance(states, numbers, grid, interval=0.01, num_frames=1, refine=4)
    torch.testing.assert_close(three[:, :, [0, 3, 4], :, 0, 0], one, rtol=1e-6, atol=1e-6)


def test_a_march_that_wants_more_steps_on_the_way_is_repeated():
    """From rest under high pressure: waves become faster than any at time 0."""
    states, grid, _ = problems.broken_states([1, 0, 1000], [1, 0, 0.01], 60)
    quick = Euler(num_spatial_dims=1, courant=1.0)
    ratio = torch.full((1, 1), 1.4, dtype=torch.float64)
    seen = []
    march = Euler._march

    def watched(self, *arguments):
        seen.append(arguments[5].tolist())
        return march(self, *arguments)

    Euler._march = watched
    try:
        found = quick.advance(states, ratio, grid, interval=0.012, num_frames=1)
    finally:
        Euler._march = march
    assert len(seen) > 1
    assert seen[-1] > seen[0]
    assert torch.isfinite(found).all()


def test_what_cannot_be_is_refused():
    for wrong, match in (
        ({"adiabatic_index": [1.0, 1.4]}, "low > 1"),
        ({"mach": -0.1}, "low >= 0"),
    ):
        with pytest.raises(ConfigError, match=match):
            Euler(**wrong)
    inputs, numbers = problems.drawn(LINE, box(16))
    inputs[0, -1] = -1.0
    with pytest.raises(DataError, match="density, pressure must stay positive"):
        LINE.advance(inputs, numbers, box(16), interval=0.1, num_frames=1)
