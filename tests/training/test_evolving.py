"""Training on what evolves: from a system and from its store, with histories and marches, interrupted and in parts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import tiny
from scifm.data.generate import generate
from scifm.data.origins import SystemOrigin
from scifm.errors import ConfigError, SignatureError
from scifm.evaluation.evaluate import evaluate
from scifm.fields.grid import Grid
from scifm.fields.window import Window
from scifm.models.registry import load_operator
from scifm.runs import Run
from scifm.systems.burgers import Burgers
from scifm.training.finetune import finetune, from_scratch
from scifm.training.pretrain import PretrainRecipe, pretrain

SYSTEM = Burgers(num_frames=6, save_interval=0.125)
OPTIONS = {"num_frames": 6, "save_interval": 0.125}
TUNING = {
    "num_samples": 3,
    "learning_rates": [1e-3, 1e-2],
    "min_scored": 1,
    "training": {**tiny.ADAPTING, "num_steps": 4},
}


def recipe(**changes):
    data = {"history": 2, "horizon": 2, "windows_per_trajectory": 2, **changes.pop("data", {})}
    tree = tiny.recipe(system={"name": "burgers", "options": OPTIONS}, data=data, **changes)
    tree["system"].pop("knobs", None)
    return tree


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_operator(run.path / "model").state_dict()


def same(first: Run, second: Run) -> bool:
    pairs = zip(weights(first).values(), weights(second).values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


class StopHereError(Exception):
    pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return pretrain(recipe(), out=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    counts = {"train": 6, "valid": 2, "test": 3}
    return generate(SYSTEM, num_samples=counts, num_points=16, path=tmp_path_factory.mktemp("stores") / "burgers")


def test_a_run_knows_its_window_and_its_lead_time(trained):
    operator = load_operator(trained.path / "model")
    assert (operator.history, operator.sees_lead_time) == (2, True)
    assert operator.domain.lead_times == pytest.approx((0.125, 0.125))
    assert Window.of(trained.config["origin"]) == Window(2, 2, 1)
    assert trained.config["model"]["network"]["history"] == 2


def test_a_run_that_was_stopped_ends_as_if_it_never_was(trained, tmp_path):
    def stop(**event):
        if event["event"] == "step" and event["step"] == 5:
            raise StopHereError

    with pytest.raises(StopHereError):
        pretrain(recipe(), out=tmp_path, observe=stop)
    assert same(pretrain(recipe(), out=tmp_path), trained)


def test_a_march_of_two_learns_otherwise_than_a_step(trained, tmp_path):
    for changes in (
        {"data": {"horizon": 1}},
        {"training": {"objective": {"name": "relative_l2", "through": 1}}},
        {"training": {"objective": {"name": "relative_l2", "noise": 0.01}}},
    ):
        other = pretrain(recipe(**changes), out=tmp_path)
        assert not same(other, trained), changes


def test_micro_batches_make_the_same_gradient(trained, tmp_path):
    parts = pretrain(recipe(training={"micro_batches": 2}), out=tmp_path)
    for name, weight in weights(parts).items():
        torch.testing.assert_close(weight, weights(trained)[name], rtol=1e-3, atol=1e-5)


def test_several_lead_times_are_learned_together_and_asked_one_by_one(store, tmp_path):
    run = pretrain(recipe(data={"horizon": 1, "leads": 3}), out=tmp_path)
    operator = load_operator(run.path / "model")
    assert operator.domain.lead_times == pytest.approx((0.125, 0.375))
    for stride in (1, 2):
        samples = store.split("test", Window(2, 1, stride))
        assert evaluate(run, samples, record=False).num_samples == samples.num_samples
    longer = SystemOrigin.of(replace(SYSTEM, num_frames=9), Grid.square(16, num_spatial_dims=1), Window(2, 1, 4))
    with pytest.raises(SignatureError, match=r"trained at a lead time of 0\.125 to 0\.375, and 0\.5 is asked for"):
        evaluate(run, longer.unseen(1)[0], record=False)
    near, far = (store.split("test", Window(2, 1, stride)).batch([0]) for stride in (1, 2))
    same_start = replace(far, inputs=near.inputs, targets=None)
    assert not torch.allclose(operator.predict(near).targets, operator.predict(same_start).targets)


def test_few_shot_counts_trajectories(trained, store, tmp_path):
    for way in (finetune, from_scratch):
        run = way(trained, store, out=tmp_path, **TUNING)
        index = json.loads((run.path / "subset.json").read_text())["index"]
        assert len(index) == 3
        assert load_operator(run.path / "model").history == 2
    more = finetune(trained, store, out=tmp_path, **{**TUNING, "num_samples": 5})
    assert json.loads((more.path / "subset.json").read_text())["index"][:3] == index


def test_downstream_trajectories_are_drawn_with_the_operators_history(trained, tmp_path):
    shifted = SYSTEM.where(viscosity=[0.05, 0.1])
    run = finetune(trained, shifted, out=tmp_path, **TUNING)
    assert run.config["origin"]["history"] == 2
    grid = Grid.square(16, num_spatial_dims=1)
    short = SystemOrigin.of(shifted, grid, Window(1)).pool(4, 0)
    with pytest.raises(Exception, match="takes 2 input frames; got 1"):
        finetune(trained, short, out=tmp_path, **TUNING)


def test_windows_longer_than_a_trajectory_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="spans 7 frames, and a trajectory has 6"):
        pretrain(recipe(data={"history": 5}), out=tmp_path)


def test_a_small_recipe_ships_and_reads(project_root):
    settings = PretrainRecipe.read(project_root / "recipes" / "burgers-small.toml")
    settings.check()
    assert settings.origin.signature.evolves


def test_what_dies_out_in_a_stream_is_measured_by_the_usual_size(tmp_path):
    """A catalyst that died out made the relative loss of fresh trajectories infinite at the first step."""
    tree = recipe(data={"history": 1, "horizon": 1})
    waves = {"max_wave": 3, "amplitude": 1e-12}
    options = {"num_frames": 3, "save_interval": 150.0, "num_spatial_dims": 1, "initial_state": waves}
    tree["system"] = {"name": "gray_scott", "options": options}
    with pytest.warns(UserWarning, match="'catalyst' is below 0.01 of its usual size"):
        run = pretrain(tree, out=tmp_path)
    assert run.is_complete
