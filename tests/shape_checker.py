"""The checker behind ``--jaxtyping-packages``: array shapes only.

jaxtyping hands every function of the rooms named in pyproject.toml to `check`. Functions with a jaxtyping shape in
their annotations are checked by beartype; all others stay as they are, so that tests may hand wrong types to them and
meet the error a user would meet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from beartype import BeartypeConf, FrozenDict, beartype

__all__ = ["check"]

_SHAPE = re.compile(r"\b(Shaped|Bool|Num|Inexact|Real|Complex|Float|BFloat|Int|UInt|Integer|Key)\w*\[")
_with_numbers_as_usual = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int will do where a float is asked
        hint_overrides=FrozenDict({int: int | torch.SymInt}),  # a symbol, where a program is exported
    )
)


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, checked if any of its annotations is an array with a shape."""
    annotations = getattr(function, "__annotations__", {}).values()
    if any(_SHAPE.search(a if isinstance(a, str) else repr(a)) for a in annotations):
        return _with_numbers_as_usual(function)
    return function
