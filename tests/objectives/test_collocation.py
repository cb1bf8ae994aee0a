"""Collocation: what it is at an exact solution, where it asks, what has to close, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

import pinn
import tiny
from scifm.config import build_config
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.models.coordinate import Points
from scifm.models.fno import FNO
from scifm.objectives.collocating import slope_of
from scifm.objectives.collocation import Collocation
from scifm.training.loop import TrainingConfig
from scifm.training.pretrain import PretrainRecipe, pretrain

RING = pinn.convection(speed=3.0)


def asked(objective: Collocation, operator, batch: Batch = RING, step: int = 0):
    return objective.squares(operator, batch, step=step, generator=torch.Generator())


def points_of(objective: Collocation, operator, batch: Batch = RING, step: int = 0, slab: int = 0):
    prepared = objective if objective._problem is not None else objective.on(batch)
    return prepared._drawn(prepared._problem, operator, batch, step, slab).equation.points


# --- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", ["fixed", "uniform", "residual", "gradient"])
def test_a_network_that_is_the_solution_leaves_nothing_and_a_bent_one_in_every_part(points):
    objective = Collocation(num_points=30, points=points)
    exact = [rows.values.abs().max() for rows in asked(objective, pinn.Bent(RING, size=0.0)).rows]
    assert len(exact) == 3  # equation, start, seam; the equation has no second derivative along x, so it is one row
    assert max(exact) < 1e-13
    bent = [rows.values.abs().max() for rows in asked(objective, pinn.Bent(RING, size=0.1)).rows]
    assert min(bent) > 1e-3


def test_the_residual_is_that_of_the_equation_and_each_part_has_its_weight():
    operator = pinn.Bent(RING, size=0.2)
    whole = asked(Collocation(num_points=40, points="fixed"), operator)
    weighed = asked(Collocation(num_points=40, points="fixed", equation=2, initial=3, seam=5), operator)
    for one, other, weight in zip(whole.rows, weighed.rows, (2, 3, 5), strict=True):
        torch.testing.assert_close(other.values, one.values * math.sqrt(weight))
    points = points_of(Collocation(num_points=40, points="fixed"), operator)
    (x,), (k, w) = RING.grid.coordinates(dtype=torch.float64), operator.networks[0][0].weight[0]
    left = (w + 3.0 * k) * torch.cos(k * x[points.places] + w * points.times)
    torch.testing.assert_close(whole.rows[0].values, left / math.sqrt(40))
    torch.testing.assert_close(whole.rows[1].values, (torch.sin(k * x) - torch.sin(x)) / math.sqrt(16))
    times = RING.lead_time[0]
    ends = torch.sin(w * times) - torch.sin(2 * math.pi * k + w * times)
    torch.testing.assert_close(whole.rows[2].values, ends / math.sqrt(10))


def test_a_seam_holds_the_slope_too_where_the_equation_has_a_second_derivative():
    front = pinn.problem("reaction_diffusion", Grid((12,), (6.0,), (True,)), num_frames=5)
    rows = asked(Collocation(num_points=20), pinn.network(front, periodic=False), front).rows
    assert [len(row.values) for row in rows] == [20, 4, 4]
    assert len(asked(Collocation(num_points=20), pinn.network(front), front).rows) == 1  # closes by construction
    plane = pinn.problem("heat", Grid((12, 11), (2.0, 3.0), (True, True)), num_spatial_dims=2, num_frames=3)
    open_ = pinn.network(plane, periodic=False, initial="soft")
    rows = asked(Collocation(num_points=25), open_, plane).rows
    assert [len(row.values) for row in rows] == [25, 25, 22, 22, 24, 24]  # of 132 places 25; two frames of each seam


# --- where it asks ----------------------------------------------------------------------------------------------------


def test_fixed_points_are_on_frames_and_none_twice():
    operator = pinn.network(RING)
    points = points_of(Collocation(num_points=100, points="fixed"), operator)
    assert set(points.times.tolist()) <= set(RING.lead_time[0].tolist())
    pairs = set(zip(points.places.tolist(), points.times.tolist(), strict=True))
    assert len(pairs) == len(points) == 100
    assert len(points_of(Collocation(num_points=1000, points="fixed"), operator)) == 160  # all there are
    for step in (1, 7):
        again = points_of(Collocation(num_points=100, points="fixed"), operator, step=step)
        assert torch.equal(again.places, points.places)
    other = points_of(Collocation(num_points=100, points="fixed", seed=1), operator)
    assert not torch.equal(other.places, points.places)


@pytest.mark.parametrize("slab", [0, 1, 2, 3])
def test_points_lie_in_the_time_of_their_slab(slab):
    operator = pinn.network(RING, slabs=4)
    uniform = points_of(Collocation(num_points=400, slab_steps=1), operator, slab=slab).times
    assert slab / 4 <= float(uniform.min()) < slab / 4 + 0.02
    assert (slab + 1) / 4 - 0.02 < float(uniform.max()) <= (slab + 1) / 4
    fixed = points_of(Collocation(num_points=400, points="fixed", slab_steps=1), operator, slab=slab).times
    frames = RING.lead_time[0].tolist()
    assert set(fixed.tolist()) == {t for t in frames if slab / 4 + 1e-6 < t <= (slab + 1) / 4 + 1e-6}


def test_points_by_the_residual_are_where_it_is_large():
    """Planted: u = sin(x + w t), with a residual that goes with |cos(x + w t)|."""
    operator = pinn.Bent(RING, size=0.0)
    with torch.no_grad():
        operator.wrong.copy_(torch.tensor([[1.0, 0.5]]))
    (x,) = RING.grid.coordinates(dtype=torch.float64)

    def shares(**about: Any) -> torch.Tensor:
        points = points_of(Collocation(num_points=4000, **about), operator)
        phase = (x[points.places] + 0.5 * points.times).cos().square()
        return torch.histc(phase, 4, 0, 1) / len(points)

    anywhere, by = shares(), shares(points="residual", cycle=1000)  # at the start of a cycle all lie anywhere
    torch.testing.assert_close(by, anywhere, rtol=0, atol=0.03)
    half = shares(points="residual")
    density = torch.linspace(0.125, 0.875, 4)
    drawn = anywhere * (density + 0.05 * 0.5)
    torch.testing.assert_close(half, (anywhere + drawn / drawn.sum()) / 2, rtol=0, atol=0.03)
    assert float(half[-1]) > 1.2 * float(anywhere[-1])


def test_points_by_its_gradient_are_where_the_residual_changes():
    """Planted: u = sin(x + w t) with r = (w + 3) cos(x + w t), whose square changes like |sin 2(x + w t)|."""
    ring = pinn.convection(speed=3.0, points=64)
    operator = pinn.Bent(ring, size=0.0)
    with torch.no_grad():
        operator.wrong.copy_(torch.tensor([[1.0, 0.5]]))
    (x,) = ring.grid.coordinates(dtype=torch.float64)

    def shares(**about: Any) -> torch.Tensor:
        points = points_of(Collocation(num_points=4000, **about), operator, ring)
        phase = (2 * (x[points.places] + 0.5 * points.times)).sin().abs()
        return torch.histc(phase, 4, 0, 1) / len(points)

    anywhere, by = shares(), shares(points="gradient", cycle=1000)  # at the start of a cycle all lie anywhere
    torch.testing.assert_close(by, anywhere, rtol=0, atol=0.03)
    half = shares(points="gradient")
    edges = torch.linspace(0, 1, 5).asin()
    density = -edges.cos().diff() / edges.diff()  # the mean of |sin| in each share of places
    drawn = anywhere * (density + 0.05 * 2 / math.pi)
    torch.testing.assert_close(half, (anywhere + drawn / drawn.sum()) / 2, rtol=0, atol=0.03)
    assert float(half[-1]) > 1.15 * float(anywhere[-1])


@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_slopes_are_those_of_functions_on_either_side(boundary):
    grid = Grid((64, 48), (2.0, 3.0), ("periodic", boundary))
    places = torch.arange(64 * 48)
    times = torch.linspace(0.4, 0.8, len(places), dtype=torch.float64)  # from where the slab begins to its end
    y, x = (c.flatten() for c in torch.meshgrid(*grid.coordinates(), indexing="ij"))
    num_asked = []

    def function(points: Points) -> torch.Tensor:
        """Return sin πy + 2 cos(2π x/3) + x/2 + 3 t², whose part x/2 has a jump at a seam."""
        num_asked.append(len(points))
        turns = torch.zeros(len(points), 2) if points.turns is None else points.turns
        there_y, there_x = y[points.places] + 2 * turns[:, 0], x[points.places] + 3 * turns[:, 1]
        wave = torch.sin(math.pi * there_y) + 2 * torch.cos(2 * math.pi / 3 * there_x)
        return wave + there_x / 2 + 3 * points.times**2

    found = slope_of(function, Points(places, times), grid, (0.4, 0.8))
    by_x = -4 * math.pi / 3 * torch.sin(2 * math.pi / 3 * x) + 0.5
    expected = (math.pi * torch.cos(math.pi * y)).abs() + by_x.abs() + 6 * times
    assert float((found - expected).abs().max()) < (0.02 if boundary == "periodic" else 0.3)
    inside = (x > 0.1) & (x < 2.9)
    assert float((found - expected).abs()[inside].max()) < 0.02
    assert num_asked == [len(places)] * 6


@pytest.mark.parametrize("points", ["fixed", "uniform", "residual", "gradient"])
def test_a_step_asked_twice_has_the_same_points_and_another_one_its_own(points):
    operator, objective = pinn.network(RING), Collocation(num_points=20, points=points).on(RING)
    first = asked(objective, operator, step=3).values
    with torch.no_grad():  # as a line search does between two questions
        operator.networks[0][0].bias.add_(0.5)
    kept = points_of(objective, operator, step=3)
    with torch.no_grad():
        operator.networks[0][0].bias.sub_(0.5)
    torch.testing.assert_close(asked(objective, operator, step=3).values, first)
    assert torch.equal(points_of(objective, operator, step=3).places, kept.places)
    moved = points_of(objective, operator, step=4)
    assert torch.equal(moved.places, kept.places) == (points == "fixed")


def test_uniform_points_stay_for_as_many_steps_as_is_said():
    operator, objective = pinn.network(RING), Collocation(num_points=20, every=5).on(RING)
    draws = [points_of(objective, operator, step=step).places for step in range(11)]
    stays = [torch.equal(one, other) for one, other in pairwise(draws)]
    assert stays == [True] * 4 + [False] + [True] * 4 + [False]
    assert [objective.draw(step) for step in (0, 4, 5, 9, 10)] == [0, 0, 1, 1, 2]
    assert [Collocation(points="residual").draw(step) for step in (0, 1, 2)] == [0, 1, 2]
    assert [Collocation(points="gradient").draw(step) for step in (0, 1, 2)] == [0, 1, 2]
    assert {Collocation(points="fixed").draw(step) for step in (0, 1, 2)} == {0}


def test_what_is_kept_of_one_problem_is_not_used_for_another():
    """A stage of a curriculum may start elsewhere, with the same points."""
    operator, objective = pinn.network(RING), Collocation(num_points=20, points="fixed").on(RING)
    other = replace(RING, inputs=RING.inputs * 2)
    asked(objective, operator)
    torch.testing.assert_close(
        asked(objective, operator, other).values, asked(objective.on(other), operator, other).values
    )
    second = pinn.network(RING, seed=5)
    torch.testing.assert_close(asked(objective, second).values, asked(objective.on(RING), second).values)


# --- slabs ------------------------------------------------------------------------------------------------------------


def test_slabs_are_trained_one_after_the_other_the_last_to_the_end():
    operator, objective = pinn.network(RING, slabs=3), Collocation(num_points=20, slab_steps=4).on(RING)
    assert [objective.stage(operator, step) for step in (0, 3, 4, 8, 12, 99)] == [0, 0, 1, 2, 2, 2]
    for step in (0, 4, 8):
        operator.zero_grad()
        asked(objective, operator, step=step).loss.backward()
        trained = {int(name.split(".")[1]) for name, w in operator.named_parameters() if w.grad is not None}
        assert trained == {step // 4}


def test_slabs_and_their_steps_go_together():
    for slabs, steps in ((3, None), (1, 5)):
        with pytest.raises(ConfigError, match=r"model\.network\.slabs and slab_steps, or neither"):
            asked(Collocation(slab_steps=steps), pinn.network(RING, slabs=slabs))


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "settings", "told"),
    [
        ("moving_textures", {}, r"\(moving_textures\) nobody says them.*'scifm systems NAME'"),
        ("navier_stokes", {}, "'navier_stokes' cannot be asked at points: .*vorticity_advection.*everywhere"),
    ],
)
def test_systems_that_say_no_equation_of_points_are_refused(system, settings, told):
    batch = pinn.problem(system, Grid.square(20), num_frames=3, **settings)
    with pytest.raises(ConfigError, match=told):
        Collocation().on(batch)


def test_steady_and_unknown_samples_are_refused():
    with pytest.raises(ConfigError, match=r"an equation in time, and of these samples \(poisson\) nobody says them"):
        Collocation().on(tiny.batch(1))
    with pytest.raises(ConfigError, match="of no system that is known"):
        Collocation().on(replace(RING, systems=()))


def test_several_problems_and_other_operators_are_refused():
    with pytest.raises(ConfigError, match=r"knows one problem, and a step holds 2\. Set data\.num_samples = 1"):
        asked(Collocation(), pinn.network(RING), Batch.concatenate([RING, RING]))
    with pytest.raises(ConfigError, match=r"model\.kind = 'coordinate'; one of kind 'fno' answers on grids"):
        Collocation().require_operator(FNO)
    with pytest.raises(ConfigError, match="of kind 'fno' answers on grids"):
        asked(Collocation(), tiny.operator())


def recipe(**changes: Any) -> dict[str, Any]:
    """Return the recipe with tables of it changed."""
    return {**pinn.RECIPE, **{key: {**pinn.RECIPE[key], **table} for key, table in changes.items()}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": {"num_samples": 2}}, r"knows one problem: give a \[system\], set data\.num_samples = 1 \(it is 2\)"),
        ({"model": {"kind": "fno", "network": tiny.NETWORK}}, "one of kind 'fno' answers on grids"),
        ({"training": {"micro_batches": 2}}, "needs all samples of a step together"),
        ({"model": {"num_members": 2}}, "one of kind 'ensemble' answers on grids"),
        (
            {"model": {"num_members": 2}, "training": {"objective": "relative_l2"}},
            "Members of an ensemble answer any problem, and an operator of kind 'coordinate' knows one",
        ),
        (
            {"data": {"curriculum": {"knob": "sped", "values": [0.5], "steps": 1}}},
            r"data\.curriculum: .*'sped'.*speed",
        ),
        ({"data": {"curriculum": {"knob": "speed", "values": [-1], "steps": 1}}}, r"data\.curriculum: .*speed"),
        ({"model": {"network": {"slabs": 2}}}, "slab_steps of the objective"),
        (
            {"training": {"optimizer": "levenberg_marquardt", "objective": "relative_l2"}},
            "'levenberg_marquardt' needs an objective that says what it is the sum of squares of",
        ),
        (
            {"training": {"optimizer": "levenberg_marquardt", "micro_batches": 2}},
            "micro_batches = 2 .*asks for all terms of a step at once",
        ),
    ],
)
def test_recipes_that_cannot_be_are_told_in_a_sentence(changes, told, tmp_path):
    with pytest.raises((ConfigError, SignatureError), match=told):
        pretrain(recipe(**changes), out=tmp_path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"every": 2, "points": "fixed"}, "every = 2 is for points = 'uniform'"),
        ({"cycle": 3}, "cycle = 3 is for points = 'residual' or 'gradient'; the points are uniform"),
    ],
)
def test_settings_without_effect_are_refused(settings, told):
    table = {"objective": {"name": "collocation", **settings}}
    with pytest.raises(ConfigError, match=told):
        build_config(TrainingConfig, table)


OTHER: dict[str, Any] = {
    "num_points": 31, "points": "fixed", "every": 2, "cycle": 4, "equation": 2.0, "initial": 2.0, "seam": 2.0,
    "slab_steps": 2, "seed": 1, "balance": True,
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_every_setting_has_an_effect(name):
    assert set(OTHER) | {"wall", "walls"} == set(Collocation.model_fields)  # those two in test_walls.py
    network = {"periodic": False, "initial": "soft", "slabs": 2 if name == "slab_steps" else 1}
    basis: dict[str, Any] = {"points": "residual"} if name == "cycle" else {}
    basis |= {"slab_steps": 3} if name == "slab_steps" else {}
    operator, step = pinn.network(RING, **network), {"every": 1, "slab_steps": 2}.get(name, 0)
    found = [
        asked(Collocation(**{"num_points": 30, **basis, **more}), operator, step=step).loss
        for more in ({}, {name: OTHER[name]})
    ]
    assert not torch.equal(*found)


# --- what a run of it keeps -------------------------------------------------------------------------------------------


def test_a_run_is_scored_on_the_problem_it_knows(tmp_path):
    run = pretrain(pinn.RECIPE, out=tmp_path)
    assert run.config["origin"]["problem"] == PretrainRecipe.read(pinn.RECIPE).seed


# --- the published failure, and a cure --------------------------------------------------------------------------------

PLAIN: dict[str, Any] = {
    "network": {"width": 50, "num_layers": 4, "periodic": False, "scaled": False, "initial": "soft"},
    "objective": {"name": "collocation", "num_points": 1000, "points": "fixed", "initial": 100.0},
    "optimizer": {"name": "lbfgs"},
}


def published(speed: float, out, *, steps: int, **training: Any) -> float:
    """Return the relative error of the last weights at a speed, on all frames."""
    own = {"num_points": 256, "extent": 2 * math.pi, "num_samples": 1, "horizon": 99}
    table = {**pinn.RECIPE["training"], "num_steps": steps, "learning_rate": 1.0, **training}
    table |= {"validate_every": steps, "checkpoint_every": steps, "log_every": 10}
    network = table.pop("network")
    run = pretrain(
        {
            "name": "published", "system": {"name": "convection", "knobs": {"speed": speed}}, "data": own,
            "model": {"kind": "coordinate", "network": network}, "training": table,
        },
        out=out,
    )  # fmt: skip
    return [event["relative_l2"] for event in run.metrics() if event["event"] == "valid"][-1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_plain_recipe_fails_at_speed_30_and_other_steps_do_not(tmp_path):
    """After arXiv:2109.01050: 4 × 50 tanh, 1,000 fixed points, L-BFGS."""
    assert published(1.0, tmp_path, steps=50, **PLAIN) < 3e-2
    assert published(30.0, tmp_path, steps=50, **PLAIN) > 0.5
    cured = {
        "network": {"width": 30, "frequencies": 8, "bandwidth": 5.0},
        "objective": {"name": "collocation", "num_points": 600},
        "optimizer": "levenberg_marquardt",
    }
    assert published(30.0, tmp_path, steps=200, **cured) < 3e-2
