"""What a run folder, or the folder of a model alone, says, read into plain values.

A part that is not there is ``None`` (the page then says "not recorded"); a part that is there and cannot be read is an
error that names the file. Nothing is unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scifm.findings.finding import Finding, read_findings
from scifm.report.files import AGAIN, read_object, read_text, unreadable
from scifm.report.score_sets import ScoreSet, read_score_sets
from scifm.runs import Run

__all__ = ["MODEL_ALONE", "Curve", "RunRecord", "holds_model", "read_curve", "read_run"]

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


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53)


def _is_step(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and abs(value) < 2**53


def read_curve(path: Path) -> Curve:
    """Return what a run logged; nothing where it logged nothing or is not there.

    Raises:
        RunError: if its metrics cannot be read.
    """
    try:
        events = Run(path).metrics()
    except (OSError, ValueError) as error:
        raise unreadable(path / "metrics.jsonl", error, remedy=AGAIN) from error

    def pairs(event: str, value: str) -> Iterator[tuple[int, float]]:
        for entry in events:
            if entry.get("event") == event and _is_step(entry.get("step")) and _is_number(entry.get(value)):
                yield int(entry["step"]), float(entry[value])

    train, valid = list(pairs("train", "loss")), list(pairs("valid", "relative_l2"))
    return Curve(
        train_steps=tuple(step for step, _ in train),
        losses=tuple(loss for _, loss in train),
        valid_steps=tuple(step for step, _ in valid),
        errors=tuple(error for _, error in valid),
    )


def _read_kept(path: Path) -> str | None:
    told = (read_object(path) or {}).get("kept")
    if told is not None and not isinstance(told, str):
        raise unreadable(path, f"'kept' should be a text and is {told!r}", remedy=AGAIN)
    return told


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
    return RunRecord(
        path=path,
        status=MODEL_ALONE if alone else run.status,
        parent=read_text(path / "parent"),
        curve=read_curve(path),
        score_sets=read_score_sets(run),
        findings=tuple(read_findings(file)) if (file := path / "findings.json").is_file() else (),
        environment=read_object(path / "environment.json"),
        recipe=read_text(path / ("config.json" if alone else "config.toml")) or "",
        kept=_read_kept(path / "outcome.json"),
        seconds=run.seconds or None,
    )
