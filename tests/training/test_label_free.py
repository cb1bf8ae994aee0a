"""Adapting by the equation alone: no label is read, and the error falls all the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import evolving
import tiny
from scifm.cli import app
from scifm.config import build_config
from scifm.data.formats.mapping import DataMapping
from scifm.data.generate import generate
from scifm.data.importing import import_data
from scifm.data.origins import DownstreamPool, SystemOrigin
from scifm.data.partly_solved import unsolved_samples
from scifm.errors import ConfigError
from scifm.models.registry import load_operator
from scifm.systems.burgers import Burgers
from scifm.systems.evolving import Evolving
from scifm.systems.poisson import Poisson
from scifm.training.choice import AdaptRecipe, Trial
from scifm.training.finetune import finetune, from_scratch
from scifm.training.label_free import objective_of_each
from scifm.training.pretrain import pretrain
from scifm.training.validation import sample_errors

SHIFTED = Poisson().where(anisotropy=[8, 10])
TRAINING = {"objective": "residual", "num_steps": 6, "batch_size": 4, "checkpoint_every": 2, "accelerator": "cpu"}
SETTINGS = {"learning_rates": (1e-3, 1e-2), "training": TRAINING}


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    tree = tiny.recipe(training={"num_steps": 150, "batch_size": 16, "validate_every": 150, "checkpoint_every": 150})
    return pretrain(tree, out=tmp_path_factory.mktemp("parents"))


@pytest.fixture
def unsolvable(monkeypatch):
    """Nothing can be solved from here on."""
    for cls in (Poisson, Evolving):
        for name in ("sample", "solve"):
            monkeypatch.setattr(cls, name, lambda *a, **k: pytest.fail("it was solved"))


def instances(run, system=SHIFTED, grid=tiny.GRID, seed=0):
    """Return the problems that a run adapted to, solved now."""
    chosen = run.read_json("subset.json")["index"]
    pool = unsolved_samples(SystemOrigin.of(system, grid), 1024, seed)
    return system.solve(pool.problems(chosen).some(len(chosen)))


@pytest.mark.parametrize("count", [1, 6])
def test_errors_fall_without_a_label(count, parent, tmp_path):
    training = {**TRAINING, "num_steps": 150, "batch_size": 8}
    run = finetune(parent, SHIFTED, out=tmp_path, num_samples=count, learning_rates=(1e-2,), training=training)
    solved = instances(run)
    before, after = (float(sample_errors(load_operator(r.path / "model"), solved).mean()) for r in (parent, run))
    assert after < before / (3 if count == 1 else 1.5)  # so small a network cannot answer all of several


def test_nothing_is_solved_and_no_label_is_read(parent, tmp_path, unsolvable):
    """Whatever stands in the place of solutions, the weights are the same to the last bit."""
    drawn = finetune(parent, SHIFTED, out=tmp_path / "drawn", num_samples=3, **SETTINGS)
    origin, weights = SystemOrigin.of(SHIFTED, tiny.GRID), []
    pool = unsolved_samples(origin, 5, 0)
    for name, number in (("zero", 0.0), ("nan", float("nan")), ("none", None)):
        targets = None if number is None else torch.full_like(pool.inputs, number)
        given = DownstreamPool(pool.with_targets(targets), origin.describe(), Poisson.homogeneities)
        run = finetune(parent, given, out=tmp_path / name, num_samples=3, **SETTINGS)
        weights.append((run.path / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] == weights[2]
    assert drawn.config["origin"]["solved"] is False


def test_candidates_are_compared_by_the_objective_on_all_samples(parent, tmp_path):
    """Of one sample too; the trials say by what, and the best by that is taken."""
    run = finetune(parent, SHIFTED, out=tmp_path, num_samples=1, refit_coefficients="never", **SETTINGS)
    trials = run.read_json("trials.json")
    assert len({trial["learning_rate"] for trial in trials}) == 3  # not to train is one
    for trial in trials:
        assert trial["residual"] == pytest.approx(trial["errors"][0])
        assert "relative_l2" not in trial
        assert trial["by"] == "residual"
    longest = max(trial["num_steps"] for trial in trials)
    best = min((t for t in trials if t["num_steps"] == longest), key=lambda trial: trial["residual"])
    assert run.read_json("outcome.json")["learning_rate"] == best["learning_rate"]
    assert [t.to_dict() for t in Trial.read_all(run.path / "trials.json")] == trials


def test_what_stays_says_by_what(parent, tmp_path):
    run = finetune(parent, SHIFTED, out=tmp_path, num_samples=2, learning_rates=(1e-14, 1e-13), training=TRAINING)
    outcome = run.read_json("outcome.json")
    if "kept" in outcome:
        assert outcome["kept"].endswith("nothing did clearly better by the residual")
        (event,) = [event for event in run.metrics() if event["event"] == "kept"]
        assert event["residual"] == run.read_json("trials.json")[0]["residual"]
    else:
        assert outcome["learning_rate"] > 0


def test_what_it_is_of_each_sample_is_its_mean_over_them(parent):
    from scifm.objectives import Residual

    samples, operator = tiny.batch(5), load_operator(parent.path / "model")
    each = objective_of_each(Residual(), operator, samples, 4)
    whole = Residual().on(samples.some(4))(operator, samples.some(4), step=0, generator=torch.Generator())
    assert each.shape == (4,)
    assert float(each.mean()) == pytest.approx(float(whole.detach()), rel=1e-5)


def test_a_store_is_read_without_its_solutions(parent, tmp_path):
    """Of two stores that differ in solutions alone nothing differs; and one of inputs alone will do."""
    store = generate(SHIFTED, num_samples={"train": 4, "valid": 2}, num_points=16, path=tmp_path / "store")
    run = finetune(parent, store, out=tmp_path / "runs", num_samples=2, **SETTINGS)
    batch = store.split("train").load()
    np.savez(
        tmp_path / "inputs.npz",
        forcing=batch.inputs[:, 0, 0].numpy(),
        **{name: batch.coefficient(name).numpy() for name in batch.signature.coefficients},
    )
    names = batch.signature.coefficients
    mapping = {
        "format": "arrays",
        "fields": {"forcing": {"array": "forcing", "axes": ["trajectory", "y", "x"], "role": "input"}},
        "coefficients": {name: name for name in names},
        "extent": {"y": 1.0, "x": 1.0},
        "boundary": {"y": "periodic", "x": "periodic"},
        "splits": {"train": 1.0},
    }
    inputs = import_data(tmp_path / "inputs.npz", tmp_path / "inputs", DataMapping.model_validate(mapping))
    with pytest.raises(ConfigError, match=r"do not say of which system|has no residual"):
        finetune(parent, inputs, out=tmp_path / "runs", num_samples=2, **SETTINGS)
    told = {**SETTINGS, "training": {**TRAINING, "objective": {"name": "residual", "system": "poisson"}}}
    other = finetune(parent, inputs, out=tmp_path / "runs", num_samples=2, **told)
    one, same = (load_operator(r.path / "model").state_dict() for r in (run, other))
    for name, weight in one.items():
        torch.testing.assert_close(weight, same[name], rtol=1e-4, atol=1e-6)
    with pytest.raises(ConfigError, match="without solutions to learn"):
        finetune(parent, inputs, out=tmp_path / "runs", num_samples=2, learning_rates=(1e-3,))


def test_what_evolves_is_adapted_by_its_beginnings(tmp_path, monkeypatch):
    small = {"num_points": 16, "num_validation_samples": 4, "num_normalization_samples": 8}
    tree = {**tiny.recipe(data=small), "system": {"name": "burgers", "options": {"num_frames": 4}}}
    run = pretrain(tree, out=tmp_path)
    monkeypatch.setattr(Burgers, "advance", lambda *a, **k: pytest.fail("it was marched"))
    shifted = Burgers(num_frames=4).where(viscosity=[0.1, 0.2])
    tuned = finetune(run, shifted, out=tmp_path, num_samples=2, horizon=2, **SETTINGS)
    assert "residual" in tuned.read_json("trials.json")[0]


def test_a_new_system_and_fresh_weights_need_no_label_either(parent, tmp_path, unsolvable):
    from scifm.systems.advection_diffusion import AdvectionDiffusion

    moved = finetune(parent, AdvectionDiffusion(), out=tmp_path, num_samples=4, **SETTINGS)
    assert (moved.path / "channels.json").is_file()
    fresh = from_scratch(parent, SHIFTED, out=tmp_path, num_samples=4, **SETTINGS)
    assert "residual" in fresh.read_json("trials.json")[0]


@pytest.mark.parametrize("name", ["held_out", "min_scored"])
def test_nothing_is_held_out(name):
    settings = {name: 0.5 if name == "held_out" else 3}
    with pytest.raises(ConfigError, match=f"{name} = .* would have no effect: objective 'residual' reads no label"):
        build_config(AdaptRecipe, {"training": {"objective": "residual"}, **settings})
    recipe = AdaptRecipe(training={"objective": "residual"}, num_samples=1)
    assert recipe.chooses
    assert not AdaptRecipe(num_samples=1).chooses


def test_data_of_nobodys_system_are_refused(tmp_path):
    store = evolving.store(tmp_path)
    run = pretrain(evolving.recipe(data={"store": str(store.path), "num_validation_samples": 4}), out=tmp_path)
    with pytest.raises(ConfigError, match=r"do not say of which system|has no residual"):
        finetune(run, store, out=tmp_path, num_samples=1, **SETTINGS)


def test_from_the_command_line(parent, tmp_path):
    words = ["finetune", str(parent.path), "--system", "poisson", "--knob", "anisotropy=8,10", "--num-samples", "1"]
    words += ["--set", "training.objective=residual", "--set", "training.num_steps=4", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["num_steps"] == 4


def test_an_interrupted_adaptation_goes_on(parent, tmp_path):
    def stop(**event):
        if event["event"] == "step" and event["step"] == 5:
            raise KeyboardInterrupt

    settings = {"num_samples": 2, "learning_rates": (1e-3,), "training": TRAINING}
    with pytest.raises(KeyboardInterrupt):
        finetune(parent, SHIFTED, out=tmp_path / "parts", observe=stop, **settings)
    runs = [finetune(parent, SHIFTED, out=tmp_path / part, **settings) for part in ("parts", "whole")]
    assert len({(run.path / "model" / "model.safetensors").read_bytes() for run in runs}) == 1
