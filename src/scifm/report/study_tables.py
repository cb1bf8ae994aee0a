"""The tables on a transfer study's page: each a function from the study to a `Table`, every cell as text."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from scifm.findings.study import Converged, Crossover, Gain, Mixing, Need, ShiftMeasure, Worth
from scifm.report.architectures import architecture_table, every_architecture_table
from scifm.report.parts import DASH, Cell, Columns, Table
from scifm.report.study import Study, count_words, drawable, interval_text
from scifm.report.svg import formula
from scifm.wording import KIND_NAMES, count_text, duration_text, factor_text, number_text, signed

__all__ = ["STUDY_TABLES", "correlation_words", "fewer_text", "run_table", "settings_table"]

_WHO = ("task", "source", "network", "trained")
_SAME = _WHO[1:]  # columns that are told once where all rows agree


def _errors(study: Study) -> Table:
    size = study.main_size
    curves = study.curves(("few_shot", "from_scratch"), size=size)
    counts = sorted({point.num_samples for curve in curves for point in curve.points})
    rows = []
    for target in study.analysis.targets:
        source, zero = study.main_sources[target.name], study.level_of("zero_shot", target)
        own = {"target": target.name, "size": size}
        ways = {}
        for method in study.methods if source else ():
            name = "fine-tuned" if len(study.methods) == 1 else f"fine-tuned ({method})"
            ways[name] = study.curves(("few_shot",), source=source, method=method, **own)
        ways["from scratch"] = study.curves(("from_scratch",), **own)
        for way, curves in ways.items():
            points = {point.num_samples: point for curve in curves for point in curve.points}
            first = number_text(zero.median) if zero and way != "from scratch" else DASH
            cells = [Cell(study.target_label(target.name)), Cell(way), Cell(first)]
            for point in (points.get(count) for count in counts):
                interval = interval_text(point.low, point.high) if point else ""
                cells.append(Cell(number_text(point.median), interval) if point else Cell(DASH))
            rows += [tuple(cells)] if points else []
    caption = "Median over seeds of the mean relative L2 error, with its interval; zero-shot under 0 samples."
    headers = ("task", "way", "0", *(count_text(count) for count in counts))
    return Table("errors", caption, headers, tuple(rows), wordy=("task", "way"))


def _gain_cell(gain: Gain | None) -> Cell:
    if gain is None or gain.gain is None:
        return Cell(DASH if gain is None else "not known")
    return Cell(f"{factor_text(gain.gain)}×", interval_text(gain.low, gain.high, factor_text), bad=bool(gain.negative))


def _gains(study: Study) -> Table:
    gains, rows = [gain for gain in study.analysis.gains if study.is_main(gain)], []
    counts = sorted({gain.num_samples for gain in gains})
    several = len({gain.method for gain in gains}) > 1
    for target in study.analysis.targets:
        for method in dict.fromkeys(gain.method for gain in gains if gain.target == target.name):
            own = {g.num_samples: g for g in gains if (g.target, g.method) == (target.name, method)}
            name = study.target_label(target.name) + (f" ({method})" if several else "")
            rows.append((Cell(name), *(_gain_cell(own.get(count)) for count in counts)))
    caption = (
        "Gain: error from scratch over error fine-tuned on as many samples, with its interval. ▼ marks negative "
        "transfer: fine-tuning is worse than training from scratch."
    )
    return Table("gains", caption, ("task", *map(count_text, counts)), tuple(rows))


def _who(study: Study) -> Columns:
    return {
        "task": lambda entry: study.target_label(entry.target),
        "source": lambda entry: entry.source,
        "network": lambda entry: entry.size,
        "trained": lambda entry: entry.method or DASH,
    }


def _worths(study: Study) -> Table:
    """Lay sources side by side, where several are moved to one task."""
    worths = [worth for worth in study.analysis.worths if worth.size == study.main_size]
    sources: dict[str, set[str]] = defaultdict(set)
    for worth in worths:
        sources[worth.target].add(worth.source)
    shown = [worth for worth in worths if len(sources[worth.target]) > 1]
    counts = sorted({worth.num_samples for worth in shown})
    rows = []
    for key in dict.fromkeys((worth.target, worth.source, worth.method) for worth in shown):
        own = {w.num_samples: w for w in shown if (w.target, w.source, w.method) == key}
        name = key[1] if len(study.methods) == 1 else f"{key[1]} ({key[2]})"
        cells = [Cell(study.target_label(key[0])), Cell(name)]
        rows.append((*cells, *(_worth_cell(own.get(count)) for count in counts)))
    caption = (
        "What each pre-training is worth: the number of samples from scratch that are as good as so many after it, "
        "with its interval; ≥ and ≤ where the curve from scratch does not reach so far."
    )
    headers = ("task", "pre-trained on", *map(count_text, counts))
    return Table("worths", caption, headers, tuple(rows), wordy=headers[:2])


def _worth_cell(worth: Worth | None) -> Cell:
    if worth is None or worth.as_good_as is None:
        return Cell(DASH if worth is None else "not known")
    interval = interval_text(worth.low, worth.high, partial(number_text, digits=2))
    return Cell(f"{worth.sign}{count_text(round(worth.as_good_as))}", interval)


def _other_gains(study: Study) -> Table:
    others = [gain for gain in study.analysis.gains if not study.is_main(gain)]
    columns: Columns = {**_who(study), "samples": lambda gain: count_text(gain.num_samples), "gain": _gain_cell}
    caption = "Gains of other networks and from other sources."
    return Table.of("other-gains", caption, others, columns, wordy=_WHO, once=_SAME)


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
    low, high = need.ratio_low, need.ratio_high
    if need.ratio >= 1:
        return Cell(f"{factor_text(need.ratio)} times fewer", interval_text(low, high, factor_text))
    turned = interval_text(1 / high if high else None, 1 / low if low else None, factor_text)
    return Cell(f"{factor_text(1 / need.ratio)} times more", turned, bad=True)


def _needed_text(need: Need) -> str:
    if need.needed is None:
        return "not known"
    if need.needed == 0:
        return "0 (zero-shot)"
    text = count_text(round(need.needed)) if need.needed >= 9.5 else f"{need.needed:.2g}"
    return f"{need.bound} {text}" if need.bound else text


def _by_main_first(study: Study, entries: Sequence[Any]) -> list[Any]:
    order = [target.name for target in study.analysis.targets]
    return sorted(entries, key=lambda e: (e.size != study.main_size, order.index(e.target), not study.is_main(e)))


def _needs(study: Study) -> Table:
    columns: Columns = {
        **_who(study),
        "from scratch on": lambda need: count_text(need.reference_samples),
        "its error": lambda need: number_text(need.reference_error),
        "fine-tuning needs": _needed_text,
        "that is": fewer_text,
    }
    caption = (
        "Samples that fine-tuning needs for the error that training from scratch reaches, between counts by a straight "
        "line through logarithms. “At most”: the fewest samples measured reach it; “more than”: the most do not."
    )
    needs = _by_main_first(study, study.analysis.needs)
    return Table.of("needs", caption, needs, columns, wordy=_WHO, once=(*_SAME, "from scratch on"))


def _converged(study: Study) -> Table:

    def steps(entry: Converged) -> str:
        limited = f", {entry.num_limited} still falling" if entry.num_limited else ""
        return " · ".join(map(count_text, entry.num_steps)) + limited

    columns: Columns = {
        **_who(study),
        "from scratch on": lambda entry: count_text(entry.num_samples),
        "equal budget": lambda entry: number_text(entry.equal),
        "best budget": lambda entry: number_text(entry.error),
        "interval": lambda entry: interval_text(entry.low, entry.high),
        "its steps": steps,
        "fine-tuning needs": lambda entry: "more than were tried" if entry.fewest is None else count_text(entry.fewest),
    }
    caption = (
        "Training from scratch given its best budget: steps were doubled, seed by seed, as long as the error on "
        "held-out samples fell. Last: the fewest samples on which fine-tuning, with the equal budget, is as good."
    )
    entries = _by_main_first(study, study.analysis.converged)
    return Table.of("converged", caption, entries, columns, wordy=(*_WHO, "its steps"), once=_SAME)


def _crossovers(study: Study) -> Table:

    def place(entry: Crossover) -> str:
        return count_text(round(entry.num_samples or 0)) if drawable(entry.num_samples) else "none measured"

    columns: Columns = {**_who(study), "crossover at": place, "in words": lambda entry: entry.told}
    caption = "The number of samples from which training from scratch is as good as fine-tuning."
    entries = _by_main_first(study, study.analysis.crossovers)
    return Table.of("crossovers", caption, entries, columns, wordy=(*_WHO, "in words"), once=_SAME)


_STRENGTHS = {0.9: "almost the same", 0.7: "much the same", 0.4: "partly the same", 0.1: "hardly the same"}


def correlation_words(measure: ShiftMeasure) -> str:
    """Return a rank correlation in words, by its size and sign."""
    value = measure.rank_correlation
    if value is None or not abs(value) <= 1:
        return "no rank correlation could be computed"
    strength = next((word for least, word in _STRENGTHS.items() if abs(value) >= least), None)
    turned = "" if value > 0 else ", reversed"
    order = "no order in common" if strength is None else f"{strength} order{turned}"
    return f"{order} (rank correlation {signed(value, '.2f')})"


def _measures(study: Study) -> Table:
    columns: Columns = {
        "measure": lambda measure: measure.label or measure.name,
        "order of tasks by it and by zero-shot error": correlation_words,
        "tasks": lambda measure: count_text(measure.num_tasks),
    }
    measures = study.analysis.shift.measures
    return Table.of("measures", "Measures of the shift.", measures, columns, wordy=tuple(columns)[:2])


def _mixing(study: Study) -> Table:

    def ratio(entry: Mixing) -> Cell:
        return Cell(factor_text(entry.ratio), interval_text(entry.low, entry.high, factor_text))

    columns: Columns = {
        "task": lambda entry: study.target_label(entry.target),
        "mixture": lambda entry: entry.mixture if entry.contains_system else f"{entry.mixture} (left out)",
        "network": lambda entry: entry.size,
        "samples": lambda entry: count_words(entry.num_samples),
        "ratio": ratio,
        "specialist error": lambda entry: number_text(entry.specialist_error),
        "mixture error": lambda entry: number_text(entry.mixture_error),
        "scratch error": lambda entry: number_text(entry.scratch_error),
    }
    caption, wordy = "Every ratio, with the errors behind it.", ("task", "mixture", "network")
    return Table.of("mixtures", caption, study.analysis.mixing, columns, wordy=wordy, once=("network",))


def _laws(study: Study) -> Table:
    columns: Columns = {
        "axis": lambda axis: axis.label or axis.axis,
        "form": lambda axis: axis.law.form if axis.law else "no law fitted",
        "law": lambda axis: formula(axis.law.text, "sup") if axis.law and axis.law.text else DASH,
        "verdict": lambda axis: axis.verdict or DASH,
        "in words": lambda axis: axis.told or DASH,
    }
    axes = study.analysis.scaling.axes
    return Table.of("laws", "What was fitted, and the verdict.", axes, columns, wordy=tuple(columns))


def _frontier(study: Study) -> Table:
    joints = study.analysis.scaling.joints
    which: Columns = {"architecture": lambda entry: entry[0].architecture} if len(joints) > 1 else {}
    columns: Columns = {
        **which,
        "operations": lambda entry: f"{entry[1].flops:.2g}",
        "weights": lambda entry: f"{entry[1].num_params:.2g}" + " (edge of what was measured)" * entry[1].at_edge,
        "samples seen": lambda entry: f"{entry[1].num_samples:.2g}",
        "error by the law": lambda entry: f"{entry[1].error:.2g}",
    }
    caption = "How to spend a budget of pre-training, by the law of both."
    entries = [(joint, point) for joint in joints for point in joint.frontier]
    return Table.of("frontier", caption, entries, columns, wordy=("architecture",))


_RUN_COLUMNS = {
    "source": ("source", ""),
    "task": ("target", ""),
    "network": ("size", ""),
    "trained": ("method", ""),
    "samples": ("num_samples", ","),
    "seed": ("seed", ""),
    "error": ("relative_l2", "error"),
    "its median": ("relative_l2_median", ".3g"),
    "90 %": ("relative_l2_p90", ".3g"),
    "constants": ("coefficients", ""),
    "rate": ("learning_rate", "g"),
    "trials": ("num_trials", ""),
    "their steps": ("trial_steps", ","),
    "steps": ("num_steps", ","),
    "flops": ("flops", ".1e"),
    "seconds": ("seconds", ".1f"),
    "run": ("run", ""),
}
"""Header: column of ``table.parquet`` and how its numbers are written."""


def _run_text(row: Mapping[str, Any], name: str, form: str) -> str:
    value = row.get(name)
    if form == "error":
        return number_text(value)
    early = name == "seconds" and value == 0  # what early versions wrote of pre-trainings
    absent = value in (None, "") or early or (isinstance(value, float) and math.isnan(value))
    return DASH if absent else format(value, form)


def run_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return every scored operator with its folder."""
    columns: dict[str, Callable[[Any], str]] = {"way": lambda row: KIND_NAMES.get(str(row["kind"]), str(row["kind"]))}
    for header, (name, form) in _RUN_COLUMNS.items():
        columns[header] = partial(_run_text, name=name, form=form)
    caption = (
        "Every scored operator: mean error over test samples, their median and 90th percentile; “run” is its folder, "
        "relative to the study's. “Constants”: whether fine-tuning left "
        "shift and scale of coefficients as in pre-training or fitted them anew. A rate of 0: it kept the pre-trained "
        "weights, since nothing did clearly better on the held-out samples."
    )
    return Table.of("runs", caption, rows, columns, wordy=("way", *_WHO, "constants", "run"))


def _flat(tree: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(tree, Mapping):
        parts = [_flat(value, f"{prefix}.{name}" if prefix else str(name)) for name, value in tree.items()]
        return {name: text for part in parts for name, text in part.items()}
    values = tree if isinstance(tree, list | tuple) else [tree]
    texts = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
    return {prefix or "system": ", ".join(texts)}


def settings_table(recipe: Mapping[str, Any]) -> Table | None:
    """Lay two systems side by side, where the recipe moves one system to one task; what only one has is a dash."""
    match recipe:
        case {"sources": [{"systems": [{**before}]}], "targets": [{"system": {**after}}]} if after:
            first, second = _flat({k: v for k, v in before.items() if k != "weight"}), _flat(after)
        case _:
            return None
    rows = []
    for name in first | second:
        one, other = first.get(name, DASH), second.get(name, DASH)
        rows.append((Cell(name), Cell(one, strong=one != other), Cell(other, strong=one != other)))
    headers = ("setting", "pre-training", "downstream")
    caption = "The system before and after the shift; what changed is emphasized."
    return Table("systems", caption, headers, tuple(rows), wordy=headers)


def _parts(study: Study) -> Table:
    parts = study.analysis.seconds_by_part
    total, rows = sum(parts.values()), []
    for name, seconds in parts.items():
        share = 100 * seconds / total if total > 0 else 0.0
        time = f"{duration_text(seconds)} ({share:.0f} %)"
        rows.append((Cell(KIND_NAMES.get(name, name.replace("_", " "))), Cell(time), Cell("", share=share)))
    headers = ("part", "time", "share of all parts")
    caption = "Where the time went: wall time of the runs, added up."
    return Table("time-by-part", caption, headers, tuple(rows), wordy=headers)


STUDY_TABLES: Mapping[str, Callable[[Study], Table]] = {
    "architectures": architecture_table,
    "architecture_errors": every_architecture_table,
    "errors": _errors,
    "gains": _gains,
    "other_gains": _other_gains,
    "needs": _needs,
    "worths": _worths,
    "converged": _converged,
    "crossovers": _crossovers,
    "shift_measures": _measures,
    "mixing": _mixing,
    "laws": _laws,
    "frontier": _frontier,
    "parts": _parts,
}
"""By the name the page gives it: what makes each table from the study; one without rows is left out."""
