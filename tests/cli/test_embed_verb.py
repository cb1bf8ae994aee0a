"""``scifm embed``: a table of features, and how alike systems are to a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import tiny
from calls import Said
from scifm.data.generate import generate
from scifm.data.store import Store
from scifm.findings.finding import read_findings
from scifm.models.features import features_of
from scifm.models.registry import load_operator
from scifm.systems.poisson import Poisson


@pytest.fixture
def parent(tmp_path) -> Path:
    return tiny.finished_run(tmp_path / "runs").path


@pytest.fixture
def store(tmp_path) -> Path:
    counts = {"train": 4, "valid": 3, "test": 9}
    return generate(Poisson(), num_samples=counts, num_points=16, path=tmp_path / "store").path


def refused(said: Said, words: str) -> None:
    assert said.status == 2
    assert words in said.told


def test_a_split_of_a_store_becomes_a_table(scifm, parent, store, tmp_path):
    out = tmp_path / "features.parquet"
    said = scifm("embed", parent, "--store", store, "--split", "valid", "--out", out)
    assert said.status == 0, said.err
    assert "8 a sample, at stage 1" in said.out
    assert "diffusion_xx, diffusion_yy, diffusion_xy, anisotropy, angle" in said.out
    table = pq.read_table(out).to_pydict()
    expected = features_of(load_operator(parent), Store.open(store).split("valid").load())
    torch.testing.assert_close(torch.tensor(table["rms_3"], dtype=torch.float32), expected[:, 7])
    assert table["system"] == ["poisson"] * 3
    again = scifm("embed", parent, "--store", store, "--out", out, "--stage", 0, "--set", "blind=true", "--json")
    told = json.loads(again.out)
    assert told["counts"] == {"poisson": 9}
    assert told["similarity"] is None
    assert pq.read_table(out).num_rows == 9


def test_systems_beside_it_are_compared_and_shown_on_the_page_of_the_run(scifm, parent, store, tmp_path):
    out, figure = tmp_path / "features.csv", tmp_path / "alike.svg"
    asked = ("embed", parent, "--num-samples", 12, "--beside", store, "--out", out, "--figure", figure)
    said = scifm(*asked)
    assert said.status == 0, said.err
    assert "To the model poisson and store lie" in said.out
    assert len(out.read_text().splitlines()) == 1 + 12 + 9
    assert ">2 store</text>" in figure.read_text().replace("2  store", "2 store")
    (found,) = read_findings(parent / "findings.json")
    assert found.name == "similarity"
    page = tmp_path / "page.html"
    assert scifm("report", parent, "--out", page).status == 0
    assert "Distance between systems" in page.read_text()


def test_a_model_alone_is_left_as_it_is(scifm, parent, store, tmp_path):
    model = shutil.copytree(parent / "model", tmp_path / "alone")
    names = sorted(model.iterdir())
    out = tmp_path / "features.npz"
    said = scifm("embed", model, "--store", store, "--beside", "poisson", "--num-samples", 8, "--out", out)
    refused(said, "num_samples would have no effect with a store")
    said = scifm("embed", model, "--store", store, "--beside", store, "--out", out)
    assert said.status == 0, said.err
    assert "store #2" in said.out
    assert sorted(model.iterdir()) == names


def test_what_cannot_be_embedded_is_said_in_a_sentence_and_leaves_nothing(scifm, parent, store, tmp_path):
    out = tmp_path / "features.parquet"
    asked = ("embed", parent, "--out", out, "--num-samples", 8)
    refused(scifm(*asked, "--stage", 5), "There is no stage 5")
    refused(scifm("embed", parent, "--out", tmp_path / "features.txt"), ".parquet, .csv or .npz")
    refused(scifm(*asked, "--figure", tmp_path / "map.svg"), "Only one system is there")
    refused(scifm(*asked, "--figure", tmp_path / "map.png"), ".svg; got 'map.png'")
    refused(scifm(*asked, "--beside", "poison"), "Did you mean 'poisson'")
    refused(scifm(*asked, "--beside", "burgers"), "burgers: The operator answers steady problems")
    refused(scifm(*asked, "--beside", "helmholtz"), "diffusivity")
    refused(scifm(*asked, "--split", "test"), "split would have no effect")
    refused(scifm("embed", parent, "--out", out, "--store", store, "--split", "tset"), "Did you mean 'test'")
    refused(scifm("embed", tmp_path / "nowhere", "--out", out), "There is no folder")
    refused(scifm("embed", parent, "--out", out, "--set", "stages=1"), "Did you mean 'stage'")
    assert not out.exists()
