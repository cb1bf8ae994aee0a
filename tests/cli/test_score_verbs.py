"""``scifm evaluate`` and ``scifm scores``, and the words that every verb prints."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import h5py
import pyarrow.parquet as pq
import pytest

import tiny
from calls import Said
from scifm.data.generate import generate
from scifm.systems.poisson import Poisson


@pytest.fixture
def parent(tmp_path) -> Path:
    return tiny.finished_run(tmp_path / "runs").path


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    counts = {"train": 4, "valid": 3, "test": 4}
    return generate(
        Poisson(), num_samples=counts, num_points=16, path=tmp_path_factory.mktemp("stores") / "poisson"
    ).path


def refused(said: Said, words: str) -> None:
    assert said.status == 2
    assert words in said.told


def test_scores_stand_side_by_side_and_say_what_they_are_of(scifm, parent, store):
    """The last evaluation overwrote the one before, and no page said what the number was scored on."""
    for words in (["--store", store], ["--store", store, "--set", "split=valid"]):
        assert scifm("evaluate", parent, *words).status == 0
    again = scifm("evaluate", parent, "--store", store)
    assert again.status == 0, "the same samples, the same file"
    listed = json.loads(scifm("scores", parent, "--json").out)
    assert sorted(own["origin"]["split"] for own in listed) == ["test", "valid"]
    page = Path(scifm("report", parent).out.strip()).read_text()
    table = scifm("scores", parent).out
    for own in listed:
        assert own["text"] in html.unescape(page)
        assert f"{own['mean']['relative_l2']:.4g}" in table


def test_a_run_alone_is_scored_on_what_it_was_trained_on(scifm, parent, tmp_path):
    said = scifm("evaluate", parent, "--set", "num_samples=3", "--json")
    assert said.status == 0, said.err
    scores = json.loads(said.out)
    assert scores["num_samples"] == 3
    assert scores["origin"]["system"]["name"] == "poisson"
    refused(scifm("evaluate", parent, "--set", "split=valid"), "split would have no effect")
    refused(scifm("evaluate", parent, "--set", "stride=2"), "stride would have no effect")
    model = shutil.copytree(parent / "model", tmp_path / "alone")
    refused(scifm("evaluate", model), "is a model without its run, and does not say what it was trained on")


def test_a_model_alone_is_scored_and_left_as_it_is(scifm, parent, store, tmp_path):
    model = tmp_path / "of-a-colleague"
    shutil.copytree(parent / "model", model)
    names = sorted(model.iterdir())
    said = scifm("evaluate", model, "--store", store)
    assert said.status == 0, said.err
    assert "nothing was written there" in said.err
    out = tmp_path / "scores.parquet"
    assert scifm("evaluate", model, "--store", store, "--out", out).status == 0
    assert pq.read_table(out).num_rows == 4
    page = scifm("report", model, "--out", tmp_path / "page.html")
    assert page.status == 0, page.err
    assert "The model of-a-colleague" in (tmp_path / "page.html").read_text()
    assert sorted(model.iterdir()) == names
    inside = scifm("evaluate", parent / "model", "--store", store, "--json")
    assert Path(json.loads(inside.out)["file"]).parent == parent / "scores"


@pytest.mark.parametrize("at_rest", [[1, 3], [0, 1, 2, 3]])
def test_truths_that_vanish_are_named_and_left_out(scifm, parent, store, tmp_path, at_rest):
    """A relative error of zero is infinite: it spoilt the mean, and JSON ended in a traceback."""
    still = shutil.copytree(store, tmp_path / "still")
    (file,) = still.rglob("test/*.hdf5")
    with h5py.File(file, "r+") as written:
        for place in at_rest:
            written["t0_fields"]["solution"][place] = 0
    card = json.loads((still / "card.json").read_text())
    card["files"][file.relative_to(still).as_posix()]["num_bytes"] = file.stat().st_size
    (still / "card.json").write_text(json.dumps(card))
    said = scifm("evaluate", parent, "--store", still, "--json")
    assert said.status == 0, said.err
    told = json.loads(said.out, parse_constant=pytest.fail)
    assert told["undefined"] == {"relative_l2": at_rest, "vrmse": at_rest}
    assert (told["relative_l2"]["mean"] is None) == (len(at_rest) == 4)
    assert told["rmse"]["mean"] > 0
    where = f"In {len(at_rest)} of 4 samples ({', '.join(map(str, at_rest))}) the truth is zero"
    assert where in " ".join(said.err.split())
    (listed,) = json.loads(scifm("scores", parent, "--json").out, parse_constant=pytest.fail)
    assert listed["mean"] == pytest.approx({name: told[name]["mean"] for name in listed["mean"]})
    assert listed["undefined"]["relative_l2"] == len(at_rest)
    page = Path(scifm("report", parent).out.strip()).read_text()
    assert f"{len(at_rest)} of relative_l2" in page


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--num-samples", "3"], "num_samples"),
        (["--set", "num_points=16", "--num-samples", 3], "num_samples, num_points"),
        (["--set", "seed=1"], "seed"),
        (["--knob", "anisotropy=1,2"], "--knob"),
    ],
)
def test_what_would_have_no_effect_is_refused(scifm, parent, store, words, named):
    refused(scifm("evaluate", parent, "--store", store, *words), f"{named} would have no effect")


def test_options_of_a_store_are_refused_with_a_system(scifm, parent):
    for verb, words in (("evaluate", "stride would have no effect"), ("finetune", "stride = 2 was asked for")):
        refused(scifm(verb, parent, "--system", "poisson", "--set", "stride=2"), words)


def test_what_is_in_brackets_is_printed(scifm, tmp_path):
    """A style of rich's, or an emoji, to a program that reads markup."""
    told = " ".join(scifm("play", "--help").out.replace("│", " ").split())
    assert "pip install 'scifm[play]'" in told
    refused(scifm("evaluate", tmp_path / "[bold]:x:", "--system", "poisson"), "[bold]:x:")


def test_no_text_of_a_verb_loses_its_brackets(scifm):
    """All of them: whatever is written in brackets in a verb or an option comes out in its help."""
    from typer.main import get_command

    from scifm.cli.app import app

    for name, verb in get_command(app).commands.items():
        told = " ".join(re.sub("[│\n]", " ", scifm(name, "--help").out).split())
        for text in (verb.help, *(getattr(option, "help", None) for option in verb.params)):
            for mark in re.findall(r"\[[a-z]+\]", text or ""):
                assert mark in told, f"{name}: {mark}"


# --- demonstrations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--set", "correction.way=checked"], ["--set", "correction.passes=2"]])
def test_demonstrations_correct_answers_and_both_errors_are_told(scifm, parent, store, words):
    plain = json.loads(scifm("evaluate", parent, "--store", store, "--json").out)
    said = scifm("evaluate", parent, "--store", store, "--demonstrations", 4, *words, "--json")
    assert said.status == 0, said.err
    told = json.loads(said.out)
    assert told["beside"]["without demonstrations"] == pytest.approx(plain["relative_l2"]["mean"], rel=1e-6)
    assert told["relative_l2"]["mean"] != plain["relative_l2"]["mean"]
    assert 0 < told["corrected"] <= 1
    assert told["origin"]["demonstrations"]["count"] == 4
    assert told["file"] != plain["file"]
    shown = scifm("evaluate", parent, "--store", store, "--demonstrations", 4, *words).out
    assert "relative_l2, without demonstrations" in shown
    assert f"{told['corrected']:.1%} of all points" in shown
    listed = json.loads(scifm("scores", parent, "--json").out)
    assert [own["text"] for own in listed if "corrected by 4 demonstrations" in own["text"]]
    page = Path(scifm("report", parent).out.strip()).read_text()
    assert "corrected by 4 demonstrations" in html.unescape(page)
    card = (parent / "model" / "README.md").read_text() if (parent / "model" / "README.md").is_file() else ""
    assert "demonstrations" not in card, "the model alone does not do so well"


def test_demonstrations_are_chosen_by_the_seed(scifm, parent, store):
    told = []
    for seed in range(4):
        words = ["--demonstrations", 2, "--set", f"seed={seed}", "--json"]
        told.append(json.loads(scifm("evaluate", parent, "--store", store, *words).out))
    assert len({own["relative_l2"]["mean"] for own in told}) > 1
    assert len({own["file"] for own in told}) == len({own["origin"]["demonstrations"]["batch"] for own in told})


def test_demonstrations_that_make_it_worse_are_told(scifm, parent, store):
    words = ["--demonstrations", 1, "--set", "correction.neighbours=200"]
    said = scifm("evaluate", parent, "--store", store, *words, "--json")
    told = json.loads(said.out)
    worse = told["relative_l2"]["mean"] > told["beside"]["without demonstrations"]
    assert ("made answers worse" in scifm("evaluate", parent, "--store", store, *words).err) == worse


def test_an_operator_that_learned_to_use_demonstrations_is_shown_them(scifm, store, parent, tmp_path):
    network = {"width": 16, "num_heads": 2, "num_blocks": 1, "patch": 4, "condition_width": 8, "context_blocks": 1}
    tree = {**tiny.RECIPE, "name": "learner", "model": {"kind": "in_context", "network": network}}
    learner = tiny.finished_run(tmp_path / "learners", tree).path
    plain = json.loads(scifm("evaluate", learner, "--store", store, "--json").out)
    said = scifm("evaluate", learner, "--store", store, "--demonstrations", 4, "--json")
    assert said.status == 0, said.err
    told = json.loads(said.out)
    assert told["origin"]["demonstrations"]["way"] == "learned"
    assert "corrected" not in told
    assert told["beside"]["without demonstrations"] == pytest.approx(plain["relative_l2"]["mean"], rel=1e-6)
    assert told["relative_l2"]["mean"] != plain["relative_l2"]["mean"]
    assert "shown 4 demonstrations (learned)" in scifm("scores", learner, "--json").out
    words = ["--demonstrations", 4, "--set", "correction.way=checked"]
    other = json.loads(scifm("evaluate", learner, "--store", store, *words, "--json").out)
    assert other["corrected"] > 0
    assert other["file"] != told["file"]
    words = ["--demonstrations", 2, "--set", "correction.way=learned"]
    refused(scifm("evaluate", parent, "--store", store, *words), "kind 'fno' did not learn to use demonstrations")
    worse = scifm("evaluate", learner, "--store", store, "--demonstrations", 4).err
    assert ("not of the physics that is asked about" in worse) == (
        told["relative_l2"]["mean"] > plain["relative_l2"]["mean"]
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--demonstrations", 5], "5 demonstrations were asked for, each of a problem of its own; there are 4"),
        (["--demonstrations", 2, "--set", "split=train"], "they would hold the answers"),
        (["--set", "correction.way=checked"], "correction would have no effect without --demonstrations"),
        (["--demonstrations", 2, "--set", "correction.cosine=true"], "here is one feature"),
        (["--demonstrations", 2, "--set", "correction.drop=0.5"], "drop would have no effect without passes"),
        (["--demonstrations", -1], "demonstrations"),
    ],
)
def test_demonstrations_that_cannot_be_are_refused(scifm, parent, store, words, named):
    refused(scifm("evaluate", parent, "--store", store, *words), named)
