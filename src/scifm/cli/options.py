"""Options that several verbs share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["NUM_WORKERS", "AsJson", "Knobs", "OutRuns", "Overrides", "Seed", "Workers"]

NUM_WORKERS = min(os.cpu_count() or 1, 4)

OutRuns = Annotated[Path, typer.Option("--out", help="Folder that holds run folders.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override one setting of the recipe; repeatable.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of a table.")]
Knobs = Annotated[
    list[str] | None,
    typer.Option("--knob", metavar="NAME=LOW,HIGH", help="Range of one knob, e.g. anisotropy=5,10; repeatable."),
]
Workers = Annotated[
    int, typer.Option(min=1, help="Processes that adapt at the same time, the cores shared evenly among them.")
]
Seed = Annotated[int, typer.Option(help="Seed of every random number.")]
