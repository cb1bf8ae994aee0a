from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import networks
import tiny
from scifm.config import dump_toml
from scifm.errors import ConfigError
from scifm.studies.recipe import StudyRecipe
from scifm.training.pretrain import PretrainRecipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
STUDIES = sorted(path for path in RECIPES.rglob("*.toml") if "[[sources]]" in path.read_text("utf-8"))
PRETRAININGS = sorted({*RECIPES.rglob("*.toml")} - {*STUDIES})


@pytest.mark.parametrize("path", [p for p in STUDIES if "demo" not in p.name], ids=lambda path: path.name)
def test_the_recipes_of_the_house_add_up(path):
    recipe = StudyRecipe.read(path)
    assert all(recipe.targets_of(source) for source in recipe.sources)
    recipe.grid  # noqa: B018 - is asked for


@pytest.mark.parametrize("path", PRETRAININGS, ids=lambda path: path.name)
def test_the_pretrainings_of_the_house_add_up(path):
    recipe = PretrainRecipe.read(path)
    recipe.model.resolve().require_known()
    if recipe.system is not None or recipe.mixture:  # the others say above how their store is made
        recipe.check()
        recipe.require_unseen(recipe.origin)


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
            change(sources=[{**SOURCE, "targets": ["k"]}], targets=[{"name": "k", "system": {"name": "kdv"}}]),
            "source 'poisson' cannot be moved to 'k': it has 2 dimensions, 'k' has 1",
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
        (change(sources=[SOURCE], data={"temperature": 2.0}), "data.temperature = 2.0 would have no effect"),
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


THEIRS = {"kind": "neuralop_fno", "network": {"n_modes": [4, 4], "hidden_channels": 4}}


def test_networks_of_any_kind_stand_beside_each_other_and_survive_the_record():
    tree = tiny.graph_study()
    tree["models"]["theirs"] = THEIRS
    recipe = StudyRecipe.read(tree)
    assert StudyRecipe.read(tomllib.loads(dump_toml(recipe.to_dict()))) == recipe
    assert recipe.to_dict()["models"]["theirs"]["kind"] == "neuralop_fno"
    model = recipe.pretraining(recipe.sources[0], "theirs", 0).model
    assert (model.kind, model.resolve()) == ("neuralop_fno", recipe.model("theirs").resolve())
    tree["models"]["theirs"] = {**THEIRS, "network": {**THEIRS["network"], "hidden_chanels": 3}}
    wanted = r"in \[models.theirs.network\] 'hidden_chanels' .* Did you mean 'hidden_channels'"
    with pytest.raises(ConfigError, match=wanted):
        StudyRecipe.read(tree)
    tree["models"]["theirs"] = {"kind": "transformer"}
    with pytest.raises(ConfigError, match=r"'models.theirs.kind' .* 'transformer' is unknown"):
        StudyRecipe.read(tree)
    for wrong in ({"kind": ["fno"]}, 3, "tiny", {"kind": "unet", "steps_factor": 0}, {"steps": 2}):
        tree["models"]["theirs"] = wrong
        with pytest.raises(ConfigError, match=r"models\.theirs"):
            StudyRecipe.read(tree)


def test_a_recipe_of_before_says_its_networks_as_it_did():
    """Settings and kind stood in one table, and sizes had to be named; the runs of such a study are found again."""
    before, now = tiny.graph_study(), tiny.graph_study(models={**tiny.graph_study()["models"], "theirs": THEIRS})
    del before["models"]
    before["networks"] = {name: model["network"] for name, model in tiny.graph_study()["models"].items()}
    before["networks"]["theirs"] = {"kind": "neuralop_fno", **THEIRS["network"]}
    assert StudyRecipe.read(before) == StudyRecipe.read(now)
    with pytest.raises(ConfigError, match="'theirs' is in models and in networks; say it once, in models"):
        StudyRecipe.read({**before, "models": {"theirs": THEIRS}})
    for wrong in (3, {"theirs": 3}):
        with pytest.raises(ConfigError, match=r"networks|theirs"):
            StudyRecipe.read({**before, "networks": wrong})
    del before["sizes"]
    assert StudyRecipe.read({**before, "scaling": None}).sizes == ("small",), "what it was where none were named"


def test_every_model_is_compared_where_no_sizes_are_named():
    tree = tiny.graph_study(models={"fno": {"size": "tiny"}, "unet": {"kind": "unet", "size": "tiny"}}, scaling=None)
    del tree["sizes"]
    assert StudyRecipe.read(tree).sizes == ("fno", "unet")
    assert StudyRecipe.read({**tree, "sizes": ["unet"]}).all_sizes == ["unet"]


def test_a_network_has_its_own_normalization_and_share_of_the_steps():
    tree = tiny.graph_study(normalization="joint")
    tree["models"]["toy"] |= {"normalization": "constant", "steps_factor": 0.5}
    recipe = StudyRecipe.read(tree)
    source = recipe.sources[0]
    assert [recipe.model(size).normalization for size in ("toy", "toy-wide", "small")] == ["constant", "joint", "joint"]
    steps = [recipe.pretraining(source, size, 0).training.num_steps for size in ("toy", "toy-wide")]
    assert steps == [3, 6]
    assert recipe.pretraining(source, "toy", 0, num_steps=4).training.num_steps == 4, "an axis of scaling is as it is"
    for kind in ("few_shot", "from_scratch"):
        own = [recipe.adapt.recipe(kind, 4, 0, model=recipe.model(size)) for size in ("toy", "toy-wide")]
        assert [settings.training.num_steps for settings in own] == [2, 3]
    idle = tiny.graph_study(normalization="joint", models={"toy": {**tree["models"]["toy"]}}, scaling=None)
    with pytest.raises(ConfigError, match="normalization = 'joint' would have no effect"):
        StudyRecipe.read(idle)


def test_sizes_of_one_architecture_are_told_from_other_architectures():
    small, wide = tiny.NETWORK, {**tiny.NETWORK, "width": 6, "modes": 4}
    layers, own = {**wide, "conditioning": "layers"}, {"target": f"{networks.__name__}:Shift"}
    models = {
        "a": {"network": small}, "b": {"network": wide}, "told": {"network": layers},
        "u1": {"kind": "unet", "size": "tiny"}, "u2": {"kind": "unet", "size": "small"},
        "mine": {"kind": "module", "network": own}, "joint": {"network": wide, "normalization": "joint"},
    }  # fmt: skip
    recipe = StudyRecipe.read(tiny.graph_study(models=models, sizes=list(models), scaling=None))
    names = {"a": "a, b", "b": "a, b", "told": "told", "u1": "unet", "u2": "unet", "mine": "mine", "joint": "joint"}
    assert recipe.architectures == names


def test_a_network_whose_file_is_not_given_is_refused_before_anything_is_spent():
    models = {"mine": {"kind": "module", "network": {"target": "nowhere_else:Net", "file": "nets/nowhere_else.py"}}}
    with pytest.raises(ConfigError, match=r"network 'mine': .*give --import nets/nowhere_else.py"):
        StudyRecipe.read(tiny.graph_study(models=models, sizes=["mine"], scaling=None))


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
