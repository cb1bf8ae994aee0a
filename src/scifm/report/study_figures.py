"""Shift, mixtures and scaling of a study: each a short function to a `Figure`, None where there is nothing to show."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.study import Mixing, ScalingAxis, ShiftMeasure, ShiftTask
from scifm.report.gain_figures import ERROR, span_text
from scifm.report.study_view import StudyView, count_words, drawable
from scifm.wording import count_text, number_text, plain_number, short_count

__all__ = ["best_measure", "drawn_tasks", "mixing_figure", "scaling_figure", "shift_figure"]

# --- zero-shot error against a measure of the shift -------------------------------------------------------------------


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
    return value if value is not None and math.isfinite(value) else None


def _about_task(view: StudyView, task: ShiftTask, measure: ShiftMeasure) -> str:
    measures = [measure, *(m for m in view.analysis.shift.measures if m != measure)]
    lines = [
        view.target_label(task.target),
        f"source: {view.source_label(task.source)}",
        f"size: {task.size}",
        f"zero-shot error {number_text(task.zero_shot)}",
        *(f"{m.label or m.name}: {number_text(_value(task, m))}" for m in measures),
    ]
    return "\n".join(lines)


def shift_figure(view: StudyView, caption: str) -> Figure | None:
    """Return zero-shot error against the best measure, by system, hollow where the source is a mixture.

    The measure's axis is logarithmic where its values span more than a factor of twelve.
    """
    measure = best_measure(view)
    tasks = drawn_tasks(view, measure) if measure is not None else []
    if measure is None or len(tasks) < 2:  # one point has no order
        return None
    values = [value for task in tasks if (value := _value(task, measure)) is not None]
    log = min(values) > 0 and max(values) / min(values) > 12
    mixed = {task.source: len(view.source(task.source).systems) > 1 for task in tasks}
    words = {False: "pre-trained on one system", True: "pre-trained on a mixture"}
    several, series = len(set(mixed.values())) > 1, []
    for group in view.groups:
        order = [target.name for target in group.targets]
        for source, mixture in mixed.items():
            own = [task for task in tasks if task.target in order and task.source == source]
            own.sort(key=lambda task: order.index(task.target))
            made = Series(
                label=group.label,
                variant=words[mixture] if several else "",
                x=tuple(_value(task, measure) for task in own),
                y=tuple(task.zero_shot for task in own),
                told=tuple(_about_task(view, task, measure) for task in own),
                notes=() if mixture else tuple(str(order.index(task.target) + 1) for task in own),
                line="faint",
                hollow=mixture,
            )
            series += [made] if own else []
    series.sort(key=lambda one: one.hollow)
    x = Axis(label=measure.label or measure.name, scale="log" if log else "linear")
    y = Axis(label="zero-shot relative L2 error", scale="log")
    return Figure(caption=caption, panels=(Panel(x=x, y=y, series=tuple(series)),), variants_by="filling")


# --- mixtures against specialists -------------------------------------------------------------------------------------

_MOST_COUNTS = 5
_MIXTURES = {True: "mixture that holds the task's system", False: "leave-one-out: mixture without it"}


def _some(counts: Sequence[int]) -> list[int]:
    """Return all counts, or about five evenly chosen with both ends."""
    if len(counts) <= _MOST_COUNTS:
        return list(counts)
    step = (len(counts) - 1) / (_MOST_COUNTS - 1)
    return [counts[round(i * step)] for i in range(_MOST_COUNTS)]


def _about_mixing(view: StudyView, entry: Mixing) -> str:
    left_out = "" if entry.contains_system else " (system left out)"
    lines = [
        f"{view.target_label(entry.target)}, {count_words(entry.num_samples)}",
        f"mixture: {view.source_label(entry.mixture)}{left_out}",
        f"specialist: {view.source_label(entry.specialist)}",
        f"size: {entry.size}",
        f"ratio {number_text(entry.ratio)}{span_text(entry.low, entry.high)}",
        f"errors: mixture {number_text(entry.mixture_error)}, specialist {number_text(entry.specialist_error)}, "
        f"from scratch {number_text(entry.scratch_error)}",
    ]
    return "\n".join(lines)


def _lines(view: StudyView, entries: Sequence[Mixing]) -> tuple[list[str], dict[tuple[str, str], float]]:
    """Return the categories, tasks with a gap between systems, and the height of each task's mixtures."""
    names: list[str] = []
    heights: dict[tuple[str, str], float] = {}
    ordered = sorted(entries, key=lambda entry: not entry.contains_system)
    for group in view.groups:
        tasks = [t.name for t in group.targets if any(entry.target == t.name for entry in entries)]
        names += [""] if names and tasks else []
        for task in tasks:
            mixtures = list(dict.fromkeys(entry.mixture for entry in ordered if entry.target == task))
            offsets = [0.4 * (i - (len(mixtures) - 1) / 2) for i in range(len(mixtures))]
            heights |= {(task, m): len(names) + o for m, o in zip(mixtures, offsets, strict=True)}
            names.append(view.target_label(task))
    return names, heights


def mixing_figure(view: StudyView, caption: str) -> Figure | None:
    """Return ratios of errors, mixture over specialist: a panel a number of samples, a line a task and mixture."""
    known = [entry for entry in view.analysis.mixing if drawable(entry.ratio)]
    entries = [entry for entry in known if entry.size == view.main_size] or known
    counts = _some(sorted({entry.num_samples for entry in entries}))
    names, heights = _lines(view, [entry for entry in entries if entry.num_samples in counts])
    panels = []
    for count in counts:
        series = []
        for contains, label in _MIXTURES.items():
            own = [e for e in entries if e.num_samples == count and e.contains_system == contains]
            made = Series(
                label=label,
                x=tuple(e.ratio for e in own),
                y=tuple(heights[e.target, e.mixture] for e in own),
                low=tuple(e.low for e in own),
                high=tuple(e.high for e in own),
                told=tuple(_about_mixing(view, e) for e in own),
                joined=False,
                place=0 if contains else 1,
            )
            series += [made] if own else []
        rules = (Rule(at=1.0, crosses="x"), Rule(at=1.5, crosses="x", line="dashed"))
        x = Axis(label="error from the mixture ÷ error from the specialist", scale="log")
        y = Axis(label="", categories=tuple(names))
        panels.append(Panel(x=x, y=y, series=tuple(series), rules=rules, title=count_words(count)))
    return Figure(caption=caption, panels=tuple(panels), shared=("x", "y")) if panels else None


# --- scaling laws -----------------------------------------------------------------------------------------------------


def _amount(value: float) -> str:
    if not 1 <= value < 1e12:
        return plain_number(value)
    return count_text(round(value)) if value < 1e5 else short_count(value)


def _scaling_panel(axis: ScalingAxis) -> Panel | None:
    name = axis.label or axis.axis
    dots = [
        (p.x, v, f"{name}: {_amount(p.x)}\nseeds: {', '.join(map(number_text, p.values))}")
        for p in axis.points
        for v in p.values
        if drawable(p.x) and drawable(v)
    ]
    if not dots:
        return None
    x, y, told = zip(*dots, strict=True)
    series = [Series(label="one seed", x=x, y=y, told=told, joined=False, place=0)]
    law = axis.law
    if law is not None and len(law.grid_x) > 1:
        series.append(Series(label="fitted law", x=law.grid_x, y=law.grid_y, marked=False, place=1))
    horizontal = Axis(label=name, scale="log", form="count")
    return Panel(x=horizontal, y=ERROR, series=tuple(series), title=law.text if law else "", group=name)


def scaling_figure(view: StudyView, caption: str) -> Figure | None:
    """Return a panel an axis of scale: every seed as a point, the fitted law as a line, its text above."""
    panels = [panel for axis in view.analysis.scaling.axes if (panel := _scaling_panel(axis)) is not None]
    return Figure(caption=caption, panels=tuple(panels)) if panels else None
