"""The registry of systems: a line here buys the contract tests; systems of other packages join by entry points."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from scifm.errors import ConfigError, SciFMError, suggest
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.knobs import Knob
from scifm.systems.plugins import Plugin, installed_plugins
from scifm.systems.poisson import Poisson
from scifm.systems.system import System

__all__ = ["SYSTEMS", "Listing", "available_systems", "find_system", "list_systems", "system_from_dict"]

SYSTEMS: dict[str, type[System]] = {
    "poisson": Poisson,
    "advection_diffusion": AdvectionDiffusion,
    "helmholtz": Helmholtz,
}
"""Our own; `find_system` and `available_systems` know those of plug-ins too."""

_OURS = "scifm"


@dataclass(frozen=True)
class Listing:
    """A system as a list shows it.

    Args:
        name: of the system.
        distribution: the package it comes from; a plug-in's with its version.
        system: its class, or None where it is broken.
        fault: what is wrong with it, or None.
    """

    name: str
    distribution: str
    system: type[System] | None
    fault: str | None = None


def find_system(name: str) -> type[System]:
    """Return the system of that name, ours or a plug-in's. Of the plug-ins only this one is imported.

    Raises:
        ConfigError: if there is none, two claim the name, or the plug-in is broken.
    """
    plugins = installed_plugins()
    if name not in SYSTEMS and name not in plugins:
        plugins = installed_plugins(again=True)  # it may have been installed since
    if name not in SYSTEMS and name not in plugins:
        raise ConfigError(f"System {suggest(name, [*SYSTEMS, *plugins])}")
    offered = plugins.get(name, ())
    clash = _clash(name, offered)
    if clash is not None:
        raise ConfigError(clash)
    return SYSTEMS[name] if name in SYSTEMS else offered[0].load()


def available_systems() -> dict[str, type[System]]:
    """Return every system that can be used, ours first; `list_systems` tells of the broken ones too."""
    return {entry.name: entry.system for entry in list_systems() if entry.system is not None}


def list_systems() -> list[Listing]:
    """Return every system that is installed, ours first. Imports all plug-ins; a broken one has its fault."""
    listings = [Listing(name, _OURS, system) for name, system in SYSTEMS.items()]
    for name, plugins in sorted(installed_plugins(again=True).items()):
        clash = _clash(name, plugins)
        listings += [_listing(plugin, clash) for plugin in plugins]
    return listings


def _listing(plugin: Plugin, clash: str | None) -> Listing:
    if clash is not None:
        return Listing(plugin.name, plugin.distribution, None, clash)
    try:
        return Listing(plugin.name, plugin.distribution, plugin.load())
    except ConfigError as error:
        return Listing(plugin.name, plugin.distribution, None, str(error))


def _clash(name: str, plugins: tuple[Plugin, ...]) -> str | None:
    """Return why a name cannot be told, or None: no plug-in replaces a system of ours or another plug-in's silently."""
    if name in SYSTEMS and plugins:
        ours = SYSTEMS[name]
        return (
            f"Two systems are called '{name}': SciFM's own ({ours.__module__}.{ours.__name__}) and the plug-in "
            f"{plugins[0]}. A plug-in needs a name of its own: rename it, or uninstall {plugins[0].distribution}."
        )
    if len(plugins) > 1:
        claims = " and ".join(str(plugin) for plugin in plugins)
        return f"Two plug-ins offer a system of one name: {claims}. Uninstall one of them."
    return None


def system_from_dict(entries: dict[str, Any]) -> System:
    """Return the system that `System.to_dict` (or a recipe) describes.

    Args:
        entries: ``{"name": …, "knobs": {…}, "options": {…}}``; knobs and options may be left out or be partial. An
            option that is a dataclass, such as a forcing, is a table of its fields and may be partial too.

    Raises:
        ConfigError: if a name, knob or option is unknown, or a value is not valid.
    """
    unknown = [key for key in entries if key not in ("name", "knobs", "options")]
    if unknown:
        raise ConfigError(f"A system's key {suggest(str(unknown[0]), ('name', 'knobs', 'options'))}")
    if not entries.get("name"):
        raise ConfigError(
            "A system is told by its name, and this one has none. Allowed: "
            f"{', '.join(sorted(SYSTEMS))}; 'scifm systems' lists those of plug-ins too."
        )
    name = str(entries["name"])
    default = find_system(name)()
    ours = default.knobs
    knobs = {key: Knob.parse(value, like=ours.get(key)) for key, value in entries.get("knobs", {}).items()}
    try:
        return _with_options(default.where(**knobs), dict(entries.get("options", {})))
    except SciFMError:
        raise
    except (TypeError, ValueError) as error:  # from the checks of a system or of an option
        raise ConfigError(f"System '{name}' does not take options {entries.get('options')}: {error}") from error


def _with_options(system: System, options: dict[str, Any]) -> System:
    knobs = system.knobs
    current = {entry.name: getattr(system, entry.name) for entry in fields(system) if entry.init}  # type: ignore[arg-type]
    allowed = [key for key in current if key not in knobs]
    for key in options:
        if key not in allowed:
            raise ConfigError(f"Option of '{system.name}': {suggest(str(key), allowed)}")
    read = {key: _option(f"{key} of '{system.name}'", value, current[key]) for key, value in options.items()}
    return replace(system, **read)  # type: ignore[type-var]


def _option(what: str, given: Any, current: Any) -> Any:
    """Return an option as its system holds it, from what a recipe or a file can hold: tables, lists, plain values."""
    if is_dataclass(current) and isinstance(given, dict):
        return _table(what, given, current)
    if isinstance(current, tuple) and isinstance(given, list):
        return _tuple(given)
    if isinstance(current, float) and isinstance(given, int) and not isinstance(given, bool):
        return float(given)
    # None, as a default or as a value, leaves it to the system's own checks.
    if current is not None and given is not None and type(given) is not type(current):
        raise ConfigError(f"{what} is {type(current).__name__} like {current!r}; got {given!r}.")
    return given


def _table(what: str, given: dict[str, Any], current: Any) -> Any:
    """Return the dataclass `current` with the fields that a table gives."""
    now = {entry.name: getattr(current, entry.name) for entry in fields(current)}
    for key in given:
        if key not in now:
            raise ConfigError(f"{what}: {suggest(str(key), now)}")
    if hasattr(current, "from_dict"):
        return current.from_dict({**current.to_dict(), **given})
    changes = {key: _option(f"{key} of {what}", value, now[key]) for key, value in given.items()}
    return replace(current, **changes)


def _tuple(given: list[Any]) -> tuple[Any, ...]:
    return tuple(_tuple(value) if isinstance(value, list) else value for value in given)
