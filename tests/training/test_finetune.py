from __future__ import annotations

import importlib
import json
import os
import signal
from dataclasses import replace

import pytest
import torch

import tiny
from scifm.data.generate import generate
from scifm.data.origins import DownstreamPool, SystemOrigin
from scifm.errors import ConfigError, DataError, RunError, SignatureError
from scifm.models.registry import load_operator
from scifm.runs import Run
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.poisson import Poisson
from scifm.training.finetune import AdaptRecipe, finetune, from_scratch
from scifm.training.loop import DivergedError
from scifm.training.pretrain import pretrain

module = importlib.import_module("scifm.training.finetune")  # the package's face hides it behind the function
SHIFTED = Poisson().where(anisotropy=[5, 10])
SETTINGS = {  # of what is trained; the choices not to train and to refit have tests of their own
    "num_samples": 8,
    "learning_rates": (1e-3, 1e-2),
    "try_zero_shot": False,
    "refit_coefficients": "never",
    "min_scored": 1,
    "training": {"num_steps": 6, "batch_size": 4, "log_every": 2, "checkpoint_every": 2, "accelerator": "cpu"},
}
SINGLE = {**{name: value for name, value in SETTINGS.items() if name != "min_scored"}, "learning_rates": (1e-3,)}
both = pytest.mark.parametrize("adapt", [finetune, from_scratch])


@pytest.fixture(scope="module")
def parent(tmp_path_factory) -> Run:
    return tiny.finished_run(tmp_path_factory.mktemp("parents"))


@pytest.fixture(scope="module")
def pool() -> DownstreamPool:
    return SystemOrigin.of(SHIFTED, tiny.GRID).pool(24, 0)


def weights(run: Run) -> bytes:
    return (run.path / "model" / "model.safetensors").read_bytes()


# --- what is done -----------------------------------------------------------------------------------------------------


def test_fine_tuning_moves_all_weights_and_keeps_the_normalization(parent, pool, tmp_path):
    run = finetune(parent, pool, out=tmp_path, **SETTINGS)
    before, after = load_operator(parent.path / "model"), load_operator(run.path / "model")
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert not torch.equal(old, new), f"{name} stayed where it was"
        assert float((old - new).detach().abs().max()) < 0.2, f"{name} did not begin at the parent's"
    assert after.normalization == before.normalization
    assert run.parent == parent.path.resolve()
    assert run.is_complete


def test_from_scratch_takes_the_architecture_and_nothing_else(parent, pool, tmp_path):
    settings = {**SINGLE, "learning_rates": (1e-12,)}  # so small that the first weights can be seen
    scratch = load_operator(from_scratch(parent, pool, out=tmp_path, **settings).path / "model")
    tuned = load_operator(finetune(parent, pool, out=tmp_path, **settings).path / "model")
    original = load_operator(parent.path / "model")
    assert scratch.config == original.config
    assert scratch.normalization != original.normalization, "fitted on the downstream samples"
    torch.testing.assert_close(tuned.lift.weight, original.lift.weight)
    assert float((scratch.lift.weight - original.lift.weight).detach().abs().max()) > 0.01
    other = from_scratch(parent, pool, out=tmp_path, **settings, seed=1)
    assert not torch.equal(load_operator(other.path / "model").lift.weight, scratch.lift.weight)


def test_subsets_are_recorded_nested_distinct_and_seeded(parent, pool, tmp_path):
    index = {}
    for seed in (0, 1):
        for count in (4, 8, 16):
            settings = {**SINGLE, "num_samples": count, "seed": seed}
            told = finetune(parent, pool, out=tmp_path, **settings).read_json("subset.json")
            index[seed, count] = told["index"]
            assert told["pool"] == pool.origin
            assert len(set(told["index"])) == count
            assert set(told["index"]) <= set(range(24))
    for seed in (0, 1):
        assert index[seed, 16][:8] == index[seed, 8]
        assert index[seed, 8][:4] == index[seed, 4]
    assert set(index[0, 8]) != set(index[1, 8])
    scratch = from_scratch(parent, pool, out=tmp_path, **SETTINGS).read_json("subset.json")
    assert scratch["index"] == index[0, 8], "both see the same samples"


@both
def test_the_learning_rate_is_chosen_on_samples_held_out_of_the_subset(adapt, parent, pool, tmp_path, monkeypatch):
    trained, scored = [], []
    train, score = module.train, module.sample_errors

    def spy_train(operator, source, **rest):
        trained.append((source.samples, rest["config"]))
        return train(operator, source, **rest)

    def spy_score(operator, batch):
        scored.append(batch)
        return score(operator, batch)

    monkeypatch.setattr(module, "train", spy_train)
    monkeypatch.setattr(module, "sample_errors", spy_score)
    run = adapt(parent, pool, out=tmp_path, **SETTINGS)
    subset = pool.samples.select(run.read_json("subset.json")["index"]).inputs

    def places(batch) -> set[int]:
        found = [[i for i in range(8) if torch.equal(subset[i], x)] for x in batch.inputs]
        assert all(len(f) == 1 for f in found), "a sample from elsewhere"
        return {f[0] for f in found}

    assert [(places(s), c.learning_rate) for s, c in trained[:2]] == [
        (places(trained[0][0]), 1e-3), (places(trained[0][0]), 1e-2)
    ]  # fmt: skip
    for batch in scored:
        assert places(batch) == set(range(8)) - places(trained[0][0])
    assert len(scored) == 2
    assert len(trained) == 3
    trials, outcome = run.read_json("trials.json"), run.read_json("outcome.json")
    assert [t["learning_rate"] for t in trials] == [1e-3, 1e-2]
    best = min(trials, key=lambda t: t["relative_l2"])["learning_rate"]
    assert outcome["learning_rate"] == trained[2][1].learning_rate == best
    assert places(trained[2][0]) == set(range(8)), "the winner trains on all of them"


def test_both_have_the_same_budget_and_it_is_recorded(parent, pool, tmp_path):
    told = [
        adapt(parent, pool, out=tmp_path, **SETTINGS).read_json("outcome.json") for adapt in (finetune, from_scratch)
    ]
    for outcome in told:
        assert outcome["num_trials"] == 2
        assert outcome["num_steps"] == 6
        assert outcome["seconds"] > 0


def test_a_single_learning_rate_needs_no_trial(parent, pool, tmp_path):
    run = finetune(parent, pool, out=tmp_path, **SINGLE)
    assert not (run.path / "trials.json").exists()
    assert run.read_json("outcome.json")["learning_rate"] == 1e-3


def test_the_same_call_gives_the_same_folder_and_runs_nothing_again(parent, pool, tmp_path):
    first = finetune(parent, pool, out=tmp_path, **SETTINGS)
    stamp = (first.path / "outcome.json").stat().st_mtime_ns
    again = finetune(parent.path, pool, AdaptRecipe(**SETTINGS), out=tmp_path)
    assert again.path == first.path
    assert (first.path / "outcome.json").stat().st_mtime_ns == stamp
    assert from_scratch(parent, pool, out=tmp_path, **SETTINGS).path != first.path


def test_systems_and_stores_may_be_given_instead_of_a_pool(parent, tmp_path):
    by_system = finetune(parent, SHIFTED, out=tmp_path, **SETTINGS)
    assert by_system.read_json("subset.json")["pool"]["system"]["knobs"]["anisotropy"]["high"] == 10
    store = generate(SHIFTED, num_samples={"train": 10, "valid": 1, "test": 1}, num_points=16, path=tmp_path / "s")
    by_store = from_scratch(parent, store, out=tmp_path, **SETTINGS)
    assert (
        by_store.read_json("subset.json")["pool"].items()
        >= {"store": str(store.path), "split": "train", "num_samples": 10}.items()
    )


@both
def test_double_precision_adapts(adapt, parent, pool, tmp_path):
    settings = {**SETTINGS, "training": {**SETTINGS["training"], "precision": "64-true"}}
    run = adapt(parent, pool, out=tmp_path, **settings)
    assert load_operator(run.path / "model").lift.weight.dtype == torch.float64


# --- interruption -----------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("stop", [3, 9, 15])
def test_interrupted_in_a_trial_or_in_the_last_training_it_ends_the_same(adapt, stop, parent, pool, tmp_path):
    """Steps 1 to 6 belong to the first trial, 7 to 12 to the second, 13 to 18 to the training that is kept."""
    straight = adapt(parent, pool, out=tmp_path / "a", **SETTINGS)
    taken = []

    def interrupt(**event) -> None:
        if event["event"] == "step":
            taken.append(event)
            if len(taken) == stop:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        adapt(parent, pool, out=tmp_path / "b", observe=interrupt, **SETTINGS)
    before = len(taken)
    resumed = adapt(parent, pool, out=tmp_path / "b", observe=interrupt, **SETTINGS)
    assert weights(resumed) == weights(straight)
    assert resumed.read_json("trials.json") == straight.read_json("trials.json")
    assert tiny.steps_of(resumed.metrics(), "train") == [2, 4, 6]
    assert len(taken) - before <= {3: 18, 9: 12, 15: 3}[stop], "what was done is not done again"


# --- what can go wrong ------------------------------------------------------------------------------------------------


@both
def test_more_samples_than_there_are_is_refused(adapt, parent, pool, tmp_path):
    with pytest.raises(DataError, match="subset of 25 samples was asked for; there are 24"):
        adapt(parent, pool, out=tmp_path, **{**SETTINGS, "num_samples": 25})


@both
def test_no_samples_are_refused(adapt, parent, pool, tmp_path):
    with pytest.raises(ConfigError, match=r"'num_samples' = 0.*greater than or equal to 1"):
        adapt(parent, pool, out=tmp_path, **{**SETTINGS, "num_samples": 0})


@both
def test_one_sample_is_trained_on_at_the_first_rate_for_there_is_none_to_choose_by(adapt, parent, pool, tmp_path):
    run = adapt(parent, pool, out=tmp_path, **{**SETTINGS, "num_samples": 1})
    outcome = json.loads((run.path / "outcome.json").read_text())
    assert outcome["learning_rate"] == SETTINGS["learning_rates"][0]
    assert (outcome["num_trials"], outcome["trial_steps"]) == (1, 0)
    assert not (run.path / "trials.json").exists()


@both
def test_two_samples_are_enough(adapt, parent, pool, tmp_path):
    assert adapt(parent, pool, out=tmp_path, **{**SETTINGS, "num_samples": 2}).is_complete


@pytest.mark.parametrize("rates", [(), (0.0,), (-1e-3,), (float("nan"),), (float("inf"),)])
def test_learning_rates_must_be_positive(rates, parent, pool, tmp_path):
    with pytest.raises(ConfigError, match=r"at least one positive learning rate|numbers have to be finite"):
        finetune(parent, pool, out=tmp_path, learning_rates=rates)


def test_an_unknown_setting_names_the_nearest(parent, pool, tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'num_samples'"):
        finetune(parent, pool, out=tmp_path, num_sample=3)


@both
def test_a_parent_that_is_not_finished_is_refused(adapt, pool, tmp_path):
    run = tiny.finished_run(tmp_path)
    run.set_status("running")
    with pytest.raises(RunError, match="not complete"):
        adapt(run, pool, out=tmp_path, **SETTINGS)
    with pytest.raises(RunError, match="is not a run folder"):
        adapt(tmp_path, pool, out=tmp_path, **SETTINGS)


def test_another_system_gives_the_operator_new_channels(parent, tmp_path):
    foreign = SystemOrigin.of(Helmholtz(), tiny.GRID).pool(8, 0)
    run = finetune(parent, foreign, out=tmp_path, **{**SETTINGS, "num_samples": 6})
    table = {(row["role"], row["name"]): row["became"] for row in run.read_json("channels.json")}
    assert table == {
        ("input", "forcing"): "reused",
        ("coefficient", "diffusivity"): "added",
        ("coefficient", "wavenumber_shift"): "added",
        ("coefficient", "diffusion_xx"): "dropped",
        ("coefficient", "diffusion_yy"): "dropped",
        ("coefficient", "diffusion_xy"): "dropped",
        ("output", "solution"): "reused",
    }
    operator = load_operator(run.path / "model")
    assert operator.signature == Helmholtz.signature
    assert operator.predict(foreign.samples).targets.isfinite().all()
    with pytest.raises(SignatureError, match=r"also hold .*wavenumber_shift.*fine-tune"):
        load_operator(parent.path / "model").predict(foreign.samples)  # without an example it cannot be asked


def test_what_is_only_called_otherwise_is_renamed(parent, pool, tmp_path):
    signature = replace(pool.samples.signature, inputs=("source",))
    other = replace(pool, samples=replace(pool.samples, signature=signature))
    run = finetune(parent, other, out=tmp_path, **SETTINGS, rename={"source": "forcing"})
    plain = finetune(parent, pool, out=tmp_path, **SETTINGS)
    assert not (run.path / "channels.json").exists()
    answers = [load_operator(r.path / "model").predict(p.samples).targets for r, p in ((run, other), (plain, pool))]
    assert torch.equal(*answers)
    with pytest.raises(ConfigError, match="Did you mean 'forcing'"):
        finetune(parent, other, out=tmp_path, **SETTINGS, rename={"source": "forcin"})


def test_a_folder_in_use_is_refused(parent, pool, tmp_path):
    done = finetune(parent, pool, out=tmp_path, **SETTINGS)
    with done.locked(), pytest.raises(RunError, match="in use by another process"):
        finetune(parent, pool, out=tmp_path, **SETTINGS)


def test_a_learning_rate_that_diverges_loses_the_trial_and_all_that_do_end_the_run(parent, pool, tmp_path):
    wild = {**SETTINGS["training"], "schedule": "constant"}
    run = finetune(parent, pool, out=tmp_path, **{**SETTINGS, "learning_rates": (1e30, 1e-3), "training": wild})
    assert run.read_json("trials.json")[0] == {
        "learning_rate": 1e30, "coefficients": "pretrained", "num_steps": 6, "num_splits": 1, "samples_seen": 24,
        "relative_l2": None, "errors": None, "interpolation": 1.0, "furthest": None,
    }  # fmt: skip
    assert run.read_json("outcome.json")["learning_rate"] == 1e-3
    assert run.read_json("outcome.json")["num_trials"] == 2
    with pytest.raises(DivergedError, match=r"Every learning rate of .* diverged"):
        finetune(parent, pool, out=tmp_path, **{**SETTINGS, "learning_rates": (1e30, 1e31), "training": wild})


def test_damaged_trials_are_a_clear_error(parent, pool, tmp_path):
    def interrupt(**event) -> None:
        if event["event"] == "step" and (next(tmp_path.iterdir()) / "trials.json").exists():
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        finetune(parent, pool, out=tmp_path, observe=interrupt, **SETTINGS)
    (file,) = tmp_path.glob("*/trials.json")
    assert len(json.loads(file.read_text())) == 1
    file.write_text("[{")
    with pytest.raises(RunError, match=r"trials\.json' cannot be read"):
        finetune(parent, pool, out=tmp_path, **SETTINGS)


# --- not to train, as one of the choices ------------------------------------------------------------------------------

CHOICE = {**SETTINGS, "try_zero_shot": True}
HARMFUL = {**CHOICE, "num_samples": 4, "learning_rates": (1.0, 10.0)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    return pretrain(tiny.recipe(training={"num_steps": 60}), out=tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def familiar() -> DownstreamPool:
    """Samples of the very system it was pre-trained on: little is left to learn from a few."""
    return SystemOrigin.of(Poisson().where(anisotropy=[1, 5]), tiny.GRID).pool(8, 0)


def test_where_training_hurts_the_pre_trained_weights_are_kept_and_that_is_said(trained, familiar, tmp_path):
    events = []
    run = finetune(trained, familiar, out=tmp_path, observe=lambda **event: events.append(event), **HARMFUL)
    trials, outcome = run.read_json("trials.json"), run.read_json("outcome.json")
    assert [trial["learning_rate"] for trial in trials] == [0, 1, 10]
    assert trials[0]["relative_l2"] < min(trial["relative_l2"] for trial in trials[1:])
    assert outcome.pop("seconds") > 0
    assert outcome == {
        "learning_rate": 0, "coefficients": "pretrained", "num_trials": 3, "trial_steps": 12, "num_steps": 0,
        "samples_seen": 36, "num_trainable": 0, "optimizer_bytes": 0, "gradient_bytes": 0,
        "kept": "the pre-trained weights: nothing did clearly better on the held-out samples",
    }  # fmt: skip
    before, after = (load_operator(r.path / "model") for r in (trained, run))
    assert all(torch.equal(old, after.state_dict()[name]) for name, old in before.state_dict().items())
    assert after.normalization == before.normalization
    assert [event["event"] for event in run.metrics()] == ["kept"]
    assert run.metrics()[0]["relative_l2"] == trials[0]["relative_l2"]
    assert events[-1]["event"] == "kept"
    assert run.is_complete
    assert run.parent == trained.path.resolve()


def test_its_score_is_that_of_the_held_out_samples_of_all_candidates(trained, familiar, tmp_path, monkeypatch):
    scored, score = [], module.sample_errors
    monkeypatch.setattr(module, "sample_errors", lambda o, batch: scored.append(batch) or score(o, batch))
    run = finetune(trained, familiar, out=tmp_path, **HARMFUL)
    assert len(scored) == 3
    assert all(torch.equal(batch.inputs, scored[0].inputs) for batch in scored)
    told = run.read_json("trials.json")[0]["relative_l2"]
    assert told == pytest.approx(float(score(load_operator(trained.path / "model"), scored[0]).mean()), rel=1e-6)


def test_where_training_helps_it_takes_place(parent, pool, tmp_path):
    settings = {**CHOICE, "training": {**SETTINGS["training"], "num_steps": 30}}
    run = finetune(parent, pool, out=tmp_path, **settings)
    trials, outcome = run.read_json("trials.json"), run.read_json("outcome.json")
    assert min(trial["relative_l2"] for trial in trials[1:]) < trials[0]["relative_l2"]
    assert (outcome["learning_rate"], outcome["num_trials"], outcome["num_steps"]) == (1e-2, 3, 30)
    assert "kept" not in outcome
    plain = finetune(parent, pool, out=tmp_path, **{**settings, "try_zero_shot": False})
    assert weights(plain) == weights(run), "the choice changes nothing where it is not taken"


def test_a_tie_goes_to_the_pre_trained_weights(parent, pool, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "sample_errors", lambda operator, batch: torch.full((len(batch),), 0.5))
    assert finetune(parent, pool, out=tmp_path, **CHOICE).read_json("outcome.json")["learning_rate"] == 0


def test_where_every_learning_rate_diverges_they_are_kept(parent, pool, tmp_path):
    wild = {"learning_rates": (1e30, 1e31), "training": {**SETTINGS["training"], "schedule": "constant"}}
    run = finetune(parent, pool, out=tmp_path, **{**CHOICE, **wild})
    assert [trial["relative_l2"] is None for trial in run.read_json("trials.json")] == [False, True, True]
    assert run.read_json("outcome.json")["kept"] == "the pre-trained weights: every learning rate diverged"
    assert run.metrics()[0]["reason"] == "every learning rate diverged"


@pytest.mark.parametrize(
    ("adapt", "changes"),
    [
        (finetune, {"learning_rates": (1.0,), "min_scored": 16}),
        (finetune, {"try_zero_shot": False}),
        (from_scratch, {}),
        (from_scratch, {"try_zero_shot": False}),
    ],
)
def test_it_is_not_tried_otherwise(adapt, changes, trained, familiar, tmp_path):
    run = adapt(trained, familiar, out=tmp_path, **{**HARMFUL, **changes})
    outcome, rates = run.read_json("outcome.json"), list(changes.get("learning_rates", (1.0, 10.0)))
    assert outcome["num_trials"] == len(rates)
    assert outcome["learning_rate"] in rates
    assert outcome["num_steps"] == 6
    assert run.config["try_zero_shot"] is (adapt is finetune and "try_zero_shot" not in changes)
    if len(rates) > 1:
        assert [trial["learning_rate"] for trial in run.read_json("trials.json")] == rates


@pytest.mark.parametrize("stop", [("step", 3), ("step", 9), ("kept", 1)])
def test_interrupted_it_keeps_the_same_and_says_it_once(stop, trained, familiar, tmp_path, monkeypatch):
    straight, seen = finetune(trained, familiar, out=tmp_path / "a", **HARMFUL), []

    def interrupt(**event) -> None:
        seen.append(event["event"])
        if event["event"] == stop[0] and seen.count(stop[0]) == stop[1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(trained, familiar, out=tmp_path / "b", observe=interrupt, **HARMFUL)
    (run,) = map(Run, (tmp_path / "b").iterdir())
    scored = run.read_json("trials.json")
    assert scored == straight.read_json("trials.json")[: {3: 1, 9: 2, 1: 3}[stop[1]]]
    again, score = [], module.sample_errors
    monkeypatch.setattr(module, "sample_errors", lambda o, batch: again.append(batch) or score(o, batch))
    resumed = finetune(trained, familiar, out=tmp_path / "b", **HARMFUL)
    assert len(again) == 3 - len(scored)
    assert weights(resumed) == weights(straight)
    assert resumed.metrics() == straight.metrics()


@pytest.mark.parametrize("method", ["low_rank", "affine"])
def test_whatever_the_method_a_plain_operator_is_kept(method, trained, familiar, tmp_path):
    run = finetune(trained, familiar, out=tmp_path, **HARMFUL, method=method)
    assert run.read_json("outcome.json")["learning_rate"] == 0
    before, after = (load_operator(r.path / "model").state_dict() for r in (trained, run))
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_kept_weights_get_the_channels_the_samples_need(trained, tmp_path):
    foreign = SystemOrigin.of(Helmholtz(), tiny.GRID).pool(6, 0)
    run = finetune(trained, foreign, out=tmp_path, **HARMFUL)
    assert run.read_json("outcome.json")["learning_rate"] == 0
    assert {row["became"] for row in run.read_json("channels.json")} == {"reused", "added", "dropped"}
    operator = load_operator(run.path / "model")
    assert operator.signature == Helmholtz.signature
    assert operator.predict(foreign.samples).targets.isfinite().all()
