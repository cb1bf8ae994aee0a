"""The scores that stand in a run's folder: a set for each choice of samples, with what it says of their origin."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scifm.report.files import AGAIN, read_rows, unreadable
from scifm.runs import Run
from scifm.wording import span

__all__ = ["ScoreSet", "origin_text", "read_score_sets"]

_INDEX_COLUMNS = ("sample", "frame", "time", "lead_time", "channel")


@dataclass(frozen=True)
class ScoreSet:
    """Scores on one choice of samples.

    Args:
        file: where they stand.
        origin: what it says of the samples; None: it was written before scores said that.
        recorded: when, as ISO 8601; empty when unknown.
        num_samples: how many were scored.
        errors: relative L2 error of every sample and frame, by channel; empty where it was not asked for.
        means: of every metric, over the samples, frames and channels in which it is defined.
        text: what they are of, in words.
        undefined: by metric, in how many samples, frames and channels the truth leaves it undefined.
    """

    file: Path
    origin: Mapping[str, Any] | None
    recorded: str
    num_samples: int
    errors: Mapping[str, tuple[float, ...]]
    means: Mapping[str, float]
    text: str
    undefined: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        means = {name: mean if math.isfinite(mean) else None for name, mean in self.means.items()}
        about = {"file": str(self.file), "origin": self.origin, "text": self.text, "recorded": self.recorded}
        return {**about, "num_samples": self.num_samples, "mean": means, "undefined": dict(self.undefined)}


def read_score_sets(run: Run) -> tuple[ScoreSet, ...]:
    """Read all scores of a run, the latest first.

    Raises:
        RunError: if a file cannot be read.
    """
    sets = [_read(file) for file in run.score_files]
    return tuple(sorted(sets, key=lambda scores: scores.recorded, reverse=True))


def _read(file: Path) -> ScoreSet:
    rows = read_rows(file, ("channel",)) or []
    about = _about(file)
    names = [name for name in (rows[0] if rows else ()) if name not in _INDEX_COLUMNS]
    names = [name for name in names if all(isinstance(row[name], int | float | None) for row in rows)]
    absent = math.nan  # a sample without a score must show, not vanish
    columns = {name: [absent if row[name] is None else float(row[name]) for row in rows] for name in names}
    undefined = {name: set(places) for name, places in about.get("undefined", {}).items()}
    errors: dict[str, list[float]] = {}
    for row, error in zip(rows, columns.get("relative_l2", ()), strict=False):
        errors.setdefault(str(row["channel"]), []).append(error)
    return ScoreSet(
        file=file,
        origin=about.get("origin"),
        recorded=str(about.get("recorded", "")),
        num_samples=len({row.get("sample", place) for place, row in enumerate(rows)}),
        errors={channel: tuple(own) for channel, own in errors.items()},
        means={name: _mean(own, undefined.get(name, set())) for name, own in columns.items()},
        text=about["text"],
        undefined={name: len(rows) for name, rows in undefined.items()},
    )


def _mean(column: list[float], left_out: set[int]) -> float:
    values = [value for place, value in enumerate(column) if place not in left_out]
    return sum(values) / len(values) if values else math.nan


def _about(file: Path) -> dict[str, Any]:
    """Return what a file says of itself, its origin in words with it."""
    try:
        about = json.loads((pq.read_schema(file).metadata or {}).get(b"scifm", b"{}"))
        undefined = {str(name): [int(row) for row in rows] for name, rows in about.get("undefined", {}).items()}
        return {**about, "text": origin_text(about.get("origin")), "undefined": undefined}
    except (
        pa.ArrowException, OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError,
    ) as error:  # fmt: skip
        raise unreadable(file, f"its metadata are not those of scores ({error})", remedy=AGAIN) from error


def origin_text(origin: Mapping[str, Any] | None) -> str:
    """Return in words which samples scores are of: store, split and stride, or system, knobs and seed."""
    if not origin:
        return "samples it does not tell (recorded by an earlier version)"
    about, parts = origin, []
    if "task" in about:
        parts.append(f"task {about['task']}")
    if "store" in about:
        parts.append(f"store {about['store']}" + (f", split {about['split']}" if "split" in about else ""))
        parts += [f"stride {about['stride']}"] if "stride" in about else []
        parts += ["some of its trajectories"] if "chosen" in about else []
    elif "system" in about:
        system = about["system"]
        parts += [f"system {system['name']}", *_ranges(system.get("knobs", {}))]
        parts += [f"seed {about['seed']}"] if "seed" in about else []
    elif "label" in about:
        parts.append(str(about["label"]))
    elif "systems" in about:
        parts += [f"samples of {', '.join(about['systems'])}" if about["systems"] else "samples"]
        parts += _ranges(about.get("coefficients", {}))
    if "num_points" in about:
        parts.append(" × ".join(map(str, about["num_points"])) + " points")
    if about.get("rename"):
        parts.append(", ".join(f"{new} for {old}" for new, old in about["rename"].items()))
    return ", ".join(parts)


def _ranges(ranges: Mapping[str, Any]) -> list[str]:
    told = []
    for name, bounds in ranges.items():
        low, high = (bounds["low"], bounds["high"]) if isinstance(bounds, Mapping) else bounds
        told.append(f"{name} {span(f'{low:g}', f'{high:g}')}")
    return told
