"""The templates of the pages, and what every page tells about where it was made."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from scifm.report.tables import MISSING, count_text, duration_text, number_text

__all__ = ["environment_entries", "stored_text", "template"]


def stored_text(name: str) -> str:
    """Return the text of a file that lies beside this one."""
    return resources.files("scifm.report").joinpath(name).read_text(encoding="utf-8")


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
    return environment


def template(name: str) -> jinja2.Template:
    """Return the template of a page; everything put into it is escaped unless it is Markup already."""
    return _environment().get_template(name)


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
