"""The checker behind ``--jaxtyping-packages``: array shapes only.

jaxtyping hands every function and class of the rooms named in pyproject.toml to `check`. Functions with a jaxtyping
shape in their annotations are checked by beartype; all others stay as they are, so that tests may hand wrong types to
them and meet the error a user would meet.

jaxtyping's own decorator would wrap all of them, bind the arguments of every call and check them twice: a third of the
time of all tests. So where its hook asks for that decorator it is given the checker itself.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
import torch
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import jaxtyped

__all__ = ["check"]

jaxtyping.jaxtyped = lambda *, typechecker: typechecker  # the hook looks it up when a module is loaded

_SHAPE = re.compile(r"\b(Shaped|Bool|Num|Inexact|Real|Complex|Float|BFloat|Int|UInt|Integer|Key)\w*\[")
_with_numbers_as_usual = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int will do where a float is asked
        hint_overrides=FrozenDict({int: int | torch.SymInt}),  # a symbol, where a program is exported
    )
)


def check(decorated: Any) -> Any:
    """Return a function, checked if any of its annotations is an array with a shape, or a dataclass that is made so."""
    if not inspect.isclass(decorated):
        return _checked(decorated)
    if dataclasses.is_dataclass(decorated) and "__init__" in vars(decorated):
        decorated.__init__ = _checked(decorated.__init__)
    return decorated


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    annotations = {name: _resolved(hint, function) for name, hint in inspect.get_annotations(function).items()}
    if not any(_SHAPE.search(repr(hint)) for hint in annotations.values()):
        return function
    twin = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    twin.__kwdefaults__, twin.__module__, twin.__qualname__ = (
        function.__kwdefaults__, function.__module__, function.__qualname__,
    )  # fmt: skip
    twin.__annotations__ = annotations
    hinted = _with_numbers_as_usual(twin)

    @functools.wraps(function)
    def within_one_set_of_names(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with jaxtyped("context"):  # in it a name in a shape is one number
            return hinted(*args, **kwargs)

    return within_one_set_of_names


def _resolved(hint: Any, function: Callable[..., Any]) -> Any:
    """Return what a text names; anything, where it names what is not loaded yet, as a class inside its own body."""
    if not isinstance(hint, str):
        return hint
    try:
        return typing.get_type_hints(types.SimpleNamespace(__annotations__={"it": hint}), function.__globals__)["it"]
    except (NameError, AttributeError, TypeError):
        return Any
