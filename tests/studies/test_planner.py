from __future__ import annotations

import json
import math
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from scifm.config import build_config
from scifm.data.generate import generate
from scifm.data.origins import SystemOrigin
from scifm.data.store import Store
from scifm.errors import ConfigError, DataError, RunError, SignatureError, StoreError
from scifm.evaluation.evaluate import evaluate
from scifm.fields.batch import Batch
from scifm.findings.plan import Plan
from scifm.report.page import page
from scifm.runs import Run
from scifm.studies import planner
from scifm.studies.planner import PlanRecipe, plan
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.kdv import KortewegDeVries
from scifm.systems.poisson import Poisson
from scifm.training.finetune import finetune
from scifm.training.loop import DivergedError, TrainingConfig
from scifm.training.pretrain import pretrain

RECIPE = build_config(
    PlanRecipe,
    {
        "num_repeats": 2,
        "adapt": {"learning_rates": [1e-3], "training": {**tiny.ADAPTING, "num_steps": 4}},
        "scratch_learning_rates": [1e-2],
    },
)


class FixedScores:
    """Scores of one error."""

    def __init__(self, error: float) -> None:
        self.error = error

    @property
    def values(self) -> dict[str, torch.Tensor]:
        return {"relative_l2": torch.full((12, 1, 1), self.error)}


@pytest.fixture(scope="module")
def parent(tmp_path_factory) -> Run:
    return tiny.finished_run(tmp_path_factory.mktemp("parents"))


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Store:
    path = tmp_path_factory.mktemp("stores") / "few"
    return generate(Poisson(), num_samples={"train": 8, "valid": 2, "test": 2}, num_points=16, path=path)


@pytest.fixture(scope="module")
def events() -> list[dict]:
    return []


@pytest.fixture(scope="module")
def whole(tmp_path_factory, parent, few, events):
    out = tmp_path_factory.mktemp("plans") / "plan"
    return out, plan(parent, few, 0.1, out=out, recipe=RECIPE, observe=lambda **event: events.append(event))


@pytest.fixture
def folder(whole) -> Path:
    return whole[0]


@pytest.fixture
def made(whole) -> Plan:
    return whole[1]


def test_every_size_is_tried_in_every_repeat(made, folder):
    assert made.num_samples == 12
    tried = [(p.kind, p.num_samples, p.repeat) for p in made.points]
    assert tried == [(k, n, r) for k in ("few_shot", "from_scratch") for n in (2, 4, 9) for r in (0, 1)]
    for point in made.points:
        assert Run.open(folder / point.run).is_complete
        assert len(point.held_out) == len(point.errors) == 3
        assert point.relative_l2 == pytest.approx(np.mean(point.errors))


def test_no_operator_is_scored_on_what_it_saw(made, folder, few):
    everything = Batch.concatenate(few.split(name).load() for name in few.splits)
    for point in made.points:
        used = Run.open(folder / point.run).read_json("subset.json")
        seen = [used["pool"]["index"][i] for i in used["index"]]
        assert len(set(seen)) == point.num_samples
        assert not set(seen) & set(point.held_out)
        scores = evaluate(folder / point.run, everything.select(list(point.held_out)))
        assert point.relative_l2 == pytest.approx(scores.mean(), rel=1e-6)
    repeats = {p.repeat: set(p.held_out) for p in made.points}
    assert not repeats[0] & repeats[1], "each repeat scores on other samples while there are some"


def test_sizes_are_nested_in_a_repeat(made, folder):
    for kind in ("few_shot", "from_scratch"):
        seen = []
        for point in (p for p in made.points if p.kind == kind and p.repeat == 1):
            used = Run.open(folder / point.run).read_json("subset.json")
            seen.append({used["pool"]["index"][i] for i in used["index"]})
        assert seen[0] < seen[1] < seen[2]


def test_the_plan_on_disk(made, folder, parent, few):
    assert Plan.model_validate_json((folder / "plan.json").read_bytes()) == made
    told = json.loads((folder / "plan.json").read_text())
    everything = Batch.concatenate(few.split(name).load() for name in few.splits)
    assert made.zero_shot == pytest.approx(evaluate(parent, everything).mean())
    assert told["findings"][0]["said"]
    assert len(told["points"]) == 12
    for kind in ("few_shot", "from_scratch"):
        largest = [p.relative_l2 for p in made.points if p.kind == kind and p.num_samples == 9]
        assert told[kind]["current_error"] == pytest.approx(np.mean(largest))
        assert 0 <= told[kind]["need"]["reachable"] <= 1
        assert told[kind]["need"]["level"] == 0.8
    assert (folder / "STATUS").read_text() == "complete\n"


def test_the_figure_shows_what_was_measured_and_what_is_foretold(made):
    series = {each.label: each for each in made.figure.panels[0].series}
    assert len(series) == 4
    for kind, name in (("few_shot", "fine-tuned"), ("from_scratch", "from scratch")):
        points = [p for p in made.points if p.kind == kind]
        assert list(series[f"{name}, measured"].y) == [p.relative_l2 for p in points]
        band = series[f"{name}, predicted"]
        assert all(low <= y <= high for low, y, high in zip(band.low, band.y, band.high, strict=True))
        assert band.x[0] == pytest.approx(2)
        assert band.x[-1] == pytest.approx(1200)
    assert [rule.at for rule in made.figure.panels[0].rules] == [0.1, made.zero_shot, 12]
    for name in ("fine-tuned", "from scratch"):
        assert series[f"{name}, measured"].place == series[f"{name}, predicted"].place, "one color a way"


def test_a_trial_that_is_done_is_not_done_again(made, folder, parent, few, tmp_path, monkeypatch):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    next((copy / "jobs").glob("few_shot@9*")).unlink()
    trained = []
    train = planner._train
    monkeypatch.setattr(planner, "_train", lambda kind, *about: trained.append(kind) or train(kind, *about))
    assert plan(parent, few, 0.1, out=copy, recipe=RECIPE).points == made.points
    assert trained == ["few_shot"]


def test_what_stayed_as_it_was_is_a_bound_on_every_split(few, tmp_path, monkeypatch):
    """Scored in other batches than the zero-shot error it equals, and still the same."""
    curves = {}
    condition = planner.Prior.condition

    def noted(self, curve, **settings):
        curves["few_shot" if 0 in curve.num_samples else "from_scratch"] = curve
        return condition(self, curve, **settings)

    monkeypatch.setattr(planner.Prior, "condition", noted)
    adapt = {**RECIPE.adapt.to_dict(), "learning_rates": [1e-12, 2e-12]}
    idle = {"num_repeats": 1, "adapt": adapt, "scratch_learning_rates": [1e-2, 2e-2]}
    recipe = build_config(PlanRecipe, {**RECIPE.to_dict(), **idle})
    seldom = {"validate_every": 40, "checkpoint_every": 80}
    parent = pretrain(tiny.recipe(training={"num_steps": 80, "learning_rate": 1e-2, **seldom}), out=tmp_path)
    made = plan(parent, few, 1e-3, out=tmp_path / "plan", recipe=recipe)
    stayed, fresh = curves["few_shot"], curves["from_scratch"]
    assert min(stayed.errors) < 0.95, "else all would be bounds whether they stayed or not"
    assert stayed.bounds == tuple(count > 0 or error >= 0.95 for count, error in points_of(stayed))
    assert fresh.bounds == tuple(error >= 0.95 for _, error in points_of(fresh))
    assert made.few_shot.effective_draws > 200, "they contradict no prior"


def points_of(curve) -> list[tuple[int, float]]:
    return list(zip(curve.num_samples, curve.errors, strict=True))


def test_progress_is_told(events):
    assert events[0]["event"] == "stage"
    assert events[0]["num_steps"] == 12
    assert sum(event["event"] == "step" for event in events) == 12
    assert sum(event["event"] == "scored" for event in events) == 12


def test_another_target_costs_no_training(made, folder, parent, few, monkeypatch):
    monkeypatch.setattr(sys.modules["scifm.training.finetune"], "train", None)
    harder = plan(parent, few, 0.05, out=folder, recipe=RECIPE)
    assert harder.points == made.points
    for kind in ("few_shot", "from_scratch"):
        ours, theirs = harder.outlook(kind).need, made.outlook(kind).need
        assert (ours.median or math.inf) >= (theirs.median or math.inf)
        assert ours.reachable <= theirs.reachable
    assert plan(parent, few, 0.1, out=folder, recipe=RECIPE).model_dump(exclude={"seconds"}) == made.model_dump(
        exclude={"seconds"}
    )


def test_several_at_a_time_tell_the_same(made, parent, few, tmp_path):
    make = partial(ThreadPoolExecutor, 2)
    again = plan(parent, few, 0.1, out=tmp_path / "plan", recipe=RECIPE, make_executor=make)
    assert [p.relative_l2 for p in again.points] == pytest.approx([p.relative_l2 for p in made.points], rel=1e-5)


def test_nothing_is_trained_where_nothing_is_needed(parent, few, tmp_path, monkeypatch):
    monkeypatch.setattr(planner, "_train", None)
    monkeypatch.setattr(planner, "evaluate", lambda *_, **__: FixedScores(0.04))
    result = plan(parent, few, 0.05, out=tmp_path / "plan", recipe=RECIPE)
    assert result.verdict == "reached"
    assert result.figure is None
    assert result.points == ()
    assert json.loads((tmp_path / "plan" / "plan.json").read_text())["few_shot"]["need"] is None


def test_an_operator_that_answers_nan(parent, few, tmp_path, monkeypatch):
    monkeypatch.setattr(planner, "evaluate", lambda *_, **__: FixedScores(math.nan))
    with pytest.raises(DataError, match="error on the samples is nan"):
        plan(parent, few, 0.05, out=tmp_path / "plan", recipe=RECIPE)


def test_a_kind_that_diverges_is_absent_and_not_zero(parent, few, tmp_path, monkeypatch):
    train = planner._train

    def diverge_from_scratch(kind, *about):
        if kind == "from_scratch":
            raise DivergedError("The loss became nan.")
        return train(kind, *about)

    monkeypatch.setattr(planner, "_train", diverge_from_scratch)
    result = plan(parent, few, 0.1, out=tmp_path / "plan", recipe=RECIPE)
    assert result.from_scratch.need is None
    assert result.few_shot.need is not None
    assert {p.relative_l2 for p in result.points if p.kind == "from_scratch"} == {None}
    assert json.loads((tmp_path / "plan" / "plan.json").read_text())["from_scratch"]["current_error"] is None


# --- the split of the samples -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_samples", "counts"), [(6, [2, 4]), (8, [3, 6]), (16, [3, 6, 12]), (64, [12, 24, 48])])
def test_counts(num_samples, counts):
    assert PlanRecipe().counts(num_samples) == counts


@pytest.mark.parametrize("num_samples", [6, 7, 16, 33])
def test_splits(num_samples):
    recipe = PlanRecipe()
    for repeat in range(5):
        kept, held_out = recipe.split(num_samples, repeat)
        assert sorted(kept + held_out) == list(range(num_samples))
        assert len(held_out) >= 2
        assert len(kept) >= 4
    assert recipe.split(num_samples, 1) == recipe.split(num_samples, 1)
    assert recipe.split(num_samples, 0) != recipe.split(num_samples, 1)


def test_equal_budgets_are_asked_for():
    with pytest.raises(ConfigError, match="equal budget"):
        build_config(PlanRecipe, {"scratch_learning_rates": [1e-2]})


@pytest.mark.parametrize(("rates", "moves"), [(PlanRecipe().adapt.learning_rates, True), ((3e-4, 1e-3), False)])
def test_the_default_rates_leave_the_zero_shot_error_behind(rates, moves, parent, few, tmp_path):
    """At the rates of before, few steps changed next to nothing, and the points looked like no learning curve."""
    training = TrainingConfig(**{**tiny.ADAPTING, "num_steps": 8})
    adapt = PlanRecipe().adapt.model_copy(update={"learning_rates": rates, "training": training, "min_scored": 3})
    settings = PlanRecipe(adapt=adapt).settings("few_shot", 9, 0)
    samples = few.whole().load()
    pool = SystemOrigin.of(Poisson(), samples.grid).pool(12)
    before, after = (evaluate(run, samples).mean() for run in (parent, finetune(parent, pool, settings, out=tmp_path)))
    assert (after < 0.98 * before) is moves


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.0, -0.1, 1.0, math.nan, math.inf])
def test_a_target_that_is_none(parent, few, tmp_path, target):
    with pytest.raises(ConfigError, match="strictly between 0 and 1; got"):
        plan(parent, few, target, out=tmp_path / "plan", recipe=RECIPE)
    assert not (tmp_path / "plan").exists()


def test_a_level_that_is_none(parent, few, tmp_path):
    with pytest.raises(ConfigError, match="level of an interval"):
        plan(parent, few, 0.1, out=tmp_path / "plan", level=1.0)


def test_too_few_samples(parent, tmp_path):
    counts = {"train": 3, "valid": 1, "test": 1}
    store = generate(Poisson(), num_samples=counts, num_points=16, path=tmp_path / "store")
    with pytest.raises(DataError, match=r"at least 6 samples.*holds 5"):
        plan(parent, store, 0.1, out=tmp_path / "plan", recipe=RECIPE)


def test_a_store_of_other_dimensions(parent, tmp_path):
    counts = {"train": 4, "valid": 2, "test": 2}
    store = generate(KortewegDeVries(num_frames=3), num_samples=counts, num_points=64, path=tmp_path / "store")
    with pytest.raises(SignatureError, match="answers problems in 2 dimensions, and the samples have 1: give"):
        plan(parent, store, 0.1, out=tmp_path / "plan", recipe=RECIPE)
    assert not (tmp_path / "plan").exists()


def test_a_store_of_other_names_is_planned_for_without_a_zero_shot_error(parent, tmp_path):
    counts = {"train": 4, "valid": 2, "test": 2}
    store = generate(Helmholtz(), num_samples=counts, num_points=16, path=tmp_path / "store")
    settings = {"num_repeats": 1, "adapt": {"learning_rates": [1e-3], "training": {**tiny.ADAPTING, "num_steps": 2}}}
    made = plan(parent, store, 0.1, out=tmp_path / "plan", recipe=build_config(PlanRecipe, settings))
    assert made.zero_shot is None
    assert {point.kind for point in made.points} == {"few_shot", "from_scratch"}
    assert "it does not know the names" in page(tmp_path / "plan").read_text(encoding="utf-8")


def test_a_store_that_cannot_be_read(parent, few, tmp_path):
    with pytest.raises(StoreError):
        plan(parent, tmp_path / "nothing", 0.1, out=tmp_path / "plan")
    copy = Path(shutil.copytree(few.path, tmp_path / "copy"))
    file = next(copy.rglob("*.hdf5"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(StoreError):
        plan(parent, copy, 0.1, out=tmp_path / "plan")


def test_a_folder_that_holds_another_plan(folder, parent, few):
    with pytest.raises(RunError, match="holds a plan with another recipe"):
        plan(parent, few, 0.1, out=folder, recipe=RECIPE.model_copy(update={"num_repeats": 1}))


def test_a_folder_that_holds_a_plan_of_another_operator(folder, few, tmp_path):
    with pytest.raises(RunError, match="holds a plan of another operator"):
        plan(tiny.finished_run(tmp_path, tiny.recipe(seed=7)), few, 0.1, out=folder, recipe=RECIPE)


def test_a_parent_that_is_not_complete(few, tmp_path):
    run = tiny.finished_run(tmp_path / "parents")
    run.set_status("running")
    with pytest.raises(RunError, match="not complete"):
        plan(run, few, 0.1, out=tmp_path / "plan")
