"""What an application found, in chapters: sentences with their numbers, figures, maps and tables, as data.

`keep_account` of the room `applications` leaves one as ``account.json``, the fields that its maps show beside it in
``account.npz``; one page draws the account of any application.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scifm.findings.figure import Figure
from scifm.findings.finding import Finding
from scifm.findings.part import Number, Part

__all__ = ["Account", "Chapter", "KeyFigure", "MapOf", "Maps", "Places", "Rows"]


class KeyFigure(Part):
    """A number that is read first.

    Args:
        label: what it is.
        value: the number in words, with its unit.
        note: a few words beneath.
    """

    label: str
    value: str
    note: str = ""


class MapOf(Part):
    """One field of a plane.

    Args:
        array: name of the array ``(y, x)`` in ``account.npz``, the first row at the lowest y.
        title: what it shows.
        kind: which colors: of what was given, of a field, or of a difference, whose zero is white.
        note: a few words beneath the title.
        low: the number with the first color; None: the least of all maps of this kind beside it.
        high: the number with the last one; None: the largest of them.
    """

    array: str
    title: str
    kind: Literal["asked", "field", "error"] = "field"
    note: str = ""
    low: Number = None
    high: Number = None


class Places(Part):
    """Places on every map of a group, such as stations.

    Args:
        label: what they are.
        x: along the horizontal axis, in units of the sides.
        y: along the vertical one, as many.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]

    @model_validator(mode="after")
    def _as_many(self) -> Places:
        if len(self.x) != len(self.y):
            raise ValueError(f"{len(self.x)} places along x have as many along y; these are {len(self.y)}")
        return self


class Maps(Part):
    """Maps of one plane, side by side; those of one kind share one scale of colors.

    Args:
        caption: what is shown and how to read it.
        rows: of maps; None leaves a place free.
        extent: sides (y, x) of the plane.
        places: what is marked on each.
    """

    caption: str
    rows: tuple[tuple[MapOf | None, ...], ...] = Field(min_length=1)
    extent: tuple[float, float]
    places: tuple[Places, ...] = ()

    @model_validator(mode="after")
    def _a_table(self) -> Maps:
        if len({len(row) for row in self.rows}) > 1 or not self.rows[0]:
            raise ValueError("rows of maps are alike in length, and hold one at least; None leaves a place free")
        if not all(side > 0 for side in self.extent):
            raise ValueError(f"sides are positive; got {self.extent}")
        return self


class Rows(Part):
    """A table, as words.

    Args:
        name: of the table on its page and of its file for a paper, unlike others in the account.
        caption: what it shows.
        headers: of the columns.
        rows: a cell a column.
    """

    name: str
    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @model_validator(mode="after")
    def _a_table(self) -> Rows:
        if any(len(row) != len(self.headers) for row in self.rows):
            raise ValueError(f"a row of the table '{self.name}' has a cell a column, {len(self.headers)}")
        return self


class Chapter(Part):
    """What belongs together under one heading, in the order of its parts.

    Args:
        title: the heading.
        text: sentences before all else.
        findings: what was found.
        figures: what is drawn.
        maps: fields of a plane.
        tables: numbers.
    """

    title: str
    text: str = ""
    findings: tuple[Finding, ...] = ()
    figures: tuple[Figure, ...] = ()
    maps: tuple[Maps, ...] = ()
    tables: tuple[Rows, ...] = ()


class Account(Part):
    """``account.json``.

    Args:
        application: which one, such as ``early warning``.
        question: what was asked of it.
        findings: what was found; the first is the headline.
        key_figures: numbers that are read first.
        chapters: the rest.
        definitions: what words and numbers mean, a sentence each.
        limits: what it does not tell, a sentence each.
    """

    application: str
    question: str
    findings: tuple[Finding, ...] = Field(min_length=1)
    key_figures: tuple[KeyFigure, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    definitions: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    @property
    def arrays(self) -> set[str]:
        """Names of the arrays that its maps show."""
        shown = [one for chapter in self.chapters for maps in chapter.maps for row in maps.rows for one in row]
        return {one.array for one in shown if one is not None}
