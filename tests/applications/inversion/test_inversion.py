"""Inverse problems: receivers, beliefs, derivatives, answers within their intervals, the solver's word, bad files."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pages import read
from scifm.applications.inversion import InvertRecipe, ObserveRecipe, invert, observe, observed, read_observations
from scifm.applications.inversion.asking import inverted
from scifm.applications.inversion.forward import Forward, through_operator, through_solver
from scifm.applications.inversion.observations import Observations
from scifm.applications.inversion.search import Found, Place, posterior
from scifm.applications.inversion.telling import account_of, intervals_of, truths_of
from scifm.applications.inversion.unknowns import Coefficients, FieldOf, Sources, Unknowns
from scifm.cli import app
from scifm.config import build_config
from scifm.data.origins import SystemOrigin
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNO, FNOConfig
from scifm.models.registry import load_operator
from scifm.report.page import page
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.poisson import Poisson
from scifm.training.pretrain import PretrainRecipe, pretrain

GRID, SYSTEM = Grid.square(32), AdvectionDiffusion()
ORIGIN = SystemOrigin.of(SYSTEM, GRID)
BY_SOLVER = InvertRecipe(through="solver", num_starts=3, num_usual=64)


def problem(seed: int = 0, system=SYSTEM, grid: Grid = GRID):
    return system.sample(1, grid, generator_for(seed, "inversion test"), dtype=torch.float64)


def recordings(seed: int = 0, count: int = 64, noise: float = 0.02) -> Observations:
    return observed(problem(seed), count, noise, unknown=SYSTEM.signature.coefficients, seed=seed)


# --- receivers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [(12, 9), (8, 10)])
def test_waves_are_read_between_points_exactly(points):
    grid = Grid(points, (2.0, 1.0))
    y, x = torch.meshgrid(*(line.double() for line in grid.coordinates()), indexing="ij")

    def wave(y, x):
        return torch.cos(2 * math.pi * (3 * y / 2.0 - 2 * x) + 0.3) + 0.5

    places = torch.rand(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor(
        [2.0, 1.0]
    )
    seen = Observations(places, {}, grid)
    expected = wave(places[:, 0], places[:, 1])
    torch.testing.assert_close(seen.read(wave(y, x)[None])[0], expected, rtol=0, atol=1e-12)


def test_along_walls_values_are_between_their_neighbours():
    grid = Grid((5, 5), 4.0, "wall")
    field = torch.arange(25.0, dtype=torch.float64).view(1, 5, 5)
    places = torch.tensor([[0.0, 0.0], [1.5, 2.25], [4.0, 4.0]], dtype=torch.float64)
    assert Observations(places, {}, grid).read(field)[0].tolist() == pytest.approx([0.0, 5 * 1.5 + 2.25, 24.0])


# --- beliefs ----------------------------------------------------------------------------------------------------------


def test_what_is_believed_is_standard_normal():
    """Of many problems z is: mean 0, covariance 1; and from z the very coefficients come back."""
    usual = SYSTEM.sample(400, GRID, generator_for(0, "usual"), dtype=torch.float64)
    unknown = Coefficients(SYSTEM.signature.coefficients, usual)
    z = unknown._starts
    torch.testing.assert_close(z.mean(0), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.cov(z.T), torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-8)
    again = unknown.of(z)
    for name in SYSTEM.signature.coefficients:
        torch.testing.assert_close(again[name], usual.coefficient(name), rtol=1e-8, atol=1e-12)
    assert unknown.positive.tolist() == [True, True, False, False, False]


def test_sources_stand_where_they_say():
    sources = Sources("forcing", 2, 0.05, 1.0, True, GRID)
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    field, told = sources.of(z)["forcing"], sources.told(z)
    assert field.mean((1, 2)).abs().max() < 1e-12
    alone = Sources("forcing", 1, 0.05, 1.0, False, GRID).of(z[:1, :3])["forcing"][0]
    row, column = divmod(int(alone.argmax()), 32)
    assert row / 32 == pytest.approx(float(told["source 1, y"][0]), abs=0.5 / 32 + 1e-9)
    assert column / 32 == pytest.approx(float(told["source 1, x"][0]), abs=0.5 / 32 + 1e-9)


def test_sources_go_around_a_periodic_box():
    sources = Sources("forcing", 1, 0.05, 1.0, False, GRID)
    z = torch.tensor([[0.99, 0.5, 0.0], [1.99, -0.5, 0.0], [1.02, 0.5, 0.0]], dtype=torch.float64)
    fields, told = sources.of(z)["forcing"], sources.told(z)
    torch.testing.assert_close(fields[0], fields[1], rtol=0, atol=1e-12)
    assert told["source, y"].tolist() == pytest.approx([0.99, 0.99, 1.02])
    assert told["source, x"].tolist() == pytest.approx([0.5, 0.5, 0.5])
    walls = Sources("forcing", 1, 0.05, 1.0, False, Grid((32, 32), 1.0, "wall"))
    assert walls.told(z)["source, y"].max() < 1.0


def test_a_field_is_its_mean_and_its_components():
    usual = SYSTEM.sample(40, GRID, generator_for(0, "usual"), dtype=torch.float64)
    unknown = FieldOf("forcing", usual, 39)
    fields = usual.field("forcing")[:, 0].flatten(1)
    z = torch.linalg.lstsq(unknown.basis.T, (fields - unknown.mean).T).solution.T
    torch.testing.assert_close(unknown.of(z)["forcing"].flatten(1), fields, rtol=0, atol=1e-8)
    assert unknown.explained == pytest.approx(1.0)
    both = Unknowns((unknown, Coefficients(SYSTEM.signature.coefficients, usual)))
    assert both.size == 44
    assert set(both.of(torch.zeros(2, 44, dtype=torch.float64))) == {"forcing", *SYSTEM.signature.coefficients}


# --- derivatives ------------------------------------------------------------------------------------------------------


def forward(through, seen: Observations) -> Forward:
    usual = SYSTEM.sample(64, GRID, generator_for(0, "usual"), dtype=torch.float64)
    noise = {"solution": torch.full_like(seen.values["solution"], 1e-3)}
    unknown = Coefficients(SYSTEM.signature.coefficients, usual)
    return Forward(through, unknown, seen, SYSTEM.signature, "advection_diffusion", noise)


@pytest.mark.parametrize("kind", ["solver", "network"])
def test_slopes_are_those_of_differences(kind):
    seen = recordings(count=12)
    operator = FNO(SYSTEM.signature, FNOConfig(width=4, modes=3, num_layers=2))
    before = deepcopy(operator.state_dict())
    asked = forward(through_solver(SYSTEM) if kind == "solver" else through_operator(operator), seen)
    z = asked.unknown.start(1, generator_for(0, "start"))[0]
    value, slope = asked.value_and_slope(z)
    jacobian = asked.jacobian(z)
    with torch.no_grad():
        missed = asked(z[None])[0] - asked.values
    torch.testing.assert_close(slope, jacobian.T @ missed + z, rtol=1e-4, atol=1e-4 * float(slope.abs().max()))
    assert value == pytest.approx(float(0.5 * missed.square().sum() + 0.5 * z.square().sum()))
    assert all(torch.equal(own, before[name]) for name, own in operator.state_dict().items())
    assert next(operator.parameters()).dtype == torch.float32


def test_a_way_without_derivatives_is_taken_by_differences():
    seen = recordings(count=12)
    exact, blind = forward(through_solver(SYSTEM), seen), forward(torch.no_grad()(through_solver(SYSTEM)), seen)
    z = exact.unknown.start(1, generator_for(0, "start"))[0]
    (value, slope), (other, rough) = exact.value_and_slope(z), blind.value_and_slope(z)
    assert other == pytest.approx(value)
    torch.testing.assert_close(rough, slope, rtol=1e-2, atol=1e-3 * float(slope.abs().max()))


def test_of_a_linear_question_the_posterior_is_known():
    """y = A z + noise: mean and covariance of what is believed afterwards are those of the books."""
    matrix = torch.tensor([[3.0, 1.0], [0.0, 2.0], [1.0, 1.0]], dtype=torch.float64)

    class Linear:
        values = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)

        def jacobian(self, z):
            return matrix

    covariance = torch.linalg.inv(matrix.T @ matrix + torch.eye(2, dtype=torch.float64))
    best = covariance @ matrix.T @ Linear.values
    draws = posterior(Linear(), Place(best, 0.0, 1))  # type: ignore[arg-type]
    torch.testing.assert_close(draws.mean(0), best, rtol=0, atol=0.03)
    torch.testing.assert_close(torch.cov(draws.T), covariance, rtol=0.1, atol=0.01)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_the_solver_finds_coefficients_within_their_intervals():
    held = count = 0
    for seed in range(4):
        made = inverted(None, ORIGIN, recordings(seed, noise=0.005), BY_SOLVER)  # type: ignore[arg-type]
        truth, rows = truths_of(made), intervals_of(made, BY_SOLVER)
        assert made.found.misfit < made.content
        size = math.hypot(truth["velocity_x"], truth["velocity_y"])
        for name in ("velocity_x", "velocity_y"):
            assert abs(rows[name][1] - truth[name]) < 0.05 * size, (seed, name)
        held += sum(low <= truth[name] <= high for name, (low, _, high) in rows.items())
        count += len(rows)
    assert 0.7 * count <= held <= count


def test_a_source_is_found_within_a_grid_spacing(tmp_path):
    tree = {"system": {"name": "poisson"}, "num_points": 32, "num_sources": 1, "unknown": ["inputs"]}
    for seed in range(3):
        recipe = build_config(ObserveRecipe, {**tree, "seed": seed}, source="test")
        observe(recipe, tmp_path / "source.npz")
        seen = read_observations(tmp_path / "source.npz", Poisson().signature, GRID)
        how = InvertRecipe(through="solver", num_sources=1, num_starts=6, num_usual=64)
        made = inverted(None, SystemOrigin.of(Poisson(), GRID), seen, how)  # type: ignore[arg-type]
        rows, truth = intervals_of(made, how), truths_of(made)
        for axis in "xy":
            assert abs(rows[f"source, {axis}"][1] - truth[f"source, {axis}"]) < 1 / 32
        assert rows["source, height"][1] == pytest.approx(truth["source, height"], rel=0.1)


def test_content_networks_that_the_solver_does_not_believe_are_adversarial():
    made = inverted(None, ORIGIN, recordings(), BY_SOLVER)  # type: ignore[arg-type]
    fooled = replace(made, solver_misfit=50.0, found=Found(made.found.places, 1.0, 1))
    agreed = replace(fooled, solver_misfit=1.1)
    lost = replace(fooled, found=Found(made.found.places, 80.0, 1))
    assert [own.adversarial for own in (fooled, agreed, lost)] == [True, False, False]
    told = {key: account_of(own, BY_SOLVER, model="m", data="d").findings[1].said for key, own in
            (("fooled", fooled), ("agreed", agreed), ("lost", lost))}  # fmt: skip
    assert "the solver is not" in told["fooled"]
    assert "agrees" in told["agreed"]
    assert "Neither" in told["lost"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    tree = {
        "name": "inversion",
        "system": {"name": "advection_diffusion"},
        "data": {"num_points": 32, "num_validation_samples": 8, "num_normalization_samples": 32},
        "model": {"network": {"width": 8, "modes": 4, "num_layers": 2}},
        "training": {"num_steps": 40, "batch_size": 8},
    }
    return pretrain(build_config(PretrainRecipe, tree, source="test"), out=tmp_path_factory.mktemp("runs"))


def test_an_account_has_the_solvers_word_and_its_page(trained, tmp_path):
    recordings(count=24).write(tmp_path / "seen.npz")
    how = InvertRecipe(num_starts=2, num_steps=15, num_usual=32)
    account = invert(trained, tmp_path / "seen.npz", how, out=tmp_path / "answer")
    assert [own.name for own in account.findings] == ["answer", "solver", "starts", "truth"]
    text = read(page(tmp_path / "answer"))
    for told in (
        "What was it, that 24 receivers recorded so?",
        "solution, by the network",
        "by the solver",
        "velocity_y",
    ):
        assert told in text
    kept = np.load(tmp_path / "answer" / "account.npz")
    difference = kept["solution answered"] - kept["solution by solver"]
    np.testing.assert_allclose(kept["solution difference"], difference)
    assert kept["draws"].shape == (2000, 5)


def test_the_networks_own_error_widens_what_it_is_asked_for(trained):
    how = InvertRecipe(num_starts=1, num_steps=3, num_usual=32, refine=False)
    operator, seen = load_operator(trained.path), recordings(count=24)
    counted = inverted(operator, ORIGIN, seen, how)
    alone = inverted(operator, ORIGIN, seen, how.model_copy(update={"count_network_error": False}))
    assert counted.network_error["solution"] > 1
    assert alone.network_error == {}
    ratio = counted.forward.noise["solution"] / alone.forward.noise["solution"]
    expected = math.sqrt(1 + counted.network_error["solution"] ** 2)
    torch.testing.assert_close(ratio, torch.full_like(ratio, expected))


def test_a_search_can_begin_at_an_earlier_answer(trained, tmp_path):
    recordings(count=24).write(tmp_path / "seen.npz")
    how = InvertRecipe(num_starts=1, num_steps=30, num_usual=32)
    invert(trained, tmp_path / "seen.npz", how, out=tmp_path / "first")
    again = how.model_copy(update={"begin": str(tmp_path / "first"), "through": "solver"})
    account = invert(trained, tmp_path / "seen.npz", again, out=tmp_path / "second")
    assert "by the network" not in read(page(tmp_path / "second"))
    first, second = (np.load(tmp_path / name / "account.npz")["z"] for name in ("first", "second"))
    np.testing.assert_allclose(second, first, atol=0.05)  # the solver ended there already
    assert account.findings[0].name == "answer"
    with pytest.raises(ConfigError, match="not the folder of an earlier inversion"):
        invert(trained, tmp_path / "seen.npz", how.model_copy(update={"begin": "nowhere"}), out=tmp_path / "third")
    np.savez(tmp_path / "first" / "account.npz", z=np.zeros(2))
    with pytest.raises(ConfigError, match="are 5 numbers"):
        invert(trained, tmp_path / "seen.npz", again, out=tmp_path / "fourth")


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x": None}, "has no 'x'"),
        ({"solution": None}, "none of the fields that are recorded: solution"),
        ({"solution": np.zeros(3)}, "24 numbers, one a receiver"),
        ({"solution": np.full(24, np.nan)}, "holds NaN"),
        ({"x": np.full(24, 7.0)}, "stand outside of the box"),
        ({"noise": np.zeros(24), "noise_solution": None}, "standard deviation, above 0"),
        ({"forcing": np.zeros((4, 4))}, "a field of 32 × 32"),
        ({"wobble": np.zeros(3)}, "holds wobble, which mean nothing"),
        ({"extent": np.array([1.0, -1.0])}, "two positive lengths"),
        ({"velocity_x": np.zeros(2)}, "'velocity_x' .* is one number"),
    ],
)
def test_damaged_recordings_end_in_a_sentence(tmp_path, change, told):
    recordings(count=24).write(tmp_path / "seen.npz")
    arrays = {**np.load(tmp_path / "seen.npz"), **change}
    np.savez(tmp_path / "bad.npz", **{name: own for name, own in arrays.items() if own is not None})
    with pytest.raises(DataError, match=told):
        read_observations(tmp_path / "bad.npz", SYSTEM.signature, GRID)


def test_what_is_no_file_of_recordings_is_said(tmp_path):
    (tmp_path / "text.npz").write_text("no")
    for name, told in (("text.npz", r"no whole \.npz"), ("nowhere.npz", "no such file")):
        with pytest.raises(DataError, match=told):
            read_observations(tmp_path / name, SYSTEM.signature, GRID)


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"unknown": ("wobble",)}, ConfigError, "What is unknown is one of"),
        ({"unknown": ("velocity_x",)}, DataError, "does not tell diffusion_xx.*add it to unknown"),
    ],
)
def test_questions_that_mean_nothing_are_refused(change, error, told):
    with pytest.raises(error, match=told):
        inverted(None, ORIGIN, recordings(), BY_SOLVER.model_copy(update=change))  # type: ignore[arg-type]


def test_nothing_unknown_and_nothing_recorded(tmp_path):
    seen = observed(problem(), 8, 0.0, unknown=())
    with pytest.raises(ConfigError, match="Nothing is unknown"):
        inverted(None, ORIGIN, seen, BY_SOLVER)  # type: ignore[arg-type]
    silent = replace(recordings(count=8), values={"solution": torch.zeros(8, dtype=torch.float64)}, noise={})
    with pytest.raises(DataError, match="is zero, and its noise is not told"):
        inverted(None, ORIGIN, silent, BY_SOLVER)  # type: ignore[arg-type]
    with pytest.raises(SignatureError, match="steady fields in a plane"):
        observe(build_config(ObserveRecipe, {"system": {"name": "burgers"}}, source="test"), tmp_path / "no.npz")


def test_the_commands(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--set", "num_points=32", "--num-receivers", "20", "--out", "seen.npz"]
    done = CliRunner().invoke(app, ["observe", "--system", "advection_diffusion", *small])
    assert done.exit_code == 0, done.output
    assert "diffusion_xx" in done.stdout
    short = ["--set", "num_starts=1", "--set", "num_steps=3", "--set", "num_usual=16", "--json"]
    done = CliRunner().invoke(app, ["invert", str(trained.path), "--data", "seen.npz", *short])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["path"] == "runs/invert"
