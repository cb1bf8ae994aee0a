"""Rows for the page: models grouped over seeds, numbers as text, settings side by side.

A number that was not recorded is shown as "not recorded", one that is NaN or infinite as "not finite": never as 0, and
a mean over seeds with one diverged seed is not finite.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scifm.report.records import KINDS, Curve, ResultRow, Summary
from scifm.report.score_sets import ScoreSet
from scifm.wording import duration, plural

__all__ = [
    "KIND_NAMES",
    "MISSING",
    "ChannelScores",
    "Group",
    "Setting",
    "compare_settings",
    "count_text",
    "disagreements",
    "duration_text",
    "gains",
    "group_rows",
    "groups_from_summary",
    "number_text",
    "summarize_curves",
    "summarize_scores",
]

MISSING = "not recorded"
KIND_NAMES = {
    "in_distribution": "in distribution",
    "zero_shot": "zero-shot",
    "few_shot": "fine-tuned",
    "from_scratch": "from scratch",
    "from_scratch_converged": "from scratch, best budget",
    "pretrain": "pre-training",
}


def number_text(value: float | None, *, digits: int = 3) -> str:
    """Return `value` to `digits` significant digits: ``0.0210``, ``not recorded`` or ``not finite``."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "not finite"
    if value != 0 and not 1e-4 <= abs(value) < 1e4:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa} × 10^{int(exponent)}"
    return f"{value:#.{digits}g}".rstrip(".")


def count_text(value: int | None) -> str:
    """Return a count with thousands separated by commas."""
    return MISSING if value is None else f"{value:,}"


def duration_text(seconds: float | None) -> str:
    """Return seconds as ``8 min 32 s``, with spaces that do not break."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    return duration(seconds, exact=True).replace(" ", "\N{NO-BREAK SPACE}")


@dataclass(frozen=True)
class Group:
    """Models of one kind and one number of downstream samples, which differ in their seed."""

    kind: str
    num_samples: int
    errors: tuple[float | None, ...]
    """Relative L2 error of each seed's model, mean over the test samples."""
    median: float | None = None
    p90: float | None = None
    learning_rates: tuple[float, ...] = ()
    num_trials: tuple[int, ...] = ()
    """Candidates tried for one model: one value when all seeds agree."""
    trial_steps: tuple[int, ...] = ()
    """Optimizer steps of all trials of one model."""
    coefficients: tuple[str, ...] = ()
    """Constants of coefficients: ``pretrained`` or ``refitted``, whichever was chosen by a seed or more."""
    num_steps: tuple[int, ...] = ()
    seconds: float | None = None

    @property
    def finite(self) -> tuple[float, ...]:
        """Errors of the seeds that have a finite one."""
        return tuple(error for error in self.errors if error is not None and math.isfinite(error))

    @property
    def mean(self) -> float | None:
        """Mean over seeds; missing or not finite as soon as one seed is."""
        return _mean(self.errors)

    @property
    def low(self) -> float | None:
        """Lowest seed; missing as soon as one seed is missing or not finite."""
        return min(self.finite) if len(self.finite) == len(self.errors) else None

    @property
    def high(self) -> float | None:
        """Highest seed; missing as soon as one seed is missing or not finite."""
        return max(self.finite) if len(self.finite) == len(self.errors) else None


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present and len(present) == len(values) else None


def _total(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) if present and len(present) == len(values) else None


def _distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted({value for value in values if value is not None}))


def group_rows(rows: Iterable[ResultRow]) -> list[Group]:
    """Group models over their seeds, in the order in-distribution, zero-shot, fine-tuned, from scratch."""
    sorted_rows: dict[tuple[str, int], list[ResultRow]] = defaultdict(list)
    for row in rows:
        sorted_rows[row.kind, row.num_samples].append(row)
    return [
        Group(
            kind=kind,
            num_samples=num_samples,
            errors=tuple(row.relative_l2 for row in members),
            median=_mean([row.relative_l2_median for row in members]),
            p90=_mean([row.relative_l2_p90 for row in members]),
            learning_rates=_distinct(row.learning_rate for row in members),
            num_trials=_distinct(row.num_trials for row in members),
            trial_steps=_distinct(row.trial_steps for row in members),
            coefficients=_distinct(row.coefficients or None for row in members),
            num_steps=_distinct(row.num_steps for row in members),
            seconds=_total([row.seconds for row in members]),
        )
        for kind in KINDS
        for num_samples, members in sorted((n, m) for (k, n), m in sorted_rows.items() if k == kind)
    ]


def groups_from_summary(summary: Summary) -> list[Group]:
    """Return the means alone, for a study whose table of models is missing."""
    groups = [
        Group(kind, 0, (getattr(summary, kind),))
        for kind in ("in_distribution", "zero_shot")
        if getattr(summary, kind) is not None
    ]
    for kind in ("few_shot", "from_scratch"):
        groups += [Group(kind, count, (error,)) for count, error in getattr(summary, kind).items()]
    return groups


def gains(groups: Iterable[Group]) -> dict[int, float]:
    """Return error from scratch / error fine-tuned by number of samples, where both are known and finite.

    Above 1 pre-training helped; below 1 it hurt (negative transfer).
    """
    means = {(group.kind, group.num_samples): group.mean for group in groups}
    result = {}
    for (kind, count), tuned in means.items():
        scratch = means.get(("from_scratch", count))
        if kind == "few_shot" and tuned and scratch and math.isfinite(tuned) and math.isfinite(scratch):
            result[count] = scratch / tuned
    return result


def disagreements(summary: Summary, groups: Iterable[Group]) -> list[str]:
    """Name the errors that ``summary.json`` and ``results.parquet`` tell differently."""
    found = []
    for group in groups:
        stored = getattr(summary, group.kind)
        told = stored.get(group.num_samples) if isinstance(stored, Mapping) else stored
        if told is not None and group.mean is not None and not math.isclose(told, group.mean, rel_tol=1e-3):
            where = f" on {plural(group.num_samples, 'sample')}" if group.num_samples else ""
            found.append(
                f"{KIND_NAMES[group.kind]}{where}: {number_text(told)} in summary.json, "
                f"{number_text(group.mean)} in results.parquet"
            )
    return found


@dataclass(frozen=True)
class ChannelScores:
    """Relative L2 error of one channel over the test samples."""

    channel: str
    num_samples: int
    mean: float
    median: float
    p90: float
    worst: float


def _quantile(values: Sequence[float], q: float) -> float:
    """Return the linearly interpolated quantile; NaN when one value is."""
    if not all(map(math.isfinite, values)):
        return math.nan
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def summarize_scores(scores: ScoreSet) -> list[ChannelScores]:
    """Return mean, median, 90th percentile and maximum per channel, channels in order of appearance."""
    return [
        ChannelScores(
            channel=channel,
            num_samples=len(values),
            mean=sum(values) / len(values),
            median=_quantile(values, 0.5),
            p90=_quantile(values, 0.9),
            worst=_quantile(values, 1.0),
        )
        for channel, values in scores.errors.items()
    ]


@dataclass(frozen=True)
class Setting:
    """One setting of two systems; `changed` says whether it was shifted."""

    name: str
    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Whether the two systems differ here."""
        return self.before != self.after


def _flat(tree: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(tree, Mapping):
        found: dict[str, str] = {}
        for key, value in tree.items():
            found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
        return found
    values = tree if isinstance(tree, list | tuple) else [tree]
    told = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
    return {prefix or "system": ", ".join(told)}


def compare_settings(before: Any, after: Any) -> list[Setting]:
    """Lay the settings of two systems side by side; those that only one has show a dash in the other."""
    first, second = _flat(before or {}), _flat(after or {})
    return [Setting(name, first.get(name, "–"), second.get(name, "–")) for name in {**first, **second}]


def summarize_curves(curves: Iterable[Curve]) -> list[tuple[str, str, str, str]]:
    """Return (run, last step, last loss, last validation error) as text."""
    return [
        (
            curve.name,
            count_text(max((*curve.train_steps, *curve.valid_steps), default=None)),
            number_text(curve.losses[-1] if curve.losses else None),
            number_text(curve.errors[-1] if curve.errors else None),
        )
        for curve in curves
    ]
