"""Files of a folder as plain values, and what those of a run or of a model alone say: curves, scores, findings.

A part that is not there is ``None`` (the page then says "not recorded"); a part that is there and cannot be read is an
error that names the file. Nothing is unpickled.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from scifm.errors import RunError, cause_of
from scifm.findings.finding import Finding, read_findings
from scifm.findings.provenance import Provenance
from scifm.runs import Run
from scifm.wording import box_text, hidden_text, plural, span

__all__ = [
    "AGAIN",
    "MODEL_ALONE",
    "Curve",
    "RunRecord",
    "ScoreSet",
    "holds_model",
    "origin_text",
    "read_arrays",
    "read_curve",
    "read_model",
    "read_object",
    "read_rows",
    "read_run",
    "read_text",
    "unreadable",
]

Model = TypeVar("Model", bound=BaseModel)

AGAIN = "Run the command that wrote it again, or remove the file to report without it."
_INDEX_COLUMNS = ("sample", "frame", "time", "lead_time", "channel")

MODEL_ALONE = "a model, without the run it came from"
"""Status of a folder that holds a model and no run."""


# --- files ------------------------------------------------------------------------------------------------------------


def unreadable(path: Path, why: object, *, remedy: str) -> RunError:
    """Return the error of a file that is there and cannot be read."""
    cause = cause_of(why) if isinstance(why, BaseException) else None
    return RunError(f"Cannot read '{path}': {cause or f'{why}. {remedy}'}")


def read_arrays(path: Path, needed: Iterable[str]) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of an ``.npz`` file by name, read without unpickling; None where there is no file.

    Raises:
        RunError: if it cannot be read, or lacks one that is needed.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, AttributeError) as error:
        raise unreadable(path, f"it is not a whole .npz file ({error})", remedy=AGAIN) from error
    if lost := [name for name in needed if name not in arrays]:
        raise unreadable(path, f"it has no array '{lost[0]}'", remedy=AGAIN)
    return arrays


def read_text(path: Path) -> str | None:
    """Return the text of a file, None where there is no file; a `RunError` says that it cannot be read."""
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error, remedy=AGAIN) from error


def read_object(path: Path, *, remedy: str = AGAIN) -> dict[str, Any] | None:
    """Return the JSON object of a file, None where there is no file; a `RunError` says that it is none."""
    text = read_text(path)
    if text is None:
        return None
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable(path, f"it is not valid JSON ({error})", remedy=remedy) from error
    if not isinstance(tree, dict):
        raise unreadable(path, "it holds no JSON object", remedy=remedy)
    return tree


def read_model(path: Path, model: type[Model], *, remedy: str) -> Model:
    """Return the JSON object of a file as a model, nulls as defaults; a `RunError` names what is not as expected."""
    tree = read_object(path, remedy=remedy) or {}
    try:
        return model.model_validate({name: value for name, value in tree.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise unreadable(path, f"'{place}' is not as expected ({first['msg']})", remedy=remedy) from error


def read_rows(path: Path, required: tuple[str, ...]) -> list[dict[str, Any]] | None:
    """Return the rows of a Parquet file, None where there is none; a `RunError` names a column that it lacks."""
    if not path.is_file():
        return None
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, f"it is not a whole Parquet file ({error})", remedy=AGAIN) from error
    missing = [name for name in required if name not in names]
    if missing:
        why = f"it has no column {', '.join(missing)} (it has: {', '.join(names)})"
        raise unreadable(path, why, remedy=AGAIN)
    return rows


# --- a run ------------------------------------------------------------------------------------------------------------


_OF_SYSTEM = "relative_l2/"


@dataclass(frozen=True)
class Curve:
    """What ``metrics.jsonl`` of one run says; losses and errors as logged.

    Args:
        systems: of training on several systems, the steps and the errors of each.
    """

    train_steps: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    valid_steps: tuple[int, ...] = ()
    errors: tuple[float, ...] = ()
    systems: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = field(default_factory=dict)


NOTHING_CHANGES, ALL_ZERO, BEFORE = "if nothing changed", "if the answer were zero", "before it was fine-tuned"
WITHOUT_DEMONSTRATIONS = "without demonstrations"
"""Other answers to the samples that were scored."""


@dataclass(frozen=True)
class ScoreSet:
    """Scores on one choice of samples, in one file."""

    file: Path
    origin: Mapping[str, Any] | None
    """What the file says of the samples; None: it was written before scores said that."""
    recorded: str  # as ISO 8601; empty when unknown
    num_samples: int
    errors: Mapping[str, tuple[float, ...]]
    """By channel the relative L2 error of every sample and frame; empty where it was not asked for."""
    means: Mapping[str, float]
    """Of every metric, over the samples, frames and channels in which it is defined."""
    text: str  # what they are of, in words
    undefined: Mapping[str, int] = field(default_factory=dict)
    """By metric, in how many samples, frames and channels the truth leaves it undefined."""
    beside: Mapping[str, float] = field(default_factory=dict)
    """Mean relative L2 errors of other answers to the same samples, by what they are."""

    def to_dict(self) -> dict[str, Any]:
        means = {name: mean if math.isfinite(mean) else None for name, mean in self.means.items()}
        about = {"file": str(self.file), "origin": self.origin, "text": self.text, "recorded": self.recorded}
        beside = {"beside": dict(self.beside)} if self.beside else {}
        return {**about, "num_samples": self.num_samples, "mean": means, "undefined": dict(self.undefined), **beside}


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
    meanings: Mapping[str, str] = field(default_factory=dict)
    """What files said the numbers are, by name of a field, a coefficient or an axis: the model's ``config.json``."""
    kept: str | None = None
    """What fine-tuning kept and why, where nothing was trained."""
    seconds: float | None = None
    """Wall time over all sittings; None for a run that did not note it."""
    past: Provenance = field(default_factory=Provenance)
    """Where its model says it comes from."""


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
    names = dict.fromkeys(name for entry in events for name in entry if name.startswith(_OF_SYSTEM))
    by_system = {name.removeprefix(_OF_SYSTEM): tuple(zip(*pairs("valid", name), strict=True)) for name in names}
    return Curve(
        train_steps=tuple(step for step, _ in train),
        losses=tuple(loss for _, loss in train),
        valid_steps=tuple(step for step, _ in valid),
        errors=tuple(error for _, error in valid),
        systems={name: (own[0], own[1]) for name, own in by_system.items() if own},
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
        meanings=_meanings(path / "config.json" if alone else path / "model" / "config.json"),
        kept=kept,
        seconds=run.seconds or None,
        past=Provenance.read(path if alone else path / "model"),
    )


def _meanings(file: Path) -> dict[str, str]:
    domain = (read_object(file) or {}).get("domain")
    meanings = domain.get("meanings") if isinstance(domain, dict) else None
    if not isinstance(meanings, dict):
        return {}
    return {str(name): str(text) for name, text in meanings.items()}


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
        beside=about["beside"],
    )


def _about(file: Path) -> dict[str, Any]:
    """Return what a file says of itself, its origin in words with it."""
    try:
        about = json.loads((pq.read_schema(file).metadata or {}).get(b"scifm", b"{}"))
        undefined = {str(name): {int(row) for row in rows} for name, rows in about.get("undefined", {}).items()}
        beside = {str(name): float(mean) for name, mean in about.get("beside", {}).items()}
        return {**about, "text": origin_text(about.get("origin")), "undefined": undefined, "beside": beside}
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
        parts += [f"{name} {about[name]}" for name in ("stride", "history", "horizon", "leads") if name in about]
        parts += ["observed"] * bool(about.get("observed"))
        parts += ["some of its trajectories"] if "chosen" in about else []
    elif "system" in about:
        system = about["system"]
        parts += [f"system {system['name']}", *_ranges(system.get("knobs", {}))]
        parts += [f"seed {about['seed']}"] if "seed" in about else []
    elif "members" in about:
        parts.append(f"mixture of {'; '.join(_member_text(member) for member in about['members'])}")
        parts += [f"seed {about['seed']}"] if "seed" in about else []
    elif "label" in about:
        parts.append(str(about["label"]))
    elif "systems" in about:
        parts += [f"samples of {', '.join(about['systems'])}" if about["systems"] else "samples"]
        parts += _ranges(about.get("coefficients", {}))
    if "hiding" in about:
        parts.append(hidden_text(**about["hiding"]))
    if "num_points" in about:
        parts.append(_box(about))
    if "demonstrations" in about:
        shown = about["demonstrations"]
        how = "shown" if shown["way"] == "learned" else "corrected by"
        parts.append(f"{how} {plural(int(shown['count']), 'demonstration')} ({shown['way']})")
    if about.get("rename"):
        parts.append(", ".join(f"{new} for {old}" for new, old in about["rename"].items()))
    return ", ".join(parts)


def _member_text(member: Mapping[str, Any]) -> str:
    if "store" in member:
        return f"store {member['store']}"
    system = member["system"]
    return ", ".join([str(system["name"]), *_ranges(system.get("knobs", {}))])


def _box(about: Mapping[str, Any]) -> str:
    """Return the points, and of a box that is no periodic one of sides 1 what it is."""
    if "extent" not in about:
        return box_text(about["num_points"])
    ends = about.get("boundary") or ["periodic" if wraps else "bounded" for wraps in about["periodic"]]
    usual = all(side == 1 for side in about["extent"]) and set(ends) == {"periodic"}
    return box_text(about["num_points"], *(() if usual else (about["extent"], ends)))


def _ranges(ranges: Mapping[str, Any]) -> list[str]:
    texts = []
    for name, bounds in ranges.items():
        low, high = (bounds["low"], bounds["high"]) if isinstance(bounds, Mapping) else bounds
        texts.append(f"{name} {span(f'{low:g}', f'{high:g}')}")
    return texts
