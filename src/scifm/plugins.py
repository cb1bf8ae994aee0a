"""What other packages offer, found through their entry points: systems, operators, objectives, checks, compressions.

A package that declares

    [project.entry-points."scifm.systems"]
    thin_plate = "scifm_plate:ThinPlate"

adds the system ``thin_plate`` wherever a system has a name; ``scifm.operators``, ``scifm.objectives``,
``scifm.checks`` and ``scifm.compressions`` are the other groups. Nothing is looked for until something is asked for by
name, and nothing is imported but what is asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint
from typing import Any, Generic, TypeVar

from scifm.errors import ConfigError, suggest

__all__ = ["Catalog", "Listing", "fault_of_settings", "installed_plugins"]

T = TypeVar("T")
_OURS = "scifm"


@dataclass(frozen=True)
class Listing(Generic[T]):
    """One name as a list shows it.

    Args:
        name: what it is called.
        distribution: the package it comes from; a plug-in's with its version.
        offered: the class, or None where it is broken.
        fault: what is wrong with it, or None.
    """

    name: str
    distribution: str
    offered: type[T] | None
    fault: str | None = None


@dataclass(frozen=True)
class Catalog(Generic[T]):
    """The classes of one room by name: ours, and those that other packages add.

    Args:
        group: of entry points.
        noun: what one of them is called in a sentence.
        ours: the registry of the room.
        fault: says what keeps an object from being the one of a name, or None; may raise it as a `ConfigError`.
    """

    group: str
    noun: str
    ours: Mapping[str, type[T]]
    fault: Callable[[Any, str], str | None]

    def find(self, name: str) -> type[T]:
        """Return the class of that name, ours or a plug-in's. Of the plug-ins only this one is imported.

        Raises:
            ConfigError: if there is none, two claim the name, or the plug-in is broken.
        """
        plugins = installed_plugins(self.group)
        if name in self.ours and name not in plugins:
            return self.ours[name]
        if name not in plugins:
            plugins = installed_plugins(self.group, again=True)  # it may have been installed since
        if name not in plugins:
            raise ConfigError(f"{self.noun.capitalize()} {suggest(name, [*self.ours, *plugins])}")
        return self._load(*plugins[name])

    def knows(self, name: str) -> bool:
        """Return whether something of that name is ours or was installed when it was last looked."""
        return name in self.ours or name in installed_plugins(self.group)

    def listings(self) -> list[Listing[T]]:
        """Return everything that is installed, ours first. Imports all plug-ins; a broken one has its fault."""
        listings = [Listing(name, _OURS, cls) for name, cls in self.ours.items()]
        for name, entries in sorted(installed_plugins(self.group, again=True).items()):
            for i, entry in enumerate(entries):
                try:
                    offered, fault = self._load(entry, *entries[:i], *entries[i + 1 :]), None
                except ConfigError as error:
                    offered, fault = None, str(error)
                listings.append(Listing(name, _package(entry), offered, fault))
        return listings

    def _load(self, entry: EntryPoint, *rivals: EntryPoint) -> type[T]:
        """Return what a plug-in offers. No plug-in silently replaces one of ours, or another plug-in's."""
        if entry.name in self.ours:
            ours = self.ours[entry.name]
            raise ConfigError(
                f"Two {self.noun}s are called '{entry.name}': SciFM's own ({ours.__module__}.{ours.__name__}) and the "
                f"plug-in {_named(entry)}. A plug-in needs a name of its own: rename it, or uninstall "
                f"{_package(entry)}."
            )
        if rivals:
            claims = " and ".join(map(_named, (entry, *rivals)))
            raise ConfigError(f"Two plug-ins offer one name as {self.noun}: {claims}. Uninstall one of them.")
        try:
            offered = entry.load()
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"The plug-in {self.noun} {_named(entry)} cannot be imported: {type(error).__name__}: {error}. "
                f"Repair or uninstall {_package(entry)}."
            ) from error
        try:
            if fault := self.fault(offered, entry.name):
                raise ConfigError(fault)
        except ConfigError as error:
            raise ConfigError(f"The plug-in {self.noun} {_named(entry)} cannot be used: {error}.") from error
        return offered


def _package(entry: EntryPoint) -> str:
    """Return the package a plug-in comes from, with its version."""
    return "a package without a name" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _named(entry: EntryPoint) -> str:
    return f"'{entry.name}' of {_package(entry)} ({entry.value})"


def fault_of_settings(base: type[Any]) -> Callable[[Any, str], str | None]:
    """Return what says why an object is no class of settings that derives from `base` and calls itself by a name."""

    def fault(offered: Any, name: str) -> str | None:
        if not (isinstance(offered, type) and issubclass(offered, base)):
            return f"it is {offered!r}, and no subclass of {base.__module__}.{base.__qualname__}"
        own = getattr(offered, "name", None)
        if own != name:
            return f"it calls itself {own!r}; give the entry point and the class the same name"
        if inspect.isabstract(offered):
            return f"its class lacks {', '.join(sorted(getattr(offered, '__abstractmethods__', ())))}"
        needed = [key for key, field in getattr(offered, "model_fields", {}).items() if field.is_required()]
        return f"these of its settings have no default: {', '.join(needed)}" if needed else None

    return fault


def installed_plugins(group: str, *, again: bool = False) -> dict[str, tuple[EntryPoint, ...]]:
    """Return what is declared, by name; more than one plug-in of a name is a conflict. Nothing is imported.

    Args:
        group: of entry points.
        again: whether to look anew, for packages installed since the last look.
    """
    if again:
        importlib.invalidate_caches()
        _declared.cache_clear()
    return _declared(group, tuple(sys.path))


@lru_cache(maxsize=12)
def _declared(group: str, path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """Look once for each search path: a look costs milliseconds, and a study asks for its systems hundreds of times."""
    declared: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in importlib.metadata.entry_points(group=group):
        declared[entry.name] = (*declared.get(entry.name, ()), entry)
    return declared
