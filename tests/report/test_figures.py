"""Figures hold the numbers they claim to, and leave matplotlib as it was."""

from __future__ import annotations

import math
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

from scifm.report.drawing import draw
from scifm.report.examples import Examples
from scifm.report.field_figure import field_svg, fields_side_by_side, sample_error
from scifm.report.gain_figures import error_figure
from scifm.report.records import Curve
from scifm.report.run_figures import adaptation_figure, distribution_figure, training_figure
from scifm.report.study_records import read_study
from scifm.report.study_view import StudyView


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_error_figure_shows_medians_bands_levels_counts_and_gains(study_folder):
    figure = error_figure(StudyView(read_study(study_folder).analysis), "caption")
    (panel,) = figure.panels
    tuned, scratch = panel.series
    assert (tuned.label, tuned.x, tuned.y) == ("fine-tuned", (16, 64, 256), (0.0412, 0.0213, 0.0174))
    assert (scratch.label, scratch.x) == ("from scratch", (16, 64, 256, 1024))
    assert tuned.high[0] == pytest.approx(0.0412 * 1.07)
    assert tuned.singles[0] == pytest.approx((0.93 * 0.0412, 1.07 * 0.0412))
    assert [(rule.label.split(" (")[0], rule.at) for rule in panel.rules] == [
        ("zero-shot", 0.0834),
        ("in distribution", 0.0121),
    ]
    assert (panel.x.scale, panel.y.scale) == ("log", "log")
    assert panel.x.ticks == (16, 64, 256, 1024)
    assert [note.text for note in panel.notes] == ["4.5×", "3.1×", "2.3×"]
    assert all(note.good for note in panel.notes)


def test_without_a_drawable_error_there_is_no_figure(study_folder):
    analysis = read_study(study_folder).analysis
    none = [c.model_copy(update={"points": ()}) for c in analysis.curves if c.kind == "few_shot"]
    assert error_figure(StudyView(analysis.model_copy(update={"curves": tuple(none)})), "caption") is None


def test_fields_share_their_scales(study_folder):
    examples = read_study(study_folder).examples
    figure = fields_side_by_side(examples, 1)
    images = [image for axes in figure.axes for image in axes.images]
    assert len(images) == 8
    (shared,) = {image.get_clim() for image in images if image.get_cmap().name == "viridis"}
    (errors,) = {image.get_clim() for image in images if image.get_cmap().name == "RdBu_r"}
    answers = [examples.truth[1], *(field[1] for field in examples.predictions.values())]
    assert shared == pytest.approx((np.min(answers), np.max(answers)))
    assert errors[0] == -errors[1]
    reach = max(np.abs(answer - answers[0]).max() for answer in answers[1:])
    assert errors[1] == pytest.approx(reach)
    titles = {axes.get_title() for axes in figure.axes}
    assert {"forcing", "truth", "fine-tuned on 64", "rel. L2 error 0.0213", "rel. L2 error 0.0661"} <= titles
    assert any("diffusion_xy = 0.0044" in text for text in texts(figure))


@pytest.mark.parametrize(("shape", "extent"), [((16, 48), (1.0, 3.0)), ((48, 16), (2.0, 0.5)), ((8, 8), (1.0, 1.0))])
def test_panels_have_the_shape_of_the_domain(shape, extent):
    field = np.random.default_rng(0).standard_normal((1, *shape))
    examples = Examples(field, field, {"few_shot": 1.1 * field}, {}, {}, None, (), extent)
    figure = fields_side_by_side(examples, 0)
    for axes in figure.axes:
        if axes.images:
            width, height = axes.get_position().size * figure.get_size_inches()
            assert height / width == pytest.approx(extent[0] / extent[1])
            assert list(axes.images[0].get_extent()) == [0.0, extent[1], 0.0, extent[0]]
    assert sum(text == "not recorded" for text in texts(figure)) == 4


def test_sample_error_is_the_formula_and_never_a_made_up_number():
    truth, answer = np.array([[[3.0, 4.0]]]), np.array([[[3.0, 5.0]]])
    examples = Examples(truth, truth, {"few_shot": answer}, {}, {}, None, (), (1.0, 1.0))
    assert sample_error(examples, "few_shot", 0) == pytest.approx(0.2)
    assert sample_error(examples, "zero_shot", 0) is None
    nothing = Examples(truth, 0 * truth, {"few_shot": answer}, {}, {}, None, (), (1.0, 1.0))
    assert math.isnan(sample_error(nothing, "few_shot", 0))


def test_values_that_are_not_finite_do_not_spoil_the_scale():
    truth = np.linspace(0, 1, 16).reshape(1, 4, 4)
    broken = truth.copy()
    broken[0, 0, 0] = np.inf
    figure = fields_side_by_side(Examples(truth, truth, {"few_shot": broken}, {}, {}, None, (), (1.0, 1.0)), 0)
    limits = {image.get_clim() for axes in figure.axes for image in axes.images if image.get_cmap().name == "viridis"}
    assert limits == {(0.0, 1.0)}
    assert "rel. L2 error not finite" in {axes.get_title() for axes in figure.axes}


def test_training_curves_draw_what_was_logged_and_say_what_was_not():
    figure = training_figure({"": Curve((1, 2, 3), (1.0, 0.5, 0.25))}, "caption")
    loss, validation = figure.panels
    assert loss.series[0].y == (1.0, 0.5, 0.25)
    assert validation.series == ()
    assert "not recorded" in draw(figure).blocks[1].picture
    assert training_figure({"": Curve()}, "caption") is None


def test_many_losses_are_told_by_their_running_median():
    losses = tuple(1.0 if i % 10 else 50.0 for i in range(400))
    smooth, logged = training_figure({"": Curve(tuple(range(400)), losses)}, "caption").panels[0].series
    assert set(smooth.y) == {1.0}
    assert (smooth.label, logged.line) == ("running median of 17", "faint")
    assert len(logged.x) < 200


def test_adaptations_share_one_scale_and_are_told_by_their_number_of_samples(study_folder):
    text = read_study(study_folder)
    runs = {
        kind: [(row["num_samples"], text.curve(row["run"])) for row in text.rows if row["kind"] == kind]
        for kind in ("few_shot", "from_scratch")
    }
    figure = adaptation_figure({"task": runs}, "caption")
    tuned, scratch = figure.panels
    assert (len(tuned.series), len(scratch.series)) == (6, 8)
    assert tuned.y.label == "training loss"
    assert (figure.shared, figure.ordered) == (("y",), True)
    assert [key.label for key in draw(figure).keys] == ["16 samples", "64 samples", "256 samples", "1,024 samples"]


def test_adaptations_show_validation_where_all_have_one():
    with_errors = Curve((1, 2, 3), (0.9, 0.8, 0.7), (1, 3), (0.5, 0.4))
    without = Curve((1, 2, 3), (0.9, 0.8, 0.7))
    panel = adaptation_figure({"t": {"few_shot": [(16, with_errors)]}}, "c").panels[0]
    assert (panel.y.label, panel.series[0].y) == ("relative L2 error, validation", (0.5, 0.4))
    panel = adaptation_figure({"t": {"few_shot": [(16, with_errors), (64, without)]}}, "c").panels[0]
    assert (panel.y.label, panel.series[0].y) == ("training loss", (0.9, 0.8, 0.7))


def test_error_distribution_counts_diverged_samples_as_never_below():
    figure = distribution_figure({"u": [0.1, 0.2, math.nan, math.inf]}, "caption")
    assert max(figure.panels[0].series[0].y) == 0.5
    assert distribution_figure({"u": [math.nan]}, "caption") is None


def test_dollar_signs_are_plain_text_and_bytes_do_not_change():
    field = np.eye(4)[None]
    examples = Examples(field, field, {}, {}, {}, np.ones((1, 1)), ("$x_{",), (1.0, 1.0))
    first, second = (field_svg(examples, 0) for _ in range(2))
    assert first == second
    assert b"prefers-color-scheme:dark" in first


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    field = np.eye(4)[None]
    field_svg(Examples(field, field, {}, {}, {}, None, (), (1.0, 1.0)), 0)
    assert dict(mpl.rcParams) == before


def test_the_room_loads_neither_torch_nor_pyplot():
    code = "import sys, scifm.report.page; print(sorted({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
