"""Make the notebooks of ``examples/notebooks`` from the scripts beside them, and execute them.

    python scripts/notebooks.py [examples/notebooks/01_ask_and_finetune.py …]

In a script ``# %%`` begins a cell of code and ``# %% [markdown]`` one of words, as editors know it. Needs nbclient and
ipykernel, which ``make install-dev`` brings. Runs and stores go into a folder that is thrown away; of the outputs stay
numbers, words and pictures, no times and no places.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
ABOUT = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL = re.compile(r"^# %%(?P<words> \[markdown\])?\n(?P<text>.*?)(?=^# %%|\Z)", re.MULTILINE | re.DOTALL)


def cells_of(script: str) -> list[dict[str, Any]]:
    """Return the cells of a script, without outputs."""
    cells = []
    for found in CELL.finditer(script):
        text = found["text"].strip("\n")
        if found["words"]:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
            cells.append({"cell_type": "markdown", "metadata": {}, "source": lines(text)})
        else:
            own = {"execution_count": None, "metadata": {}, "outputs": [], "source": lines(text)}
            cells.append({"cell_type": "code", **own})
    return cells


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def notebook_of(script: str) -> dict[str, Any]:
    """Return a notebook, form 4.4, that nobody has executed."""
    return {"cells": cells_of(script), "metadata": ABOUT, "nbformat": 4, "nbformat_minor": 4}


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return the notebook with outputs, run in an empty folder."""
    import nbformat
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as scratch:
        node = nbformat.reads(json.dumps(notebook), as_version=4)
        NotebookClient(node, timeout=1800, kernel_name="python3", resources={"metadata": {"path": scratch}}).execute()
        text = nbformat.writes(node).replace(scratch, "…")
    made = json.loads(text)
    for cell in made["cells"]:
        cell["metadata"] = {}
        for output in cell.get("outputs", ()):
            output["metadata"] = {}
    return {**made, "metadata": ABOUT}


def main(names: list[str]) -> None:
    for file in map(Path, names or sorted(map(str, FOLDER.glob("*.py")))):
        made = executed(notebook_of(file.read_text(encoding="utf-8")))
        target = file.with_suffix(".ipynb")
        target.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{target}: {target.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
