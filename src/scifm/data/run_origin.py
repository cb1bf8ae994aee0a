"""What a run says of the samples it was trained on last; here alone runs of before are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scifm.config import build_config
from scifm.data.importing import open_store
from scifm.data.origin_config import DataConfig, MixtureConfig, SystemConfig
from scifm.data.origins import Member, MixtureOrigin, Origin, StoreOrigin, SystemOrigin, resolve_origin
from scifm.errors import RunError
from scifm.fields.grid import Grid
from scifm.fields.window import Window
from scifm.runs import Run
from scifm.systems.catalog import system_from_dict
from scifm.systems.system import System

__all__ = ["RunOrigin"]


@dataclass(frozen=True)
class RunOrigin:
    """Where a run's samples came from, as its record says; no store is opened for it.

    The run is the one asked, or the nearest of those it was made of; the record is the table ``origin`` of its
    configuration.
    """

    run: Run
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
            return cls(run, record)
        return cls.of(Run.open(run.parent)) if run.parent is not None else None

    @property
    def kind(self) -> str:
        """``system``, ``store`` or ``mixture``."""
        return str(self.record["kind"])

    @property
    def grid(self) -> Grid:
        """The grid of the samples."""
        return Grid.from_dict(self.record["grid"])

    def resolved(self) -> Origin:
        """Return the origin itself, to draw more of it.

        Raises:
            StoreError, DataError: if it is a store that cannot be read any more.
            ConfigError: if a system is not known here.
        """
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


def _origin_of(record: Mapping[str, Any], grid: Grid) -> SystemOrigin | StoreOrigin:
    if record["kind"] == "store":
        return StoreOrigin(open_store(record["store"], record.get("mapping")), Window.of(record))
    system = build_config(SystemConfig, record["system"], source="the record of a run")
    grid = Grid.from_dict(record["grid"]) if "grid" in record else grid
    return SystemOrigin(system, grid, Window.of(record))


def _system_of(record: Mapping[str, Any]) -> System:
    if "system" not in record:
        raise RunError(f"the store '{record.get('store')}' was imported, and its card names no system.")
    return system_from_dict(record["system"])


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
