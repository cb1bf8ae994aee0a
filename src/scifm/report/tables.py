"""Tables of a page: headers, rows of cells, and the words of a cell. Every cell is text; what is absent is a dash."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scifm.report.score_sets import ScoreSet
from scifm.report.study_view import KIND_NAMES
from scifm.wording import count_text, duration_text, number_text

__all__ = ["DASH", "Cell", "Table", "cells", "parts_table", "score_table", "settings_table", "told_once"]

DASH = "–"


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table.

    Args:
        text: the words.
        small: in smaller type after it, such as an interval.
        bad: marked by a sign and color.
        strong: emphasized.
        share: length of a bar in place of the text, in percent.
    """

    text: str
    small: str = ""
    bad: bool = False
    strong: bool = False
    share: float | None = None


@dataclass(frozen=True)
class Table:
    """Headers and rows; the first cell of a row is its header, the columns in `wordy` are set as prose."""

    name: str
    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    wordy: tuple[int, ...] = (0,)


def cells(*texts: str) -> tuple[Cell, ...]:
    """Return a cell for each text."""
    return tuple(map(Cell, texts))


def told_once(table: Table, columns: Sequence[int]) -> Table:
    """Return a table with those of some columns that hold one and the same text told in its caption instead."""
    alike = [i for i in columns if len(table.rows) > 1 and len({row[i].text for row in table.rows}) == 1]
    if not alike:
        return table
    kept = [i for i in range(len(table.headers)) if i not in alike]
    said = ", ".join(f"{table.headers[i]}: {table.rows[0][i].text}" for i in alike)
    return replace(
        table,
        caption=f"{table.caption} In all rows, {said}.",
        headers=tuple(table.headers[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in table.rows),
        wordy=tuple(kept.index(i) for i in table.wordy if i in kept),
    )


def _quantile(values: Sequence[float], q: float) -> float:
    """Return the linearly interpolated quantile; NaN when one value is."""
    if not all(map(math.isfinite, values)):
        return math.nan
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def score_table(sets: Iterable[ScoreSet]) -> Table:
    """Return mean, median, 90th percentile and maximum of the relative L2 error, a row a set of samples and channel."""
    rows = []
    for place, scores in enumerate(sets, start=1):
        for channel, values in scores.errors.items():
            numbers = [sum(values) / len(values), *(_quantile(values, q) for q in (0.5, 0.9, 1.0))]
            about = (f"{place}: {scores.text}", channel, count_text(len(values)))
            rows.append(cells(*about, *map(number_text, numbers)))
    caption = "Relative L2 error by channel, over the samples of each set; the latest set comes first."
    headers = ("scored on", "channel", "samples", "mean", "median", "90th percentile", "largest")
    return Table("scores-by-channel", caption, headers, tuple(rows), wordy=(0, 1))


def _flat(tree: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(tree, Mapping):
        return {
            name: text
            for k, v in tree.items()
            for name, text in _flat(v, f"{prefix}.{k}" if prefix else str(k)).items()
        }
    values = tree if isinstance(tree, list | tuple) else [tree]
    told = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
    return {prefix or "system": ", ".join(told)}


def settings_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    """Lay the settings of two systems side by side; those that only one has show a dash in the other."""
    first, second = _flat(before), _flat(after)
    rows = []
    for name in {**first, **second}:
        one, other = first.get(name, DASH), second.get(name, DASH)
        rows.append((Cell(name), Cell(one, strong=one != other), Cell(other, strong=one != other)))
    caption = "The system before and after the shift; what changed is emphasized."
    return Table("systems", caption, ("setting", "pre-training", "downstream"), tuple(rows), wordy=(0, 1, 2))


def parts_table(seconds_by_part: Mapping[str, float]) -> Table:
    """Return where the time went, with its share of all parts as a bar."""
    total, rows = sum(seconds_by_part.values()), []
    for name, seconds in seconds_by_part.items():
        share = 100 * seconds / total if total > 0 else 0.0
        words = KIND_NAMES.get(name, name.replace("_", " "))
        rows.append((Cell(words), Cell(f"{duration_text(seconds)} ({share:.0f} %)"), Cell("", share=share)))
    caption = "Where the time went: wall time of the runs, added up."
    return Table("time-by-part", caption, ("part", "time", "share of all parts"), tuple(rows), wordy=(0, 1, 2))
