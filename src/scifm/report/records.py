"""What a run folder, or the folder of a model alone, says, read into plain values: curves, scores, findings.

A part that is not there is ``None`` (the page then says "not recorded"); a part that is there and cannot be read is an
error that names the file. Nothing is unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import pyarrow as pa
import pyarrow.parquet as pq

from scifm.findings.finding import Finding, read_findings
from scifm.report.files import AGAIN, read_object, read_rows, read_text, unreadable
from scifm.runs import Run
from scifm.wording import span

__all__ = ["MODEL_ALONE", "Curve", "RunRecord", "ScoreSet", "holds_model", "origin_text", "read_curve", "read_run"]

_INDEX_COLUMNS = ("sample", "frame", "time", "lead_time", "channel")

MODEL_ALONE = "a model, without the run it came from"
"""Status of a folder that holds a model and no run."""


@dataclass(frozen=True)
class Curve:
    """What ``metrics.jsonl`` of one run says; losses and errors as logged."""

    train_steps: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    valid_steps: tuple[int, ...] = ()
    errors: tuple[float, ...] = ()


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


@dataclass(frozen=True)
class RunRecord:
    """All that the page of a single run needs."""

    path: Path
    status: str
    parent: str | None
    curve: Curve
    score_sets: tuple[ScoreSet, ...]
    """One for each set of samples it was scored on, the latest first."""
    findings: tuple[Finding, ...]
    """What questions put to the operator found: ``findings.json``."""
    environment: Mapping[str, Any] | None
    recipe: str
    kept: str | None = None
    """What fine-tuning kept and why, where nothing was trained."""
    seconds: float | None = None
    """Wall time over all sittings; None for a run that did not note it."""


def read_curve(path: Path) -> Curve:
    """Return what a run logged; nothing where it logged nothing or is not there.

    Raises:
        RunError: if its metrics cannot be read.
    """
    try:
        events = Run(path).metrics()
    except (OSError, ValueError) as error:
        raise unreadable(path / "metrics.jsonl", error, remedy=AGAIN) from error

    def is_number(value: Any) -> TypeGuard[float]:
        return isinstance(value, float) or (type(value) is int and abs(value) < 2**53)

    def pairs(event: str, name: str) -> Iterator[tuple[int, float]]:
        for entry in events:
            step, value = entry.get("step"), entry.get(name)
            if entry.get("event") == event and is_number(step) and abs(step) < 2**53 and is_number(value):
                yield int(step), float(value)

    train, valid = list(pairs("train", "loss")), list(pairs("valid", "relative_l2"))
    return Curve(
        train_steps=tuple(step for step, _ in train),
        losses=tuple(loss for _, loss in train),
        valid_steps=tuple(step for step, _ in valid),
        errors=tuple(error for _, error in valid),
    )


def holds_model(path: Path) -> bool:
    """Return whether a folder is that of a model alone."""
    return all((path / name).is_file() for name in ("config.json", "model.safetensors"))


def read_run(path: Path) -> RunRecord:
    """Read a single run folder, one that holds ``config.toml``, or the folder of a model.

    Raises:
        RunError: if a file that is there cannot be read or is not what its name promises.
    """
    alone = holds_model(path)
    run = Run(path) if alone else Run.open(path)
    outcome, findings = path / "outcome.json", path / "findings.json"
    kept = (read_object(outcome) or {}).get("kept")
    if kept is not None and not isinstance(kept, str):
        raise unreadable(outcome, f"'kept' should be a text and is {kept!r}", remedy=AGAIN)
    score_sets = [_read_scores(file) for file in run.score_files]
    return RunRecord(
        path=path,
        status=MODEL_ALONE if alone else run.status,
        parent=read_text(path / "parent"),
        curve=read_curve(path),
        score_sets=tuple(sorted(score_sets, key=lambda scores: scores.recorded, reverse=True)),
        findings=tuple(read_findings(findings)) if findings.is_file() else (),
        environment=read_object(path / "environment.json"),
        recipe=read_text(path / ("config.json" if alone else "config.toml")) or "",
        kept=kept,
        seconds=run.seconds or None,
    )


# --- scores -----------------------------------------------------------------------------------------------------------


def _read_scores(file: Path) -> ScoreSet:
    rows = read_rows(file, ("channel",)) or []
    about = _about(file)
    undefined: dict[str, set[int]] = about["undefined"]
    columns, means = {}, {}
    for name in (name for name in (rows[0] if rows else ()) if name not in _INDEX_COLUMNS):
        if all(isinstance(row[name], int | float | None) for row in rows):
            # a sample without a score must show, not vanish
            columns[name] = [math.nan if row[name] is None else float(row[name]) for row in rows]
            defined = [value for i, value in enumerate(columns[name]) if i not in undefined.get(name, ())]
            means[name] = sum(defined) / len(defined) if defined else math.nan
    errors: dict[str, list[float]] = {}
    for row, error in zip(rows, columns.get("relative_l2", ()), strict=False):
        errors.setdefault(str(row["channel"]), []).append(error)
    return ScoreSet(
        file=file,
        origin=about.get("origin"),
        recorded=str(about.get("recorded", "")),
        num_samples=len({row.get("sample", place) for place, row in enumerate(rows)}),
        errors={channel: tuple(own) for channel, own in errors.items()},
        means=means,
        text=about["text"],
        undefined={name: len(rows) for name, rows in undefined.items()},
    )


def _about(file: Path) -> dict[str, Any]:
    """Return what a file says of itself, its origin in words with it."""
    try:
        about = json.loads((pq.read_schema(file).metadata or {}).get(b"scifm", b"{}"))
        undefined = {str(name): {int(row) for row in rows} for name, rows in about.get("undefined", {}).items()}
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
