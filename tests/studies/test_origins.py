from __future__ import annotations

import json
import math
import re
import time
from importlib import import_module

import pytest
import torch

import tiny
from scifm.data.generate import generate
from scifm.data.origin_config import DataConfig, SystemConfig
from scifm.data.origins import StoreOrigin, SystemOrigin
from scifm.data.resolving import resolve_origin
from scifm.data.store import Store
from scifm.errors import ConfigError
from scifm.evaluation.evaluate import evaluate
from scifm.report.page import page
from scifm.runs import Run
from scifm.studies.jobs import Pretraining
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import _drawing as seconds_of_drawing
from scifm.studies.study import estimate, plan_jobs, study
from scifm.studies.table import read_table
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.poisson import Poisson


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    root = tmp_path_factory.mktemp("stores")
    counts = {"train": 12, "valid": 4, "test": 7}
    settings = {"near": ([1, 5], 0, 16), "far": ([5, 10], 1, 16), "fine": ([1, 5], 2, 20)}
    made = {}
    for name, (ends, seed, num_points) in settings.items():
        system = Poisson().where(anisotropy=ends)
        made[name] = generate(system, num_samples=counts, num_points=num_points, seed=seed, path=root / name)
    made["other"] = generate(Helmholtz(), num_samples=counts, num_points=16, path=root / "other")
    return {name: str(store.path) for name, store in made.items()}


def tree_of(stores, **changes):
    poisson = {"name": "poisson", "knobs": {"anisotropy": [1, 5]}}
    tree = tiny.graph_study(
        seeds=[0],
        few_shot=[4],
        from_scratch=[4, 8],
        sources=[{"name": "stored", "store": stores["near"]}, {"name": "drawn", "systems": [poisson]}],
        targets=[
            {"name": "far", "store": stores["far"]},
            {"name": "fine", "store": stores["fine"]},
            {"name": "sampled", "system": {"name": "poisson", "knobs": {"anisotropy": [5, 10]}}},
        ],
        scaling={"source": "stored", "sizes": ["toy"], "num_steps": [3], "seeds": [0]},
    )
    return {**tree, **changes}


@pytest.fixture(scope="module")
def finished(stores, tmp_path_factory):
    recipe = StudyRecipe.read(tree_of(stores))
    return recipe, study(recipe, out=tmp_path_factory.mktemp("study") / "mixed")


def test_a_store_scores_on_its_test_split_and_lends_its_training_split(stores):
    store = Store.open(stores["far"])
    origin = StoreOrigin(store)
    assert torch.equal(origin.test(100, "any").inputs, store.split("test").load().inputs)
    assert torch.equal(origin.test(3, "any").inputs, store.split("test").load().inputs[:3])
    assert torch.equal(origin.pool(1000).samples.load().inputs, store.split("train").load().inputs)
    assert (origin.name, origin.label, origin.system, origin.ranges()) == ("store:far", "Store far", None, {})
    assert origin.homogeneities == Poisson.homogeneities


def test_one_of_two():
    system, data = SystemConfig(name="poisson"), DataConfig(num_points=16)
    assert resolve_origin(data, system=system) == SystemOrigin(system, tiny.GRID)
    for given in ({}, {"system": system, "store": "folder"}):
        with pytest.raises(ConfigError, match="exactly one of these: a system, a mixture, or a store"):
            resolve_origin(data, **given)


def test_a_study_of_stores_ends_in_the_same_table(finished, stores):
    _, folder = finished
    rows = read_table(folder / "table.parquet")
    names = {(row.kind, row.source, row.target) for row in rows}
    for target in ("far", "fine", "sampled"):
        assert ("from_scratch", "", target) in names
        for source in ("stored", "drawn"):
            assert {("zero_shot", source, target), ("few_shot", source, target)} <= names
    assert ("in_distribution", "stored", "stored+store:near") in names
    assert ("in_distribution", "stored+3", "stored+store:near") in names
    stored = {row.target: row for row in rows if row.kind == "few_shot" and row.source == "stored"}
    assert (stored["far"].system, stored["far"].knobs, stored["far"].source_systems) == (
        "store:far",
        "{}",
        "store:near",
    )
    assert json.loads(stored["sampled"].knobs)["anisotropy"] == [5, 10]
    assert {row.num_pretrain_samples for row in rows if row.source in ("stored", "stored+3")} == {12}
    run = Run.open(folder / stored["far"].run)
    assert json.loads((run.path / "subset.json").read_text())["pool"]["store"] == stores["far"]
    test = Store.open(stores["far"]).split("test").batch(slice(0, 6))
    assert evaluate(run, test).mean() == pytest.approx(stored["far"].relative_l2)


def test_what_hangs_on_knobs_is_unknown_and_all_else_is_told(finished):
    recipe, folder = finished
    found = json.loads((folder / "analysis.json").read_text())
    assert {t["name"]: (t["system"], t["knobs"]) for t in found["targets"]}["far"] == ("store:far", {})
    told = [audit["said"] for audit in found["audits"]]
    assert any(re.search(r"of 6 test samples of far (is|are) among the 12 samples", t) for t in told), told
    assert any("far (source stored, seed 0)" in t for t in told), "a store's test samples are sought in pre-training"
    assert not any("fine (source" in t for t in told), "on another grid no sample can be the same"
    assert not [audit for audit in found["audits"] if audit["name"].startswith("range") and "far" in audit["said"]]
    shifts = recipe_shift(recipe)
    for (source, target), values in shifts.items():
        known = (source, target) == ("drawn", "sampled")
        assert (values.pop("knobs") is not None) == known
        assert all(math.isfinite(value) for value in values.values())
    assert page(folder).is_file()


def recipe_shift(recipe):
    from scifm.studies.analysis import _shift_values
    from scifm.studies.jobs import draw_test

    return _shift_values(recipe, {t.name: draw_test(recipe, t.name, recipe.origin(t)) for t in recipe.targets})


def test_a_leak_from_a_store_is_found(stores, tmp_path):
    """A store whose training split is its test split."""
    whole = {"train": 4, "valid": 1, "test": 4}
    store = generate(Poisson(), num_samples=whole, num_points=16, path=tmp_path / "leaky")
    test = sorted((store.path / "data" / "test").iterdir())
    train = sorted((store.path / "data" / "train").iterdir())
    train[0].write_bytes(test[0].read_bytes())
    card = json.loads((store.path / "card.json").read_text())
    names = {kind: f"data/{kind}/{file[0].name}" for kind, file in (("train", train), ("test", test))}
    card["files"][names["train"]] = card["files"][names["test"]]
    (store.path / "card.json").write_text(json.dumps(card))
    target = {"name": "leaky", "store": str(store.path)}
    few = {"few_shot": [2], "from_scratch": [2], "scaling": None, "num_test_samples": 4, "pool_size": None}
    tree = {k: v for k, v in tree_of(stores, targets=[target], **few).items() if v is not None}
    folder = study(StudyRecipe.read(tree), out=tmp_path / "study")
    audits = json.loads((folder / "analysis.json").read_text())["audits"]
    assert [audit["good"] for audit in audits if audit["name"] == "test disjoint"] == [False]


def test_time_is_estimated_on_a_store_smaller_than_a_batch(stores, tmp_path):
    found = estimate(plan_jobs(StudyRecipe.read(tree_of(stores)), tmp_path / "study"), num_workers=1)
    assert found.seconds > 0


def test_the_time_to_draw_fresh_samples_is_part_of_the_estimate(stores, tmp_path, monkeypatch):
    drawn = [{"name": "drawn", "systems": [{"name": "poisson", "knobs": {"anisotropy": [1, 5]}}]}]
    recipe = StudyRecipe.read(tree_of(stores, sources=drawn, scaling=None))
    plan, draw = plan_jobs(recipe, tmp_path / "study"), SystemOrigin.draw
    pretrained = sum(isinstance(task, Pretraining) for task in plan.tasks.values())
    drawn = pretrained * recipe.training.num_steps * recipe.training.batch_size  # fresh ones at every step
    monkeypatch.setattr(import_module("scifm.studies.study"), "_drawing", lambda recipe: 1e6)
    found = estimate(plan, num_workers=2)
    assert found.seconds == pytest.approx(1e6 * drawn / 2, rel=1e-2)
    for speed in found.speeds.values():
        assert speed.seconds == pytest.approx(1e6 * recipe.training.batch_size, rel=1e-2)
    monkeypatch.undo()

    def slow(origin, num_samples, *names, **how):
        time.sleep(0.05 * num_samples)
        return draw(origin, num_samples, *names, **how)

    monkeypatch.setattr(SystemOrigin, "draw", slow)
    assert seconds_of_drawing(recipe) >= 0.05


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"targets": [{"name": "far"}]}, "either a system or a store"),
        ({"targets": [{"name": "far", "store": "no/such/store"}]}, "no/such/store"),
        ({"targets": [{"name": "far", "store": "far", "system": {"name": "poisson"}}]}, "either a system or a store"),
        ({"targets": [{"name": "far", "store": "other"}]}, "knows the names of none of the targets"),
        ({"from_scratch": [12, 13], "pool_size": 20}, "needs at least 13 samples in its split 'train'"),
        ({"num_test_samples": 8}, "needs at least 8 samples in its split 'test'"),
        ({"sources": [{"name": "none"}], "scaling": None}, "either systems or a store"),
        ({"data": {**tiny.RECIPE["data"], "store": "far"}}, "a source or a target names its own store"),
    ],
)
def test_bad_recipes_say_what_is_wrong(stores, changes, told):
    tree = tree_of(stores)
    for target in changes.get("targets", ()):
        if target.get("store") in stores:
            target["store"] = stores[target["store"]]
    tree = {key: value for key, value in {**tree, **changes}.items() if value is not None}
    with pytest.raises((ConfigError, OSError), match=re.escape(told)):
        StudyRecipe.read(tree)
