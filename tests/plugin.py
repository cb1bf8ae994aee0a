"""Installs a package the way pip does, minus pip: its module and its metadata in a folder of the search path."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["EXAMPLE", "LEARNERS", "install", "install_example"]

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"
LEARNERS = EXAMPLE.with_name("plugin-operator")


def install(
    folder: Path,
    distribution: str,
    entries: dict[str, str],
    source: str = "",
    module: str = "",
    groups: dict[str, dict[str, str]] | None = None,
) -> Path:
    """Write ``distribution 1.0`` with these entry points, of ``scifm.systems`` where no groups are given."""
    metadata = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = []
    for group, declared in (groups or {"scifm.systems": entries}).items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in declared.items())]
    (metadata / "entry_points.txt").write_text("\n".join([*lines, ""]))
    if module:
        (folder / f"{module}.py").write_text(source)
    return folder


def install_example(folder: Path, example: Path = EXAMPLE) -> Path:
    """Install a package of ``examples`` into `folder`, with the entry points that its pyproject.toml declares."""
    import tomllib

    project = tomllib.loads((example / "pyproject.toml").read_text())
    install(folder, project["project"]["name"], {}, groups=project["project"]["entry-points"])
    for name in project["tool"]["setuptools"]["py-modules"]:
        shutil.copy(example / "src" / f"{name}.py", folder)
    return folder
