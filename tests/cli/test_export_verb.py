from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import tiny
from scifm.runs import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return tiny.finished_run(tmp_path_factory.mktemp("runs"))


def test_a_run_is_exported_beside_itself(scifm, run):
    said = scifm("export", run.path, "--to", "onnx")
    assert said.status == 0, said.err
    assert "24 × 24" in said.out
    assert "all within 0.0001" in said.out
    assert said.err == ""
    assert sorted(os.listdir(run.path / "export")) == ["export.json", "operator.onnx"]


def test_json_and_grids_of_ones_own(scifm, run, tmp_path):
    child = Run.prepare(tmp_path, "child", {"kind": "finetune"}, parent=run.path)
    (child.path / "model").symlink_to(run.path / "model")
    child.set_status("complete")
    words = ["export", child.path, "--to", "torch-export", "--num-points", 12, "--out", tmp_path / "out", "--json"]
    said = scifm(*words)
    assert said.status == 0, said.err
    (file,) = json.loads(said.out)["files"]
    assert {tuple(check["num_points"]) for check in file["checks"]} == {(12, 12)}
    assert Path(tmp_path / "out" / file["file"]).stat().st_size == file["num_bytes"]


def test_bad_input(scifm, run, tmp_path):
    assert "'onnx'" in scifm("export", run.path, "--to", "onx").told
    assert "not a run folder" in scifm("export", tmp_path, "--to", "onnx").told
    assert "at least 2" in scifm("export", run.path, "--to", "onnx", "--num-points", 1).told
    lost = Run.prepare(tmp_path, "lost", {"kind": "from_scratch"})
    assert "not complete" in scifm("export", lost.path, "--to", "onnx").told
    (lost.path / "model").symlink_to(run.path / "model")
    lost.set_status("complete")
    assert "give --num-points" in scifm("export", lost.path, "--to", "torch-export").told
