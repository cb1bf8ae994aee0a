from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import networks
import tiny
from scifm.data.normalize import fit_normalization
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNOConfig
from scifm.models.registry import save_operator
from scifm.runs import Run
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.training.pretrain import build_operator


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Of a network that is traced in a moment; how the others are exported is held by models/test_export.py."""
    arguments = {"channels_in": "{in_channels}", "channels_out": "{out_channels}"}
    network = {"target": f"{networks.__name__}:SmallConv", "arguments": arguments}
    return tiny.finished_run(tmp_path_factory.mktemp("runs"), tiny.recipe(model={"kind": "module", "network": network}))


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


@pytest.mark.slow
def test_the_box_is_asked_for_where_it_enters_and_is_that_of_the_last_training(scifm, tmp_path):
    system = AdvectionDiffusion()
    batch = system.sample(16, Grid.square(16, extent=3.0), generator_for(0, "box"))
    normalization = fit_normalization(batch, system.homogeneities)
    assert normalization.depends_on_box
    operator = build_operator(system.signature, FNOConfig(**tiny.NETWORK), normalization, seed=0)
    lost = Run.prepare(tmp_path, "lost", {"kind": "from_scratch"})
    told = Run.prepare(tmp_path, "told", {"kind": "finetune", "downstream": {"grid": batch.grid.to_dict()}})
    for run in (lost, told):
        save_operator(operator, run.path / "model")
        run.set_status("complete")
    words = ["--to", "torch-export", "--num-points", 16]
    assert "give --extent" in scifm("export", lost.path, *words).told
    for wrong in (0, -1, "nan", "inf"):
        assert "--extent is a length" in scifm("export", lost.path, *words, "--extent", wrong).told
    assert "leave out --extent" in scifm("export", told.path, *words, "--extent", 3).told
    extents = []
    for run, more in ((lost, ["--extent", 3]), (told, [])):
        assert scifm("export", run.path, *words, *more).status == 0
        extents.append(json.loads((run.path / "export" / "export.json").read_text())["extent"])
    assert extents == [[3.0, 3.0], [3.0, 3.0]]


def test_a_model_alone_is_exported_on_the_grid_that_is_given(scifm, run, tmp_path, monkeypatch):
    shutil.copytree(run.path / "model", tmp_path / "alone")
    names = sorted(os.listdir(tmp_path / "alone"))
    monkeypatch.chdir(tmp_path)
    assert "give --num-points" in scifm("export", "alone", "--to", "torch-export").told
    said = scifm("export", "alone", "--to", "torch-export", "--num-points", 16)
    assert said.status == 0, said.err
    assert (tmp_path / "alone-export" / "operator.pt2").is_file()
    assert sorted(os.listdir(tmp_path / "alone")) == names
