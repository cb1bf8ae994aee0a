"""Fields to look at, and the recipes that come with the house."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny
from scifm.config import read_toml
from scifm.errors import ConfigError
from scifm.models.registry import load_operator, operator_class
from scifm.studies.demo import DEMOS
from scifm.studies.jobs import draw_test
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import study
from scifm.studies.table import read_table
from scifm.training.pretrain import PretrainRecipe

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))


def one_task(**changes) -> StudyRecipe:
    tree = {key: value for key, value in tiny.graph_study(**changes).items() if key != "scaling"}
    return StudyRecipe.read({"few_shot": [4, 8], **tree, "sources": tree["sources"][:1]})


def examples(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "examples.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}


def test_the_examples_are_answers_of_the_operators(tmp_path):
    recipe = one_task(few_shot=[4, 8], seeds=[0], targets=tiny.graph_study()["targets"][:1])
    folder = study(recipe, out=tmp_path / "study")
    held = examples(folder)
    test = draw_test(recipe, "near", recipe.origin(recipe.targets[0])).select(slice(0, 2))
    np.testing.assert_array_equal(held["forcing"], test.field("forcing")[:, 0].numpy())
    np.testing.assert_array_equal(held["truth"], test.require_targets()[:, 0, 0].numpy())
    assert held["coefficient_names"].tolist() == list(test.signature.coefficients)
    assert (str(held["few_shot_label"]), str(held["from_scratch_label"])) == ("fine-tuned on 8", "from scratch on 8")
    assert held["extent"].tolist() == [1, 1]
    rows = [row for row in read_table(folder / "table.parquet") if (row.target, row.seed) == ("near", 0)]
    for kind, count in (("zero_shot", 0), ("few_shot", 8), ("from_scratch", 8)):
        (run,) = (row.run for row in rows if (row.kind, row.num_samples) == (kind, count))
        answer = load_operator(folder / run / "model").predict(test).require_targets()[:, 0, 0].numpy()
        np.testing.assert_allclose(held[kind], answer, rtol=1e-5, atol=1e-7)
        error = np.linalg.norm((answer - held["truth"]).reshape(2, -1), axis=1)
        size = np.linalg.norm(held["truth"].reshape(2, -1), axis=1)
        np.testing.assert_allclose(held[f"sample_error_{kind}"], error / size, rtol=1e-5)


def test_weights_that_are_not_kept_answer_before_they_go(tmp_path):
    targets = tiny.graph_study()["targets"][:1]
    folder = study(one_task(seeds=[0], targets=targets, keep_weights="pretrained"), out=tmp_path / "study")
    assert {"zero_shot", "few_shot", "from_scratch"} <= set(examples(folder))
    for row in read_table(folder / "table.parquet"):
        assert (folder / row.run / "model").is_dir() == (row.num_samples == 0)


def test_no_examples_where_none_are_asked_for_and_few_where_few_are(tmp_path):
    few = {"seeds": [0], "targets": tiny.graph_study()["targets"][:1]}
    assert not (study(one_task(**few, num_examples=0), out=tmp_path / "none") / "examples.npz").exists()
    only_zero_shot = one_task(**few, few_shot=[], from_scratch=[], num_examples=3)
    held = examples(study(only_zero_shot, out=tmp_path / "few"))
    assert len(held["truth"]) == len(held["zero_shot"]) == 3
    assert "few_shot" not in held


def test_pictures_that_cannot_be_drawn_are_not_promised(monkeypatch):
    monkeypatch.setattr(StudyRecipe, "can_be_drawn", False)
    one_task()
    with pytest.raises(ConfigError, match="num_examples = 3 would have no effect"):
        one_task(num_examples=3)


@pytest.mark.parametrize("file", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_is_valid(file):
    """Each names systems, knobs and sizes that exist, and fits its own grid."""
    tree = read_toml(file)
    if "sources" in tree:
        StudyRecipe.read(file)
        return
    recipe = PretrainRecipe.read(file)
    network = recipe.model.resolve()
    if recipe.system is None and not recipe.mixture:  # for a store that the reader brings
        return
    recipe.check()
    grid = recipe.origin.grid
    if operator_class(network.kind).knows_one_problem:
        return
    if network.kind in ("axial_transformer", "in_context"):
        assert all(points % network.patch == 0 for points in grid.num_points)
        return
    assert min(network.latent_points or min(grid.num_points), min(grid.num_points)) >= 2 * network.modes


def test_there_are_recipes():
    assert len(RECIPES) >= 3


@pytest.mark.parametrize(("name", "file"), [("steady", "transfer-demo"), ("evolving", "transfer-demo-evolving")])
def test_a_demo_is_written_out_as_a_recipe(name, file) -> None:
    assert StudyRecipe.read(RECIPES[0].parent / f"{file}.toml") == StudyRecipe.read(DEMOS[name])
    assert set(DEMOS) == {"steady", "evolving"}
