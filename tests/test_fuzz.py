"""Some hundred bad inputs through every public door, each by itself; benchmarks/fuzz.py puts thousands through."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import fuzz  # noqa: E402
import fuzz_inputs  # noqa: E402
from scifm.errors import ConfigError, SciFMError, StoreError  # noqa: E402
from scifm.studies.recipe import StudyRecipe  # noqa: E402
from scifm.training.pretrain import PretrainRecipe  # noqa: E402


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return fuzz_inputs.make_examples(tmp_path_factory.mktemp("fuzz") / "examples")


@pytest.mark.parametrize("kind", fuzz_inputs.KINDS)
def test_bad_inputs_end_in_own_errors_or_right_answers(kind, examples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = []
    for number in range(25):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            fuzz_inputs.go_through(kind, number, 1, examples, folder)
        except SciFMError as error:
            told.append(str(error).strip())
    assert len(told) >= 5, "hardly anything was bad about these inputs"
    assert all(told)


def test_good_inputs_pass_every_door(examples, tmp_path, monkeypatch):
    """Without damage nothing may be refused, or the numbers above would mean nothing."""
    for name in ("spoil_tree", "spoil_json"):
        monkeypatch.setattr(fuzz_inputs, name, lambda tree, dice, **_: tree)
    for name in ("spoil_file", "spoil_weights", "spoil_hdf5"):
        monkeypatch.setattr(fuzz_inputs, name, lambda path, dice: None)
    monkeypatch.setattr(fuzz_inputs, "_overrides", lambda dice: [])
    monkeypatch.setattr(fuzz_inputs, "spoil_bytes", lambda content, dice: content)
    for kind in ("recipe", "checkpoint"):
        for number in range(8):
            folder = tmp_path / f"{kind}-{number}"
            folder.mkdir()
            fuzz_inputs.go_through(kind, number, 0, examples, folder)


def test_an_input_can_be_made_again(examples, tmp_path):
    told = []
    for turn in "ab":
        folder = tmp_path / turn / "same"
        folder.mkdir(parents=True)
        with pytest.raises(SciFMError) as caught:
            fuzz_inputs.go_through("recipe", REFUSED, 0, examples, folder)
        told.append(str(caught.value).replace(f"/{turn}/", "/"))
    assert told[0] == told[1]


REFUSED = 0
"""Number of a recipe that is refused."""


def _answers(examples, dice, folder):
    return None


def _errs(examples, dice, folder):
    raise KeyError("a defect of ours")


def test_a_failure_of_any_kind_is_counted_and_the_next_input_is_tried(examples, monkeypatch):
    """The measuring itself: what it says of a defect. A process of its own cannot be patched, so it is asked here."""
    monkeypatch.setitem(fuzz_inputs.KINDS, "recipe", (1.0, _errs))
    outcome = fuzz._try("recipe", 0, 0, examples, 2**40)
    assert (outcome.end, outcome.is_failure, outcome.growth) == ("KeyError", True, 0)
    monkeypatch.setitem(fuzz_inputs.KINDS, "recipe", (1.0, _answers))
    assert fuzz._try("recipe", 0, 0, examples, 2**40).end == "answered"
    grown = fuzz._try("recipe", 0, 0, examples, -(2**40))
    assert (grown.end, grown.is_failure) == ("memory", True)
    refused = fuzz.Outcome("recipe", 0, "refused")
    assert not refused.is_failure
    assert fuzz.Outcome("recipe", 0, "hang").is_failure
    rows = {(row.case, row.metric): row.value for row in fuzz._rows([outcome, refused], 1.0)}
    assert rows["recipe", "failures"] == 1
    assert rows["all", "other errors"] == 1


def test_inputs_run_in_a_process_of_their_own():
    outcomes = fuzz.fuzz(0, only=[("recipe", 0), ("foreign", 0), ("foreign", 1)], in_flight=1)
    assert [(o.kind, o.number) for o in outcomes] == [("recipe", 0), ("foreign", 0), ("foreign", 1)]
    assert not [o for o in outcomes if o.is_failure]


def test_every_kind_has_its_share():
    inputs = fuzz.inputs_of(5000)
    assert 5000 <= len(inputs) < 5050
    assert {kind for kind, _ in inputs} == set(fuzz_inputs.KINDS)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
)
KEYS = st.sampled_from(["name", "seed", "system", "mixture", "data", "model", "training", "sources", "targets", "x"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=st.dictionaries(KEYS, TREES, max_size=5), overrides=st.lists(st.text(max_size=30), max_size=2))
def test_any_tree_is_a_recipe_or_refused(tree, overrides):
    for cls in (PretrainRecipe, StudyRecipe):
        try:
            made = cls.read(tree, overrides=overrides)
        except ConfigError:
            continue
        json.dumps(made.to_dict())


def test_a_store_that_names_files_elsewhere_is_refused(examples, tmp_path):
    import shutil

    from scifm.data.store import Store

    for number, name in enumerate(("../outside.hdf5", "data/train/../../../x", "/etc/hostname")):
        place = Path(shutil.copytree(examples.store, tmp_path / str(number)))
        card = json.loads((place / "card.json").read_text())
        card["files"][name] = {"num_bytes": 1, "sha256": "0"}
        (place / "card.json").write_text(json.dumps(card))
        with pytest.raises(StoreError, match="lies inside the folder of the store"):
            Store.open(place)
    place = Path(shutil.copytree(examples.store, tmp_path / "linked"))
    data = next((place / "data" / "train").glob("*"))
    (tmp_path / "elsewhere.hdf5").write_bytes(data.read_bytes())
    data.unlink()
    data.symlink_to(tmp_path / "elsewhere.hdf5")
    with pytest.raises(StoreError, match="link that leads out of the store"):
        Store.open(place)
