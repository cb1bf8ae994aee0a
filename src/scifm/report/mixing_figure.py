"""Mixture against specialist: ratio of their errors by task and number of samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from scifm.findings.study import Mixing
from scifm.report.drawing import (
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
    plain_number,
    point_group,
    svg,
    wrapped,
)
from scifm.report.study_view import StudyView, count_words, drawable
from scifm.report.tables import number_text

__all__ = ["mixing_drawing", "mixing_keys", "shown_mixing"]

_LEFT, _GAP, _SLOT, _TOP = 236.0, 14.0, 17.0, 30.0
_LIMIT = 1.5
_LOOKS = {True: ("mixture", "tone-0", "circle"), False: ("left_out", "tone-1", "diamond")}
_MOST_COUNTS = 5


def shown_mixing(view: StudyView) -> list[Mixing]:
    """Return the drawable ratios of the main size (of every size, where the main one has none)."""
    known = [entry for entry in view.analysis.mixing if drawable(entry.ratio)]
    return [entry for entry in known if entry.size == view.main_size] or known


def _counts(entries: Sequence[Mixing]) -> list[int]:
    """Return the numbers of samples shown: all, or about five evenly chosen with both ends."""
    counts = sorted({entry.num_samples for entry in entries})
    if len(counts) <= _MOST_COUNTS:
        return counts
    step = (len(counts) - 1) / (_MOST_COUNTS - 1)
    return [counts[round(i * step)] for i in range(_MOST_COUNTS)]


def _slots(view: StudyView, entries: Sequence[Mixing]) -> list[tuple[str, str]]:
    """Return the lines of the figure, (task, mixture), in the order of the analysis."""
    order = [target.name for target in view.analysis.targets]
    found = dict.fromkeys((e.target, e.mixture) for e in sorted(entries, key=lambda e: not e.contains_system))
    return sorted(found, key=lambda slot: order.index(slot[0]))


def _tops(view: StudyView, slots: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """Return the height of each line, tasks apart by a little and systems by more."""
    places, y, before = {}, _TOP + 4.0, None
    for slot in slots:
        system = view.target(slot[0]).system
        if before is not None and slot[0] != before[0]:
            y += 9.0 if system == before[1] else 22.0
        y += _SLOT
        places[slot] = y
        before = (slot[0], system)
    return places


def _told(view: StudyView, entry: Mixing) -> str:
    span = f" ({number_text(entry.low)}–{number_text(entry.high)})" if _has_interval(entry) else ""
    left_out = "" if entry.contains_system else " (system left out)"
    lines = [
        f"{view.target_label(entry.target)}, {count_words(entry.num_samples)}",
        f"mixture: {view.source_label(entry.mixture)}{left_out}",
        f"specialist: {view.source_label(entry.specialist)}",
        f"size: {entry.size}",
        f"ratio {number_text(entry.ratio)}{span}",
        f"errors: mixture {number_text(entry.mixture_error)}, specialist {number_text(entry.specialist_error)}, "
        f"from scratch {number_text(entry.scratch_error)}",
    ]
    return "\n".join(lines)


def _has_interval(entry: Mixing) -> bool:
    return drawable(entry.low) and drawable(entry.high)


def _draw(view: StudyView, panel: Panel, entry: Mixing, y: float) -> Markup:
    series, tone, shape = _LOOKS[entry.contains_system]
    x = panel.x(math.nan if entry.ratio is None else entry.ratio)
    parts = []
    if entry.low is not None and entry.high is not None and _has_interval(entry):
        parts.append(element("line", x1=panel.x(entry.low), x2=panel.x(entry.high), y1=y, y2=y, class_="bar"))
    parts.append(mark(shape, x, y))
    hit = element("circle", cx=x, cy=y, r=8, class_="hit")
    return element("g", point_group(_told(view, entry), *parts, hit=hit), class_=tone, data_series=series)


def _task_labels(view: StudyView, tops: dict[tuple[str, str], float]) -> list[Markup]:
    """Return the name of each task left of its lines."""
    heights: dict[str, list[float]] = {}
    for (task, _), y in tops.items():
        heights.setdefault(task, []).append(y)
    found = []
    for task, ys in heights.items():
        label = view.target_label(task)
        lines = wrapped(label, _LEFT - 18, lines=2 if len(ys) > 1 else 1)
        middle = sum(ys) / len(ys) + 4 - 7 * (len(lines) - 1)
        rows = [
            element("text", line, x=_LEFT - 12, y=middle + 14 * i, class_="tick end") for i, line in enumerate(lines)
        ]
        found.append(element("g", element("title", label), *rows))
    return found


def _guides(panel: Panel, heights: Iterable[float]) -> list[Markup]:
    """Return a faint line at each height, from the edge across the panel."""
    return [element("line", x1=panel.left, x2=panel.right, y1=y, y2=y, class_="grid") for y in sorted(set(heights))]


def _references(panel: Panel) -> list[Markup]:
    found = []
    for value, style in ((1.0, "reference"), (_LIMIT, "reference dashed")):
        x = panel.x(value)
        found.append(element("line", x1=x, x2=x, y1=panel.top, y2=panel.bottom, class_=style))
    return found


def _ticks(panel: Panel) -> list[float]:
    """Return ticks that always hold 1, and 1.5 where there is room; those that would touch one kept are left out."""
    most = max(2, int((panel.right - panel.left) // 36))
    kept = [1.0]
    for tick in (_LIMIT, *fitted_ticks(panel.x, most)):
        if all(abs(panel.x(tick) - panel.x(other)) > 24 for other in kept):
            kept.append(tick)
    return sorted(kept)


def mixing_drawing(view: StudyView) -> Drawing | None:
    """Return the ratios of errors: a column a number of samples, a line a task and mixture, log axis shared.

    Right of 1 the mixture is worse than the specialist; the dashed line is at 1.5.
    """
    entries = shown_mixing(view)
    if not entries:
        return None
    counts = _counts(entries)
    entries = [entry for entry in entries if entry.num_samples in counts]
    tops = _tops(view, _slots(view, entries))
    bottom = max(tops.values()) + 14
    values = [v for e in entries for v in (e.ratio, e.low, e.high) if v is not None and drawable(v)]
    wide = min((WIDTH - _LEFT - 10 - (len(counts) - 1) * _GAP) / len(counts), 340.0)
    parts = _task_labels(view, tops)
    for i, count in enumerate(counts):
        left = _LEFT + i * (wide + _GAP)
        panel = Panel(Scale.over([*values, 0.9, _LIMIT], left, left + wide), Scale(0, 1, bottom, _TOP, log=False))
        ticks = _ticks(panel)
        rows = [entry for entry in entries if entry.num_samples == count]
        drawn = [
            panel.grid_x(ticks, [plain_number(tick) for tick in ticks]),
            *_guides(panel, [tops[e.target, e.mixture] for e in entries]),
            *_references(panel),
            panel.edges(),
            panel.title(count_words(count), lines=1),
            *(_draw(view, panel, entry, tops[entry.target, entry.mixture]) for entry in rows),
        ]
        parts.append(element("g", *drawn, class_="panel", role="group", aria_label=count_words(count)))
    right = _LEFT + len(counts) * (wide + _GAP) - _GAP
    name = "error from the mixture ÷ error from the specialist"
    parts.append(element("text", name, x=(_LEFT + right) / 2, y=bottom + 38, class_="name mid"))
    label = f"ratio of errors, mixture over specialist, {len(counts)} numbers of samples"
    return Drawing("", svg(WIDTH, bottom + 48, label, join(parts)))


def mixing_keys(view: StudyView) -> list[Key]:
    """Return the legend: mixtures that hold the task's system, and mixtures it was left out of."""
    words = {True: "mixture that holds the task's system", False: "leave-one-out: mixture without it"}
    seen = {entry.contains_system for entry in shown_mixing(view)}
    return [
        Key(_LOOKS[holds][0], key_picture(_LOOKS[holds][1], shape=_LOOKS[holds][2]), words[holds])
        for holds in (True, False)
        if holds in seen
    ]
