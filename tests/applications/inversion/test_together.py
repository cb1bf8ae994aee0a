"""Several recordings of the same unknowns: asked together, taken in from easy to hard, of one medium lit otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from scifm.applications.inversion import InvertRecipe, ObserveRecipe, invert, observe, read_observations
from scifm.applications.inversion.asking import inverted
from scifm.applications.inversion.forward import Forward, through_solver
from scifm.applications.inversion.telling import fields_off, intervals_of, truths_of
from scifm.applications.inversion.unknowns import Coefficients
from scifm.cli import app
from scifm.config import build_config
from scifm.data.generate import generate
from scifm.data.origins import SystemOrigin
from scifm.errors import ConfigError, DataError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.helmholtz_medium import HelmholtzMedium
from scifm.systems.solvers import scattering
from scifm.training.pretrain import PretrainRecipe, pretrain

GRID, SYSTEM = Grid.square(16), AdvectionDiffusion()
ORIGIN = SystemOrigin.of(SYSTEM, GRID)
BY_SOLVER = InvertRecipe(through="solver", num_starts=2, num_usual=32)


def made(folder, experiment, system=None, seed=0, **settings):
    """Return the file of an experiment, and what it holds."""
    tree = {"system": {"name": "advection_diffusion"} if system is None else system, "num_points": 16, "noise": 0.01}
    recipe = build_config(ObserveRecipe, {**tree, "seed": seed, "experiment": experiment, **settings}, source="test")
    return observe(recipe, folder / f"{experiment}-{len(list(folder.iterdir()))}.npz")


def test_experiments_share_what_is_unknown_and_nothing_else(tmp_path):
    first, second, again = (made(tmp_path, number) for number in (0, 1, 1))
    assert {name: float(own) for name, own in first.truth.items()} == {n: float(o) for n, o in second.truth.items()}
    assert not torch.equal(first.known["forcing"], second.known["forcing"])
    assert not torch.equal(first.places, second.places)
    assert torch.equal(second.values["solution"], again.values["solution"])
    truth = list(SYSTEM.signature.coefficients)
    solved = SYSTEM.sample(1, GRID, generator_for(0, "other"), dtype=torch.float64)
    numbers = torch.stack([second.truth[name] for name in truth])[None]
    one = replace(solved, inputs=second.known["forcing"][None, None, None], coefficients=numbers, targets=None)
    clean = second.read(SYSTEM.solve(one).field("solution")[:, 0])[0]
    assert float((clean - second.values["solution"]).norm() / clean.norm()) < 0.03


def test_together_they_predict_what_each_predicts(tmp_path):
    files = [made(tmp_path, number) for number in (0, 1, 2)]
    usual = SYSTEM.sample(32, GRID, generator_for(0, "usual"), dtype=torch.float64)
    unknown = Coefficients(SYSTEM.signature.coefficients, usual)
    parts = [Forward(through_solver(SYSTEM), unknown, own, SYSTEM.signature, SYSTEM.name, own.noise) for own in files]
    whole = replace(parts[0], others=tuple(parts[1:]))
    z = unknown.start(2, generator_for(0, "start"))
    torch.testing.assert_close(whole(z), torch.cat([own(z) for own in parts], dim=1))
    torch.testing.assert_close(whole.values, torch.cat([own.values for own in parts]))
    assert whole.num_asked == 6
    value, slope = whole.value_and_slope(z[0])
    apart = [own.value_and_slope(z[0]) for own in parts]
    believed = float(0.5 * z[0].square().sum())
    assert value == pytest.approx(sum(own for own, _ in apart) - 2 * believed)
    torch.testing.assert_close(slope, torch.stack([own for _, own in apart]).sum(0) - 2 * z[0])


def test_more_recordings_leave_less_open(tmp_path):
    files = [made(tmp_path, number) for number in (0, 1, 2)]
    alone, together = (inverted(None, ORIGIN, own, BY_SOLVER) for own in (files[0], files))  # type: ignore[arg-type]
    assert (alone.num_files, together.num_files) == (1, 3)
    assert together.num_recordings == 3 * alone.num_recordings
    wide, narrow = (intervals_of(own, BY_SOLVER) for own in (alone, together))
    assert all(narrow[name][2] - narrow[name][0] < wide[name][2] - wide[name][0] for name in narrow)
    truth = truths_of(together)
    speed = float(np.hypot(truth["velocity_x"], truth["velocity_y"]))
    assert all(abs(narrow[name][1] - truth[name]) < 0.05 * speed for name in ("velocity_x", "velocity_y"))


# --- a medium ---------------------------------------------------------------------------------------------------------


def waves(folder, experiment, wavenumber):
    system = {"name": "helmholtz_medium", "knobs": {"wavenumber": [wavenumber, wavenumber], "strength": [0.2, 0.2]}}
    settings = {"unknown": ["contrast"], "num_points": 20, "num_receivers": 16}
    return made(folder, experiment, system, **settings)


MEDIUM = SystemOrigin.of(HelmholtzMedium(), Grid.square(20))
EASY_FIRST = InvertRecipe(
    through="solver", num_starts=1, num_usual=32, num_components=12, num_steps=25, continuation="wavenumber"
)


def test_a_medium_lit_from_several_sides_is_found_from_low_to_high(tmp_path):
    files = [waves(tmp_path, side, wavenumber) for wavenumber in (10.0, 6.0) for side in (0, 1)]
    torch.testing.assert_close(files[0].truth["contrast"], files[3].truth["contrast"])
    told = []
    found = inverted(None, MEDIUM, files, EASY_FIRST, progress=lambda done, of: told.append((done, of)))  # type: ignore[arg-type]
    assert told == [(1, 2), (2, 2)]
    assert found.num_recordings == 4 * 32
    alone = inverted(None, MEDIUM, files[3], EASY_FIRST.model_copy(update={"continuation": None}))  # type: ignore[arg-type]
    off, held = fields_off(found, EASY_FIRST)["contrast"]
    assert off < 0.9 * fields_off(alone, EASY_FIRST)["contrast"][0]
    assert off < 0.6
    assert 0 <= held <= 1


def test_recordings_of_one_medium_and_wavenumber_share_a_factorization(tmp_path, monkeypatch):
    files = [waves(tmp_path, side, 6.0) for side in (0, 1, 2)]
    counted = []
    factorized = scattering._factorized
    monkeypatch.setattr(scattering, "_factorized", lambda *parts: counted.append(1) or factorized(*parts))
    found = inverted(None, MEDIUM, files, EASY_FIRST.model_copy(update={"num_steps": 1}))  # type: ignore[arg-type]
    counted.clear()
    found.forward.value_and_slope(torch.zeros(found.unknown.size, dtype=torch.float64))
    assert len(counted) == 1


# --- what makes no sense, and the command -----------------------------------------------------------------------------


def test_what_cannot_be_asked_together_is_refused(tmp_path):
    first, second = made(tmp_path, 0), made(tmp_path, 1)
    with pytest.raises(ConfigError, match="continuation = 'forcing' is a coefficient that every recording knows"):
        inverted(None, ORIGIN, [first, second], BY_SOLVER.model_copy(update={"continuation": "forcing"}))  # type: ignore[arg-type]
    coarse = replace(second, grid=Grid.square(12))
    with pytest.raises(DataError, match="one box and one grid"):
        inverted(None, ORIGIN, [first, coarse], BY_SOLVER)  # type: ignore[arg-type]
    richer = replace(second, known={**second.known, "velocity_x": torch.tensor(0.1)})
    with pytest.raises(DataError, match="know the same names"):
        inverted(None, ORIGIN, [first, richer], BY_SOLVER)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="other inputs that are known"):
        made(tmp_path, 1, unknown=["inputs"])


def test_of_a_store_that_a_system_made_its_solver_is_asked(tmp_path):
    counts = {"train": 24, "valid": 4, "test": 4}
    store = generate(SYSTEM, num_samples=counts, path=tmp_path / "store", grid=GRID)
    tree = {
        "name": "stored",
        "data": {"store": str(store.path)},
        "model": {"network": {"width": 4, "modes": 3, "num_layers": 2, "latent_points": 8}},
        "training": {"num_steps": 2, "batch_size": 4},
    }
    run = pretrain(build_config(PretrainRecipe, tree, source="test"), out=tmp_path / "runs")
    (tmp_path / "files").mkdir()
    made(tmp_path / "files", 0).write(tmp_path / "one.npz")
    how = InvertRecipe(num_starts=1, num_steps=3, num_usual=24)
    account = invert(run, tmp_path / "one.npz", how, out=tmp_path / "own")
    solver = next(own for own in account.findings if own.name == "solver")
    assert "by the solver" in solver.evidence


def test_the_command_takes_several_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = {
        "name": "together",
        "system": {"name": "advection_diffusion"},
        "data": {"num_points": 16, "num_validation_samples": 4, "num_normalization_samples": 16},
        "model": {"network": {"width": 4, "modes": 3, "num_layers": 2, "latent_points": 8}},
        "training": {"num_steps": 4, "batch_size": 4},
    }
    run = pretrain(build_config(PretrainRecipe, tree, source="test"), out=tmp_path / "runs")
    for number in ("0", "1"):
        words = ["--num-receivers", "9", "--set", "num_points=16", "--set", f"experiment={number}"]
        done = CliRunner().invoke(app, ["observe", "--system", "advection_diffusion", "--out", f"{number}.npz", *words])
        assert done.exit_code == 0, done.output
    short = ["--set", "num_starts=1", "--set", "num_steps=2", "--set", "num_usual=16"]
    done = CliRunner().invoke(app, ["invert", str(run.path), "--data", "0.npz", "--data", "1.npz", *short])
    assert done.exit_code == 0, done.output
    assert "9 receivers in 2 recordings" in done.stdout
    files = [read_observations(f"{n}.npz", SYSTEM.signature, GRID) for n in (0, 1)]
    assert files[0].known["forcing"].shape == (16, 16)
    with pytest.raises(ConfigError, match="at least one file"):
        invert(run, [], out=tmp_path / "none")
