"""A source of a study that learns inputs alone, beside one that learns solutions."""

from __future__ import annotations

from typing import Any

import pytest

import tiny
from scifm.errors import ConfigError
from scifm.models.registry import load_operator
from scifm.report.page import page
from scifm.runs import Run
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import estimate, plan_jobs, study
from scifm.studies.table import read_table

TRAINING = {**tiny.ADAPTING, "num_steps": 3}
FEW = {"num_frames": 5}
HEAT = {"name": "heat", "options": FEW}


def tree(**changes: Any) -> dict[str, Any]:
    network = {"width": 16, "num_heads": 2, "num_blocks": 1, "patch": 4, "condition_width": 8}
    entries: dict[str, Any] = {
        "seeds": [0],
        "few_shot": [2],
        "from_scratch": [2],
        "pool_size": 4,
        "num_test_samples": 4,
        "models": {"net": {"kind": "axial_transformer", "network": network}},
        "data": {"num_points": 16, "history": 2, "num_validation_samples": 8, "num_normalization_samples": 16},
        "training": TRAINING,
        "adapt": {"learning_rates": [1e-3], "scratch_learning_rates": [1e-3], "training": TRAINING},
        "sources": [
            {"name": "solved", "systems": [HEAT], "targets": ["unseen"]},
            {"name": "masked", "systems": [HEAT], "targets": ["unseen", "seen"], "objective": {"name": "masked"}},
        ],
        "targets": [
            {"name": "unseen", "system": {"name": "fisher_kpp", "options": FEW}},
            {"name": "seen", "system": {"name": "heat", "options": FEW, "knobs": {"diffusivity": [0.02, 0.03]}}},
        ],
    }
    return {**entries, **changes}


@pytest.mark.parametrize("first", ["solved", "masked"])
def test_what_it_would_cost_is_measured_with_the_frames_that_the_first_source_has(tmp_path, first):
    sources = sorted(tree()["sources"], key=lambda source: source["name"] != first)
    found = estimate(plan_jobs(StudyRecipe.read(tree(sources=sources)), tmp_path / "study"), num_workers=1)
    assert found.seconds > 0
    assert found.num_finished == 0


def test_its_encoder_of_single_frames_is_moved_to_forecasts_with_a_history(tmp_path):
    study(StudyRecipe.read(tree()), out=tmp_path / "study")
    rows = [row for row in read_table(tmp_path / "study" / "table.parquet") if row.source == "masked"]
    assert {(row.kind, row.target) for row in rows} == {
        ("in_distribution", "masked+heat"), ("few_shot", "unseen"), ("few_shot", "seen"),
    }  # fmt: skip
    (few,) = (row for row in rows if (row.kind, row.target) == ("few_shot", "seen"))
    tuned = Run.open(tmp_path / "study" / few.run)
    assert load_operator(tuned).history == 2
    before = load_operator(tuned.parent)
    assert (before.history, before.signature.evolves) == (1, False)
    became = {(entry["role"], entry["name"]): entry["became"] for entry in tuned.read_json("channels.json")}
    state = before.signature.inputs[0]
    assert became["input", state] == "reused"
    assert became["output", f"{state}_whole"] == "dropped"
    assert "masked" in page(tmp_path / "study").read_text(encoding="utf-8")


def test_its_targets_are_named():
    sources = [{"name": "masked", "systems": [HEAT], "objective": "masked"}]
    with pytest.raises(ConfigError, match="source 'masked' knows the names of none of the targets"):
        StudyRecipe.read(tree(sources=sources)).check()


def test_what_cannot_be_hidden_is_told_of_the_source():
    sources = [{"name": "masked", "systems": [HEAT], "targets": ["seen"], "objective": {"name": "masked", "patch": 5}}]
    with pytest.raises(ConfigError, match="source 'masked': patch = 5 does not divide the 16 points"):
        StudyRecipe.read(tree(sources=sources)).check()


def test_adapting_cannot_learn_inputs_alone():
    adapt = {**tree()["adapt"], "training": {**TRAINING, "objective": "masked"}}
    with pytest.raises(ConfigError, match="adapting learns from solutions"):
        StudyRecipe.read(tree(adapt=adapt))
