from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import tiny
from scifm.config import dump_toml
from scifm.errors import ConfigError
from scifm.studies.recipe import StudyRecipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
STUDIES = sorted([*RECIPES.glob("transfer-*.toml"), *RECIPES.glob("paper/*.toml")])


@pytest.mark.parametrize("path", [p for p in STUDIES if "demo" not in p.name], ids=lambda path: path.name)
def test_the_recipes_of_the_house_add_up(path):
    recipe = StudyRecipe.read(path)
    assert all(recipe.targets_of(source) for source in recipe.sources)
    recipe.grid  # noqa: B018 - is asked for


def change(**changes):
    return lambda: StudyRecipe.read(tiny.graph_study(**changes))


SOURCE, TARGET = tiny.graph_study()["sources"][0], tiny.graph_study()["targets"][0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (change(sources=[SOURCE, SOURCE]), "source 'poisson' in size 'toy' is there twice"),
        (change(targets=[TARGET, TARGET]), "target 'near' is there twice"),
        (change(sources=[{**SOURCE, "targets": ["nerr"]}]), "'nerr' is unknown. Did you mean 'near'"),
        (change(sources=[{**SOURCE, "sizes": ["smal"]}]), "'smal' is unknown. Did you mean 'small'"),
        (change(scaling={"source": "x", "sizes": ["toy"], "num_steps": [3]}), "Source 'x' is unknown"),
        (change(sources=[{**SOURCE, "systems": [{"name": "poison"}]}]), "source 'poisson': System 'poison' is unknown"),
        (
            change(targets=[{"name": "t", "system": {"name": "poisson", "knobs": {"anisotropy": [0.5, 2]}}}]),
            "target 't': Knob 'anisotropy' of 'poisson' needs low >= 1",
        ),
        (
            change(sources=[{**SOURCE, "targets": ["h"]}], targets=[{"name": "h", "system": {"name": "helmholtz"}}]),
            "cannot be moved to 'h': it does not know diffusivity, wavenumber_shift",
        ),
        (
            change(targets=[{"name": "h", "system": {"name": "helmholtz"}}]),
            "knows the names of none of the targets",
        ),
        (change(pool_size=5), "pool_size = 5 is smaller than the largest subset, 8"),
        (change(few_shot=[0]), "at least 1"),
        (change(seeds=[]), "'seeds'"),
        (change(targets=[]), "'targets'"),
        (change(targets=[{**TARGET, "name": "a/b"}]), "no slash"),
        (change(adapt={"learning_rates": [1e-3]}), "as many scratch_learning_rates"),
        (change(data={"store": "here"}), "leave data.store out"),
        (change(sedes=[1]), "Did you mean 'seeds'"),
    ],
)
def test_what_does_not_add_up_is_told_in_one_line(make, words):
    with pytest.raises(ConfigError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_source_is_moved_to_every_target_whose_names_it_knows():
    recipe = StudyRecipe.read(
        tiny.graph_study(
            sources=[
                {"name": "poisson", "systems": [{"name": "poisson"}]},
                {"name": "advection", "systems": [{"name": "advection_diffusion"}]},
                {"name": "both", "systems": [{"name": "poisson"}, {"name": "helmholtz"}]},
            ],
            targets=[
                {"name": "p", "system": {"name": "poisson"}},
                {"name": "a", "system": {"name": "advection_diffusion"}},
                {"name": "h", "system": {"name": "helmholtz"}},
            ],
        )
    )
    moved = {source.name: [target.name for target in recipe.targets_of(source)] for source in recipe.sources}
    assert moved == {"poisson": ["p"], "advection": ["p", "a"], "both": ["p", "h"]}


def test_training_from_scratch_stands_beside_every_size_and_count_that_a_source_asks_for():
    wide = {**SOURCE, "sizes": ["toy-wide"], "targets": ["far"], "from_scratch": [4]}
    recipe = StudyRecipe.read(tiny.graph_study(sources=[SOURCE, wide]))
    near, far = recipe.targets
    assert recipe.scratches(near) == [("toy", 4), ("toy", 8)]
    assert recipe.scratches(far) == [("toy", 4), ("toy", 8), ("toy-wide", 4)]


def test_both_kinds_of_adaptation_get_one_budget_which_grows_with_the_samples():
    adapt = StudyRecipe.read(
        tiny.graph_study(adapt={"epochs": 10, "training": {"num_steps": 20, "batch_size": 8}})
    ).adapt
    for count, steps in ((4, 20), (16, 20), (64, 80)):
        few, scratch = adapt.recipe("few_shot", count, 3), adapt.recipe("from_scratch", count, 3)
        assert few.training == scratch.training
        assert few.training.num_steps == steps
        assert len(few.learning_rates) == len(scratch.learning_rates)
        assert few.seed == scratch.seed == 3


def test_a_method_is_for_fine_tuning_only():
    adapt = StudyRecipe.read(tiny.graph_study(adapt={"method": "affine"})).adapt
    assert adapt.recipe("few_shot", 4, 0).method.method == "affine"
    assert adapt.recipe("from_scratch", 4, 0).method.method == "all"
    with pytest.raises(ConfigError, match="Did you mean 'affine'"):
        StudyRecipe.read(tiny.graph_study(adapt={"method": "afine"}))


def test_the_choice_not_to_train_is_passed_on():
    settings = {**tiny.FEW_CHOICES, "trial_budget": 1.5, "min_scored": 7}
    for changes, tried in ({}, (0, 3e-4, 1e-3)), ({"try_zero_shot": False}, (3e-4, 1e-3)):
        adapt = StudyRecipe.read(tiny.graph_study(adapt={**settings, **changes})).adapt
        recipe = adapt.recipe("few_shot", 4, 0)
        assert tuple(way.learning_rate for way in recipe.candidates(fits=True)) == tried
        assert (recipe.trial_budget, recipe.min_scored) == (1.5, 7)
        assert adapt.recipe("from_scratch", 4, 0).trial_budget == 1.5, "an equal budget"


def test_networks_of_any_kind_stand_beside_each_other_and_survive_the_record():
    tree = tiny.graph_study()
    tree["networks"]["theirs"] = {"kind": "neuralop_fno", "n_modes": [4, 4], "hidden_channels": 4}
    recipe = StudyRecipe.read(tree)
    assert StudyRecipe.read(tomllib.loads(dump_toml(recipe.to_dict()))) == recipe
    assert recipe.to_dict()["networks"]["theirs"]["kind"] == "neuralop_fno"
    assert "kind" not in recipe.to_dict()["networks"]["toy"]
    model = recipe.pretraining(recipe.sources[0], "theirs", 0).model
    assert (model.kind, model.resolve()) == ("neuralop_fno", recipe.network("theirs"))
    tree["networks"]["theirs"]["hidden_chanels"] = 3
    with pytest.raises(ConfigError, match=r"in \[networks.theirs\] 'hidden_chanels' .* Did you mean 'hidden_channels'"):
        StudyRecipe.read(tree)
    tree["networks"]["theirs"] = {"kind": "transformer"}
    with pytest.raises(ConfigError, match=r"'networks.theirs' .* 'transformer' is unknown"):
        StudyRecipe.read(tree)
    for wrong in ({"kind": ["fno"]}, 3, "tiny"):
        tree["networks"]["theirs"] = wrong
        with pytest.raises(ConfigError, match=r"networks\.theirs"):
            StudyRecipe.read(tree)


def test_steady_sources_stand_beside_those_that_evolve():
    """What windows of trajectories are made of was asked of the steady system too, which has none."""
    sources = [{"name": name, "systems": [{"name": name}]} for name in ("burgers", "poisson")]
    targets = [{"name": "thin", "system": {"name": "burgers"}}, {"name": "near", "system": {"name": "poisson"}}]
    data = {**tiny.graph_study()["data"], "history": 2, "windows_per_trajectory": 3}
    tree = tiny.graph_study(data=data, targets=targets, sources=sources, scaling=None)
    recipe = StudyRecipe.read(tree)
    evolving, steady = (recipe.pretraining(source, "toy", 0).data for source in recipe.sources)
    assert (evolving.history, evolving.windows_per_trajectory) == (2, 3)
    assert (steady.history, steady.windows_per_trajectory) == (1, 4)
