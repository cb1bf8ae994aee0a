"""Compiled C files, loaded anew from an empty cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import scifm.native


@contextmanager
def emptied(monkeypatch, folder: Path, library: Callable) -> Iterator[Path]:
    """Let `library` compile into `folder`, and warn again; what the process had loaded comes back afterwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    cached = (library, scifm.native._warn, scifm.native._warn_of_one_thread)
    for function in cached:
        function.cache_clear()
    yield folder
    monkeypatch.undo()
    for function in cached:
        function.cache_clear()
