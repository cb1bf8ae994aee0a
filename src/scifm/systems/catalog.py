"""The registry of systems: a line here buys the contract tests; systems of other packages join by entry points."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

from scifm.errors import ConfigError, SciFMError, suggest
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.plugins import Catalog, Listing
from scifm.systems.acoustic import Acoustic
from scifm.systems.advected_step import AdvectedStep
from scifm.systems.advection import Advection
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.systems.allen_cahn import AllenCahn
from scifm.systems.burgers import Burgers
from scifm.systems.burgers_ramp import BurgersRamp
from scifm.systems.compressible_navier_stokes import CompressibleNavierStokes
from scifm.systems.convection import Convection
from scifm.systems.damped_oscillator import DampedOscillator
from scifm.systems.euler import Euler
from scifm.systems.evolving import Evolving
from scifm.systems.fisher_kpp import FisherKPP
from scifm.systems.fitzhugh_nagumo import FitzHughNagumo
from scifm.systems.gray_scott import GrayScott
from scifm.systems.heat import Heat
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.helmholtz_medium import HelmholtzMedium
from scifm.systems.incompressible_flow import IncompressibleFlow
from scifm.systems.kdv import KortewegDeVries
from scifm.systems.knobs import Knob
from scifm.systems.kuramoto_sivashinsky import KuramotoSivashinsky
from scifm.systems.moving_textures import MovingTextures
from scifm.systems.navier_stokes import NavierStokes
from scifm.systems.poisson import Poisson
from scifm.systems.porous_medium import PorousMedium
from scifm.systems.reaction import Reaction
from scifm.systems.reaction_diffusion import ReactionDiffusion
from scifm.systems.scalar_evolution import ScalarEvolution
from scifm.systems.shallow_water import ShallowWater
from scifm.systems.stefan import Stefan
from scifm.systems.system import System

__all__ = [
    "SYSTEMS", "available_systems", "evolving_of", "find_system", "list_systems", "require_system_of",
    "system_from_dict", "system_if_known", "system_of", "system_on",
]  # fmt: skip

SYSTEMS: dict[str, type[System]] = {
    "poisson": Poisson,
    "advection_diffusion": AdvectionDiffusion,
    "helmholtz": Helmholtz,
    "helmholtz_medium": HelmholtzMedium,
    "heat": Heat,
    "advection": Advection,
    "burgers": Burgers,
    "acoustic": Acoustic,
    "kdv": KortewegDeVries,
    "kuramoto_sivashinsky": KuramotoSivashinsky,
    "scalar_evolution": ScalarEvolution,
    "navier_stokes": NavierStokes,
    "incompressible_flow": IncompressibleFlow,
    "allen_cahn": AllenCahn,
    "fisher_kpp": FisherKPP,
    "gray_scott": GrayScott,
    "fitzhugh_nagumo": FitzHughNagumo,
    "shallow_water": ShallowWater,
    "euler": Euler,
    "compressible_navier_stokes": CompressibleNavierStokes,
    "porous_medium": PorousMedium,
    "stefan": Stefan,
    "advected_step": AdvectedStep,
    "burgers_ramp": BurgersRamp,
    "convection": Convection,
    "reaction": Reaction,
    "reaction_diffusion": ReactionDiffusion,
    "damped_oscillator": DampedOscillator,
    "moving_textures": MovingTextures,
}
"""Our own; `find_system` and `available_systems` know those of plug-ins too."""

_MUST_SAY = ("name", "equation", "signature")


def _fault(offered: Any, name: str) -> str | None:
    """Return what keeps an object from being the system called `name`, or None."""
    if not (isinstance(offered, type) and issubclass(offered, System)):
        return f"it is {offered!r}, and no subclass of scifm.System"
    silent = [word for word in _MUST_SAY if not hasattr(offered, word)]
    if silent:
        return f"its class does not set {', '.join(silent)}"
    if offered.name != name:
        return f"it calls itself '{offered.name}'; give the entry point and the class the same name"
    if inspect.isabstract(offered):
        return f"its class lacks {', '.join(sorted(offered.__abstractmethods__))}"
    if not is_dataclass(offered):
        return "its class is no dataclass; write @dataclass(frozen=True) above it"
    needed = [f.name for f in fields(offered) if f.init and f.default is MISSING and f.default_factory is MISSING]
    if needed:
        return f"these of its fields have no default: {', '.join(needed)}"
    try:
        offered()
    except Exception as error:
        raise ConfigError(f"it cannot be made from its defaults: {type(error).__name__}: {error}") from error
    return None


_CATALOG: Catalog[System] = Catalog("scifm.systems", "system", SYSTEMS, _fault)


def find_system(name: str) -> type[System]:
    """Return the system of that name, ours or a plug-in's. Of the plug-ins only this one is imported.

    Raises:
        ConfigError: if there is none, two claim the name, or the plug-in is broken.
    """
    return _CATALOG.find(name)


def system_on(name: str, grid: Grid) -> System:
    """Return the system of a name with its default knobs and options, of as many dimensions as a grid has.

    Raises:
        ConfigError: if there is none of that name.
        SignatureError: if it is not defined on the grid.
    """
    made, dims = find_system(name), {"num_spatial_dims": grid.num_spatial_dims}
    system = made(**(dims if any(entry.name in dims for entry in fields(made)) else {}))  # type: ignore[arg-type]
    system.require_grid(grid)
    return system


def require_system_of(samples: Batch, name: str | None = None) -> System:
    """Return the system that samples say they are of, if they are all of it.

    Its knobs and options are those of its defaults: samples tell what they were made with, not with which ranges.

    Args:
        samples: on its grid; of what evolves with lead times.
        name: what they are of, where they do not say it, or say no system that is installed.

    Raises:
        ConfigError: if they say several, none, or one that nobody knows.
        SignatureError: if they are no samples of that system, or it is not defined on their grid.
    """
    told = tuple(dict.fromkeys(samples.systems))
    if name is not None and (not told or (len(told) == 1 and not _CATALOG.knows(told[0]))):
        told = (name,)
    if len(told) != 1:
        raise ConfigError(f"Samples are asked about by system, and these say {told or 'none'}.")
    system = system_on(told[0], samples.grid)
    own = samples.without_absent(system.signature)
    if isinstance(system, Evolving):
        system.require_ours(own)
    return system


def system_of(samples: Batch, name: str | None = None) -> System | None:
    """Return what `require_system_of` does; None where it refuses."""
    try:
        return require_system_of(samples, name)
    except SciFMError:
        return None


def evolving_of(samples: Batch) -> Evolving | None:
    """Return the evolving system that samples say they are of, as `system_of` finds it; None: it is no such."""
    system = system_of(samples)
    return system if isinstance(system, Evolving) else None


def available_systems() -> dict[str, type[System]]:
    """Return every system that can be used, ours first; `list_systems` tells of the broken ones too."""
    return {entry.name: entry.offered for entry in list_systems() if entry.offered is not None}


def list_systems() -> list[Listing[System]]:
    """Return every system that is installed, ours first. Imports all plug-ins; a broken one has its fault."""
    return _CATALOG.listings()


def system_if_known(entries: dict[str, Any]) -> System | None:
    """Return what `system_from_dict` does; None of a system that is not installed, as a plug-in's of elsewhere.

    Raises:
        ConfigError: if it is installed, and what is said of it is not allowed.
    """
    return system_from_dict(entries) if _CATALOG.knows(str(entries.get("name"))) else None


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
