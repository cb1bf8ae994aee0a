"""Networks of different kinds side by side on a study's page: bars by task and number of samples, what each costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.findings.study import ErrorPoint, Size, Target
from scifm.report.parts import DASH, Cell, Table
from scifm.report.study import Study, count_words, drawable, interval_text
from scifm.wording import KIND_NAMES, count_text, duration_text, number_text, short_count

__all__ = ["architecture_figure", "architecture_table", "cost_figure", "every_architecture_table"]

_WAYS = {"few_shot": "zero-shot and fine-tuned", "from_scratch": "from scratch"}
_GROUP = 0.8  # of the room between two categories that bars take
_MOST_BARS = 6  # as many as there are colors and marks
_SPANS = 12.0  # a larger factor between errors asks for a logarithmic axis


def _shown(study: Study) -> list[Size]:
    """Return the networks that have bars, by architecture: all, or where they are too many the largest of each."""
    groups = study.analysis.architectures.values()
    every = [size for sizes in groups for size in sizes]
    return every if len(every) <= _MOST_BARS else [sizes[-1] for sizes in groups]


def _points(study: Study, target: Target, size: str, way: str) -> dict[int, ErrorPoint]:
    """Return the errors of a network on a task by number of samples; zero-shot, at 0, stands with the fine-tuned."""
    source = study.main_sources[target.name]
    wanted: dict[str, Any] = {"target": target.name, "size": size}
    points: dict[int, ErrorPoint] = {}
    if way == "few_shot" and source is not None:
        for curve in study.curves(("zero_shot",), source=source, **wanted):
            points |= {point.num_samples: point for point in curve.points}
    if way == "few_shot":
        wanted |= {"source": source or "", "method": study.main_method}
    for curve in study.curves((way,), **wanted):
        points |= {point.num_samples: point for point in curve.points}
    return {count: point for count, point in points.items() if drawable(point.median)}


def _about(study: Study, target: Target, size: Size, way: str, count: int, point: ErrorPoint) -> str:
    span = interval_text(point.low, point.high)
    lines = [
        f"{size.name}, {'zero-shot' if count == 0 else f'{KIND_NAMES[way]} on {count_words(count)}'}",
        f"task: {study.target_label(target.name)}",
        *([f"source: {study.source_label(study.main_sources[target.name] or '')}"] if way == "few_shot" else []),
        f"{count_text(size.num_params)} weights",
        f"median error {number_text(point.median)}{span and f' ({span})'}",
    ]
    lines += [f"seeds: {', '.join(map(number_text, point.values))}"] if point.values else []
    return "\n".join([*lines, *(run for run in point.runs if run)])


def architecture_figure(study: Study) -> Figure | None:
    """Return the errors of networks of different kinds as bars, by number of samples: for each task two panels.

    The axis begins at 0; where errors span more than a factor of twelve it is logarithmic, as its caption says.
    """
    if len(study.analysis.architectures) < 2:
        return None
    sizes = _shown(study)
    every = {
        (target.name, way, size.name): _points(study, target, size.name, way)
        for target in study.analysis.targets
        for way in _WAYS
        for size in sizes
    }
    drawn = [point for points in every.values() for point in points.values()]
    values = [v for p in drawn for v in (p.median, p.low, p.high, *p.values) if v is not None and drawable(v)]
    if not values:
        return None
    log = max(values) > _SPANS * min(values)
    foot = 10 ** math.floor(math.log10(min(values)) - 0.05) if log else 0.0
    y = Axis(label="relative L2 error", scale="log" if log else "linear", low=foot)
    counts = sorted({count for points in every.values() for count in points})
    x = Axis(label="number of downstream samples", categories=tuple(map(count_text, counts)))
    panels = []
    for target in study.analysis.targets:
        for way, title in _WAYS.items():
            series = []
            for place, size in enumerate(sizes):
                wide = _GROUP / len(sizes)
                points = [
                    {
                        "x": counts.index(count) + wide * (place - (len(sizes) - 1) / 2),
                        "y": point.median,
                        "low": point.low,
                        "high": point.high,
                        "singles": point.values,
                        "told": _about(study, target, size, way, count, point),
                    }
                    for count, point in sorted(every[target.name, way, size.name].items())
                ]
                looks = {"label": size.name, "joined": False, "interval": "bar", "bar": wide, "place": place}
                series += [Series.of(points, **looks)] if points else []
            group = study.target_label(target.name)
            panels += [Panel(x=x, y=y, series=tuple(series), title=title, group=group)] if series else []
    return Figure(caption=_caption(study, sizes, log=log), panels=tuple(panels), shared=("x", "y"))


def _caption(study: Study, sizes: Sequence[Size], *, log: bool) -> str:
    names = ", ".join(f"{size.name} ({size.kind}, {short_count(size.num_params)} weights)" for size in sizes)
    left_out = sum(map(len, study.analysis.architectures.values())) - len(sizes)
    level = f" of {100 * study.analysis.level:g}\N{NO-BREAK SPACE}%" if study.analysis.level else ""
    axis = (
        " The axis of errors is logarithmic: compare where bars end, not how long they are."
        if log
        else " Bars begin at an error of 0."
    )
    more = f" Of each architecture the largest is drawn; {left_out} more stand in the table." if left_out else ""
    return (
        f"Networks of different kinds on the same tasks and samples: {names}. Bars are medians over seeds of the mean "
        f"relative L2 error, small dots single seeds, lines intervals{level} over seeds; 0 samples: zero-shot.{axis} "
        f"{budget_words(sizes)}{more}"
    )


def budget_words(sizes: Sequence[Size]) -> str:
    """Return which budget the networks shared, as far as steps and measured times tell."""
    shares = {size.name: size.steps_factor for size in sizes}
    equal = set(shares.values()) == {1.0}
    text = "Every network was trained for equal optimizer steps"
    if not equal:
        told = ", ".join(f"{name} {number_text(share, digits=2)}" for name, share in shares.items())
        text = f"Optimizer steps over those of the study: {told}"
    times = [size.pretrain_seconds for size in sizes if size.pretrain_seconds]
    if len(times) < len(sizes):
        return f"{text}; the times they took are not recorded."
    took = f"a pre-training took {duration_text(min(times))} to {duration_text(max(times))}"
    return f"{text}, not for equal times: {took}." if equal and max(times) > 1.1 * min(times) else f"{text}; {took}."


def cost_figure(study: Study) -> Figure | None:
    """Return what networks of different kinds cost, as bars from 0: weights, time a step, time of a training."""
    if len(study.analysis.architectures) < 2:
        return None
    sizes = _shown(study)
    costs: dict[str, Callable[[Size], float | None]] = {
        "weights": lambda size: size.num_params,
        "milliseconds a step of pre-training": lambda size: _times(size.seconds_per_step, 1000.0),
        "seconds of a pre-training": lambda size: size.pretrain_seconds,
        "seconds of an adaptation": lambda size: size.adapt_seconds,
    }
    x, panels = Axis(label="", categories=tuple(size.name for size in sizes)), []
    for label, cost in costs.items():
        form = "count" if label == "weights" else "number"
        series = []
        for place, size in enumerate(sizes):
            value = cost(size)
            told = f"{size.name}: {number_text(value) if form == 'number' else count_text(size.num_params)} {label}"
            points = [{"x": float(place), "y": value, "told": told}]
            looks = {"label": size.name, "joined": False, "bar": 0.6, "place": place}
            series += [Series.of(points, **looks)] if drawable(value) else []
        y = Axis(label=label, form=form, low=0.0)
        panels += [Panel(x=x, y=y, series=tuple(series), group=label[:1].upper() + label[1:])] if series else []
    caption = (
        "What each network costs: its weights, and wall time as measured in this study, medians over runs. A step of "
        "pre-training has its share of validations in it; an adaptation its trials of learning rates. Runs that shared "
        "the machine with others took longer than they would alone."
    )
    return Figure(caption=caption, panels=tuple(panels)) if panels else None


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _counts(study: Study) -> list[int]:
    """Return the fewest, a middle and the largest number of samples of the main network's curves."""
    curves = study.curves(tuple(_WAYS), size=study.main_size)
    counts = sorted({point.num_samples for curve in curves for point in curve.points if point.num_samples})
    return sorted({counts[0], counts[len(counts) // 2], counts[-1]}) if counts else []


def _cell(point: ErrorPoint | None) -> Cell:
    return Cell(DASH) if point is None else Cell(number_text(point.median), interval_text(point.low, point.high))


def _entries(study: Study) -> list[tuple[Target, Size]]:
    """Return every network on every task, none where there is one architecture only."""
    groups = study.analysis.architectures
    several = len(groups) > 1
    return [(target, size) for target in study.analysis.targets for own in groups.values() for size in own if several]


def architecture_table(study: Study) -> Table:
    """Return a row a task and network: what it is, what it costs, and its errors in the three ways."""

    def error(way: str, count: int) -> Callable[[tuple[Target, Size]], Cell]:
        return lambda entry: _cell(_points(study, entry[0], entry[1].name, way).get(count))

    several = len({size.normalization for size in study.sizes}) > 1
    columns: dict[str, Callable[[Any], Cell | str]] = {
        "task": lambda entry: study.target_label(entry[0].name),
        "network": lambda entry: entry[1].name,
        "kind": lambda entry: Cell(entry[1].kind, entry[1].normalization if several else ""),
        "weights": lambda entry: count_text(entry[1].num_params),
        "steps": lambda entry: f"{entry[1].steps_factor:.3g}×",
        "ms a step": lambda entry: number_text(_times(entry[1].seconds_per_step, 1000.0)),
        "pre-training": lambda entry: duration_text(entry[1].pretrain_seconds),
        "an adaptation": lambda entry: duration_text(entry[1].adapt_seconds),
        "zero-shot": error("few_shot", 0),
    }
    counts = _counts(study)
    for way, name in (("few_shot", "fine-tuned"), ("from_scratch", "from scratch")):
        entries = _entries(study)
        for count in counts:
            if any(count in _points(study, target, size.name, way) for target, size in entries):
                columns[f"{name} on {count_text(count)}"] = error(way, count)
    caption = (
        "Networks side by side: weights, optimizer steps over those of the study, wall time as measured (medians over "
        "runs), and the median over seeds of the mean relative L2 error, with its interval."
    )
    once, wordy = ("task", "steps"), ("task", "network", "kind")
    return Table.of("architectures", caption, _entries(study), columns, wordy=wordy, once=once)


def every_architecture_table(study: Study) -> Table:
    """Return a row a task, network and way with its errors on every number of samples."""
    entries = [(target, size, way) for target, size in _entries(study) for way in _WAYS]
    known = {(t.name, s.name, way): _points(study, t, s.name, way) for t, s, way in entries}
    rows = [
        (Cell(study.target_label(target.name)), Cell(size.name), Cell(KIND_NAMES[way]), points)
        for target, size, way in entries
        if (points := known[target.name, size.name, way])
    ]
    counts = sorted({count for points in known.values() for count in points})
    made = tuple((*head, *(_cell(points.get(count)) for count in counts)) for *head, points in rows)
    caption = "Median over seeds of the mean relative L2 error of every network, with its interval; zero-shot under 0."
    headers = ("task", "network", "way", *map(count_text, counts))
    return Table("architecture-errors", caption, headers, made, wordy=("task", "network", "way"))
