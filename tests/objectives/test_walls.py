"""Walls: what holds there is in the loss or met by construction, and nobody forgets to say it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

import pinn
from scifm.config import build_config
from scifm.data.stream import Epochs
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.term import Term
from scifm.models.coordinate import Points
from scifm.objectives.collocation import Collocation
from scifm.objectives.walls import Condition, conditions_at, require_walls
from scifm.systems.catalog import SYSTEMS
from scifm.training.loop import TrainingConfig, train

ZERO, FLAT = {"x": {"value": 0.0}}, {"x": {"slope": 0.0}}
RING = pinn.convection(points=8, frames=5)


class Plate(pinn.Rod):
    """The same of a plane."""

    name = "plate"
    signature = Signature(("temperature",), ("diffusivity",), ("temperature",), 2, evolves=True)
    terms = (Term("laplacian", ("temperature",), of="temperature", coefficient="diffusivity"),)


@pytest.fixture(autouse=True)
def known(monkeypatch) -> None:
    for system in (pinn.Rod, Plate):
        monkeypatch.setitem(SYSTEMS, system.name, system)


def asked(objective: Collocation, operator, batch: Batch, step: int = 0):
    return objective.squares(operator, batch, step=step, generator=torch.Generator()).rows


# --- what it is -------------------------------------------------------------------------------------------------------


def test_terms_at_walls_are_what_the_answer_misses_of_its_values_and_slopes():
    rod, (times,) = pinn.rod(), pinn.rod().lead_time
    operator = pinn.network(rod, initial="soft")
    walls = {"x": [{"value": 0.25}, {"value": {"heat": -0.5}, "slope": 2.0}]}
    rows = asked(Collocation(num_points=30, walls=walls, wall=9.0), operator, rod)
    assert [len(own.values) for own in rows] == [30, 17, 10, 10, 10]  # equation, start; the walls in ten frames

    def there(place: int):
        return operator.at(rod, Points(torch.full((10,), place), times), derivatives=["x"])

    low, high = there(0), there(16)
    expected = (low.value("heat") - 0.25, high.value("heat") + 0.5, high.along("heat", "x") - 2.0)
    for own, missed in zip(rows[2:], expected, strict=True):
        torch.testing.assert_close(own.values, 3.0 * missed[0] / math.sqrt(10))
    free = asked(Collocation(num_points=30, walls={"x": ["free", {"value": -0.5}]}), operator, rod)
    torch.testing.assert_close(free[2].values, rows[3].values / 3.0)
    assert len(free) == 3


def test_a_plane_has_the_walls_of_its_axes_and_the_seams_of_the_others():
    plane = pinn.problem("heat", Grid((12, 11), (2.0, 3.0), (True, True)), num_spatial_dims=2, num_frames=3)
    plane = replace(plane, grid=Grid((12, 11), (2.0, 3.0), ("wall", "periodic")), systems=("plate",))
    operator = pinn.network(plane, periodic=False)
    objective = Collocation(num_points=25, walls={"y": [{"value": 1.0}, "free"]})
    rows = asked(objective, operator, plane)
    assert [len(own.values) for own in rows] == [25, 24, 24, 22]  # the seam of x with its slope, a wall; two frames
    bottom = operator.at(plane, Points(torch.arange(11).repeat(2), plane.lead_time[0].repeat_interleave(11)),
                         start=operator.start_of(plane, 0))  # fmt: skip
    missed = (bottom.value("temperature")[0] - 1.0) / math.sqrt(22)
    torch.testing.assert_close(rows[-1].values.sort()[0], missed.sort()[0])


def test_several_outputs_have_each_their_own():
    grid, walls = Grid((5, 4), 1.0, ("wall", "open")), {
        "x": {"slope": {"u": 1.0, "v": "free"}},
        "y": ["free", {"value": {"u": 2.0}, "slope": {"v": 0.0}}],
    }  # fmt: skip
    found = list(conditions_at(Collocation(walls=walls).walls, grid, ("u", "v")))
    flat = (Condition("u", True, 1.0),)
    both = (Condition("u", False, 2.0), Condition("v", True, 0.0))
    assert found == [(1, 0, flat), (1, -1, flat), (0, 0, ()), (0, -1, both)]


# --- what it does -----------------------------------------------------------------------------------------------------

WAYS: dict[str, tuple[bool, dict[str, Any], dict[str, Any]]] = {
    "values, soft": (False, {}, ZERO),
    "values, by construction": (False, {"kept": {"x": "both"}}, ZERO),
    "values, by construction, in slabs": (False, {"kept": {"x": "both"}, "slabs": 2}, ZERO),
    "slopes, soft": (True, {}, FLAT),
    "slopes and start, soft": (True, {"initial": "soft"}, {"x": [{"slope": 0.0}, {"slope": 0.0}]}),
}


def error_of(way: str, walls: Any) -> float:
    """Return the relative error of a small network after some steps of Levenberg and Marquardt."""
    slopes, network, _ = WAYS[way]
    rod = pinn.rod(points=41, slopes=slopes)
    operator = pinn.network(rod, **{"width": 10, **network})
    about = {"slab_steps": 20} if "slabs" in network else {}
    settings = build_config(
        TrainingConfig,
        {
            "num_steps": 40, "batch_size": 1, "learning_rate": 1.0, "schedule": "constant", "precision": "64-true",
            "accelerator": "cpu", "validate_every": 100, "checkpoint_every": 100, "optimizer": "levenberg_marquardt",
            "objective": {"name": "collocation", "num_points": 100, "walls": walls, **about},
        },
    )  # fmt: skip
    train(operator, Epochs(rod, batch_size=1, seed=0), config=settings)
    truth = rod.require_targets()
    return float((operator(rod).require_targets().detach() - truth).norm() / truth.norm())


@pytest.mark.parametrize("way", WAYS)
def test_heat_between_walls_is_solved(way):
    """Exact: e^(−κπ²t) sin πx, and cos πx. The start's curvature is one of differences, good to (π/40)²/12 = 5e-4."""
    assert error_of(way, WAYS[way][2]) < 1e-3


def test_without_what_holds_at_walls_the_equation_has_other_solutions():
    assert error_of("slopes, soft", {"x": "free"}) > 2e-2
    assert error_of("values, soft", FLAT) > 0.3  # solved with other walls it is another problem


# --- what the network keeps -------------------------------------------------------------------------------------------


def test_what_the_network_meets_is_not_trained_and_has_to_be_the_same():
    rod = pinn.rod()
    operator = pinn.network(rod, kept={"x": "low"})
    assert [len(own.values) for own in asked(Collocation(num_points=20, walls=ZERO), operator, rod)] == [20, 10]
    both = {"x": {"value": 0.0, "slope": 1.0}}
    assert [len(own.values) for own in asked(Collocation(num_points=20, walls=both), operator, rod)] == [20, 10, 10, 10]
    with pytest.raises(ConfigError, match=r"keeps 'heat' at the low end of x.*which is 0\.3 off the 0\.3 that walls"):
        asked(Collocation(walls={"x": {"value": 0.3}}), operator, rod)
    for wall in ("free", {"slope": 0.0}):
        with pytest.raises(ConfigError, match=r"walls of the objective say no value of it there: .*network\.kept"):
            asked(Collocation(walls={"x": [wall, {"value": 0.0}]}), operator, rod)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_wall_of_which_nothing_is_said_is_refused():
    with pytest.raises(ConfigError, match=r"axis x does not wrap around \(its boundary is 'wall'\), and the objective"):
        Collocation().on(pinn.rod())
    with pytest.raises(ConfigError, match=r"not told what holds at its ends.*walls = \{ x = \[\{ value = 0\.0 \}"):
        asked(Collocation(), pinn.network(pinn.rod()), pinn.rod())
    plane = Grid((4, 4), 1.0, ("open", "wall"))
    with pytest.raises(ConfigError, match=r"axis y does not wrap around \(its boundary is 'open'\)"):
        Collocation(walls=ZERO).require_grid(plane)
    require_walls(None, RING.grid)


@pytest.mark.parametrize(
    ("walls", "told"),
    [
        ({"y": {"value": 0.0}, **ZERO}, "walls of the objective: axis .*'y'"),
        ({"x": {"value": {"cold": 0.0}}}, r"walls\.x of the objective, low end: output .*'cold'"),
        ({"x": ["free", {"slope": {"cold": 0.0}}]}, r"walls\.x of the objective, high end: output .*'cold'"),
    ],
)
def test_walls_of_something_else_are_refused(walls, told):
    with pytest.raises(ConfigError, match=told):
        Collocation(walls=walls).on(pinn.rod())


def test_an_axis_that_wraps_has_no_walls():
    with pytest.raises(ConfigError, match="at the ends of x, which wraps around and has none"):
        Collocation(walls=ZERO).on(RING)


def test_an_output_of_which_nothing_is_said_is_refused():
    signature = Signature(("u", "v"), (), ("u", "v"), 1, evolves=True)
    with pytest.raises(ConfigError, match="low end: nothing is said of the output 'v'; give it a value or a slope"):
        list(conditions_at(Collocation(walls={"x": {"value": {"u": 0.0}}}).walls, pinn.rod().grid, signature.outputs))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"walls": {"x": {}}}, "a wall says a value or a slope; or write 'free'"),
        ({"walls": {"x": ["free"]}}, "an axis has a low end and a high end; got 1 of them"),
        ({"walls": {"x": 0.0}}, r"an end is a table with a value or a slope, or 'free'; got 0\.0"),
        ({"walls": {"x": {"valeu": 0.0}}}, "'valeu'.*value"),
        ({"walls": {"x": {"value": math.nan}}}, "finite"),
        ({"walls": {"w": {"value": 0.0}}}, "w"),
        ({"wall": 2.0}, "wall = 2 weighs what holds at walls: say it by walls"),
    ],
)
def test_walls_that_say_nothing_are_refused_in_a_sentence(settings, told):
    with pytest.raises(ConfigError, match=told) as caught:
        build_config(TrainingConfig, {"objective": {"name": "collocation", **settings}})
    assert "\n" not in str(caught.value)


def test_walls_are_written_down_and_read_again():
    walls = {"x": [{"value": {"heat": 0.0}}, "free"], "y": {"slope": 1.0}}
    config = build_config(TrainingConfig, {"objective": {"name": "collocation", "walls": walls, "wall": 2.0}})
    assert build_config(TrainingConfig, config.to_dict()) == config
    assert config.to_dict()["objective"] == {
        "name": "collocation", "wall": 2.0,
        "walls": {"x": [{"value": {"heat": 0.0}}, "free"], "y": [{"slope": 1.0}, {"slope": 1.0}]},
    }  # fmt: skip
