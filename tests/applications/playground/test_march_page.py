"""The page of an evolving run in a real browser: a march is what Python says, and what was changed is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.browser


def posed(playgrounds, name: str) -> tuple[Any, Any, Any, dict[str, float]]:
    playground = playgrounds[name]
    played = playground.systems[0]
    values = {dial.name: dial.start for dial in played.dials}
    return playground, played, playground.grids[playground.trained_points], values


def test_the_slider_goes_through_a_march_and_the_numbers_are_those_of_python(window, playgrounds):
    from matplotlib import colormaps

    page = window("navier_stokes")
    playground, played, grid, values = posed(playgrounds, "navier_stokes")
    made = played.march(playground.operator, played.draw_state(grid, 0, values), values, grid, 20)
    assert "Step 1 of 20, lead time 0.25" in page.text("#when")
    reference = made.reference[:, 0].numpy()
    # the truth's range, widened for the prediction by no more than a half of it
    low, high = reference.min(), reference.max()
    room = (high - low) / 2
    least, most = float(made.prediction.min()), float(made.prediction.max())
    low, high = max(min(low, least), low - room), min(max(high, most), high + room)
    for step in (0, 7, 19):
        page.page.locator("#step").fill(str(step))
        assert page.number("relative-l2") == pytest.approx(made.errors[step], rel=1e-3)
        shown = np.array(page.pixels("reference")[2:]).reshape(16, 16, 4)
        index = np.clip(np.floor(256 * (reference[step] - low) / (high - low)), 0, 255).astype(int)
        near = colormaps["viridis"](index, bytes=True)[::-1].astype(int)
        assert np.abs(shown - near).max() <= 6  # a neighbouring color
    assert page.number("last-error") == pytest.approx(made.errors[-1], rel=1e-3)
    page.page.locator("#step").press("ArrowLeft")
    assert "Step 19 of 20" in page.text("#when")
    page.page.locator("#step").press("Space")
    assert page.text("#play") == "Pause"
    page.wait(lambda: page.text("#play") == "Play")
    assert "Step 20 of 20" in page.text("#when")


def test_what_is_painted_is_marched_when_it_is_asked_for(window, playgrounds):
    page = window("burgers")
    playground, played, grid, values = posed(playgrounds, "burgers")
    before = page.num_answers
    place = page.page.locator("#picture-state .field")
    box = place.bounding_box()
    place.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    assert "painted (1 dab): not a state of the training" in page.text("#origin")
    assert "Changed since the last march" in page.text("#state-of-things")
    assert page.num_answers == before
    page.after(lambda: page.page.click("#march"))
    state = played.draw_state(grid, 0, values)
    reach = float(state.max() - state.min()) / 2
    x = torch.arange(64) / 64
    painted = state + reach / 2 * torch.exp(-0.5 * ((x - 0.5) / 0.05) ** 2)
    made = played.march(playground.operator, painted, values, grid, 20)
    assert page.number("last-error") == pytest.approx(made.errors[-1], rel=5e-2)
    assert page.text("#state-of-things") == ""
    assert "takes 2 frames" in page.text("#notes")


def test_a_knob_waits_for_the_march_and_says_that_it_is_outside(window, playgrounds):
    page = window("burgers")
    playground, played, grid, values = posed(playgrounds, "burgers")
    page.knob("viscosity", "range").press("End")
    page.wait(lambda: "press March" in page.text("#state-of-things"))
    page.page.wait_for_timeout(500)  # the start is drawn anew
    page.after(lambda: page.page.click("#march"))
    assert "Outside the trained range: viscosity. The network extrapolates." in page.text("#where")
    values["viscosity"] = played.dials[0].high
    made = played.march(playground.operator, played.draw_state(grid, 0, values), values, grid, 20)
    assert page.number("last-error") == pytest.approx(made.errors[-1], rel=1e-3)


def test_a_flat_state_is_refused_in_words_and_another_grid_is_marched_at_once(window):
    page = window("navier_stokes")
    page.page.click("#clear")
    page.wait(lambda: "Flat: every field at its mean" in page.text("#origin"))
    page.page.wait_for_timeout(500)
    page.page.click("#march")
    page.wait(lambda: "same everywhere" in page.text("#error"))
    page.page.locator("#seed").fill("3")
    page.after(lambda: page.page.select_option("#points", "32"))
    assert "trained on 16" in page.text("#points-where")
    assert not page.page.locator("#error").is_visible()
    page.complaints[:] = [text for text in page.complaints if "400 (Bad Request)" not in text]  # the refusal itself


@pytest.mark.parametrize("name", ["navier_stokes", "burgers"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (420, "dark")])
def test_it_fits_the_window_and_every_control_has_a_name(window, name, width, scheme):
    page = window(name, width, color_scheme=scheme, reduced_motion="reduce")
    assert page.page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
    nameless = page.page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, canvas, svg.field')].filter(c =>
            !(c.labels?.length || c.getAttribute('aria-label') || c.textContent.trim() || c.ariaHidden))
            .map(c => c.outerHTML)"""
    )
    assert nameless == []
    assert not page.page.locator("#play").is_visible()
