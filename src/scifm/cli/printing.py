"""How the verbs print what they found."""

from __future__ import annotations

import json
from typing import Any

import typer

__all__ = ["print_json", "print_rows"]


def print_rows(title: str, rows: list[tuple[str, str]]) -> None:
    """Print plain lines, so that a long path stays in one piece to be copied."""
    width = max(len(name) for name, _ in rows)
    typer.echo("\n".join([title, *(f"  {name:{width}}  {value}" for name, value in rows)]))


def print_json(entries: Any) -> None:
    """Print one JSON object; NaN is refused, since JSON has none."""
    typer.echo(json.dumps(entries, indent=2, allow_nan=False))
