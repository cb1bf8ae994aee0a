"""Every kind of operator by name, ours and other packages': made from settings, written into a folder, and loaded."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer
from torch import nn

from scifm.config import Plain, build_inside
from scifm.errors import ConfigError
from scifm.models.axial_transformer import AxialTransformer
from scifm.models.continuous import Continuous
from scifm.models.conv_recurrent import ConvRecurrent
from scifm.models.coordinate import Coordinate
from scifm.models.ensemble import Ensemble
from scifm.models.fno import FNO
from scifm.models.folder import find_model, reading
from scifm.models.in_context import InContext
from scifm.models.module_operator import ModuleOperator
from scifm.models.neuralop_fno import NeuralopFNO
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.recurrent import Recurrent
from scifm.models.unet import UNet
from scifm.plugins import Catalog
from scifm.runs import Run
from scifm.shipped import shipped_models

__all__ = [
    "DEFAULT_KIND", "OPERATORS", "ModelListing", "NamedNetwork", "list_models", "load_operator", "named_network",
    "operator_class", "save_operator", "settings_of", "told_network",
]  # fmt: skip

OPERATORS: dict[str, type[Operator]] = {
    "fno": FNO,
    "unet": UNet,
    "axial_transformer": AxialTransformer,
    "in_context": InContext,
    "ensemble": Ensemble,
    "continuous": Continuous,
    "coordinate": Coordinate,
    "recurrent": Recurrent,
    "conv_recurrent": ConvRecurrent,
    "neuralop_fno": NeuralopFNO,
    "module": ModuleOperator,
}
"""Our own; `operator_class` knows those of plug-ins too."""

DEFAULT_KIND = "fno"
"""What an operator is where nobody says."""


def _fault(offered: Any, name: str) -> str | None:
    """Return what keeps an object from being the operator called `name`, or None."""
    if not (isinstance(offered, type) and issubclass(offered, Operator)):
        return f"it is {offered!r}, and no subclass of scifm.Operator"
    kind = offered.config_class.kind
    if kind != name:
        return f"the kind of its config_class is '{kind}'; give the entry point and the settings the same name"
    if offered.network is Operator.network:
        return "its class lacks network"
    return "its class is abstract" if inspect.isabstract(offered) else None


_CATALOG: Catalog[Operator] = Catalog("scifm.operators", "kind of operator", OPERATORS, _fault)


def operator_class(kind: str) -> type[Operator]:
    """Return the class of a kind, ours or a plug-in's.

    Raises:
        ConfigError: if there is none; it names the nearest.
    """
    return _CATALOG.find(kind)


def settings_of(kind: str, network: Any) -> OperatorConfig:
    """Return settings of a kind, from a table of them or from ready ones. For validators: errors name the keys.

    Raises:
        ConfigError: if there is no such kind, or ready settings belong to another.
        PydanticCustomError: if a key is unknown or a value is not allowed.
    """
    cls = operator_class(kind).config_class
    if isinstance(network, OperatorConfig):
        if type(network) is not cls:
            raise ConfigError(f"kind '{kind}' takes a {cls.__name__}; got a {type(network).__name__}")
        return network
    return build_inside(cls, network)


def named_network(network: Any) -> Any:
    """Return settings of any kind, from a table of them that says its ``kind``; what is no table as it is."""
    if isinstance(network, Mapping):
        kind = str(network.get("kind", DEFAULT_KIND))
        return settings_of(kind, {name: value for name, value in network.items() if name != "kind"})
    return network


def told_network(settings: OperatorConfig) -> dict[str, Any]:
    """Return settings as the table that `named_network` takes."""
    return {**({} if settings.kind == DEFAULT_KIND else {"kind": settings.kind}), **settings.to_dict()}


NamedNetwork = Annotated[OperatorConfig, BeforeValidator(named_network), PlainSerializer(told_network)]
"""A table of settings of any kind; its key ``kind`` says which, `DEFAULT_KIND` when left out."""


@dataclass(frozen=True)
class ModelListing(Plain):
    """A model that comes with the package.

    Args:
        name: by which it is found: ``scifm/…``.
        samples: what it was trained on, in words.
        points: of the grid it was trained on.
        num_params: weights.
        num_bytes: of its files.
        relative_l2: mean relative L2 error on samples it has not seen; None where it was not scored.
    """

    name: str
    samples: str
    points: str
    num_params: int
    num_bytes: int
    relative_l2: float | None


def list_models() -> list[ModelListing]:
    """Return the models that come with the package.

    Raises:
        RunError: if one is damaged.
    """
    listings = []
    for name, folder in shipped_models().items():
        with reading(folder) as content:
            past, grid = content.provenance, content.domain.grid
            count = sum(math.prod(shape) for shape in content.shapes.values())
            size = sum(file.stat().st_size for file in folder.iterdir())
            error = past.scores[0].errors.get("relative_l2") if past.scores else None
            points = "" if grid is None else " × ".join(map(str, grid.num_points))
        listings.append(ModelListing(name, past.samples, points, count, size, error))
    return listings


def save_operator(operator: Operator, path: str | Path, **settings: Any) -> None:
    """Write an operator into the folder `path`; settings are those of `Operator.save_pretrained`."""
    operator.save_pretrained(path, **settings)


def load_operator(path: Run | str | Path, *, module: nn.Module | None = None) -> Operator:
    """Rebuild a saved operator of any kind, ours or a plug-in's.

    Args:
        path: a complete run, its folder, the folder of a model, ``scifm/name`` of one that comes with the package, or
            ``hf:name/model``; see `find_model`.
        module: for one that was wrapped from an object: a network of the same class, whose weights are replaced.

    Raises:
        RunError: if the folder is missing, truncated, of another kind, or names something that must not be run.
    """
    with reading(find_model(path).folder) as content:
        return operator_class(content.kind).rebuilt(content, module=module)
