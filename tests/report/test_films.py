"""Frames of a forecast on the page of a run: what is read, how it is drawn, what the slider does."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest

from scifm.errors import RunError
from scifm.findings.frames import ForecastFrames
from scifm.report.films import film_of, read_frames
from scifm.report.forecasts import ForecastRecord, drift_figure, forecast_figure, spectra_figure
from scifm.report.page import page

_ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]


def arrays(*, count=5, channels=("height",), points=(12, 16), seed=0) -> dict:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(count, len(channels), *points)).astype(np.float32)
    return {
        "truth": truth,
        "prediction": truth + 0.1 * rng.normal(size=truth.shape).astype(np.float32),
        "steps": np.array([1, 3, 5, 7, 10][:count]),
        "times": 0.25 * np.array([1, 3, 5, 7, 10][:count]),
        "errors": np.linspace(0.1, 0.2, count),
        "channels": np.array(channels),
        "extent": np.array([1.5, 2.0][-len(points) :]),
        "x": np.arange(points[-1]) * 2.0 / points[-1],
        "num_points": np.array(points),
        "sample": np.array(3),
        "num_steps": np.array(10),
    }


def frames_of(tmp_path, **changes) -> ForecastFrames:
    np.savez(tmp_path / "frames.npz", **changes)
    found = read_frames(tmp_path / "frames.npz")
    assert found is not None
    return found


def record(**more) -> dict:
    """A record as the first version of `scifm rollout` wrote it, and what else is given."""
    times, curve = [0.25 * step for step in range(1, 11)], [0.01 * step for step in range(1, 11)]
    return {
        "origin": {"system": {"name": "heat", "knobs": {}}, "seed": 0},
        "steps": 10, "num_lost": 0, "num_samples": 8, "times": times,
        "errors": {"relative_l2": curve, "spectral_low": curve},
        "low": [0.5 * value for value in curve], "high": [2 * value for value in curve],
        "baselines": {"persistence": {"relative_l2": [5 * value for value in curve]}},
        "drifts": {"mass": curve}, "own_drifts": {"mass": [1e-7] * 10}, **more,
    }  # fmt: skip


def spectra() -> list[dict]:
    falling = [10.0 ** -(2 * shell) for shell in range(9)]
    spread = {"mean": falling, "low": [0.5 * value for value in falling], "high": [2 * value for value in falling]}
    return [
        {"channel": "height", "step": step, "time": 0.25 * step, "model": spread, "truth": spread}
        for step in (1, 5, 10)
    ]


def keep(folder, *, entries=None, frames=None) -> None:
    (folder / "forecasts").mkdir()
    (folder / "forecasts" / "forecast-00000000.json").write_text(json.dumps(record() if entries is None else entries))
    if frames is not None:
        np.savez(folder / "forecasts" / "forecast-00000000.npz", **frames)


# --- what is read -----------------------------------------------------------------------------------------------------


def test_no_file_is_no_film(tmp_path):
    assert read_frames(tmp_path / "none.npz") is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"truth": None}, "no array 'truth'"),
        ({"prediction": np.zeros((5, 1, 12, 15), np.float32)}, "do not fit"),
        ({"times": np.zeros(4)}, "do not fit"),
        ({"channels": np.array(["a", "b"])}, "do not fit"),
        ({"extent": np.array([1.0, 0.0])}, "do not fit"),
        ({"truth": np.full((5, 1, 12, 16), np.nan, np.float32)}, "do not fit"),
        ({"truth": np.zeros((5, 1, 12, 16), int)}, "do not fit"),
        ({"truth": np.array([{}], dtype=object)}, "not a whole .npz file"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, change, says):
    entries = {name: value for name, value in (arrays() | change).items() if value is not None}
    np.savez(tmp_path / "frames.npz", **entries)
    with pytest.raises(RunError, match=says):
        read_frames(tmp_path / "frames.npz")


def test_half_a_file_is_told(tmp_path):
    np.savez(tmp_path / "frames.npz", **arrays())
    content = (tmp_path / "frames.npz").read_bytes()
    (tmp_path / "frames.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=r"frames\.npz.*not a whole \.npz file"):
        read_frames(tmp_path / "frames.npz")


# --- how it is drawn --------------------------------------------------------------------------------------------------


def pictures(markup: str) -> list[np.ndarray]:
    """The pixels of every picture, as shares of red, green and blue."""
    image = pytest.importorskip("matplotlib.image")
    found = re.findall(r'href="data:image/png;base64,([^"]+)"', markup)
    return [image.imread(io.BytesIO(base64.b64decode(text)))[..., :3] for text in found]


def test_a_strip_holds_every_frame_with_y_upwards_in_one_scale(tmp_path):
    from matplotlib import colormaps

    entries = arrays()
    film = film_of(frames_of(tmp_path, **entries), 8)
    ((name, live, last, _),) = film.channels
    assert name == "height"
    truth, prediction, error = pictures(live)
    assert truth.shape == prediction.shape == error.shape == (5 * 12, 16, 3)
    field = entries["truth"][:, 0].astype(float)
    both = np.stack([field, entries["prediction"][:, 0].astype(float)])
    low, high = both.min(), both.max()
    for picture, own in zip((truth, prediction), both, strict=True):
        expected = colormaps["viridis"]((own[:, ::-1] - low) / (high - low))[..., :3].reshape(60, 16, 3)
        assert np.abs(picture - expected).max() < 0.03  # a neighbouring color
    assert pictures(last) == []  # the same pictures, pointed at
    assert 'viewBox="0 48 16 12"' in last
    assert film.labels[1] == "step 3 of 10, lead time 0.75, relative L2 error 0.125"
    assert "trajectory 4 of 8, the one whose error is the median" in film.caption


def test_a_lost_forecast_is_gray_and_said(tmp_path):
    entries = arrays()
    entries["prediction"][3:] = np.nan
    entries["errors"][3:] = np.nan
    film = film_of(frames_of(tmp_path, **entries), 8)
    _, prediction, error = pictures(film.channels[0][1])
    assert np.ptp(prediction[36:]) == np.ptp(error[36:]) == 0
    assert np.ptp(prediction[:36]) > 0.5
    assert "gray: the forecast is lost" in film.caption
    assert film.labels[4] == "step 10 of 10, lead time 2.5, lost: it left every bound"


def test_a_forecast_on_its_way_to_infinity_leaves_the_truth_its_colors(tmp_path):
    entries = arrays()
    calm = pictures(film_of(frames_of(tmp_path, **entries), 8).channels[0][1])[0]
    assert "beyond a scale" not in film_of(frames_of(tmp_path, **entries), 8).caption
    entries["prediction"] = (1e6 * entries["prediction"]).astype(np.float32)
    film = film_of(frames_of(tmp_path, **entries), 8)
    wild = pictures(film.channels[0][1])[0]
    assert "What lies beyond a scale is drawn at its end." in film.caption
    assert len(np.unique(wild.reshape(-1, 3), axis=0)) > 0.4 * len(np.unique(calm.reshape(-1, 3), axis=0))


def test_fields_of_a_line_are_curves_broken_where_they_are_lost(tmp_path):
    entries = arrays(points=(16,))
    entries["prediction"][2, 0, 5] = np.nan
    _, live, last, beneath = film_of(frames_of(tmp_path, **entries), 8).channels[0]
    assert len(re.findall(r'<g class="frame( off)?"', live)) == 2 * 5
    assert len(re.findall(r'<g class="frame"', live)) == 2
    assert live.count("<path d=") == 2 + 5 * 3 + 2  # axes, three curves a frame, and the two that are broken
    assert len(re.findall(r'<g class="frame"', last)) == 2
    assert all(word in beneath for word in ("truth", "prediction", "error"))


def test_a_plane_and_what_is_not_shown_are_said(tmp_path):
    more = {"plane": np.array("z = 0.5"), "left_out": np.array(["pressure"]), "num_points": np.array([8, 12, 16])}
    caption = film_of(frames_of(tmp_path, **(arrays() | more)), 8).caption
    assert "Of 8 × 12 × 16 points the plane z = 0.5 is shown." in caption
    assert caption.endswith("Not shown: pressure.")
    fine = film_of(frames_of(tmp_path, **(arrays() | {"num_points": np.array([24, 32])})), 8).caption
    assert fine.endswith("The 24 × 32 points are averaged to 12 × 16.")


def test_spectra_and_drifts_have_their_intervals():
    ranges = {"drift_ranges": {"mass": {"low": [0.001] * 10, "high": [1.0] * 10}}}
    told = ForecastRecord.model_validate(record(spectra=spectra(), **ranges))
    figure = spectra_figure(told)
    assert [panel.title for panel in figure.panels] == [f"step {n}, time {0.25 * n:g}" for n in (1, 5, 10)]
    model = figure.panels[0].series[0]
    assert model.y[:2] == (1.0, 0.01)
    assert model.y[6:] == (1e-12, None, None)  # rounding has no place
    drift = drift_figure(told).panels[0]
    assert drift.series[0].high == (1.0,) * 10
    assert [(own.label, bool(own.low), own.line) for own in drift.series] == [
        ("model", True, "solid"), ("solver", False, "dashed"),
    ]  # fmt: skip
    assert len(forecast_figure(told).panels) == 2


# --- on the page ------------------------------------------------------------------------------------------------------


def test_a_record_of_before_is_shown_without_frames(run_folder):
    keep(run_folder)
    text = page(run_folder).read_text()
    assert "Forecasts: how far ahead" in text
    assert "figure-drift-0" in text
    assert 'class="film"' not in text
    assert "Energy by wavenumber" not in text


def test_the_page_holds_the_first_and_the_last_frame_without_scripts(run_folder):
    keep(run_folder, frames=arrays(channels=("height", "speed")), entries=record(spectra=spectra()))
    text = page(run_folder).read_text()
    assert text.count("step 1 of 10, lead time 0.25") == 1 + 1  # shown, and among the labels of the slider
    assert text.count("step 10 of 10, lead time 2.5, relative L2 error 0.200</p>") == 2
    assert '<div class="player" hidden>' in text
    assert text.count("<script") == 1
    assert re.findall(r"Figure (\d+)\.", text) == ["1", "2", "3", "4", "5", "6"]
    assert text.index('id="figure-forecast-0"') < text.index('class="film"') < text.index('id="figure-spectra-0"')


def test_frames_of_the_largest_kind_keep_the_page_below_a_mebibyte_and_a_half(run_folder):
    bare = len(page(run_folder).read_bytes())
    count = 12
    large = arrays(count=5, channels=("a", "b", "c"), points=(96, 96))
    for name in ("truth", "prediction"):
        large[name] = np.tile(large[name], (3, 1, 1, 1))[:count]
    large |= {name: np.arange(1, count + 1) / 1.0 for name in ("times", "errors")}
    keep(run_folder, frames=large | {"steps": np.arange(1, count + 1)})
    assert len(page(run_folder).read_bytes()) - bare < 1.5 * 2**20


SHOWN = """() => { const all = what => [...document.querySelectorAll('.film .moment:not(.last) ' + what)];
    return all('.shot[data-high]').map(shot => shot.getAttribute('viewBox')).concat(all('.frames').map(
        lines => String([...lines.children].findIndex(line => !line.classList.contains('off'))))); }"""
"""What every picture or panel of a film shows."""


@pytest.fixture
def tab(run_folder, browser_path):
    """Return a function that opens the page of a run with a forecast."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    complaints: list[str] = []
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=browser_path, args=_ARGUMENTS)

        def opened(frames, width=1280, **settings):
            keep(run_folder, frames=frames, entries=record(spectra=spectra()))
            new = browser.new_page(viewport={"width": width, "height": 900}, **settings)
            new.on("console", lambda message: complaints.append(message.text))
            new.on("pageerror", lambda error: complaints.append(str(error)))
            new.goto(page(run_folder).resolve().as_uri())
            return new

        yield opened
        browser.close()
    assert complaints == []


@pytest.mark.browser
@pytest.mark.parametrize("points", [(12, 16), (16,)], ids=["plane", "line"])
def test_the_slider_moves_all_pictures_by_keys_and_plays(tab, points):
    window = tab(arrays(points=points), width=420)
    slider, button, when = (window.locator(f"figure.film {part}") for part in ("input", ".play", ".when >> nth=0"))

    def shown() -> list[str]:
        return window.evaluate(SHOWN)

    def expected(frame: int) -> list[str]:
        return [f"0 {12 * frame} 16 12"] * 3 if len(points) == 2 else [str(frame)] * 2

    assert shown() == expected(0)
    assert not window.locator(".moment.last").is_visible()
    slider.focus()
    window.keyboard.press("ArrowRight")
    window.keyboard.press("ArrowRight")
    assert shown() == expected(2)
    assert when.inner_text() == "step 5 of 10, lead time 1.25, relative L2 error 0.150"
    assert slider.get_attribute("aria-valuetext") == when.inner_text()
    window.keyboard.press("End")
    assert shown() == expected(4)
    window.keyboard.press("Space")  # from the start, to the end, and there it rests
    assert button.inner_text() == "Pause"
    window.wait_for_timeout(250)
    assert shown() != expected(4)
    window.wait_for_timeout(1500)
    assert (shown(), button.inner_text()) == (expected(4), "Play")
    button.click()
    button.click()
    assert button.inner_text() == "Play"
    assert window.evaluate("document.documentElement.scrollWidth") == 420


@pytest.mark.browser
def test_nothing_plays_where_motion_is_not_wanted(tab):
    window = tab(arrays(), reduced_motion="reduce")
    assert not window.locator("figure.film .play").is_visible()
    window.locator("figure.film input").press("Space")
    window.wait_for_timeout(400)
    assert window.locator("figure.film input").input_value() == "0"
    window.locator("figure.film input").press("ArrowRight")
    assert window.locator("figure.film input").input_value() == "1"


@pytest.mark.browser
def test_without_scripts_both_ends_are_there(tab):
    window = tab(arrays(), java_script_enabled=False)
    assert not window.locator(".player").is_visible()
    assert [text[:15] for text in window.locator("figure.film .when").all_inner_texts()] == [
        "step 1 of 10, l", "step 10 of 10, ",
    ]  # fmt: skip
    assert all(shot.is_visible() for shot in window.locator("figure.film .shot").all())
