"""A tiny trained run for every system, its playground, and its page asked without a server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

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
    for name, points, history in (("burgers", 64, 2), ("navier_stokes", 16, 1)):
        data = {"num_points": points, "history": history}
        tree = tiny.recipe(name=name, system={"name": name, "knobs": {}}, data=data, training={"num_steps": 2})
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


# --- in a real browser ------------------------------------------------------------------------------------------------

_ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PIXELS = """id => { const c = document.querySelector(`#picture-${id} canvas.field`);
    return [c.width, c.height, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }"""


class Window:
    """A page that has its first answer."""

    def __init__(self, page: Any, complaints: list[str]) -> None:
        self.page = page
        self.complaints = complaints

    @property
    def num_answers(self) -> int:
        return int(self.page.evaluate("document.body.dataset.answers || 0"))

    def after(self, act: Callable[[], Any]) -> None:
        """Do something and wait until the page rests on a new answer."""
        before = self.num_answers
        act()
        self.wait(lambda: self.num_answers > before)
        self.wait(self._rests)

    def _rests(self) -> bool:
        count = self.num_answers
        time.sleep(0.3)
        return self.num_answers == count

    def wait(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not reached():
            assert time.monotonic() < deadline, f"never came: {self.page.inner_text('#results')}"
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def number(self, identifier: str) -> float:
        return float(self.text(f"#{identifier}").replace("−", "-"))

    def pixels(self, picture: str) -> list[int]:
        return self.page.evaluate(PIXELS, picture)

    def knob(self, name: str, kind: str) -> Any:
        return self.page.locator(f'.knob[data-knob="{name}"] input[type={kind}]')


@pytest.fixture(scope="module")
def address_of(start_playing) -> Callable[[str], str]:
    """Return a function that gives the address of the page of one system, served until the tests here are done."""
    return cache(lambda name: start_playing(name)[1])


@pytest.fixture(scope="module")  # not longer: while it is open nobody else in the process can use an event loop
def browser(browser_path) -> Iterator[Any]:
    """Return a browser without a page."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=browser_path, args=_ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def window(address_of, browser) -> Iterator[Callable[..., Window]]:
    """Return a function that opens the page of a run; at the end nothing was complained of, nothing asked elsewhere."""
    complaints: list[str] = []
    asked: set[str] = set()
    addresses: set[str] = set()
    pages: list[Any] = []

    def opened(name: str = "poisson", width: int = 1280, *, at: str | None = None, **settings: Any) -> Window:
        address = at or address_of(name)
        addresses.add(address)
        page = browser.new_page(viewport={"width": width, "height": 900}, **settings)  # in a context of its own
        pages.append(page)
        page.on("request", lambda request: asked.add(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        new = Window(page, complaints)
        new.wait(lambda: new.num_answers > 0)
        return new

    yield opened
    for page in pages:
        page.close()
    ours = "Multiple readback operations using getImageData"  # of `pixels`, not of the page
    assert [text for text in complaints if ours not in text] == []
    assert asked
    assert all(url.startswith(tuple(addresses)) for url in asked)
