"""Encoding undoes exactly what physics allows: a problem scaled by a homogeneity looks the same to the network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from scifm.data.normalize import fit_normalization
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Normalization
from scifm.fields.seeds import generator_for

GRID = Grid((12, 10), (1.0, 1.5), (True, True))
SAMPLES = {
    name: cls().sample(6, GRID, generator_for(0, "scaling", name), dtype=torch.float64)
    for name, cls in tiny.STEADY.items()
}


def scaled(batch: Batch, homogeneity: Homogeneity, factors: torch.Tensor) -> Batch:
    """Return the problems with every named quantity multiplied by factor**exponent, sample by sample."""

    def powers(names: tuple[str, ...]) -> torch.Tensor:
        return torch.stack([factors ** homogeneity.exponent(name) for name in names], dim=1)

    spread = lambda p: p.view(len(factors), 1, -1, 1, 1)  # noqa: E731
    return replace(
        batch,
        inputs=batch.inputs * spread(powers(batch.signature.inputs)),
        coefficients=batch.coefficients * powers(batch.signature.coefficients),
        targets=batch.require_targets() * spread(powers(batch.signature.outputs)),
    )


@pytest.mark.parametrize("kind", ["homogeneous", "joint"])
@pytest.mark.parametrize("name", tiny.STEADY)
@settings(max_examples=15)
@given(exponents=st.lists(st.floats(-3, 3), min_size=6, max_size=6), which=st.integers(0, 9))
def test_a_scaled_problem_is_encoded_alike_and_its_answer_scales(name, kind, exponents, which):
    system, batch = tiny.STEADY[name], SAMPLES[name]
    normalization = fit_normalization(batch, system.homogeneities, kind=kind)
    groups = normalization.homogeneities
    homogeneity = groups[which % len(groups)]
    factors = 10.0 ** torch.tensor(exponents, dtype=torch.float64)
    before, after = normalization.encode(batch), normalization.encode(scaled(batch, homogeneity, factors))
    torch.testing.assert_close(after.inputs, before.inputs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(after.coefficients, before.coefficients, rtol=1e-12, atol=1e-12)
    power = torch.stack([factors ** homogeneity.exponent(output) for output in system.signature.outputs], dim=1)
    torch.testing.assert_close(after.output_scale, before.output_scale * power.view(6, 1, -1, 1, 1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", tiny.STEADY)
def test_what_is_declared_is_true_of_the_equation(name):
    """A declared scaling must turn a solution into a solution, or the encoding above would be a lie."""
    system, batch = tiny.STEADY[name](), SAMPLES[name]
    factors = torch.tensor([0.1, 0.5, 1.0, 2.0, 7.0, 30.0], dtype=torch.float64)
    for homogeneity in system.homogeneities:
        problem = scaled(batch, homogeneity, factors)
        residual = system.residual(problem).flatten(1).norm(dim=1) / problem.inputs.flatten(1).norm(dim=1)
        assert float(residual.max()) < 1e-9, homogeneity


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("extent", [(1.0, 1.0), (0.7, 3.1)])
def test_an_operator_in_other_units_is_the_same_to_the_network_bit_by_bit(extent, dtype):
    """K and v times s, u over s: powers of two leave no rounding to hide behind."""
    system = tiny.STEADY["advection_diffusion"]()
    batch = system.sample(6, Grid((12, 10), extent, (True, True)), generator_for(1), dtype=dtype)
    normalization = fit_normalization(batch, system.homogeneities)
    factors = 2.0 ** torch.tensor([-9, -4, -1, 0, 3, 8], dtype=dtype)
    problem = scaled(batch, system.homogeneities[1], factors)
    assert torch.equal(problem.coefficients, batch.coefficients * factors[:, None])
    before, after = normalization.encode(batch), normalization.encode(problem)
    assert torch.equal(after.inputs, before.inputs)
    assert torch.equal(after.coefficients, before.coefficients)
    answer = torch.randn(batch.require_targets().shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    assert torch.equal(after.decode(answer) * factors.view(6, 1, 1, 1, 1), before.decode(answer))


def test_lengths_in_other_units_are_the_same_to_the_network():
    """A box twice as long with 4 K and 2 v has the same waves: what is encoded differs by constants only."""
    system, batch = tiny.STEADY["advection_diffusion"](), SAMPLES["advection_diffusion"]
    units = torch.tensor([4.0, 4.0, 4.0, 2.0, 2.0], dtype=torch.float64)
    grid = Grid(GRID.num_points, tuple(2 * side for side in GRID.extent), GRID.periodic)
    longer = replace(batch, grid=grid, coefficients=batch.coefficients * units)
    encoded, again = (fit_normalization(b, system.homogeneities).encode(b) for b in (batch, longer))
    torch.testing.assert_close(again.coefficients, encoded.coefficients, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(again.output_scale, encoded.output_scale, rtol=1e-12, atol=0)


def test_a_normalization_saved_before_transport_was_counted_is_read_as_it_was():
    """The file tells the measure, so an operator keeps the numbers that its weights were trained with."""
    names = ("diffusion_xx", "diffusion_yy", "diffusion_xy", "velocity_x", "velocity_y")
    entries = {
        "kind": "homogeneous",
        "homogeneities": [
            {"exponents": {"forcing": 1.0, "solution": 1.0}, "gauge": ["forcing"], "measure": "rms"},
            {
                "exponents": {**dict.fromkeys(names, 1.0), "solution": -1.0},
                "gauge": list(names[:3]),
                "measure": "geometric_mean",
            },
        ],
        "gauge_sizes": [0.25, 0.5],
        "input_shift": [0.0], "input_scale": [1.0], "coefficient_shift": [0.0] * 5, "coefficient_scale": [1.0] * 5,
        "output_shift": [0.0], "output_scale": [1.0],
    }  # fmt: skip
    normalization = Normalization.from_dict(entries)
    assert normalization.to_dict() == entries
    batch = SAMPLES["advection_diffusion"]
    xx, yy, xy = (batch.coefficient(name) for name in names[:3])
    factor = (xx * yy - xy**2).sqrt()[:, None] / 0.5
    torch.testing.assert_close(normalization.encode(batch).coefficients, batch.coefficients / factor)


def small(num_samples: int = 2) -> Batch:
    signature = Signature(("f", "g"), ("a",), ("u",))
    inputs = torch.arange(1.0, 1 + num_samples * 8).view(num_samples, 1, 2, 2, 2)
    return Batch(signature, Grid.square(2), inputs, torch.arange(float(num_samples))[:, None] + 5)


def constants(**numbers: tuple[float, ...]) -> Normalization:
    return Normalization((), (), **numbers, kind="constant")


def test_constants_by_hand():
    batch = small()
    normalization = constants(
        input_shift=(0.5, 0.0), input_scale=(2.0, 4.0), coefficient_shift=(5.0,), coefficient_scale=(10.0,),
        output_shift=(1.5,), output_scale=(3.0,),
    )  # fmt: skip
    encoded = normalization.encode(batch)
    assert torch.equal(encoded.inputs[:, :, 0], (batch.inputs[:, :, 0] - 0.5) / 2)
    assert torch.equal(encoded.inputs[:, :, 1], batch.inputs[:, :, 1] / 4)
    assert encoded.coefficients.tolist() == [[0.0], pytest.approx([0.1])]
    assert encoded.output_scale.shape == (2, 1, 1, 1, 1)
    assert encoded.output_scale.flatten().tolist() == [3.0, 3.0]
    assert torch.equal(encoded.decode(torch.ones(2, 1, 1, 2, 2)), torch.full((2, 1, 1, 2, 2), 4.5))


def test_a_state_is_answered_as_its_change():
    signature = Signature(("u", "mask", "v"), (), ("v", "w", "u"), evolves=True)
    inputs = torch.randn(2, 1, 3, 4, 5)
    batch = Batch(signature, Grid((4, 5), (1.0, 1.0), (True, True)), inputs, torch.zeros(2, 0))
    encoded = constants(
        input_shift=(0.0,) * 3, input_scale=(2.0,) * 3, coefficient_shift=(), coefficient_scale=(),
        output_shift=(0.0, 7.0, 0.0), output_scale=(10.0, 20.0, 30.0),
    ).encode(batch)  # fmt: skip
    answer = encoded.decode(torch.ones(2, 1, 3, 4, 5))
    torch.testing.assert_close(answer[:, :, 0], inputs[:, :, 2] + 10)
    torch.testing.assert_close(answer[:, :, 1], torch.full((2, 1, 4, 5), 27.0))
    torch.testing.assert_close(answer[:, :, 2], inputs[:, :, 0] + 30)


def test_targets_play_no_part_in_encoding():
    batch = SAMPLES["poisson"]
    normalization = fit_normalization(batch, tiny.STEADY["poisson"].homogeneities)
    with_targets, without = normalization.encode(batch), normalization.encode(batch.with_targets(None))
    for part in ("inputs", "coefficients", "output_scale"):
        assert torch.equal(getattr(with_targets, part), getattr(without, part))


def test_the_identity_changes_nothing():
    batch = small()
    encoded = Normalization.identity(num_inputs=2, num_coefficients=1, num_outputs=1).encode(batch)
    assert torch.equal(encoded.inputs, batch.inputs)
    assert torch.equal(encoded.coefficients, batch.coefficients)
    assert torch.equal(encoded.output_scale, torch.ones(2, 1, 1, 1, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_of_the_batch_is_kept(dtype):
    batch = SAMPLES["helmholtz"].to(dtype=dtype)
    encoded = fit_normalization(batch, tiny.STEADY["helmholtz"].homogeneities).encode(batch)
    assert encoded.inputs.dtype == encoded.coefficients.dtype == encoded.output_scale.dtype == dtype


@pytest.mark.parametrize("name", tiny.STEADY)
@pytest.mark.parametrize("kind", ["homogeneous", "joint", "constant"])
def test_goes_round_through_plain_values(kind, name):
    normalization = fit_normalization(SAMPLES[name], tiny.STEADY[name].homogeneities, kind=kind)
    assert Normalization.from_dict(normalization.to_dict()) == normalization


ONE = Normalization.identity(num_inputs=1, num_coefficients=0, num_outputs=1)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_divisor_must_be_positive_and_finite(bad):
    with pytest.raises(ConfigError, match="positive and finite"):
        replace(ONE, input_scale=(bad,))


def test_every_homogeneity_needs_its_size():
    homogeneity = tiny.STEADY["poisson"].homogeneities[0]
    with pytest.raises(ConfigError, match="one gauge size for each"):
        replace(ONE, homogeneities=(homogeneity,))
