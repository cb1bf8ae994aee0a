"""What `pyproject.toml` asks for is what the code imports; what stands in the install page of it is so."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
TREES = [ast.parse(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "src" / "scifm").rglob("*.py"))]

CALLED = {  # package → what it is imported as, where that is another word
    "dask-jobqueue": "dask_jobqueue", "huggingface-hub": "huggingface_hub", "mlflow-skinny": "mlflow",
    "netcdf4": "netCDF4", "pyyaml": "yaml", "tomli-w": "tomli_w",
}  # fmt: skip
BROUGHT = {"pydantic_core": "pydantic"}  # the package that pins it, and tells its users to import it
NOT_IMPORTED = {
    "dask-jobqueue": "docs/guides/cluster.md, in scripts of users",
}
COMPARED = {"docs", "dev"}  # extras for who works on SciFM


def names_of(requirements: list[str]) -> list[str]:
    return [re.sub(r"[-_.]+", "-", Requirement(text).name).lower() for text in requirements]


RUNTIME = names_of(PROJECT["dependencies"])
OPTIONAL = [
    name
    for extra, texts in PROJECT["optional-dependencies"].items()
    if extra not in COMPARED
    for name in names_of(texts)
]


def imported(*, at_once: bool) -> set[str]:
    """Return what the package imports of others: when a module is loaded, or anywhere."""
    found: set[str] = set()
    for tree in TREES:
        for node in tree.body if at_once else ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(str(node.module).partition(".")[0])
    return {BROUGHT.get(name, name) for name in found - set(sys.stdlib_module_names) - {"scifm"}}


def told() -> set[str]:
    """Return every word the code has as a text: names of packages that are imported by their name."""
    nodes = (node for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {node.value for node in nodes if isinstance(node.value, str)}


def test_what_a_module_imports_as_it_loads_comes_with_the_package():
    assert imported(at_once=True) <= {CALLED.get(name, name) for name in RUNTIME}


def test_what_is_imported_on_use_comes_with_the_package_or_an_extra():
    assert imported(at_once=False) <= {CALLED.get(name, name) for name in (*RUNTIME, *OPTIONAL)}


def test_nothing_is_asked_for_that_is_not_used():
    used = imported(at_once=False) | told()
    idle = {name for name in (*RUNTIME, *OPTIONAL) if CALLED.get(name, name) not in used}
    assert idle == set(NOT_IMPORTED)


def test_every_import_on_use_names_its_extra():
    """An extra is named where somebody lacks it; those that work on SciFM have all."""
    texts = "\n".join(text for text in told() if "pip install" in text)
    extras = set(PROJECT["optional-dependencies"]) - COMPARED
    assert extras <= set(re.findall(r"pip install 'scifm\[(\w+)\]'", texts))


def rows() -> dict[str, tuple[str, str]]:
    """Return of the page's table of packages: from which version, under which licence."""
    table = PAGE.partition("\n## What it stands on\n")[2].partition("\n## ")[0]
    return {
        name: (low, licence)
        for name, low, licence, _ in re.findall(r"^\| ([\w-]+) \| ([\d.]+) \| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    }


def test_the_page_tells_every_package_and_from_which_version():
    asked = {own.name: str(own.specifier) for own in map(Requirement, PROJECT["dependencies"])}
    assert {name: f">={low}" for name, (low, _) in rows().items()} == asked


def licence_of(package: str) -> str:
    about = metadata.metadata(package)
    kinds = [kind for kind in about.get_all("Classifier") or [] if kind.startswith("License")]
    words = [(about.get_all(key) or [""])[0] for key in ("License-Expression", "License")]  # what is missing may raise
    return " ".join([words[0], *kinds, words[1][:200]])


@pytest.mark.parametrize("package", names_of(PROJECT["dependencies"]))
def test_the_page_tells_its_licence(package):
    named = {re.sub(r"[-_.]+", "-", name).lower(): licence for name, (_, licence) in rows().items()}[package]
    assert {"PSF": "Python Software Foundation"}.get(named, named) in licence_of(package)


def test_what_comes_along_may_be_used_as_the_page_says():
    """Of what the lock installs nothing is under a licence that asks for ours to be another."""
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    there = {name for name in pins if list(metadata.distributions(name=name))}
    assert {"torch", "numpy", "tqdm"} <= there
    strict = {name for name in there if re.search(r"\b[AL]?GPL|General Public|Mozilla|MPL", licence_of(name))}
    assert strict == {"tqdm"}, "name it in docs/install.md, and say what it asks for"
    assert "tqdm, under MIT and the Mozilla licence (MPL 2.0)" in PAGE
