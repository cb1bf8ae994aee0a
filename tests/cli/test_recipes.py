"""What verbs are told by a recipe, by options and by ``--set``: one configuration, and the last word counts."""

from __future__ import annotations

import json
import tomllib

import pytest

import tiny
from calls import Said
from scifm.cli.recipes import RECIPES, asked, setting_of_option, settings
from scifm.config import dump_toml
from scifm.data.store import Store
from scifm.training.choice import AdaptRecipe


def refused(said: Said, words: str) -> None:
    assert said.status == 2
    assert words in said.told


def test_the_recipe_is_read_first_then_options_then_set(tmp_path):
    file = tmp_path / "tuning.toml"
    tree = {"num_samples": 8, "seed": 1, "training": {"num_steps": 7}, "system": {"name": "poisson"}}
    file.write_text(dump_toml(tree))
    told = asked(file, ["seed=3"], knobs=["anisotropy=5,10"], num_samples=16, store=None)
    assert told.pop("system") == {"name": "poisson", "knobs": {"anisotropy": [5.0, 10.0]}}
    recipe = settings("finetune", told)
    assert (recipe.num_samples, recipe.seed, recipe.training.num_steps) == (16, 3, 7)
    default = AdaptRecipe()
    assert recipe.training == default.training.model_copy(update={"num_steps": 7}), "the rest is as this verb has it"
    plan = settings("plan", asked(None, ["adapt.training.batch_size=4"]))
    assert plan.adapt.training.num_steps == 200


@pytest.mark.parametrize(
    ("verb", "option", "setting"),
    [
        ("finetune", "--learning-rate", "learning_rates"),
        ("finetune", "--num-steps", "training.num_steps"),
        ("finetune", "--refit-coefficients", "refit_coefficients"),
        ("finetune", "--method", "method"),
        ("finetune", "--rank", "method.rank"),
        ("finetune", "--rename", "rename.NAME"),
        ("evaluate", "--split", "split"),
        ("evaluate", "--num-points", "num_points"),
        ("check", "--seed", "seed"),
        ("pretrain", "--batch-size", "training.batch_size"),
        ("study", "--seeds", "seeds"),
    ],
)
def test_an_option_that_is_a_setting_says_how_it_is_given(scifm, verb, option, setting):
    refused(scifm(verb, "somewhere", option, 3), f"write --set {setting}=…")


def test_what_is_no_setting_either_is_no_such_option(scifm):
    assert setting_of_option("finetune", "--frobnicate") is None
    said = scifm("finetune", "somewhere", "--frobnicate")
    assert said.status == 2
    assert "No such option: --frobnicate" in said.err


def test_every_verb_with_settings_takes_them_by_set_and_from_a_file(scifm):
    for verb in RECIPES:
        help_text = scifm(verb, "--help").out
        assert "--set" in help_text
        assert "--recipe" in help_text or "TOML file" in help_text


def test_a_whole_verb_from_one_file(scifm, tmp_path):
    run = tiny.finished_run(tmp_path / "runs").path
    recipe = tmp_path / "scoring.toml"
    shifted = {"name": "poisson", "knobs": {"anisotropy": [5, 10]}}
    recipe.write_text(dump_toml({"system": shifted, "num_points": 16, "num_samples": 3, "seed": 4}))
    by_file = json.loads(scifm("evaluate", run, "--recipe", recipe, "--json").out)
    words = ("--system", "poisson", "--knob", "anisotropy=5,10", "--set", "num_points=16", "--set", "seed=4")
    by_words = json.loads(scifm("evaluate", run, *words, "--num-samples", 3, "--json").out)
    assert by_file == by_words
    refused(scifm("evaluate", run, "--recipe", tmp_path / "none.toml"), "No recipe at")
    refused(scifm("evaluate", run, "--recipe", recipe, "--set", "splitt=test"), "Did you mean 'split'?")
    refused(scifm("evaluate", run, "--recipe", recipe, "--store", tmp_path), "either a system (--system NAME")
    refused(scifm("finetune", run, "--recipe", recipe, "--set", "num_points=3"), "'num_points'")


def test_a_system_named_again_keeps_what_its_file_says(tmp_path):
    file = tmp_path / "shift.toml"
    file.write_text(dump_toml({"system": {"name": "poisson", "knobs": {"anisotropy": [5, 10]}}}))
    same = asked(file, None, "poisson", ["angle=0,1"])["system"]
    assert same == {"name": "poisson", "knobs": {"anisotropy": [5, 10], "angle": [0.0, 1.0]}}
    assert asked(file, None, "helmholtz")["system"] == {"name": "helmholtz"}


def test_a_store_is_made_from_a_file_alone(scifm, tmp_path):
    file = tmp_path / "store.toml"
    shifted = {"name": "poisson", "knobs": {"anisotropy": [5, 10]}}
    file.write_text(dump_toml({"system": shifted, "num_samples": {"train": 3}, "num_points": 16}))
    made = json.loads(scifm("generate", "--recipe", file, "--out", tmp_path / "store", "--json").out)
    assert made["splits"] == {"train": 3}
    assert made["knobs"]["anisotropy"]["low"] == 5
    refused(scifm("generate", "--out", tmp_path / "other"), "'system' is missing")
    file.write_text(dump_toml({"system": {"name": "poisson", "knobs": 3}}))
    words = ("generate", "--recipe", file, "--out", tmp_path / "other", "--set", "system.knobs.angle=[0, 1]")
    refused(scifm(*words), "not a table")
    refused(scifm(*words[:-2]), "it is a table; write system.knobs.NAME")


def test_a_box_has_sides_and_ends_of_its_own(scifm, tmp_path):
    words = ("generate", "shallow_water", "--num-samples", 1, "--num-points", 16, "--num-frames", 2)
    box = ("--set", "num_points=[12, 16]", "--set", "extent=[1, 3]", "--set", "boundary=['periodic', 'wall']")
    path = tmp_path / "store"
    assert scifm(*words[:4], *words[6:], *box, "--out", path).status == 0
    assert Store.open(path).grid.told == "12 × 16 points on a box of 1 × 3, periodic along y, with walls along x"
    refused(scifm(*words, "--set", "boundary=walled", "--out", tmp_path / "other"), "'periodic', 'wall', 'open'")
    told = "has to be told what stands at the ends of an axis"
    refused(scifm(*words, "--set", "boundary=bounded", "--out", tmp_path / "other"), told)
    told = "num_points, extent and boundary do not make a box of 2 axes"
    refused(scifm(*words, "--set", "extent=[1, 2, 3]", "--out", tmp_path / "other"), told)
    words = ("generate", "poisson", "--num-samples", 1, "--num-points", 16, "--set", "boundary=wall")
    refused(scifm(*words, "--out", tmp_path / "other"), "periodic on every axis; got 16 × 16 points")
    assert not (tmp_path / "other").exists()


def test_systems_are_completed():
    from typer.main import get_command

    from scifm.cli.app import app

    for verb in ("generate", "finetune", "evaluate", "check", "compress", "play"):
        (option,) = (entry for entry in get_command(app).commands[verb].params if entry.name == "system")
        assert [item.value for item in option.shell_complete(None, "pois")] == ["poisson"]


def test_a_check_is_named_with_settings_of_its_own(scifm, tmp_path):
    run = tiny.finished_run(tmp_path / "runs").path
    asked_for = ("check", run, "--num-samples", 4, "--json", "--set")
    (found,) = json.loads(scifm(*asked_for, "checks=[{name='shift_equivariance', num_samples=2}]").out)
    assert found["name"] == "shift_equivariance"
    refused(scifm(*asked_for, "checks=[{name='shift_equivariance', shifts=1}]"), "'shifts' is unknown")
    refused(scifm(*asked_for, "checks=[]"), "checks")


def test_those_that_come_with_the_package_are_listed_and_printed(scifm):
    listed = {row["name"]: row for row in json.loads(scifm("recipes", "--json").out)}
    assert listed["poisson-small"]["verb"] == "pretrain"
    assert listed["transfer-tiny"]["verb"] == "study"
    assert all(row["title"] for row in listed.values())
    assert "poisson-small" in scifm("recipes").out
    assert tomllib.loads(scifm("recipes", "poisson-small").out)["name"] == "poisson-small"
    said = scifm("recipes", "poisson")
    assert said.status == 2
    assert "'poisson' is unknown" in said.told
