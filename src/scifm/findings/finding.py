"""`Finding`: one answer, with its number, its interval, its threshold, its words and what can be drawn of it.

A file of findings is a JSON list of them, each told by its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from scifm.errors import RunError
from scifm.findings.figure import Figure
from scifm.findings.part import Number, Part
from scifm.runs import write_atomically

__all__ = ["Finding", "read_findings", "record_findings"]


class Finding(Part):
    """One answer to one question about a study, an operator or a plan.

    Args:
        said: the answer, a sentence.
        evidence: the numbers behind it, a sentence or two.
        good: whether it is good news; None where it is neither, or cannot be told.
        name: what was asked, short.
        statistic: the number the answer rests on.
        low: lower end of its interval.
        high: upper end of its interval.
        threshold: what it was compared with.
        unit: of the three.
        figure: what can be drawn of it.
        advice: what to do about it, a sentence.
        seconds: what asking took.
    """

    said: str
    evidence: str = ""
    good: bool | None = None
    name: str = ""
    statistic: Number = None
    low: Number = None
    high: Number = None
    threshold: Number = None
    unit: str = ""
    figure: Figure | None = None
    advice: str = ""
    seconds: Number = None

    @property
    def measured(self) -> str:
        """The number, its interval and its threshold, in words; empty where there is none."""
        if self.statistic is None:
            return ""
        words = f"{self.statistic:.3g}"
        if self.low is not None and self.high is not None:
            words += f" ({self.low:.3g} to {self.high:.3g})"
        words += f" {self.unit}" if self.unit else ""
        return f"{words}; compared with {self.threshold:.3g}." if self.threshold is not None else f"{words}."

    @property
    def light(self) -> Light:
        """``green`` and ``red`` as it is good or not; ``amber``: measured, without a verdict; ``none``: not asked."""
        if self.good is None:
            return "none" if self.statistic is None else "amber"
        return "green" if self.good else "red"


Light = Literal["green", "amber", "red", "none"]
"""What a report card shows of a finding."""

_LIST = TypeAdapter(list[Finding])


def read_findings(path: str | Path) -> list[Finding]:
    """Return the findings of a file.

    Raises:
        RunError: if it is missing or damaged.
    """
    try:
        return _LIST.validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"'{path}' cannot be read ({type(error).__name__}). Remove it, and ask again.") from error


def record_findings(path: str | Path, findings: Iterable[Finding]) -> None:
    """Write findings; those of other names that the file holds already are kept, those of the same name replaced.

    Raises:
        RunError: if the file is damaged or cannot be written.
    """
    before = read_findings(path) if Path(path).is_file() else []
    merged = {finding.name: finding for finding in (*before, *findings)}
    write_atomically(Path(path), _LIST.dump_json(list(merged.values()), indent=2) + b"\n")
