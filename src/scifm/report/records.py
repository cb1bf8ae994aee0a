"""What a study folder or a run folder says, read into plain values.

A part that is not there is ``None`` (the page then says "not recorded"); a part that is there and cannot be read is an
error that names the file. Nothing is unpickled.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scifm.report.files import AGAIN, read_object, read_rows, read_text, unreadable
from scifm.report.score_sets import ScoreSet, read_score_sets
from scifm.runs import Run

__all__ = [
    "KINDS",
    "MODEL_ALONE",
    "Curve",
    "Examples",
    "ResultRow",
    "RunRecord",
    "StudyRecord",
    "Summary",
    "holds_model",
    "read_run",
    "read_study",
]

MODEL_ALONE = "a model, without the run it came from"
"""Status of a folder that holds a model and no run."""

KINDS = ("in_distribution", "zero_shot", "few_shot", "from_scratch")
_PREFIXES = {"pretrain": "pretrain", "finetune": "few_shot", "from_scratch": "from_scratch"}
_SUMMARY_KEYS = (*KINDS, "seconds")


@dataclass(frozen=True)
class Summary:
    """``summary.json``: mean relative L2 errors, by number of downstream samples where that applies."""

    in_distribution: float | None
    zero_shot: float | None
    few_shot: Mapping[int, float | None]
    from_scratch: Mapping[int, float | None]
    seconds: float | None
    details: Mapping[str, Any]
    """Everything else the file holds: title, systems, number of test samples, …"""


@dataclass(frozen=True)
class ResultRow:
    """One evaluated model of a study: one row of ``results.parquet``."""

    kind: str
    num_samples: int
    relative_l2: float | None
    seed: int | None = None
    learning_rate: float | None = None
    num_trials: int | None = None
    trial_steps: int | None = None
    coefficients: str | None = None
    num_steps: int | None = None
    relative_l2_median: float | None = None
    relative_l2_p90: float | None = None
    seconds: float | None = None
    run: str | None = None


@dataclass(frozen=True)
class Curve:
    """What ``metrics.jsonl`` of one run says; losses and errors as logged."""

    name: str
    kind: str
    """``pretrain``, ``few_shot``, ``from_scratch`` or ``other``."""
    num_samples: int | None
    train_steps: tuple[int, ...]
    losses: tuple[float, ...]
    valid_steps: tuple[int, ...]
    errors: tuple[float, ...]


@dataclass(frozen=True)
class Examples:
    """``examples.npz``: fields of shape (example, y, x) for looking at."""

    forcing: NDArray[np.floating]
    truth: NDArray[np.floating]
    predictions: Mapping[str, NDArray[np.floating]]
    """By kind: ``zero_shot``, ``few_shot``, ``from_scratch``; a kind that was not stored is absent."""
    labels: Mapping[str, str]
    sample_errors: Mapping[str, NDArray[np.floating]]
    """Relative L2 error of shape (example,) by kind."""
    coefficients: NDArray[np.floating] | None
    coefficient_names: tuple[str, ...]
    extent: tuple[float, float]
    """Side lengths (y, x)."""

    @property
    def num_examples(self) -> int:
        return len(self.truth)


@dataclass(frozen=True)
class StudyRecord:
    """All that the page of a study needs."""

    path: Path
    summary: Summary
    rows: tuple[ResultRow, ...] | None
    examples: Examples | None
    environment: Mapping[str, Any] | None
    recipe: str | None
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class RunRecord:
    """All that the page of a single run needs."""

    path: Path
    status: str
    parent: str | None
    curve: Curve
    score_sets: tuple[ScoreSet, ...]
    """One for each set of samples it was scored on, the latest first."""
    environment: Mapping[str, Any] | None
    recipe: str
    kept: str | None = None
    """What fine-tuning kept and why, where nothing was trained."""
    seconds: float | None = None
    """Wall time over all sittings; None for a run that did not note it."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_summary(path: Path) -> Summary:
    remedy = "Run the command that wrote it again."
    tree = read_object(path, remedy=remedy) or {}

    def number(value: Any, key: str) -> float | None:
        if value is None or _is_number(value):
            return None if value is None else float(value)
        raise unreadable(path, f"'{key}' should be a number and is {value!r}", remedy=remedy)

    def by_count(key: str) -> dict[int, float | None]:
        table = tree.get(key) or {}
        if not isinstance(table, dict) or not all(count.isdecimal() for count in table):
            raise unreadable(path, f"'{key}' should map numbers of samples to errors", remedy=remedy)
        counts = sorted(table, key=int)
        return {int(count): number(table[count], f"{key}.{count}") for count in counts}

    return Summary(
        in_distribution=number(tree.get("in_distribution"), "in_distribution"),
        zero_shot=number(tree.get("zero_shot"), "zero_shot"),
        few_shot=by_count("few_shot"),
        from_scratch=by_count("from_scratch"),
        seconds=number(tree.get("seconds"), "seconds"),
        details={key: value for key, value in tree.items() if key not in _SUMMARY_KEYS},
    )


def _optional(value: Any) -> Any:
    """Return None for a value that tables write as NaN when they mean absent."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _result_row(row: Mapping[str, Any]) -> ResultRow:
    optional = ("seed", "learning_rate", "num_trials", "trial_steps", "coefficients", "num_steps", "seconds", "run")
    return ResultRow(
        kind=str(row["kind"]),
        num_samples=int(row["num_samples"] or 0),
        relative_l2=row["relative_l2"],
        relative_l2_median=row.get("relative_l2_median"),
        relative_l2_p90=row.get("relative_l2_p90"),
        **{name: _optional(row.get(name)) for name in optional},
    )


def _read_results(path: Path) -> tuple[ResultRow, ...] | None:
    rows = read_rows(path, ("kind", "num_samples", "relative_l2"))
    if rows is None:
        return None
    try:
        return tuple(_result_row(row) for row in rows)
    except (TypeError, ValueError) as error:
        raise unreadable(path, f"a row is not as expected ({error})", remedy=AGAIN) from error


def _read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, AttributeError) as error:
        raise unreadable(path, f"it is not a whole .npz file ({error})", remedy=AGAIN) from error


def _read_examples(path: Path) -> Examples | None:
    arrays = _read_arrays(path)
    if arrays is None:
        return None
    kinds = ("zero_shot", "few_shot", "from_scratch")
    for name in ("forcing", "truth"):
        if name not in arrays:
            raise unreadable(path, f"it has no array '{name}'", remedy=AGAIN)
    shape = arrays["truth"].shape
    for name in ("forcing", *kinds):
        if name in arrays and (len(shape) != 3 or arrays[name].shape != shape):
            why = f"'{name}' has shape {arrays[name].shape} and 'truth' {shape}; both should be (example, y, x)"
            raise unreadable(path, why, remedy=AGAIN)
    given = arrays.get("extent", np.ones(2))
    if given.shape != (2,) or not np.all(given > 0):
        raise unreadable(path, f"'extent' should be two positive lengths (y, x) and is {given}", remedy=AGAIN)
    for name in ("coefficients", *(f"sample_error_{kind}" for kind in kinds)):
        if name in arrays and arrays[name].shape[:1] != shape[:1]:
            why = f"'{name}' has shape {arrays[name].shape}, there are {shape[0]} examples"
            raise unreadable(path, why, remedy=AGAIN)
    return Examples(
        forcing=arrays["forcing"],
        truth=arrays["truth"],
        predictions={kind: arrays[kind] for kind in kinds if kind in arrays},
        labels={kind: str(arrays[f"{kind}_label"]) for kind in kinds if f"{kind}_label" in arrays},
        sample_errors={kind: arrays[f"sample_error_{kind}"] for kind in kinds if f"sample_error_{kind}" in arrays},
        coefficients=arrays.get("coefficients"),
        coefficient_names=tuple(str(name) for name in arrays.get("coefficient_names", np.empty(0, str))),
        extent=(float(given[0]), float(given[1])),
    )


def _read_curve(path: Path, kind: str, num_samples: int | None) -> Curve:
    try:
        events = Run(path).metrics()
    except (OSError, ValueError) as error:
        raise unreadable(path / "metrics.jsonl", error, remedy=AGAIN) from error

    def pairs(event: str, value: str) -> Iterator[tuple[int, float]]:
        for entry in events:
            if entry.get("event") == event and _is_number(entry.get("step")) and _is_number(entry.get(value)):
                yield int(entry["step"]), float(entry[value])

    train, valid = list(pairs("train", "loss")), list(pairs("valid", "relative_l2"))
    return Curve(
        name=path.name,
        kind=kind,
        num_samples=num_samples,
        train_steps=tuple(step for step, _ in train),
        losses=tuple(loss for _, loss in train),
        valid_steps=tuple(step for step, _ in valid),
        errors=tuple(error for _, error in valid),
    )


def _read_curves(path: Path, rows: tuple[ResultRow, ...]) -> tuple[Curve, ...]:
    known = {(path / row.run).resolve(): row for row in rows if row.run and row.kind in ("few_shot", "from_scratch")}
    curves = []
    for folder in sorted(path.glob("runs/*/")):
        row = known.get(folder.resolve())
        kind = row.kind if row else next((k for p, k in _PREFIXES.items() if folder.name.startswith(p)), "other")
        curves.append(_read_curve(folder, kind, row.num_samples if row else None))
    return tuple(curves)


def read_study(path: Path) -> StudyRecord:
    """Read a study folder: the one that holds ``summary.json``.

    Raises:
        RunError: if a file that is there cannot be read or is not what its name promises.
    """
    rows = _read_results(path / "results.parquet")
    return StudyRecord(
        path=path,
        summary=_read_summary(path / "summary.json"),
        rows=rows,
        examples=_read_examples(path / "examples.npz"),
        environment=read_object(path / "environment.json"),
        recipe=read_text(path / "config.toml"),
        curves=_read_curves(path, rows or ()),
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
        curve=_read_curve(path, "pretrain", None),
        score_sets=read_score_sets(run),
        environment=read_object(path / "environment.json"),
        recipe=read_text(path / ("config.json" if alone else "config.toml")) or "",
        kept=_read_kept(path / "outcome.json"),
        seconds=run.seconds or None,
    )
