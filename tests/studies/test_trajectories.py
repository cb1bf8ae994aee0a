"""A trajectory is one problem, wherever a number of samples is asked for: all of its windows stand on one side."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import evolving
import tiny
from scifm.config import build_config
from scifm.data.store import Store
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.evaluation.evaluate import evaluate
from scifm.fields.window import Window
from scifm.report.page import page
from scifm.runs import Run
from scifm.studies import analysis, jobs
from scifm.studies.adapting import AdaptConfig
from scifm.studies.planner import PlanRecipe, plan
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import plan_jobs, study
from scifm.studies.table import read_table
from scifm.training.pretrain import pretrain

WINDOWS = evolving.NUM_FRAMES - 1
STRIDE = 2  # of the plan: three windows a trajectory
TRAINING = {**tiny.ADAPTING, "num_steps": 3}
PLAN = build_config(
    PlanRecipe,
    {
        "num_repeats": 2,
        "adapt": {"learning_rates": [1e-3], "training": TRAINING, "stride": STRIDE},
        "scratch_learning_rates": [1e-2],
    },
)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return evolving.store(tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="module")
def parent(tmp_path_factory, store) -> Run:
    recipe = evolving.recipe()
    strided = recipe.model_copy(update={"data": recipe.data.model_copy(update={"stride": STRIDE})})
    return pretrain(strided, store=store, out=tmp_path_factory.mktemp("parents"))


@pytest.fixture(scope="module")
def plan_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("plans") / "plan"


@pytest.fixture(scope="module")
def planned(plan_folder, store, parent):
    return plan(parent, store, 1e-6, out=plan_folder, recipe=PLAN)


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_a_plan_counts_trajectories(planned, plan_folder, store):
    assert planned.num_samples == store.num_problems == 16
    assert {p.num_samples for p in planned.points} == {3, 6, 12}
    for point in planned.points:
        assert len(point.errors) == len(point.held_out) == 4, "one error a trajectory"
        used = Run.open(plan_folder / point.run).read_json("subset.json")
        trained = {used["pool"]["index"][i] for i in used["index"]}
        assert len(trained) == point.num_samples
        assert not trained & set(point.held_out), "windows of one trajectory stand on two sides"


def test_a_plan_scores_every_window_of_what_it_holds_out(planned, plan_folder, store):
    whole = store.whole(Window(stride=STRIDE))
    assert whole.num_samples == 16 * (evolving.NUM_FRAMES - STRIDE)
    for point in planned.points:
        scores = evaluate(plan_folder / point.run, whole.chosen(point.held_out))
        assert scores.num_samples == 4 * whole.windows_per_trajectory
        each = scores.values["relative_l2"].reshape(4, -1).mean(dim=1)
        assert point.errors == pytest.approx(each.tolist(), rel=1e-6)
        assert point.relative_l2 == pytest.approx(np.mean(point.errors))


def test_the_stride_of_a_plan_counts(store, parent, tmp_path):
    other = PLAN.model_copy(update={"num_repeats": 1, "adapt": PLAN.adapt.model_copy(update={"stride": 1})})
    with pytest.raises(SignatureError, match=r"trained at a lead time of 0\.2, and 0\.1 is asked for"):
        plan(parent, store, 1e-6, out=tmp_path / "plan", recipe=other)


def test_few_trajectories_of_many_windows_are_few(parent, tmp_path):
    with pytest.raises(DataError, match=r"at least 6 trajectories.*holds 5"):
        plan(parent, evolving.store(tmp_path, 5), 0.1, out=tmp_path / "plan", recipe=PLAN)


def test_a_plan_on_foreign_data_where_they_lie(parent, planned, tmp_path):
    result = plan(parent, evolving.in_place(tmp_path), 1e-6, out=tmp_path / "plan", recipe=PLAN)
    assert [p.errors for p in result.points] == [p.errors for p in planned.points]


def test_a_plan_has_a_page(planned, plan_folder):
    text = page(plan_folder).read_text()
    assert planned.findings[0].said in html.unescape(text)


# --- all splits of a store as one -------------------------------------------------------------------------------------


def test_all_splits_lie_one_after_the_other(store):
    whole, parts = store.whole(), [store.split(name) for name in store.splits]
    assert torch.equal(whole.load().inputs, torch.cat([part.load().inputs for part in parts]))
    assert torch.equal(whole.batch([17, 2, 60]).inputs, whole.load().inputs[[17, 2, 60]])
    whole.close()


# --- the study --------------------------------------------------------------------------------------------------------


def tree_of(store: Store, **changes):
    tree = tiny.graph_study(
        seeds=[0],
        few_shot=[2],
        from_scratch=[2],
        normalization="constant",
        models={"toy": {"network": tiny.NETWORK}},
        data={"num_validation_samples": 4, "num_normalization_samples": 8},
        adapt={"training": {**TRAINING, "batch_size": 5}, "epochs": 3},
        sources=[{"name": "stored", "store": str(store.path)}],
        targets=[{"name": "same", "store": str(store.path)}],
        num_test_samples=3,
    )
    tree.pop("scaling")
    tree.pop("pool_size")
    return {**tree, **changes}


@pytest.fixture(scope="module")
def studied(store, tmp_path_factory):
    recipe = StudyRecipe.read(tree_of(store))
    return recipe, study(recipe, out=tmp_path_factory.mktemp("study") / "stored")


def test_a_study_scores_every_window_of_its_test_trajectories(studied, store):
    recipe, folder = studied
    test = store.split("test").chosen(range(3))
    for row in read_table(folder / "table.parquet"):
        assert pq.read_table(Run(folder / row.run).scores_file(row.target)).num_rows == 3 * WINDOWS
        assert row.relative_l2 == pytest.approx(evaluate(folder / row.run, test).mean(), rel=1e-6)
        assert len(analysis._sample_errors(recipe, folder, row)) == 3, "windows of a trajectory are not independent"


def test_a_study_counts_rounds_and_effort_in_windows(studied):
    recipe, folder = studied
    job = next(job for job in plan_jobs(recipe, folder).tasks.values() if isinstance(job, jobs.Adaptation))
    assert job.num_samples == 2
    assert job.effort(recipe).batch_size == 5  # of 8 windows, not of 2 trajectories
    row = next(row for row in read_table(folder / "table.parquet") if row.kind == "from_scratch")
    assert row.num_steps == 5  # three rounds over 8 windows, 5 a step
    assert AdaptConfig(epochs=3).recipe("few_shot", 256, 0).training.num_steps == 200


def test_every_window_of_the_pool_is_compared_with_the_test(studied):
    audits = json.loads((studied[1] / "analysis.json").read_text())["audits"]
    said = next(audit["said"] for audit in audits if audit["name"] == "test disjoint")
    assert f"none of {3 * WINDOWS} test samples" in said
    assert f"among the {8 * WINDOWS} samples of its pool" in said


def test_the_stride_of_a_study_counts_wherever_a_store_is_read(store):
    recipe = StudyRecipe.read(tree_of(store, data={**tree_of(store)["data"], "stride": 3}))
    origin = recipe.origin(recipe.targets[0])
    assert jobs.draw_test(recipe, "same", origin).num_samples == 3 * (evolving.NUM_FRAMES - 3)
    assert jobs.pool_of(recipe, recipe.targets[0]).samples.window.stride == 3
    assert recipe.pretraining(recipe.sources[0], "toy", 0).data.stride == 3
    assert origin.windows == evolving.NUM_FRAMES - 3


def test_a_steady_store_has_no_stride(tmp_path):
    from scifm.data.generate import generate
    from scifm.systems.poisson import Poisson

    steady = generate(Poisson(), num_samples={"train": 4}, num_points=16, path=tmp_path / "steady")
    with pytest.raises(ConfigError, match=r"steady.*stride = 2"):
        steady.split("train", stride=2)
