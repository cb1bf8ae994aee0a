"""The models that come with the package, in ``scifm/zoo``: a folder each, in the layout of every model.

``scripts/make_zoo.py`` makes them from the recipes ``zoo/NAME``; their weights are packed as 8-bit integers.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from scifm.errors import RunError, suggest

__all__ = ["SHIPPED", "shipped_model", "shipped_models"]

SHIPPED = Path(__file__).parent / "zoo"
"""Where they lie."""

_NAME = re.compile(r"scifm/([\w.-]+)", re.ASCII)


def shipped_models() -> dict[str, Path]:
    """Return the folders of the models that come with the package, by the names under which they are found anywhere."""
    return {f"scifm/{file.parent.name}": file.parent for file in sorted(SHIPPED.glob("*/config.json"))}


def shipped_model(source: str | Path) -> Path | None:
    """Return the folder of the shipped model that is meant by ``scifm/name``; None: none is meant.

    A folder of that name that is here wins.

    Raises:
        RunError: if there is none of this name.
    """
    text = str(source)
    if not _NAME.fullmatch(text) or os.path.exists(text):
        return None
    shipped = shipped_models()
    if text not in shipped:
        raise RunError(f"Model {suggest(text, shipped)}")
    return shipped[text]
