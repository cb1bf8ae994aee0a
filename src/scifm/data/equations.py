"""Which equations samples are of: what the record of where they come from says of their systems."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

from scifm.errors import ConfigError
from scifm.fields.term import Equations, Term
from scifm.models.equations import taught
from scifm.models.operator import Operator
from scifm.systems.catalog import find_system, system_from_dict
from scifm.systems.system import System

__all__ = ["equations_for", "equations_of", "told_of"]


def equations_of(origin: Mapping[str, Any], *, known: Equations | None = None) -> dict[str, tuple[Term, ...]]:
    """Return the terms of the systems that made samples, by their names.

    Args:
        origin: what `Origin.describe` says of the samples.
        known: the terms of systems that are told already, which need not declare any.

    Raises:
        ConfigError: if a system declares no terms, two of one name have others, or a store says no system.
    """
    made: dict[str, tuple[Term, ...]] = {}
    for entry in origin.get("members", [origin]):
        if "system" not in entry:
            if known:
                continue  # somebody said what they are of
            where = entry.get("store", entry.get("store_name", ""))
            raise ConfigError(
                f"The store '{where}' does not say which system made it, so the terms of its equation are not known. "
                "Leave terms out, or give equations, its terms by the name that its samples say."
            )
        system = system_from_dict(entry["system"])
        terms = system.terms or (known or {}).get(system.name, ())
        if not terms:
            raise ConfigError(
                f"'{system.name}' declares no terms of its equation, and terms are wanted of every system. Leave terms "
                "out of the network's settings, or train on systems that declare them ('scifm systems NAME' tells)."
            )
        if made.setdefault(system.name, terms) != terms:
            raise ConfigError(
                f"Two members are called '{system.name}' and have other terms, so that a sample's name does not tell "
                "which are its own. Take one out."
            )
    return made


def equations_for(operator: Operator, about: Mapping[str, Any]) -> dict[str, tuple[Term, ...]]:
    """Return what an operator has to be told so that it can be asked about samples; nothing where it takes no terms.

    Args:
        operator: that is asked.
        about: what the samples say of where they come from, by `Origin.describe`, or only the names of their
            ``systems``: then terms are those of the system of that name as it comes, in the operator's dimensions.
    """
    known = operator.config.equations_known
    if not operator.config.wants_terms:
        return {}
    if {"system", "members"} & set(about):
        with suppress(ConfigError):  # of what nothing is known the operator says so itself
            return equations_of(about, known=known)
    found = {}
    for name in about.get("systems", ()):
        if name and name not in known:
            with suppress(ConfigError):
                found[name] = _in_dimensions(find_system(name)(), operator.signature.num_spatial_dims).terms
    return {name: terms for name, terms in found.items() if terms}


def told_of(operator: Operator, about: Mapping[str, Any]) -> Operator:
    """Return an operator that knows the equations of samples: itself where there is nothing to tell it, else a copy.

    Args:
        operator, about: as for `equations_for`.

    Raises:
        SignatureError: if it never met a word of these equations.
    """
    equations = equations_for(operator, about)
    if operator.config.knowing(equations) == operator.config:
        return operator
    return taught(copy.deepcopy(operator), equations)


def _in_dimensions(system: System, dims: int) -> System:
    if any(entry.name == "num_spatial_dims" for entry in fields(system)):  # type: ignore[arg-type]
        return replace(system, num_spatial_dims=dims)  # type: ignore[type-var]
    return system
