"""`once`: what several promises of a contract look at, made for the first of them and kept for the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["once"]

_MOST_KEPT = 16
_MADE: dict[tuple[object, ...], Any] = {}
Made = TypeVar("Made")


def once(contract: Any, what: str, make: Callable[[], Made], *of: object) -> Made:
    """Return what `make` gives, made once for all promises of one contract on one system, and `of` these."""
    key = (type(contract), contract.system, what, *of)
    try:
        found = _MADE.get(key)
    except TypeError:  # the system cannot be hashed: another promise says so
        return make()
    if found is None:
        while len(_MADE) >= _MOST_KEPT:
            _MADE.pop(next(iter(_MADE)))
        found = _MADE[key] = make()
    return found
