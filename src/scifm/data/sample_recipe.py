"""Which samples somebody asks for: of a system, of a store, or like those that a run was trained on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from scifm.data.generate import generate
from scifm.data.origin_config import BOX_SETTINGS, BoxConfig, SystemConfig
from scifm.data.origins import Origin, StoreOrigin, SystemOrigin
from scifm.data.reconstruction import reconstructing
from scifm.data.run_origin import RunOrigin, hiding_of
from scifm.data.store import Store
from scifm.errors import ConfigError, OutsideWarning
from scifm.fields.samples import Samples
from scifm.fields.window import Window
from scifm.models.folder import ModelPlace, find_model, grid_of, pace_of
from scifm.systems.evolving import Evolving
from scifm.systems.system import System

__all__ = ["GenerateRecipe", "SampleRecipe", "SourceRecipe"]

_FRAMES = ("num_frames", "save_interval")
_STATIONS = ("stations", "station_spacing")


class SourceRecipe(BoxConfig):
    """A system, on a box, or a store.

    Args:
        system: what is sampled.
        num_points, extent, boundary: of its box, as in `BoxConfig`.
        store: folder of a store.
    """

    system: SystemConfig | None = None
    store: str | None = None

    def source(self) -> System | Store:
        """Return the system, or the store.

        Raises:
            ConfigError: if not exactly one is given.
            StoreError: if it is not a store.
        """
        if (self.system is None) == (self.store is None):
            raise ConfigError(
                "Give either a system (--system NAME, with --knob) or a store (--store FOLDER) to take samples of."
            )
        return Store.open(str(self.store)) if self.system is None else self.system.build()

    def refuse(self, *names: str, beside: str) -> None:
        """Refuse settings that were given, whatever their value, and have no effect.

        Raises:
            ConfigError: names them.
        """
        idle = [name for name in names if name in self.model_fields_set]
        if idle:
            raise ConfigError(f"{', '.join(idle)} would have no effect {beside}: leave it out.")


class SampleRecipe(SourceRecipe):
    """Samples that an operator is asked about.

    Args:
        system: what is sampled afresh, where nothing is said of the box on the grid of the operator's training.
        store: folder of a store, instead.
        split: of the store.
        stride: of trajectories, frames from one frame of a sample to the next; absent: as many as make a lead time that
            the operator was trained at, else one.
        horizon: of trajectories, target frames of a sample: into how many steps the operator is asked to march.
        observed: of several targets, whether each is asked for when the true ones before it are known, one step ahead;
            absent: as the run was trained, where these are its samples, else not.
        stations: of trajectories, at how many points the input frames are seen, 0: everywhere; absent: as the run was
            trained, where these are its samples, else everywhere.
        station_spacing: they stand at every so many-th point of each axis; absent likewise.
        num_samples: samples drawn of a system; of one that evolves, trajectories.
        seed: of those samples, and of all else that is random.
    """

    split: str = "test"
    stride: int | None = Field(None, ge=1)
    horizon: int = Field(1, ge=1)
    observed: bool | None = None
    stations: int | None = Field(None, ge=0)
    station_spacing: int | None = Field(None, ge=1)
    num_samples: int = Field(512, ge=1)
    seed: int = 0

    @property
    def idle_with_a_store(self) -> tuple[str, ...]:
        """Settings that have no effect where samples are those of a store."""
        return ("num_samples", *BOX_SETTINGS)

    def origin_for(self, place: ModelPlace) -> Origin:
        """Return where samples come from: what is given, else what the run was trained on.

        Of a run that learned without solutions they are whole inputs, with points hidden as it learned.

        Args:
            place: of the model that is asked about them; of trajectories it says which frames a sample has.

        Raises:
            ConfigError: if nothing says it, or a setting has no effect.
            RunError: if there is no readable model.
            StoreError: if a store cannot be read.
        """
        given = self.system is not None or self.store is not None
        origin = self._given(place) if given else self._trained_on(place)
        if given and (hiding := hiding_of(place)) is not None:
            origin = reconstructing(origin, hiding)
        if isinstance(origin, StoreOrigin):
            stored = "with a store" if given else "where a run was trained on a store"
            self.refuse(*self.idle_with_a_store, beside=stored)
        else:
            self.refuse("split", beside="with a system" if given else "where a run was not trained on a store")
        if not origin.signature.evolves:
            self.refuse("stride", "horizon", "observed", *_STATIONS, beside="with what does not evolve")
            return origin
        if given and not origin.is_one_problem:
            asked: dict[str, Any] = {"stride": self.stride, "observed": bool(self.observed), **self._stations}
            return origin.paced(pace_of(place.folder), horizon=self.horizon, **asked)
        own: dict[str, Any] = {} if self.stride is None else {"stride": self.stride}
        if "horizon" in self.model_fields_set:
            own |= {"horizon": self.horizon, "leads": 1}  # it asks for one lead after the other
            own["observed"] = origin.window.observed and self.horizon > 1
        own |= self._stations | ({} if self.observed is None else {"observed": self.observed})
        own |= {"station_spacing": 1} if self.stations == 0 else {}
        return origin.framed(replace(origin.window, **own))

    @property
    def _stations(self) -> dict[str, int]:
        """What is said of stations."""
        return {name: value for name in _STATIONS if (value := getattr(self, name)) is not None}

    def _given(self, place: ModelPlace) -> StoreOrigin | SystemOrigin:
        source = self.source()
        if isinstance(source, Store):
            return StoreOrigin(source)
        dims, known = source.signature.num_spatial_dims, grid_of(place.folder)
        said = self.model_fields_set & set(BOX_SETTINGS)
        if said or known is None or known.num_spatial_dims != dims:
            known = self.grid(dims)
        return _of_one_problem(SystemOrigin.of(source, known), place)

    def _trained_on(self, place: ModelPlace) -> Origin:
        self.refuse(*BOX_SETTINGS, beside="without a system or a store")
        recorded = RunOrigin.of_model(place)
        if recorded is None:
            what = "is a model without its run, and" if place.run is None else "is a run that"
            raise ConfigError(
                f"'{place.path}' {what} does not say what it was trained on: give a system (--system NAME, with "
                "--knob) or a store (--store FOLDER)."
            )
        return recorded.resolved()

    def samples_for(self, run: str | Path) -> tuple[Samples, dict[str, Any] | None]:
        """Return the samples, and where they came from; None where they say it themselves.

        Args:
            run: the run, or model, that is asked about them.

        Raises:
            ConfigError, RunError, StoreError: as for `origin_for`.
        """
        origin = self.origin_for(find_model(run))
        if isinstance(origin, StoreOrigin):
            return origin.unseen(self.num_samples, split=self.split)[0], None
        return origin.unseen(self.drawn_of(origin), self.seed)

    def drawn_of(self, origin: Origin) -> int:
        """Return how many samples are drawn of a system: those asked for; a verb may have other defaults."""
        return self.num_samples


def _of_one_problem(origin: SystemOrigin, place: ModelPlace) -> SystemOrigin:
    """Return the origin with one problem alone where the model knows no more, and warn where that is another one."""
    recorded = RunOrigin.of_model(place)
    if recorded is None or recorded.record.get("problem") is None:
        return origin
    origin = replace(origin, problem=recorded.record["problem"], window=Window.of(recorded.record))
    if _which(origin.describe()) != _which(recorded.record):
        warnings.warn(
            f"The model knows one problem, {recorded.told}, and is asked about another one: it has learned nothing of "
            "that, and its answer is what it learned, from another start at most. Train it on that one (scifm pinn).",
            OutsideWarning,
            stacklevel=2,
        )
    return origin


def _which(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells one problem from another: not which frames of it, or how many points, are looked at."""
    system, grid = record["system"], record["grid"]
    options = {name: value for name, value in system.get("options", {}).items() if name not in _FRAMES}
    return (
        system["name"], system.get("knobs"), options, grid["extent"], grid["boundary"], record["problem"],
    )  # fmt: skip


class GenerateRecipe(BoxConfig):
    """What `scifm.data.generate.generate` makes a store of.

    Args:
        system: what is sampled.
        num_samples: training samples, of an evolving system trajectories; validation and test get an eighth each. Or
            exact numbers by split.
        num_points, extent, boundary: of the box, as in `BoxConfig`.
        num_frames: of an evolving system, frames of a trajectory; as many as the system says when left out.
        save_interval: of an evolving system, physical time between frames; the system's own when left out.
        seed: of every draw.
        chunk_size: samples a file; the draws depend on it. When left out 1,024, of large trajectories fewer.
        dtype: of solver and files.
        device: where to sample; the draws depend on its kind.
    """

    system: SystemConfig
    num_samples: int | dict[str, int] = 4096
    num_frames: int | None = Field(None, ge=2)
    save_interval: float | None = Field(None, gt=0, allow_inf_nan=False)
    seed: int = 0
    chunk_size: int | None = Field(None, ge=1)
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "cpu"

    def make(self, path: str | Path, **more: Any) -> Store:
        """Make the store, as `generate` does; `more` are its arguments that change nothing in it.

        Raises:
            ConfigError, SignatureError, DataError, StoreError: as `generate` does.
        """
        system = self.system.build()
        settings = {name: value for name, value in self if name not in BOX_SETTINGS}
        settings |= {"dtype": getattr(torch, self.dtype), "grid": self.grid(system.signature.num_spatial_dims)}
        times = {name: value for name in ("num_frames", "save_interval") if (value := settings.pop(name)) is not None}
        if times and not isinstance(system, Evolving):
            raise ConfigError(
                f"'{system.name}' is steady, so {' and '.join(times)} would have no effect: leave it out."
            )
        settings["system"] = replace(system, **times) if times else system  # type: ignore[type-var]
        return generate(path=path, **settings, **more)
