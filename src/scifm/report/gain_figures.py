"""Is pre-training worth it: error and gain against number of samples and against size, as figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from scifm.findings.figure import Axis, Figure, Note, Panel, Rule, Series
from scifm.findings.study import ErrorCurve, ErrorPoint, Gain, Target
from scifm.report.study_view import StudyView, count_words, drawable
from scifm.wording import count_text, factor_text, number_text

__all__ = ["ERROR", "error_figure", "main_gains", "size_figure", "span_text", "undrawn_points"]

ERROR = Axis(label="relative L2 error", scale="log")
_TUNED, _SCRATCH = 0, 1  # places in the palette


# --- what a point tells -----------------------------------------------------------------------------------------------


def _seeds(point: ErrorPoint) -> list[str]:
    """Return lines that tell the seeds' values and the runs behind them."""
    lines = [f"seeds: {', '.join(map(number_text, point.values))}"] if point.values else []
    return [*lines, *(run for run in point.runs if run)]


def span_text(low: float | None, high: float | None, *, level: str = "") -> str:
    """Return an interval in brackets, nothing where an end is not known."""
    if not (drawable(low) and drawable(high)):
        return ""
    return f" ({level}{number_text(low)}–{number_text(high)})"


def _about_point(view: StudyView, head: str, curve: ErrorCurve, point: ErrorPoint) -> str:
    level = f"{view.analysis.level:.0%} interval ".replace("%", " %") if view.analysis.level else "interval "
    lines = [
        head,
        f"task: {view.target_label(curve.target)}",
        *([f"source: {view.source_label(curve.source)}"] if curve.source else []),
        f"size: {curve.size}",
        f"median error {number_text(point.median)}{span_text(point.low, point.high, level=level)}",
    ]
    return "\n".join([*lines, *_seeds(point)])


# --- error against number of samples ----------------------------------------------------------------------------------


def _ways(view: StudyView) -> Iterator[tuple[str, str, str | None, int]]:
    """Yield (label, kind, method, place) of what is trained on downstream samples."""
    others = [method for method in view.methods if method != view.main_method]
    yield (f"fine-tuned ({view.main_method})" if others else "fine-tuned"), "few_shot", view.main_method, _TUNED
    for i, method in enumerate(others):
        yield f"fine-tuned ({method})", "few_shot", method, 3 + i % 3
    yield "from scratch", "from_scratch", None, _SCRATCH


_LEVELS = {
    "zero_shot": Rule(at=1.0, label="zero-shot (no sample)", line="dashed", place=2),
    "in_distribution": Rule(at=1.0, label="in distribution (its pre-training systems)", line="dotted", place=5),
}


def _trained_curves(view: StudyView, target: Target) -> list[tuple[str, int, ErrorCurve]]:
    """Return label, place in the palette and curve of every way that is drawn for a task."""
    found = []
    for label, kind, method, place in _ways(view):
        source = "" if kind == "from_scratch" else view.main_source(target)
        if source is not None:
            curves = view.curves((kind,), target=target.name, size=view.main_size, method=method)
            found += [(label, place, curve) for curve in curves if kind == "from_scratch" or curve.source == source]
    return found


def _trained_series(view: StudyView, target: Target) -> list[Series]:
    found = []
    for label, place, curve in _trained_curves(view, target):
        points = sorted((p for p in curve.points if p.num_samples > 0), key=lambda p: p.num_samples)
        told = [_about_point(view, f"{label} on {count_words(p.num_samples)}", curve, p) for p in points]
        found.append(
            Series(
                label=label,
                x=tuple(p.num_samples for p in points),
                y=tuple(p.median for p in points),
                low=tuple(p.low for p in points),
                high=tuple(p.high for p in points),
                singles=tuple(p.values for p in points),
                told=tuple(told),
                line="dashed" if place > _SCRATCH else "solid",
                place=place,
            )
        )
    return found


def _level_rules(view: StudyView, target: Target) -> list[Rule]:
    source, found = view.main_source(target), []
    for kind, rule in _LEVELS.items():
        point = view.level_of(kind, target=target.name, size=view.main_size, source=source) if source else None
        if point is not None and point.median is not None and drawable(point.median):
            about = {"kind": kind, "source": source, "target": target.name, "size": view.main_size or ""}
            told = _about_point(view, rule.label, ErrorCurve.model_validate(about), point)
            found.append(rule.model_copy(update={"at": point.median, "told": told}))
    return found


def _gain_notes(view: StudyView, target: Target) -> list[Note]:
    return [
        Note(at=gain.num_samples, text=f"{factor_text(gain.gain)}×", good=gain.gain >= 0.95)
        for gain in main_gains(view, target, view.main_size)
        if gain.gain is not None and drawable(gain.gain)
    ]


def main_gains(view: StudyView, target: Target, size: str | None) -> list[Gain]:
    """Return the gains of a task from its main source by the main method, fewest samples first."""
    wanted = (target.name, view.main_source(target), view.main_method)
    own = [g for g in view.analysis.gains if (g.target, g.source, g.method) == wanted]
    return sorted((g for g in own if size is None or g.size == size), key=lambda g: g.num_samples)


def undrawn_points(view: StudyView) -> int:
    """Return how many points of the first figure have no finite positive median and so no place in it."""
    curves = [curve for target in view.analysis.targets for _, _, curve in _trained_curves(view, target)]
    return sum(not drawable(point.median) for curve in curves for point in curve.points)


def _has_points(series: Iterable[Series]) -> bool:
    return any(drawable(y) for one in series for y in one.y)


def error_figure(view: StudyView, caption: str) -> Figure | None:
    """Return error against number of samples: a panel a task, mildest shift first, axes shared within a system."""
    trained = {target.name: _trained_series(view, target) for target in view.analysis.targets}
    shown = [s for series in trained.values() for s in series]
    counts = sorted({x for s in shown for x, y in zip(s.x, s.y, strict=True) if x is not None and drawable(y)})
    if not counts:
        return None
    axis = Axis(label="number of downstream samples", scale="log", form="count", ticks=tuple(counts))
    axis = axis.model_copy(update={"low": counts[0] / _margin(counts), "high": counts[-1] * _margin(counts)})
    panels = [
        Panel(
            x=axis,
            y=ERROR,
            series=tuple(trained[target.name]),
            rules=tuple(_level_rules(view, target)),
            notes=tuple(_gain_notes(view, target)),
            title=title,
            group=group.label,
        )
        for group in view.groups
        if _has_points(s for t in group.targets for s in trained[t.name])
        or any(_level_rules(view, t) for t in group.targets)
        for target, title in zip(group.targets, group.short_labels, strict=True)
    ]
    return Figure(caption=caption, panels=tuple(panels), shared=("x", "y"))


def _margin(counts: Sequence[float]) -> float:
    return float((counts[-1] / counts[0]) ** 0.09) if len(counts) > 1 else 1.5


# --- error and gain against size --------------------------------------------------------------------------------------


def _fixed_counts(view: StudyView) -> list[int]:
    """Return the fewest, a middle and the largest number of samples fine-tuned on at two sizes or more of a task."""
    sizes: dict[tuple[str, int], set[str]] = {}
    for curve in view.curves(("few_shot",), method=view.main_method):
        for point in curve.points:
            if drawable(point.median):
                sizes.setdefault((curve.target, point.num_samples), set()).add(curve.size)
    counts = sorted({count for (_, count), seen in sizes.items() if len(seen) > 1})
    return sorted({counts[0], counts[len(counts) // 2], counts[-1]}) if counts else []


def _against_size(
    view: StudyView, target: Target, label: str, count: int, found: Sequence[tuple[str, ErrorPoint | Gain]]
) -> Series:
    """Return one series over sizes: errors of a way, or gains, on one number of samples."""
    params = {size.name: size.num_params for size in view.sizes}
    found = sorted(found, key=lambda entry: params[entry[0]])
    values = [entry.gain if isinstance(entry, Gain) else entry.median for _, entry in found]
    told = []
    for (size, entry), value in zip(found, values, strict=True):
        span = span_text(entry.low, entry.high)
        source = [] if label == "from scratch" else [f"source: {view.source_label(view.main_source(target) or '')}"]
        told.append(
            "\n".join(
                [
                    f"{label or 'gain'} on {count_words(count)}",
                    f"task: {view.target_label(target.name)}",
                    *source,
                    f"size: {size}, {count_text(params[size])} parameters",
                    f"median error {number_text(value)}{span}" if label else f"{value or math.nan:.2f}×{span}",
                    *([] if isinstance(entry, Gain) else _seeds(entry)),
                ]
            )
        )
    scratch = label == "from scratch"
    return Series(
        label=label,
        variant=count_words(count),
        x=tuple(params[size] for size, _ in found),
        y=tuple(values),
        low=tuple(entry.low for _, entry in found),
        high=tuple(entry.high for _, entry in found),
        told=tuple(told),
        interval="bar",
        line="dashed" if scratch else "solid",
        hollow=scratch,
        place=_SCRATCH if scratch else _TUNED,
    )


def _size_series(view: StudyView, target: Target, counts: Sequence[int]) -> tuple[list[Series], list[Series]]:
    """Return the series of errors and those of gains."""
    sizes = {curve.size for curve in view.curves(("few_shot",))}
    errors, source = [], view.main_source(target)
    for label, kind, wanted in (
        ("fine-tuned", "few_shot", {"source": source, "method": view.main_method}),
        ("from scratch", "from_scratch", {}),
    ):
        curves = view.curves((kind,), target=target.name, **wanted) if source or not wanted else []
        points = [(c.size, p) for c in curves for p in c.points if c.size in sizes and drawable(p.median)]
        for count in counts:
            errors.append(_against_size(view, target, label, count, [e for e in points if e[1].num_samples == count]))
    known = [(g.size, g) for g in main_gains(view, target, None) if g.size in sizes and drawable(g.gain)]
    gains = [_against_size(view, target, "", n, [e for e in known if e[1].num_samples == n]) for n in counts]
    return [s for s in errors if s.x], [s for s in gains if s.x]


def size_figure(view: StudyView, caption: str) -> Figure | None:
    """Return error (above) and gain (beneath) against the number of parameters, at fixed numbers of samples."""
    counts = _fixed_counts(view)
    used = {curve.size for curve in view.curves(("few_shot",))}
    places = tuple(float(size.num_params) for size in view.sizes if size.name in used)
    axis = Axis(label="number of parameters", scale="log", form="count", ticks=places)
    any_gain = any(_size_series(view, target, counts)[1] for target in view.analysis.targets)
    panels = []
    for group in view.groups:
        for target, title in zip(group.targets, group.short_labels, strict=True):
            errors, gains = _size_series(view, target, counts)
            if any(len(series.x) > 1 for series in errors):
                unit = (Rule(at=1.0),)
                gain = Panel(x=axis, y=Axis(label="gain", scale="log"), series=tuple(gains), rules=unit)
                lower = gain if any_gain else None
                panels.append(
                    Panel(x=axis, y=ERROR, series=tuple(errors), title=title, group=group.label, beneath=lower)
                )
    return Figure(caption=caption, panels=tuple(panels), shared=("x", "y")) if panels else None
