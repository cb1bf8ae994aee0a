"""The figures of a study: is pre-training worth it, what of shift, mixtures and scale; how training went.

Each is a short function from the study to a `Figure`, None where there is nothing to show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.study import ErrorPoint, Gain, Mixing, ScalingAxis, ShiftMeasure, ShiftTask, Target
from scifm.report.architectures import architecture_figure, cost_figure
from scifm.report.records import Curve
from scifm.report.run_page import STEP, history, training_figure
from scifm.report.study import Study, count_words, drawable
from scifm.report.study_errors import ERROR, SCRATCH, TUNED, error_figure, placed, seed_lines, sources_figure, span_text
from scifm.wording import KIND_NAMES, count_text, number_text, plain_number, plural, short_count

__all__ = [
    "STUDY_FIGURES",
    "adaptation_figure",
    "best_measure",
]

_MOST_HISTORIES = 4  # tasks, and pre-trainings, whose histories are drawn: more only make the page long


# --- error and gain against size --------------------------------------------------------------------------------------


def _fixed_counts(study: Study) -> list[int]:
    """Return the fewest, a middle and the largest number of samples fine-tuned on at two sizes of an architecture."""
    architecture = {size.name: size.architecture for size in study.sizes}
    sizes: dict[tuple[str, str, int], set[str]] = {}
    for curve in study.curves(("few_shot",), method=study.main_method):
        for point in curve.points:
            if drawable(point.median):
                place = (architecture[curve.size], curve.target, point.num_samples)
                sizes.setdefault(place, set()).add(curve.size)
    counts = sorted({count for (*_, count), seen in sizes.items() if len(seen) > 1})
    return sorted({counts[0], counts[len(counts) // 2], counts[-1]}) if counts else []


_Entries = Sequence[tuple[str, ErrorPoint | Gain]]


def _against_size(study: Study, target: Target, label: str, count: int, entries: _Entries) -> list[Series]:
    """Return a series over the sizes of each architecture, errors of a way or gains, on one number of samples."""
    groups, own = study.analysis.architectures, [entry for entry in entries if entry[1].num_samples == count]
    drawn = []
    for place, (architecture, sizes) in enumerate(groups.items()):
        params, scratch = {size.name: size.num_params for size in sizes}, label == "from scratch"
        points = []
        for size, entry in sorted((e for e in own if e[0] in params), key=lambda entry: params[entry[0]]):
            value = entry.gain if isinstance(entry, Gain) else entry.median
            lines = [f"{label or 'gain'} on {count_words(count)}", f"task: {study.target_label(target.name)}"]
            lines += [] if scratch else [f"source: {study.source_label(study.main_sources[target.name] or '')}"]
            lines.append(f"size: {size}, {count_text(params[size])} parameters")
            number = f"median error {number_text(value)}" if label else f"{value or math.nan:.2f}×"
            lines += [
                number + span_text(entry.low, entry.high),
                *([] if isinstance(entry, Gain) else seed_lines(entry)),
            ]
            points.append(placed(params[size], value, entry) | {"told": "\n".join(lines)})
        line, tone = ("dashed", SCRATCH) if scratch else ("solid", TUNED)
        looks: dict[str, Any] = {"interval": "bar", "line": line, "hollow": scratch, "place": tone}
        if len(groups) > 1:  # a color each, and no line from one to another
            looks["place"] = place
            label_here = f"{architecture}, {label or 'fine-tuned'}"
        else:
            label_here = label
        drawn += [Series.of(points, label=label_here, variant=count_words(count), **looks)] if points else []
    return drawn


def size_figure(study: Study) -> Figure | None:
    """Return error (above) and gain (beneath) against the number of parameters, at fixed numbers of samples."""
    counts = _fixed_counts(study)
    used = {curve.size for curve in study.curves(("few_shot",))}
    places = tuple(float(size.num_params) for size in study.sizes if size.name in used)
    x, y = Axis(label="number of parameters", scale="log", form="count", ticks=places), Axis(label="gain", scale="log")
    panels = []
    for group in study.groups:
        for target, title in zip(group.targets, group.short_labels, strict=True):
            source, errors = study.main_sources[target.name], []
            wanted = {"few_shot": {"source": source, "method": study.main_method}, "from_scratch": {}}
            for label, kind in (("fine-tuned", "few_shot"), ("from scratch", "from_scratch")):
                curves = study.curves((kind,), target=target.name, **wanted[kind]) if source or not wanted[kind] else []
                points = [(c.size, p) for c in curves for p in c.points if c.size in used and drawable(p.median)]
                errors += [one for n in counts for one in _against_size(study, target, label, n, points)]
            known = [(g.size, g) for g in study.gains(target, None) if g.size in used and drawable(g.gain)]
            gains = [one for count in counts for one in _against_size(study, target, "", count, known)]
            beneath = Panel(x=x, y=y, series=tuple(gains), rules=(Rule(at=1.0),))
            panels.append(Panel(x=x, y=ERROR, series=tuple(errors), title=title, group=group.label, beneath=beneath))
    gained = any(panel.beneath.series for panel in panels if panel.beneath)
    drawn = [panel for panel in panels if any(len(series.x) > 1 for series in panel.series)]
    if not gained:
        drawn = [panel.model_copy(update={"beneath": None}) for panel in drawn]
    caption = (
        "Error (above) and gain (beneath) against the number of parameters, all axes logarithmic, at fixed numbers of "
        "downstream samples. At a gain of 1, the horizontal line, pre-training makes no difference. Bars are intervals."
    )
    if len(study.analysis.architectures) > 1:
        caption += " Lines join sizes of one architecture only; full marks are fine-tuned, hollow ones from scratch."
    return Figure(caption=caption, panels=tuple(drawn), shared=("x", "y")) if drawn else None


# --- zero-shot error against a measure of the shift -------------------------------------------------------------------


def best_measure(study: Study) -> ShiftMeasure | None:
    """Return the measure with the largest absolute rank correlation that has a task to draw."""
    usable = [measure for measure in study.analysis.shift.measures if drawn_tasks(study, measure)]
    return max(usable, key=lambda m: -1.0 if m.rank_correlation is None else abs(m.rank_correlation), default=None)


def drawn_tasks(study: Study, measure: ShiftMeasure) -> list[ShiftTask]:
    """Return tasks of the main size (of every size, where the main one has none) with a value and a positive error."""
    known = [t for t in study.analysis.shift.tasks if drawable(t.zero_shot) and _value(t, measure) is not None]
    return [task for task in known if task.size == study.main_size] or known


def _value(task: ShiftTask, measure: ShiftMeasure) -> float | None:
    value = task.values.get(measure.name)
    return value if value is not None and math.isfinite(value) else None


def _about_task(study: Study, task: ShiftTask, measure: ShiftMeasure) -> str:
    measures = [measure, *(m for m in study.analysis.shift.measures if m != measure)]
    lines = [
        study.target_label(task.target),
        f"source: {study.source_label(task.source)}",
        f"size: {task.size}",
        f"zero-shot error {number_text(task.zero_shot)}",
        *(f"{m.label or m.name}: {number_text(_value(task, m))}" for m in measures),
    ]
    return "\n".join(lines)


def shift_figure(study: Study) -> Figure | None:
    """Return zero-shot error against the best measure, by system, hollow where the source is a mixture.

    The measure's axis is logarithmic where its values span more than a factor of twelve.
    """
    measure = best_measure(study)
    tasks = drawn_tasks(study, measure) if measure is not None else []
    if measure is None or len(tasks) < 2:  # one point has no order
        return None
    values = [value for task in tasks if (value := _value(task, measure)) is not None]
    log = min(values) > 0 and max(values) / min(values) > 12
    mixed = {task.source: len(study.source(task.source).systems) > 1 for task in tasks}
    words = {False: "pre-trained on one system", True: "pre-trained on a mixture"}
    several, series = len(set(mixed.values())) > 1, []
    for group in study.groups:
        order = [target.name for target in group.targets]
        for source, mixture in mixed.items():
            points = []
            own = [task for task in tasks if task.target in order and task.source == source]
            for task in sorted(own, key=lambda task: order.index(task.target)):
                about, note = _about_task(study, task, measure), "" if mixture else str(order.index(task.target) + 1)
                points.append({"x": _value(task, measure), "y": task.zero_shot, "told": about, "notes": note})
            looks = {"variant": words[mixture] if several else "", "line": "faint", "hollow": mixture}
            series += [Series.of(points, label=group.label, **looks)] if points else []
    series.sort(key=lambda one: one.hollow)
    x = Axis(label=measure.label or measure.name, scale="log" if log else "linear")
    y = Axis(label="zero-shot relative L2 error", scale="log")
    sizes = ", ".join(dict.fromkeys(task.size for task in tasks))
    caption = (
        "Zero-shot error against the measure of the shift, one point a task and source; numbers count a system's "
        f"shifts from 1, the mildest, and faint lines join them. Size: {sizes}."
    )
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


def _about_mixing(study: Study, entry: Mixing) -> str:
    left_out = "" if entry.contains_system else " (system left out)"
    lines = [
        f"{study.target_label(entry.target)}, {count_words(entry.num_samples)}",
        f"mixture: {study.source_label(entry.mixture)}{left_out}",
        f"specialist: {study.source_label(entry.specialist)}",
        f"size: {entry.size}",
        f"ratio {number_text(entry.ratio)}{span_text(entry.low, entry.high)}",
        f"errors: mixture {number_text(entry.mixture_error)}, specialist {number_text(entry.specialist_error)}, "
        f"from scratch {number_text(entry.scratch_error)}",
    ]
    return "\n".join(lines)


def _lines(study: Study, entries: Sequence[Mixing]) -> tuple[list[str], dict[tuple[str, str], float]]:
    """Return the categories, tasks with a gap between systems, and the height of each task's mixtures."""
    names: list[str] = []
    heights: dict[tuple[str, str], float] = {}
    ordered = sorted(entries, key=lambda entry: not entry.contains_system)
    for group in study.groups:
        tasks = [t.name for t in group.targets if any(entry.target == t.name for entry in entries)]
        names += [""] if names and tasks else []
        for task in tasks:
            mixtures = list(dict.fromkeys(entry.mixture for entry in ordered if entry.target == task))
            offsets = [0.4 * (i - (len(mixtures) - 1) / 2) for i in range(len(mixtures))]
            heights |= {(task, m): len(names) + o for m, o in zip(mixtures, offsets, strict=True)}
            names.append(study.target_label(task))
    return names, heights


def mixing_figure(study: Study) -> Figure | None:
    """Return ratios of errors, mixture over specialist: a panel a number of samples, a line a task and mixture."""
    known = [entry for entry in study.analysis.mixing if drawable(entry.ratio)]
    entries = [entry for entry in known if entry.size == study.main_size] or known
    counts = _some(sorted({entry.num_samples for entry in entries}))
    names, heights = _lines(study, [entry for entry in entries if entry.num_samples in counts])
    panels = []
    for count in counts:
        series = []
        for contains, label in _MIXTURES.items():
            points = [
                placed(e.ratio, heights[e.target, e.mixture], e) | {"told": _about_mixing(study, e)}
                for e in entries
                if e.num_samples == count and e.contains_system == contains
            ]
            place = 0 if contains else 1
            series += [Series.of(points, label=label, joined=False, place=place)] if points else []
        rules = (Rule(at=1.0, crosses="x"), Rule(at=1.5, crosses="x", line="dashed"))
        x = Axis(label="error from the mixture ÷ error from the specialist", scale="log")
        y = Axis(label="", categories=tuple(names))
        panels.append(Panel(x=x, y=y, series=tuple(series), rules=rules, title=count_words(count)))
    caption = (
        "Error fine-tuned from a mixture over error fine-tuned from the specialist of the task's system, logarithmic, "
        "one panel a number of samples. Right of the line at 1 the specialist is better; the dashed line is at 1.5. "
        "Bars are intervals."
    )
    return Figure(caption=caption, panels=tuple(panels), shared=("x", "y")) if panels else None


# --- scaling laws -----------------------------------------------------------------------------------------------------


def _amount(value: float) -> str:
    if not 1 <= value < 1e12:
        return plain_number(value)
    return count_text(round(value)) if value < 1e5 else short_count(value)


def _scaling_panel(axis: ScalingAxis) -> Panel | None:
    name = axis.label or axis.axis
    points = [
        {"x": p.x, "y": v, "told": f"{name}: {_amount(p.x)}\nseeds: {', '.join(map(number_text, p.values))}"}
        for p in axis.points
        for v in p.values
        if drawable(p.x) and drawable(v)
    ]
    if not points:
        return None
    series = [Series.of(points, label="one seed", joined=False, place=0)]
    law = axis.law
    if law is not None and len(law.grid_x) > 1:
        series.append(Series(label="fitted law", x=law.grid_x, y=law.grid_y, marked=False, place=1))
    horizontal = Axis(label=name, scale="log", form="count")
    return Panel(x=horizontal, y=ERROR, series=tuple(series), title=law.text if law else "", group=name)


def scaling_figure(study: Study) -> Figure | None:
    """Return a panel an axis of scale: every seed as a point, the fitted law as a line, its text above."""
    panels = [panel for axis in study.analysis.scaling.axes if (panel := _scaling_panel(axis)) is not None]
    caption = "Error against an axis of scale, both logarithmic: every seed, and the law fitted to them."
    if any(axis.architecture for axis in study.analysis.scaling.axes):
        caption += " Each architecture has laws of its own; none is drawn through the points of two."
    return Figure(caption=caption, panels=tuple(panels)) if panels else None


# --- histories --------------------------------------------------------------------------------------------------------


def adaptation_figure(
    tasks: Mapping[str, Mapping[str, Sequence[tuple[int, Curve]]]], *, num_left_out: int = 0
) -> Figure | None:
    """Return the histories of adaptations, two panels a task on one logarithmic scale, by number of samples.

    Validation errors are drawn where every one of them logged some, else training losses. `tasks` holds, by task and
    way, number of samples and history of each run; `num_left_out` tasks more there are.
    """
    every = [run for ways in tasks.values() for runs in ways.values() for run in runs]
    validated = bool(every) and all(len(curve.errors) > 1 for _, curve in every)
    if not any(curve.errors if validated else curve.losses for _, curve in every):
        return None
    y = Axis(label="relative L2 error, validation" if validated else "training loss", scale="log")
    panels = []
    for task, ways in tasks.items():
        for way, runs in ways.items():
            series = []
            for count, curve in sorted(runs, key=lambda run: run[0]):
                steps, values = (curve.valid_steps, curve.errors) if validated else (curve.train_steps, curve.losses)
                series += [history(steps, values, plural(count, "sample"))] if steps else []
            panels.append(Panel(x=STEP, y=y, series=tuple(series), title=way, group=task))
    what = (
        "Validation error against the optimizer step. Few downstream samples also mean few validation samples, so the "
        "level seen here is noisier than the test error."
        if validated
        else "Training loss against the optimizer step; on few samples a low value means memorizing, not accuracy on "
        "unseen ones."
    )
    more = f" Of {plural(num_left_out, 'further task')} the histories stand in the folders of the runs."
    caption = f"{plural(len(every), 'adaptation')}, a line each. {what}{more if num_left_out else ''}"
    return Figure(caption=caption, panels=tuple(panels), shared=("y",), ordered=True)


def _runs(study: Study, **wanted: Any) -> list[Mapping[str, Any]]:
    """Return the rows of the table with some values, each run once."""
    rows = [row for row in study.rows or () if row["run"] and all(row.get(k) in v for k, v in wanted.items())]
    return list({row["run"]: row for row in rows}.values())


def _pretraining(study: Study) -> Figure | None:
    """Return the histories of the pre-trainings of the main size, the first seed of each source."""
    curves: dict[str, Curve] = {}
    for row in _runs(study, kind=("zero_shot", "in_distribution"), size=(study.main_size,)):
        label = study.source(row["source"]).label or row["source"]
        if label not in curves and len(curves) < _MOST_HISTORIES:
            curves[label] = study.curve(row["run"])
    which = "; ".join(curves) if len(curves) == 1 else f"the first seed of {plural(len(curves), 'source')}"
    caption = f"Pre-training ({which}): loss and validation error against the optimizer step, both logarithmic."
    return training_figure(curves, caption)


def _adaptations(study: Study) -> Figure | None:
    """Return the histories of adaptations from the main source in the main size, of the first tasks."""
    tasks: dict[str, dict[str, Sequence[tuple[int, Curve]]]] = {}
    for target in study.analysis.targets[:_MOST_HISTORIES]:
        wanted = {"target": (target.name,), "size": (study.main_size,)}
        tuned = _runs(study, kind=("few_shot",), source=(study.main_sources[target.name],), **wanted)
        ways = {"few_shot": tuned, "from_scratch": _runs(study, kind=("from_scratch",), **wanted)}
        tasks[study.target_label(target.name)] = {
            KIND_NAMES[way]: [(int(row["num_samples"]), study.curve(row["run"])) for row in rows]
            for way, rows in ways.items()
        }
    return adaptation_figure(tasks, num_left_out=len(study.analysis.targets) - len(tasks))


STUDY_FIGURES: Mapping[str, Callable[[Study], Figure | None]] = {
    "architectures": architecture_figure,
    "cost": cost_figure,
    "error": error_figure,
    "sources": sources_figure,
    "size": size_figure,
    "shift": shift_figure,
    "mixing": mixing_figure,
    "scaling": scaling_figure,
    "pretraining": _pretraining,
    "adaptations": _adaptations,
}
"""In the order of their numbers, by the name the page gives them; None has nothing to show."""
