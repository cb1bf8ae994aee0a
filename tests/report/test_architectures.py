"""Bars of networks of different kinds: as high as their errors, beside each other, never joined."""

from __future__ import annotations

import re

import pytest

from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.findings.study import Analysis, ErrorCurve, ErrorPoint, Gain, ScalingAxis, ScalingPoint, Size, Source, Target
from scifm.report.architectures import architecture_figure, architecture_table, cost_figure, every_architecture_table
from scifm.report.drawing import draw
from scifm.report.paper import draw_sheet
from scifm.report.study import Study
from scifm.report.study_figures import scaling_figure, size_figure

SIZES = (
    Size(name="f1", num_params=1_000, kind="fno", architecture="fno", seconds_per_step=0.01, pretrain_seconds=5.0),
    Size(name="f2", num_params=4_000, kind="fno", architecture="fno", seconds_per_step=0.02, pretrain_seconds=10.0),
    Size(name="mine", num_params=2_000, kind="module", architecture="mine", seconds_per_step=0.04, pretrain_seconds=20),
)
ERRORS = {"f1": 0.4, "f2": 0.2, "mine": 0.3}


def point(count: int, error: float) -> ErrorPoint:
    values = (0.9 * error, 1.1 * error)
    return ErrorPoint(
        num_samples=count, median=error, low=0.8 * error, high=1.2 * error, values=values, runs=("a", "b")
    )


def study(errors=ERRORS, sizes=SIZES, **parts) -> Study:
    curves = []
    for name, error in errors.items():
        at = {"source": "s", "target": "t", "size": name}
        tuned = tuple(point(count, error / share) for count, share in ((8, 1), (32, 2)))
        scratch = tuple(point(count, 2 * error / share) for count, share in ((8, 1), (32, 2)))
        curves += [
            ErrorCurve(kind="zero_shot", points=(point(0, 1.5 * error),), **at),
            ErrorCurve(kind="few_shot", method="all", points=tuned, **at),
            ErrorCurve(kind="from_scratch", points=scratch, **{**at, "source": ""}),
        ]
    gains = [
        Gain(source="s", target="t", size=n, method="all", num_samples=c, gain=2.0) for n in errors for c in (8, 32)
    ]
    analysis = Analysis(
        targets=(Target(name="t", system="poisson", label="Poisson, steep"),),
        sources=(Source(name="s", systems=("poisson",)),),
        sizes=sizes,
        curves=curves,
        gains=gains,
        level=0.9,
        **parts,
    )
    return Study(analysis)


def test_each_network_is_a_bar_beside_the_others_and_no_line():
    figure = architecture_figure(study())
    tuned, scratch = figure.panels
    assert tuned.x.categories == scratch.x.categories == ("0", "8", "32")
    assert (tuned.y.scale, tuned.y.low) == ("linear", 0.0)
    assert [series.label for series in tuned.series] == ["f1", "f2", "mine"]
    for place, series in enumerate(tuned.series):
        error = ERRORS[series.label]
        assert series.y == pytest.approx((1.5 * error, error, error / 2))
        assert series.x == pytest.approx([i + 0.8 / 3 * (place - 1) for i in range(3)])
        assert series.bar == pytest.approx(0.8 / 3)
        assert not series.joined
    for series in scratch.series:
        assert series.y == pytest.approx((2 * ERRORS[series.label], ERRORS[series.label]))
        assert [round(x) for x in series.x] == [1, 2]
    assert "mine (module, 2\N{NO-BREAK SPACE}k weights)" in figure.caption
    told = figure.caption.replace("\N{NO-BREAK SPACE}", " ")
    assert "equal optimizer steps, not for equal times: a pre-training took 5.0 s to 20.0 s" in told


def test_errors_far_apart_ask_for_a_logarithmic_axis_which_the_caption_says():
    figure = architecture_figure(study({**ERRORS, "mine": 0.004}))
    assert figure.panels[0].y.scale == "log"
    assert figure.panels[0].y.low == pytest.approx(1e-3)
    assert "compare where bars end, not how long they are" in figure.caption


def test_one_architecture_and_a_study_of_before_are_drawn_as_ever():
    for sizes in (SIZES[:2], [Size(name=size.name, num_params=size.num_params) for size in SIZES]):
        own = study({size.name: ERRORS[size.name] for size in sizes}, sizes=sizes)
        assert architecture_figure(own) is None
        assert cost_figure(own) is None
        assert architecture_table(own).rows == every_architecture_table(own).rows == ()
        labels = {series.label for series in size_figure(own).panels[0].series}
        assert labels == {"fine-tuned", "from scratch"}


def test_lines_over_size_join_networks_of_one_architecture_only():
    figure = size_figure(study())
    (panel,) = figure.panels
    for series in (*panel.series, *panel.beneath.series):
        joined = series.label.startswith("fno")
        assert series.x == ((1_000, 4_000) if joined else (2_000,)), series.label
    assert {series.label for series in panel.series} == {
        "fno, fine-tuned", "fno, from scratch", "mine, fine-tuned", "mine, from scratch",
    }  # fmt: skip
    assert "Lines join sizes of one architecture only" in figure.caption


def test_two_architectures_of_one_size_each_have_no_figure_over_size():
    own = [SIZES[0], SIZES[2]]
    assert size_figure(study({"f1": 0.4, "mine": 0.3}, sizes=own)) is None


def test_the_rest_of_the_page_shows_the_first_architecture():
    assert study().main_size == "f2", "its largest network, though mine has as many points"
    turned = (SIZES[2], *SIZES[:2])
    assert study(sizes=turned).main_size == "mine"


def test_costs_are_bars_from_zero():
    figure = cost_figure(study())
    by_label = {panel.y.label: panel for panel in figure.panels}
    assert [s.y[0] for s in by_label["milliseconds a step of pre-training"].series] == pytest.approx([10, 20, 40])
    assert [s.y[0] for s in by_label["seconds of a pre-training"].series] == [5, 10, 20]
    assert "seconds of an adaptation" not in by_label, "not measured in these"
    assert all(panel.y.low == 0 for panel in figure.panels)


def test_the_table_has_costs_and_errors_of_every_network():
    table = architecture_table(study())
    assert table.headers == (
        "network", "kind", "weights", "ms a step", "pre-training", "an adaptation", "zero-shot", "fine-tuned on 8",
        "fine-tuned on 32", "from scratch on 8", "from scratch on 32",
    )  # fmt: skip
    texts = [[cell.text.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in table.rows]
    assert texts[2] == [
        "mine", "module", "2,000", "40.0", "20.0 s", "not recorded", "0.450", "0.300", "0.150", "0.600", "0.300",
    ]  # fmt: skip
    every = every_architecture_table(study())
    assert [[cell.text for cell in row][1:3] for row in every.rows[:2]] == [
        ["f1", "fine-tuned"],
        ["f1", "from scratch"],
    ]
    assert len(every.rows) == 6


def test_many_networks_are_drawn_by_the_largest_of_each_architecture():
    more = tuple(SIZES[0].model_copy(update={"name": f"g{i}", "num_params": 10 + i}) for i in range(5))
    own = study({**ERRORS, **{size.name: 0.5 for size in more}}, sizes=(*more, *SIZES))
    figure = architecture_figure(own)
    assert [series.label for series in figure.panels[0].series] == ["f2", "mine"]
    assert "6 more stand in the table" in figure.caption


def test_laws_of_several_architectures_are_said_to_be_apart():
    axis = ScalingAxis(
        axis="size", label="weights, fno", architecture="fno", points=(ScalingPoint(x=1, values=(0.1,)),)
    )
    with_axes = study(scaling={"axes": [axis]})
    assert "none is drawn through the points of two" in scaling_figure(with_axes).caption


def bars(scale: str, low: float) -> Figure:
    y = Axis(label="error", scale=scale, low=low, high=10.0)
    series = Series(label="a", x=(0.0, 1.0), y=(10.0, 1.0), joined=False, bar=0.5)
    return Figure(caption="c", panels=(Panel(x=Axis(label="n", categories=("one", "two")), y=y, series=(series,)),))


@pytest.mark.parametrize(("scale", "low", "share"), [("linear", 0.0, 0.1), ("log", 0.1, 0.5)])
def test_a_bar_stands_on_the_foot_of_its_panel(scale, low, share):
    text = str(draw(bars(scale, low)).blocks[0].picture)
    found = [dict(re.findall(r'(\w+)="([^"]*)"', rect)) for rect in re.findall(r"<rect[^>]*column[^>]*>", text)]
    high, small = (float(rect["height"]) for rect in found)
    assert small / high == pytest.approx(share, abs=0.01)
    feet = {round(float(rect["y"]) + float(rect["height"]), 1) for rect in found}
    assert len(feet) == 1
    (axes,) = draw_sheet(bars(scale, low)).axes or draw_sheet(bars(scale, low)).subfigs[0].axes
    patches = [patch for patch in axes.patches if patch.get_width() == pytest.approx(0.5)]
    assert [(patch.get_y(), patch.get_y() + patch.get_height()) for patch in patches] == [
        (low, pytest.approx(10.0)), (low, pytest.approx(1.0)),
    ]  # fmt: skip
    assert axes.get_ylim()[0] == pytest.approx(low)
