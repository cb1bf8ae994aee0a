"""What every verb does with an operator that takes two frames and marches: ``scifm rollout``, and the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import xarray

import tiny
from scifm.config import dump_toml
from scifm.data.generate import generate
from scifm.data.store import Store
from scifm.runs import Run
from scifm.systems.burgers import Burgers
from scifm.training.pretrain import pretrain

SYSTEM = Burgers(num_frames=5)
DATA = {"history": 2, "horizon": 2, "windows_per_trajectory": 2}


def recipe(**changes) -> dict:
    tree = tiny.recipe(system={"name": "burgers", "options": {"num_frames": 5}}, data=DATA, **changes)
    tree["system"].pop("knobs")
    return tree


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return pretrain(recipe(), out=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    counts = {"train": 6, "valid": 2, "test": 3}
    return generate(SYSTEM, num_samples=counts, num_points=16, path=tmp_path_factory.mktemp("stores") / "burgers").path


def test_it_marches_from_a_store_as_far_as_is_asked_and_keeps_what_it_found(scifm, run, store, tmp_path):
    out = tmp_path / "forecast.nc"
    said = scifm("rollout", run.path, "--store", store, "--steps", 6, "--out", out, "--json")
    assert said.status == 0, said.err
    told = json.loads(said.out)
    assert Path(told["file"]).parent == run.path / "forecasts"
    with xarray.open_dataset(out) as kept:
        assert dict(kept.sizes) == {"trajectory": 3, "time": 6, "x": 16}
        assert kept["time"].values.tolist() == [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    made = scifm("import", out, "--out", tmp_path / "again")
    assert made.status == 0, made.err
    assert Store.open(tmp_path / "again").signature == Store.open(store).signature, "the step it was lost at is no knob"
    table = scifm("rollout", run.path, "--store", store, "--steps", 3)
    assert table.status == 0, table.err
    assert "drift of momentum" in table.out
    assert "…" not in table.out, "every column fits"


def test_it_is_scored_on_a_store_with_its_own_history(scifm, run, store):
    """The verb asked for samples of one frame, which an operator of two refuses."""
    said = scifm("evaluate", run.path, "--store", store, "--json")
    assert said.status == 0, said.err
    assert json.loads(said.out)["origin"]["history"] == 2


def test_its_page_is_drawn_and_its_export_refused_in_words(scifm, run, tmp_path):
    assert scifm("report", run.path, "--out", tmp_path / "page.html").status == 0
    told = scifm("export", run.path, "--to", "onnx").told
    assert "this operator takes 2 frames and was trained at a lead time of 0.05." in told


def test_a_size_that_is_none_is_told_before_anything_starts(scifm, tmp_path):
    (tmp_path / "recipe.toml").write_text(dump_toml({**recipe(), "model": {"size": "smal"}}))
    said = scifm("pretrain", tmp_path / "recipe.toml", "--out", tmp_path / "runs")
    assert "size 'smal' is unknown. Did you mean 'small'?" in said.told
    assert not (tmp_path / "runs").exists()
