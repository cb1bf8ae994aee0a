"""Fields that hold means, values at walls, no divergence and rows: together, nearest, exact, and what cannot hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from scifm.config import build_config, dump_toml
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.holding import Holding, Holds, Rows
from scifm.fields.norms import integral, mean
from scifm.fields.seeds import generator_for
from scifm.fields.signature import Signature
from scifm.fields.spectral import divergence, spread_of

WALLED = Grid((7, 9), (1.0, 2.0), ("open", "wall"))
SQUARE = Grid((8, 10), (1.0, 1.5))
FLOW = Signature(("u", "v"), (), ("u", "v"), evolves=True)
HEAT = Signature(("f",), (), ("t", "q"))

FREE = Holds(solenoidal=("u", "v"), mean={"u": 0.3})
WITH_ROWS = Holds(
    solenoidal=("u", "v"),
    mean={"u": "kept"},
    rows=(Rows.of(("u", "v"), torch.randn(3, 160, generator=generator_for(0, "rows")), [0.1, -0.2, 0.5]),),
)
ENDS = Holds(boundary={"t": {"x": (0.0, 1.0), "y": "free"}}, mean={"t": 0.25, "q": 0.0})
KEPT = Holds(boundary={"u": {"x": "kept"}, "v": {"x": 0.0, "y": (0.0, "free")}}, mean={"v": 1.0})


def fields(grid, num_fields=2, *, dtype=torch.float64, num_samples=3):
    drawn = torch.randn(num_samples, num_fields, *grid.num_points, generator=generator_for(0, "held"), dtype=dtype)
    return 2 * drawn + 1


def free_ways(holding, grid):
    """Return what a field may be moved by without touching what holds: columns of the layer's matrix."""
    n = 2 * grid.num_points[0] * grid.num_points[1]
    state = torch.zeros(2, *grid.num_points, dtype=torch.float64)
    eye = torch.eye(n, dtype=torch.float64).view(n, 2, *grid.num_points)
    none = torch.zeros(2, *grid.num_points, dtype=torch.float64)
    return (holding.nearest(eye, state) - holding.nearest(none, state)).flatten(1)


cases = pytest.mark.parametrize(
    ("holds", "signature", "grid"),
    [(FREE, FLOW, SQUARE), (WITH_ROWS, FLOW, SQUARE), (ENDS, HEAT, WALLED), (KEPT, FLOW, WALLED)],
    ids=["divergence", "rows", "ends", "kept"],
)


@cases
def test_it_is_idempotent_and_the_nearest_point(holds, signature, grid):
    holding = Holding(holds, signature, grid)
    given, state = fields(grid), fields(grid).flip(0)
    held = holding.nearest(given, state)
    torch.testing.assert_close(holding.nearest(held, state), held, rtol=0, atol=1e-12)
    # nearest in the norm of the integral: the way there is at right angles to every way that is free
    weights = integral(torch.eye(held[0, 0].numel(), dtype=torch.float64).view(-1, *grid.num_points), grid)
    ways = free_ways(holding, grid)
    assert torch.linalg.matrix_rank(ways) > 20
    assert (((held - given).flatten(1) * weights.repeat(2)) @ ways.T).abs().max() < 1e-12


@cases
def test_gradients_are_those_of_the_layer(holds, signature, grid):
    holding = Holding(holds, signature, grid)
    given = fields(grid, num_samples=1).requires_grad_()
    state = fields(grid, num_samples=1).flip(-1).requires_grad_()
    inputs = (given, state) if holds.kept else (given,)
    assert torch.autograd.gradcheck(holding.nearest, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *parts: holding.nearest(*parts).square(), inputs, fast_mode=True)


@cases
def test_gradients_lead_nowhere_else(holds, signature, grid):
    """What a loss says of the answer is projected alike, so that a step of training changes nothing that holds."""
    holding = Holding(holds, signature, grid)
    given = fields(grid, num_samples=1).requires_grad_()
    held = holding.nearest(given, fields(grid, num_samples=1))
    (slope,) = torch.autograd.grad(held.pow(4).sum(), given)
    ways = free_ways(holding, grid)
    torch.testing.assert_close(slope.flatten(), ways @ (4 * held.detach().flatten() ** 3), rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_in_single_precision_all_holds_to_a_millionth_of_the_field(size):
    given = size * fields(SQUARE, dtype=torch.float32)
    holds = Holds(solenoidal=("u", "v"), mean={"u": 0.0, "v": "kept"})
    held = Holding(holds, FLOW, SQUARE).nearest(given, given)
    rms = held.double().square().mean().sqrt()
    assert held.dtype == torch.float32
    assert mean(held[:, 0].double(), SQUARE).abs().max() < 1e-6 * rms
    assert (mean(held[:, 1].double(), SQUARE) - mean(given[:, 1].double(), SQUARE)).abs().max() < 1e-6 * rms
    parts = [held[:, 0].double(), held[:, 1].double()]
    assert spread_of(parts, SQUARE).max() < 1e-6
    assert spread_of([given[:, 0].double(), given[:, 1].double()], SQUARE).min() > 0.1
    assert divergence(parts[::-1], SQUARE).abs().max() * min(SQUARE.spacing) < 1e-6 * rms


def test_values_at_walls_are_set_and_a_mean_is_met_inside():
    given = fields(WALLED)
    held = Holding(ENDS, HEAT, WALLED).nearest(given)
    assert (held[:, 0, :, 0] == 0).all()
    assert (held[:, 0, :, -1] == 1).all()
    torch.testing.assert_close(mean(held, WALLED), torch.tensor([0.25, 0.0], dtype=torch.float64).expand(3, 2))
    for place, edges in ((0, slice(1, -1)), (1, slice(None))):  # what is left moves by one number
        moved = (held - given)[:, place, :, edges].flatten(1)
        torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), rtol=0, atol=1e-12)


def test_what_is_kept_is_that_of_the_input():
    given, state = fields(WALLED), fields(WALLED).flip(0)
    held = Holding(KEPT, FLOW, WALLED).nearest(given, state)
    assert torch.equal(held[:, 0][..., [0, -1]], state[:, 0][..., [0, -1]])
    assert (held[:, 1, 0] == 0).all()
    assert (held[:, 1][..., [0, -1]] == 0).all()
    assert (held[:, 1, -1, 1:-1] != 0).all(), "an end that is free is not set"


def test_rows_hold_beside_the_divergence():
    rows = torch.tensor(WITH_ROWS.rows[0].rows, dtype=torch.float64)
    given = fields(SQUARE)
    held = Holding(WITH_ROWS, FLOW, SQUARE).nearest(given, given)
    asked = torch.tensor([0.1, -0.2, 0.5], dtype=torch.float64)
    torch.testing.assert_close(held.flatten(1) @ rows.T, asked.expand(3, 3), rtol=0, atol=1e-11)
    assert divergence([held[:, 1], held[:, 0]], SQUARE).abs().max() < 1e-12


def test_an_output_that_a_sample_lacks_stays_as_it_is():
    signature = Signature(("u", "v", "s"), (), ("u", "v", "s"), evolves=True)
    holds = Holds(solenoidal=("u", "v"), mean={"s": 1.0})
    there = torch.tensor([[True, True, False], [False, False, True]])
    batch = Batch(signature, SQUARE, fields(SQUARE, 3, num_samples=2).unsqueeze(1) * there[:, None, :, None, None],
                  torch.zeros(2, 0, dtype=torch.float64), present=there)  # fmt: skip
    answer = batch.inputs.clone()
    held = Holding(holds, signature, SQUARE)(answer, batch)
    assert (held[0, 0, 2] == 0).all()
    assert (held[1, 0, :2] == 0).all()
    assert mean(held[1, 0, 2], SQUARE) == pytest.approx(1.0)
    assert spread_of([held[0, 0, 0], held[0, 0, 1]], SQUARE) < 1e-12


def test_it_is_written_and_read_again():
    tree = {"hold": WITH_ROWS.to_dict()}
    assert dump_toml(tree)
    assert build_config(Holds, tree["hold"]) == WITH_ROWS
    assert ENDS.to_dict() == {"mean": {"t": 0.25, "q": 0.0}, "boundary": {"t": {"x": [0.0, 1.0], "y": "free"}}}
    assert Holds.model_validate(ENDS.to_dict()) == ENDS


def test_names_go_with_the_operator():
    called = WITH_ROWS.renamed(lambda name: name * 2)
    assert called.outputs == ("uu", "vv")
    assert called.rows[0].outputs == ("uu", "vv")
    other = Signature(("u", "w"), (), ("u", "w"), evolves=True)
    assert WITH_ROWS.within(other) == Holds(mean={"u": "kept"})
    assert FREE.within(Signature(("f",), (), ("w",))) is None
    assert Holds(mean={"u": "kept"}).within(Signature(("f",), (), ("u",))) is None, "there is no input to keep"


RING = Grid((8,))
ONE = Signature(("f",), (), ("t",), 1)


@pytest.mark.parametrize(
    ("made", "error", "told"),
    [
        (lambda: Holding(Holds(mean={"w": 0.0}), HEAT, WALLED), ConfigError, "hold names outputs of the operator: 'w'"),
        (lambda: Holding(Holds(mean={"t": "kept"}), HEAT, WALLED), ConfigError, "'t' is in the input, and it is an"),
        (lambda: Holding(Holds(solenoidal=("t",)), HEAT, SQUARE), ConfigError, "has 2 components here, along x, y"),
        (lambda: Holding(Holds(solenoidal=("t", "q")), HEAT, WALLED), SignatureError, "periodic on every axis"),
        (lambda: Holding(ENDS, HEAT, SQUARE), ConfigError, "ends of x, which wraps around"),
        (lambda: Holding(Holds(boundary={"t": {"y": 0.0}}), ONE, Grid((8,), 1.0, "wall")), ConfigError, "axis 'y'"),
        (
            lambda: Holding(Holds(boundary={"t": {"x": 0.0, "y": 1.0}}), HEAT, WALLED),
            ConfigError,
            "two things where ends of y and x meet",
        ),
        (
            lambda: Holding(Holds(rows=(Rows.of("t", np.ones((1, 8)), 0.0),), mean={"t": 1.0}), ONE, RING),
            ConfigError,
            "contradicts itself: the mean of t, row 0 of t cannot have",
        ),
        (
            lambda: Holding(Holds(boundary={"t": {"x": 0.0}}, mean={"t": 1.0}), ONE, Grid((2,), 1.0, "wall")),
            ConfigError,
            "contradicts itself: the mean of t",
        ),
        (
            lambda: Holding(Holds(rows=(Rows.of("t", np.eye(8), np.zeros(8)),), mean={"t": 0.0}), ONE, RING),
            ConfigError,
            "9 rows for 8 numbers",
        ),
        (
            lambda: Holding(Holds(rows=(Rows.of("t", np.ones((1, 9)), 0.0),)), ONE, RING),
            SignatureError,
            "have 8 numbers on 8 points; got rows of 9",
        ),
        (lambda: Rows.of("t", [[1.0, float("nan")]], 0.0), ConfigError, "are finite numbers; got NaN"),
        (lambda: Rows.of("t", np.ones((2, 8)), [0.0]), ConfigError, "2 rows need as many values; got 1"),
        (lambda: Rows.of("t", np.ones((9, 30000)), 0.0), ConfigError, "rows of 270,000 numbers are too many"),
        (lambda: build_config(Holds, {}), ConfigError, "hold says of no output what holds"),
        (lambda: build_config(Holds, {"mean": {"t": "some"}}), ConfigError, "kept"),
        (lambda: Holds(mean={"t": float("inf")}), ValidationError, "finite"),
        (lambda: build_config(Holds, {"boundary": {"t": {"w": 0.0}}}), ConfigError, "boundary"),
    ],
)
def test_what_cannot_hold_is_refused(made, error, told):
    with pytest.raises(error, match=told):
        made()
