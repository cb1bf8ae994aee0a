"""Figures hold the numbers they claim to; color maps leave matplotlib as it was."""

from __future__ import annotations

import base64
import io
import math
import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from scifm.report.drawing import draw
from scifm.report.fields import Examples, field_drawing, scales
from scifm.report.records import Curve
from scifm.report.run_page import distribution_figure, training_figure
from scifm.report.study import Study, read_study
from scifm.report.study_errors import error_figure
from scifm.report.study_figures import adaptation_figure


def words(text: str) -> set[str]:
    return set(re.findall(r"<text [^>]*>([^<]*)</text>", text))


def test_error_figure_shows_medians_bands_levels_counts_and_gains(study_folder):
    figure = error_figure(read_study(study_folder))
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
    assert error_figure(Study(analysis.model_copy(update={"curves": tuple(none)}))) is None


def test_fields_share_their_scales(study_folder):
    examples = read_study(study_folder).examples
    shared, errors = scales(examples, 1)
    answers = [examples.truth[1], *(field[1] for field in examples.predictions.values())]
    assert shared == pytest.approx((np.min(answers), np.max(answers)))
    reach = max(np.abs(answer - answers[0]).max() for answer in answers[1:])
    assert errors == pytest.approx((-reach, reach))
    text = field_drawing(examples, 1, "label")
    assert text.count("<image ") == 8 + 3  # maps and color bars
    assert {"forcing", "truth", "fine-tuned on 64", "rel. L2 error 0.0213", "rel. L2 error 0.0661"} <= words(text)
    assert "diffusion_xy = 0.0044" in words(text)
    assert "example 2" in words(text)


def test_colors_are_those_of_the_values_and_the_first_row_is_at_the_bottom():
    field = np.array([[0.0, 1.0], [2.0, np.nan]])[None]
    examples = Examples(field, field, {}, {}, {}, None, (), (1.0, 1.0))
    address = re.findall(r'href="data:image/png;base64,([^"]+)"', field_drawing(examples, 0, ""))[2]  # truth
    pixels = imread(io.BytesIO(base64.b64decode(address)))
    viridis = colormaps["viridis"]
    for place, color in (((1, 0), viridis(0.0)), ((1, 1), viridis(0.5)), ((0, 0), viridis(1.0)), ((0, 1), (0.6,) * 3)):
        assert pixels[place][:3] == pytest.approx(color[:3], abs=0.01)


@pytest.mark.parametrize(("shape", "extent"), [((16, 48), (1.0, 3.0)), ((48, 16), (2.0, 0.5)), ((8, 8), (1.0, 1.0))])
def test_maps_have_the_shape_of_the_domain(shape, extent):
    field = np.random.default_rng(0).standard_normal((1, *shape))
    text = field_drawing(Examples(field, field, {"few_shot": 1.1 * field}, {}, {}, None, (), extent), 0, "")
    sizes = [tuple(map(float, size)) for size in re.findall(r'width="([\d.]+)" height="([\d.]+)"/?>?', text)]
    maps = [(wide, high) for wide, high in sizes if wide != 9.0]
    assert len(maps) >= 4
    assert all(high / wide == pytest.approx(extent[0] / extent[1], rel=1e-3) for wide, high in maps)
    assert text.count("not recorded") == 4


def test_an_example_that_is_not_there_is_refused():
    field = np.zeros((1, 2, 2))
    with pytest.raises(ValueError, match="There is no example 1; there are 1"):
        field_drawing(Examples(field, field, {}, {}, {}, None, (), (1.0, 1.0)), 1, "")


def test_sample_error_is_the_formula_and_never_a_made_up_number():
    truth, answer = np.array([[[3.0, 4.0]]]), np.array([[[3.0, 5.0]]])
    examples = Examples(truth, truth, {"few_shot": answer}, {}, {}, None, (), (1.0, 1.0))
    assert examples.error("few_shot", 0) == pytest.approx(0.2)
    assert examples.error("zero_shot", 0) is None
    nothing = Examples(truth, 0 * truth, {"few_shot": answer}, {}, {}, None, (), (1.0, 1.0))
    assert math.isnan(nothing.error("few_shot", 0))


def test_values_that_are_not_finite_do_not_spoil_the_scale():
    truth = np.linspace(0, 1, 16).reshape(1, 4, 4)
    broken = truth.copy()
    broken[0, 0, 0] = np.inf
    examples = Examples(truth, truth, {"few_shot": broken}, {}, {}, None, (), (1.0, 1.0))
    assert scales(examples, 0)[0] == (0.0, 1.0)
    assert "rel. L2 error not finite" in words(field_drawing(examples, 0, ""))


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
    figure = adaptation_figure({"task": runs}, num_left_out=2)
    tuned, scratch = figure.panels
    assert (len(tuned.series), len(scratch.series)) == (6, 8)
    assert tuned.y.label == "training loss"
    assert (figure.shared, figure.ordered) == (("y",), True)
    assert "14 adaptations, a line each. Training loss" in figure.caption
    assert figure.caption.endswith("Of 2 further tasks the histories stand in the folders of the runs.")
    assert [key.label for key in draw(figure).keys] == ["16 samples", "64 samples", "256 samples", "1,024 samples"]


def test_adaptations_show_validation_where_all_have_one():
    with_errors = Curve((1, 2, 3), (0.9, 0.8, 0.7), (1, 3), (0.5, 0.4))
    without = Curve((1, 2, 3), (0.9, 0.8, 0.7))
    panel = adaptation_figure({"t": {"few_shot": [(16, with_errors)]}}).panels[0]
    assert (panel.y.label, panel.series[0].y) == ("relative L2 error, validation", (0.5, 0.4))
    panel = adaptation_figure({"t": {"few_shot": [(16, with_errors), (64, without)]}}).panels[0]
    assert (panel.y.label, panel.series[0].y) == ("training loss", (0.9, 0.8, 0.7))


def test_error_distribution_counts_diverged_samples_as_never_below():
    figure = distribution_figure({"u": [0.1, 0.2, math.nan, math.inf]}, "caption")
    assert max(figure.panels[0].series[0].y) == 0.5
    assert distribution_figure({"u": [math.nan]}, "caption") is None


def test_names_are_text_and_bytes_do_not_change():
    field = np.eye(4)[None]
    examples = Examples(field, field, {}, {}, {}, np.ones((1, 1)), ("<b>$x_{",), (1.0, 1.0))
    first, second = (field_drawing(examples, 0, "") for _ in range(2))
    assert first == second
    assert "&lt;b&gt;$x_{ = 1" in first


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    field = np.eye(4)[None]
    field_drawing(Examples(field, field, {}, {}, {}, None, (), (1.0, 1.0)), 0, "")
    assert dict(mpl.rcParams) == before


def test_the_room_loads_neither_torch_nor_pyplot():
    code = "import sys, scifm.report.page; print(sorted({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
