"""The parts of which every page is made: tables, key figures, numbered figures, where it was made; and its template."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from scifm.findings.figure import Figure
from scifm.findings.finding import Finding
from scifm.report.drawing import Drawn, draw
from scifm.report.films import Film, SpaceTime
from scifm.report.plates import Plate
from scifm.wording import MISSING, count_text, duration_text, number_text

if TYPE_CHECKING:
    import jinja2

__all__ = [
    "DASH",
    "Cell",
    "Columns",
    "Numbered",
    "Page",
    "Table",
    "Tile",
    "environment_entries",
    "render",
]

DASH = "–"


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table."""

    text: str
    small: str = ""  # in smaller type after the text, such as an interval
    bad: bool = False  # marked by a sign and color
    strong: bool = False
    share: float | None = None  # length of a bar in place of the text, in percent


Columns = Mapping[str, Callable[[Any], Cell | str]]
"""By header, what a cell says of an entry."""


@dataclass(frozen=True)
class Table:
    """Headers and rows; the first cell of a row is its header, the columns in `wordy` are set as prose."""

    name: str
    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    wordy: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        caption: str,
        entries: Iterable[Any],
        columns: Columns,
        *,
        wordy: tuple[str, ...] = (),
        once: tuple[str, ...] = (),
    ) -> Table:
        """Return a table with a row an entry, of columns that are told `once` in its caption where all rows agree."""
        entries = list(entries)
        made = {
            header: [cell if isinstance(cell, Cell) else Cell(cell) for cell in map(make, entries)]
            for header, make in columns.items()
        }
        same = [h for h in once if len(made[h]) > 1 and len({cell.text for cell in made[h]}) == 1]
        if same:
            caption += f" In all rows, {', '.join(f'{header}: {made[header][0].text}' for header in same)}."
        headers = tuple(header for header in columns if header not in same)
        return cls(name, caption, headers, tuple(zip(*(made[header] for header in headers), strict=True)), wordy)


@dataclass(frozen=True)
class Tile:
    """A key figure."""

    label: str
    value: str
    note: str = ""


class Numbered:
    """Figures of one page, counted in the order in which they are made."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, name: str, figure: Figure | None) -> Drawn | None:
        """Draw a figure and give it the next number; None stays None."""
        if figure is None:
            return None
        return replace(draw(figure), name=f"figure-{name}", caption=self.next(figure.caption))

    def next(self, caption: str) -> str:
        """Return a caption with the next number."""
        self.count += 1
        return f"Figure {self.count}. {caption}"

    def film(self, film: Film) -> Film:
        """Give a film the next number."""
        return replace(film, caption=self.next(film.caption))

    def maps(self, maps: SpaceTime | None) -> SpaceTime | None:
        """Give maps over space and time the next number; None stays None."""
        if maps is None:
            return None
        return replace(maps, caption=self.next(maps.caption))

    def findings(self, findings: Iterable[Finding]) -> list[tuple[Finding, Drawn | None]]:
        """Return findings with what is drawn of each."""
        return [(finding, self(f"finding-{i}", finding.figure)) for i, finding in enumerate(findings)]


_SCRIPTS = ("page", "player", "film")  # a module together; the playground asks for the player alone


@cache
def _environment() -> jinja2.Environment:
    import jinja2  # here, so that training does not wait for it

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
    )
    environment.filters |= {"number": number_text, "count": count_text, "duration": duration_text}
    script = "".join(Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # the page admits the script with this hash, and no other
    environment.globals |= {"script": Markup(script), "script_hash": f"sha256-{digest}"}
    return environment


@dataclass(frozen=True)
class Page:
    """A page, and by name what it shows: its figures and its tables, in their order; fields as plates for a paper."""

    text: str
    figures: Mapping[str, Figure]
    tables: Mapping[str, Table]
    plates: Mapping[str, Plate] = field(default_factory=dict)


def render(name: str, *, plates: Mapping[str, Plate] | None = None, **parts: Any) -> Page:
    """Return a page from its template; everything put into it is escaped unless it is Markup already."""
    shown = list(_shown(parts))
    figures = {
        own.name.removeprefix("figure-"): own.figure
        for own in shown
        if isinstance(own, Drawn) and own.figure is not None
    }
    tables = {own.name: own for own in shown if isinstance(own, Table) and own.rows}
    return Page(_environment().get_template(name).render(**parts), figures, tables, plates or {})


def _shown(part: Any) -> Iterator[Drawn | Table]:
    """Yield the figures and the tables in what a template is given."""
    if isinstance(part, Drawn | Table):
        yield part
    elif isinstance(part, Mapping | list | tuple):
        for inner in part.values() if isinstance(part, Mapping) else part:
            yield from _shown(inner)
    elif is_dataclass(part):
        for inner in vars(part).values():
            yield from _shown(inner)


_ENVIRONMENT_NAMES = {
    "command": "command",
    "git_commit": "git commit",
    "started": "started",
    "processor": "processor",
    "num_cores": "cores available",
    "system": "system",
    "python": "Python",
    "versions": "packages",
}


def environment_entries(environment: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return (name, value) in a fixed order, what is unknown to us last."""
    if environment is None:
        return []
    others = {key: str(key).replace("_", " ") for key in environment if key not in _ENVIRONMENT_NAMES}
    entries = []
    for key, name in (_ENVIRONMENT_NAMES | others).items():
        value = environment.get(key)
        if isinstance(value, Mapping):
            value = ", ".join(f"{package} {version}" for package, version in value.items())
        entries.append((name, MISSING if value is None else str(value)))
    return entries
