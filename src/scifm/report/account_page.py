"""The page of what an application found: its account, chapter by chapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from scifm.findings.account import Account, Chapter, Maps, Rows
from scifm.findings.finding import Finding
from scifm.report.drawing import Drawn
from scifm.report.maps import plate_drawing, plate_of
from scifm.report.parts import Cell, Numbered, Page, Table, Tile, environment_entries, render
from scifm.report.plates import Plate
from scifm.report.records import read_arrays, read_model, read_object, read_text, unreadable

__all__ = ["render_account"]

_REMEDY = "Give the command that made it again."


@dataclass(frozen=True)
class _Shown:
    """A chapter as it stands on the page."""

    title: str
    text: str
    findings: list[tuple[Finding, Drawn | None]]
    figures: list[Drawn | None]
    maps: list[tuple[Markup, str]]
    tables: list[Table]


def render_account(folder: Path) -> Page:
    """Return the page of an account as HTML.

    Raises:
        RunError: if a file of it cannot be read.
    """
    account = read_model(folder / "account.json", Account, remedy=_REMEDY)
    arrays = _arrays(folder, account)
    numbered, plates = Numbered(), dict[str, Plate]()
    first, *others = account.findings
    beginning = numbered("headline", first.figure)
    findings = numbered.findings(others)
    chapters = [_chapter(i, own, numbered, arrays, plates) for i, own in enumerate(account.chapters, start=1)]
    return render(
        "account.html",
        title=folder.resolve().name,
        account=account,
        first=first,
        beginning=beginning,
        tiles=[Tile(own.label, own.value, own.note) for own in account.key_figures],
        findings=findings,
        chapters=chapters,
        environment=environment_entries(read_object(folder / "environment.json")),
        recipe=read_text(folder / "config.toml"),
        plates=plates,
    )


def _arrays(folder: Path, account: Account) -> Mapping[str, NDArray[np.floating]]:
    """Return the fields that the maps show, each a plane."""
    names, file = sorted(account.arrays), folder / "account.npz"
    if not names:
        return {}
    arrays = read_arrays(file, names)
    if arrays is None:
        raise unreadable(file, "it is not there, and the account has maps", remedy=_REMEDY)
    for name in names:
        if arrays[name].ndim != 2 or not arrays[name].size or not np.issubdtype(arrays[name].dtype, np.floating):
            why = f"'{name}' should be a plane of numbers (y, x) and has shape {arrays[name].shape}"
            raise unreadable(file, why, remedy=_REMEDY)
    return arrays


def _chapter(
    place: int,
    chapter: Chapter,
    numbered: Numbered,
    arrays: Mapping[str, NDArray[np.floating]],
    plates: dict[str, Plate],
) -> _Shown:
    """Return a chapter, its figures numbered in the order in which they stand there."""
    found = [(finding, numbered(f"{place}-finding-{i}", finding.figure)) for i, finding in enumerate(chapter.findings)]
    maps = [_maps(own, numbered, arrays, plates) for own in chapter.maps]
    figures = [numbered(f"{place}-{i}", figure) for i, figure in enumerate(chapter.figures, start=1)]
    return _Shown(chapter.title, chapter.text, found, figures, maps, [_table(rows) for rows in chapter.tables])


def _maps(
    maps: Maps, numbered: Numbered, arrays: Mapping[str, NDArray[np.floating]], plates: dict[str, Plate]
) -> tuple[Markup, str]:
    """Return a drawing with its caption, and put it among the plates."""
    plate = plate_of(maps, arrays)
    plates[f"maps-{len(plates) + 1}"] = plate
    return plate_drawing(plate, maps.caption), numbered.next(maps.caption)


def _table(rows: Rows) -> Table:
    cells = tuple(tuple(map(Cell, row)) for row in rows.rows)
    return Table(rows.name, rows.caption, rows.headers, cells, wordy=rows.headers[:1])
