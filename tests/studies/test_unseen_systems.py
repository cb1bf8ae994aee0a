"""A mixture moved to systems it never saw: it is given channels, asked nothing without an example, and told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from scifm.data.generate import generate
from scifm.errors import ConfigError
from scifm.models.registry import load_operator
from scifm.report.page import page
from scifm.runs import Run
from scifm.studies.audits import audit_held_out
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import study
from scifm.studies.table import read_table
from scifm.systems.heat import Heat
from scifm.training.pretrain import pretrain

TRAINING = {**tiny.ADAPTING, "num_steps": 3}
FEW = {"num_frames": 4}


def tree(**changes: Any) -> dict[str, Any]:
    systems = [{"name": "heat", "options": FEW}, {"name": "moving_textures", "options": FEW}]
    network = {"width": 16, "num_heads": 2, "num_blocks": 1, "patch": 4, "condition_width": 8}
    entries: dict[str, Any] = {
        "seeds": [0],
        "few_shot": [2],
        "from_scratch": [2],
        "pool_size": 4,
        "num_test_samples": 4,
        "models": {"net": {"kind": "axial_transformer", "network": network}},
        "data": {"num_points": 24, "num_validation_samples": 8, "num_normalization_samples": 16},
        "training": {**TRAINING, "objective": "relative_change"},
        "adapt": {"learning_rates": [1e-3], "scratch_learning_rates": [1e-3], "training": TRAINING},
        "sources": [
            {"name": "both", "systems": systems, "targets": ["unseen", "seen"]},
            {"name": "alone", "systems": systems[:1], "objective": "relative_l2", "targets": ["unseen"]},
        ],
        "targets": [
            {"name": "unseen", "system": {"name": "fisher_kpp", "options": FEW}},
            {"name": "seen", "system": {"name": "heat", "options": FEW, "knobs": {"diffusivity": [0.02, 0.03]}}},
        ],
    }
    return {**entries, **changes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unseen") / "study"
    study(StudyRecipe.read(tree()), out=out)
    return out


def test_what_is_unseen_is_moved_to_and_not_asked_without_an_example(folder):
    rows = read_table(folder / "table.parquet")
    kinds = {(row.kind, row.source, row.target) for row in rows if row.kind in ("zero_shot", "few_shot")}
    assert kinds == {
        ("few_shot", "both", "unseen"), ("few_shot", "both", "seen"), ("few_shot", "alone", "unseen"),
        ("zero_shot", "both", "seen"),
    }  # fmt: skip


def test_the_blocks_are_the_pretrained_ones_and_the_channels_are_new(folder):
    (row,) = (
        r
        for r in read_table(folder / "table.parquet")
        if (r.kind, r.source, r.target) == ("few_shot", "both", "unseen")
    )
    operator = load_operator(Run.open(folder / row.run))
    assert operator.signature.inputs == ("density",)
    assert operator.signature.coefficients == ("diffusivity", "rate")
    became = {
        (entry["role"], entry["name"]): entry["became"]
        for entry in Run.open(folder / row.run).read_json("channels.json")
    }
    assert became["input", "density"] == "added"
    assert became["coefficient", "diffusivity"] == "reused"
    assert became["output", "background"] == "dropped"


def test_each_source_has_an_objective_of_its_own(folder):
    objectives = {
        Run.open(path).config["name"].partition("-")[0]: Run.open(path)
        .config["training"]
        .get("objective", "relative_l2")
        for path in (folder / "runs").iterdir()
        if (path / "config.toml").is_file()
    }
    assert objectives == {"both": "relative_change", "alone": "relative_l2"}


def test_an_audit_says_that_the_system_was_never_seen(folder):
    audits = json.loads((folder / "analysis.json").read_text())["audits"]
    said = {entry["said"]: entry["good"] for entry in audits if entry["name"] == "a system never seen"}
    assert said == {
        "unseen (source both): pre-trained on heat, moving_textures; the task's is fisher_kpp, which was not among "
        "them.": True,
        "unseen (source alone): pre-trained on heat; the task's is fisher_kpp, which was not among them.": True,
    }
    (seen,) = {audit_held_out(["heat"], ["heat"], source="a", target="b").good}
    assert seen is False


def test_what_is_held_out_is_not_trained_on(tmp_path):
    tree = {"system": {"name": "heat"}, "held_out": ["heat"], "data": {"num_points": 16}}
    with pytest.raises(ConfigError, match="held_out names 'heat', and the recipe trains on it"):
        pretrain(tree, out=tmp_path)
    store = generate(Heat(num_frames=3), num_samples={"train": 4, "valid": 1}, num_points=16, path=tmp_path / "held")
    with pytest.raises(ConfigError, match="held_out names 'heat'"):
        pretrain({"data": {"store": str(store.path)}, "held_out": ["heat"]}, out=tmp_path)
    with pytest.raises(ConfigError, match="Did you mean 'heat'"):
        pretrain({**tree, "held_out": ["heet"]}, out=tmp_path)


def test_the_page_sets_the_sources_side_by_side(folder):
    worths = json.loads((folder / "analysis.json").read_text())["worths"]
    assert {(worth["source"], worth["target"]) for worth in worths} == {
        ("both", "unseen"), ("alone", "unseen"), ("both", "seen"),
    }  # fmt: skip
    told = page(folder).read_text(encoding="utf-8")
    table = told.partition("What each pre-training is worth")[2].partition("</table>")[0]
    assert {name for name in ("both", "alone") if f">{name}<" in table} == {"both", "alone"}
    assert "Heat, diffusivity" not in table, "of one source there is nothing to set beside"
    assert "Counted in samples from scratch: on unseen, 2 samples" in told
    assert "NaN" not in told


def test_a_target_that_is_not_named_has_to_be_known():
    recipe = StudyRecipe.read(tree(sources=[{"name": "both", "systems": tree()["sources"][0]["systems"]}]))
    assert [target.name for target in recipe.targets_of(recipe.sources[0])] == ["seen"]
    with pytest.raises(ConfigError, match="knows the names of none of the targets"):
        StudyRecipe.read(
            tree(sources=[{"name": "alone", "systems": [{"name": "heat"}]}], targets=tree()["targets"][:1])
        )
