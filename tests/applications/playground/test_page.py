"""The page in a real browser, on a real server: what it shows is what Python says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from scifm.evaluation.pointwise import max_error, relative_l2

pytestmark = pytest.mark.browser

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


@pytest.fixture
def window(address_of, browser_path) -> Iterator[Callable[..., Window]]:
    """Return a function that opens the page of a run; at the end nothing was complained of, nothing asked elsewhere."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    complaints: list[str] = []
    asked: set[str] = set()
    addresses: set[str] = set()
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=browser_path, args=_ARGUMENTS)

        def opened(name: str = "poisson", width: int = 1280, *, at: str | None = None, **settings: Any) -> Window:
            address = at or address_of(name)
            addresses.add(address)
            page = browser.new_page(viewport={"width": width, "height": 900}, **settings)
            page.on("request", lambda request: asked.add(request.url))
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(address)
            new = Window(page, complaints)
            new.wait(lambda: new.num_answers > 0)
            return new

        yield opened
        browser.close()
    ours = "Multiple readback operations using getImageData"  # of `pixels`, not of the page
    assert [text for text in complaints if ours not in text] == []
    assert asked
    assert all(url.startswith(tuple(addresses)) for url in asked)


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def assert_agrees(window: Window, playground: Any, values: dict[str, float], forcing: torch.Tensor) -> None:
    """Compare the numbers shown with those of the Python interface, to the digits shown."""
    played = playground.systems[0]
    grid = playground.grid(window.page.input_value("#points"))
    batch, _ = played.pose(forcing, values, grid)
    prediction = playground.operator.predict(batch).require_targets()
    reference = played.system.solve(batch).require_targets()
    assert window.number("relative-l2") == pytest.approx(rounded(float(relative_l2(prediction, reference))), rel=2e-4)
    assert window.number("max-error") == pytest.approx(rounded(float(max_error(prediction, reference))), rel=2e-4)


def test_a_knob_moves_the_picture_and_the_numbers_are_those_of_python(window, playgrounds):
    page, playground = window(), playgrounds["poisson"]
    played = playground.systems[0]
    forcing = played.draw_forcing(playground.grid("16"), 0)
    values = {dial.name: dial.start for dial in played.dials}
    assert_agrees(page, playground, values, forcing)
    before = {name: page.pixels(name) for name in ("forcing", "reference", "prediction", "error")}
    page.after(lambda: page.knob("anisotropy", "number").fill("4.5"))
    assert_agrees(page, playground, {**values, "anisotropy": 4.5}, forcing)
    after = {name: page.pixels(name) for name in before}
    assert [name for name in before if before[name] != after[name]] == ["reference", "prediction", "error"]
    assert "All knobs inside" in page.text("#where")
    page.after(lambda: page.knob("anisotropy", "range").press("End"))
    assert_agrees(page, playground, {**values, "anisotropy": 10.0}, forcing)
    assert page.knob("anisotropy", "number").input_value() == "10"
    assert "Outside the trained range: anisotropy" in page.text("#where")
    assert "▲ outside the trained range, 1 to 5" in page.text('.knob[data-knob="anisotropy"]')
    assert "outside" in page.knob("anisotropy", "range").get_attribute("aria-valuetext")


def test_the_picture_is_the_field_with_y_upwards(window, playgrounds):
    from matplotlib import colormaps

    page, playground = window(), playgrounds["poisson"]
    forcing = playground.systems[0].draw_forcing(playground.grid("16"), 0).double().numpy()
    shares = (forcing - forcing.min()) / (forcing.max() - forcing.min())
    index = np.minimum(255, np.floor(256 * shares)).astype(int)
    expected = colormaps["cividis"](index, bytes=True)[::-1]
    width, height, *pixels = page.pixels("forcing")
    assert np.abs(np.array(pixels).reshape(height, width, 4) - expected.astype(int)).max() <= 6  # a neighbouring color


def painted(playground: Any, x: float, y: float, size: float, height: float) -> torch.Tensor:
    """A dab as Python would paint it: a periodic Gaussian."""
    grid = playground.grid("16")
    along = [
        sum(torch.exp(-0.5 * ((points - center + turn) / size) ** 2) for turn in (-1, 0, 1))
        for points, center in zip(grid.coordinates(), (y, x), strict=True)
    ]
    return height * along[0][:, None] * along[1]


@pytest.mark.parametrize("name", ["poisson", "advection_diffusion", "helmholtz"])
def test_painting_changes_the_answer_to_that_of_python(window, playgrounds, name):
    page, playground = window(name), playgrounds[name]
    values = {dial.name: dial.start for dial in playground.systems[0].dials}
    page.page.click("#clear")
    page.wait(lambda: "zero everywhere" in page.text("#error"))
    assert page.text("#relative-l2") == "–"
    assert ["400 (Bad Request)" in text for text in page.complaints] == [True]
    page.complaints.clear()
    canvas = page.page.locator("#picture-forcing canvas.field")
    box = canvas.bounding_box()
    x, y = (round(box["x"] + 0.3 * box["width"]), round(box["y"] + 0.4 * box["height"]))
    page.after(lambda: page.page.mouse.click(x, y))
    assert not page.page.locator("#error").is_visible()
    share = ((x - box["x"]) / box["width"], 1 - (y - box["y"]) / box["height"])
    first = painted(playground, *share, 0.05, 0.5)
    assert_agrees(page, playground, values, first)
    assert "1 dab" in page.text("#forcing-origin")
    # And by the keyboard: twenty steps to the right, a sink.
    page.page.check("input[name=sign][value='-1']")
    canvas.focus()
    for _ in range(20):
        canvas.press("ArrowRight")
    page.after(lambda: canvas.press(" "))
    second = first + painted(playground, (share[0] + 0.4) % 1, share[1], 0.05, -0.5)
    assert_agrees(page, playground, values, second)


def test_a_drag_paints_a_line_and_redraw_forgets_it(window, playgrounds):
    page = window()
    box = page.page.locator("#picture-forcing canvas.field").bounding_box()

    def drag() -> None:
        page.page.mouse.move(box["x"] + 30, box["y"] + 30)
        page.page.mouse.down()
        page.page.mouse.move(box["x"] + 200, box["y"] + 30, steps=30)
        page.page.mouse.up()

    page.after(drag)
    assert int(page.text("#forcing-origin").partition("(")[2].split()[0]) > 5
    assert "its mean" in page.text("#notes") or "zero mean" in page.text("#notes")
    page.after(lambda: page.page.click("#redraw"))
    assert page.page.input_value("#seed") == "1"
    playground = playgrounds["poisson"]
    played = playground.systems[0]
    forcing = played.draw_forcing(playground.grid("16"), 1)
    assert_agrees(page, playground, {dial.name: dial.start for dial in played.dials}, forcing)


def test_another_grid_keeps_the_painting_and_is_marked(window, playgrounds):
    page, playground = window(), playgrounds["poisson"]
    assert "✓ the grid trained on" in page.text("#points-where")
    page.after(lambda: page.page.select_option("#points", "64"))
    assert page.pixels("prediction")[:2] == [64, 64]
    assert "trained on 16" in page.text("#points-where")
    played = playground.systems[0]
    forcing = played.draw_forcing(playground.grid("64"), 0)
    assert_agrees(page, playground, {dial.name: dial.start for dial in played.dials}, forcing)


def test_a_number_beyond_the_slider_is_marked_and_not_asked(window):
    page = window()
    count = page.num_answers
    field = page.knob("anisotropy", "number")
    field.fill("0.5")
    assert field.get_attribute("aria-invalid") == "true"
    time.sleep(0.3)
    assert page.num_answers == count
    field.blur()
    assert field.input_value() == "3"


def test_only_the_newest_of_many_changes_is_asked(window):
    page = window()
    before = page.num_answers
    page.after(
        lambda: page.page.evaluate(
            """() => { const s = document.querySelector('.knob input[type=range]');
                for (let i = 0; i < 100; i++) { s.value = i; s.dispatchEvent(new Event('input')); } }"""
        )
    )
    assert page.num_answers - before <= 2
    assert page.knob("anisotropy", "number").input_value() == "5.95"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light")])
def test_it_fits_the_window_and_every_control_has_a_name(window, width, scheme):
    page = window("advection_diffusion", width, color_scheme=scheme)
    assert page.page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
    nameless = page.page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, canvas')].filter(c =>
            !(c.labels?.length || c.getAttribute('aria-label') || c.textContent.trim() || c.ariaHidden))
            .map(c => c.outerHTML)"""
    )
    assert nameless == []
    dark = page.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(26, 28, 32)"
    assert dark is (scheme == "dark")


def test_when_the_server_is_gone_the_page_says_so(window, start_playing):
    process, address = start_playing("poisson")
    page = window(at=address)
    process.kill()
    process.communicate(timeout=20)
    page.knob("anisotropy", "range").press("ArrowRight")
    page.wait(lambda: "is 'scifm play' still running" in page.text("#error"))
    assert ["ERR_CONNECTION_REFUSED" in text for text in page.complaints] == [True]
    page.complaints.clear()
