"""Installs a package the way pip does, minus pip: its module and its metadata in a folder of the search path."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["EXAMPLE", "install", "install_example"]

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"


def install(folder: Path, distribution: str, entries: dict[str, str], source: str = "", module: str = "") -> Path:
    """Write ``distribution 1.0`` with these entry points of the group ``scifm.systems`` into `folder`."""
    metadata = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[scifm.systems]", *lines, ""]))
    if module:
        (folder / f"{module}.py").write_text(source)
    return folder


def install_example(folder: Path) -> Path:
    """Install ``examples/plugin`` into `folder`, with the entry points that its pyproject.toml declares."""
    import tomllib

    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    install(folder, project["project"]["name"], project["project"]["entry-points"]["scifm.systems"])
    for name in project["tool"]["setuptools"]["py-modules"]:
        shutil.copy(EXAMPLE / "src" / f"{name}.py", folder)
    return folder
