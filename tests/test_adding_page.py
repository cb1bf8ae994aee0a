"""Docs, *To add something*: the files, registries and tests it names are there, and no registry is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "src" / "scifm"
SECTION = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SECTION = SECTION.partition("\n## To add something\n")[2].partition("\n## ")[0]
ROWS = [line.strip("| ").split(" | ") for line in SECTION.splitlines() if line.startswith("| ")][1:]
MORE = SECTION.partition("\nSome things are more")[2]

FILE = re.compile(r"`([\w./]+/[\w.]+|[\w]+\.py)`")
REGISTRY = re.compile(r"`([A-Z][A-Z_]+)` (?:of `([\w./]+)`|there)")
OUTSIDE = ("tests/", "benchmarks/", "docs/", "recipes/")
OF_NUMBERS_AND_WORDS = {"COLORS", "SIZES", "AXIAL_SIZES", "UNET_SIZES", "DEMOS", "PRIORS", "ENDS", "ONLY"}


def place_of(name: str) -> Path:
    """Return the file a page means; NAME is any name, so that the folder has to be there."""
    path = (ROOT if name.startswith(OUTSIDE) else HOUSE) / name
    return path.parent if "NAME" in path.name else path


def dictionaries() -> dict[str, Path]:
    """Return the public dictionaries of the house that say of what they are, and where each stands."""
    found = {}
    for file in HOUSE.rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
                continue
            if node.target.id.isupper() and ast.unparse(node.annotation).startswith(("dict[", "Mapping[")):
                found[node.target.id] = file
    return {name: file for name, file in found.items() if not name.startswith("_")}


def registries(row: list[str]) -> list[tuple[str, Path]]:
    """Return the dictionaries a row names, and their files: where it says 'there', the file of the row."""
    written = FILE.findall(row[1])
    return [(name, place_of(file or written[-1])) for name, file in REGISTRY.findall(" ".join(row[1:3]))]


def test_it_answers_what_is_asked():
    assert len(ROWS) >= 30
    assert all(len(row) == 4 for row in ROWS)
    assert len({row[0] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"\W+", "-", row[0])[:40])
def test_what_a_row_names_is_there(row):
    for name in FILE.findall(" ".join(row[1:])):
        assert place_of(name).exists(), name
    for registry, file in registries(row):
        assert re.search(rf"^{registry}\b.* = ", file.read_text(encoding="utf-8"), re.MULTILINE), (registry, file)
    promised = [place_of(name) for name in FILE.findall(row[3]) if name.startswith("tests/")]
    if "contract" in row[3] and promised:
        tests = promised[0].read_text(encoding="utf-8")
        assert all(registry in tests for registry, _ in registries(row)), "the contract goes through the registry"


def test_files_of_what_is_more_than_a_line_are_there():
    named = FILE.findall(MORE)
    assert len(named) >= 10
    assert [name for name in named if not place_of(name).exists()] == []


def test_every_registry_has_a_row():
    told = {registry for row in ROWS for registry, _ in registries(row)}
    unknown = dictionaries().keys() - told - OF_NUMBERS_AND_WORDS
    assert not unknown, f"say in docs/architecture.md how something is added to {unknown}, or that it is no registry"
    assert dictionaries().keys() >= OF_NUMBERS_AND_WORDS
