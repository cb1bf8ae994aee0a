"""Systems of other packages, found through their entry points in the group ``scifm.systems``.

A package that declares

    [project.entry-points."scifm.systems"]
    thin_plate = "scifm_plate:ThinPlate"

adds the system ``thin_plate`` wherever a system has a name: recipes, ``scifm generate``, studies. Nothing is looked for
until a system is asked for, and nothing is imported but the one asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import sys
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Any

from scifm.errors import ConfigError
from scifm.systems.system import System

__all__ = ["GROUP", "Plugin", "installed_plugins"]

GROUP = "scifm.systems"
"""The group of entry points."""

_MUST_SAY = ("name", "equation", "signature", "homogeneities")


@dataclass(frozen=True)
class Plugin:
    """A system that another package offers.

    Args:
        name: of the system: the entry point's name.
        distribution: the package that is installed, with its version.
        target: where the class is, ``module:Class``.
        entry: the entry point itself.
    """

    name: str
    distribution: str
    target: str
    entry: importlib.metadata.EntryPoint

    def __str__(self) -> str:
        return f"'{self.name}' of {self.distribution} ({self.target})"

    def load(self) -> type[System]:
        """Import the package's module and return the class of the system.

        Raises:
            ConfigError: if it cannot be imported, or is no system that can be made from its defaults.
        """
        try:
            found = self.entry.load()
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"The plug-in system {self} cannot be imported: {type(error).__name__}: {error}. "
                f"Repair or uninstall {self.distribution}."
            ) from error
        fault = _fault(found, self.name)
        if fault is not None:
            raise ConfigError(f"The plug-in system {self} cannot be used: {fault}.")
        try:
            found()
        except Exception as error:
            raise ConfigError(
                f"The plug-in system {self} cannot be made from its defaults: {type(error).__name__}: {error}."
            ) from error
        return found


def _fault(found: Any, name: str) -> str | None:
    """Return what keeps an object from being the system called `name`, or None."""
    if not (isinstance(found, type) and issubclass(found, System)):
        return f"it is {found!r}, and no subclass of scifm.System"
    silent = [word for word in _MUST_SAY if not hasattr(found, word)]
    if silent:
        return f"its class does not set {', '.join(silent)}"
    if found.name != name:
        return f"it calls itself '{found.name}'; give the entry point and the class the same name"
    if inspect.isabstract(found):
        return f"its class lacks {', '.join(sorted(found.__abstractmethods__))}"
    if not is_dataclass(found):
        return "its class is no dataclass; write @dataclass(frozen=True) above it"
    needed = [f.name for f in fields(found) if f.init and f.default is MISSING and f.default_factory is MISSING]
    return f"these of its fields have no default: {', '.join(needed)}" if needed else None


def installed_plugins(*, again: bool = False) -> dict[str, tuple[Plugin, ...]]:
    """Return what is declared, by name; more than one plug-in of a name is a conflict. Nothing is imported.

    Args:
        again: whether to look anew, for packages installed since the last look.
    """
    if again:
        importlib.invalidate_caches()
        _declared.cache_clear()
    return _declared(tuple(sys.path))


@lru_cache(maxsize=4)
def _declared(path: tuple[str, ...]) -> dict[str, tuple[Plugin, ...]]:
    """Look once for each search path: a look costs milliseconds, and a study asks for its systems hundreds of times."""
    found: dict[str, tuple[Plugin, ...]] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        home = getattr(entry, "dist", None)
        distribution = "a package without a name" if home is None else f"{home.name} {home.version}"
        plugin = Plugin(entry.name, distribution, entry.value, entry)
        found[entry.name] = (*found.get(entry.name, ()), plugin)
    return found
