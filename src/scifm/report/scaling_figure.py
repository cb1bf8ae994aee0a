"""Scaling: error against pre-training samples, size or compute, with the law fitted to it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup

from scifm.findings.study import Law, ScalingAxis
from scifm.report.drawing import (
    Drawing,
    Key,
    Panel,
    Scale,
    element,
    fitted_ticks,
    join,
    key_picture,
    mark,
    path_through,
    plain_number,
    point_group,
    spaced,
    svg,
    wrapped,
)
from scifm.report.study_view import StudyView, drawable, short_count
from scifm.report.tables import count_text, number_text

__all__ = ["drawn_axes", "formula", "scaling_drawings", "scaling_keys"]

_POWER = re.compile(r"\^([−-]?[\d.]+)")
_WIDE, _LEFT, _TOP, _HEIGHT = 470.0, 66.0, 34.0, 210.0


def _points(axis: ScalingAxis) -> list[tuple[float, float]]:
    return [(p.x, v) for p in axis.points if drawable(p.x) for v in p.values if v is not None and drawable(v)]


def _law(law: Law | None) -> list[tuple[float, float]]:
    if law is None:
        return []
    pairs = zip(law.grid_x, law.grid_y, strict=False)
    return [(x, y) for x, y in pairs if x is not None and y is not None and drawable(x) and drawable(y)]


def formula(text: str, raised: str) -> Markup:
    """Return a law's text with what follows each ``^`` raised, by the element `raised`: ``tspan`` or ``sup``."""
    parts: list[object] = []
    for i, piece in enumerate(_POWER.split(text)):
        if i % 2 == 0:
            parts.append(piece)
        elif raised == "sup":
            parts.append(element("sup", piece))
        else:  # up, and down again with what follows: baseline-shift is not known everywhere
            parts += [element("tspan", piece, dy=-5, font_size="78%"), element("tspan", "\N{ZERO WIDTH SPACE}", dy=5)]
    return join(parts)


def drawn_axes(view: StudyView) -> list[ScalingAxis]:
    """Return the axes that have a point with a place on logarithmic axes."""
    return [axis for axis in view.analysis.scaling.axes if _points(axis)]


def _name(axis: ScalingAxis) -> str:
    return axis.label or axis.axis


def _amounts(values: Sequence[float]) -> list[str]:
    """Return values of an axis in one notation."""
    most = max(values, default=0.0)
    if min(values, default=0.0) >= 1 and most < 1e12:
        return [count_text(round(v)) if most < 1e5 else short_count(v) for v in values]
    return [plain_number(value) for value in values]


def _amount(value: float) -> str:
    return (
        count_text(round(value))
        if 1 <= value < 1e5
        else short_count(value)
        if 1 <= value < 1e12
        else plain_number(value)
    )


def _draw_axis(axis: ScalingAxis) -> Markup:
    points, law = _points(axis), _law(axis.law)
    every = [*points, *law]
    x = Scale.over((px for px, _ in every), _LEFT, _WIDE - 22)
    panel = Panel(x, Scale.over((py for _, py in every), _TOP + _HEIGHT, _TOP))
    ticks = fitted_ticks(panel.x, 6)
    ticks = spaced(ticks, panel.x, _amounts(ticks))
    parts = [
        panel.grid_y(fitted_ticks(panel.y, 6)),
        panel.grid_x(ticks, _amounts(ticks)),
        panel.edges(),
        panel.y_name("relative L2 error", before=52),
        panel.x_name(_name(axis), below=37),
    ]
    if axis.law and axis.law.text:
        parts.append(element("text", formula(axis.law.text, "tspan"), x=panel.left, y=_TOP - 9, class_="title"))
    if len(law) > 1:
        drawn = path_through((panel.x(px), panel.y(py)) for px, py in law)
        parts.append(element("g", drawn, class_="tone-1", data_series="law"))
    dots = []
    for point in axis.points:
        values = [v for v in point.values if v is not None and drawable(v)] if drawable(point.x) else []
        told = ", ".join(number_text(value) for value in point.values)
        text = f"{_name(axis)}: {_amount(point.x)}\nseeds: {told}" if values else ""
        for value in values:
            px, py = panel.x(point.x), panel.y(value)
            hit = element("circle", cx=px, cy=py, r=8, class_="hit")
            dots.append(point_group(text, mark("circle", px, py), hit=hit))
    parts.append(element("g", *dots, class_="tone-0", data_series="seed"))
    label = f"relative L2 error against {_name(axis)}"
    panel_group = element("g", *parts, class_="panel", role="group", aria_label=label)
    return svg(_WIDE, _TOP + _HEIGHT + 48, label, panel_group)


def scaling_drawings(view: StudyView) -> list[Drawing]:
    """Return a drawing an axis: every seed as a point, the fitted law as a line, its text above."""
    return [Drawing(" ".join(wrapped(_name(axis), 400)), _draw_axis(axis)) for axis in drawn_axes(view)]


def scaling_keys(view: StudyView) -> list[Key]:
    """Return the legend."""
    keys = [Key("seed", key_picture("tone-0", shape="circle"), "one seed")]
    if any(len(_law(axis.law)) > 1 for axis in drawn_axes(view)):
        keys.append(Key("law", key_picture("tone-1", line="line"), "fitted law"))
    return keys
