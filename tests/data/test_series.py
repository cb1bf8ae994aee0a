"""Series: data that know no space, from a file to a trained network and its scores."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from scifm.data.importing import import_data, open_data
from scifm.data.normalize import fit_normalization
from scifm.errors import ConfigError, SignatureError
from scifm.evaluation.baselines import last_states
from scifm.evaluation.evaluate import evaluate, persistence
from scifm.evaluation.pointwise import METRICS
from scifm.evaluation.rollouts import forecast
from scifm.fields.grid import Grid
from scifm.fields.observed import one_step_samples
from scifm.fields.window import Window
from scifm.models.registry import load_operator
from scifm.report.run_page import render_run
from scifm.training.pretrain import pretrain

NUM_SERIES, NUM_FRAMES, INTERVAL = 20, 60, 0.5


def series() -> np.ndarray:
    """Return waves whose frequency nobody tells."""
    generator = np.random.default_rng(0)
    times = INTERVAL * np.arange(NUM_FRAMES)
    phases, rates = generator.uniform(0, 2 * np.pi, NUM_SERIES), generator.uniform(0.5, 1.5, NUM_SERIES)
    return np.sin(phases[:, None] + rates[:, None] * times)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    np.savez(folder / "waves.npz", voltage=series(), time=INTERVAL * np.arange(NUM_FRAMES))
    return import_data(folder / "waves.npz", folder / "store")


def test_a_table_of_series_and_times_needs_no_map(store, tmp_path):
    assert store.grid == Grid.place()
    assert store.grid.told == "one place"
    batch = store.split("train", Window(3, 4)).batch([0])
    assert batch.inputs.shape == (1, 3, 1, 1)
    assert batch.require_targets().shape == (1, 4, 1, 1)
    whole = np.concatenate([batch.inputs.numpy(), batch.require_targets().numpy()], axis=1).ravel()
    assert any(np.array_equal(whole, row[:7].astype(np.float32)) for row in series())
    np.savez(tmp_path / "two.npz", voltage=series(), current=series(), time=INTERVAL * np.arange(NUM_FRAMES))
    opened = open_data(tmp_path / "two.npz")
    assert opened.grid == store.grid
    assert opened.signature.state == ("voltage", "current")


def test_a_grid_of_one_point_is_a_place_and_no_box():
    assert Grid.place().is_place
    for points, ends in (((1, 4), "periodic"), ((1,), "wall")):
        with pytest.raises(SignatureError, match="at least 2 points"):
            Grid(points, boundary=ends)


def test_small_frames_lie_together_in_the_file(store):
    """A chunk of HDF5 for every number would take a thousand times their room, and is refused when it is read."""
    with h5py.File(next((store.path / "data" / "train").glob("*.hdf5"))) as file:
        assert file["t0_fields/voltage"].chunks == (1, NUM_FRAMES, 1)


@pytest.mark.parametrize("window", [Window(1, 9), Window(3, 2, stride=2), Window(2, 1, stride=7), Window(1, 1, 3, 4)])
def test_windows_hold_the_frames_they_say(store, window):
    split = store.split("train", window)
    whole = store.split("train", Window(1, NUM_FRAMES - 1)).load()
    frames = torch.cat([whole.inputs, whole.require_targets()], dim=1)[:, :, 0, 0]
    counts, place = window.counts(NUM_FRAMES), 0
    batch = split.load()
    for own in frames:
        for lead, count in enumerate(counts, start=1):
            for first in range(count):
                inputs, targets = ([first + later for later in part] for part in (window.inputs, window.targets(lead)))
                assert torch.equal(batch.inputs[place, :, 0, 0], own[inputs])
                assert torch.equal(batch.require_targets()[place, :, 0, 0], own[targets])
                place += 1
    assert place == batch.num_samples


def test_observed_is_of_several_targets():
    with pytest.raises(ConfigError, match="observed = true is of several targets"):
        Window(1, 1, observed=True)
    window = Window(2, 3, observed=True)
    assert window.record() == {"stride": 1, "history": 2, "horizon": 3, "observed": True}
    assert Window.of(window.record()) == window


def test_each_observed_frame_is_a_question_of_one_step(store):
    batch = store.split("train", Window(2, 3, observed=True)).batch([0, 5])
    assert batch.observed
    each = one_step_samples(batch)
    assert not each.observed
    assert each.inputs.shape == (6, 2, 1, 1)
    frames = torch.cat([batch.inputs, batch.require_targets()], dim=1)
    for place in range(6):
        sample, step = divmod(place, 3)
        assert torch.equal(each.inputs[place], frames[sample, step : step + 2])
        assert torch.equal(each.require_targets()[place, 0], frames[sample, step + 2])
    assert torch.allclose(each.lead_time, torch.full((6, 1), INTERVAL))
    assert torch.equal(last_states(batch)[0, :, 0, 0], frames[0, 1:4, 0, 0])


def test_a_series_is_measured_by_what_it_is_over_time():
    truth = torch.tensor([3.0, 0.0, -4.0, 0.0]).view(1, 4, 1, 1)
    answer = truth + torch.tensor([0.0, 1.0, 2.0, 0.0]).view(1, 4, 1, 1)
    size, spread = 2.5, 2.5**2 - 0.25**2
    assert torch.allclose(METRICS["relative_l2"](answer, truth).flatten() * size, torch.tensor([0.0, 1.0, 2.0, 0.0]))
    assert torch.allclose(METRICS["vrmse"](answer, truth).flatten() * spread**0.5, torch.tensor([0.0, 1.0, 2.0, 0.0]))
    known = torch.tensor([True, False, True, True]).view(1, 4, 1, 1)
    relative = METRICS["relative_l2"](answer, truth, valid=known).flatten()
    assert torch.allclose(relative[2] * (25 / 3) ** 0.5, torch.tensor(2.0))
    mean = -1 / 3
    variance = sum((value - mean) ** 2 for value in (3.0, -4.0, 0.0)) / 3
    assert torch.allclose(METRICS["vrmse"](answer, truth, valid=known).flatten()[2] * variance**0.5, torch.tensor(2.0))
    constant = torch.full((1, 4, 1, 1), 0.1)
    assert bool(METRICS["vrmse"](constant, constant).isnan().all())


def test_numbers_may_be_left_as_they_are(store):
    batch = store.split("train", Window(1, 5, observed=True)).load()
    normalization = fit_normalization(batch, kind="none")
    encoded = normalization.encode(one_step_samples(batch))
    assert torch.equal(encoded.inputs, one_step_samples(batch).inputs)
    assert encoded.output_offset is None
    assert torch.equal(encoded.decode(encoded.inputs), encoded.inputs)
    changes = fit_normalization(batch)
    steps = batch.require_targets() - last_states(batch)
    assert changes.output_scale[0] == pytest.approx(float(steps.square().mean().sqrt()), rel=1e-6)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    recipe = {
        "name": "waves",
        "model": {"kind": "recurrent", "network": {"cell": "lem", "width": 12}},
        "data": {"store": str(store.path), "horizon": NUM_FRAMES - 1, "observed": True},
        "training": {"num_steps": 150, "batch_size": 16, "learning_rate": 0.01, "validate_every": 75},
    }
    return pretrain(recipe, out=tmp_path_factory.mktemp("runs"))


def test_a_recurrent_network_learns_what_nobody_tells(run, store):
    """The frequency of a wave can be told from what was seen of it, and from no single number."""
    samples = store.split("test", Window(1, NUM_FRAMES - 1, observed=True))
    scores = evaluate(load_operator(run.path / "model"), samples).mean()
    assert scores < 0.5 * persistence(samples).mean()
    alone = evaluate(load_operator(run.path / "model"), store.split("test", Window(1, 1))).defined("rmse").mean()
    assert evaluate(load_operator(run.path / "model"), samples).mean("rmse") < 0.5 * float(alone)


def test_it_marches_on_from_what_it_has_seen(run, store):
    operator = load_operator(run.path / "model")
    seen = store.split("test", Window(1, NUM_FRAMES - 1, observed=True)).load()
    free = operator.answers(replace(seen, observed=False)).require_targets()
    assert bool(free.isfinite().all())
    assert torch.allclose(free[:, 0], operator.answers(seen).require_targets()[:, 0], atol=1e-5)


def test_a_forecast_may_begin_behind_as_many_frames_as_are_known(run, store, tmp_path):
    found, about = forecast(run, given=40, steps=10)
    assert about["given"] == 40
    assert found.times == pytest.approx([INTERVAL * step for step in range(1, 11)])
    assert set(found.errors) == {"relative_l2", "vrmse"}  # one point has no waves and no correlation
    assert found.correlation_time() == []
    blind, _ = forecast(run, given=1, steps=10)
    assert found.curve()[0] < 0.5 * blind.curve()[0]
    page = render_run(run.path)
    assert "What was, dashed, and what was forecast" in page.text
    assert [series.label for series in page.figures["series"].panels[0].series] == ["model", "truth"]
    assert not page.plates  # no film, no maps


def test_only_who_reads_frames_one_after_the_other_is_given_any_number_of_them(store, tmp_path):
    recipe = {
        "name": "fno",
        "model": {"network": {"width": 2, "modes": 1, "num_layers": 1, "projection_width": 2}},
        "data": {"store": str(store.path), "num_normalization_samples": 8, "num_validation_samples": 4},
        "training": {"num_steps": 1, "batch_size": 4},
    }
    with pytest.raises(ConfigError, match=r"given = 5 is for operators that read any number of frames.*'fno', takes 1"):
        forecast(pretrain(recipe, out=tmp_path), given=5)


def test_series_are_asked_about_as_arrays_without_space(run):
    operator = load_operator(run.path / "model")
    times = INTERVAL * np.arange(50)
    both = np.stack([np.sin(times), np.sin(0.7 * times)]).astype(np.float32)
    answer = operator.predict({"voltage": both[:, :40]}, num_steps=10)["voltage"]
    assert answer.shape == (2, 10)
    assert np.abs(answer[:, 0] - both[:, 40]).max() < 0.3
    alone = operator.predict({"voltage": torch.from_numpy(both[0, :40])})["voltage"]
    assert isinstance(alone, torch.Tensor)
    assert float(alone) == pytest.approx(float(answer[0, 0]), abs=1e-5)
    with pytest.raises(SignatureError, match=r"Series are of shape \(frame,\) or \(sample, frame\)"):
        operator.predict({"voltage": 0.5})
