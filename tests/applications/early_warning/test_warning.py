"""Warnings: peaks and times by hand, intervals that hold what they say, an account of a network trained in seconds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pages import read
from scifm.applications.early_warning import EventRecipe, WarnRecipe, make_events, warn
from scifm.applications.early_warning.forecasting import forecasts_of
from scifm.applications.early_warning.peaks import by_lead, covering, peaks_of, warning_times, widened
from scifm.cli import app
from scifm.config import build_config
from scifm.data.generate import generate
from scifm.errors import ConfigError, RunError, SciFMError, SignatureError
from scifm.fields.grid import Grid
from scifm.fields.window import Window
from scifm.models.registry import load_operator
from scifm.report.page import page
from scifm.systems.poisson import Poisson
from scifm.training.pretrain import PretrainRecipe, pretrain

SETTINGS = {
    "num_points": 24,
    "absorbing_layer": 4.0,
    "num_frames": 9,
    "num_events": {"train": 6, "valid": 4, "test": 4},
}
SMALL = WarnRecipe(num_masks=2, num_events=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the run of a network that was trained in seconds, and its store."""
    folder = tmp_path_factory.mktemp("warning")
    store = make_events(build_config(EventRecipe, SETTINGS, source="test"), folder / "events")
    tree = {
        "name": "warning",
        "model": {"kind": "conv_recurrent", "network": {"width": 8, "halvings": 2, "mask_channels": True}},
        "data": {"store": str(store.path), "history": 3, "horizon": 3, "stations": 60},
        "training": {"num_steps": 20, "batch_size": 4, "learning_rate": 0.005, "objective": "huber"},
    }
    return pretrain(build_config(PretrainRecipe, tree, source="test"), out=folder / "runs"), store


# --- numbers by hand --------------------------------------------------------------------------------------------------


def test_peaks_and_warnings_by_hand():
    fields = torch.zeros(1, 3, 2, 1, 2)
    fields[0, 1, :, 0, 0] = torch.tensor([3.0, 4.0])
    fields[0, 2, 0, 0, 0] = -1.0
    fields[0, 2, 1, 0, 1] = -2.0
    times = torch.tensor([[0.5, 1.0, 1.5]])
    peaks = peaks_of(fields, times)
    assert peaks.velocity.tolist() == [[[5.0, 2.0]]]
    assert peaks.time.tolist() == [[[1.0, 1.5]]]
    ever, first = warning_times(fields, times, 0.9)
    assert ever.tolist() == [[[True, True]]]
    assert first.tolist() == [[[1.0, 1.5]]]
    ever, first = warning_times(fields, times, 3.0)
    assert ever.tolist() == [[[True, False]]]
    assert first.tolist() == [[[1.0, 0.0]]]


def test_errors_by_lead():
    true = torch.randn(2, 3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    correlation, error = by_lead(2 * true, true)
    torch.testing.assert_close(correlation, torch.ones(2, 3, dtype=torch.float64))
    torch.testing.assert_close(error, torch.ones(2, 3, dtype=torch.float64))
    correlation, error = by_lead(torch.zeros_like(true), true)
    assert correlation.tolist() == [[0.0] * 3] * 2
    torch.testing.assert_close(error, torch.ones(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("draws", [1, 6])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_widened_intervals_hold_their_share_of_events_alike(draws, level):
    generator = torch.Generator().manual_seed(1)

    def drawn() -> tuple[torch.Tensor, torch.Tensor]:
        true = torch.randn(8, 30, 30, generator=generator)
        said = true + 0.5 + 0.3 * torch.randn(draws, 8, 30, 30, generator=generator)  # all too large alike
        return said.exp(), true.exp()

    width = widened(*drawn(), level, least=1e-6)
    said, true = drawn()
    held, low, high = covering(said, true, width, least=1e-6)
    assert float(held.float().mean()) == pytest.approx(level, abs=0.02)
    assert torch.equal(held, (true >= low * (1 - 1e-6)) & (true <= high * (1 + 1e-6)))


# --- a network --------------------------------------------------------------------------------------------------------


def test_an_account_tells_what_was_forecast(trained, tmp_path):
    run, store = trained
    account = warn(run, SMALL, out=tmp_path / "warn")
    names = [finding.name for finding in account.findings]
    assert names[:4] == ["peaks", "warning", "draws", "intervals"]
    assert "3 frames at 60 stations (10 % of the points)" in account.question
    kept = np.load(tmp_path / "warn" / "account.npz")
    whole = store.split("test", Window(3, 6)).batch([0, 1, 2])
    peaks = whole.targets.norm(dim=2).amax(1)
    np.testing.assert_allclose(kept["peaks"], peaks.numpy(), rtol=1e-6)
    rows = account.chapters[-1].tables[0].rows
    assert [float(row[1]) for row in rows] == pytest.approx([float(own.max()) for own in peaks], rel=1e-2)
    text = read(page(tmp_path / "warn"))
    assert text.count("<image ") >= 7
    assert "3 events" in text.lower()
    again = warn(run, SMALL, out=tmp_path / "warn")
    assert again.findings == account.findings


def test_what_is_seen_decides_what_is_forecast(trained):
    run, store = trained
    operator, window = load_operator(run.path), Window(3, 6, stations=60)
    usual = forecasts_of(operator, store, window, SMALL, split="test")
    assert len(usual.draws.velocity) == 2
    assert not torch.equal(usual.draws.velocity[0], usual.draws.velocity[1])
    dense = forecasts_of(operator, store, Window(3, 6), SMALL, split="test")
    assert len(dense.draws.velocity) == 1
    assert dense.asked.valid_inputs is None
    for change in ({"noise": 0.5}, {"delay": 1.5}, {"seed": 1}):
        other = forecasts_of(operator, store, window, SMALL.model_copy(update=change), split="test")
        assert torch.equal(other.true, usual.true)
        assert not torch.equal(other.said, usual.said), change


def test_larger_waves_are_forecast_as_larger(trained):
    """The network measures what it sees: ten times the wave gives ten times the peaks."""
    run, store = trained
    operator = load_operator(run.path)
    batch = store.split("test", Window(3, 6, stations=60)).batch([0, 1])
    with torch.no_grad():
        one, ten = (operator(replace(batch, inputs=factor * batch.inputs)).targets for factor in (1.0, 10.0))
    torch.testing.assert_close(ten, 10 * one, rtol=1e-3, atol=1e-5 * float(ten.abs().max()))


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"split": "tset"}, Exception, "tset"),
        ({"given": 9}, ConfigError, "nothing is left to be forecast"),
        ({"stations": 577}, ConfigError, "577 stations do not fit"),
        ({"velocities": ("pressure",)}, ConfigError, "velocities name outputs of the network"),
        ({"store": "nowhere"}, Exception, "nowhere"),
    ],
)
def test_what_cannot_be_asked_ends_in_a_sentence(trained, tmp_path, change, error, told):
    with pytest.raises(error, match=told):
        warn(trained[0], SMALL.model_copy(update=change), out=tmp_path / "warn")


def test_a_store_that_went_is_missed_where_it_is_needed(trained, tmp_path):
    run, store = trained
    copied, moved = tmp_path / "run", tmp_path / "events"
    shutil.copytree(run.path, copied)
    shutil.copytree(store.path, moved)
    recipe = (copied / "config.toml").read_text().replace(str(store.path), str(tmp_path / "gone"))
    (copied / "config.toml").write_text(recipe)
    with pytest.raises(SciFMError, match="gone"):
        warn(copied, SMALL, out=tmp_path / "first")
    other = SMALL.model_copy(update={"store": str(moved)})
    with pytest.raises(SciFMError, match="gone"):
        warn(copied, other, out=tmp_path / "second")
    account = warn(copied, other.model_copy(update={"calibrate_split": ""}), out=tmp_path / "third")
    assert [own.name for own in account.findings[:3]] == ["peaks", "warning", "draws"]
    assert "intervals" not in {own.name for own in account.findings}


def test_networks_of_other_kinds_of_problems_are_refused(trained, tmp_path):
    steady = generate(
        Poisson(), num_samples={"train": 4, "valid": 2, "test": 2}, path=tmp_path / "p", grid=Grid((8, 8))
    )
    tree = {
        "name": "steady",
        "model": {"network": {"modes": 2, "width": 4}},
        "data": {"store": str(steady.path)},
        "training": {"num_steps": 1, "batch_size": 2},
    }
    run = pretrain(build_config(PretrainRecipe, tree, source="test"), out=tmp_path / "runs")
    with pytest.raises(SignatureError, match="steady"):
        warn(run, SMALL, out=tmp_path / "warn")
    warn(trained[0], SMALL, out=tmp_path / "other")
    with pytest.raises(RunError, match="Choose another folder"):
        warn(trained[0], SMALL.model_copy(update={"noise": 0.1}), out=tmp_path / "other")


def test_the_commands(trained, tmp_path, monkeypatch):
    run, _ = trained
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["warn", str(run.path), "--stations", "100", "--num-events", "2", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["path"] == "runs/warn"
    assert "100 stations (17 % of the points)" in told["question"]
    small = [word for name, value in SETTINGS.items() if name != "num_events" for word in ("--set", f"{name}={value}")]
    made = CliRunner().invoke(app, ["events", "--magnitude", "5,5.2", "--num-events", "8", "--out", "larger", *small])
    assert made.exit_code == 0, made.output
    assert "8 train, 1 valid, 1 test" in made.stdout
    done = CliRunner().invoke(app, ["warn", str(run.path), "--store", "larger", "--out", "runs/larger"])
    assert done.exit_code == 0, done.output
