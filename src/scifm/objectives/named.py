"""Objectives by name: ours, other packages', and as a recipe writes them."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from scifm.config import named_settings, told_by_name
from scifm.objectives import OBJECTIVES
from scifm.objectives.objective import Objective
from scifm.plugins import Catalog

__all__ = ["NamedObjective", "find_objective"]


def _fault(offered: Any, name: str) -> str | None:
    """Return what keeps an object from being the objective called `name`, or None."""
    if not (isinstance(offered, type) and issubclass(offered, Objective)):
        return f"it is {offered!r}, and no subclass of scifm.objectives.Objective"
    if getattr(offered, "name", None) != name:
        return f"it calls itself {getattr(offered, 'name', None)!r}; give the entry point and the class the same name"
    if inspect.isabstract(offered):
        return f"its class lacks {', '.join(sorted(offered.__abstractmethods__))}"
    needed = [key for key, field in offered.model_fields.items() if field.is_required()]
    return f"these of its settings have no default: {', '.join(needed)}" if needed else None


_CATALOG: Catalog[Objective] = Catalog("scifm.objectives", "objective", OBJECTIVES, _fault)


def find_objective(name: str) -> type[Objective]:
    """Return the objective of that name, ours or a plug-in's.

    Raises:
        ConfigError: if there is none; it names the nearest.
    """
    return _CATALOG.find(name)


def _read(value: Any) -> Any:
    return named_settings(value, Objective, find_objective)


NamedObjective = Annotated[Objective, BeforeValidator(_read), PlainSerializer(told_by_name)]
"""An objective, its name, or a table of its name and settings."""
