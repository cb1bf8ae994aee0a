"""A tiny trained run for every system, its playground, and its page asked without a server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tiny
from asgi import Response, call
from scifm.applications.playground.serving import create_application
from scifm.applications.playground.trained import Playground
from scifm.training.pretrain import pretrain


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A complete run on each system, by name."""
    pytest.importorskip("fastapi", reason="the extra 'play' is not installed")
    root = tmp_path_factory.mktemp("played")
    made = {}
    for name in ("poisson", "advection_diffusion", "helmholtz"):
        tree = tiny.recipe(name=name, system={"name": name, "knobs": {}}, training={"num_steps": 2})
        made[name] = pretrain(tree, out=root).path
    return made


@pytest.fixture(scope="session")
def playgrounds(runs) -> dict[str, Playground]:
    return {name: Playground.open(path) for name, path in runs.items()}


@pytest.fixture(scope="session")
def request_to(playgrounds) -> Callable[..., Response]:
    """Return a function that sends a request to the page of one system."""
    applications = {name: create_application(playground) for name, playground in playgrounds.items()}

    def send(method: str, target: str, body: bytes = b"", *, of: str = "poisson", **headers: str) -> Response:
        return call(applications[of], method, target, body, **headers)

    return send


@pytest.fixture(scope="module")
def start_playing(runs) -> Iterator[Callable[[str], tuple[subprocess.Popen[str], str]]]:
    """Return a function that starts ``scifm play`` on a free port: the process and the page's address."""
    started = []

    def start(name: str) -> tuple[subprocess.Popen[str], str]:
        code = "from scifm.cli import main; main()"
        command = [sys.executable, "-c", code, "play", str(runs[name]), "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        line = process.stdout.readline()
        assert "http://" in line, process.communicate(timeout=20)
        return process, next(word for word in line.split() if word.startswith("http://"))

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=20)
