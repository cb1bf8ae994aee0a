"""Forecasts judged by lead time, against numbers that can be said beforehand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

import tiny
from scifm.data.generate import generate
from scifm.data.split import windows_of
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.evaluation.forecast import BANDS, LinearModel, correlation, judge, spectral_error
from scifm.evaluation.rollouts import RolloutRecipe, forecast
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.window import Window
from scifm.models.fno import FNOConfig
from scifm.models.operator import Operator
from scifm.report.page import page
from scifm.runs import Run
from scifm.systems.burgers import Burgers
from scifm.training.pretrain import pretrain

SYSTEM = Burgers(num_frames=6, save_interval=0.125)
GRID = Grid.square(32, num_spatial_dims=1)


class Solver(Operator):
    """The solver itself as an operator, a factor off."""

    needs_periodic = False
    factor = 1.0

    def __init__(self):
        super().__init__(SYSTEM.signature, FNOConfig(**tiny.NETWORK))
        self.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

    def network(self, encoded):
        now = encoded.inputs[:, 0]
        later = SYSTEM.advance(now, encoded.coefficients, encoded.grid, interval=0.125, num_frames=1)
        return self.factor * later - now.unsqueeze(1)


def trajectories(num=4):
    drawn = SYSTEM.sample(num, GRID, generator_for(0, "forecast"), dtype=torch.float64)
    return windows_of(drawn, Window(horizon=5))


def test_a_perfect_forecast_has_no_error_and_drifts_as_the_truth():
    found = judge(Solver(), trajectories(), training=trajectories(3), system=SYSTEM)
    assert found.times == pytest.approx([0.125 * step for step in range(1, 6)])
    for name, errors in found.errors.items():
        best = 1.0 if name == "correlation" else 0.0
        if name != "spectral_high":  # where nearly nothing is, rounding counts
            torch.testing.assert_close(errors, torch.full_like(errors, best), rtol=0, atol=1e-6)
    assert set(found.baselines) == {"persistence", "climatology", "linear"}
    assert found.correlation_time() == [None] * 4
    assert set(found.drifts) == {"momentum"}
    torch.testing.assert_close(found.drifts["momentum"], found.own_drifts["momentum"], rtol=0, atol=1e-12)
    assert found.windows() == {"1": pytest.approx(0.0, abs=1e-6)}
    torch.testing.assert_close(found.spectra["model"], found.spectra["truth"], rtol=1e-6, atol=1e-14)
    told = found.to_dict()
    assert [(own["channel"], own["step"], own["time"]) for own in told["spectra"]] == [
        ("velocity", 1, 0.125), ("velocity", 3, 0.375), ("velocity", 5, 0.625),
    ]  # fmt: skip
    for name, kept in (("drift_ranges", found.drifts), ("own_drift_ranges", found.own_drifts)):
        low, high = (kept["momentum"].abs().quantile(level, dim=0).tolist() for level in (0.1, 0.9))
        assert told[name]["momentum"] == {"low": pytest.approx(low), "high": pytest.approx(high)}
    json.dumps(found.to_dict(), allow_nan=False)


def test_persistence_is_the_first_frame():
    samples = trajectories()
    batch = samples.load()
    found = judge(Solver(), samples)
    off = (batch.inputs - batch.targets).flatten(3).norm(dim=-1) / batch.targets.flatten(3).norm(dim=-1)
    torch.testing.assert_close(found.baselines["persistence"]["relative_l2"], off)
    assert found.curve() == pytest.approx([0.0] * 5, abs=1e-6)
    assert set(found.baselines) == {"persistence"}


def test_what_is_lost_has_no_error_from_then_on():
    operator = Solver()
    operator.factor = 5.0
    found = judge(operator, trajectories(), bound=10.0)
    assert (found.lost_at > 0).all()
    curve = found.curve()
    assert math.isfinite(curve[0])
    assert math.isnan(curve[-1])
    told = found.to_dict()
    assert told["num_lost"] == 4
    assert told["errors"]["relative_l2"][-1] is None
    json.dumps(told, allow_nan=False)


def test_the_correlation_knows_no_size_and_no_mean():
    target = torch.randn(2, 1, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(correlation(3 * target + 2, target), torch.ones(2, 1, 1, dtype=torch.float64))
    torch.testing.assert_close(correlation(-target, target), -torch.ones(2, 1, 1, dtype=torch.float64))
    assert correlation(torch.ones_like(target), target).isnan().all()


@pytest.mark.parametrize(("wave", "band"), [(1, "low"), (2, "low"), (4, "middle"), (6, "middle"), (11, "high")])
@pytest.mark.parametrize(
    "grid", [Grid.square(32, num_spatial_dims=1), Grid((33,), (1.0,), (False,))], ids=["round", "walls"]
)
def test_each_band_sees_its_own_waves(wave, band, grid):
    """Thirds of 1 to 16 on a logarithmic scale end at 2.5 and 6.3."""
    x = grid.coordinates()[0]
    turn = 2 * math.pi if grid.periodic[0] else math.pi
    truth = sum(torch.cos(turn * n * x * (1 if grid.periodic[0] else 2)) for n in (1, 4, 11)).view(1, 1, 1, -1)
    error = 0.5 * torch.cos(turn * wave * x * (1 if grid.periodic[0] else 2)).view(1, 1, 1, -1)
    found = {name: float(values) for name, values in spectral_error(truth + error, truth, grid).items()}
    assert found == pytest.approx({name: 0.5 if name == band else 0.0 for name in BANDS}, abs=1e-6)


def test_the_linear_model_is_exact_for_what_is_linear():
    angle = 2 * math.pi * torch.arange(32, dtype=torch.float64) / 32
    start = torch.stack([torch.cos(k * angle + k * k) for k in (1, 2, 3)])
    rates = torch.tensor([0.9, 0.7, 1.05], dtype=torch.float64)
    mixed = torch.randn(5, 3, dtype=torch.float64)
    frames = torch.stack([(mixed * rates**t) @ start for t in range(6)], dim=1).unsqueeze(2)
    frames = torch.cat([frames, -frames])  # of zero mean
    model = LinearModel(frames[:, :3])
    marched = torch.stack(list(model.march(frames[:, 0], 5)), dim=1)
    torch.testing.assert_close(marched, frames[:, 1:])


def test_what_does_not_evolve_is_refused():
    with pytest.raises(SignatureError, match="A forecast is of states"):
        judge(tiny.operator(), tiny.batch(2))
    with pytest.raises(DataError, match="at least one trajectory"):
        judge(Solver(), trajectories().chosen([]))


# --- of a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    counts = {"train": 6, "valid": 2, "test": 3}
    return generate(SYSTEM, num_samples=counts, num_points=32, path=tmp_path_factory.mktemp("stores") / "burgers")


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    tree = {**tiny.RECIPE, "data": {"store": str(store.path), "history": 2, "num_validation_samples": 4}}
    tree["data"]["num_normalization_samples"] = 8
    del tree["system"]
    return pretrain(tree, out=tmp_path_factory.mktemp("runs"))


def test_the_forecast_of_a_run_is_kept(trained, store, tmp_path):
    found, about = forecast(trained, steps=9, num_samples=2, out=tmp_path / "frames.nc")
    assert found.num_steps == 4  # two frames of six are where it starts
    kept = json.loads(Run(trained.path).forecast_files[0].read_text())
    assert kept["errors"]["relative_l2"] == pytest.approx(found.curve())
    assert kept["steps"] == 9
    assert about["file"].startswith(str(trained.path))
    assert [own["step"] for own in kept["spectra"]] == [1, 2, 4]
    assert len(kept["spectra"][0]["truth"]["mean"]) == 16
    text = page(trained.path, out=tmp_path / "page.html").read_text()
    assert "step 4 of 4, lead time 0.5, relative L2 error" in text
    assert 'class="frames"' in text
    assert "Energy by wavenumber" in text
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(tmp_path / "frames.nc") as frames:
        assert dict(frames.sizes) == {"trajectory": 2, "time": 9, "x": 32}
        assert frames.time.values == pytest.approx([0.125 * step for step in range(1, 10)])
        assert set(frames.data_vars) == {"velocity", "viscosity", "lost_at"}
        truth = store.split("test", Window(2, 4)).batch([0]).require_targets()[0, :, 0]
        off = (torch.from_numpy(frames.velocity.values[0, :4]) - truth).norm(dim=-1) / truth.norm(dim=-1)
    assert off.tolist() == pytest.approx(found.errors["relative_l2"][0, :, 0].tolist(), rel=1e-4)


def test_of_a_system_the_truth_goes_as_far_as_the_forecast(trained):
    system = {"name": "burgers", "options": {"save_interval": 0.125}}
    found, _ = forecast(trained, steps=7, num_samples=2, system=system, num_points=32)
    assert found.num_steps == 7
    again, _ = forecast(trained, steps=7, num_samples=2, system=system, num_points=32)
    assert again.curve() == found.curve()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"horizon": 3}, "horizon would have no effect beside steps"),
        ({"system": {"name": "poisson"}}, "solution of poisson does not"),
        ({"system": {"name": "burgers"}, "split": "valid"}, "split would have no effect"),
    ],
)
def test_what_cannot_be_asked(trained, settings, message):
    with pytest.raises((ConfigError, SignatureError), match=message):
        forecast(trained, **settings)


def test_an_unwritable_place_leaves_nothing_behind(trained, tmp_path):
    with pytest.raises(Exception, match="Cannot write the forecast"):
        forecast(trained, steps=2, out=tmp_path / "missing" / "frames.nc")
    assert not list(tmp_path.iterdir())


def test_a_recipe_may_say_it_all(trained):
    how = RolloutRecipe(steps=3, num_samples=1)
    found, about = forecast(trained, how)
    assert (found.num_steps, len(found.lost_at), about["steps"]) == (3, 1, 3)
    assert replace(found, times=()).num_steps == 0
