from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

import evolving
import tiny
from scifm.config import dump_toml
from scifm.data.generate import generate
from scifm.data.importing import import_data
from scifm.data.run_origin import RunOrigin
from scifm.errors import ConfigError, DataError, RunError, SignatureError
from scifm.models.registry import load_operator
from scifm.runs import Run
from scifm.systems.poisson import Poisson
from scifm.training.loop import DivergedError
from scifm.training.pretrain import PretrainRecipe, pretrain, training_source


def weights(run: Run) -> bytes:
    return (run.path / "model" / "model.safetensors").read_bytes()


def log(run: Run) -> list[dict]:
    return [{k: v for k, v in event.items() if k != "seconds"} for event in run.metrics()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    """The tiny recipe, run from beginning to end."""
    return pretrain(tiny.RECIPE, out=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "poisson"
    return generate(Poisson(), num_samples={"train": 10, "valid": 3, "test": 3}, num_points=16, path=path)


def test_a_run_leaves_everything_that_was_promised(finished):
    assert finished.is_complete
    names = {path.relative_to(finished.path).as_posix() for path in finished.path.rglob("*") if path.is_file()}
    assert {
        "config.toml", "environment.json", "metrics.jsonl", "STATUS", "model/config.json", "model/model.safetensors",
        "state/step-00000012.safetensors",
    } <= names  # fmt: skip
    assert not any(name.endswith(".part") for name in names)
    assert PretrainRecipe.read(finished.config) == PretrainRecipe.read(finished.path / "config.toml")
    assert tiny.steps_of(finished.metrics(), "train") == [2, 4, 6, 8, 10, 12]
    assert tiny.steps_of(finished.metrics(), "valid") == [4, 8, 12]


def test_the_weights_in_the_model_are_those_after_the_last_step(finished):
    from safetensors.torch import load_file

    state = load_file(finished.path / "state" / "step-00000012.safetensors")
    for name, tensor in load_operator(finished.path / "model").state_dict().items():
        assert torch.equal(tensor, state[f"weights/{name}"])


def test_the_first_weights_move_and_depend_on_the_seed_alone(finished, tmp_path):
    torch.manual_seed(1234)
    before = torch.get_rng_state()
    again = pretrain(tiny.RECIPE, out=tmp_path)
    assert weights(again) == weights(finished)
    assert again.path.name == finished.path.name
    other = pretrain(tiny.recipe(seed=2), out=tmp_path)
    assert weights(other) != weights(finished)
    assert other.path != again.path
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"


def test_a_complete_run_is_not_run_again(finished):
    stamp = (finished.path / "model" / "model.safetensors").stat().st_mtime_ns
    events = []
    again = pretrain(tiny.RECIPE, out=finished.path.parent, observe=lambda **event: events.append(event))
    assert again.path == finished.path
    assert events == []
    assert (finished.path / "model" / "model.safetensors").stat().st_mtime_ns == stamp


# --- interruption -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 5, 12])
def test_ctrl_c_and_resume_equal_a_run_never_stopped(finished, tmp_path, stop):
    def interrupt(**event) -> None:
        if event["event"] == "step" and event["step"] == stop:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny.RECIPE, out=tmp_path, observe=interrupt)
    halfway = Run.open(tmp_path / finished.path.name)
    assert halfway.status.startswith("interrupted")
    first_sitting = halfway.seconds
    resumed = pretrain(tiny.RECIPE, out=tmp_path)
    assert 0 < first_sitting < resumed.seconds, "wall time of the sitting before is lost"
    assert weights(resumed) == weights(finished)
    assert log(resumed) == log(finished)
    assert resumed.is_complete


KILLED = """
import os, signal, sys
from scifm.runs import Run
log = Run.log
def log_and_die(self, **event):
    log(self, **event)
    if event["step"] == 8:
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write('{"event": "train", "st')
        os.kill(os.getpid(), signal.SIGKILL)
Run.log = log_and_die
from scifm.cli import main
main()
"""


@pytest.mark.filterwarnings("ignore:.*was left by process")
@pytest.mark.parametrize("what", ["steady", "evolving"])
def test_kill_9_and_resume_equal_a_run_never_stopped(what, request, tmp_path):
    """`scifm pretrain` dies by SIGKILL at step 8, its log cut inside a line; the last saved state is that of step 6."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(dump_toml(tiny.RECIPE if what == "steady" else tiny.EVOLVING))
    finished = request.getfixturevalue("finished") if what == "steady" else pretrain(recipe, out=tmp_path / "never")
    out = tmp_path / "runs"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "pretrain", str(recipe), "--out", str(out)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    dead = Run.open(out / finished.path.name)
    assert dead.status == "running"
    assert not (dead.path / "model").exists()
    assert tiny.steps_of(dead.metrics(), "train")[-1] == 8
    events = []
    resumed = pretrain(recipe, out=out, observe=lambda **event: events.append(event))
    assert events[0] == {"event": "resumed", "step": 6}
    assert weights(resumed) == weights(finished)
    assert log(resumed) == log(finished)
    lines = (resumed.path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len(log(finished))
    for line in lines:
        json.loads(line)


def test_early_stopping_survives_an_interruption(tmp_path):
    """The best weights so far travel with the state."""
    recipe = tiny.recipe(training={"patience": 1, "num_steps": 40, "learning_rate": 1e-1, "schedule": "constant"})
    straight = pretrain(recipe, out=tmp_path / "a")

    def interrupt(**event) -> None:
        if event["event"] == "step" and event["step"] == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, out=tmp_path / "b", observe=interrupt)
    resumed = pretrain(recipe, out=tmp_path / "b")
    assert tiny.steps_of(log(straight), "valid")[-1] < 40, "it did stop early"
    assert weights(resumed) == weights(straight)
    assert log(resumed) == log(straight)


# --- what can go wrong ------------------------------------------------------------------------------------------------


def test_a_folder_in_use_is_left_alone(tmp_path):
    settings = PretrainRecipe.read(tiny.RECIPE)
    record = {"kind": "pretrain", **settings.to_dict(), "origin": settings.origin.describe()}
    run = Run.prepare(tmp_path, "tiny", record)
    with run.locked(), pytest.raises(RunError, match=f"in use by another process .process {os.getpid()}"):
        pretrain(tiny.RECIPE, out=tmp_path)
    assert run.metrics() == []


def test_divergence_is_written_into_the_status(tmp_path):
    recipe = tiny.recipe(training={"learning_rate": 1e30, "schedule": "constant"})
    with pytest.raises(DivergedError, match=r"Lower training\.learning_rate"):
        pretrain(recipe, out=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert Run.open(folder).status.startswith("failed: The loss became")
    assert not (folder / "model").exists()


def test_a_full_disk_loses_nothing(finished, tmp_path, monkeypatch):
    """The disk fills up at the second saved state; freed, the run goes on from the first one and ends the same."""
    calls = []
    fsync = os.fsync

    def fills_up(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 9:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fills_up)
    with pytest.raises(RunError, match=r"No space left on device.*Free some space"):
        pretrain(tiny.RECIPE, out=tmp_path)
    monkeypatch.undo()
    events = []
    resumed = pretrain(tiny.RECIPE, out=tmp_path, observe=lambda **event: events.append(event))
    assert events[0]["step"] > 0, "the first saved state was kept"
    assert weights(resumed) == weights(finished)
    assert log(resumed) == log(finished)


def test_a_damaged_state_is_a_clear_error(tmp_path):
    def interrupt(**event) -> None:
        if event["event"] == "step" and event["step"] == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny.RECIPE, out=tmp_path, observe=interrupt)
    states = sorted(tmp_path.glob("*/state/step-*.safetensors"))
    assert len(states) == 2
    for state in states:
        state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(RunError, match=r"No training state in .* is whole"):
        pretrain(tiny.RECIPE, out=tmp_path)


def test_one_damaged_state_costs_only_its_steps(finished, tmp_path):
    """The log says so, once, and has every other line once."""

    def interrupt(**event) -> None:
        if event["event"] == "step" and event["step"] == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(tiny.RECIPE, out=tmp_path, observe=interrupt)
    newest = max(tmp_path.glob("*/state/step-*.safetensors"))
    assert newest.name == "step-00000007.safetensors"
    newest.write_bytes(newest.read_bytes()[:500])
    resumed = pretrain(tiny.RECIPE, out=tmp_path)
    told = [event for event in resumed.metrics() if event["event"] == "damaged"]
    assert [(event["step"], event["file"]) for event in told] == [(6, newest.name)]
    assert weights(resumed) == weights(finished)
    assert [event for event in log(resumed) if event["event"] != "damaged"] == log(finished)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"system": None}, r"exactly one of these"),
        ({"data": {"store": "somewhere"}}, "exactly one of these"),
        ({"system": {"knobs": {"anisotropy": [5, 1]}}}, "Swap them"),
        ({"training": {"num_step": 3}}, "Did you mean 'num_steps'"),
        ({"model": {"network": {"modes": 30, "latent_points": 10}}}, "at least twice modes"),
    ],
)
def test_recipes_that_do_not_add_up_are_refused(tmp_path, changes, words):
    recipe = {k: v for k, v in tiny.recipe(**changes).items() if v is not None}
    with pytest.raises(ConfigError, match=words):
        pretrain(recipe, out=tmp_path)


# --- from a store -----------------------------------------------------------------------------------------------------


def test_a_store_is_trained_on(store, tmp_path):
    recipe = {k: v for k, v in tiny.recipe(data={"num_validation_samples": 3}).items() if k != "system"}
    first = pretrain(recipe, store=store, out=tmp_path / "a")
    data = {name: value for name, value in recipe["data"].items() if name != "num_points"}  # the store has its own
    by_name = pretrain({**recipe, "data": {**data, "store": str(store.path)}}, out=tmp_path / "b")
    assert first.is_complete
    assert weights(first) == weights(by_name)
    assert first.config["data"]["store"] == str(store.path)
    operator = load_operator(first.path / "model")
    assert operator.signature == store.signature
    assert len(operator.normalization.homogeneities) == 2, "those of the system that made the store"


def test_a_store_of_another_system_than_the_recipes_is_refused(store, tmp_path):
    recipe = {**tiny.recipe(), "system": {"name": "helmholtz"}}
    with pytest.raises(SignatureError, match="'wavenumber_shift'"):
        pretrain(recipe, store=store, out=tmp_path)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_nan_in_a_store_is_found(store, tmp_path):
    import shutil

    import h5py

    from scifm.data.store import Store

    copy = shutil.copytree(store.path, tmp_path / "poisson")
    (file,) = (copy / "data" / "train").iterdir()
    with h5py.File(file, "r+") as handle:
        field = next(iter(handle["t0_fields"].values()))
        field[(3, *[0] * (field.ndim - 1))] = float("nan")
    recipe = {k: v for k, v in tiny.RECIPE.items() if k != "system"}
    with pytest.raises(DataError, match="sample 3"):
        pretrain(recipe, store=Store.open(copy), out=tmp_path / "runs")


def test_a_store_too_coarse_for_the_modes_is_refused(store, tmp_path):
    from scifm.errors import SignatureError

    recipe = tiny.recipe(model={"network": {**tiny.NETWORK, "modes": 12, "latent_points": 0}})
    with pytest.raises(SignatureError, match="at least twice as many points"):
        pretrain({k: v for k, v in recipe.items() if k != "system"}, store=store, out=tmp_path)


def test_a_number_of_distinct_samples_is_drawn_once_and_gone_over(tmp_path):
    recipe = PretrainRecipe.read(tiny.recipe(data={"num_samples": 6}))
    source = training_source(recipe)
    assert source.num_samples == 6
    seen = torch.cat([source.batch(step).inputs for step in range(3)])  # 12 samples: two rounds
    assert len(seen.flatten(1).unique(dim=0)) == 6
    assert torch.equal(source.batch(1).inputs, training_source(recipe).batch(1).inputs)
    assert training_source(PretrainRecipe.read(tiny.recipe())).num_samples is None


def test_of_a_mixture_each_system_has_its_share_of_them():
    systems = [{"name": "poisson"}, {"name": "advection_diffusion", "weight": 2.0}]
    tree = {**tiny.recipe(data={"num_samples": 9}), "mixture": systems}
    del tree["system"]
    source = training_source(PretrainRecipe.read(tree))
    assert sorted(source.samples.systems) == ["advection_diffusion"] * 6 + ["poisson"] * 3


def test_a_store_is_trained_on_whole(tmp_path):
    with pytest.raises(ConfigError, match="give one of the two"):
        PretrainRecipe.read(tiny.recipe(data={"num_samples": 6, "store": "somewhere"}))
    store = generate(Poisson(), num_samples=8, num_points=16, seed=0, path=tmp_path / "store")
    with pytest.raises(ConfigError, match="give one of the two"):
        pretrain(PretrainRecipe.read(tiny.recipe(data={"num_samples": 6})), store=store, out=tmp_path)


def test_foreign_data_are_trained_on_where_they_lie(tmp_path):
    foreign = evolving.in_place(tmp_path / "foreign")
    copied = import_data(foreign.path, tmp_path / "store", evolving.MAPPING)
    first = pretrain(evolving.recipe(), store=foreign, out=tmp_path / "a")
    assert weights(first) == weights(pretrain(evolving.recipe(), store=copied, out=tmp_path / "b"))
    assert PretrainRecipe.read(first.config).data.mapping == evolving.MAPPING, "the record says how they were read"
    assert pretrain(PretrainRecipe.read(first.config), out=tmp_path / "a").path == first.path
    assert RunOrigin.of(first).grid == foreign.grid
