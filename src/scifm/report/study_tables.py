"""Rows of the tables on a transfer study's page, every cell as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scifm.findings.study import ErrorCurve, Gain, Need, ShiftMeasure
from scifm.report.study_view import KIND_NAMES, StudyView, count_words, drawable
from scifm.report.svg import formula
from scifm.report.tables import DASH, Cell, Table, cells, told_once
from scifm.wording import count_text, factor_text, number_text

__all__ = ["STUDY_TABLES", "correlation_words", "fewer_text", "gain_table", "need_table", "run_table"]


def _span(low: float | None, high: float | None) -> str:
    return f"{factor_text(low)}{DASH}{factor_text(high)}" if drawable(low) and drawable(high) else ""


def _curve_rows(view: StudyView, counts: Sequence[int]) -> list[tuple[Cell, ...]]:
    rows = []
    for target in view.analysis.targets:
        source = view.main_source(target)
        ways: list[tuple[str, list[ErrorCurve]]] = []
        for method in view.methods:
            name = "fine-tuned" if len(view.methods) == 1 else f"fine-tuned ({method})"
            wanted = {"target": target.name, "size": view.main_size, "method": method}
            ways.append((name, view.curves(("few_shot",), source=source, **wanted) if source else []))
        ways.append(("from scratch", view.curves(("from_scratch",), target=target.name, size=view.main_size)))
        zero = view.level_of("zero_shot", target=target.name, size=view.main_size, source=source) if source else None
        for name, curves in ways:
            points = {point.num_samples: point for curve in curves for point in curve.points}
            if not points:
                continue
            tuned = name != "from scratch"
            first = Cell(number_text(zero.median)) if zero and tuned else Cell(DASH)
            cells = [
                Cell(number_text(points[n].median), _interval(points[n].low, points[n].high))
                if n in points
                else Cell(DASH)
                for n in counts
            ]
            rows.append((Cell(view.target_label(target.name)), Cell(name), first, *cells))
    return rows


def _interval(low: float | None, high: float | None) -> str:
    return f"{number_text(low)}{DASH}{number_text(high)}" if drawable(low) and drawable(high) else ""


def error_table(view: StudyView) -> Table:
    """Return the numbers of the first figure: a row a task and way, a column a number of samples."""
    kinds = ("few_shot", "from_scratch")
    counts = sorted({p.num_samples for c in view.curves(kinds, size=view.main_size) for p in c.points})
    caption = "Median over seeds of the mean relative L2 error, with its interval; zero-shot under 0 samples."
    headers = ("task", "way", "0", *(count_text(count) for count in counts))
    return Table("errors", caption, headers, tuple(_curve_rows(view, counts)), wordy=(0, 1))


def _gain_cell(gain: Gain | None) -> Cell:
    if gain is None:
        return Cell(DASH)
    if gain.gain is None:
        return Cell("not known")
    bad = bool(gain.negative)
    return Cell(f"{factor_text(gain.gain)}×", _span(gain.low, gain.high), bad=bad)


def _main_gains(view: StudyView) -> list[Gain]:
    chosen = {target.name: view.main_source(target) for target in view.analysis.targets}
    return [g for g in view.analysis.gains if g.size == view.main_size and g.source == chosen[g.target]]


def gain_table(view: StudyView) -> Table:
    """Return gains of the main size from each task's main source: a row a task (and method), a column a count."""
    gains = _main_gains(view)
    counts = sorted({gain.num_samples for gain in gains})
    several = len({gain.method for gain in gains}) > 1
    rows = []
    for target in view.analysis.targets:
        for method in dict.fromkeys(gain.method for gain in gains if gain.target == target.name):
            own = {g.num_samples: g for g in gains if (g.target, g.method) == (target.name, method)}
            name = f"{view.target_label(target.name)} ({method})" if several else view.target_label(target.name)
            rows.append((Cell(name), *(_gain_cell(own.get(count)) for count in counts)))
    caption = (
        "Gain: error from scratch over error fine-tuned on as many samples, with its interval. ▼ marks negative "
        "transfer: fine-tuning is worse than training from scratch."
    )
    return Table("gains", caption, ("task", *map(count_text, counts)), tuple(rows))


def gain_list(view: StudyView) -> Table:
    """Return every gain the first table does not hold: other sizes, other sources."""
    main = {id(gain) for gain in _main_gains(view)}
    rows = tuple(
        (*cells(view.target_label(g.target), g.source, g.size, g.method, count_text(g.num_samples)), _gain_cell(g))
        for g in view.analysis.gains
        if id(g) not in main
    )
    headers = ("task", "source", "size", "trained", "samples", "gain")
    table = Table("other-gains", "Gains of other sizes and from other sources.", headers, rows, wordy=(0, 1, 2, 3))
    return told_once(table, (1, 2, 3))


def fewer_text(need: Need) -> Cell:
    """Return how many times fewer samples fine-tuning needs, as far as it is known."""
    if need.needed == 0:
        return Cell("no sample needed")
    if not drawable(need.ratio) or need.ratio is None:
        return Cell("not known")
    if need.bound == "at most":
        return Cell(f"at least {factor_text(need.ratio)} times fewer")
    if need.bound == "more than":
        bad = need.ratio <= 1
        return Cell("no fewer" if bad else f"less than {factor_text(need.ratio)} times fewer", bad=bad)
    span = _span(need.ratio_low, need.ratio_high)
    if need.ratio >= 1:
        return Cell(f"{factor_text(need.ratio)} times fewer", span)
    turned = _span(*(1 / v if v else None for v in (need.ratio_high, need.ratio_low)))
    return Cell(f"{factor_text(1 / need.ratio)} times more", turned, bad=True)


def _needed_text(need: Need) -> str:
    if need.needed is None:
        return "not known"
    if need.needed == 0:
        return "0 (zero-shot)"
    told = count_text(round(need.needed)) if need.needed >= 9.5 else f"{need.needed:.2g}"
    return f"{need.bound} {told}" if need.bound else told


def _by_main_first(view: StudyView, entries: Sequence[Any]) -> list[Any]:
    order = [target.name for target in view.analysis.targets]
    chosen = {target.name: view.main_source(target) for target in view.analysis.targets}

    def rank(entry: Any) -> tuple[bool, int, bool]:
        return entry.size != view.main_size, order.index(entry.target), entry.source != chosen[entry.target]

    return sorted(entries, key=rank)


_WHO = ("task", "source", "size", "trained")


def _who(view: StudyView, entry: Any) -> tuple[Cell, ...]:
    return cells(view.target_label(entry.target), entry.source, entry.size, entry.method or DASH)


def need_table(view: StudyView) -> Table:
    """Return how many samples fine-tuning needs for what training from scratch reaches on many."""
    rows = []
    for need in _by_main_first(view, view.analysis.needs):
        what = cells(count_text(need.reference_samples), number_text(need.reference_error), _needed_text(need))
        rows.append((*_who(view, need), *what, fewer_text(need)))
    headers = (*_WHO, "from scratch on", "its error", "fine-tuning needs", "that is")
    caption = (
        "Samples that fine-tuning needs for the error that training from scratch reaches, between counts by a straight "
        "line through logarithms. “At most”: the fewest samples measured reach it; “more than”: the most do not."
    )
    return told_once(Table("needs", caption, headers, tuple(rows), wordy=(0, 1, 2, 3)), (1, 2, 3, 4))


def converged_table(view: StudyView) -> Table:
    """Return what training from scratch reaches with its best budget, beside the equal one."""
    rows = []
    for entry in _by_main_first(view, view.analysis.converged):
        steps = " · ".join(count_text(steps) for steps in entry.num_steps)
        limited = f", {entry.num_limited} still falling" if entry.num_limited else ""
        errors = (number_text(entry.equal), number_text(entry.error), _interval(entry.low, entry.high))
        fewest = count_text(entry.fewest) if entry.fewest is not None else "more than were tried"
        rows.append((*_who(view, entry), *cells(count_text(entry.num_samples), *errors, steps + limited, fewest)))
    caption = (
        "Training from scratch given its best budget: steps were doubled, seed by seed, as long as the error on "
        "held-out samples fell. Last: the fewest samples on which fine-tuning, with the equal budget, is as good."
    )
    headers = (*_WHO, "from scratch on", "equal budget", "best budget", "interval", "its steps", "fine-tuning needs")
    return told_once(Table("converged", caption, headers, tuple(rows), wordy=(0, 1, 2, 3, 8)), (1, 2, 3))


def crossover_table(view: StudyView) -> Table:
    """Return from how many samples on training from scratch is as good."""
    rows = []
    for entry in _by_main_first(view, view.analysis.crossovers):
        place = count_text(round(entry.num_samples)) if drawable(entry.num_samples) else "none measured"
        rows.append((*_who(view, entry), Cell(place), Cell(entry.told)))
    headers = (*_WHO, "crossover at", "in words")
    caption = "The number of samples from which training from scratch is as good as fine-tuning."
    return told_once(Table("crossovers", caption, headers, tuple(rows), wordy=(0, 1, 2, 3, 5)), (1, 2, 3))


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


def shift_table(view: StudyView) -> Table:
    """Return every measure of the shift and what it foretells."""
    rows = tuple(
        (*cells(m.label or m.name, correlation_words(m), count_text(m.num_tasks)),)
        for m in view.analysis.shift.measures
    )
    headers = ("measure", "order of tasks by it and by zero-shot error", "tasks")
    return Table("measures", "Measures of the shift.", headers, rows, wordy=(0, 1))


def mixing_table(view: StudyView) -> Table:
    """Return every comparison of a mixture with a specialist."""
    rows = []
    for e in view.analysis.mixing:
        name = e.mixture if e.contains_system else f"{e.mixture} (left out)"
        errors = map(number_text, (e.specialist_error, e.mixture_error, e.scratch_error))
        ratio = Cell(factor_text(e.ratio), _span(e.low, e.high))
        rows.append(
            (*cells(view.target_label(e.target), name, e.size, count_words(e.num_samples)), ratio, *cells(*errors))
        )
    headers = ("task", "mixture", "size", "samples", "ratio", "specialist error", "mixture error", "scratch error")
    table = Table("mixtures", "Every ratio, with the errors behind it.", headers, tuple(rows), wordy=(0, 1, 2))
    return told_once(table, (2,))


def scaling_table(view: StudyView) -> Table:
    """Return the fitted laws and their verdicts."""
    rows = tuple(
        cells(
            axis.label or axis.axis,
            axis.law.form if axis.law else "no law fitted",
            formula(axis.law.text, "sup") if axis.law and axis.law.text else DASH,
            axis.verdict or DASH,
            axis.told or DASH,
        )
        for axis in view.analysis.scaling.axes
    )
    headers = ("axis", "form", "law", "verdict", "in words")
    return Table("laws", "What was fitted, and the verdict.", headers, rows, wordy=(0, 1, 2, 3, 4))


def frontier_table(view: StudyView) -> Table:
    """Return the best split of budgets of pre-training between size and samples."""
    joint = view.analysis.scaling.joint
    rows = tuple(
        cells(
            f"{point.flops:.2g}",
            f"{point.num_params:.2g}" + (" (edge of what was measured)" if point.at_edge else ""),
            f"{point.num_samples:.2g}",
            f"{point.error:.2g}",
        )
        for point in (joint.frontier if joint is not None else ())
    )
    headers = ("operations", "weights", "samples seen", "error by the law")
    return Table("frontier", "How to spend a budget of pre-training, by the law of both.", headers, rows)


def _plain(value: Any, form: str) -> str:
    absent = value is None or (isinstance(value, float) and math.isnan(value))
    return DASH if absent else format(value, form)


def _run_row(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    names = (
        KIND_NAMES.get(str(row["kind"]), str(row["kind"])),
        row["source"],
        row["target"],
        row["size"],
        row.get("method"),
    )
    return cells(
        *(str(name) if name else DASH for name in names),
        _plain(row["num_samples"], ","),
        _plain(row["seed"], ""),
        number_text(row["relative_l2"]),
        _plain(row.get("relative_l2_median"), ".3g"),
        _plain(row.get("relative_l2_p90"), ".3g"),
        str(row.get("coefficients") or DASH),
        _plain(row.get("learning_rate"), "g"),
        _plain(row.get("num_trials"), ""),
        _plain(row.get("trial_steps"), ","),
        _plain(row.get("num_steps"), ","),
        _plain(row.get("flops"), ".1e"),
        _plain(row.get("seconds") or None, ".1f"),  # 0 is what early versions wrote of pre-trainings
        str(row["run"] or DASH),
    )


def run_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return every scored operator with its folder."""
    names = (
        "way",
        "source",
        "task",
        "size",
        "trained",
        "samples",
        "seed",
        "error",
        "its median",
        "90 %",
        "constants",
        "rate",
    )
    headers = (*names, "trials", "their steps", "steps", "flops", "seconds", "run")
    caption = (
        "Every scored operator: mean error over test samples, their median and 90th percentile; “run” is its folder, "
        "relative to the study's. “Constants”: whether fine-tuning left "
        "shift and scale of coefficients as in pre-training or fitted them anew. A rate of 0: it kept the pre-trained "
        "weights, since nothing did clearly better on the held-out samples."
    )
    return Table("runs", caption, headers, tuple(map(_run_row, rows)), wordy=(0, 1, 2, 3, 4, 10, 17))


STUDY_TABLES = {
    "errors": error_table,
    "gains": gain_table,
    "other_gains": gain_list,
    "needs": need_table,
    "converged": converged_table,
    "crossovers": crossover_table,
    "shift_measures": shift_table,
    "mixing": mixing_table,
    "laws": scaling_table,
    "frontier": frontier_table,
}
"""By the name the page gives it: what makes each table from the view; one without rows is left out."""
