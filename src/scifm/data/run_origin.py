"""What a run or a model says of the samples it was trained on last; here alone runs of before are read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from scifm.config import build_config
from scifm.data.importing import open_store
from scifm.data.mixtures import Member, MixtureOrigin
from scifm.data.origin_config import DataConfig, MixtureConfig, SystemConfig
from scifm.data.origins import Origin, StoreOrigin, SystemOrigin
from scifm.data.reconstruction import reconstructing
from scifm.data.resolving import resolve_origin
from scifm.errors import ConfigError, RunError
from scifm.fields.grid import Grid
from scifm.fields.hiding import Hiding
from scifm.fields.window import Window
from scifm.findings.provenance import Provenance
from scifm.models.folder import ModelPlace, digest
from scifm.runs import Run
from scifm.systems.catalog import system_from_dict
from scifm.systems.system import System

__all__ = ["RunOrigin", "hiding_of", "provenance_of"]


@dataclass(frozen=True)
class RunOrigin:
    """Where a run's samples came from, as its record says; no store is opened for it.

    The record is the table ``origin`` of a configuration, of the run that is asked or of the nearest of those it was
    made of; or it lies beside a model that came without its run, and then says no places of stores.
    """

    record: Mapping[str, Any]

    @classmethod
    def of(cls, run: Run) -> RunOrigin | None:
        """Return what a run says or, where it was trained on nothing itself, the run it was made of; None: none says.

        Raises:
            ConfigError: if its configuration is not that of a training.
            StoreError: if a run of before was trained on a store, which alone says more, and that is gone.
        """
        config = run.config
        record = config.get("origin") or _record_of_before(config, run)
        if record is not None:
            return cls(record)
        if run.parent is None:
            return None
        return cls.of(Run.open(run.parent)) if (run.parent / "config.toml").is_file() else cls.of_model(run.parent)

    @classmethod
    def of_model(cls, model: ModelPlace | Path) -> RunOrigin | None:
        """Return what is known of a model, by its run or by what lies beside its weights; None: nothing.

        Raises:
            ConfigError, StoreError: as for `of`.
            RunError: if what lies beside the weights is damaged.
        """
        place = model if isinstance(model, ModelPlace) else ModelPlace(model, None)
        if place.run is not None:
            return cls.of(place.run)
        record = place.provenance.origin
        return cls(record) if record else None

    @property
    def kind(self) -> str:
        """``system``, ``store`` or ``mixture``."""
        return str(self.record["kind"])

    @property
    def grid(self) -> Grid:
        """The grid of the samples."""
        return Grid.from_dict(self.record["grid"])

    @property
    def told(self) -> str:
        """In words what was sampled: systems with the ranges of their knobs, or stores."""
        told = "; ".join(_told(entry) for entry in self.record.get("members", [self.record]))
        return told if self.hiding is None else f"inputs of {told}, without solutions: {self.hiding.told}"

    @property
    def hiding(self) -> Hiding | None:
        """What was hidden of input fields that were asked for themselves; None: solutions were learned."""
        return Hiding.from_dict(self.record["hiding"]) if "hiding" in self.record else None

    def resolved(self) -> Origin:
        """Return the origin itself, to draw more of it.

        Raises:
            StoreError, DataError: if it is a store that cannot be read any more.
            ConfigError: if a system is not known here.
        """
        origin = self._solved()
        return origin if self.hiding is None else reconstructing(origin, self.hiding)

    def _solved(self) -> Origin:
        if self.kind != "mixture":
            return _origin_of(self.record, self.grid)
        members = self.record["members"]
        return MixtureOrigin(
            tuple(Member(_origin_of(own, self.grid), own["weight"], own["loss_weight"]) for own in members)
        )

    def systems(self) -> tuple[System, ...]:
        """Return the system that the samples were drawn of, or those of a mixture.

        Raises:
            RunError: if some came from a store, and no system is known that could have made it.
            ConfigError: if one of them is not known here.
        """
        return tuple(_system_of(entry) for entry in self.record.get("members", [self.record]))


def hiding_of(model: ModelPlace) -> Hiding | None:
    """Return what was hidden of the inputs that a model learned to reconstruct; None: it learned solutions."""
    record = model.provenance.origin if model.run is None else model.run.config.get("origin")
    return RunOrigin(record).hiding if record else None


def _origin_of(record: Mapping[str, Any], grid: Grid) -> SystemOrigin | StoreOrigin:
    if record["kind"] == "store":
        if "store" not in record:  # it did not come with the model; where a system made it, that makes more
            if "system" in record:
                system = SystemConfig.of(_system_of(record))
                return SystemOrigin(system, Grid.from_dict(record["grid"]), Window.of(record))
            name = record.get("store_name", "")
            raise RunError(f"it was trained on the store '{name}', which did not come with it: give a store (--store).")
        return StoreOrigin(open_store(record["store"], record.get("mapping")), Window.of(record))
    system = build_config(SystemConfig, record["system"], source="the record of a run")
    grid = Grid.from_dict(record["grid"]) if "grid" in record else grid
    return SystemOrigin(system, grid, Window.of(record), problem=record.get("problem"))


def _told(record: Mapping[str, Any]) -> str:
    if record["kind"] == "store":
        name = record["store_name"] if "store_name" in record else Path(str(record["store"])).name
        with suppress(RunError, ConfigError):  # nobody says what made it, or that is not known here
            made_of = _system_of(record)
            return f"store {name} of {made_of.title}, {made_of.told_knobs}"
        return f"store {name}"
    system = _system_of(record)
    return f"{system.title}, {system.told_knobs}"


def _system_of(record: Mapping[str, Any]) -> System:
    if "system" not in record:
        raise RunError(
            f"the store '{record.get('store', record.get('store_name'))}' was imported, and its card names no system."
        )
    return system_from_dict(record["system"])


def provenance_of(run: Run) -> Provenance:
    """Return where the model of a run comes from, as the run tells it.

    Raises:
        ConfigError, RunError, StoreError: if what the run says of itself cannot be read.
    """
    config, parent, origin = run.config, run.parent, RunOrigin.of(run)
    training = config.get("training", {})
    past: dict[str, Any] = {"made": run.kind, "recipe": str(config.get("name") or run.path.resolve().name)}
    past |= {"num_steps": training.get("num_steps"), "num_samples": config.get("num_samples")}
    past["version"] = metadata.version("scifm")
    if origin is not None:
        past |= {"samples": origin.told, "origin": _without_places(origin.record)}
        with suppress(RunError, ConfigError):  # of a store that no system of ours made
            past["equations"] = {system.title: system.equation for system in origin.systems()}
    if parent is not None:
        past["parent"] = parent.name
        with suppress(OSError):  # it is gone
            past["parent_digest"] = digest(parent / "model" if (parent / "model").is_dir() else parent)
    return Provenance(**past)


def _without_places(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of an origin without paths, which say nothing elsewhere and are nobody's business there."""
    kept = {key: value for key, value in record.items() if key not in ("store", "mapping")}
    if "store" in record:
        kept["store_name"] = Path(str(record["store"])).name
    if "members" in record:
        kept["members"] = [_without_places(member) for member in record["members"]]
    return kept


def _record_of_before(config: Mapping[str, Any], run: Run) -> dict[str, Any] | None:
    """Return what a configuration without a table ``origin`` says: it was written before runs had one."""
    adapted, source = config.get("downstream"), f"'{run.path}'"
    if isinstance(adapted, Mapping) and "grid" in adapted:
        return {"kind": "system", **{key: adapted[key] for key in ("system", "grid") if key in adapted}}
    if isinstance(adapted, Mapping) and "store" in adapted:
        store = open_store(adapted["store"], adapted.get("mapping"))
        return StoreOrigin(store, Window.of(adapted)).describe()
    data = build_config(DataConfig, config.get("data", {}), source=f"data of {source}")
    system = config.get("system")
    named = None if system is None else build_config(SystemConfig, system, source=f"system of {source}")
    mixture = [build_config(MixtureConfig, m, source=f"mixture of {source}") for m in config.get("mixture", ())]
    if named is None and not mixture and data.store is None:
        return None
    return resolve_origin(data, system=named, mixture=mixture).describe()
