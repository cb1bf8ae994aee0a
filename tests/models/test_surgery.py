"""Channel surgery keeps what it can, bit for bit, and says what it did."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import tiny
from scifm.data.normalize import fit_normalization
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.normalization import Normalization
from scifm.models.fno import FNO, FNOConfig
from scifm.models.operator import Operator
from scifm.models.surgery import fits, renamed, with_channels
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.poisson import Poisson

OLD = Signature(("f", "g"), ("a", "b"), ("u", "v"))
NEW = Signature(("h", "g"), ("b", "c"), ("w", "u"))
WALLS = replace(tiny.GRID, boundary=("periodic", "wall"))


def fno(signature: Signature = OLD, **settings) -> FNO:
    return FNO(signature, FNOConfig(**{**tiny.NETWORK, **settings}))


def blank(signature: Signature) -> Normalization:
    return Normalization.identity(
        num_inputs=len(signature.inputs),
        num_coefficients=len(signature.coefficients),
        num_outputs=len(signature.outputs),
    )


def operated(operator: Operator, signature: Signature, grid: Grid = tiny.GRID, seed: int = 5):
    generator = torch.Generator().manual_seed(seed)
    return with_channels(operator, signature, grid, blank(signature), generator=generator)


def test_known_channels_keep_their_weights_and_new_ones_are_fresh():
    old = fno()
    new, rows = operated(old, NEW)
    before, after = old.lift.weight, new.lift.weight  # f g a b  →  h g b c
    assert torch.equal(after[:, 1], before[:, 1])
    assert torch.equal(after[:, 2], before[:, 3])
    assert not any(torch.equal(after[:, fresh], before[:, kept]) for fresh in (0, 3) for kept in range(4))
    assert torch.equal(new.lift.bias, old.lift.bias)
    assert torch.equal(new.projection[1].weight[1], old.projection[1].weight[0])  # u
    assert not torch.equal(new.projection[1].weight[0], old.projection[1].weight[1])
    for name, weight in old.layers.state_dict().items():
        assert torch.equal(new.layers.state_dict()[name], weight)
    assert {(row["role"], row["name"]): row["became"] for row in rows} == {
        ("input", "h"): "added",
        ("input", "g"): "reused",
        ("coefficient", "b"): "reused",
        ("coefficient", "c"): "added",
        ("output", "w"): "added",
        ("output", "u"): "reused",
        ("input", "f"): "dropped",
        ("coefficient", "a"): "dropped",
        ("output", "v"): "dropped",
    }


def test_a_dropped_channel_is_one_that_stands_at_zero():
    old = fno()
    less = Signature(("g",), ("b",), ("u", "v"))
    new, _ = operated(old, less)
    inputs, coefficients = torch.randn(3, 1, 1, 16, 16), torch.randn(3, 1)
    zero = torch.zeros_like(inputs)
    whole = Batch(OLD, tiny.GRID, torch.cat([zero, inputs], 2), torch.cat([0 * coefficients, coefficients], 1))
    part = Batch(less, tiny.GRID, inputs, coefficients)
    torch.testing.assert_close(new.predict(part).targets, old.predict(whole).targets)


def test_the_seed_decides_fresh_weights_and_nothing_else_moves():
    old = fno()
    before = torch.get_rng_state()
    first, again, other = (operated(old, NEW, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.lift.weight, other.lift.weight)


def test_walls_add_channels_of_position():
    old = fno()
    assert fits(old, OLD, tiny.GRID)
    assert not fits(old, OLD, WALLS)
    new, rows = operated(old, OLD, WALLS)
    assert [(row["name"], row["became"]) for row in rows if row["role"] == "position"] == [
        ("y", "added"),
        ("x", "added"),
    ]
    assert torch.equal(new.lift.weight[:, [0, 1, 4, 5]], old.lift.weight)
    assert fits(new, OLD, WALLS)
    assert fits(fno(position=False), OLD, WALLS)  # somebody said that positions are not wanted


@pytest.mark.parametrize(
    ("signature", "fitting"),
    [
        (OLD, True),
        (Signature(("g", "f"), ("b",), ("v", "u")), True),  # an absent coefficient is zero
        (Signature(("f", "g"), ("a", "c"), ("u", "v")), False),
        (Signature(("f",), ("a", "b"), ("u", "v")), False),
        (Signature(("f", "g"), ("a", "b"), ("u",)), False),
        (replace(OLD, evolves=True), False),
        (replace(OLD, num_spatial_dims=1), False),
    ],
)
def test_what_fits_needs_no_surgery(signature, fitting):
    grid = Grid.square(16, num_spatial_dims=signature.num_spatial_dims)
    assert fits(fno(), signature, grid) is fitting


def test_a_renamed_operator_answers_as_before():
    system = Poisson()
    samples = system.sample(4, tiny.GRID, torch.Generator().manual_seed(0))
    normalization = fit_normalization(samples, system.homogeneities)
    operator = FNO(samples.signature, FNOConfig(**tiny.NETWORK), normalization=normalization)
    expected = operator.predict(samples).targets
    names = {"source": "forcing", "k": "diffusion_xx", "temperature": "solution"}
    new = Signature(("source",), ("k", "diffusion_yy", "diffusion_xy"), ("temperature",))
    assert renamed(operator, names).signature == new
    assert torch.equal(operator.predict(replace(samples, signature=new)).targets, expected)


def test_a_renamed_operator_measures_each_part_of_a_sum_under_its_new_names():
    system = AdvectionDiffusion()
    samples = system.sample(4, tiny.GRID, torch.Generator().manual_seed(0))
    normalization = fit_normalization(samples, system.homogeneities)
    operator = FNO(samples.signature, FNOConfig(**tiny.NETWORK), normalization=normalization)
    expected = operator.predict(samples).targets
    names = {"k": "diffusion_xx", "wind_x": "velocity_x", "wind_y": "velocity_y"}
    new = Signature(("forcing",), ("k", "diffusion_yy", "diffusion_xy", "wind_x", "wind_y"), ("solution",))
    assert renamed(operator, names).signature == new
    assert torch.equal(operator.predict(replace(samples, signature=new)).targets, expected)


@pytest.mark.parametrize(
    ("names", "words"),
    [({"x": "q"}, "'q' is unknown"), ({"b": "a"}, "one name to two"), ({"x": "a", "y": "a"}, "two new names")],
)
def test_wrong_renamings(names, words):
    with pytest.raises(ConfigError, match=words):
        renamed(fno(), names)


def test_another_dimension_and_other_kinds_are_refused():
    with pytest.raises(SignatureError, match="2 dimensions and the data have 1"):
        operated(fno(), replace(OLD, num_spatial_dims=1), Grid.square(16, num_spatial_dims=1))
    with pytest.raises(ConfigError, match="kind 'fno'"):
        operated(Operator(OLD, FNOConfig()), NEW)
