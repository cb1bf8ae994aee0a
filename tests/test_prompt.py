"""What a Python prompt shows of the objects that a user holds: a few lines, whatever their size."""

from __future__ import annotations

import pytest

from scifm.data.generate import generate
from scifm.evaluation.evaluate import evaluate
from scifm.evaluation.forecast import judge
from scifm.fields.window import Window
from scifm.models.fno import FNO
from scifm.models.registry import load_operator
from scifm.models.rollout import rollout
from scifm.runs import Run
from scifm.systems.burgers import Burgers
from scifm.training.pretrain import pretrain
from tiny import finished_run


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    counts = {"train": 3, "valid": 1, "test": 2}
    return generate(Burgers(num_frames=6), num_samples=counts, num_points=16, path=tmp_path_factory.mktemp("s") / "b")


@pytest.fixture(scope="module")
def operator(store, tmp_path_factory):
    recipe = {
        "name": "prompt",
        "data": {"store": str(store.path)},
        "model": {"network": {"width": 4, "modes": 2, "projection_width": 4, "latent_points": 0}},
        "training": {"num_steps": 1, "batch_size": 2, "validate_every": 1, "checkpoint_every": 1},
    }
    return load_operator(pretrain(recipe, out=tmp_path_factory.mktemp("runs")).path / "model")


def test_a_store_and_its_splits(store):
    """A store printed 3,000 to 10,000 characters: its whole card."""
    said = repr(store)
    assert said.startswith(f"<Store '{store.path}'>")
    for words in ("3 train, 1 valid, 2 test", "velocity", "viscosity", "16 points", "trajectories of 6 frames"):
        assert words in said
    split = store.split("train", Window(horizon=2))
    assert "<Split train: 12 samples of 3 trajectories>" in repr(split)
    assert "horizon 2" in repr(split)
    assert max(map(len, (said, repr(split)))) < 600


def test_notebooks_show_the_same_as_a_table(store):
    shown = store._repr_html_()
    assert shown.startswith("<table>")
    assert "viscosity" in shown
    assert "&lt;" not in shown
    assert "du/dt" in Burgers()._repr_html_()
    assert repr(Burgers()).startswith("Burgers(viscosity=Knob(")  # which makes one, as those of dataclasses do


def test_a_run(operator, store, tmp_path):
    run = Run(tmp_path / "nothing")
    assert "unreadable" in repr(run)
    made = finished_run(tmp_path / "runs")
    assert repr(made).splitlines()[0] == f"<Run '{made.path}'>"
    assert "complete" in repr(made)
    assert "complete" in made._repr_html_()


def test_samples(store):
    said = repr(store.split("train").batch(slice(0, 2)))
    lines = [line.split() for line in said.splitlines()]
    assert said.startswith("<Batch: 2 samples, float32 on cpu>")
    assert ["targets", "(2,", "1,", "1,", "16)", "velocity"] in lines
    assert ["lead", "time", "0.05"] in lines
    assert "targets" not in repr(store.split("train").batch([0]).with_targets(None))


def test_answers(store, operator):
    assert isinstance(operator, FNO)
    starts = store.split("test", Window(horizon=5)).batch([0, 1])
    assert repr(rollout(operator, starts, 3)) == "<Rollout: 2 samples, 3 steps>"
    assert repr(judge(operator, starts)).startswith("<Forecast: 2 samples, 5 steps>\n  VRMSE, step 1")
    scores = evaluate(operator, store.split("test"))
    assert repr(scores).startswith("<Scores: 10 samples>\n  relative_l2, mean")
    assert f"{scores.mean():.4g}"[:4] in repr(scores)
