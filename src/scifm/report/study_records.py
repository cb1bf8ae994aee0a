"""What a study left on disk: ``analysis.json`` checked part by part, ``table.parquet`` as rows, its recipe, its runs.

Nothing is unpickled.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scifm.findings.study import Analysis
from scifm.report.examples import Examples, read_examples
from scifm.report.files import AGAIN, read_object, read_rows, read_text, unreadable
from scifm.report.records import Curve, read_curve

__all__ = ["StudyRecord", "read_study"]

_ROW_COLUMNS = ("kind", "source", "target", "size", "num_samples", "seed", "relative_l2", "run")
_REMEDY = "Analyze the study again: what is complete is not repeated."


@dataclass(frozen=True)
class StudyRecord:
    """All that the page of a study needs."""

    path: Path
    analysis: Analysis
    rows: tuple[Mapping[str, Any], ...] | None
    examples: Examples | None
    environment: Mapping[str, Any] | None
    recipe: str | None

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The recipe as a tree; empty where there is none.

        Raises:
            RunError: if it is no TOML.
        """
        try:
            return tomllib.loads(self.recipe or "")
        except tomllib.TOMLDecodeError as error:
            raise unreadable(self.path / "config.toml", f"it is not valid TOML ({error})", remedy=_REMEDY) from error

    def curve(self, run: str) -> Curve:
        """Return what a run of the study logged, by its folder relative to the study's."""
        return read_curve(self.path / run)


_PARTS = ("curves", "gains", "needs", "converged", "crossovers", "mixing")
_NAMES = {"target": "target", "size": "size", "source": "source", "specialist": "source", "mixture": "source"}


def _undeclared(analysis: Analysis) -> str | None:
    """Return what is wrong where a part names something that is not declared.

    In distribution is scored on the source's own test set, which need not be a task.
    """
    declared = {kind: {entry.name for entry in getattr(analysis, f"{kind}s")} for kind in ("target", "size", "source")}
    parts = {part: getattr(analysis, part) for part in _PARTS} | {"shift.tasks": analysis.shift.tasks}
    for part, entries in parts.items():
        for entry, (field, kind) in product(entries, _NAMES.items()):
            name = getattr(entry, field, "")
            own_test = field == "target" and getattr(entry, "kind", "") == "in_distribution"
            if name and name not in declared[kind] and not own_test:
                known = ", ".join(sorted(declared[kind])) or "none"
                return f"'{part}' names the {kind} {name!r}, which is not among its {kind}s ({known})"
    return None


def _read_analysis(path: Path) -> Analysis:
    tree = read_object(path, remedy=_REMEDY)
    try:
        analysis = Analysis.model_validate({k: v for k, v in (tree or {}).items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise unreadable(path, f"'{place}' is not as expected ({first['msg']})", remedy=_REMEDY) from error
    if why := _undeclared(analysis):
        raise unreadable(path, why, remedy=_REMEDY)
    return analysis


def _read_table(path: Path) -> tuple[Mapping[str, Any], ...] | None:
    rows = read_rows(path, _ROW_COLUMNS)
    for number, row in enumerate(rows or ()):
        for name in ("num_samples", "seed", "relative_l2"):
            if row[name] is not None and not isinstance(row[name], int | float):
                why = f"'{name}' of row {number} should be a number and is {row[name]!r}"
                raise unreadable(path, why, remedy=AGAIN)
    return None if rows is None else tuple(rows)


def read_study(path: Path) -> StudyRecord:
    """Read a study folder: the one that holds ``analysis.json``.

    Raises:
        RunError: if a file that is there cannot be read or is not what its name promises.
    """
    return StudyRecord(
        path=path,
        analysis=_read_analysis(path / "analysis.json"),
        rows=_read_table(path / "table.parquet"),
        examples=read_examples(path / "examples.npz"),
        environment=read_object(path / "environment.json"),
        recipe=read_text(path / "config.toml"),
    )
