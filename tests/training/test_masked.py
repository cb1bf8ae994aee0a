"""Pre-training without solutions, from a recipe to an operator that solves: what is kept, new, and refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

import evolving
import tiny
from scifm.config import dump_toml
from scifm.data.origins import StoreOrigin, SystemOrigin
from scifm.data.reconstruction import reconstructing
from scifm.data.sample_recipe import SampleRecipe
from scifm.errors import ConfigError, SignatureError
from scifm.evaluation.evaluate import evaluate
from scifm.fields.grid import Grid
from scifm.fields.hiding import Hiding
from scifm.models.registry import load_operator
from scifm.runs import Run
from scifm.systems.burgers import Burgers
from scifm.systems.poisson import Poisson
from scifm.training.checkpoint import DivergedError
from scifm.training.choice import AdaptRecipe
from scifm.training.finetune import finetune, from_scratch
from scifm.training.pretrain import PretrainRecipe, pretrain

MASKED = {"name": "masked", "ratio": 0.5, "blur": [0, 1]}
NETWORKS: dict[str, dict[str, Any]] = {
    "fno": {"network": tiny.NETWORK},
    "unet": {
        "kind": "unet",
        "network": {
            "width": 4,
            "levels": 2,
            "blocks": 1,
            "kernel_size": 3,
            "projection_width": 8,
            "condition_width": 4,
        },
    },
    "axial_transformer": {
        "kind": "axial_transformer",
        "network": {"width": 8, "num_heads": 2, "num_blocks": 2, "patch": 4, "condition_width": 4},
    },
}
FEW: dict[str, Any] = {"num_samples": 4, "learning_rates": (1e-3,), "training": {**tiny.ADAPTING, "num_steps": 3}}
HEADS = {"fno": "projection.1.", "unet": "projection.1.", "axial_transformer": "last."}


def recipe(**changes: Any) -> dict[str, Any]:
    objective = changes.pop("objective", MASKED)
    tree = tiny.recipe(**changes)
    return {**tree, "training": {**tree["training"], "objective": objective}}


def burgers(**changes: Any) -> dict[str, Any]:
    """Return a recipe that hides points of frames of what evolves."""
    tree = recipe(**{"data": {"num_points": 32, "windows_per_trajectory": 2}, **changes})
    return {**tree, "system": {"name": "burgers", "options": {"num_frames": 5}}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    return pretrain(recipe(), out=tmp_path_factory.mktemp("runs"))


def log(run: Run) -> list[dict]:
    return [{k: v for k, v in event.items() if k != "seconds"} for event in run.metrics()]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return dict(load_operator(run.path).state_dict())


def fresh(monkeypatch) -> list[Any]:
    """Have fine-tuning keep the operators that it begins with."""
    begun: list[Any] = []

    def kept(operator, *given, **named):
        begun.append(({name: tensor.clone() for name, tensor in operator.state_dict().items()}, operator))
        raise DivergedError("far enough")

    monkeypatch.setattr(sys.modules["scifm.training.finetune"], "train", kept)
    return begun


def test_a_run_is_one_like_others(finished):
    assert finished.is_complete
    operator = load_operator(finished.path)
    assert operator.signature == reconstructing(SystemOrigin.of(Poisson(), tiny.GRID), Hiding()).signature
    assert tiny.steps_of(finished.metrics(), "valid") == [4, 8, 12]
    assert finished.config["origin"]["hiding"] == {"ratio": 0.5, "patch": 1, "blur": [0.0, 1.0]}
    assert PretrainRecipe.read(finished.config).training.objective.name == "masked"
    page = (finished.path / "model" / "README.md").read_text("utf-8")
    assert "without solutions: 50 % of the points hidden, blurred by 0 to 1 points" in page


def test_it_resumes_bit_for_bit(finished, tmp_path):
    def stop(**event):
        if event["event"] == "step" and event["step"] == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe(), out=tmp_path, observe=stop)
    again = pretrain(recipe(), out=tmp_path)
    assert all(
        torch.equal(one, other) for one, other in zip(weights(again).values(), weights(finished).values(), strict=True)
    )
    assert [event for event in log(again) if event["event"] == "valid"] == [
        event for event in log(finished) if event["event"] == "valid"
    ]


@pytest.mark.parametrize("objective", ["masked", {"name": "masked", "ratio": 0.0, "blur": [0, 1]}])
def test_what_is_not_asked_for_is_left_out_of_the_record(objective, tmp_path):
    run = pretrain(recipe(objective=objective, training={**tiny.TRAINING, "num_steps": 2}), out=tmp_path)
    assert (
        pretrain(recipe(objective=objective, training={**tiny.TRAINING, "num_steps": 2}), out=tmp_path).path == run.path
    )
    samples, origin = SampleRecipe(num_samples=2).samples_for(run.path)
    assert evaluate(run, samples, origin=origin).num_samples == 2


def test_it_is_scored_by_the_points_it_does_not_see(finished):
    samples, origin = SampleRecipe(num_samples=6).samples_for(finished.path)
    scores = evaluate(finished, samples, origin=origin, beside=True)
    assert scores.channels == ("forcing_whole",)
    batch = samples.batch(slice(0, 6))
    answer = load_operator(finished.path).answers(batch).require_targets()
    hidden = batch.valid_targets
    apart, whole = (
        torch.where(hidden, part, 0.0).flatten(1).norm(dim=1) for part in (answer - batch.targets, batch.targets)
    )
    torch.testing.assert_close(scores.values["relative_l2"].flatten(), apart / whole, rtol=1e-5, atol=0)
    given, about = SampleRecipe(num_samples=6, num_points=16, system={"name": "poisson"}).samples_for(finished.path)
    assert about["hiding"] == finished.config["origin"]["hiding"]
    assert given.batch(slice(0, 6)).signature == batch.signature
    with pytest.raises(SignatureError, match=r"the data also hold \('solution',\).*fine-tune on some samples"):
        evaluate(finished, tiny.batch())


@pytest.mark.parametrize("kind", NETWORKS)
def test_fine_tuning_keeps_every_weight_but_those_of_the_head(kind, tmp_path, monkeypatch):
    """Of the first map and the inside all are kept, of the last one none; the reconstruction is gone."""
    run = pretrain(recipe(model=NETWORKS[kind]), out=tmp_path)
    begun = fresh(monkeypatch)
    with pytest.raises(DivergedError, match="far enough"):
        finetune(run, Poisson(), out=tmp_path, **FEW)
    (now, operator), before = begun[0], weights(run)
    assert operator.signature == Poisson.signature
    changed = {name for name, tensor in now.items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith(HEADS[kind]) for name in changed), changed
    assert f"{HEADS[kind]}weight" in changed
    assert now.keys() == before.keys()


@pytest.mark.parametrize("history", [1, 3])
@pytest.mark.parametrize("kind", NETWORKS)
def test_single_frames_are_moved_to_forecasts(kind, history, tmp_path, monkeypatch):
    run = pretrain(burgers(model=NETWORKS[kind]), out=tmp_path)
    assert load_operator(run.path).config.history is None
    begun = fresh(monkeypatch)
    pool = Burgers(num_frames=5)
    with pytest.raises(DivergedError, match="far enough"):
        finetune(run, pool, out=tmp_path, history=history, **FEW)
    (now, operator), before = begun[0], weights(run)
    assert operator.history == history
    assert operator.signature == Burgers().signature
    names, encoder = set(before), {name for name in before if not name.startswith(HEADS[kind])}
    first = {"fno": "lift.weight", "unet": "lift.weight", "axial_transformer": "embedding.weight"}[kind]
    same = {
        name
        for name in names & set(now)
        if now[name].shape == before[name].shape and torch.equal(now[name], before[name])
    }
    assert same <= encoder
    grown = encoder - same
    # where more is told or seen, only the maps that take it in have grown
    if kind == "axial_transformer" and history > 1:
        over_time = {name for name in now if ".over_time." in name}
        assert over_time == set(now) - names
        taken = {name for name in before if name.startswith("modulations.") or name.endswith(".layer_scales")}
        assert grown <= taken | {first}
        for name in (name for name in before if name.endswith(".layer_scales")):
            assert torch.equal(now[name][-2:], before[name])
        assert_norms_are_kept(load_operator(run.path), operator, now)
    else:
        assert grown <= {first}
    if now[first].shape != before[first].shape:
        assert torch.equal(now[first][:, :1], before[first][:, :1])  # velocity


def assert_norms_are_kept(before: Any, after: Any, now: dict[str, torch.Tensor]) -> None:
    """Check that every norm of before has its numbers, behind those of attention over time where a block has them."""
    for name in ("base", "moved"):
        was, width = getattr(before.modulations, name), before.config.width
        parts = [was.split(before.modulations.sizes), now[f"modulations.{name}"].split(after.modulations.sizes)]
        for place, (old, new) in enumerate(zip(*parts, strict=True)):
            if 0 < place <= before.config.num_blocks:
                old, new = (part.unflatten(0, (2, -1, width)) for part in (old, new))  # scales and shifts, norm
                assert (old.shape[1], new.shape[1]) == (3, 5)
                new = new[:, -3:]
            assert torch.equal(old, new)


def test_one_frame_to_the_next_answers_as_the_encoder_says(tmp_path):
    """With attention over time that adds nothing, three equal frames are to its blocks what one frame was."""
    run = pretrain(burgers(model=NETWORKS["axial_transformer"]), out=tmp_path)
    operator = load_operator(run.path)
    config = operator.config.model_copy(update={"history": 3})
    many = type(operator)(Burgers().signature, config, normalization=None)
    many.load_state_dict(operator.weights_for(many), strict=False)
    for name, parameter in many.named_parameters():
        if name.endswith(".layer_scales"):
            parameter.data[0] = 0  # attention over time is not heard
    inputs = torch.randn(2, 1, 1, 32, generator=torch.Generator().manual_seed(0))
    grid = Grid((32,))
    from scifm.fields.normalization import Encoded

    told = torch.zeros(2, many.num_coefficients)
    one, three = (
        own.network(Encoded(inputs.expand(-1, frames, -1, -1), told[:, : own.num_coefficients], grid, torch.ones(())))
        for own, frames in ((operator, 1), (many, 3))
    )
    torch.testing.assert_close(one, three, rtol=1e-5, atol=1e-6)


def test_it_learns_and_then_solves_of_a_store(tmp_path):
    store = evolving.store(tmp_path / "data")
    settings = evolving.recipe(training={**tiny.TRAINING, "objective": MASKED})
    run = pretrain(settings, store=store, out=tmp_path)
    assert run.config["origin"]["content"] == store.content
    samples, _ = SampleRecipe().samples_for(run.path)
    assert evaluate(run, samples).num_samples == store.splits["test"] * evolving.NUM_FRAMES
    tuned = finetune(run, store, out=tmp_path, **FEW)
    assert tuned.read_json("channels.json") == [
        {"role": "input", "name": "heat", "became": "reused"},
        {"role": "coefficient", "name": "rate", "became": "reused"},
        {"role": "output", "name": "heat", "became": "added"},
        {"role": "output", "name": "heat_whole", "became": "dropped"},
    ]
    assert evaluate(tuned, StoreOrigin(store).split("test"), beside=True).mean() < 10


def test_a_mixture_with_other_fields(tmp_path):
    entries = [{"name": name, "options": {"num_frames": 3}} for name in ("gray_scott", "fisher_kpp")]
    tree = {**recipe(), "mixture": entries}
    del tree["system"]
    run = pretrain(tree, out=tmp_path)
    assert set(load_operator(run.path).domain.forms) == {
        ("activator", "substrate", "activator_whole", "substrate_whole"), ("density", "density_whole"),
    } or len(load_operator(run.path).domain.forms) == 2  # fmt: skip
    assert any("relative_l2/gray_scott" in event for event in run.metrics())
    samples, origin = SampleRecipe(num_samples=4).samples_for(run.path)
    assert evaluate(run, samples, origin=origin).present is not None


@pytest.mark.slow
def test_hidden_points_of_smooth_fields_are_learned(tmp_path):
    """The error at points it never sees falls well below that of the mean of the field."""
    network = {"width": 8, "modes": 8, "num_layers": 3, "projection_width": 16, "latent_points": 32}
    tree = burgers(model={"network": network}, training={**tiny.TRAINING, "num_steps": 300, "batch_size": 16})
    tree["data"]["num_samples"] = 256
    run = pretrain(tree, out=tmp_path)
    samples, origin = SampleRecipe(num_samples=64).samples_for(run.path)
    assert evaluate(run, samples, origin=origin).mean() < 0.6


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objective": {**MASKED, "ratio": 1.0}}, "from 0 to less than 1; got 1"),
        ({"objective": {**MASKED, "patch": 3}}, "patch = 3 does not divide the 16 points"),
        ({"objective": {**MASKED, "ratio": 1e-4}}, "hides none"),
        ({"objective": {**MASKED, "blur": [0, 99]}}, "wider than the grid"),
    ],
)
def test_what_cannot_be_hidden_leaves_no_run(changes, told, tmp_path):
    with pytest.raises(ConfigError, match=told):
        pretrain(recipe(**changes), out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["history", "horizon", "stride", "leads"])
def test_frames_are_taken_by_themselves(name, tmp_path):
    tree = burgers()
    tree["data"][name] = 2
    with pytest.raises(ConfigError, match=f"data.{name} = 2 would have no effect.*takes every frame by itself"):
        pretrain(tree, out=tmp_path)


def test_who_learns_from_solutions_refuses_it(finished, tmp_path):
    training = {**FEW["training"], "objective": "masked"}
    for way in (finetune, from_scratch):
        with pytest.raises(ConfigError, match="learns inputs without solutions, and adapting learns from solutions"):
            way(finished, Poisson(), out=tmp_path, **{**FEW, "training": training})


def test_a_history_that_an_operator_does_not_take_is_refused(tmp_path):
    run = pretrain(tiny.EVOLVING, out=tmp_path)  # of two frames
    with pytest.raises(ConfigError, match="history = 3 was asked for, and the operator takes 2"):
        finetune(run, Burgers(num_frames=6), out=tmp_path, history=3, **FEW)
    with pytest.raises(ConfigError, match="history = 2 was asked for"):
        finetune(pretrain(recipe(), out=tmp_path), Poisson(), out=tmp_path, history=2, **FEW)
    assert AdaptRecipe(history=2).history == 2


def test_inputs_without_solutions_are_learned_from_and_not_solved(tmp_path):
    from data.test_reconstruction import INPUTS_ALONE, inputs_alone
    from scifm.data.importing import import_data

    store = import_data(inputs_alone(tmp_path), tmp_path / "store", INPUTS_ALONE)
    settings = evolving.recipe(training={**tiny.TRAINING, "objective": {**MASKED, "patch": 2}})
    run = pretrain(settings, store=store, out=tmp_path / "runs")
    assert load_operator(run.path).signature.outputs == ("medium_whole", "source_whole")
    for work in (
        lambda: pretrain(evolving.recipe(), store=store, out=tmp_path / "none"),
        lambda: finetune(run, store, out=tmp_path / "none", **FEW),
        lambda: from_scratch(run, store, out=tmp_path / "none", **FEW),
    ):
        with pytest.raises(ConfigError, match="are inputs alone, medium, source, without solutions to learn"):
            work()
    assert not (tmp_path / "none").exists()


def test_on_the_command_line(scifm, tmp_path):
    file = tmp_path / "masked.toml"
    file.write_text(dump_toml(recipe()), encoding="utf-8")
    wrong = {"ratio=1.5": "got 1.5", "blur=[2,1]": "got 2 and 1", "patch=5": "does not divide the 16 points"}
    for setting, told in wrong.items():
        said = scifm("pretrain", file, "--out", tmp_path / "runs", "--set", f"training.objective.{setting}")
        assert told in said.told
    assert not (tmp_path / "runs").exists()
    run = json.loads(scifm("pretrain", file, "--out", tmp_path / "runs", "--json").out)["run"]
    scored = json.loads(scifm("evaluate", run, "--num-samples", "4", "--json").out)
    assert scored["origin"]["hiding"]["ratio"] == 0.5
    assert scored["beside"] == {"if the answer were zero": 1.0}
    few = ("--num-samples", "4", "--set", "learning_rates=[1e-3]", "--set", "training.num_steps=2")
    tuned = json.loads(scifm("finetune", run, "--system", "poisson", *few, "--out", tmp_path / "runs", "--json").out)
    assert {"role": "output", "name": "solution", "became": "added"} in tuned["channels"]
    assert "does not" in scifm("rollout", run).told
    assert "it learned to reconstruct inputs, and no solutions" in scifm("play", run).told
    page = scifm("report", run, "--out", tmp_path / "page.html")
    assert page.status == 0
    assert "without solutions: 50 % of the points hidden" in (tmp_path / "page.html").read_text("utf-8")


def test_a_store_must_offer_the_inputs_of_the_system_but_not_its_solutions(tmp_path):
    from scifm.data.generate import generate

    store = generate(Poisson(), num_samples={"train": 8, "valid": 4, "test": 4}, num_points=16, path=tmp_path / "store")
    run = pretrain(recipe(data={"num_points": 64}), store=store, out=tmp_path / "runs")
    assert load_operator(run.path).signature.outputs == ("forcing_whole",)
    with pytest.raises(SignatureError, match="missing are input 'velocity'"):
        pretrain(burgers(data={}), store=store, out=tmp_path / "runs")
    assert replace(Poisson.signature, outputs=()).outputs == ()
