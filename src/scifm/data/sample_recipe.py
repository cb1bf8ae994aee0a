"""Which samples somebody asks for: of a system, of a store, or like those that a run was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from scifm.data.generate import generate
from scifm.data.origin_config import BOX_SETTINGS, BoxConfig, SystemConfig
from scifm.data.origins import StoreOrigin, SystemOrigin
from scifm.data.run_origin import RunOrigin
from scifm.data.store import Store
from scifm.errors import ConfigError
from scifm.fields.samples import Samples
from scifm.fields.window import Window
from scifm.models.folder import find_model, history_of
from scifm.systems.evolving import Evolving
from scifm.systems.system import System

__all__ = ["GenerateRecipe", "SampleRecipe", "SourceRecipe"]


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
        system: what is sampled afresh.
        store: folder of a store, instead.
        split: of the store.
        stride: of trajectories, frames from one frame of a sample to the next.
        horizon: of trajectories, target frames of a sample: into how many steps the operator is asked to march.
        num_samples: samples drawn of a system; of one that evolves, trajectories.
        seed: of those samples, and of all else that is random.
    """

    idle_with_a_store: ClassVar[tuple[str, ...]] = ("num_samples", *BOX_SETTINGS)

    split: str = "test"
    stride: int = Field(1, ge=1)
    horizon: int = Field(1, ge=1)
    num_samples: int = Field(512, ge=1)
    seed: int = 0

    def samples(self, history: int = 1) -> tuple[Samples, dict[str, Any] | None]:
        """Return the samples, and where they came from; None where they say it themselves.

        Args:
            history: input frames of a sample, of trajectories.

        Raises:
            ConfigError: if not exactly one of system and store is given, or a setting has no effect beside it.
            StoreError: if it is not a store.
        """
        source = self.source()
        evolves = source.signature.evolves
        window = Window(history if evolves else 1, self.horizon, self.stride)
        if isinstance(source, Store):
            self.refuse(*self.idle_with_a_store, beside="with a store")
            return StoreOrigin(source, window).split(self.split), None
        self.refuse("split", *(() if evolves else ("stride", "horizon")), beside="with a system")
        grid = self.grid(source.signature.num_spatial_dims)
        return SystemOrigin.of(source, grid, window).unseen(self.num_samples, self.seed)

    def samples_for(self, run: str | Path) -> tuple[Samples, dict[str, Any] | None]:
        """Return the samples; where neither system nor store is given, unseen ones of what a run was trained on.

        Args:
            run: the run, or model, that is asked about them.

        Raises:
            ConfigError: as for `samples`, or if the run does not say what it was trained on.
        """
        place = find_model(run)
        if self.system is not None or self.store is not None:
            return self.samples(history_of(place.folder))
        self.refuse("split", *BOX_SETTINGS, beside="without a system or a store")
        trained = place.run
        origin = RunOrigin.of(trained) if trained is not None else None
        if origin is None:
            what = "is a model without its run, and" if trained is None else "is a run that"
            raise ConfigError(
                f"'{run}' {what} does not say what it was trained on: give a system (--system NAME, with --knob) or a "
                "store (--store FOLDER)."
            )
        if origin.kind == "store":
            self.refuse("num_samples", beside="where a run was trained on a store, whose test split is taken")
        known = origin.resolved()
        if not known.signature.evolves:
            self.refuse("stride", "horizon", beside="without a system or a store")
            return known.unseen(self.num_samples, self.seed)
        given: dict[str, Any] = {n: getattr(self, n) for n in ("stride", "horizon") if n in self.model_fields_set}
        if self.horizon > 1:  # which asks for one lead after the other
            given["leads"] = 1
        return known.framed(replace(known.window, **given)).unseen(self.num_samples, self.seed)


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
