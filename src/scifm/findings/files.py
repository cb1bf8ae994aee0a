"""Findings on disk: a JSON list of them, each told by its name."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from scifm.errors import RunError
from scifm.findings.finding import Finding
from scifm.runs import write_json

__all__ = ["as_plain", "read_findings", "record_findings"]


def as_plain(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings as JSON can hold them: a number that is not finite is None."""
    return [json.loads(finding.model_dump_json()) for finding in findings]


def read_findings(path: str | Path) -> list[Finding]:
    """Return the findings of a file.

    Raises:
        RunError: if it is missing or damaged.
    """
    try:
        return TypeAdapter(list[Finding]).validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"'{path}' cannot be read ({type(error).__name__}). Remove it, and ask again.") from error


def record_findings(path: str | Path, findings: Iterable[Finding]) -> None:
    """Write findings; those of other names that the file holds already are kept, those of the same name replaced.

    Raises:
        RunError: if the file is damaged or cannot be written.
    """
    new = {finding.name: finding for finding in findings}
    before = read_findings(path) if Path(path).is_file() else []
    merged = {finding.name: finding for finding in before} | new
    write_json(Path(path), as_plain(merged.values()))
