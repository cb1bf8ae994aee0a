from __future__ import annotations

import hashlib
import json

import pytest

from scifm.data.card import Card, hash_file
from scifm.errors import StoreError


def test_card_says_where_the_samples_came_from(toy_store):
    card = toy_store.card
    assert card.generation.system == {
        "name": "toy",
        "knobs": {"stiffness": {"low": 1.0, "high": 5.0, "scale": "linear", "integer": False}},
        "options": {"broken_sample": -1},
    }
    assert card.knobs["stiffness"]["high"] == 5.0
    assert card.equation == "stiffness · solution = forcing"
    made = card.generation
    assert (made.seed, card.dtype, made.chunk_size, made.device) == (7, "float32", 4, "cpu")
    assert made.num_generated == 19
    assert made.seconds > 0
    assert (card.source, card.times, card.system_name) == (None, None, "toy")
    assert card.environment["versions"]["torch"]


def test_rejections_are_counted_and_confessed(toy_store):
    made, card = toy_store.card.generation, toy_store.card
    assert (made.num_drawn, made.num_rejected) == (22, 3)  # chunks of 4, 4, 3, 3, 4 and 1 samples
    assert made.rejection_rate == 3 / 22
    assert "3 of 22" in card.known_defects[0]


def test_card_lists_every_other_file_with_its_hash(toy_store):
    inside = (f for f in toy_store.path.rglob("*") if f.is_file() and f.name != "LOCK")
    files = {f.relative_to(toy_store.path).as_posix() for f in inside}
    assert set(toy_store.card.files) == files - {"card.json"}
    for name, entry in toy_store.card.files.items():
        content = (toy_store.path / name).read_bytes()
        assert (entry.num_bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert sum(entry.num_samples or 0 for entry in toy_store.card.files.values()) == 19


def test_card_comes_back(toy_store):
    assert Card.read(toy_store.path) == toy_store.card
    assert "·" in (toy_store.path / "card.json").read_text(encoding="utf-8")


def test_card_of_a_newer_format_is_refused(copied):
    entries = json.loads((copied / "card.json").read_text())
    (copied / "card.json").write_text(json.dumps({**entries, "format_version": 3}))
    with pytest.raises(StoreError, match="format_version"):
        Card.read(copied)


def test_hash_of_a_missing_file(tmp_path):
    with pytest.raises(StoreError, match="Cannot read"):
        hash_file(tmp_path / "nothing")


@pytest.mark.parametrize("system", [{}, {"knobs": {}}, {"name": 3}])
def test_a_system_without_a_name_is_refused(copied, system):
    file = copied / "card.json"
    entries = json.loads(file.read_text())
    entries["generation"]["system"] = system
    file.write_text(json.dumps(entries))
    with pytest.raises(StoreError, match=r"'generation\.system' = .*a system is told by its 'name'"):
        Card.read(copied)
