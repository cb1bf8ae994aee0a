"""Folders are read as they are: absent parts are absent, broken ones are named."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scifm.errors import RunError
from scifm.report.records import origin_text, read_run
from scifm.report.study import read_study


def test_study_is_read_whole(study_folder):
    record = read_study(study_folder)
    assert record.analysis.curves[2].points[1].median == 0.0213
    assert record.examples.num_examples == 3
    assert record.examples.coefficient_names == ("diffusion_xx", "diffusion_yy", "diffusion_xy")
    assert record.examples.labels["few_shot"] == "fine-tuned on 64"
    assert len(record.rows) == 16
    assert len(record.curve("runs/pretrain-0a1b2c3d").errors) == 60
    assert len(record.curve("runs/finetune-16-0-0a1b2c3d").losses) == 30
    assert record.curve("runs/never").losses == ()
    assert record.settings["adapt"]["learning_rates"] == [0.001, 0.003, 0.01]


@pytest.mark.parametrize("name", ["table.parquet", "examples.npz", "analysis.json", "environment.json"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.97])
def test_a_truncated_file_is_named_with_a_remedy(study_folder, name, keep):
    content = (study_folder / name).read_bytes()
    (study_folder / name).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(
        RunError, match=rf"Cannot read '.*{name}'.*(Run the command that wrote it|Analyze the study) again"
    ):
        read_study(study_folder)


@pytest.mark.parametrize("name", ["table.parquet", "examples.npz", "analysis.json"])
def test_a_foreign_file_is_named(study_folder, name):
    (study_folder / name).write_bytes(b"\x80\x04 not what the name promises" * 50)
    with pytest.raises(RunError, match=name):
        read_study(study_folder)


def test_a_recipe_that_is_no_toml_is_named(study_folder):
    (study_folder / "config.toml").write_text("a = [")
    with pytest.raises(RunError, match=r"config\.toml.*not valid TOML"):
        _ = read_study(study_folder).settings


def test_examples_are_not_unpickled(study_folder):
    np.savez(study_folder / "examples.npz", forcing=np.array([{}], dtype=object), truth=np.zeros((1, 2, 2)))
    with pytest.raises(RunError, match=r"examples\.npz"):
        read_study(study_folder)


def test_examples_of_another_shape_are_refused(study_folder):
    np.savez(study_folder / "examples.npz", forcing=np.zeros((2, 4, 4)), truth=np.zeros((2, 4, 5)))
    with pytest.raises(RunError, match="should be \\(example, y, x\\)"):
        read_study(study_folder)


@pytest.mark.parametrize(
    "wrong",
    [{"extent": np.zeros(2)}, {"extent": np.ones(3)}, {"coefficients": np.ones((2, 3))}, {"few_shot": np.ones(4)}],
)
def test_examples_that_do_not_fit_together_are_refused(study_folder, wrong):
    arrays = dict(np.load(study_folder / "examples.npz"))
    np.savez(study_folder / "examples.npz", **(arrays | wrong))
    with pytest.raises(RunError, match=next(iter(wrong))):
        read_study(study_folder)


def test_a_table_without_its_columns_is_refused(study_folder):
    pq.write_table(pa.table({"kind": ["few_shot"]}), study_folder / "table.parquet")
    with pytest.raises(RunError, match="no column source, target, size, num_samples, seed, relative_l2"):
        read_study(study_folder)


def test_metrics_that_are_no_json_name_the_file(run_folder):
    (run_folder / "metrics.jsonl").write_text("{broken}\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl"):
        read_run(run_folder)


def test_run_is_read(run_folder):
    (run_folder / "parent").write_text("../pretrain-ffffffff\n")
    record = read_run(run_folder)
    assert record.status == "complete"
    assert record.parent.strip() == "../pretrain-ffffffff"
    (scores,) = record.score_sets
    assert scores.num_samples == len(scores.errors["solution"]) == 128
    assert set(scores.means) == {"relative_l2", "vrmse"}
    assert scores.means["vrmse"] == pytest.approx(1.1 * scores.means["relative_l2"])
    assert scores.text == "samples it does not tell (recorded by an earlier version)"
    assert record.findings == ()


@pytest.mark.parametrize("wrong", ["{", '{"said": "x"}', '[{"said": 3}]'])
def test_findings_that_are_none_name_the_file(run_folder, wrong):
    (run_folder / "findings.json").write_text(wrong)
    with pytest.raises(RunError, match=r"findings\.json"):
        read_run(run_folder)


def test_findings_are_read(run_folder):
    (run_folder / "findings.json").write_text(json.dumps([{"said": "It sees all.", "statistic": 0.98, "new": 1}]))
    assert read_run(run_folder).findings[0].statistic == 0.98


def test_samples_of_a_mixture_say_its_members():
    poisson = {"kind": "system", "system": {"name": "poisson", "knobs": {"anisotropy": {"low": 1.0, "high": 5.0}}}}
    about = {"members": [poisson, {"kind": "store", "store": "stores/mine"}], "seed": 1, "num_points": [64, 64]}
    expected = "mixture of poisson, anisotropy 1 to 5; store stores/mine, seed 1, 64 × 64 points"
    assert origin_text(about) == expected
