"""An operator says at which lead time it was trained, and answers no other."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny
from scifm.data.formats.mapping import DataMapping
from scifm.data.importing import import_data
from scifm.errors import RunError, SignatureError
from scifm.evaluation.evaluate import evaluate
from scifm.fields.window import Pace
from scifm.models.registry import load_operator
from scifm.systems.poisson import Poisson
from scifm.training.finetune import finetune, from_scratch
from scifm.training.pretrain import pretrain

NUM, POINTS, INTERVAL = 10, 16, 0.25
TUNING = {"num_samples": 3, "learning_rates": (1e-3,), "training": {**tiny.ADAPTING, "num_steps": 2}}


def decaying(folder, *, interval: float = INTERVAL, num_frames: int = 5):
    """Return a store of waves that decay, with frames `interval` apart."""
    line, times = 2 * np.pi * np.arange(POINTS) / POINTS, interval * np.arange(num_frames)
    phase = np.arange(NUM)[:, None, None]
    wave = np.sin(line[:, None] + phase) * np.cos(line[None, :] - phase)
    folder.mkdir()
    np.savez(folder / "waves.npz", u=wave[:, None] * np.exp(-times)[None, :, None, None])
    mapping = DataMapping.model_validate(
        {
            "format": "arrays",
            "fields": {"u": {"array": "u", "axes": ("trajectory", "time", "y", "x")}},
            "time": {"interval": interval},
            "extent": {"y": 1.0, "x": 1.0},
            "boundary": {"y": "periodic", "x": "periodic"},
        }
    )
    return import_data(folder / "waves.npz", folder / "store", mapping=mapping)


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    return decaying(tmp_path_factory.mktemp("waves") / "coarse")


@pytest.fixture(scope="module")
def fine(tmp_path_factory):
    """The same with frames half as far apart."""
    return decaying(tmp_path_factory.mktemp("waves") / "fine", interval=INTERVAL / 2, num_frames=9)


def recipe(store, stride: int) -> dict:
    data = {"num_validation_samples": 2, "num_normalization_samples": 8, "store": str(store.path), "stride": stride}
    return {"name": "waves", "data": data, "model": {"network": tiny.NETWORK}, "training": tiny.TRAINING}


@pytest.fixture(scope="module")
def trained(waves, tmp_path_factory):
    return pretrain(recipe(waves, 2), out=tmp_path_factory.mktemp("runs"))


def test_it_is_recorded(trained):
    assert json.loads((trained.path / "model" / "config.json").read_text())["domain"]["lead_times"] == [0.5, 0.5]
    assert load_operator(trained.path / "model").domain.lead_times == (0.5, 0.5)
    assert trained.config["data"]["stride"] == 2
    steady = tiny.operator()
    assert steady.describe()["domain"]["lead_times"] is None


def test_frames_as_far_apart_are_answered_however_many_lie_between(trained, waves, fine):
    assert evaluate(trained, waves.split("test", stride=2)).num_samples == 3
    assert evaluate(trained, fine.split("test", stride=4)).num_samples == 5


@pytest.mark.parametrize("stride", [1, 4])
def test_another_lead_time_is_refused(trained, waves, tmp_path, stride):
    asked = {1: "0.25", 4: "1"}[stride]
    told = rf"trained at a lead time of 0\.5, and {asked} is asked for\. Choose frames.*\(--set stride"
    with pytest.raises(SignatureError, match=told):
        evaluate(trained, waves.split("test", stride=stride))
    with pytest.raises(SignatureError, match=told):
        finetune(trained, waves, out=tmp_path, stride=stride, **TUNING)


def test_what_is_adapted_keeps_it_and_what_begins_anew_has_its_own(trained, waves, fine, tmp_path):
    tuned = finetune(trained, fine, out=tmp_path, stride=4, **TUNING)
    assert load_operator(tuned.path / "model").domain.lead_times == (0.5, 0.5)
    fresh = from_scratch(trained, waves, out=tmp_path, stride=1, **TUNING)
    assert load_operator(fresh.path / "model").domain.lead_times == (0.25, 0.25)


def test_who_does_not_say_gets_the_answer_it_was_trained_for(trained, waves):
    operator, batch = load_operator(trained.path / "model"), waves.split("test", stride=2).load()
    silent = replace(batch, lead_time=None)
    assert torch.equal(operator.predict(silent).targets, operator.predict(batch).targets)


@pytest.mark.parametrize("given", [[0.5], [1.0, 0.5], [0.0, 1.0], [0.5, float("inf")], "0.5", [None, 1]])
def test_a_record_that_makes_no_sense_is_told(trained, tmp_path, given):
    operator = load_operator(trained.path / "model")
    operator.save_pretrained(tmp_path)
    entries = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**entries, "domain": {"lead_times": given}}))
    with pytest.raises(RunError):
        load_operator(tmp_path)
    before = {name: entry for name, entry in entries.items() if name != "domain"}  # as it was written at first
    (tmp_path / "config.json").write_text(json.dumps({**before, "lead_times": given}))
    with pytest.raises(RunError):
        load_operator(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**before, "lead_times": [0.5, 0.5]}))
    assert load_operator(tmp_path).domain.lead_times == (0.5, 0.5)


def test_frames_are_taken_as_far_apart_as_the_model_knows(trained, waves, fine, tmp_path):
    """A model of every second frame was refused on the very store it was trained on until ``stride=2`` was said."""
    tuned = finetune(trained, fine, out=tmp_path, **TUNING)
    assert load_operator(tuned.path / "model").domain.lead_times == (0.5, 0.5)
    assert tuned.config["origin"]["stride"] == 4
    fresh = from_scratch(trained, fine, out=tmp_path, **TUNING)
    assert load_operator(fresh.path / "model").domain.lead_times == (0.5, 0.5)


def test_what_is_adapted_knows_the_ranges_of_its_own_samples(tmp_path):
    parent, shifted = tiny.finished_run(tmp_path / "runs"), Poisson(anisotropy=(15, 20))
    settings = {"num_samples": 6, "learning_rates": [1e-3], "training": {**tiny.ADAPTING, "num_steps": 2}}
    for adapt in (finetune, from_scratch):
        domain = load_operator(adapt(parent, shifted, out=tmp_path, **settings).path / "model").domain
        assert domain.num_samples == 6
        assert domain.grid == tiny.GRID
        low, high = domain.coefficients["diffusion_xx"]
        assert 0 < low < high
        assert set(domain.encoded) == {*Poisson.signature.inputs, *Poisson.signature.coefficients}


@pytest.mark.parametrize(
    ("knows", "neighbours", "stride"),
    [
        (None, (0.1, 0.1), 1),
        ((0.5, 0.5), None, 1),
        ((0.5, 0.5), (0.1, 0.1), 5),
        ((0.5, 0.5), (0.5, 0.5), 1),
        ((0.5, 0.5), (0.2, 0.2), 1),  # none fits: the operator refuses it, and says what it knows
        ((0.5, 0.5), (1.0, 1.0), 1),
        ((0.5, 1.5), (0.4, 0.4), 2),
        ((0.3, 0.3), (0.1, 0.1), 3),  # 3 × 0.1 is more than 0.3 in floating point
        ((0.5, 0.5), (0.2, 0.3), 1),  # unevenly spaced
    ],
)
def test_a_pace_says_how_far_apart(knows, neighbours, stride):
    assert Pace(lead_times=knows).stride(neighbours) == stride


def test_the_command_line_says_so_in_one_line(scifm, trained, waves, tmp_path):
    said = scifm("evaluate", trained.path, "--store", waves.path, "--set", "stride=1")
    assert said.status == 2
    assert "trained at a lead time of 0.5, and 0.25 is asked for" in said.err
    for verb, *more in (("evaluate",), ("rollout", "--steps", "1")):
        said = scifm(verb, trained.path, "--store", waves.path, *more, "--json")
        assert said.status == 0
        assert json.loads(said.out)["origin"]["stride"] == 2
    tuning = ("finetune", trained.path, "--store", waves.path, "--num-samples", 3, "--out", tmp_path)
    tuning = (*tuning, "--set", "training.num_steps=2", "--set", "learning_rates=[1e-3]")
    said = scifm(*tuning, "--set", "stride=1")
    assert said.status == 2
    assert "trained at a lead time of 0.5" in said.err
    assert scifm(*tuning).status == 0
    assert scifm("export", trained.path, "--to", "torch-export", "--out", tmp_path / "export").status == 0
    assert json.loads((tmp_path / "export" / "export.json").read_text())["lead_times"] == [0.5, 0.5]
