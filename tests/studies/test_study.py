from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import networks
import tiny
from scifm.config import dump_toml, read_toml
from scifm.errors import ConfigError, RunError
from scifm.evaluation.evaluate import evaluate
from scifm.report.page import page
from scifm.runs import Run
from scifm.studies.jobs import draw_test, pool_of
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import estimate, plan_jobs, study
from scifm.studies.table import Row, read_table

RECIPE = StudyRecipe.read(tiny.graph_study())
PART = StudyRecipe.read(tiny.graph_study(seeds=[0], sources=tiny.graph_study()["sources"][:1], scaling=None))
"""Some runs of the whole, with the same numbers."""


@pytest.fixture(scope="module")
def folder(whole_study) -> Path:
    return whole_study


@pytest.fixture(scope="module")
def part_rows(rows) -> list[Row]:
    """Return the rows of the whole study that a study of `PART` has."""
    return [row for row in rows if row.seed == 0 and row.source in ("poisson", "")]


@pytest.fixture(scope="module")
def rows(folder) -> list[Row]:
    return read_table(folder / "table.parquet")


def test_every_run_of_the_graph_has_its_rows(rows):
    found = {(row.kind, row.source, row.target, row.size, row.num_samples, row.seed) for row in rows}
    assert len(found) == len(rows)
    expected = {("in_distribution", "poisson", "poisson+poisson", "toy", 0, seed) for seed in (0, 1)}
    expected |= {("zero_shot", "poisson", target, "toy", 0, seed) for target in ("near", "far") for seed in (0, 1)}
    expected |= {("few_shot", "poisson", target, "toy", 4, seed) for target in ("near", "far") for seed in (0, 1)}
    expected |= {
        ("from_scratch", "", target, "toy", count, seed)
        for target in ("near", "far") for count in (4, 8) for seed in (0, 1)
    }  # fmt: skip
    expected |= {
        ("in_distribution", "mixture", f"mixture+{s}", "toy", 0, 0) for s in ("poisson", "advection_diffusion")
    }
    expected |= {("zero_shot", "mixture", "near", "toy", 0, 0)}
    expected |= {("few_shot", "mixture", "near", "toy", 4, seed) for seed in (0, 1)}
    for size in ("toy", "toy-wide"):
        expected |= {("in_distribution", "poisson+3", "poisson+poisson", size, 0, 0)}
        expected |= {("zero_shot", "poisson+3", target, size, 0, 0) for target in ("near", "far")}
    assert found == expected


def test_every_number_can_be_traced_to_a_run_and_made_again(folder, rows):
    for row in rows:
        run = Run.open(folder / row.run)
        assert run.is_complete
        scores = pq.read_table(run.scores_file(row.target)).column("relative_l2").to_pylist()
        assert sum(scores) / len(scores) == pytest.approx(row.relative_l2, rel=1e-6)
    row = next(row for row in rows if row.kind == "few_shot" and row.target == "far")
    again = evaluate(Run.open(folder / row.run), draw_test(RECIPE, "far", RECIPE.origin(RECIPE.targets[1])))
    assert again.mean() == pytest.approx(row.relative_l2, rel=1e-6)


def test_every_row_tells_the_wall_time_of_its_run(rows, folder):
    for row in rows:
        assert 0 < row.seconds == pytest.approx(Run.open(folder / row.run).seconds, abs=1.0)
    page_text = page(folder).read_text()
    pretrained = next(row for row in rows if row.kind == "in_distribution")
    assert f">{pretrained.seconds:.1f}</td>" in page_text


def test_effort_is_counted(rows):
    small = {row.seed: row for row in rows if (row.kind, row.source) == ("in_distribution", "poisson")}
    tuned = next(row for row in rows if row.kind == "few_shot" and row.source == "poisson")
    scratch = [row for row in rows if row.kind == "from_scratch" and row.target == "near" and row.seed == 0]
    assert small[0].num_pretrain_samples == tuned.num_pretrain_samples == 6 * 4
    assert tuned.flops > small[0].flops > 0
    # 2 trials on what is not held out, 3 or 4 samples a step, and a last training, 3 steps each
    seen = {4: 2 * 3 * 3 + 3 * 4, 8: 3 * 3 * 4}
    assert all(row.flops == pytest.approx(seen[row.num_samples] * small[0].flops / 24) for row in scratch)
    assert {row.trial_steps for row in scratch} == {6}
    assert {(row.kind, row.num_trials) for row in rows if row.num_samples} == {("few_shot", 3), ("from_scratch", 2)}
    assert all(row.num_pretrain_samples == 0 for row in scratch)
    for row in (row for row in rows if (row.kind, row.source) == ("few_shot", "poisson")):
        assert row.num_steps == (3 if row.learning_rate else 0)
        seen = 6 * 4 + 2 * 3 * 3 + row.num_steps * 4  # pre-training, trials on 3 of 4 samples, and what came of them
        assert row.flops == pytest.approx(seen * small[row.seed].flops / 24)


def test_the_choice_not_to_train_counts_as_no_training(tmp_path):
    def steps(**adapt) -> int:
        tree = tiny.graph_study(adapt={"training": {**tiny.ADAPTING, "num_steps": 3}, **adapt})
        plan = plan_jobs(StudyRecipe.read(tree), tmp_path)
        return sum(task.effort(plan.recipe).num_steps for task in plan.tasks.values())

    assert steps() == steps(try_zero_shot=False)


def test_weights_that_were_kept_cost_the_trials_alone(tmp_path):
    tree = tiny.graph_study(seeds=[0], scaling=None, sources=tiny.graph_study()["sources"][:1])
    tree["adapt"] |= {"learning_rates": [1.0, 10.0]}
    rows = read_table(study(StudyRecipe.read(tree), out=tmp_path / "study") / "table.parquet")
    before = next(row for row in rows if row.kind == "in_distribution")
    kept = [row for row in rows if row.kind == "few_shot"]
    zero_shot = {row.target: row.relative_l2 for row in rows if row.kind == "zero_shot"}
    for row in kept:
        assert (row.learning_rate, row.num_steps, row.num_trials) == (0, 0, 3)
        assert row.relative_l2 == pytest.approx(zero_shot[row.target], rel=1e-6)
        assert row.flops == pytest.approx(before.flops * (1 + 2 * 3 * 3 / 24))
    assert len(kept) == 2
    assert "A rate of 0: it kept the pre-trained" in page(tmp_path / "study").read_text()


def test_training_from_scratch_goes_on_as_long_as_it_helps_where_that_is_asked(tmp_path):
    changes = {
        "seeds": [0],
        "scaling": None,
        "sources": tiny.graph_study()["sources"][:1],
        "convergence": {"targets": ["far"], "num_samples": [8], "max_doublings": 3},
    }
    recipe = StudyRecipe.read(tiny.graph_study(**changes))
    rows = read_table(study(recipe, out=tmp_path / "study") / "table.parquet")
    (long,) = (row for row in rows if row.kind == "from_scratch_converged")
    assert (long.target, long.num_samples) == ("far", 8)
    trials = json.loads((tmp_path / "study" / long.run / "trials.json").read_text())
    doubled = [trial for trial in trials if trial["learning_rate"] == long.learning_rate]
    assert [trial["num_steps"] for trial in doubled] == [3, 6, 12, 24][: len(doubled)]
    assert long.num_steps in {trial["num_steps"] for trial in doubled}
    (found,) = json.loads((tmp_path / "study" / "analysis.json").read_text())["converged"]
    assert found["num_steps"] == [long.num_steps]
    assert found["num_limited"] == (long.num_steps == 24)
    assert found["equal"] == next(
        r.relative_l2 for r in rows if (r.kind, r.target, r.num_samples) == ("from_scratch", "far", 8)
    )
    assert "best budget" in page(tmp_path / "study").read_text()
    wrong = {**changes, "convergence": {"targets": ["fra"], "num_samples": [8]}}
    with pytest.raises(ConfigError, match="Did you mean 'far'"):
        StudyRecipe.read(tiny.graph_study(**wrong))


def test_subsets_and_weights_pair_fine_tuning_with_training_from_scratch(folder, rows):
    def subset(kind: str, seed: int) -> list[int]:
        row = next(r for r in rows if (r.kind, r.target, r.num_samples, r.seed) == (kind, "near", 4, seed))
        return json.loads((folder / row.run / "subset.json").read_text())["index"]

    assert subset("few_shot", 0) == subset("from_scratch", 0)
    assert subset("few_shot", 0) != subset("few_shot", 1)


def test_what_is_not_needed_is_not_kept(folder, rows, tmp_path):
    assert not list(folder.glob("runs/**/state"))
    assert all((folder / row.run / "model").is_dir() for row in rows)
    thrifty = StudyRecipe.read(
        tiny.graph_study(keep_weights="pretrained", scaling=None, sources=[tiny.graph_study()["sources"][0]])
    )
    folder = study(thrifty, out=tmp_path / "thrifty")
    for row in read_table(folder / "table.parquet"):
        assert (folder / row.run / "model").is_dir() == (row.num_samples == 0)
        assert (folder / row.run / "config.toml").is_file()


def test_an_interrupted_study_repeats_nothing_and_ends_in_the_same_table(folder, part_rows, tmp_path):
    begun: list[str] = []
    noted: list[float] = []

    def stop_after(count: int):
        def observe(**event):
            if event["event"] == "started":
                begun.append(event["job"].name)
            if event["event"] == "finished":
                noted.append(json.loads((tmp_path / "cut/sittings.json").read_text())[-1]["seconds"])
                if len(list((tmp_path / "cut/jobs").iterdir())) >= count:
                    raise KeyboardInterrupt

        return observe

    for count in (2, 5):
        with pytest.raises(KeyboardInterrupt):
            study(PART, out=tmp_path / "cut", observe=stop_after(count))
    assert Run(tmp_path / "cut").status.startswith("interrupted")
    study(PART, out=tmp_path / "cut", observe=stop_after(1000))
    assert len(begun) == len(set(begun)) == len(plan_jobs(PART, folder).tasks) > 5
    assert min(noted) > 0, "killed now, a sitting is not forgotten"
    same = read_table(tmp_path / "cut/table.parquet")
    assert [strip(row) for row in same] == [strip(row) for row in part_rows]


def test_it_does_not_matter_who_works(part_rows, tmp_path):
    other = study(PART, out=tmp_path / "threads", make_executor=partial(ThreadPoolExecutor, 2))
    assert [strip(row) for row in read_table(other / "table.parquet")] == [strip(row) for row in part_rows]


def strip(row: Row) -> dict:
    return {name: value for name, value in vars(row).items() if name != "seconds"}


def test_a_folder_holds_one_study(folder):
    with pytest.raises(RunError, match="holds a study with another recipe"):
        study(StudyRecipe.read(tiny.graph_study(title="another")), out=folder)


def test_a_finished_study_is_read_again_at_once(folder):
    begun = []
    study(RECIPE, out=folder, observe=lambda **event: begun.append(event["event"]))
    assert begun == ["planned", "concluding"]


def test_a_run_that_was_deleted_is_made_again(folder, rows, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    row = next(row for row in rows if row.kind == "few_shot")
    shutil.rmtree(copy / row.run)
    begun = []
    study(
        RECIPE,
        out=copy,
        observe=lambda **event: begun.append(event["job"].name) if event["event"] == "started" else None,
    )
    assert len(begun) == 1
    assert Run(copy / row.run).scores_file(row.target).is_file()


def test_the_cost_is_told_first(folder, tmp_path):
    fresh, done = (estimate(plan_jobs(RECIPE, out), num_workers=2) for out in (tmp_path, folder))
    assert (fresh.num_jobs, fresh.num_finished) == (len(plan_jobs(RECIPE, folder).tasks), 0)
    assert fresh.seconds > 0
    assert fresh.disk_bytes > 0
    assert (done.num_finished, done.seconds) == (fresh.num_jobs, 0)


def test_a_result_that_is_none_is_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    next((tmp_path / "copy" / "jobs").iterdir()).write_text("{}")
    with pytest.raises(RunError, match="is not the result of a job"):
        study(RECIPE, out=tmp_path / "copy")


def test_a_study_of_other_kinds_of_operators(tmp_path):
    """One of neuraloperator's architecture, and a user's network whose operations torch does not see."""
    tree = tiny.graph_study(seeds=[0], few_shot=[4], from_scratch=[4])
    theirs = {"n_modes": [4, 4], "hidden_channels": 4, "n_layers": 2}
    tree["models"] = {
        "theirs": {"kind": "neuralop_fno", "network": theirs},
        "users": {"kind": "module", "network": {"target": f"{networks.__name__}:Shift"}},
    }
    tree["sources"] = [
        {"name": name, "systems": tree["sources"][0]["systems"], "sizes": [name]} for name in ("theirs", "users")
    ]
    tree["sizes"] = ["theirs"]
    tree["targets"] = tree["targets"][:1]
    del tree["scaling"]
    folder = study(StudyRecipe.read(tree), out=tmp_path / "study")
    rows = read_table(folder / "table.parquet")
    assert {row.kind for row in rows} == {"in_distribution", "zero_shot", "few_shot", "from_scratch"}
    for row in rows:
        assert (row.flops is None) == (row.size == "users")
        assert row.flops is None or row.flops > 0
    text = page(folder).read_text()
    assert "users" in text


def test_a_study_in_use_is_refused(folder):
    with Run(folder).locked(), pytest.raises(RunError, match="in use by another process"):
        study(RECIPE, out=folder)


def test_a_folder_of_before_a_setting_came_is_gone_on_with(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "examples.npz").unlink()
    config = copy / "config.toml"
    config.write_text("".join(line for line in config.open() if not line.startswith("num_examples")))
    begun = []
    study(RECIPE, out=copy, observe=lambda **event: begun.append(event["event"]))
    assert begun == ["planned", "concluding"]
    assert (copy / "examples.npz").is_file()


def test_a_folder_of_before_networks_had_a_kind_and_a_normalization_is_gone_on_with(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    record = read_toml(copy / "config.toml")
    models = record.pop("models")
    record["networks"] = {name: model["network"] for name, model in models.items()}
    (copy / "config.toml").write_text(dump_toml(record))
    begun = []
    study(RECIPE, out=copy, observe=lambda **event: begun.append(event["event"]))
    assert begun == ["planned", "concluding"], "no run is made again: each has the name it had"
    assert read_table(copy / "table.parquet") == read_table(folder / "table.parquet")


def test_the_test_samples_are_not_among_those_trained_on():
    for target in RECIPE.targets:
        test = draw_test(RECIPE, target.name, RECIPE.origin(target)).inputs
        pool = pool_of(RECIPE, target).samples.inputs
        assert not any(torch.equal(a, b) for a in test for b in pool)
        assert torch.equal(test, draw_test(RECIPE, target.name, RECIPE.origin(target)).inputs)


def test_what_fails_is_told_and_the_rest_is_kept(part_rows, tmp_path):
    """The second call, with the disk freed, trains only what is missing."""
    broken = tmp_path / "study"
    row = next(row for row in part_rows if row.kind == "few_shot")
    (broken / row.run).parent.mkdir(parents=True)
    (broken / row.run).write_text("a file where a folder is wanted")
    with pytest.raises(RunError, match=r"1 of .* jobs failed.*Cannot write"):
        study(PART, out=broken)
    assert (broken / "STATUS").read_text().startswith("failed: 1 of")
    (broken / row.run).unlink()
    begun = []
    study(PART, out=broken, observe=lambda **event: begun.append(event["event"]))
    assert begun == ["planned", "started", "finished", "concluding"]
