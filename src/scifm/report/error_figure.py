"""Error against number of downstream samples: a drawing a system, a panel a task, mildest shift first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from scifm.findings.study import ErrorCurve, ErrorPoint, Target
from scifm.report.drawing import (
    WIDTH,
    Drawing,
    Key,
    Panel,
    Scale,
    band,
    element,
    fitted_ticks,
    join,
    key_picture,
    mark,
    path_through,
    point_group,
    spaced,
    svg,
    title_room,
)
from scifm.report.study_view import StudyView, TaskGroup, count_words, drawable
from scifm.report.tables import count_text, number_text

__all__ = ["columns_for", "error_drawings", "error_keys", "seeds_text", "undrawn_points"]

_MOST_COLUMNS = 4
_LEFT, _GAP, _HEIGHT = 66.0, 16.0, 190.0


@dataclass(frozen=True)
class _Way:
    """A way of getting an operator, as it looks."""

    series: str
    label: str
    tone: str
    shape: str = ""
    line: str = "line"


def _ways(view: StudyView) -> Iterator[tuple[_Way, str, str | None]]:
    """Yield (way, kind, method) of what is trained on downstream samples."""
    others = [method for method in view.methods if method != view.main_method]
    told = f"fine-tuned ({view.main_method})" if others else "fine-tuned"
    yield _Way("few_shot", told, "tone-0", "circle"), "few_shot", view.main_method
    for i, method in enumerate(others):
        look = _Way(f"few_shot-{i}", f"fine-tuned ({method})", f"tone-{3 + i % 3}", "diamond", "line dashed")
        yield look, "few_shot", method
    yield _Way("from_scratch", "from scratch", "tone-1", "square"), "from_scratch", None


_LEVELS = {
    "zero_shot": _Way("zero_shot", "zero-shot (no sample)", "tone-2", line="line dashed"),
    "in_distribution": _Way(
        "in_distribution", "in distribution (its pre-training systems)", "tone-5", line="line dotted"
    ),
}


def _trained(view: StudyView, target: Target) -> list[tuple[_Way, ErrorCurve]]:
    """Return the curves of a task that are drawn."""
    found = []
    for way, kind, method in _ways(view):
        source = "" if kind == "from_scratch" else view.main_source(target)
        if source is None:
            continue
        curves = view.curves((kind,), target=target.name, size=view.main_size, method=method)
        found += [(way, curve) for curve in curves if kind == "from_scratch" or curve.source == source]
    return found


def _levels(view: StudyView, target: Target) -> list[tuple[str, _Way, ErrorPoint]]:
    source = view.main_source(target)
    found = []
    for kind, way in _LEVELS.items():
        point = view.level_of(kind, target=target.name, size=view.main_size, source=source) if source else None
        if point is not None and drawable(point.median):
            found.append((kind, way, point))
    return found


def _shown(curve: ErrorCurve) -> list[ErrorPoint]:
    return [p for p in sorted(curve.points, key=lambda p: p.num_samples) if drawable(p.median) and p.num_samples > 0]


def _has_interval(point: ErrorPoint) -> bool:
    return drawable(point.low) and drawable(point.high)


def undrawn_points(view: StudyView) -> int:
    """Return how many points of the figure have no finite positive median and so no place on a logarithmic axis."""
    curves = [curve for target in view.analysis.targets for _, curve in _trained(view, target)]
    return sum(not drawable(point.median) for curve in curves for point in curve.points)


def seeds_text(values: Sequence[float | None], runs: Sequence[str | None]) -> list[str]:
    """Return lines that tell the seeds' values and the runs behind them."""
    lines = [f"seeds: {', '.join(number_text(value) for value in values)}"] if values else []
    return [*lines, *(run for run in runs if run)]


def _point_text(view: StudyView, head: str, curve: ErrorCurve, point: ErrorPoint) -> str:
    """Return what a point of a curve says when it is pointed at."""
    level = f"{view.analysis.level:.0%}".replace("%", " %") if view.analysis.level else ""
    span = f" ({level} interval {number_text(point.low)}–{number_text(point.high)})" if _has_interval(point) else ""
    lines = [
        head,
        f"task: {view.target_label(curve.target)}",
        *([f"source: {view.source_label(curve.source)}"] if curve.source else []),
        f"size: {curve.size}",
        f"median error {number_text(point.median)}{span}",
    ]
    return "\n".join([*lines, *seeds_text(point.values, point.runs)])


def _runs_of(points: Sequence[ErrorPoint], curve: ErrorCurve) -> list[list[ErrorPoint]]:
    """Return stretches without a gap: a count that could not be drawn breaks the line."""
    known = {point.num_samples for point in points}
    stretches: list[list[ErrorPoint]] = [[]]
    for point in sorted(curve.points, key=lambda p: p.num_samples):
        if point.num_samples in known:
            stretches[-1].append(point)
        elif stretches[-1]:
            stretches.append([])
    return [stretch for stretch in stretches if stretch]


def _bands(panel: Panel, stretch: Sequence[ErrorPoint]) -> list[Markup]:
    found: list[list[tuple[float, float, float]]] = [[]]
    for p in stretch:
        if _has_interval(p) and p.low is not None and p.high is not None:
            found[-1].append((panel.x(p.num_samples), panel.y(p.low), panel.y(p.high)))
        elif found[-1]:
            found.append([])
    return [band(points) for points in found if points]


def _median(point: ErrorPoint) -> float:
    return math.nan if point.median is None else point.median


def _draw_curve(view: StudyView, panel: Panel, way: _Way, curve: ErrorCurve) -> Markup:
    points = _shown(curve)
    parts: list[Markup] = []
    for stretch in _runs_of(points, curve):
        parts += _bands(panel, stretch)
        parts.append(path_through(((panel.x(p.num_samples), panel.y(_median(p))) for p in stretch), style=way.line))
    for point in points:
        x, y = panel.x(point.num_samples), panel.y(_median(point))
        told = _point_text(view, f"{way.label} on {count_words(point.num_samples)}", curve, point)
        hit = element("circle", cx=x, cy=y, r=9, class_="hit")
        parts.append(point_group(told, mark(way.shape, x, y), hit=hit))
    return element("g", *parts, class_=way.tone, data_series=way.series)


def _draw_level(view: StudyView, panel: Panel, target: Target, kind: str, point: ErrorPoint) -> Markup:
    way, source = _LEVELS[kind], view.main_source(target) or ""
    curve = ErrorCurve.model_validate(
        {"kind": kind, "source": source, "target": target.name, "size": view.main_size or ""}
    )
    y = panel.y(_median(point))
    told = _point_text(view, way.label, curve, point)
    line = element("line", x1=panel.left, x2=panel.right, y1=y, y2=y, class_=way.line)
    hit = element("line", x1=panel.left, x2=panel.right, y1=y, y2=y, class_="hit wide")
    return element("g", point_group(told, line, hit=hit), class_=way.tone, data_series=way.series)


def _values(view: StudyView, targets: Iterable[Target]) -> Iterator[float]:
    for target in targets:
        points = [point for _, _, point in _levels(view, target)]
        points += [point for _, curve in _trained(view, target) for point in _shown(curve)]
        for point in points:
            yield _median(point)
            if _has_interval(point):
                yield from (value for value in (point.low, point.high) if value is not None)


def _counts(view: StudyView) -> list[int]:
    curves = [curve for target in view.analysis.targets for _, curve in _trained(view, target)]
    return sorted({point.num_samples for curve in curves for point in _shown(curve)})


def columns_for(num_panels: int) -> int:
    """Return how many panels stand side by side: at most four, lines about equally full."""
    lines = math.ceil(num_panels / _MOST_COLUMNS)
    return math.ceil(num_panels / lines)


def _panels(group: TaskGroup, x_values: Sequence[float], values: Sequence[float], columns: int) -> list[Panel]:
    wide = min((WIDTH - _LEFT - 8 - (columns - 1) * _GAP) / columns, 320.0)
    room = title_room(group.short_labels, wide)
    panels = []
    for i in range(len(group.targets)):
        left, top = _LEFT + (i % columns) * (wide + _GAP), room + (i // columns) * (_HEIGHT + room + 30)
        x = Scale.over(x_values, left, left + wide, margin=0.08)
        panels.append(Panel(x, Scale.over(values, top + _HEIGHT, top)))
    return panels


def _draw_panel(view: StudyView, panel: Panel, target: Target, title: str, *, first: bool) -> Markup:
    counts = [float(count) for count in _counts(view)]
    labelled = spaced(counts, panel.x, [count_text(int(c)) for c in counts])
    unlabelled = [count for count in counts if count not in labelled]
    axes = [
        panel.grid_y(fitted_ticks(panel.y, 6), labels=first),
        panel.grid_x(unlabelled),
        panel.grid_x(labelled, [count_text(int(count)) for count in labelled]),
        panel.edges(),
        panel.title(title),
    ]
    levels = [_draw_level(view, panel, target, kind, point) for kind, _, point in _levels(view, target)]
    trained = [_draw_curve(view, panel, way, curve) for way, curve in reversed(_trained(view, target))]
    return element("g", *axes, *levels, *trained, class_="panel", role="group", aria_label=title)


def error_drawings(view: StudyView) -> list[Drawing]:
    """Return a drawing a system: error against number of samples, log-log, axes shared within a system.

    Systems without a drawable point are left out.
    """
    counts = [float(count) for count in _counts(view)]
    if not counts:
        return []
    columns = max(columns_for(len(group.targets)) for group in view.groups)
    found = []
    for group in view.groups:
        values = list(_values(view, group.targets))
        if not values:
            continue
        panels = _panels(group, counts, values, columns)
        parts = [
            _draw_panel(view, panel, target, title, first=i % columns == 0)
            for i, (panel, target, title) in enumerate(zip(panels, group.targets, group.short_labels, strict=True))
        ]
        lines = panels[::columns]
        parts += [line.y_name("relative L2 error", before=52) for line in lines]
        bottom = max(panel.bottom for panel in panels)
        middle = (panels[0].left + max(panel.right for panel in panels)) / 2
        parts.append(element("text", "number of downstream samples", x=middle, y=bottom + 37, class_="name mid"))
        label = (
            f"{group.label}: relative L2 error against number of downstream samples, {len(panels)} panels, one a task"
        )
        found.append(Drawing(group.label, svg(WIDTH, bottom + 46, label, join(parts))))
    return found


def error_keys(view: StudyView) -> list[Key]:
    """Return the legend: only what is drawn in some panel."""
    targets = view.analysis.targets
    drawn = {way.series for t in targets for way, curve in _trained(view, t) if _shown(curve)}
    drawn |= {way.series for t in targets for _, way, _ in _levels(view, t)}
    looks = [*(way for way, _, _ in _ways(view)), *_LEVELS.values()]
    return [
        Key(way.series, key_picture(way.tone, shape=way.shape, line=way.line), way.label)
        for way in looks
        if way.series in drawn
    ]
