"""Figures hold the numbers they claim to, and leave matplotlib as it was."""

from __future__ import annotations

import math
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

from scifm.report.field_figure import fields_side_by_side, sample_error
from scifm.report.figures import adaptation_curves, error_against_samples, error_distribution, training_curves
from scifm.report.records import Curve, Examples, read_study
from scifm.report.style import to_svg
from scifm.report.tables import Group, group_rows


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_error_figure_shows_means_bands_levels_counts_and_gains(study_folder):
    figure = error_against_samples(group_rows(read_study(study_folder).rows))
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_allclose(lines["fine-tuned"].get_ydata(), [0.0412, 0.0213, 0.0174])
    np.testing.assert_array_equal(lines["from scratch"].get_xdata(), [16, 64, 256, 1024])
    assert list(lines["zero-shot, no sample: 0.0834"].get_ydata()) == [0.0834, 0.0834]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert list(axes.get_xticks()) == [16, 64, 256, 1024]
    assert len(axes.collections) == 2
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.0412 * 1.07)
    assert {"4.5×", "3.1×", "2.3×"} <= set(texts(figure))


def test_gain_below_one_is_shown_as_it_is():
    figure = error_against_samples([Group("few_shot", 64, (0.04,)), Group("from_scratch", 64, (0.02,))])
    assert "0.5×" in texts(figure)


def test_labels_of_crowded_counts_do_not_touch():
    groups = [Group(kind, n, (1 / n,)) for kind in ("few_shot", "from_scratch") for n in (10, 11, 12, 5000)]
    figure = error_against_samples(groups)
    assert list(figure.axes[0].get_xticks()) == [10, 5000]
    assert texts(figure).count("1.0×") == 2


def test_without_a_drawable_error_the_figure_is_refused():
    with pytest.raises(ValueError, match="nothing to draw"):
        error_against_samples([Group("few_shot", 16, (math.nan,)), Group("zero_shot", 0, (0.1,))])


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
    curve = Curve("pretrain-1", "pretrain", None, (1, 2, 3), (1.0, 0.5, 0.25), (), ())
    figure = training_curves(curve)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [1.0, 0.5, 0.25])
    assert "not recorded" in texts(figure)


def test_adaptations_share_one_scale(study_folder):
    curves = [curve for curve in read_study(study_folder).curves if curve.kind != "pretrain"]
    tuned, scratch = adaptation_curves(curves).axes
    assert tuned.get_ylim() == scratch.get_ylim()
    assert (len(tuned.lines), len(scratch.lines)) == (6, 8)
    assert tuned.get_ylabel() == "training loss"


def test_adaptations_show_validation_where_there_is_one_and_mark_the_others():
    with_errors = Curve("a", "few_shot", 16, (1, 2, 3), (0.9, 0.8, 0.7), (1, 3), (0.5, 0.4))
    without = Curve("b", "few_shot", 64, (1, 2, 3), (0.9, 0.8, 0.7), (), ())
    tuned, scratch = adaptation_curves([with_errors, without]).axes
    first, second = tuned.lines
    np.testing.assert_array_equal(first.get_ydata(), [0.5, 0.4])
    assert (first.get_linestyle(), second.get_linestyle()) == ("-", "--")
    assert tuned.get_ylabel() == "relative L2 error, validation"
    assert [text.get_text() for text in scratch.texts] == ["not recorded"]


def test_a_history_of_one_point_is_visible():
    tuned, _ = adaptation_curves([Curve("a", "few_shot", 16, (10,), (0.9,), (), ())]).axes
    assert tuned.lines[0].get_marker() == "o"


def test_error_distribution_counts_diverged_samples_as_never_below():
    figure = error_distribution({"u": [0.1, 0.2, math.nan, math.inf]})
    assert figure.axes[0].lines[0].get_ydata().max() == 0.5


def test_dollar_signs_are_plain_text_and_bytes_do_not_change():
    field = np.eye(4)[None]
    examples = Examples(field, field, {}, {}, {}, np.ones((1, 1)), ("$x_{",), (1.0, 1.0))
    first, second = (to_svg(fields_side_by_side(examples, 0)) for _ in range(2))
    assert first == second
    assert b"prefers-color-scheme:dark" in first


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    to_svg(error_against_samples([Group("few_shot", 64, (0.04,))]))
    assert dict(mpl.rcParams) == before


def test_the_room_loads_neither_torch_nor_pyplot():
    code = "import sys, scifm.report.page; print(sorted({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
