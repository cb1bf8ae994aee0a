"""The templates of the pages, what every page puts into them, and what every page tells about where it was made."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from scifm.findings.figure import Figure
from scifm.report.drawing import Drawn, draw
from scifm.wording import MISSING, count_text, duration_text, number_text

__all__ = ["FigurePart", "Numbered", "Picture", "Tile", "environment_entries", "render", "stored_text"]


@dataclass(frozen=True)
class Picture:
    """A drawing that is no `Figure`, and what stands under it."""

    drawing: Markup
    caption: str


@dataclass(frozen=True)
class Tile:
    """A key figure."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class FigurePart:
    """A drawn figure with the name of its place on the page, and its number told in the caption."""

    name: str
    drawn: Drawn
    caption: str


class Numbered:
    """Figures of one page, counted in the order in which they are made."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, name: str, figure: Figure | None) -> FigurePart | None:
        """Draw a figure and give it the next number; None stays None."""
        if figure is None:
            return None
        self.count += 1
        return FigurePart(f"figure-{name}", draw(figure), f"Figure {self.count}. {figure.caption}")


def stored_text(name: str) -> str:
    """Return the text of a file that lies beside this one."""
    return resources.files("scifm.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _script() -> tuple[Markup, str]:
    """Return the script and the hash under which the page admits it, and no other."""
    text = stored_text("page.js")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"sha256-{digest}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(stored_text),
    )
    environment.filters |= {"number": number_text, "count": count_text, "duration": duration_text}
    script, script_hash = _script()
    environment.globals |= {"script": script, "script_hash": script_hash}
    return environment


def render(name: str, **parts: Any) -> str:
    """Return a page from its template; everything put into it is escaped unless it is Markup already."""
    return _environment().get_template(name).render(**parts)


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
