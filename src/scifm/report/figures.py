"""The figures of the report, as matplotlib Figures to save in any format.

Each takes what `scifm.report.records` and `scifm.report.tables` give. No pyplot, no state left behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from scifm.report.records import Curve
from scifm.report.style import COLORS, INK, clean, styled
from scifm.report.tables import KIND_NAMES, Group, count_text, gains, number_text

__all__ = ["adaptation_curves", "error_against_samples", "error_distribution", "training_curves"]

_MARKERS = {"few_shot": "o", "from_scratch": "s"}
_LINES = {"zero_shot": (0, (5, 2)), "in_distribution": (0, (1, 1.5))}


def _plain(value: float, _: object = None) -> str:
    """Return a tick label without trailing zeros: 0.02, 1, 30."""
    return f"{value:.6g}" if 1e-4 <= abs(value) < 1e5 else f"{value:.0e}"


def _log_axis(axes: Axes, low: float, high: float) -> None:
    """Make y logarithmic with about four to nine labelled ticks, however few decades it spans."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    decades = math.log10(high / low)
    subs: tuple[float, ...] = (1.0, 2.0, 5.0) if decades < 3 else (1.0,)
    if decades < 0.8:
        subs = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.yaxis.set_minor_locator(LogLocator(subs=tuple(range(1, 10)), numticks=20))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _positive(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value) and value > 0]


def _drawable(group: Group) -> bool:
    return bool(_positive([group.mean]))


def _draw_trained(axes: Axes, groups: Sequence[Group], kind: str) -> None:
    """Draw one line of means with its band (lowest to highest seed) and every seed as a dot."""
    shown = [group for group in groups if group.kind == kind and _drawable(group)]
    if not shown:
        return
    counts = [group.num_samples for group in shown]
    color = COLORS[kind]
    axes.fill_between(
        counts, [g.low or math.nan for g in shown], [g.high or math.nan for g in shown], color=color, alpha=0.18, lw=0
    )
    for group in shown:
        if len(group.errors) > 1:
            axes.plot(
                [group.num_samples] * len(group.finite),
                group.finite,
                _MARKERS[kind],
                color=color,
                ms=3.2,
                alpha=0.55,
                mew=0,
            )
    means = [group.mean or math.nan for group in shown]
    axes.plot(counts, means, marker=_MARKERS[kind], color=color, ms=6, label=KIND_NAMES[kind], zorder=3)


def _draw_levels(axes: Axes, groups: Sequence[Group]) -> None:
    names = {"zero_shot": "zero-shot, no sample", "in_distribution": "in distribution (pre-training system)"}
    for group in groups:
        if group.kind in names and _drawable(group) and group.mean is not None:
            label = f"{names[group.kind]}: {number_text(group.mean)}"
            axes.axhline(group.mean, color=COLORS[group.kind], ls=_LINES[group.kind], lw=1.6, label=label, zorder=2)


def _spaced(counts: Sequence[int], share: float = 0.085) -> list[int]:
    """Return the counts that lie at least `share` of the logarithmic axis apart, so that labels do not touch."""
    reach = math.log(max(counts) / min(counts)) or 1.0
    kept = [counts[0]]
    for count in counts[1:]:
        if math.log(count / kept[-1]) >= share * reach:
            kept.append(count)
    return kept


def _write_gains(axes: Axes, groups: Sequence[Group], labelled: Sequence[int]) -> None:
    """Write the gain above each labelled count where both ways exist, and tie the two means together."""
    means = {(group.kind, group.num_samples): group.mean for group in groups}
    above = axes.get_xaxis_transform()
    by_count = gains(groups)
    for count, gain in by_count.items():
        pair = [value for kind in _MARKERS if (value := means[kind, count]) is not None]
        axes.plot([count, count], pair, color=INK, lw=0.8, ls=(0, (1, 2)), zorder=1)
        if count in labelled:
            color, weight = (COLORS["from_scratch"], "normal") if gain < 0.95 else (INK, "bold")
            text = f"{gain:.1f}×" if gain < 99.95 else f"{gain:.0f}×"
            axes.text(
                count, 1.025, text, transform=above, ha="center", va="bottom", color=color, weight=weight, size=9.5
            )
    if by_count:
        axes.text(-0.012, 1.025, "gain", transform=axes.transAxes, ha="right", va="bottom", size=9.5)


def _count_axis(axes: Axes, counts: Sequence[int], labelled: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    spread = max(counts) / min(counts)
    margin = spread**0.08 if spread > 1 else 1.5
    axes.set_xlim(min(counts) / margin, max(counts) * margin)
    axes.xaxis.set_major_locator(FixedLocator([float(count) for count in labelled]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_text(round(value))))
    axes.xaxis.set_minor_locator(FixedLocator([float(count) for count in counts if count not in labelled]))
    axes.xaxis.set_minor_formatter(NullFormatter())


@styled
def error_against_samples(groups: Sequence[Group]) -> Figure:
    """Return mean relative L2 error against the number of downstream samples, both axes logarithmic.

    Lines are means over seeds, bands reach from the lowest to the highest seed, dots are seeds. Zero-shot and in
    distribution are horizontal. The gain (scratch / fine-tuned) stands above each count that has both.

    Raises:
        ValueError: if no fine-tuned or from-scratch group has a positive finite mean.
    """
    counts = sorted({g.num_samples for g in groups if g.kind in _MARKERS and _drawable(g)})
    if not counts:
        raise ValueError(
            "No model trained on downstream samples has a positive finite error; there is nothing to draw."
        )
    figure = Figure(figsize=(7.0, 4.6))
    axes = figure.add_axes((0.105, 0.105, 0.875, 0.69))
    for kind in ("few_shot", "from_scratch"):
        _draw_trained(axes, groups, kind)
    _draw_levels(axes, groups)
    labelled = _spaced(counts)
    _write_gains(axes, groups, labelled)
    _count_axis(axes, counts, labelled)
    every = _positive(error for group in groups if _drawable(group) for error in group.errors)
    _log_axis(axes, min(every) / 1.25, max(every) * 1.2)
    clean(axes)
    axes.grid(visible=True, which="minor", axis="y", alpha=0.5, lw=0.4)
    axes.set_xlabel("number of downstream samples")
    axes.set_ylabel("relative L2 error")
    has_band = any(len(group.errors) > 1 for group in groups if group.kind in _MARKERS)
    handles, labels = axes.get_legend_handles_labels()
    if has_band:
        trained = sum(label in map(KIND_NAMES.get, _MARKERS) for label in labels)
        handles.insert(trained, Patch(color=COLORS["other"], alpha=0.35, lw=0))
        labels.insert(trained, "band: lowest to highest seed")
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.095, 1.0), ncols=2, borderaxespad=0.3)
    return figure


def _running_median(values: Sequence[float], window: int) -> list[float]:
    half = window // 2
    return [float(np.median(values[max(0, i - half) : i + half + 1])) for i in range(len(values))]


def _y_range(axes: Axes, values: Iterable[float]) -> None:
    positive = _positive(values)
    if positive:
        _log_axis(axes, min(positive) / 1.15, max(positive) * 1.15)


def _write_absence(axes: Axes) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", style="italic")


def _step_axis(axes: Axes) -> None:
    clean(axes)
    axes.set_xlim(left=0)
    axes.set_xlabel("optimizer step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_text(round(value))))


def _draw_loss(axes: Axes, curve: Curve) -> None:
    axes.set_title("training loss", loc="left")
    if not curve.losses:
        _write_absence(axes)
        return
    window = max(3, len(curve.losses) // 25) | 1  # odd: centered
    if len(curve.losses) >= 50:
        axes.plot(curve.train_steps, curve.losses, color=COLORS["pretrain"], lw=0.8, alpha=0.4, label="as logged")
        smooth = _running_median(curve.losses, window)
        axes.plot(curve.train_steps, smooth, color=COLORS["pretrain"], label=f"running median of {window}")
        axes.legend(loc="upper right")
    else:
        axes.plot(curve.train_steps, curve.losses, color=COLORS["pretrain"], marker="o", ms=3)
    _y_range(axes, curve.losses)
    _step_axis(axes)
    axes.set_ylabel("loss")


def _draw_validation(axes: Axes, curve: Curve) -> None:
    axes.set_title("validation", loc="left")
    if not curve.errors:
        _write_absence(axes)
        return
    axes.plot(curve.valid_steps, curve.errors, color=COLORS["pretrain"], marker="o", ms=3.5)
    _y_range(axes, curve.errors)
    _step_axis(axes)
    axes.set_ylabel("relative L2 error")
    lowest = min(_positive(curve.errors), default=math.nan)
    if math.isfinite(lowest):
        axes.text(0.98, 0.95, f"lowest: {number_text(lowest)}", transform=axes.transAxes, ha="right", va="top")


@styled
def training_curves(curve: Curve) -> Figure:
    """Return training loss and validation error of one run against the optimizer step, y logarithmic."""
    figure = Figure(figsize=(7.6, 2.9))
    left, right = figure.add_axes((0.09, 0.165, 0.385, 0.735)), figure.add_axes((0.595, 0.165, 0.385, 0.735))
    _draw_loss(left, curve)
    _draw_validation(right, curve)
    return figure


def _history(curve: Curve) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return validation errors where there are several, else losses."""
    if len(curve.errors) > 1:
        return curve.valid_steps, curve.errors
    return curve.train_steps, curve.losses


def _count_colors(curves: Sequence[Curve]) -> dict[int | None, object]:
    counts = sorted({curve.num_samples for curve in curves if curve.num_samples is not None})
    shades = colormaps["viridis"](np.linspace(0.22, 0.8, len(counts)))
    return {None: COLORS["other"], **dict(zip(counts, map(tuple, shades), strict=True))}


@styled
def adaptation_curves(curves: Sequence[Curve]) -> Figure:
    """Return the histories of fine-tuned (left) and from-scratch (right) runs on one logarithmic scale.

    Validation error where a run logged it more than once, otherwise training loss (dashed where both
    occur). Color is the number of downstream samples; runs that are not among the evaluated models
    are gray.
    """
    figure = Figure(figsize=(7.6, 3.2))
    panels = {
        "few_shot": figure.add_axes((0.09, 0.15, 0.385, 0.65)),
        "from_scratch": figure.add_axes((0.595, 0.15, 0.385, 0.65)),
    }
    shown = [curve for curve in curves if curve.kind in panels]
    colors = _count_colors(shown)
    validated = any(len(curve.errors) > 1 for curve in shown)
    for kind, axes in panels.items():
        axes.set_title(KIND_NAMES[kind], loc="left")
        mine = [curve for curve in shown if curve.kind == kind and any(_history(curve))]
        if not mine:
            _write_absence(axes)
            continue
        for curve in mine:
            style = (0, (4, 1.5)) if validated and len(curve.errors) < 2 else "-"
            width = 1.3 if curve.num_samples is not None else 0.7
            marker = "o" if len(_history(curve)[0]) == 1 else ""  # a line of one point cannot be seen
            axes.plot(
                *_history(curve), marker=marker, ms=4, ls=style, lw=width, color=colors[curve.num_samples], alpha=0.9
            )
        _y_range(axes, [value for curve in shown for value in _history(curve)[1]])
        _step_axis(axes)
        axes.set_ylabel("relative L2 error, validation" if validated else "training loss")
    _legend_of_counts(figure, shown, colors)
    return figure


def _legend_of_counts(figure: Figure, curves: Sequence[Curve], colors: dict[int | None, object]) -> None:
    counts = [count for count in colors if count is not None]
    entries = [(count_text(count), Line2D([], [], color=colors[count])) for count in counts]  # type: ignore[arg-type]
    if any(curve.num_samples is None for curve in curves):
        entries.append(("not evaluated", Line2D([], [], color=COLORS["other"], lw=0.8)))
    if 0 < sum(len(curve.errors) < 2 for curve in curves) < len(curves):
        entries.append(("training loss", Line2D([], [], color=INK, ls=(0, (4, 1.5)), lw=1.0)))
    if entries:
        names, handles = zip(*entries, strict=True)
        figure.legend(handles, names, title="downstream samples", loc="upper left", bbox_to_anchor=(0.08, 1.0),
                      ncols=len(entries), alignment="left", borderaxespad=0.2, columnspacing=1.4)  # fmt: skip


@styled
def error_distribution(errors: Mapping[str, Sequence[float]]) -> Figure:
    """Return, for each channel, the share of test samples whose relative L2 error is below a value (x logarithmic).

    Samples whose error is not finite count as never below. Raises:
        ValueError: if no error is positive and finite.
    """
    figure = Figure(figsize=(7.0, 3.2))
    axes = figure.add_axes((0.09, 0.155, 0.89, 0.74))
    palette = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
    every = [_positive(values) for values in errors.values()]
    if not any(every):
        raise ValueError("No sample has a positive finite error; there is nothing to draw.")
    for (channel, values), finite, color in zip(errors.items(), every, palette * len(every), strict=False):
        shares = np.arange(1, len(finite) + 1) / len(values)
        axes.step(
            sorted(finite), shares, where="post", color=color, label=channel, marker="o" if len(finite) == 1 else ""
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0, 1.02)
    clean(axes)
    axes.set_xlabel("relative L2 error")
    axes.set_ylabel("share of samples below")
    axes.legend(loc="lower right")
    return figure
