"""The registry of systems: adding a line here buys the contract tests."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from scifm.errors import ConfigError, suggest
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.forcing import GaussianForcing
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.knobs import Knob
from scifm.systems.poisson import Poisson
from scifm.systems.system import System

__all__ = ["SYSTEMS", "system_from_dict"]

SYSTEMS: dict[str, type[System]] = {
    "poisson": Poisson,
    "advection_diffusion": AdvectionDiffusion,
    "helmholtz": Helmholtz,
}


def system_from_dict(entries: dict[str, Any]) -> System:
    """Return the system that `System.to_dict` (or a recipe) describes.

    Args:
        entries: ``{"name": …, "knobs": {…}, "options": {…}}``; knobs and options may be left out or be partial.

    Raises:
        ConfigError: if a name, knob or option is unknown, or a value is not valid.
    """
    unknown = [key for key in entries if key not in ("name", "knobs", "options")]
    if unknown:
        raise ConfigError(f"A system's key {suggest(str(unknown[0]), ('name', 'knobs', 'options'))}")
    name = str(entries.get("name"))
    if name not in SYSTEMS:
        raise ConfigError(f"System {suggest(name, SYSTEMS)}")
    default = SYSTEMS[name]()
    knobs = {key: Knob.parse(value, like=default.knobs.get(key)) for key, value in entries.get("knobs", {}).items()}
    system = default.where(**knobs)
    allowed = {entry.name for entry in fields(default)} - set(default.knobs)  # type: ignore[arg-type]
    options = dict(entries.get("options", {}))
    for key in options:
        if key not in allowed:
            raise ConfigError(f"Option of '{name}': {suggest(str(key), allowed)}")
    if isinstance(options.get("forcing"), dict):
        options["forcing"] = GaussianForcing.from_dict(options["forcing"])
    return type(system)(**{**system.knobs, **_current_options(system, allowed), **options})


def _current_options(system: System, names: set[str]) -> dict[str, Any]:
    return {name: getattr(system, name) for name in names}
