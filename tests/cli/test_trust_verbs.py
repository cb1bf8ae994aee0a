"""``scifm check`` and ``scifm compress``, as a user calls them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import evolving
import tiny
from calls import Said
from scifm.data.generate import generate
from scifm.fields.window import Window
from scifm.systems.poisson import Poisson
from scifm.training.pretrain import pretrain

QUICK = ("--only", "receptive_field", "--only", "shift_equivariance")


@pytest.fixture
def parent(tmp_path) -> Path:
    return tiny.finished_run(tmp_path / "runs").path


def refused(said: Said, words: str) -> None:
    assert said.status == 2
    assert words in said.told


def test_a_run_is_asked_about_what_it_was_trained_on(scifm, parent):
    said = scifm("check", parent, *QUICK, "--num-samples", 4)
    assert said.status == 0, said.err
    assert "good   receptive_field" in said.out
    stored = json.loads((parent / "findings.json").read_text())
    told = json.loads(scifm("check", parent, *QUICK, "--num-samples", 4, "--json").out)
    for found in (*told, *stored):
        assert found.pop("seconds") >= 0
    assert told == stored
    assert [found["name"] for found in told] == ["receptive_field", "shift_equivariance"]


def test_bad_news_is_told_by_the_exit_status(scifm, parent):
    said = scifm("check", parent, "--only", "persistence", "--num-samples", 8)
    assert said.status == 1
    assert "bad" in said.out
    assert "no better than a trivial answer" in said.out


def test_advice_and_cost_are_told_and_the_budget_is_kept(scifm, parent):
    said = scifm("check", parent, "--only", "persistence", "--num-samples", 8)
    assert "→ Do not use it" in said.out
    assert " s)" in said.out.replace("\N{NO-BREAK SPACE}", " ")
    none = scifm("check", parent, *QUICK, "--budget", 1e-9)
    assert (none.status, none.out.count("the budget was spent")) == (0, 2)
    refused(scifm("check", parent, *QUICK, "--budget", 0), "greater than 0")


def test_samples_come_from_a_store_or_another_system_too(scifm, parent, tmp_path):
    store = generate(Poisson(), num_samples={"train": 4, "valid": 2, "test": 5}, num_points=16, path=tmp_path / "store")
    said = scifm("check", parent, "--only", "persistence", "--store", store.path)
    assert "5 samples" in said.out, said.err
    said = scifm("check", parent, *QUICK, "--system", "poisson", "--set", "num_points=12", "--num-samples", 3)
    assert "over 3 samples" in said.out, said.err
    refused(scifm("check", parent, "--system", "poisson", "--set", "split=test"), "split would have no effect")
    refused(scifm("check", parent, "--knob", "anisotropy=1,2"), "--knob would have no effect without --system")
    refused(scifm("check", parent, "--num-samples", 0), "greater than or equal to 1")
    refused(scifm("check", parent, "--system", "helmholtz", "--num-samples", 2), "diffusivity")


@pytest.mark.parametrize("named", [False, True])
def test_a_run_on_a_store_of_trajectories_is_asked_about_its_test_split(scifm, tmp_path, named):
    store = evolving.store(tmp_path)
    run = pretrain(evolving.recipe(), store=store, out=tmp_path / "runs").path
    said = scifm("check", run, "--only", "persistence", *(("--store", store.path) if named else ()))
    assert f"on {store.split('test', Window()).num_samples} samples" in said.out, said.err
    refused(scifm("check", run, "--num-samples", 4), "num_samples would have no effect where a run was trained on")


def test_a_model_alone_says_what_it_needs_and_is_left_as_it_is(scifm, parent, tmp_path):
    model = shutil.copytree(parent / "model", tmp_path / "alone")
    names = sorted(model.iterdir())
    refused(scifm("check", model), "give a system (--system NAME")
    assert scifm("check", model, *QUICK, "--system", "poisson", "--set", "num_points=16").status == 0
    assert sorted(model.iterdir()) == names
    refused(scifm("check", tmp_path / "nowhere"), "There is no folder")
    refused(scifm("check", parent, "--only", "persistance"), "Did you mean 'persistence'?")
    assert "at least 1 item" not in scifm("check", parent, "--only", "persistance").told


def test_a_smaller_model_goes_where_any_model_goes(scifm, parent, tmp_path):
    small = tmp_path / "small"
    said = scifm("compress", parent, "--to", "int8", "--out", small, "--num-samples", 8)
    assert said.status == 0, said.err
    assert "Answers changed by" in said.out
    told = json.loads(scifm("compress", parent, "--out", small, "--num-samples", 8, "--json").out)
    stored = json.loads((small / "compression.json").read_text())
    assert told == {"path": str(small), **stored}
    assert stored["compression"] == {"name": "int8"}
    asked = ("--system", "poisson", "--num-samples", 4, "--set", "num_points=16")
    before, after = (
        json.loads(scifm("evaluate", model, *asked, "--json").out)["relative_l2"]["mean"] for model in (parent, small)
    )
    assert after == pytest.approx(before, rel=0.05)
    assert scifm("report", small, "--out", tmp_path / "page.html").status == 0
    store = generate(Poisson(), num_samples={"train": 4, "valid": 2, "test": 2}, num_points=16, path=tmp_path / "store")
    few = (
        "--num-samples",
        4,
        "--set",
        "training.num_steps=1",
        "--set",
        "learning_rates=[1e-3]",
        "--out",
        tmp_path / "runs",
    )
    assert scifm("finetune", small, "--store", store.path, *few).status == 0


def test_what_cannot_be_compressed_is_refused(scifm, parent, tmp_path):
    out = tmp_path / "small"
    refused(scifm("compress", parent, "--to", "int4", "--out", out), "Did you mean 'int8'?")
    refused(scifm("compress", parent, "--out", parent), "something else")
    refused(scifm("compress", parent / "model", "--out", out, "--system", "helmholtz"), "diffusivity")
    refused(scifm("compress", tmp_path / "nowhere", "--out", out), "There is no folder")
    assert not out.exists()
