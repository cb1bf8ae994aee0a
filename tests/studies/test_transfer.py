from __future__ import annotations

import copy
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import tiny
from scifm.config import build_config, read_toml
from scifm.errors import ConfigError, RunError
from scifm.evaluation.evaluate import evaluate
from scifm.models.hub import load_operator
from scifm.runs import Run
from scifm.studies.transfer import TransferRecipe, transfer
from scifm.studies.workers import worker_pool
from scifm.training.pretrain import PretrainRecipe

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))


def recipe(**changes) -> TransferRecipe:
    return build_config(TransferRecipe, {**copy.deepcopy(tiny.STUDY), **changes})


@pytest.fixture(scope="module")
def events() -> list[dict]:
    return []


@pytest.fixture(scope="module")
def folder(tmp_path_factory, events) -> Path:
    """The tiny study, carried out."""
    out = tmp_path_factory.mktemp("studies") / "study"
    return transfer(recipe(), out=out, observe=lambda **event: events.append(event))


@pytest.fixture(scope="module")
def rows(folder) -> list[dict]:
    return pq.read_table(folder / "results.parquet").to_pylist()


def test_the_summary_holds_what_was_promised(folder, rows):
    summary = json.loads((folder / "summary.json").read_text())
    assert {"in_distribution", "zero_shot", "few_shot", "from_scratch", "seconds"} <= set(summary)
    assert set(summary["few_shot"]) == set(summary["from_scratch"]) == {"4", "8"}
    for kind in ("few_shot", "from_scratch"):
        for count, value in summary[kind].items():
            of_seeds = [r["relative_l2"] for r in rows if (r["kind"], r["num_samples"]) == (kind, int(count))]
            assert len(of_seeds) == 2
            assert value == pytest.approx(sum(of_seeds) / 2)
    assert summary["seconds"] > 0
    assert summary["num_params"] == load_operator(folder / rows[0]["run"] / "model").num_params
    assert (folder / "STATUS").read_text() == "complete\n"


def test_every_run_is_a_row_with_its_budget(folder, rows):
    assert len(rows) == 2 + 2 * 2 * 2
    assert [r["kind"] for r in rows[:2]] == ["in_distribution", "zero_shot"]
    for row in rows[2:]:
        scratch = row["kind"] == "from_scratch"
        assert row["num_trials"] == (2 if scratch else 5)  # not to train; two rates with constants kept and refitted
        assert row["coefficients"] in ("",) if scratch else ("pretrained", "refitted")
        assert row["learning_rate"] in ((3e-3, 3e-2) if scratch else (0, 1e-3, 1e-2))
        assert row["num_steps"] == (3 if row["learning_rate"] else 0)
        assert Run.open(folder / row["run"]).is_complete


def test_every_number_can_be_told_again_from_the_run_it_names(folder, rows):
    test = recipe().draw_test("downstream")
    for row in rows[1:]:
        scores = evaluate(folder / row["run"], test)
        assert row["relative_l2"] == pytest.approx(scores.mean(), rel=1e-6)
        assert row["relative_l2_median"] == pytest.approx(scores.quantile(0.5), rel=1e-6)
        name = "downstream" if row["num_samples"] else row["kind"]
        column = pq.read_table(Run(folder / row["run"]).scores_file(name))["relative_l2"].to_pylist()
        assert np.mean(column) == pytest.approx(row["relative_l2"], rel=1e-6)


def test_fine_tuning_and_scratch_see_the_same_samples_and_seeds_see_others(folder, rows):
    index = {
        (r["kind"], r["num_samples"], r["seed"]): json.loads((folder / r["run"] / "subset.json").read_text())["index"]
        for r in rows[2:]
    }
    for seed in (0, 1):
        assert index["few_shot", 8, seed] == index["from_scratch", 8, seed]
        assert index["few_shot", 8, seed][:4] == index["few_shot", 4, seed]
    assert index["few_shot", 8, 0] != index["few_shot", 8, 1]


def test_the_test_samples_are_not_among_those_trained_on():
    from scifm.data.origins import SystemOrigin

    settings = recipe()
    test = settings.draw_test("downstream").inputs
    pool = SystemOrigin(settings.downstream, settings.grid).pool(12, 1).samples.inputs
    assert not any(torch.equal(a, b) for a in test for b in pool)
    assert torch.equal(test, settings.draw_test("downstream").inputs)


def test_the_examples_are_answers_of_the_operators(folder, rows):
    with np.load(folder / "examples.npz", allow_pickle=False) as arrays:
        held = {name: arrays[name] for name in arrays}
    test = recipe().draw_test("downstream").select(slice(0, 2))
    np.testing.assert_array_equal(held["forcing"], test.field("forcing")[:, 0].numpy())
    np.testing.assert_array_equal(held["truth"], test.require_targets()[:, 0, 0].numpy())
    assert held["coefficient_names"].tolist() == list(test.signature.coefficients)
    chosen = {r["kind"]: r["run"] for r in rows if r["seed"] == 0 and r["num_samples"] == 8}
    chosen["zero_shot"] = rows[1]["run"]
    for kind, run in chosen.items():
        answer = load_operator(folder / run / "model").predict(test).require_targets()[:, 0, 0].numpy()
        np.testing.assert_allclose(held[kind], answer, rtol=1e-5, atol=1e-7)
        error = np.linalg.norm((answer - held["truth"]).reshape(2, -1), axis=1)
        size = np.linalg.norm(held["truth"].reshape(2, -1), axis=1)
        np.testing.assert_allclose(held[f"sample_error_{kind}"], error / size, rtol=1e-5)


def test_the_events_tell_the_stages(folder, events):
    stages = [event for event in events if event["event"] == "stage"]
    assert [stage["stage"] for stage in stages] == [1, 2]
    assert len([event for event in events if event["event"] == "scored"]) == 10


def test_a_second_call_runs_nothing(folder, rows):
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    before = {r["run"]: r["relative_l2"] for r in rows}
    again = []
    transfer(recipe(), out=folder, observe=lambda **event: again.append(event["event"]))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")} == stamps
    assert "train" not in again
    assert {r["run"]: r["relative_l2"] for r in pq.read_table(folder / "results.parquet").to_pylist()} == before


def test_another_recipe_does_not_mix_into_the_folder(folder):
    with pytest.raises(RunError, match="another recipe"):
        transfer(recipe(num_test_samples=7), out=folder)


def test_a_study_in_use_is_refused(folder):
    with Run(folder).locked(), pytest.raises(RunError, match="in use by another process"):
        transfer(recipe(), out=folder)


def results(folder: Path) -> list[tuple]:
    kept = ("kind", "num_samples", "seed", "learning_rate", "relative_l2", "run")
    return [tuple(row[k] for k in kept) for row in pq.read_table(folder / "results.parquet").to_pylist()]


def test_interrupted_and_resumed_it_ends_the_same(folder, tmp_path):
    def interrupt(**event) -> None:
        if event["event"] == "step" and event["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        transfer(recipe(), out=tmp_path / "study", observe=interrupt)
    assert (tmp_path / "study" / "STATUS").read_text().startswith("interrupted")
    transfer(recipe(), out=tmp_path / "study")
    assert results(tmp_path / "study") == results(folder)


def test_any_executor_will_do(folder, tmp_path):
    with ThreadPoolExecutor(1) as executor:
        transfer(recipe(), out=tmp_path / "study", executor=executor)
    assert results(tmp_path / "study") == results(folder)


def test_worker_processes_give_the_same_numbers(folder, tmp_path):
    few = recipe(few_shot=[4], from_scratch=[4], seeds=[0])
    with worker_pool(1) as executor:
        transfer(few, out=tmp_path / "study", executor=executor)
    wanted = [row for row in results(folder) if row[1] == 0 or (row[1] == 4 and row[2] == 0)]
    assert [row[:3] for row in results(tmp_path / "study")] == [row[:3] for row in wanted]
    errors = [[row[4] for row in rows] for rows in (results(tmp_path / "study"), wanted)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)


def test_what_fails_in_a_worker_is_told_and_the_rest_is_kept(tmp_path):
    """The second call, with the disk freed, trains only what is missing."""
    folder = tmp_path / "study"
    few = recipe(few_shot=[4, 8], from_scratch=[], seeds=[0])
    parent = transfer(recipe(few_shot=[4], from_scratch=[], seeds=[0]), out=tmp_path / "other")
    (folder / "runs").mkdir(parents=True)
    name = next(p.name for p in (parent / "runs").iterdir() if p.name.startswith("finetune-4"))
    (folder / "runs" / name).write_text("a file where a folder is wanted")
    with pytest.raises(RunError, match="Cannot write"):
        transfer(few, out=folder)
    assert (folder / "STATUS").read_text().startswith("failed: Cannot write")
    (folder / "runs" / name).unlink()
    trained = []
    transfer(few, out=folder, observe=lambda **event: trained.append(event["event"]))
    assert "train" not in trained, "pre-training was kept"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pool_size": 5}, "pool_size = 5 is smaller than the largest subset, 8"),
        ({"seeds": []}, "at least one seed"),
        ({"few_shot": []}, "one few_shot count"),
        ({"scratch_learning_rates": [1e-3]}, "equal budget"),
        ({"few_shots": [4]}, "Did you mean 'few_shot'"),
        ({"adapt": {"training": {"num_step": 3}}}, "Did you mean 'num_steps'"),
    ],
)
def test_recipes_that_do_not_add_up_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        recipe(**changes)


def test_a_study_without_a_system_is_refused():
    pretraining = {k: v for k, v in tiny.RECIPE.items() if k != "system"}
    with pytest.raises(ConfigError, match=r"give pretrain\.system"):
        recipe(pretrain=pretraining)


@pytest.mark.parametrize("file", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_is_valid(file):
    """Each names systems, knobs and sizes that exist, and fits its own grid."""
    tree = read_toml(file)
    if "sources" in tree:
        pytest.skip("a study: tests/studies/test_recipe.py has it")
    cls = TransferRecipe if "pretrain" in tree else PretrainRecipe
    config = build_config(cls, tree, source=str(file))
    pretraining = config.pretrain if isinstance(config, TransferRecipe) else config
    if pretraining.system is None:  # for a store that the reader brings
        assert not config.mixture
        pretraining.model.resolve()
        return
    systems = [pretraining.system.build()]
    if isinstance(config, TransferRecipe):
        systems.append(config.downstream.build())
    network = pretraining.model.resolve()
    for system in systems:
        grid = pretraining.data.grid(system.signature.num_spatial_dims)
        assert min(network.latent_points or min(grid.num_points), min(grid.num_points)) >= 2 * network.modes


def test_there_are_recipes():
    assert len(RECIPES) >= 3


def test_the_defaults_are_valid():
    build_config(TransferRecipe, TransferRecipe().to_dict())


def test_the_demo_is_written_out_as_a_recipe() -> None:
    written = build_config(TransferRecipe, read_toml(RECIPES[0].parent / "transfer-demo.toml"))
    assert written == TransferRecipe()
