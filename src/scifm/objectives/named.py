"""Objectives by name: ours, other packages', and as a recipe writes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from scifm.config import named_settings, told_by_name
from scifm.objectives import OBJECTIVES
from scifm.objectives.objective import Objective
from scifm.plugins import Catalog, fault_of_settings

__all__ = ["NamedObjective", "find_objective"]


_CATALOG: Catalog[Objective] = Catalog("scifm.objectives", "objective", OBJECTIVES, fault_of_settings(Objective))


def find_objective(name: str) -> type[Objective]:
    """Return the objective of that name, ours or a plug-in's.

    Raises:
        ConfigError: if there is none; it names the nearest.
    """
    return _CATALOG.find(name)


NamedObjective = Annotated[
    Objective,
    BeforeValidator(lambda value: named_settings(value, Objective, find_objective)),
    PlainSerializer(told_by_name),
]
"""An objective, its name, or a table of its name and settings."""
