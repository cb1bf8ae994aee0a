"""scripts/trips.py sees the doors that an object of a planted package is handed through, and counts ways back."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "trips.py"
FILES = {
    "__init__.py": "",
    "parcel.py": "class Parcel:\n    def weigh(self):\n        return 1\n",
    "post.py": "def send(parcel):\n    from handing import office\n    return office.stamp(parcel) + parcel.weigh()\n",
    "office.py": (
        "from handing import post\n\n\n"
        "def stamp(parcel):\n    return post.note(parcel) if hasattr(post, 'note') else 0\n"
    ),
    "apart.py": "def unasked(number):\n    return number\n",
}


@pytest.fixture
def trips():
    spec = importlib.util.spec_from_file_location("trips", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "handing"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "handing"]:
        del sys.modules[name]


def test_doors_are_pairs_of_rooms_that_hand_the_object_on(trips, package):
    from handing import apart, parcel, post

    with trips.watched(parcel.Parcel, package) as doors:
        post.send(parcel.Parcel())
        post.send(parcel.Parcel())
        apart.unasked(1)
    assert doors == {("post.py", "office.py"), ("post.py", "parcel.py")}


def test_a_pair_gone_through_in_both_directions_is_one_way_back(trips, package):
    from handing import parcel, post

    post.note = lambda held: held.weigh()  # of this file: no room of the package, so who gave it is the office
    with trips.watched(parcel.Parcel, package) as doors:
        post.send(parcel.Parcel())
    assert ("office.py", "parcel.py") in doors
    assert trips.table({"Parcel": [("a", "b"), ("b", "a"), ("b", "c")]}) == {
        "Parcel: rooms entered": 3,
        "Parcel: doors": 3,
        "Parcel: ways back": 1,
    }
