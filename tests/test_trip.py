"""benchmarks/trip.py sees which files of a planted package hand an object on, and where it goes back."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
FILES = {
    "__init__.py": "",
    "parcel.py": "class Parcel:\n    def weigh(self):\n        return 1\n",
    "post.py": (
        "from handing import office\n\n\n"
        "def send(parcel):\n    return office.stamp(parcel) + parcel.weigh()\n\n\n"
        "def note(held):\n    return 0\n"
    ),
    "office.py": (
        "def stamp(parcel):\n    return 0\n\n\n"
        "def ask(parcel):\n    from handing import post\n    return post.note(parcel) + post.send(parcel)\n"
    ),
    "apart.py": "def unasked(number):\n    return number\n",
}


@pytest.fixture
def trip(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("trip", BENCHMARKS / "trip.py")
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


def test_pairs_are_files_that_hand_the_object_on(trip, package):
    from handing import apart, parcel, post

    with trip.watching(trip.Tracer(parcel.Parcel, package)) as tracer:
        post.send(parcel.Parcel())
        post.send(parcel.Parcel())
        apart.unasked(1)
    assert tracer.pairs == {("post.py", "office.py"), ("post.py", "parcel.py")}
    assert tracer.files == {"post.py", "office.py", "parcel.py"}
    assert tracer.both_ways == 0


def test_a_pair_that_hands_it_in_both_directions_is_a_way_back(trip, package):
    from handing import office, parcel

    with trip.watching(trip.Tracer(parcel.Parcel, package)) as tracer:
        office.ask(parcel.Parcel())
    assert ("office.py", "post.py") in tracer.pairs
    assert tracer.both_ways == 1
