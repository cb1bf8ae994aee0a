"""Arrays by name go in, arrays by name come out: what a scientist holds, without a `Batch`."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
import xarray

import tiny
from scifm.data.normalize import fit_normalization
from scifm.distillation.compress import compress
from scifm.errors import ConfigError, DataError, OutsideWarning, SignatureError
from scifm.fields.batch import Signature
from scifm.fields.domain import Domain
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNO, FNOConfig
from scifm.models.registry import load_operator, save_operator
from scifm.models.surgery import renamed
from scifm.systems.burgers import Burgers
from scifm.systems.poisson import Poisson

STEADY = Signature(("forcing", "mask"), ("stiffness",), ("solution",))
MOVING = Signature(("velocity", "bottom"), ("viscosity",), ("velocity",), num_spatial_dims=1, evolves=True)
RNG = np.random.default_rng(0)
FORCING, MASK = RNG.normal(size=(3, 8, 10)).astype(np.float32), np.ones((8, 10), dtype=bool)


@pytest.fixture
def steady() -> FNO:
    return FNO(STEADY, FNOConfig(**tiny.NETWORK))


@pytest.fixture
def moving() -> FNO:
    made = FNO(MOVING, FNOConfig(**tiny.NETWORK, history=2))
    made.domain = Domain(lead_times=(0.25, 0.25), grid=Grid((12,), 2.0))
    return made


def test_a_single_problem_and_several_of_them(steady):
    many = steady.predict({"forcing": FORCING, "mask": MASK, "stiffness": [1.0, 2.0, 3.0]})["solution"]
    assert isinstance(many, np.ndarray)
    assert many.shape == (3, 8, 10)
    one = steady.predict({"forcing": FORCING[1], "mask": 1, "stiffness": 2})["solution"]
    assert one.shape == (8, 10)
    np.testing.assert_allclose(one, many[1], rtol=1e-5, atol=1e-6)


def test_what_comes_in_double_precision_goes_out_so_and_tensors_stay_tensors(steady):
    answer = steady.predict({"forcing": FORCING.astype(float), "mask": MASK, "stiffness": 1.0})["solution"]
    assert answer.dtype == np.float64
    tensor = steady.predict({"forcing": torch.from_numpy(FORCING), "mask": MASK, "stiffness": 1.0})["solution"]
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor, answer, atol=1e-6)
    labelled = xarray.DataArray(FORCING, dims=("sample", "y", "x"))
    np.testing.assert_array_equal(
        steady.predict({"forcing": labelled, "mask": MASK, "stiffness": 1.0})["solution"], tensor
    )


def test_a_history_goes_in_and_steps_come_out(moving):
    given = {"velocity": RNG.normal(size=(4, 2, 12)), "bottom": np.zeros(12), "viscosity": 0.1}
    assert moving.predict(given)["velocity"].shape == (4, 12)
    marched = moving.predict(given, num_steps=3)["velocity"]
    assert marched.shape == (4, 3, 12)
    one = moving.predict(given | {"velocity": given["velocity"][0]})["velocity"]
    np.testing.assert_allclose(one, marched[0, 0], rtol=1e-5, atol=1e-6)


def test_the_box_and_the_step_are_those_of_the_training_unless_others_are_given(moving):
    given = {"velocity": RNG.normal(size=(2, 12)), "bottom": 0.0, "viscosity": 0.1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moving.predict(given)
    with pytest.warns(OutsideWarning, match=r"the box is 1, periodic along x; training had 2, periodic along x"):
        moving.predict(given, extent=1.0)
    with pytest.raises(SignatureError, match="the box is 1"):
        moving.predict(given, extent=1.0, strict=True)
    with pytest.raises(SignatureError, match=r"trained at a lead time of 0\.25, and 0\.5 is asked for"):
        moving.predict(given, lead_time=0.5)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"forcng": 1.0}, SignatureError, "fields forcing, mask and coefficients stiffness.*Did you mean 'forcing'"),
        ({"mask": None}, SignatureError, "'mask' must be an array of real numbers; got object"),
        (
            {"stiffness": [[1.0]]},
            SignatureError,
            r"'stiffness' must be a number, or of shape \(sample,\); got \(1, 1\)",
        ),
        (
            {"forcing": FORCING[0, 0]},
            SignatureError,
            r"'forcing' must have shape \(y, x\), or \(sample, y, x\) of several",
        ),
        (
            {"mask": np.ones((4, 4))},
            SignatureError,
            r"the same points of space; got 'forcing' \(8, 10\), 'mask' \(4, 4\)",
        ),
        (
            {"stiffness": [1.0, 2.0]},
            SignatureError,
            "of as many samples each, or of one; got 'forcing' 3, 'stiffness' 2",
        ),
        (
            {"forcing": 1.0, "mask": 0.0},
            SignatureError,
            "must be arrays over the same points of space; got numbers only",
        ),
        ({"forcing": FORCING * np.nan}, DataError, "'forcing' is NaN or infinite at 240 of 240 places"),
        ({"forcing": FORCING * 1j}, SignatureError, "array of real numbers; got complex"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(steady, change, error, words):
    """An array in the wrong place ended in an AttributeError."""
    given = {"forcing": FORCING, "mask": MASK, "stiffness": 1.0} | change
    with pytest.raises(error, match=words):
        steady.predict(given)


def test_arguments_without_effect_are_refused(steady, moving):
    given = {"forcing": FORCING, "mask": MASK, "stiffness": 1.0}
    with pytest.raises(SignatureError, match="missing: stiffness"):
        steady.predict({"forcing": FORCING, "mask": MASK})
    with pytest.raises(ConfigError, match="of what evolves"):
        steady.predict(given, lead_time=0.1)
    with pytest.raises(ConfigError, match="A batch says itself what extent would"):
        FNO(Poisson.signature, FNOConfig(**tiny.NETWORK)).predict(tiny.batch(), extent=2.0)
    with pytest.raises(ConfigError, match="at least 1; got 0"):
        moving.predict({"velocity": np.ones((2, 12)), "bottom": 0.0, "viscosity": 0.1}, num_steps=0)


def trained(system, grid: Grid, tmp_path):
    """Return an operator whose domain is that of some samples, saved and loaded."""
    samples = system.sample(64, grid, generator_for(0, "domain"))
    normalization = fit_normalization(samples, system.homogeneities)
    settings = FNOConfig(**tiny.NETWORK).on(grid, history=1, lead_time=True) if system.signature.evolves else None
    operator = FNO(system.signature, settings or FNOConfig(**tiny.NETWORK), normalization=normalization)
    operator.domain = Domain.of(samples, normalization, lead_times=samples.lead_times)
    save_operator(operator, tmp_path / "model")
    return load_operator(tmp_path / "model")


def test_out_of_range_is_said_with_numbers(tmp_path):
    system, grid = Poisson(anisotropy=(1, 5)), Grid.square(16)
    operator = trained(system, grid, tmp_path)
    assert operator.outside(system.sample(32, grid, generator_for(1, "unseen"))) == []
    beyond = Poisson(anisotropy=(10, 20)).sample(8, grid, generator_for(1, "beyond"))
    (told,) = [sentence for sentence in operator.outside(beyond) if sentence.startswith("diffusion_yy")]
    assert re.fullmatch(r"diffusion_yy is 0\.\d+ to 0\.\d+ in \d of 8 samples; training had 0\.01 to 0\.04\d+", told)
    with pytest.warns(OutsideWarning, match=r"beyond what it was trained on: .*diffusion"):
        operator.predict(beyond)


def test_what_it_was_trained_on_stays_with_it_when_it_is_renamed_or_made_smaller(tmp_path):
    system, grid = Poisson(), Grid.square(16)
    operator = trained(system, grid, tmp_path)
    compress(tmp_path / "model", system.sample(4, grid, generator_for(1, "unseen")), tmp_path / "small")
    assert load_operator(tmp_path / "small").domain == operator.domain
    range_of_it = operator.domain.coefficients["diffusion_xx"]
    assert renamed(operator, {"kappa": "diffusion_xx"}).domain.coefficients["kappa"] == range_of_it
    assert set(operator.domain.encoded) == {*operator.signature.inputs, *operator.signature.coefficients}


def test_what_a_scaling_covers_is_no_extrapolation(tmp_path):
    """Ten times the forcing of a linear problem has ten times the solution, exactly."""
    system, grid = Poisson(), Grid.square(16)
    operator = trained(system, grid, tmp_path)
    given = dict.fromkeys(system.signature.coefficients, 1.0) | {
        name: 0.0 for name in system.signature.coefficients if name.endswith("xy")
    }
    batch = system.sample(1, grid, generator_for(2, "one"))
    given = {name: batch.coefficient(name) for name in system.signature.coefficients}
    assert operator.outside(batch) == []
    larger = operator.predict(given | {"forcing": 10 * batch.field("forcing")}, strict=True)
    torch.testing.assert_close(
        larger["solution"], 10 * operator.predict(given | {"forcing": batch.field("forcing")})["solution"]
    )


def test_beside_the_size_of_the_fields(tmp_path):
    """A viscosity like those of the training is small beside a velocity that is a hundred times theirs."""
    system, grid = Burgers(num_frames=2), Grid.square(32, num_spatial_dims=1)
    operator = trained(system, grid, tmp_path)
    batch = system.sample(4, grid, generator_for(3, "few"))
    assert operator.outside(batch) == []
    given = {"viscosity": batch.coefficient("viscosity"), "velocity": 100 * batch.field("velocity")}
    with pytest.warns(OutsideWarning, match=r"viscosity is .* which beside the size of the fields is beyond training"):
        operator.predict(given)


def test_a_masked_number_is_no_number(steady):
    hidden = np.zeros((8, 10), dtype=bool)
    hidden[2, 3] = True
    asked = {"mask": MASK, "stiffness": 2.0}
    filled = np.where(hidden, np.float32(9.96921e36), FORCING[0])  # what netCDF4 leaves under its masks
    with pytest.raises(DataError, match="'forcing' is NaN or infinite at 1 of 80 places"):
        steady.predict({**asked, "forcing": np.ma.masked_array(filled, hidden)})
    with pytest.raises(DataError, match="'mask' is NaN or infinite at 1 of 80 places"):
        steady.predict({**asked, "forcing": FORCING[0], "mask": np.ma.masked_array(MASK, hidden)})
    given = np.ma.masked_array(FORCING[0], mask=False)
    expected = steady.predict({**asked, "forcing": FORCING[0]})["solution"]
    np.testing.assert_array_equal(steady.predict({**asked, "forcing": given})["solution"], expected)


@pytest.mark.parametrize("dims", [("y", "x"), ("lat", "lon"), ("Y", "X")])
def test_axes_are_found_by_the_names_of_dimensions(steady, moving, dims):
    field = xarray.DataArray(FORCING, dims=("case", *dims))
    asked = {"mask": MASK, "stiffness": 2.0}
    expected = steady.predict({**asked, "forcing": FORCING})["solution"]
    turned = steady.predict({**asked, "forcing": field.transpose(dims[1], "case", dims[0])})["solution"]
    np.testing.assert_array_equal(turned, expected)
    history = RNG.normal(size=(2, 12))
    asked = {"bottom": np.zeros(12), "viscosity": 0.1}
    named = xarray.DataArray(history, dims=("time", "x")).transpose("x", "time")
    expected = moving.predict({**asked, "velocity": history})["velocity"]
    np.testing.assert_array_equal(moving.predict({**asked, "velocity": named})["velocity"], expected)


def test_dimensions_without_a_known_name_stay_as_they_are(steady):
    asked = {"mask": MASK, "stiffness": 2.0}
    named = xarray.DataArray(FORCING[0], dims=("row", "column"))
    expected = steady.predict({**asked, "forcing": FORCING[0]})["solution"]
    np.testing.assert_array_equal(steady.predict({**asked, "forcing": named})["solution"], expected)
