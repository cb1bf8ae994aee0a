from __future__ import annotations

import shutil

import pytest
import torch

import scifm
import tiny
from scifm.data.split import windows_of
from scifm.errors import SignatureError
from scifm.evaluation.evaluate import evaluate, persistence
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.window import Window
from scifm.report.records import read_run
from scifm.systems.burgers import Burgers
from scifm.systems.poisson import Poisson
from scifm.training.finetune import finetune
from scifm.training.pretrain import pretrain


def test_persistence_by_hand():
    signature = Signature(("u", "mask", "v"), (), ("v", "u"), evolves=True)
    inputs = torch.ones(2, 1, 3, 4, 4)
    inputs[:, :, 2] = 2.0
    targets = torch.stack([torch.full((2, 1, 4, 4), 4.0), torch.full((2, 1, 4, 4), 1.0)], dim=2)
    scores = persistence(Batch(signature, Grid.square(4), inputs, torch.zeros(2, 0), targets))
    assert scores.channels == ("v", "u")
    assert scores.values["relative_l2"].tolist() == [[[0.5, 0.0]], [[0.5, 0.0]]]


def test_persistence_of_what_does_not_persist():
    batch = Batch(Signature(("f",), (), ("u",)), Grid.square(4), *(torch.ones(1, 1, 1, 4, 4), torch.zeros(1, 0)))
    with pytest.raises(SignatureError, match="were inputs before"):
        persistence(batch)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    parent = pretrain(tiny.recipe(training={"num_steps": 2}), out=out)
    how = {"learning_rates": [1e-2], "training": {**tiny.ADAPTING, "num_steps": 3}}
    return parent, finetune(parent, Poisson(anisotropy=[5, 10]), num_samples=2, out=out, **how)


def test_a_fine_tuned_run_stands_beside_what_it_was(runs):
    parent, tuned = runs
    samples = Poisson(anisotropy=[5, 10]).sample(6, tiny.GRID)
    found = evaluate(tuned, samples, beside=True)
    was = evaluate(parent, samples, record=False).mean()
    assert found.beside == {"if the answer were zero": 1.0, "before it was fine-tuned": pytest.approx(was)}
    assert found.mean() != pytest.approx(was)
    (kept,) = read_run(tuned.path).score_sets
    assert kept.beside == found.beside
    page = scifm.page(tuned.path).read_text()
    assert f"Before it was fine-tuned that was {was:.2g}." in page
    assert "1: before it was fine-tuned" in page
    assert evaluate(tuned, samples, record=False).beside == {}


def test_a_parent_that_is_gone_is_left_out(runs, tmp_path):
    alone = shutil.copytree(runs[1].path, tmp_path / "alone")
    found = evaluate(alone, Poisson().sample(2, tiny.GRID), beside=True)
    assert found.beside == {"if the answer were zero": 1.0}


def test_what_evolves_stands_beside_nothing_changes(tmp_path):
    run = pretrain(tiny.EVOLVING, out=tmp_path)
    samples = windows_of(Burgers(num_frames=4).sample(3, Grid.square(16, num_spatial_dims=1)), Window(history=2))
    found = evaluate(run, samples, beside=True)
    assert found.beside == {"if nothing changed": pytest.approx(persistence(samples).mean())}
