"""Pages quote files of the source: what a reader sees, rendered as the site is, holds the quoted text and no marker."""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path

import markdown
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
QUOTE = re.compile(r'^--8<-- "([^":]+)(?::(\w+))?"$', re.MULTILINE)
ANYTHING_LIKE_IT = re.compile(r"-\s*-\s*8\s*<")


@cache
def extensions() -> tuple[list[str], dict[str, dict]]:
    """Return the site's own, with paths that do not hang on the working directory."""
    named = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["markdown_extensions"]
    settings = {name: value or {} for entry in named if isinstance(entry, dict) for name, value in entry.items()}
    settings["pymdownx.snippets"]["base_path"] = [str(ROOT)]
    settings["pymdownx.highlight"] = {"use_pygments": False}  # text in one piece
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in named], settings


def seen(text: str) -> str:
    """Return what a reader sees of a page, each run of white space as one space."""
    names, settings = extensions()
    rendered = markdown.markdown(text, extensions=names, extension_configs=settings)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", rendered)).split())


def quoted(place: str, section: str | None) -> str:
    text = (ROOT / place).read_text(encoding="utf-8")
    if section:
        _, start, rest = text.partition(f"--8<-- [start:{section}]")
        text, end, _ = rest.partition(f"--8<-- [end:{section}]")
        assert start, f"{place} has no section '{section}'"
        assert end, f"section '{section}' of {place} has no end"
    lines = [line for line in text.splitlines() if "--8<--" not in line and line.strip() != "#"]
    return " ".join("\n".join(lines).split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_a_page_shows_what_it_quotes(page):
    source = page.read_text(encoding="utf-8")
    assert len(ANYTHING_LIKE_IT.findall(source)) == len(QUOTE.findall(source)), "a marker that is none is left standing"
    page_seen = seen(source)
    assert not ANYTHING_LIKE_IT.search(page_seen)
    for place, section in QUOTE.findall(source):
        text = quoted(place, section)
        assert len(text) > 40, f"{place}:{section} is next to nothing"
        assert text in page_seen, f"{place}:{section} is not what the page shows"


def test_a_broken_marker_would_be_found():
    """As a formatter of code once left it."""
    page = (ROOT / "docs" / "guides" / "your-own-system.md").read_text(encoding="utf-8")
    assert len(QUOTE.findall(page)) == 5
    broken = page.replace(
        '--8<-- "examples/plugin/src/scifm_plate.py:code"', '--8 < --"examples/plugin/src/scifm_plate.py:code"'
    )
    assert ANYTHING_LIKE_IT.search(seen(broken))
    assert quoted("examples/plugin/src/scifm_plate.py", "code") not in seen(broken)
