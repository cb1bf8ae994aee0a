"""Inline SVG: escaping, scales, ticks, words that fit."""

from __future__ import annotations

import math
import re

import pytest
from markupsafe import Markup

from scifm.report.drawing import (
    MARKS,
    Panel,
    Scale,
    band,
    element,
    fitted_ticks,
    mark,
    plain_number,
    spaced,
    text_width,
    wrapped,
)


def test_text_and_attributes_are_escaped_and_markup_is_not():
    made = element("g", "<b>&", Markup("<a/>"), class_='"x"', data_series="<y>", stroke_width=1.5, aria_label=None)
    assert made == '<g class="&#34;x&#34;" data-series="&lt;y&gt;" stroke-width="1.5">&lt;b&gt;&amp;<a/></g>'
    assert element("path", d="M0,0") == '<path d="M0,0"/>'


def test_a_logarithmic_scale_puts_the_geometric_middle_in_the_middle():
    scale = Scale(1.0, 100.0, 10.0, 30.0)
    assert [scale(value) for value in (1, 10, 100)] == pytest.approx([10, 20, 30])
    assert scale.holds(1.0)
    assert not scale.holds(0.5)
    assert Scale(0.0, 4.0, 0.0, 8.0, log=False)(1.0) == 2.0


def test_a_scale_over_values_leaves_a_margin_and_survives_a_single_value():
    scale = Scale.over([1.0, math.e], 0.0, 1.0, margin=0.1)
    assert (scale.low, scale.high) == pytest.approx((math.exp(-0.1), math.exp(1.1)))
    single = Scale.over([5.0], 0.0, 1.0)
    assert single(5.0) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="empty"):
        Scale.over([], 0.0, 1.0)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.9, 110, [1, 3, 10, 30, 100]),
        (0.018, 0.11, [0.02, 0.03, 0.05, 0.1]),
        (1e-6, 2e3, [1e-6, 1e-4, 1e-2, 1, 100]),
        (0.0101, 0.0109, [0.0102, 0.0104, 0.0106, 0.0108]),
    ],
)
def test_ticks_are_round_and_few(low, high, ticks):
    assert fitted_ticks(Scale(low, high, 0, 1), 6) == pytest.approx(ticks)


def test_linear_ticks():
    assert fitted_ticks(Scale(-0.3, 2.1, 0, 1, log=False), 6) == pytest.approx([0, 0.5, 1, 1.5, 2])


def test_numbers_beside_ticks():
    assert [plain_number(v) for v in (0.02, 1.0, 30000, 0.0)] == ["0.02", "1", "30000", "0"]
    assert [plain_number(v) for v in (1e-7, 3e14)] == ["10⁻⁷", "3×10¹⁴"]


def test_wrapped_text_is_even_and_cut_where_it_does_not_fit():
    width = text_width("advection to diffusion")
    assert wrapped("advection to diffusion ratio 1 to 2", width) == ["advection to", "diffusion ratio 1 to 2"]
    assert wrapped("short", width) == ["short"]
    cut = wrapped("one two three four five six seven eight nine ten", text_width("one two three"))
    assert len(cut) == 2
    assert re.fullmatch(r"four.*….*ten", cut[1])
    assert all(text_width(line) <= text_width("one two three") for line in cut)
    assert "…" in wrapped("x" * 200, 100)[0]


def test_spaced_keeps_both_ends():
    scale = Scale(1, 1024, 0, 100)
    values = [1, 2, 4, 8, 16, 1024]
    kept = spaced(values, scale, [str(v) for v in values])
    assert kept[0] == 1
    assert kept[-1] == 1024
    assert 2 not in kept


def test_a_band_of_one_point_is_a_bar():
    assert 'class="bar"' in band([(1, 2, 3)])
    assert band([(0, 4, 2), (1, 5, 3)]) == '<path d="M0,2L1,3L1,5L0,4" class="band"/>'


def test_every_mark_is_another_shape():
    shapes = {mark(shape, 0, 0) for shape in MARKS}
    assert len(shapes) == len(MARKS)
    assert "hollow" in mark("circle", 1, 2, hollow=True)


def test_a_title_that_was_cut_is_told_whole():
    panel = Panel(Scale(1, 10, 0, 60), Scale(1, 10, 100, 20))
    assert "<title>a very long title indeed, much too long</title>" in panel.title(
        "a very long title indeed, much too long"
    )
    assert "<title>" not in panel.title("short")
