from __future__ import annotations

import math

import pytest
import torch

import finite_volume_problems as problems
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.grid import Boundary, Grid
from scifm.systems.catalog import system_from_dict
from scifm.systems.evolving_contract import EvolvingContract
from scifm.systems.initial_cells import CellFields
from scifm.systems.shallow_water import ShallowWater
from scifm.systems.solvers.riemann import water_riemann

FLAT = {"relief": 0.0}


def box(*num_points: int, boundary: Boundary = "periodic", sides: tuple[float, ...] = (0.7, 1.9)) -> Grid:
    return Grid(num_points, sides[-len(num_points) :], boundary)


class TestBetweenWalls(EvolvingContract):
    """The contract where x runs between walls and y wraps, and in one dimension between walls."""

    tolerance = 1e-5
    num_tried = 3
    tendency_tolerance = 0.12  # of the coarsest grid, in space; `test_it_is_of_second_order_in_space` sees it fall

    @pytest.fixture(autouse=True, params=[2, 1])
    def choose(self, request):
        interval = 0.02 if request.param == 2 else 0.05
        self.system = ShallowWater(num_frames=3, save_interval=interval, num_spatial_dims=request.param)
        shapes = [(20, 30), (24, 24), (17, 21)] if request.param == 2 else [(66,), (64,), (47,)]
        walls = ("periodic", "wall")[-request.param :]
        self.grids = tuple(Grid(shape, (0.9, 1.3)[-request.param :], walls) for shape in shapes)


@pytest.mark.parametrize(("low", "bounds"), [(1.0, (4.5e-3, 2.8e-2)), (0.05, (7e-3, 3.2e-2))])
def test_the_dam_break_is_stokers(low, bounds):
    """In the mean, of first order; errors over the mean of the solution."""
    system, errors = ShallowWater(num_spatial_dims=1), []
    for num in (128, 256):
        states, grid, x = problems.broken_states([2.0 if low == 1.0 else 1.0, 0.0], [low, 0.0], num)
        states = torch.cat([states, torch.zeros_like(states[:, :1])], dim=1)
        found = system.advance(states, torch.ones(1, 1).double(), grid, interval=0.2, num_frames=1)[0, 0]
        exact = water_riemann(*states[0, :2, [0, -1]].T, 1.0, x / 0.2)
        errors.append((found - exact).abs().mean(1) / exact.abs().mean(1))
    assert (errors[0] < torch.tensor(bounds)).all(), errors
    assert ((errors[0] / errors[1]).log2() > 0.75).all(), errors


@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_water_at_rest_over_any_bottom_stays_at_rest(boundary):
    grid = box(16, 20, boundary=boundary)
    system = ShallowWater(contrast=0.0, froude=0.0, relief=0.15)
    inputs, numbers = problems.drawn(system, grid)
    assert inputs[:, -1].std() > 0.1  # there is a bottom
    later = system.advance(inputs, numbers, grid, interval=1.0, num_frames=1)[:, 0]
    torch.testing.assert_close(later[:, 0], inputs[:, 0], rtol=0, atol=1e-13)
    assert later[:, 1:].abs().max() < 1e-13


@pytest.mark.parametrize("kind", ["waves", "blocks", "column"])
@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_mass_is_conserved_to_round_off(kind, boundary):
    system = ShallowWater(contrast=0.4, initial_state=CellFields(kind))
    frames = problems.moved(system, box(20, 24, boundary=boundary), 0.2)
    mass = frames[:, :, 0].mean((-1, -2))
    torch.testing.assert_close(mass[:, 1], mass[:, 0], rtol=1e-14, atol=0)
    assert (frames[:, 1] - frames[:, 0]).abs().mean() > 0.01


def test_momentum_is_conserved_to_round_off_on_a_flat_bottom():
    frames = problems.moved(ShallowWater(contrast=0.4, **FLAT), box(20, 24), 0.3)
    momentum = (frames[:, :, :1] * frames[:, :, 1:3]).mean((-1, -2))
    torch.testing.assert_close(momentum[:, 1], momentum[:, 0], rtol=0, atol=1e-15)


@pytest.mark.parametrize("boundary", ["periodic", "wall"])
@pytest.mark.parametrize("dims", [1, 2])
def test_it_is_of_second_order_in_space(boundary, dims):
    system = ShallowWater(num_spatial_dims=dims, relief=0.1)
    grid = box(*(48, 40)[-dims:], boundary=boundary, sides=(1.0, 0.8))
    left, order = problems.orders_in_space(system, grid)
    assert left < 0.012
    assert order > 1.8


def test_a_dam_that_breaks_between_walls_comes_to_rest_level():
    """Waves run to and fro, mass stays, and no water leaves; through open ends it does."""
    column = CellFields("column")
    system = ShallowWater(num_spatial_dims=1, contrast=0.5, froude=0.0, initial_state=column, **FLAT)
    for boundary, stays in (("wall", True), ("open", False)):
        grid = Grid((32,), boundary=boundary)
        inputs, numbers = problems.drawn(system, grid)
        mass = system.advance(inputs, numbers, grid, interval=1.0, num_frames=3)[:, :, 0].mean(-1)
        start = inputs[:, :1].mean(-1)
        assert bool(((mass - start).abs() < 1e-13).all()) is stays
        assert stays or bool((mass[:, -1:] - 1 < 0.1 * (start - 1)).all())


def test_pdebenchs_radial_dam_break():
    """Depth 2 in a circle of radius 0.3 to 0.7, 1 elsewhere; round and symmetric, and its front where it should be."""
    system = ShallowWater(gravity=1.0, contrast=math.log(2), froude=0.0, relief=0.0, initial_state=CellFields("column"))
    grid = Grid((50, 50), 5.0, "open")
    frames = problems.moved(system, grid, 1.0)
    assert frames[:, 0, 0].unique().tolist() == [1.0, 2.0]
    area = (frames[:, 0, 0] > 1.5).float().mean((-1, -2)) * 5.1**2
    assert ((area > math.pi * 0.25**2) & (area < math.pi * 0.75**2)).all()
    depth = frames[:, 1, 0]
    torch.testing.assert_close(depth, depth.flip(-1), rtol=1e-12, atol=0)
    torch.testing.assert_close(depth, depth.mT, rtol=1e-12, atol=0)
    assert depth.min() > 0.1
    assert depth[:, 25, -1].sub(1).abs().max() < 1e-3  # waves of speed about 1.2 have not come to the ends yet


def test_one_dimension_is_two_that_do_not_change_across():
    line, plane = ShallowWater(num_spatial_dims=1), ShallowWater()
    inputs, numbers = problems.drawn(line, box(32))
    flat = torch.stack([inputs[:, 0], inputs[:, 1], 0 * inputs[:, 1], inputs[:, 2]], dim=1)
    grid = Grid((4, 32), (1.0, 1.9), ("periodic", "periodic"))
    flat = flat[:, :, None].expand(-1, -1, 4, -1).contiguous()
    one = line.advance(inputs, numbers, box(32), interval=0.01, num_frames=1, refine=4)
    two = plane.advance(flat, numbers, grid, interval=0.01, num_frames=1, refine=4)
    torch.testing.assert_close(two[:, :, [0, 1], 0], one, rtol=1e-6, atol=1e-6)
    assert two[:, :, 2].abs().max() == 0


def test_single_precision_follows_double():
    single, double = (problems.moved(ShallowWater(), box(20, 24), 0.1, dtype=d) for d in (torch.float32, torch.float64))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)


def test_options_pass_through_a_recipe():
    system = system_from_dict({"name": "shallow_water", "options": {"initial_state": {"kind": "column"}}})
    assert system == ShallowWater(initial_state=CellFields("column"))


def test_what_cannot_be_is_refused():
    for wrong, match in (
        ({"courant": 2.0}, "courant <= 1"),
        ({"num_spatial_dims": 4}, "1, 2 or 3 dimensions"),
        ({"gravity": [0.0, 1.0]}, "low > 0"),
        ({"relief": [-1.0, 1.0]}, "low >= 0"),
    ):
        with pytest.raises(ConfigError, match=match):
            ShallowWater(**wrong)
    with pytest.raises(ConfigError, match="Did you mean 'column'"):
        CellFields("colum")
    with pytest.raises(DataError, match="Lower the knobs relief"):
        problems.drawn(ShallowWater(relief=0.9), box(16, 16))
    with pytest.raises(SignatureError, match=r"'wall' or 'open'\. The grid: .* not periodic along y"):
        ShallowWater().sample(1, Grid((16, 16), boundary=(False, True)))
    with pytest.raises(SignatureError, match="cannot hold 2 waves"):
        problems.drawn(ShallowWater(), box(16, 4))


def test_a_state_that_means_nothing_is_told():
    system = ShallowWater(num_spatial_dims=1)
    inputs, numbers = problems.drawn(system, box(16))
    inputs[1, 0, 3] = -1.0
    with pytest.raises(DataError, match="depth must stay positive"):
        system.advance(inputs, numbers, box(16), interval=0.1, num_frames=1)
    inputs[1] = inputs[0]
    inputs[1, 1] *= 1e9
    with pytest.raises(DataError, match="waves are too fast"):
        system.advance(inputs, numbers, box(16), interval=0.1, num_frames=1)
