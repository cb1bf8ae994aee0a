"""Every kind of operator by name, and how one is made from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from scifm.config import build_inside
from scifm.errors import ConfigError, suggest
from scifm.models.fno import FNO
from scifm.models.module_operator import ModuleOperator
from scifm.models.neuralop_fno import NeuralopFNO
from scifm.models.operator import Operator, OperatorConfig

__all__ = ["OPERATORS", "NamedNetwork", "kind_of", "operator_class", "settings_of"]

OPERATORS: dict[str, type[Operator]] = {"fno": FNO, "neuralop_fno": NeuralopFNO, "module": ModuleOperator}


def operator_class(kind: str) -> type[Operator]:
    """Return the class of a kind.

    Raises:
        ConfigError: if there is none; it names the nearest.
    """
    if kind not in OPERATORS:
        raise ConfigError(f"Kind of operator {suggest(kind, OPERATORS)}")
    return OPERATORS[kind]


def kind_of(settings: OperatorConfig) -> str:
    """Return the kind that these settings belong to.

    Raises:
        ConfigError: if no kind in ``OPERATORS`` has settings of this class.
    """
    for kind, cls in OPERATORS.items():
        if cls.settings_class is type(settings):
            return kind
    raise ConfigError(f"{type(settings).__name__} belongs to no kind of operator; known: {', '.join(OPERATORS)}.")


def settings_of(kind: str, network: Any) -> OperatorConfig:
    """Return settings of a kind, from a table of them or from ready ones. For validators: errors name the keys.

    Raises:
        ConfigError: if there is no such kind, or ready settings belong to another.
        PydanticCustomError: if a key is unknown or a value is not allowed.
    """
    cls = operator_class(kind).settings_class
    if isinstance(network, OperatorConfig):
        if type(network) is not cls:
            raise ConfigError(f"kind '{kind}' takes a {cls.__name__}; got a {type(network).__name__}")
        return network
    return build_inside(cls, network)


def _with_kind(network: Any) -> Any:
    if isinstance(network, Mapping):
        return settings_of(str(network.get("kind", FNO.kind)), {k: v for k, v in network.items() if k != "kind"})
    return network


def _told(settings: OperatorConfig) -> dict[str, Any]:
    kind = kind_of(settings)
    return {**({} if kind == FNO.kind else {"kind": kind}), **settings.to_dict()}


NamedNetwork = Annotated[OperatorConfig, BeforeValidator(_with_kind), PlainSerializer(_told)]
"""A table of settings of any kind; its key ``kind`` says which, ``fno`` when left out."""
