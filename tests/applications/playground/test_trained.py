from __future__ import annotations

import json
import shutil

import pytest

import tiny
from scifm.applications.playground.trained import Playground, trained_on
from scifm.config import dump_toml
from scifm.data.generate import generate
from scifm.data.store import Store
from scifm.errors import ConfigError, RunError
from scifm.models.folder import find_model
from scifm.runs import Run
from scifm.systems.knobs import Knob
from scifm.systems.poisson import Poisson
from scifm.training.finetune import finetune, from_scratch
from scifm.training.pretrain import ModelConfig, pretrain

QUICK = {
    "num_samples": 4,
    "learning_rates": (1e-3,),
    "training": {"num_steps": 2, "batch_size": 2, "accelerator": "cpu"},
}


def test_a_pretrained_run(playgrounds):
    playground = playgrounds["poisson"]
    told = "Trained on samples of Poisson, anisotropy 1 to 5, angle 0 to 6.283 rad; 16 × 16 points on a box of 1 × 1"
    assert playground.told == f"{told}, periodic along y and x."
    assert list(playground.grids) == [16, 32, 64, 128, 256]
    assert playground.trained_points == 16
    assert json.loads(json.dumps(playground.to_dict()))["grids"][1] == {"longer_side": 32, "num_points": [32, 32]}


def test_an_adapted_run_is_played_on_what_it_was_adapted_to(runs, tmp_path):
    shifted = Poisson(anisotropy=Knob(5, 10))
    tuned = finetune(runs["poisson"], shifted, out=tmp_path, **QUICK)
    assert Playground.open(tuned.path).told.startswith("Fine-tuned on 4 samples of Poisson, anisotropy 5 to 10,")
    assert trained_on(find_model(tuned))[0] == (shifted,)
    fresh = from_scratch(runs["poisson"], shifted, out=tmp_path, **QUICK)
    assert Playground.open(fresh.path).told.startswith("Trained from scratch on 4 samples of Poisson, anisotropy 5 to")


def test_a_mixture_offers_all_its_systems(tmp_path):
    entries = [{"name": "poisson"}, {"name": "advection_diffusion", "weight": 2.0}]
    tree = tiny.recipe(mixture=entries, training={"num_steps": 2})
    del tree["system"]
    playground = Playground.open(pretrain(tree, out=tmp_path).path)
    assert [played.system.name for played in playground.systems] == ["poisson", "advection_diffusion"]
    assert playground.system("1").system.name == "advection_diffusion"


@pytest.fixture
def store(tmp_path):
    counts = {"train": 8, "valid": 2, "test": 2}
    return generate(Poisson(anisotropy=Knob(2, 3)), num_samples=counts, num_points=16, path=tmp_path / "store")


def test_a_store_that_was_sampled_says_its_system(store, tmp_path):
    run = pretrain(tiny.recipe(training={"num_steps": 2}), store=store, out=tmp_path)
    assert "a store of Poisson, anisotropy 2 to 3," in Playground.open(run.path).told
    fresh = from_scratch(ModelConfig(network=tiny.NETWORK), store, out=tmp_path, **QUICK)
    assert trained_on(find_model(fresh))[0] == trained_on(find_model(run))[0]


def rewrite_card(store, **changes):
    card = store.path / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


def test_without_a_system_it_says_what_is_needed(store, tmp_path):
    generation = store.card.generation.model_dump(mode="json")
    unknown = {"generation": {**generation, "system": {**generation["system"], "name": "measured by hand"}}}
    for changes, said in ((unknown, "measured by hand"), ({"generation": None}, "its card names no system")):
        rewrite_card(store, **changes)
        run = pretrain(tiny.recipe(training={"num_steps": 2}), store=Store.open(store.path), out=tmp_path / said)
        with pytest.raises(RunError, match=rf"{said}.*needs a system that SciFM samples and solves"):
            Playground.open(run.path)


def test_a_run_says_its_system_when_its_store_is_gone(store, tmp_path):
    run = pretrain(tiny.recipe(training={"num_steps": 2}), store=store, out=tmp_path)
    shutil.rmtree(store.path)
    assert "a store of Poisson, anisotropy 2 to 3," in Playground.open(run.path).told


def test_runs_of_before_are_read_as_they_were(store, tmp_path):
    """Their configuration holds the recipe alone, or how they were adapted, and no origin."""
    drawn = pretrain(tiny.recipe(training={"num_steps": 2}), out=tmp_path)
    stored = pretrain(tiny.recipe(training={"num_steps": 2}), store=store, out=tmp_path)
    tuned = finetune(drawn, Poisson(anisotropy=Knob(5, 10)), out=tmp_path, **QUICK)
    for run in (drawn, stored, tuned):
        now, config = Playground.open(run.path), run.config
        origin = config.pop("origin")
        config = {**config, "downstream": origin} if run is tuned else config
        config = {key: value for key, value in config.items() if run is tuned or key != "kind"}
        (run.path / "config.toml").write_text(dump_toml(config))
        before = Playground.open(run.path)
        assert (before.told, list(before.grids)) == (now.told, list(now.grids))
    shutil.rmtree(store.path)
    with pytest.raises(RunError, match="no such folder"):
        Playground.open(stored.path)


def test_boxes_with_unequal_sides(tmp_path):
    tree = tiny.recipe(data={"num_points": [16, 24], "extent": [1.0, 1.5]}, training={"num_steps": 2})
    playground = Playground.open(pretrain(tree, out=tmp_path).path)
    assert playground.trained_points == 24
    assert playground.grid("24").num_points == (16, 24)
    assert playground.grid("64").num_points == (43, 64)
    assert playground.to_dict()["extent"] == [1.0, 1.5]


def test_runs_that_cannot_be_played_with(runs, tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        Playground.open(tmp_path)
    unfinished = Run.prepare(tmp_path, "unfinished", tiny.RECIPE)
    with pytest.raises(RunError, match="not complete"):
        Playground.open(unfinished.path)
    for config, needs in (({"kind": "other"}, "kind 'other'"), ({"title": "x"}, "does not say which system")):
        run = Run(tmp_path / needs.replace(" ", "-"))
        shutil.copytree(runs["poisson"], run.path)
        (run.path / "config.toml").write_text(dump_toml(config))
        with pytest.raises(RunError, match=needs):
            Playground.open(run.path)


@pytest.mark.parametrize("text", ["1", "-1", "x", "", "00", "٠"])
def test_a_system_out_of_the_list(playgrounds, text):
    with pytest.raises(ConfigError, match="Allowed: 0"):
        playgrounds["poisson"].system(text)


@pytest.mark.parametrize("text", ["33", "1000000", "-32", "x", ""])
def test_a_resolution_out_of_the_list(playgrounds, text):
    with pytest.raises(ConfigError, match=r"Allowed: 128, 16, 256, 32, 64"):
        playgrounds["poisson"].grid(text)


def test_opening_leaves_the_global_generator_alone(runs):
    import torch

    before = torch.get_rng_state()
    Playground.open(runs["helmholtz"])
    assert torch.equal(before, torch.get_rng_state())
