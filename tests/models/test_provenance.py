from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

import tiny
from scifm.data.generate import generate
from scifm.data.origins import SystemOrigin
from scifm.data.run_origin import RunOrigin
from scifm.distillation.compress import compress
from scifm.errors import RunError
from scifm.evaluation.evaluate import evaluate
from scifm.findings.provenance import PROVENANCE, Provenance, Scored
from scifm.models.folder import digest, find_model
from scifm.models.registry import load_operator
from scifm.systems.poisson import Poisson
from scifm.training.finetune import finetune
from scifm.training.pretrain import pretrain

ADAPT = {"learning_rates": [1e-3], "training": {**tiny.ADAPTING, "num_steps": 2}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pretrain(tiny.recipe(training={"num_steps": 2}), out=tmp_path_factory.mktemp("runs"))


def test_a_trained_model_says_where_it_comes_from(run):
    past = Provenance.read(run.path / "model")
    assert (past.made, past.recipe, past.num_steps) == ("pretrain", run.config["name"], 2)
    assert past.samples.startswith("Poisson, anisotropy 1 to 5")
    assert past.equations == {"Poisson": Poisson.equation}
    assert past.origin == run.config["origin"]
    assert past.version
    assert load_operator(run).provenance == past


def test_a_model_that_was_moved_is_asked_about_what_it_was_trained_on(run, tmp_path):
    alone = shutil.copytree(run.path / "model", tmp_path / "mine")
    told = RunOrigin.of_model(find_model(alone))
    assert told is not None
    assert told.systems() == RunOrigin.of(run).systems()
    assert told.grid == RunOrigin.of(run).grid
    tuned = finetune(alone, Poisson(anisotropy=[5, 10]), num_samples=2, out=tmp_path, **ADAPT)
    past = Provenance.read(tuned.path / "model")
    assert (past.made, past.num_samples, past.parent) == ("finetune", 2, "mine")
    assert past.parent_digest == digest(alone)
    assert past.samples.startswith("Poisson, anisotropy 5 to 10")
    assert past.scores == ()


def test_scores_of_ones_own_run_come_onto_the_card(run, tmp_path):
    own = shutil.copytree(run.path, tmp_path / "own")
    before, samples = digest(own / "model"), Poisson().sample(3, tiny.GRID)
    first = evaluate(own, samples, origin={"label": "three"})
    evaluate(own, samples, origin={"label": "three"})
    evaluate(own, samples, origin={"label": "others"}, metrics=["rmse"])
    one, other = Provenance.read(own / "model").scores
    assert (one.samples, one.num_samples, other.samples) == ("three", 3, "others")
    assert one.errors["relative_l2"] == pytest.approx(first.mean())
    text = (own / "model" / "README.md").read_text()
    assert f"| three | 3 | {first.mean():.3g} |" in text
    assert "| others | 3 |  |  |" in text  # it was not asked for the other metrics
    assert digest(own / "model") == before  # what was scored is no part of the model


def test_a_card_that_somebody_wrote_on_stays_as_it_is(run, tmp_path):
    own = shutil.copytree(run.path, tmp_path / "own")
    page = own / "model" / "README.md"
    page.write_text(page.read_text() + "\nMy words.\n")
    evaluate(own, Poisson().sample(3, tiny.GRID))
    assert page.read_text().endswith("\nMy words.\n")
    assert len(Provenance.read(own / "model").scores) == 1


def test_what_was_scored_is_not_the_smaller_one(run, tmp_path):
    own = shutil.copytree(run.path, tmp_path / "own")
    samples = Poisson().sample(4, tiny.GRID)
    evaluate(own, samples)
    compress(own, samples, tmp_path / "small")
    past = load_operator(tmp_path / "small").provenance
    assert (past.scores, past.parent, past.parent_digest) == ((), "own", digest(own / "model"))
    assert past.samples == Provenance.read(own / "model").samples


def test_a_store_is_told_by_its_content_and_not_by_its_place(tmp_path):
    store = generate(Poisson(), num_samples={"train": 8, "valid": 2}, num_points=16, path=tmp_path / "secret" / "mine")
    run = pretrain(tiny.recipe(training={"num_steps": 1}), store=store, out=tmp_path)
    evaluate(run, store.split("valid"))
    text = (run.path / "model" / PROVENANCE).read_text() + (run.path / "model" / "README.md").read_text()
    assert "secret" not in text
    assert "store mine, split valid" in text
    past = Provenance.read(run.path / "model")
    assert past.samples.startswith("store mine of Poisson, anisotropy 1 to 5")
    assert past.origin["store_name"] == "mine"
    assert past.origin["content"] == store.content
    assert past.equations == {"Poisson": Poisson.equation}
    alone = RunOrigin.of_model(find_model(shutil.copytree(run.path / "model", tmp_path / "alone")))
    assert isinstance(alone.systems()[0], Poisson)
    assert alone.resolved() == SystemOrigin.of(Poisson(), tiny.GRID)  # what made the store makes more
    imported = RunOrigin({name: value for name, value in alone.record.items() if name != "system"})
    with pytest.raises(RunError, match="trained on the store 'mine', which did not come with it: give a store"):
        imported.resolved()


def test_the_example_of_the_card_runs_as_it_stands(run):
    text = (run.path / "model" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    made: dict[str, dict[str, np.ndarray]] = {}
    exec(code.replace('"PATH"', repr(str(run.path / "model"))), made)
    assert made["answers"]["solution"].shape == (16, 16)
    assert np.isfinite(made["answers"]["solution"]).all()


def test_one_of_before_says_nothing_and_is_read(run, tmp_path):
    alone = shutil.copytree(run.path / "model", tmp_path / "before")
    (alone / PROVENANCE).unlink()
    assert load_operator(alone).provenance == Provenance()
    assert RunOrigin.of_model(find_model(alone)) is None
    own = shutil.copytree(run.path, tmp_path / "own")
    (own / "model" / PROVENANCE).unlink()
    page = (own / "model" / "README.md").read_text()
    evaluate(own, Poisson().sample(2, tiny.GRID))
    assert (own / "model" / "README.md").read_text() == page


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"made": 3}', '{"scores": [{}]}'])
def test_a_damaged_one_is_told(run, tmp_path, text):
    alone = shutil.copytree(run.path / "model", tmp_path / "mine")
    (alone / PROVENANCE).write_text(text)
    with pytest.raises(RunError, match=r"provenance.json' cannot be read: .*Remove it to use the model"):
        load_operator(alone)


def test_it_comes_back_from_plain_values():
    past = Provenance(made="finetune", num_steps=3, scores=(Scored("some", 3, {"rmse": 0.1}),))
    assert Provenance.from_dict(json.loads(json.dumps(past.to_dict()))) == past
    assert past.told() == [("how", "fine-tuned, 3 steps")]
