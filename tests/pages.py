"""A page of a report as a browser meets it: every tag closed, every identifier once, one script, nothing inline."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

_VOID = {"meta", "link", "img", "br", "hr", "input"}


class Balance(HTMLParser):
    """Collects what does not close, identifiers, and the names of attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.identifiers: list[str] = []
        self.attributes: set[str] = set()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.identifiers += [value for name, value in attrs if name == "id"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(path: Path) -> str:
    """Return the text of a page that is whole."""
    text = path.read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert len(set(parser.identifiers)) == len(parser.identifiers)
    assert not {"iframe", "object"} & set(parser.tags)
    assert parser.tags.count("script") == text.count("<script") == 1
    assert not {name for name in parser.attributes if name.startswith("on")}
    return text
