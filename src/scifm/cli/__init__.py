"""The porch: one verb a room. Parses, calls, prints; no science.

A mistake of the user's gives one line and exit status 2; Ctrl-C gives exit status 130 after the state is saved.
"""

from __future__ import annotations

import os
import sys

from rich.markup import escape

from scifm.cli import data_verbs, plan_verb, run_verbs, study_verbs  # noqa: F401 - the verbs join the application when they are read
from scifm.cli.app import app, console
from scifm.errors import SciFMError

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of the command ``scifm``."""
    # Threads that sleep while they wait keep small steps quick on a shared machine; torch reads this when loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except SciFMError as error:
        line = " ".join(str(error).split())
        console.print(f"[bold red]scifm:[/bold red] {escape(line)}", highlight=False, soft_wrap=True)
        sys.exit(2)
