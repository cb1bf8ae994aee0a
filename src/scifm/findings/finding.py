"""`Finding`: one answer, with its number, its interval, its threshold, its words and what can be drawn of it."""

from __future__ import annotations

from scifm.findings.figure import Figure
from scifm.findings.part import Part

__all__ = ["Finding"]


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
    """

    said: str
    evidence: str = ""
    good: bool | None = None
    name: str = ""
    statistic: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    unit: str = ""
    figure: Figure | None = None
