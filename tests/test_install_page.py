"""Docs, *Install*: extras, versions and commands are those of the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_extra_is_told_with_what_it_brings():
    rows = re.findall(r"^\| `(\w+)` \| .+? \| (.+?) \|$", PAGE, re.MULTILINE)
    extras = PROJECT["optional-dependencies"]
    assert [name for name, _ in rows] == list(extras)
    for name, brings in rows:
        packages = [re.match(r"[\w-]+", requirement)[0] for requirement in extras[name]]
        if name not in ("docs", "dev"):  # told by what they are for
            assert sorted(brings.split(", ")) == sorted(packages)


def test_asked_extras_exist():
    asked = re.findall(r"(?:\.|scifm)\[([\w,]+)\]", PAGE)
    assert asked
    assert {name for names in asked for name in names.split(",")} <= set(PROJECT["optional-dependencies"])


def test_versions_are_those_of_the_package():
    assert f"Python {PROJECT['requires-python'].removeprefix('>=')} or newer" in PAGE
    (torch,) = [own for own in PROJECT["dependencies"] if own.startswith("torch")]
    assert f"torch that is there, {torch.removeprefix('torch>=')} or newer" in PAGE


def test_make_has_what_the_page_calls():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    called = set(re.findall(r"make (?:PYTHON=\S+ )?([a-z-]+)", PAGE))
    assert {"install", "install-dev", "docs"} <= called
    assert all(f"\n{target}:" in makefile for target in called), called
