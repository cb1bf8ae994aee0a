"""Zero-shot error against a measure of the shift: does the measure foretell the error?"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from scifm.findings.study import ShiftMeasure, ShiftTask
from scifm.report.drawing import (
    MARKS,
    Drawing,
    Key,
    Panel,
    Scale,
    element,
    fitted_ticks,
    key_picture,
    mark,
    path_through,
    plain_number,
    point_group,
    svg,
    text_width,
)
from scifm.report.study_view import StudyView, drawable
from scifm.report.tables import number_text
from scifm.wording import plural

__all__ = ["best_measure", "correlation_words", "drawn_tasks", "shift_drawing", "shift_keys"]

_WIDE, _LEFT, _TOP, _RIGHT, _BOTTOM = 720.0, 70.0, 14.0, 700.0, 366.0


_STRENGTHS = (
    (0.9, "almost the same"),
    (0.7, "much the same"),
    (0.4, "partly the same"),
    (0.1, "hardly the same"),
)


def correlation_words(measure: ShiftMeasure) -> str:
    """Return a rank correlation in words, by its size and sign."""
    value = measure.rank_correlation
    if value is None or not abs(value) <= 1:
        return "no rank correlation could be computed"
    if abs(value) < 0.1:
        return f"no order in common (rank correlation {value:.2f})".replace("-", "−")
    strength = next(word for least, word in _STRENGTHS if abs(value) >= least)
    turned = "" if value > 0 else ", reversed"
    return f"{strength} order{turned} (rank correlation {value:.2f})".replace("-", "−")


def best_measure(view: StudyView) -> ShiftMeasure | None:
    """Return the measure with the largest absolute rank correlation that has a task to draw."""
    usable = [measure for measure in view.analysis.shift.measures if drawn_tasks(view, measure)]
    return max(usable, key=lambda m: -1.0 if m.rank_correlation is None else abs(m.rank_correlation), default=None)


def drawn_tasks(view: StudyView, measure: ShiftMeasure) -> list[ShiftTask]:
    """Return tasks of the main size (of every size, where the main one has none) with a value and a positive error."""
    known = [t for t in view.analysis.shift.tasks if drawable(t.zero_shot) and _value(t, measure) is not None]
    return [task for task in known if task.size == view.main_size] or known


def _value(task: ShiftTask, measure: ShiftMeasure) -> float | None:
    value = task.values.get(measure.name)
    return value if value is not None and abs(value) < float("inf") else None


def _places(tasks: Sequence[ShiftTask], measure: ShiftMeasure) -> list[tuple[float, float]]:
    return [(v, t.zero_shot) for t in tasks if (v := _value(t, measure)) is not None and t.zero_shot is not None]


def _panel(places: Sequence[tuple[float, float]]) -> Panel:
    """Return the panel; the measure's axis is logarithmic where its values span more than a factor of twelve."""
    first, second = zip(*places, strict=True)
    log = min(first) > 0 and max(first) / min(first) > 12
    return Panel(Scale.over(first, _LEFT, _RIGHT, log=log, margin=0.07), Scale.over(second, _BOTTOM, _TOP, margin=0.07))


def _system(view: StudyView, task: ShiftTask) -> str:
    return view.target(task.target).system


def _specialist(view: StudyView, task: ShiftTask) -> bool:
    return len(view.source(task.source).systems) < 2


def _told(view: StudyView, task: ShiftTask, measure: ShiftMeasure) -> str:
    others = [
        f"{m.label or m.name}: {number_text(_value(task, m))}" for m in view.analysis.shift.measures if m != measure
    ]
    lines = [
        view.target_label(task.target),
        f"source: {view.source_label(task.source)}",
        f"size: {task.size}",
        f"zero-shot error {number_text(task.zero_shot)}",
        f"{measure.label or measure.name}: {number_text(_value(task, measure))}",
        *others,
    ]
    return "\n".join(lines)


def _order(view: StudyView, task: ShiftTask) -> int:
    """Return the place of a task in its system, 1 the mildest."""
    own = [t.name for t in view.analysis.targets if t.system == _system(view, task)]
    return own.index(task.target) + 1


def _labels(marks: Sequence[tuple[float, float, str]]) -> list[Markup]:
    """Return a number beside each mark, where one of four sides is free; none where none is."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y, _ in marks]
    found = []
    for x, y, text in marks:
        wide = text_width(text, 11)
        for left, base in ((x + 8, y + 4), (x - 8 - wide, y + 4), (x - wide / 2, y - 9), (x - wide / 2, y + 18)):
            box = (left, base - 9, left + wide, base + 1)
            if not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
                taken.append(box)
                found.append(element("text", text, x=left, y=base, class_="note"))
                break
    return found


def _series(view: StudyView, tasks: Sequence[ShiftTask]) -> dict[tuple[str, str], list[ShiftTask]]:
    """Return tasks by (system, source), each in the order of the analysis."""
    found: dict[tuple[str, str], list[ShiftTask]] = {}
    for task in sorted(tasks, key=lambda task: _order(view, task)):
        found.setdefault((_system(view, task), task.source), []).append(task)
    return found


def _look(view: StudyView, system: str) -> int:
    systems = list(dict.fromkeys(target.system for target in view.analysis.targets))
    return systems.index(system) % len(MARKS)


def shift_drawing(view: StudyView) -> Drawing | None:
    """Return zero-shot error against the best measure, marked by system, hollow where the source is a mixture."""
    measure = best_measure(view)
    if measure is None:
        return None
    tasks = drawn_tasks(view, measure)
    panel = _panel(_places(tasks, measure))
    x_ticks = fitted_ticks(panel.x, 8)
    parts = [
        panel.grid_y(fitted_ticks(panel.y, 8)),
        panel.grid_x(x_ticks, [plain_number(tick) for tick in x_ticks]),
        panel.edges(),
        panel.y_name("zero-shot relative L2 error", before=54),
        panel.x_name(measure.label or measure.name, below=38),
    ]
    for (system, source), members in _series(view, tasks).items():
        look = _look(view, system)
        places = [(panel.x(v), panel.y(e)) for v, e in _places(members, measure)]
        drawn = [path_through(places, style="line faint")]
        hollow = not _specialist(view, members[0])
        for task, (x, y) in zip(members, places, strict=True):
            hit = element("circle", cx=x, cy=y, r=10, class_="hit")
            drawn.append(point_group(_told(view, task, measure), mark(MARKS[look], x, y, hollow=hollow), hit=hit))
        numbers = [(x, y, str(_order(view, t))) for t, (x, y) in zip(members, places, strict=True)]
        drawn += [] if hollow else _labels(numbers)
        kind = "mixture" if hollow else "specialist"
        inner = element("g", *drawn, data_series=kind)
        label = f"{system}, pre-trained on {source}"
        group = element("g", inner, class_=f"tone-{look}", data_series=f"system-{look}")
        parts.append(element("g", group, class_="panel", role="group", aria_label=label))
    name = f"zero-shot error against {measure.label or measure.name}, {plural(len(tasks), 'point')}"
    return Drawing("", svg(_WIDE, _BOTTOM + 52, name, *parts))


def shift_keys(view: StudyView) -> list[Key]:
    """Return the legend: systems by color and mark, then specialist and mixture where both are drawn."""
    measure = best_measure(view)
    tasks = drawn_tasks(view, measure) if measure else []
    labels = {group.system: group.label for group in view.groups}
    keys = [
        Key(f"system-{_look(view, s)}", key_picture(f"tone-{_look(view, s)}", shape=MARKS[_look(view, s)]), labels[s])
        for s in dict.fromkeys(target.system for target in view.analysis.targets)
        if any(_system(view, task) == s for task in tasks)
    ]
    kinds = {_specialist(view, task) for task in tasks}
    if len(kinds) > 1:
        keys.append(Key("specialist", key_picture("tone-ink", shape="circle"), "pre-trained on one system"))
        keys.append(Key("mixture", key_picture("tone-ink", shape="circle", hollow=True), "pre-trained on a mixture"))
    return keys
