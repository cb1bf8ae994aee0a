"""Histories of training, spread of errors and learning curves as figures, for runs, studies and plans."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.report.records import Curve
from scifm.wording import count_text, number_text, plural

__all__ = ["adaptation_figure", "distribution_figure", "training_figure"]

_STEP = Axis(label="optimizer step", form="count", low=0.0)
_MOST_POINTS = 160  # of one line; more cannot be told apart and only make the page large


def _history(steps: Sequence[int], values: Sequence[float], *, label: str, place: int | None, marked: bool) -> Series:
    """Return a history, every so many points of it where it has many."""
    window = max(1, math.ceil(len(steps) / _MOST_POINTS))
    chosen = range(window // 2, len(steps), window)
    told = [f"step {count_text(steps[i])}: {number_text(values[i])}" for i in chosen] if marked else []
    x, y = tuple(steps[i] for i in chosen), tuple(values[i] for i in chosen)
    return Series(label=label, x=x, y=y, told=tuple(told), marked=marked, place=place)


def _middle(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else None


def _smoothed(curve: Curve, *, label: str, place: int | None) -> list[Series]:
    """Return losses; many are told by their running median, before the logged ones where they stand alone."""
    if len(curve.losses) < 50:
        return [_history(curve.train_steps, curve.losses, label=label, place=place, marked=len(curve.losses) < 2)]
    window = max(3, len(curve.losses) // 25) | 1  # odd: centered
    half = window // 2
    smooth = [_middle(curve.losses[max(0, i - half) : i + half + 1]) for i in range(len(curve.losses))]
    finite = [math.nan if value is None else value for value in smooth]
    if label:
        return [_history(curve.train_steps, finite, label=label, place=place, marked=False)]
    logged = _history(curve.train_steps, curve.losses, label="as logged", place=0, marked=False)
    logged = logged.model_copy(update={"line": "faint"})
    words = f"running median of {window}"
    return [_history(curve.train_steps, finite, label=words, place=0, marked=False), logged]


def training_figure(curves: Mapping[str, Curve], caption: str) -> Figure | None:
    """Return training loss and validation error against the optimizer step, a line a run; one run needs no name."""
    alone = len(curves) == 1
    losses = [
        s for name, c in curves.items() if c.losses for s in _smoothed(c, label="" if alone else name, place=None)
    ]
    errors = [
        _history(c.valid_steps, c.errors, label="" if alone else name, place=None, marked=alone)
        for name, c in curves.items()
        if c.errors
    ]
    if not losses and not errors:
        return None
    lowest = min((e for c in curves.values() for e in c.errors if math.isfinite(e)), default=None)
    title = "validation" if lowest is None else f"validation, lowest {number_text(lowest)}"
    panels = (
        Panel(x=_STEP, y=Axis(label="loss", scale="log"), series=tuple(losses), title="training loss"),
        Panel(x=_STEP, y=Axis(label="relative L2 error", scale="log"), series=tuple(errors), title=title),
    )
    return Figure(caption=caption, panels=panels)


def adaptation_figure(tasks: Mapping[str, Mapping[str, Sequence[tuple[int, Curve]]]], caption: str) -> Figure | None:
    """Return the histories of adaptations, two panels a task on one logarithmic scale, by number of samples.

    Validation errors are drawn where every one of them logged some, else training losses.

    Args:
        tasks: by task and way, number of samples and history of each run.
        caption: of the figure.
    """
    every = [curve for ways in tasks.values() for runs in ways.values() for _, curve in runs]
    validated = bool(every) and all(len(curve.errors) > 1 for curve in every)
    if not any(curve.errors if validated else curve.losses for curve in every):
        return None
    y = Axis(label="relative L2 error, validation" if validated else "training loss", scale="log")
    counts = sorted({count for ways in tasks.values() for runs in ways.values() for count, _ in runs})
    panels = []
    for task, ways in tasks.items():
        for way, runs in ways.items():
            series = []
            for count in counts:
                for own, curve in runs:
                    steps, values = (
                        (curve.valid_steps, curve.errors) if validated else (curve.train_steps, curve.losses)
                    )
                    if own == count and steps:
                        series.append(_history(steps, values, label=plural(count, "sample"), place=None, marked=False))
            panels.append(Panel(x=_STEP, y=y, series=tuple(series), title=way, group=task))
    return Figure(caption=caption, panels=tuple(panels), shared=("y",), ordered=True)


def distribution_figure(errors: Mapping[str, Sequence[float]], caption: str) -> Figure | None:
    """Return, for each name, the share of samples whose relative L2 error lies below a value.

    Samples whose error is not finite count as never below.
    """
    series = []
    for name, values in errors.items():
        known = sorted(value for value in values if math.isfinite(value) and value > 0)
        steps = [(value, (i + after) / len(values)) for i, value in enumerate(known) for after in (0, 1)]
        if steps:
            x, y = zip(*_thinned(steps), strict=True)
            series.append(Series(label=name, x=x, y=y, marked=False))
    if not series:
        return None
    panel = Panel(
        x=Axis(label="relative L2 error", scale="log"),
        y=Axis(label="share of samples below", low=0.0, high=1.02),
        series=tuple(series),
    )
    return Figure(caption=caption, panels=(panel,))


def _thinned(steps: list[tuple[float, float]]) -> Iterable[tuple[float, float]]:
    """Return at most a thousand corners, the first and the last among them."""
    every = math.ceil(len(steps) / 1000)
    return [*steps[::every], steps[-1]]
