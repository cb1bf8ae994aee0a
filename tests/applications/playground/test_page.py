"""The page in a real browser, on a real server: what it shows is what Python says."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch

from scifm.evaluation.pointwise import max_error, relative_l2

pytestmark = pytest.mark.browser


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def assert_agrees(window: Any, playground: Any, values: dict[str, float], forcing: torch.Tensor) -> None:
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


@pytest.mark.parametrize("name", ["poisson", "advection_diffusion", pytest.param("helmholtz", marks=pytest.mark.slow)])
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
    assert "1 dab" in page.text("#origin")
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
    assert int(page.text("#origin").partition("(")[2].split()[0]) > 5
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
