"""Error and gain against the number of parameters, at fixed numbers of downstream samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from scifm.findings.study import Size, Target
from scifm.report.drawing import (
    MARKS,
    WIDTH,
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
    point_group,
    spaced,
    svg,
    title_room,
)
from scifm.report.error_figure import columns_for, seeds_text
from scifm.report.study_view import StudyView, TaskGroup, count_words, drawable, short_count
from scifm.report.tables import count_text, number_text
from scifm.wording import plural

__all__ = ["fixed_counts", "size_drawings", "size_keys"]

_LEFT, _GAP, _HEIGHT, _GAIN_HEIGHT = 66.0, 16.0, 150.0, 110.0


@dataclass(frozen=True)
class _Dot:
    size: Size
    value: float
    low: float | None
    high: float | None
    lines: tuple[str, ...] = ()


_Series = tuple[str, int, list[_Dot]]
"""What (``few_shot``, ``from_scratch``, ``gain``), on how many samples, over the sizes."""


def _counts(view: StudyView) -> list[int]:
    """Return numbers of samples that were fine-tuned on at two sizes or more of one task."""
    sizes: dict[tuple[str, int], set[str]] = {}
    for curve in view.curves(("few_shot",), method=view.main_method):
        for point in curve.points:
            if drawable(point.median):
                sizes.setdefault((curve.target, point.num_samples), set()).add(curve.size)
    return sorted({count for (_, count), seen in sizes.items() if len(seen) > 1})


def _sizes(view: StudyView) -> list[Size]:
    """Return the sizes that were fine-tuned, smallest first."""
    used = {curve.size for curve in view.curves(("few_shot",))}
    return [size for size in view.sizes if size.name in used]


def fixed_counts(view: StudyView) -> list[int]:
    """Return the numbers of samples shown: the smallest, the middle one and the largest."""
    counts = _counts(view)
    return sorted({counts[0], counts[len(counts) // 2], counts[-1]}) if counts else []


def _error_dots(view: StudyView, target: Target, kind: str, count: int) -> list[_Dot]:
    source = "" if kind == "from_scratch" else view.main_source(target)
    method = view.main_method if kind == "few_shot" else None
    dots = []
    for size in _sizes(view):
        for curve in view.curves((kind,), target=target.name, size=size.name, source=source, method=method):
            for p in curve.points:
                if p.num_samples == count and p.median is not None and drawable(p.median):
                    dots.append(_Dot(size, p.median, p.low, p.high, tuple(seeds_text(p.values, p.runs))))
    return dots


def _gain_dots(view: StudyView, target: Target, count: int) -> list[_Dot]:
    source, sizes = view.main_source(target), {size.name: size for size in _sizes(view)}
    dots = [
        _Dot(sizes[g.size], g.gain, g.low, g.high)
        for g in view.analysis.gains
        if g.size in sizes
        and (g.target, g.source, g.method, g.num_samples) == (target.name, source, view.main_method, count)
        and g.gain is not None
        and drawable(g.gain)
    ]
    return sorted(dots, key=lambda dot: dot.size.num_params)


def _error_series(view: StudyView, target: Target) -> list[_Series]:
    found = [(k, n, _error_dots(view, target, k, n)) for k in ("from_scratch", "few_shot") for n in fixed_counts(view)]
    return [series for series in found if series[2]]


def _gain_series(view: StudyView, target: Target) -> list[_Series]:
    found = [("gain", count, _gain_dots(view, target, count)) for count in fixed_counts(view)]
    return [series for series in found if series[2]]


def _values(series: Iterable[_Series]) -> Iterator[float]:
    for _, _, dots in series:
        for dot in dots:
            yield from (v for v in (dot.value, dot.low, dot.high) if v is not None and drawable(v))


_WORDS = {"few_shot": "fine-tuned", "from_scratch": "from scratch", "gain": "gain"}
_TONES = {"few_shot": "tone-0", "from_scratch": "tone-1", "gain": "tone-0"}


def _told(view: StudyView, target: Target, what: str, count: int, dot: _Dot) -> str:
    span = f" ({number_text(dot.low)}–{number_text(dot.high)})" if drawable(dot.low) and drawable(dot.high) else ""
    value = f"{dot.value:.2f}×" if what == "gain" else f"median error {number_text(dot.value)}"
    source = view.main_source(target) if what != "from_scratch" else None
    lines = [
        f"{_WORDS[what]} on {count_words(count)}",
        f"task: {view.target_label(target.name)}",
        *([f"source: {view.source_label(source)}"] if source else []),
        f"size: {dot.size.name}, {count_text(dot.size.num_params)} parameters",
        value + span,
        *dot.lines,
    ]
    return "\n".join(lines)


def _draw(view: StudyView, panel: Panel, target: Target, series: _Series) -> Markup:
    what, count, dots = series
    shape = MARKS[fixed_counts(view).index(count)]
    hollow = what == "from_scratch"
    places = [(panel.x(dot.size.num_params), panel.y(dot.value)) for dot in dots]
    parts = [path_through(places, style="line thin dashed" if hollow else "line thin")]
    for dot, (x, y) in zip(dots, places, strict=True):
        if dot.low is not None and dot.high is not None and drawable(dot.low) and drawable(dot.high):
            parts.append(element("line", x1=x, x2=x, y1=panel.y(dot.low), y2=panel.y(dot.high), class_="bar"))
        hit = element("circle", cx=x, cy=y, r=9, class_="hit")
        parts.append(point_group(_told(view, target, what, count, dot), mark(shape, x, y, hollow=hollow), hit=hit))
    return element("g", element("g", *parts, data_series=f"n-{count}"), class_=_TONES[what], data_series=what)


def _axes(view: StudyView, panel: Panel, *, first: bool, names: bool) -> list[Markup]:
    places = [float(size.num_params) for size in _sizes(view)]
    labels = [short_count(value) for value in places]
    kept = spaced(places, panel.x, labels)
    told = [label for place, label in zip(places, labels, strict=True) if place in kept]
    return [
        panel.grid_y(fitted_ticks(panel.y, 5), labels=first),
        panel.grid_x([place for place in places if place not in kept]),
        panel.grid_x(kept, told if names else None),
        panel.edges(),
    ]


def _unit(panel: Panel) -> list[Markup]:
    """Return the line at gain 1, where pre-training makes no difference."""
    if not panel.y.holds(1.0):
        return []
    y = panel.y(1.0)
    return [element("line", x1=panel.left, x2=panel.right, y1=y, y2=y, class_="reference")]


def _panels(view: StudyView, values: Sequence[float], place: tuple[float, float, float], height: float) -> Panel:
    left, top, wide = place
    x = Scale.over([float(size.num_params) for size in _sizes(view)], left, left + wide, margin=0.1)
    return Panel(x, Scale.over(values, top + height, top, margin=0.08))


def _group_drawing(view: StudyView, group: TaskGroup, columns: int) -> Drawing | None:
    shown = [
        (target, title, _error_series(view, target), _gain_series(view, target))
        for target, title in zip(group.targets, group.short_labels, strict=True)
    ]
    shown = [task for task in shown if any(len(dots) > 1 for _, _, dots in task[2])]
    if not shown:
        return None
    errors = list(_values(series for task in shown for series in task[2]))
    gains = list(_values(series for task in shown for series in task[3]))
    wide = min((WIDTH - _LEFT - 8 - (columns - 1) * _GAP) / columns, 320.0)
    room = title_room((title for _, title, _, _ in shown), wide)
    step = room + _HEIGHT + (14 + _GAIN_HEIGHT if gains else 0) + 46
    parts: list[Markup] = []
    for i, (target, title, error_series, gain_series) in enumerate(shown):
        left, top, first = _LEFT + (i % columns) * (wide + _GAP), room + (i // columns) * step, i % columns == 0
        upper = _panels(view, errors, (left, top, wide), _HEIGHT)
        drawn = [*_axes(view, upper, first=first, names=not gains), upper.title(title)]
        drawn += [_draw(view, upper, target, series) for series in error_series]
        drawn += [upper.y_name("relative L2 error", before=52)] if first else []
        if gains:
            lower = _panels(view, [*gains, 1.0], (left, top + _HEIGHT + 14, wide), _GAIN_HEIGHT)
            drawn += [*_axes(view, lower, first=first, names=True), *_unit(lower)]
            drawn += [_draw(view, lower, target, series) for series in gain_series]
            drawn += [lower.y_name("gain", before=52)] if first else []
        parts.append(element("g", *drawn, class_="panel", role="group", aria_label=title))
    right = _LEFT + min(columns, len(shown)) * (wide + _GAP) - _GAP
    height = step * ((len(shown) + columns - 1) // columns) + 10
    parts.append(element("text", "number of parameters", x=(_LEFT + right) / 2, y=height - 12, class_="name mid"))
    label = f"{group.label}: error and gain against number of parameters, {plural(len(shown), 'task')}"
    return Drawing(group.label, svg(WIDTH, height, label, join(parts)))


def size_drawings(view: StudyView) -> list[Drawing]:
    """Return a drawing a system that has a task at two sizes or more: error above, gain beneath."""
    if len(_sizes(view)) < 2 or not fixed_counts(view):
        return []
    columns = max(columns_for(len(group.targets)) for group in view.groups)
    found = [_group_drawing(view, group, columns) for group in view.groups]
    return [drawing for drawing in found if drawing is not None]


def size_keys(view: StudyView) -> list[Key]:
    """Return the legend: ways by color, numbers of samples by mark."""
    keys = [Key("few_shot", key_picture("tone-0", line="line"), "fine-tuned")]
    series = [series for target in view.analysis.targets for series in _error_series(view, target)]
    if any(what == "from_scratch" for what, _, _ in series):
        keys.append(Key("from_scratch", key_picture("tone-1", line="line dashed"), "from scratch (hollow)"))
    for i, count in enumerate(fixed_counts(view)):
        keys.append(Key(f"n-{count}", key_picture("tone-ink", shape=MARKS[i]), count_words(count)))
    return keys
