"""Error against the number of samples trained on: each task's main source, and all sources of a task side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scifm.findings.figure import Axis, Figure, Note, Panel, Rule, Series
from scifm.findings.study import ErrorCurve, ErrorPoint, Gain, Mixing, Target
from scifm.report.study import Study, count_words, drawable, interval_text
from scifm.wording import factor_text, number_text, short_count

__all__ = [
    "ERROR",
    "SCRATCH",
    "TUNED",
    "error_figure",
    "placed",
    "seed_lines",
    "sources_figure",
    "span_text",
    "undrawn_points",
]

ERROR = Axis(label="relative L2 error", scale="log")
TUNED, SCRATCH = 0, 1  # places in the palette


def span_text(low: float | None, high: float | None, level: str = "") -> str:
    """Return an interval in brackets, nothing where an end is not known."""
    text = interval_text(low, high)
    return text and f" ({level}{text})"


def placed(x: float | None, y: float | None, of: ErrorPoint | Gain | Mixing) -> dict[str, Any]:
    """Return a point of a series with its interval."""
    return {"x": x, "y": y, "low": of.low, "high": of.high}


def seed_lines(point: ErrorPoint) -> list[str]:
    """Return lines that tell the seeds' values and the runs behind them."""
    lines = [f"seeds: {', '.join(map(number_text, point.values))}"] if point.values else []
    return [*lines, *(run for run in point.runs if run)]


def _about_point(study: Study, head: str, target: Target, source: str, size: str, point: ErrorPoint) -> str:
    level = f"{study.analysis.level:.0%} interval ".replace("%", " %") if study.analysis.level else "interval "
    lines = [
        head,
        f"task: {study.target_label(target.name)}",
        *([f"source: {study.source_label(source)}"] if source else []),
        f"size: {size}",
        f"median error {number_text(point.median)}{span_text(point.low, point.high, level)}",
    ]
    return "\n".join([*lines, *seed_lines(point)])


def _ways(study: Study) -> Iterator[tuple[str, str, str | None, int]]:
    """Yield (label, kind, method, place) of what is trained on downstream samples."""
    others = [method for method in study.methods if method != study.main_method]
    yield (f"fine-tuned ({study.main_method})" if others else "fine-tuned"), "few_shot", study.main_method, TUNED
    for i, method in enumerate(others):
        yield f"fine-tuned ({method})", "few_shot", method, 3 + i % 3
    yield "from scratch", "from_scratch", None, SCRATCH


_LEVELS = {
    "zero_shot": Rule(at=1.0, label="zero-shot (no sample)", line="dashed", place=2),
    "in_distribution": Rule(at=1.0, label="in distribution (its pre-training systems)", line="dotted", place=5),
}


def _trained_series(study: Study, target: Target) -> list[Series]:
    """Return every way that is drawn for a task."""
    main, drawn = study.main_sources[target.name], []
    for label, kind, method, place in _ways(study):
        for curve in study.curves((kind,), target=target.name, size=study.main_size, method=method):
            if kind == "few_shot" and (main is None or curve.source != main):
                continue
            line = "dashed" if place > SCRATCH else "solid"
            drawn.append(Series.of(_points(study, target, curve, label), label=label, line=line, place=place))
    return drawn


def _points(study: Study, target: Target, curve: ErrorCurve, label: str) -> list[dict[str, Any]]:
    """Return the points of a curve that were trained on samples, fewest first."""
    points = []
    for p in sorted((p for p in curve.points if p.num_samples > 0), key=lambda p: p.num_samples):
        about = _about_point(study, f"{label} on {count_words(p.num_samples)}", target, curve.source, curve.size, p)
        points.append(placed(p.num_samples, p.median, p) | {"singles": p.values, "told": about})
    return points


def _level_rules(study: Study, target: Target) -> list[Rule]:
    rules = []
    for kind, rule in _LEVELS.items():
        point = study.level_of(kind, target)
        if point is not None and drawable(point.median):
            source, size = study.main_sources[target.name] or "", study.main_size or ""
            about = _about_point(study, rule.label, target, source, size, point)
            rules.append(rule.model_copy(update={"at": point.median, "told": about}))
    return rules


def undrawn_points(study: Study) -> int:
    """Return how many points of the first figure have no finite positive median and so no place in it."""
    series = [one for target in study.analysis.targets for one in _trained_series(study, target)]
    return sum(not drawable(median) for one in series for median in one.y)


def error_figure(study: Study) -> Figure | None:
    """Return error against number of samples: a panel a task, mildest shift first, axes shared within a system."""
    trained = {target.name: _trained_series(study, target) for target in study.analysis.targets}
    shown = [series for own in trained.values() for series in own]
    counts = sorted({x for s in shown for x, y in zip(s.x, s.y, strict=True) if x is not None and drawable(y)})
    if not counts:
        return None
    axis = _count_axis(counts)
    panels: list[Panel] = []
    for group in study.groups:
        own = []
        for target, title in zip(group.targets, group.short_labels, strict=True):
            rules, series = tuple(_level_rules(study, target)), tuple(trained[target.name])
            notes = tuple(
                Note(at=gain.num_samples, text=f"{factor_text(gain.gain)}×", good=(gain.gain or 0.0) >= 0.95)
                for gain in study.gains(target, study.main_size)
                if drawable(gain.gain)
            )
            own.append(Panel(x=axis, y=ERROR, series=series, rules=rules, notes=notes, title=title, group=group.label))
        if any(panel.rules or any(drawable(y) for one in panel.series for y in one.y) for panel in own):
            panels += own
    return Figure(caption=_error_caption(study), panels=tuple(panels), shared=("x", "y"))


def _count_axis(counts: list[float]) -> Axis:
    margin = (counts[-1] / counts[0]) ** 0.09 if len(counts) > 1 else 1.5
    low, high, label = counts[0] / margin, counts[-1] * margin, "number of downstream samples"
    return Axis(label=label, scale="log", form="count", ticks=tuple(counts), low=low, high=high)


def _error_caption(study: Study) -> str:
    has_intervals = any(p.low is not None for c in study.curves(("few_shot", "from_scratch")) for p in c.points)
    of_level = f" of {100 * study.analysis.level:g}\N{NO-BREAK SPACE}%" if study.analysis.level else ""
    spread = f"bands are intervals{of_level} over seeds" if has_intervals else "no interval over seeds was recorded"
    size = next((size for size in study.sizes if size.name == study.main_size), None)
    what = "Network" if len(study.analysis.architectures) > 1 else "Size"
    words = "" if size is None else f" {what}: {size.name}, {short_count(size.num_params)} parameters."
    gains = " The factor above a count is the gain, error from scratch over error fine-tuned."
    rows = "; in each row one system, from the mildest shift to the strongest, on one vertical axis"
    return (
        "Mean relative L2 error on unseen samples against the number of samples of the task trained on, both axes "
        f"logarithmic{rows if len(study.analysis.targets) > 1 else ''}. Points are medians over seeds, small dots "
        f"single seeds, {spread}.{gains if study.analysis.gains else ''}{words}"
    )


# --- one source beside another ----------------------------------------------------------------------------------------


def sources_figure(study: Study) -> Figure | None:
    """Return error against number of samples of every source that is moved to a task, where that are several."""
    drawn: dict[str, list[Series]] = {}
    names = [source.name for source in study.analysis.sources]
    for target in study.analysis.targets:
        own = {"target": target.name, "size": study.main_size}
        tuned = {c.source: c for c in study.curves(("few_shot",), method=study.main_method, **own)}
        if len(tuned) < 2:
            continue
        series = []
        for name, curve in tuned.items():
            points = _points(study, target, curve, "fine-tuned")
            place = _SOURCE_PLACES[names.index(name) % len(_SOURCE_PLACES)]
            series.append(Series.of(points, label=name, interval="bar", place=place))
        for curve in study.curves(("from_scratch",), **own):
            points = _points(study, target, curve, "from scratch")
            series.append(Series.of(points, label="from scratch", interval="bar", line="dashed", place=SCRATCH))
        drawn[target.name] = series
    every = [series for own in drawn.values() for series in own]
    counts = sorted({x for s in every for x, y in zip(s.x, s.y, strict=True) if x is not None and drawable(y)})
    if not counts:
        return None
    x, panels = _count_axis(counts), []
    for group in study.groups:
        for target, title in zip(group.targets, group.short_labels, strict=True):
            if target.name in drawn:
                panels.append(Panel(x=x, y=ERROR, series=tuple(drawn[target.name]), title=title, group=group.label))
    caption = (
        "What the network was pre-trained on: error of every source fine-tuned on a task against the number of its "
        "samples, both axes logarithmic, beside training from scratch (dashed). Points are medians over seeds, small "
        "dots single seeds, bars intervals."
    )
    return Figure(caption=caption, panels=tuple(panels), shared=("x", "y"))


_SOURCE_PLACES = (0, 2, 3, 4, 5)  # of the palette, but for that of training from scratch
