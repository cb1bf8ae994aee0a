"""Fields for a paper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scifm.findings.frames import ForecastFrames
from scifm.report.fields import Examples
from scifm.report.films import space_time_of
from scifm.report.paper import write_paper
from scifm.report.parts import Page
from scifm.report.plates import draw_plate, plates_of_examples, plates_of_frames

RNG = np.random.default_rng(0)


def frames(*space, extent, lost_from=None):
    truth = RNG.standard_normal((5, 2, *space)).astype(np.float32)
    answer = truth + 0.1
    if lost_from is not None:
        answer[lost_from:] = np.nan
    return ForecastFrames(
        truth=truth, prediction=answer, steps=(1, 2, 3, 4, 5), times=(0.5, 1.0, 1.5, 2.0, 2.5), errors=(0.1,) * 5,
        channels=("depth", "velocity_x"), extent=extent, x=tuple(np.arange(space[-1]) / space[-1]),
        num_points=space, sample=0, num_steps=5,
    )  # fmt: skip


def examples():
    fields = RNG.standard_normal((4, 2, 6, 8))
    answers = {"zero_shot": fields[2], "few_shot": fields[3]}
    return Examples(fields[0], fields[1], answers, {}, {}, None, (), (1.5, 2.0))


def test_a_forecast_is_a_plate_for_each_channel_at_a_few_times():
    given = frames(6, 8, extent=(1.5, 2.0))
    plates = plates_of_frames(given, "Of trajectory 1.")
    assert list(plates) == ["frames-depth", "frames-velocity_x"]
    plate = plates["frames-velocity_x"]
    assert plate.left == ("t = 0.5", "t = 1.5", "t = 2.5")
    assert plate.caption == "velocity x. Of trajectory 1."
    for row, frame in zip(plate.rows, (0, 2, 4), strict=True):
        truth, answer, error = row
        np.testing.assert_array_equal(truth.values, given.truth[frame, 1])
        np.testing.assert_allclose(error.values, answer.values - truth.values)
        assert truth.limits == answer.limits
        assert error.limits[0] == -error.limits[1]


def test_on_a_line_truth_and_prediction_share_their_axes():
    plate = plates_of_frames(frames(16, extent=(1.0,), lost_from=2), "")["frames-depth"]
    both, error = plate.rows[0]
    assert both.values.shape == (2, 16)
    axes = draw_plate(plate).axes
    assert len(axes) == 6
    np.testing.assert_allclose(axes[1].lines[0].get_ydata(), error.values)
    low, high = both.limits
    assert axes[0].get_ylim() == pytest.approx((low - 0.05 * (high - low), high + 0.05 * (high - low)))


def test_a_forecast_on_a_line_is_a_map_over_space_and_time():
    given = frames(16, extent=(1.5,), lost_from=4)
    maps = space_time_of(given, 1)
    assert [name for name, _ in maps.channels] == ["depth", "velocity x"]
    assert "of the one trajectory" in maps.caption
    assert "the forecast is lost" in maps.caption
    plate = plates_of_frames(given, "", maps)["space-time-velocity_x"]
    truth, answer, error = plate.rows[0]
    np.testing.assert_array_equal(truth.values, given.truth[:, 1].T)
    np.testing.assert_allclose(error.values, answer.values - truth.values)
    assert truth.limits == answer.limits
    assert error.limits[0] == -error.limits[1]
    assert (plate.starts, plate.extent) == ((0.0, 0.25), (1.5, 2.5))
    axes = draw_plate(plate).axes[:3]
    assert [own.images[0].get_extent() for own in axes] == [[0.25, 2.75, 0.0, 1.5]] * 3
    assert (axes[0].get_xlabel(), axes[0].get_ylabel()) == ("t", "x")
    assert space_time_of(frames(6, 8, extent=(1.5, 2.0)), 1) is None, "a plane has no such map"
    assert space_time_of(given.few(3), 1) is None, "too few frames to see anything"


def test_frames_of_uneven_times_stand_where_they_belong():
    given = replace(frames(16, extent=(1.0,)), times=(1.0, 2.0, 3.0, 4.0, 9.0))
    truth, _, ends = given.over_time(0)
    assert ends == (0.0, 10.0)
    np.testing.assert_array_equal(truth, given.truth[[0, 2, 3, 4, 4], 0].T)
    few = given.few(3)
    assert (few.steps, few.times) == ((1, 3, 5), (1.0, 3.0, 9.0))


def test_an_example_shows_each_answer_over_its_error():
    (plate,) = plates_of_examples(examples(), 1).values()
    above, beneath = plate.rows
    assert [picture.title for picture in above] == ["asked", "truth", "zero-shot", "fine-tuned"]
    assert beneath[:2] == (None, None)
    np.testing.assert_allclose(beneath[3].values, above[3].values - above[1].values)
    images = [own for axes in draw_plate(plate).axes for own in axes.images]
    assert len(images) == 6
    assert {image.get_extent()[1] for image in images} == {2.0}
    assert all(image.origin == "lower" for image in images)
    assert plates_of_examples(None, 3) == {}


@pytest.mark.parametrize(
    "plates",
    [
        lambda: plates_of_frames(frames(6, 8, extent=(1.5, 2.0), lost_from=3), "A forecast."),
        lambda: plates_of_frames(frames(16, extent=(1.0,)), "A forecast."),
        lambda: plates_of_examples(examples(), 2),
    ],
)
def test_plates_are_files_that_stand_alone(tmp_path, plates):
    made = plates()
    files = write_paper(Page("", {}, {}, made), tmp_path)
    assert {file.name for file in files} == {f"{name}.{form}" for name in made for form in ("pdf", "svg")} | {
        "captions.txt"
    }
    for name, plate in made.items():
        assert f"{name}: {plate.caption}" in (tmp_path / "captions.txt").read_text()
        assert b"/Type3" not in (tmp_path / f"{name}.pdf").read_bytes()
    again = {file.name: file.read_bytes() for file in files}
    write_paper(Page("", {}, {}, made), tmp_path)
    assert again == {file.name: file.read_bytes() for file in files}
