from __future__ import annotations

import shutil
import sys

import pytest

import tiny
from scifm.applications.playground import serving
from scifm.applications.playground.trained import Playground
from scifm.errors import RunError
from scifm.systems.poisson import Poisson

pytest.importorskip("fastapi", reason="the extra 'play' is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny.finished_run(tmp_path_factory.mktemp("runs")).path


def test_mistakes_are_one_line(scifm, run, tmp_path, monkeypatch):
    said = scifm("play", tmp_path)
    assert (said.status, "not a run folder" in said.told) == (2, True)
    with serving.listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        said = scifm("play", run, "--port", port)
    assert said.status == 2
    assert f"port {port} of '127.0.0.1'" in said.told
    assert scifm("play", run, "--port", 70000).status == 2
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    said = scifm("play", run)
    assert said.status == 2
    assert "pip install 'scifm[play]'" in said.told


@pytest.fixture
def served(monkeypatch):
    """What would have been served, instead of serving it."""
    calls = []

    def serve(path, *, host, port, announce, system, grid):
        calls.append((path, host, port, system, grid))
        announce(f"http://{host}:{port}/")

    monkeypatch.setattr(serving, "serve", serve)
    return calls


def test_it_is_for_this_machine_and_opens_nothing_unless_asked(scifm, run, served, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    said = scifm("play", run, "--port", 9)
    assert said.status == 0
    assert served == [(run, "127.0.0.1", 9, None, None)]
    assert "http://127.0.0.1:9/" in said.out
    assert said.err == ""
    assert opened == []
    assert scifm("play", run, "--port", 9, "--browser").status == 0
    assert opened == ["http://127.0.0.1:9/"]


@pytest.mark.parametrize(
    ("host", "warns"), [("0.0.0.0", True), ("192.168.0.5", True), ("localhost", False), ("::1", False)]
)
def test_other_addresses_are_warned_of(scifm, run, served, host, warns):
    said = scifm("play", run, "--host", host)
    assert said.status == 0
    assert ("warning: others on the network" in said.err) is warns


def test_the_system_is_said_where_the_run_does_not(scifm, run, served):
    words = ("play", run / "model", "--system", "poisson", "--knob", "anisotropy=2,3", "--num-points", 32)
    assert scifm(*words).status == 0
    system, grid = served[0][3:]
    assert (system.knobs["anisotropy"].low, system.knobs["anisotropy"].high) == (2, 3)
    assert grid.num_points == (32, 32)
    said = scifm("play", run, "--knob", "anisotropy=2,3")
    assert (said.status, "are for --system" in said.told) == (2, True)


def test_a_model_alone_is_played_with_a_system(run, tmp_path):
    shutil.copytree(run / "model", tmp_path / "alone")
    with pytest.raises(RunError, match=r"does not say which system it was trained on.*or a system with --system"):
        Playground.open(tmp_path / "alone")
    assert Playground.open(tmp_path / "alone", system=Poisson()).trained_points == 64
    assert Playground.open(run / "model").trained_points == 16, "the run around it tells"
