"""Folders are read as they are: absent parts are absent, broken ones are named."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scifm.errors import RunError
from scifm.report.records import read_run, read_study


def test_study_is_read_whole(study_folder):
    record = read_study(study_folder)
    assert record.summary.few_shot[64] == 0.0213
    assert list(record.summary.from_scratch) == [16, 64, 256, 1024]
    assert record.examples.num_examples == 3
    assert record.examples.coefficient_names == ("diffusion_xx", "diffusion_yy", "diffusion_xy")
    assert record.examples.labels["few_shot"] == "fine-tuned on 64"
    by_kind = [(curve.kind, curve.num_samples) for curve in record.curves]
    assert by_kind.count(("from_scratch", 1024)) == 2
    assert by_kind.count(("pretrain", None)) == 1
    assert all(len(curve.losses) >= 30 for curve in record.curves)
    assert [len(curve.errors) for curve in record.curves if curve.kind == "pretrain"] == [60]


def test_rows_without_a_run_leave_curves_without_a_count(study_folder):
    rows = [row | {"run": None} for row in pq.read_table(study_folder / "results.parquet").to_pylist()]
    schema = pq.read_schema(study_folder / "results.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), study_folder / "results.parquet")
    kinds = {(curve.kind, curve.num_samples) for curve in read_study(study_folder).curves}
    assert kinds == {("pretrain", None), ("few_shot", None), ("from_scratch", None)}


@pytest.mark.parametrize("name", ["results.parquet", "examples.npz", "summary.json", "environment.json"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.97])
def test_a_truncated_file_is_named_with_a_remedy(study_folder, name, keep):
    content = (study_folder / name).read_bytes()
    (study_folder / name).write_bytes(content[: int(keep * len(content))])
    with pytest.raises(RunError, match=rf"Cannot read '.*{name}'.*Run the command that wrote it again"):
        read_study(study_folder)


@pytest.mark.parametrize("name", ["results.parquet", "examples.npz", "summary.json"])
def test_a_foreign_file_is_named(study_folder, name):
    (study_folder / name).write_bytes(b"\x80\x04 not what the name promises" * 50)
    with pytest.raises(RunError, match=name):
        read_study(study_folder)


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
    pq.write_table(pa.table({"kind": ["few_shot"]}), study_folder / "results.parquet")
    with pytest.raises(RunError, match="no column num_samples, relative_l2"):
        read_study(study_folder)


@pytest.mark.parametrize("wrong", [{"zero_shot": "good"}, {"few_shot": {"many": 0.1}}, {"few_shot": [0.1]}])
def test_a_summary_with_wrong_entries_is_refused(study_folder, wrong):
    (study_folder / "summary.json").write_text(json.dumps(wrong))
    with pytest.raises(RunError, match=rf"summary\.json.*{next(iter(wrong))}"):
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
