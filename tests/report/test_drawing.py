"""Inline SVG: escaping, scales, ticks, words that fit; the engine: what a figure says is drawn, and nothing else."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from scifm.findings.figure import Axis, Cells, Figure, Note, Panel, Rule, Series
from scifm.report.cells import DEEPEST, cell_text
from scifm.report.drawing import draw, write_figure
from scifm.report.paper import draw_sheet
from scifm.report.svg import (
    MARKS,
    Frame,
    Scale,
    band,
    element,
    fitted_ticks,
    mark,
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
    panel = Frame(Scale(1, 10, 0, 60), Scale(1, 10, 100, 20))
    assert "<title>a very long title indeed, much too long</title>" in panel.title(
        "a very long title indeed, much too long"
    )
    assert "<title>" not in panel.title("short")


# --- the engine -------------------------------------------------------------------------------------------------------

LOG = Axis(label="error", scale="log")
COUNT = Axis(label="samples", scale="log", form="count", ticks=(4, 16, 64))


def series(label: str = "a", **entries: object) -> Series:
    return Series.model_validate({"label": label, "x": (4, 16, 64), "y": (0.1, 0.2, 0.4)} | entries)


def drawn(*all_series: Series, rules: tuple[Rule, ...] = (), **entries: object) -> str:
    panel = Panel(x=COUNT, y=LOG, series=all_series, rules=rules)
    made = draw(Figure.model_validate({"caption": "c", "panels": (panel,)} | entries))
    return "".join(block.picture for block in made.blocks)


def heights(text: str) -> list[float]:
    return [float(y) for y in re.findall(r'class="mark[^"]*"|translate\([\d.]+ ([\d.]+)\)', text) if y]


def test_points_stand_where_their_values_are():
    assert heights(drawn(series())) == sorted(heights(drawn(series())), reverse=True)
    first, second, third = heights(drawn(series()))
    assert first - second == pytest.approx(second - third, abs=0.02)  # factors of two


@pytest.mark.parametrize("gone", [None, math.nan, math.inf, 0.0, -1.0])
def test_what_has_no_place_breaks_the_line_and_is_never_drawn(gone):
    text = drawn(series(x=(4, 8, 16, 32, 64), y=(0.1, 0.2, gone, 0.2, 0.1)))
    assert text.count('class="mark"') == 4
    assert text.count('class="line"') == 2
    assert "nan" not in text


def test_intervals_are_bands_or_bars_and_absent_where_one_end_is():
    low, high = (0.05, None, 0.3), (0.2, 0.3, 0.5)
    assert drawn(series(low=low, high=high)).count('class="bar"') == 2  # a band of one point is a bar
    assert drawn(series(low=(0.05, 0.1, 0.3), high=high)).count('class="band"') == 1
    bars = drawn(series(low=low, high=high, interval="bar"))
    assert (bars.count('class="band"'), bars.count('class="bar"')) == (0, 2)


def test_a_history_of_one_point_is_visible():
    assert 'class="mark"' in drawn(Series(label="a", x=(4,), y=(0.1,), marked=False))


def test_labels_have_one_look_in_all_panels_and_one_entry_in_the_key():
    panels = [Panel(x=COUNT, y=LOG, series=(series("a"), series("b"))), Panel(x=COUNT, y=LOG, series=(series("b"),))]
    made = draw(Figure(caption="c", panels=tuple(panels), shared=("x", "y")))
    assert [(key.series, key.label) for key in made.keys] == [("a", "a"), ("b", "b")]
    tones = set(re.findall(r'class="(tone-\d)" data-series="b"', made.blocks[0].picture))
    assert tones == {"tone-1"}


def test_variants_are_told_by_shape_or_by_filling():
    some = (series("a", variant="few"), series("a", variant="many", hollow=True))
    shapes = draw(Figure(caption="c", panels=(Panel(x=COUNT, y=LOG, series=some),)))
    assert [key.label for key in shapes.keys] == ["a", "few", "many"]
    assert len({str(key.picture) for key in shapes.keys}) == 3
    filled = draw(Figure(caption="c", panels=(Panel(x=COUNT, y=LOG, series=some),), variants_by="filling"))
    assert ["hollow" in key.picture for key in filled.keys] == [False, False, True]


def test_steps_of_one_quantity_are_shades():
    text = drawn(*(series(f"{n}") for n in (4, 16, 64)), ordered=True)
    assert re.findall(r'class="(shade-\d)"', text) == ["shade-5", "shade-2", "shade-0"]  # the first is drawn last


def test_shared_axes_have_one_range_and_others_their_own():
    panels = (Panel(x=COUNT, y=LOG, series=(series(),)), Panel(x=COUNT, y=LOG, series=(series(y=(1.0, 2.0, 4.0)),)))
    shared = draw(Figure(caption="c", panels=panels, shared=("x", "y")))
    assert len(shared.blocks) == 1
    assert len(set(heights(shared.blocks[0].picture))) == 6
    apart = draw(Figure(caption="c", panels=panels))
    assert (apart.kind, len(apart.blocks)) == ("pair", 2)
    assert heights(apart.blocks[0].picture) == heights(apart.blocks[1].picture)


def test_a_rule_with_a_name_is_in_the_key_and_one_without_is_ink():
    text = drawn(series(), rules=(Rule(at=0.3, label="limit", told="limit 0.3"), Rule(at=0.2), Rule(at=-1.0)))
    assert text.count('class="reference"') == 1
    assert "<title>limit 0.3</title>" in text


def test_categories_take_a_line_each_and_intervals_run_along_the_other_axis():
    panel = Panel(x=COUNT, y=Axis(label="", categories=("one", "two")), series=(
        Series(label="a", x=(4, 16), y=(0.0, 1.0), low=(2, 8), high=(8, 32), joined=False),))  # fmt: skip
    text = draw(Figure(caption="c", panels=(panel,))).blocks[0].picture
    assert ">one</text>" in text
    bars = re.findall(r'<line x1="([\d.]+)" x2="([\d.]+)" y1="([\d.]+)" y2="([\d.]+)" class="bar"/>', text)
    assert [(a < b, c == d) for a, b, c, d in (map(float, bar) for bar in bars)] == [(True, True)] * 2


def table_of(values, **told) -> Figure:
    names = tuple(f"system {place}" for place in range(len(values)))
    axes = Axis(label="", categories=tuple(map(str, range(len(values))))), Axis(label="", categories=names)
    return Figure(caption="c", panels=(Panel(x=axes[0], y=axes[1], cells=Cells(values=values, **told)),))


def test_a_table_of_numbers_is_told_by_shades_and_written_into_its_cells():
    told = (("a & b", "c", "d"),) * 3
    figure = table_of(((0.0, 0.5, 1.0), (2.0, -0.3, None), (-0.001, 0.25, 0.25)), told=told)
    text = draw(figure).blocks[0].picture
    opacities = [float(own) for own in re.findall(r'class="cell" fill-opacity="([\d.]+)"', text)]
    assert opacities == pytest.approx([DEEPEST * share for share in (0, 0.5, 1, 1, 0, 0, 0.25, 0.25)])
    places = [(float(x), float(y)) for x, y in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)"[^>]*class="cell"', text)]
    assert places[0][1] == places[2][1] < places[3][1]  # the first row stands above
    assert places[0][0] == places[3][0] < places[1][0]
    assert text.count("<title>a &amp; b</title>") == 3
    assert [own for own in re.findall(r">([−\d.]+)</text>", text) if "." in own] == [
        "0.00", "0.50", "1.00", "2.00", "−0.30", "0.00", "0.25", "0.25",
    ]  # fmt: skip
    assert cell_text(-0.004) == "0.00"
    assert Figure.model_validate_json(figure.model_dump_json()) == figure
    narrow = draw(table_of(((0.25,) * 40,) * 40)).blocks[0].picture  # no room for numbers
    assert ("0.25" in narrow, narrow.count('class="cell"')) == (False, 1600)
    drawn = [text.get_text() for text in draw_sheet(figure).axes[0].texts]
    assert drawn == ["0.00", "0.50", "1.00", "2.00", "−0.30", "0.00", "0.25", "0.25"]


def test_panels_beside_each_other_are_of_one_width_however_long_names_are():
    long = Axis(label="", categories=("a very long name of a system", "b"))
    left = Panel(x=Axis(label="x"), y=long, series=(Series(x=(1, 2), y=(0, 1)),), group="one")
    right = Panel(x=Axis(label="x"), y=Axis(label="y"), series=(Series(x=(1, 2), y=(0, 1)),), group="two")
    widths = [
        re.search(r' width="([\d.]+)"', block.picture)[1]
        for block in draw(Figure(caption="c", panels=(left, right))).blocks
    ]
    assert widths[0] == widths[1]


def test_notes_stand_above_where_there_is_room():
    notes = tuple(Note(at=n, text="4.5×") for n in (4, 4.1, 64))
    panel = Panel(x=COUNT, y=LOG, series=(series(),), notes=notes)
    assert draw(Figure(caption="c", panels=(panel,))).blocks[0].picture.count("4.5×") == 2


def test_a_panel_with_nothing_to_draw_says_so():
    text = drawn(series(y=(None, None, None)))
    assert "not recorded" in text


def test_what_a_user_wrote_is_text():
    text = drawn(series("<b>", told=("<i>", "", "")))
    assert "<b>" not in text
    assert "&lt;i&gt;" in text


def test_a_figure_is_written_as_a_file_of_its_own(tmp_path):
    panels = tuple(Panel(x=COUNT, y=LOG, series=(series("a"), series("b & c")), group=g) for g in ("one", "two"))
    file = write_figure(Figure(caption="c", panels=panels, shared=("x",)), tmp_path / "figure.svg")
    root = ElementTree.parse(file).getroot()
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a", "b & c", "one", "two", "samples", "error"} <= set(texts)
    assert "prefers-color-scheme: dark" in file.read_text()
