"""``scifm predict``: a file of arrays in, a file of answers out, with names, axes, times and units."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray

import tiny
from scifm.data.generate import generate
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.registry import load_operator
from scifm.systems.burgers import Burgers
from scifm.systems.catalog import SYSTEMS
from scifm.systems.poisson import Poisson
from scifm.training.pretrain import pretrain

SPACE = 16


@pytest.fixture(scope="module")
def steady(tmp_path_factory) -> Path:
    return pretrain(tiny.recipe(training={"num_steps": 2}), out=tmp_path_factory.mktemp("steady")).path


@pytest.fixture(scope="module")
def moving(tmp_path_factory) -> Path:
    return pretrain({**tiny.EVOLVING, "name": "moving"}, out=tmp_path_factory.mktemp("moving")).path


@pytest.fixture(scope="module")
def union(tmp_path_factory) -> Path:
    """Burgers and heat in one network, which have no field in common."""
    both = [{"name": "burgers"}, {"name": "heat", "options": {"num_spatial_dims": 1}}]
    tree = {**tiny.EVOLVING, "name": "union", "mixture": both, "data": {**tiny.EVOLVING["data"], "history": 1}}
    del tree["system"]
    return pretrain(tree, out=tmp_path_factory.mktemp("union")).path


@pytest.fixture
def problem() -> dict[str, np.ndarray]:
    """Three problems of Poisson, without a solution."""
    batch = tiny.batch(3)
    names = batch.signature
    given = {name: batch.coefficient(name).numpy() for name in names.coefficients}
    return given | {name: batch.field(name)[:, 0].numpy() for name in names.inputs}


def netcdf(path: Path, problem: dict[str, np.ndarray], *, axes: tuple[str, ...] = ("sample", "y", "x")) -> Path:
    points = np.arange(SPACE) / SPACE
    variables = {
        name: (axes if values.ndim > 1 else axes[:1], values, {"units": "W m-3"} if name == "forcing" else {})
        for name, values in problem.items()
    }
    xarray.Dataset(variables, {"x": ("x", points, {"units": "m"}), "y": ("y", points)}).to_netcdf(path)
    return path


def test_a_file_of_inputs_is_answered_as_arrays_are(scifm, steady, problem, tmp_path):
    out = tmp_path / "answer.nc"
    said = scifm("predict", steady, "--input", netcdf(tmp_path / "in.nc", problem), "--out", out, "--json")
    assert said.status == 0, said.err
    assert json.loads(said.out)["sizes"] == {"trajectory": 3, "y": SPACE, "x": SPACE}
    expected = load_operator(steady).predict(problem)["solution"]
    with xarray.open_dataset(out) as answer:
        np.testing.assert_allclose(answer["solution"], expected, rtol=1e-6)
        assert answer["x"].attrs["units"] == "m"
        assert answer["solution"].dims == ("trajectory", "y", "x")
    np.savez(tmp_path / "in.npz", **problem, x=np.arange(SPACE) / SPACE)
    assert scifm("predict", steady, "--input", tmp_path / "in.npz", "--out", tmp_path / "answer.npz").status == 0
    with np.load(tmp_path / "answer.npz") as answer:
        np.testing.assert_allclose(answer["solution"], expected, rtol=1e-6)


def test_axes_may_stand_in_any_order_and_one_problem_needs_none_of_samples(scifm, steady, problem, tmp_path):
    turned = {name: v.transpose(2, 0, 1) if v.ndim > 1 else v for name, v in problem.items()}
    variables = {name: (("x", "sample", "y") if v.ndim > 1 else ("sample",), v) for name, v in turned.items()}
    xarray.Dataset(variables).to_netcdf(tmp_path / "turned.nc")
    one = {name: v[0] for name, v in problem.items()}
    xarray.Dataset({name: (("y", "x") if v.ndim else (), v) for name, v in one.items()}).to_netcdf(tmp_path / "one.nc")
    expected = load_operator(steady).predict(problem)["solution"]
    for name, wanted in (("turned", expected), ("one", expected[0])):
        said = scifm("predict", steady, "--input", tmp_path / f"{name}.nc", "--out", tmp_path / "out.nc")
        assert said.status == 0, said.err
        with xarray.open_dataset(tmp_path / "out.nc") as answer:
            np.testing.assert_allclose(answer["solution"], wanted, rtol=1e-5, atol=1e-7)


def test_what_evolves_is_marched_from_the_last_frames(scifm, moving, tmp_path):
    counts = {"train": 1, "valid": 1, "test": 3}
    store = generate(Burgers(num_frames=6), num_samples=counts, num_points=SPACE, path=tmp_path / "store")
    out = tmp_path / "ahead.nc"
    said = scifm("predict", moving, "--input", store.path, "--out", out, "--steps", 4)
    assert said.status == 0, said.err
    with store.to_xarray("test") as view:
        given = {"velocity": view["velocity"].values[:, -2:], "viscosity": view["viscosity"].values}
    expected = load_operator(moving).predict(given, num_steps=4)["velocity"]
    with xarray.open_dataset(out) as answer:
        assert answer["velocity"].dims == ("trajectory", "time", "x")
        np.testing.assert_allclose(answer["time"], [0.3, 0.35, 0.4, 0.45])
        np.testing.assert_allclose(answer["velocity"], expected, rtol=1e-5, atol=1e-6)


def test_a_number_serves_for_what_the_file_lacks_and_other_names_are_told(scifm, steady, problem, tmp_path):
    renamed = {("f" if name == "forcing" else name): v for name, v in problem.items() if name != "diffusion_xy"}
    file, out = netcdf(tmp_path / "in.nc", renamed), tmp_path / "out.nc"
    told = ("--set", "rename.forcing=f", "--set", "values.diffusion_xy=0")
    assert scifm("predict", steady, "--input", file, "--out", out, *told).status == 0
    said = scifm("predict", steady, "--input", file, "--out", out, *told[2:])
    assert said.status == 2
    assert "'forcing' is unknown" in said.told
    assert "--set rename.NAME" in said.told
    said = scifm("predict", steady, "--input", file, "--out", out, *told[:2], "--set", "values.diffusion=0")
    assert said.status == 2
    assert "Did you mean 'diffusion_" in said.told


def test_out_of_range_is_told_and_refused_where_asked(scifm, steady, tmp_path):
    batch = Poisson(anisotropy=(15, 20)).sample(3, tiny.GRID, generator_for(0, "far"))
    names = batch.signature
    far = {name: batch.coefficient(name).numpy() for name in names.coefficients}
    far |= {name: batch.field(name)[:, 0].numpy() for name in names.inputs}
    file, out = netcdf(tmp_path / "far.nc", far), tmp_path / "out.nc"
    said = scifm("predict", steady, "--input", file, "--out", out)
    assert said.status == 0
    assert "outside of what the model was trained on: diffusion" in said.err
    with xarray.open_dataset(out) as answer:
        assert "training had" in answer.attrs["outside_of_training"]
    said = scifm("predict", steady, "--input", file, "--out", out, "--set", "split=train")
    assert said.status == 2
    assert "split = 'train' would have no effect" in said.told
    out.unlink()
    said = scifm("predict", steady, "--input", file, "--out", out, "--set", "strict=true")
    assert said.status == 2
    assert not out.exists()


@pytest.mark.parametrize(
    ("out", "axes", "words"),
    [
        ("answer.txt", ("sample", "y", "x"), "Predictions are written as .nc or .nc4 or .npz; got 'answer.txt'"),
        ("answer.nc", ("sample", "a", "b"), "its axes are not known"),
        ("answer.nc", ("time", "y", "x"), "have an axis of time, and the model answers what does not evolve"),
    ],
)
def test_mistakes_are_told_in_a_sentence(scifm, steady, problem, tmp_path, out, axes, words):
    fields = {name: values for name, values in problem.items() if values.ndim > 1}
    xarray.Dataset({name: (axes, values) for name, values in fields.items()}).to_netcdf(tmp_path / "in.nc")
    numbers = [("--set", f"values.{name}=1") for name in problem if name not in fields]
    said = scifm("predict", steady, "--input", tmp_path / "in.nc", "--out", tmp_path / out, *sum(numbers, ()))
    assert said.status == 2, said.err
    assert words in said.told


def test_what_is_read_is_never_written_over_or_added_to(scifm, steady, problem, tmp_path):
    (tmp_path / "own").mkdir()
    source = netcdf(tmp_path / "own" / "in.nc", problem)
    before = source.read_bytes()
    (tmp_path / "other.nc").hardlink_to(source)
    for out in (source, tmp_path / "other.nc", tmp_path / "own" / ".." / "own" / "in.nc"):
        said = scifm("predict", steady, "--input", source, "--out", out)
        assert said.status == 2
        assert "is the file that is read, and would be lost" in said.told
    said = scifm("predict", steady, "--input", source.parent, "--out", source.parent / "answer.nc")
    assert "which is read as a whole: write the answers elsewhere" in said.told
    assert source.read_bytes() == before
    assert list(source.parent.iterdir()) == [source]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("forcing", np.ones(SPACE), "'forcing' of 'in.npz' has shape (16,) and its axes are not known"),
        ("diffusion_xx", np.nan, "'diffusion_xx' of 'in.npz' is nan, no finite number"),
        ("diffusion_xx", np.inf, "'diffusion_xx' of 'in.npz' is inf, no finite number"),
        ("diffusion_xx", "one", "'diffusion_xx' of 'in.npz' holds <U3, not real numbers"),
    ],
)
def test_a_value_that_cannot_be_used_is_told_as_what_it_is(
    scifm, steady, problem, tmp_path, monkeypatch, name, value, words
):
    monkeypatch.chdir(tmp_path)
    np.savez("in.npz", **{**{key: own[0] for key, own in problem.items()}, name: value})
    said = scifm("predict", steady, "--input", "in.npz", "--out", "answer.npz")
    assert said.status == 2, said.err
    assert words in said.told


def test_a_nan_is_told(scifm, steady, problem, tmp_path):
    problem["forcing"][1, 2, 3] = np.nan
    said = scifm("predict", steady, "--input", netcdf(tmp_path / "in.nc", problem), "--out", tmp_path / "out.nc")
    assert said.status == 2
    assert "'forcing' is NaN or infinite at 1 of 768 places" in said.told


@pytest.mark.parametrize(("name", "field"), [("burgers", "velocity"), ("heat", "temperature")])
def test_of_several_systems_the_one_that_the_file_holds_is_answered(scifm, union, tmp_path, name, field):
    options = {"num_frames": 3} | ({"num_spatial_dims": 1} if name == "heat" else {})
    batch = SYSTEMS[name](**options).sample(3, Grid.square(16, num_spatial_dims=1), generator_for(0, "file"))
    (number,) = batch.signature.coefficients
    arrays = {field: batch.field(field)[:, 0].numpy(), number: batch.coefficient(number).numpy()}
    np.savez(tmp_path / "in.npz", **arrays)
    said = scifm("predict", union, "--input", tmp_path / "in.npz", "--out", tmp_path / "out.npz", "--steps", 2)
    assert said.status == 0, said.err
    with np.load(tmp_path / "out.npz") as answered:
        assert field in answered
        expected = load_operator(union).predict(arrays, num_steps=2)[field]
        np.testing.assert_allclose(answered[field].squeeze(), expected, rtol=1e-5)


def test_what_no_system_of_several_asks_for_is_told(scifm, union, tmp_path):
    np.savez(tmp_path / "in.npz", pressure=np.ones((2, 16)))
    said = scifm("predict", union, "--input", tmp_path / "in.npz", "--out", tmp_path / "out.npz")
    assert said.status == 2
    assert "The model is given" in said.err


@pytest.fixture
def calibrated(steady, tmp_path) -> Path:
    own = tmp_path / "own"
    load_operator(steady).save_pretrained(own)
    return own


def test_a_calibrated_model_answers_with_bands(scifm, calibrated, problem, tmp_path):
    source, out = netcdf(tmp_path / "in.nc", problem), tmp_path / "answer.nc"
    asked = ("predict", calibrated, "--input", source, "--out", out, "--level", 0.8)
    none = scifm(*asked)
    assert (none.status, "scifm calibrate" in none.told) == (2, True)
    assert not out.exists()
    poisson = ("--system", "poisson", "--knob", "anisotropy=1,5", "--set", f"num_points={SPACE}", "--num-samples", 24)
    said = scifm("calibrate", calibrated, *poisson, "--level", 0.8)
    assert said.status == 0, said.err
    assert "0.8 of bands hold the whole field" in said.out
    assert "24: system poisson, anisotropy 1 to 5" in said.out
    assert scifm(*asked).status == 0
    with xarray.open_dataset(out) as answer:
        assert {"solution", "solution_low", "solution_high", "p_value"} <= set(answer.variables)
        assert answer["solution_low"].dims == answer["solution"].dims
        assert (answer["solution_low"] < answer["solution_high"]).all()
        assert answer["solution_low"].attrs["level"] == 0.8
        assert answer["p_value"].dims == ("trajectory",)
    found = json.loads(scifm("calibrate", calibrated, *poisson, "--json").out)
    assert (found["num_samples"], found["share"], np.shape(found["half_widths"])) == (24, 1.0, (1, 1))


@pytest.mark.parametrize("count", [120, 12])
def test_what_is_unlike_the_calibration_is_told(scifm, calibrated, problem, tmp_path, count):
    poisson = (
        "--system",
        "poisson",
        "--knob",
        "anisotropy=1,1.01",
        "--set",
        f"num_points={SPACE}",
        "--num-samples",
        count,
    )
    assert scifm("calibrate", calibrated, *poisson).status == 0
    strange = {**problem, "diffusion_xx": problem["diffusion_xx"] * 50}
    source = netcdf(tmp_path / "in.nc", strange)
    said = scifm("predict", calibrated, "--input", source, "--out", tmp_path / "a.nc", "--level", 0.8)
    assert "3 of 3 samples (0, 1, 2) are unlike those that the model was calibrated on" in said.err
    with xarray.open_dataset(tmp_path / "a.nc") as answer:
        assert "are unlike" in answer.attrs["unlike_calibration"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--level", 1.5), "less than 1"),
        (("--set", "unlike=0.1"), "no level is asked for"),
        (("--level", 0.99), "needs at least 99 samples"),
    ],
)
def test_a_band_that_cannot_be_promised_is_refused(scifm, calibrated, problem, tmp_path, more, words):
    poisson = ("--system", "poisson", "--set", f"num_points={SPACE}", "--num-samples", 12, "--set", "level=0.5")
    assert scifm("calibrate", calibrated, *poisson).status == 0
    source = netcdf(tmp_path / "in.nc", problem)
    said = scifm("predict", calibrated, "--input", source, "--out", tmp_path / "a.nc", *more)
    assert (said.status, words in said.told) == (2, True), said.told


def test_what_cannot_be_calibrated_is_refused(scifm, calibrated, tmp_path):
    said = scifm("calibrate", "scifm/poisson-nano")
    assert (said.status, "not yours to write into" in said.told) == (2, True)
    said = scifm("calibrate", calibrated, "--system", "poisson", "--set", f"num_points={SPACE}", "--num-samples", 5)
    assert (said.status, "needs at least 9 samples" in said.told) == (2, True), said.told
    said = scifm("calibrate", calibrated, "--system", "heat", "--set", f"num_points={SPACE}")
    assert said.status == 2
    assert not (calibrated / "calibration.safetensors").exists()


def test_a_store_calibrates_by_its_validation_split_and_forecasts_step_by_step(scifm, moving, tmp_path):
    store = generate(
        Burgers(num_frames=8),
        grid=Grid((SPACE,)),
        num_samples={"train": 8, "valid": 24, "test": 4},
        path=tmp_path / "store",
    )
    load_operator(moving).save_pretrained(tmp_path / "own")
    about = ("--set", "horizon=3", "--level", 0.8)
    said = scifm("calibrate", tmp_path / "own", "--store", store.path, *about)
    assert said.status == 0, said.err
    assert "24: store" in said.out
    assert "split valid" in said.out
    assert "step 3" in said.out
    out = tmp_path / "a.nc"
    told = scifm("predict", tmp_path / "own", "--input", store.path, "--out", out, "--steps", 3, "--level", 0.8)
    assert told.status == 0, told.err
    with xarray.open_dataset(out) as answer:
        width = (answer["velocity_high"] - answer["velocity_low"]).mean(("trajectory", "x"))
        assert width.sizes == {"time": 3}
    far = scifm("predict", tmp_path / "own", "--input", store.path, "--out", out, "--steps", 4, "--level", 0.8)
    assert (far.status, "calibrated for 3 steps ahead" in far.told) == (2, True)
