"""What a recipe says of where samples come from: a system, a store, or a mixture of them, and the grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from scifm.config import Config, build_config, refuse_idle
from scifm.data.formats.mapping import DataMapping
from scifm.errors import ConfigError, SignatureError
from scifm.fields.grid import Boundary, Grid
from scifm.fields.window import WINDOW_SETTINGS, Window
from scifm.systems.catalog import system_from_dict
from scifm.systems.system import System
from scifm.wording import plural

__all__ = ["BOX_SETTINGS", "BoxConfig", "Curriculum", "DataConfig", "MixtureConfig", "SystemConfig"]


class SystemConfig(Config):
    """A system by name, with its knobs and options.

    Args:
        name: key in ``scifm.systems.SYSTEMS``.
        knobs: ranges by name, ``[low, high]`` or a table; knobs left out keep the system's own.
        options: other settings of the system.
    """

    name: str
    knobs: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)

    def build(self) -> System:
        """Return the system described here.

        Raises:
            ConfigError: if a name is unknown or a range is not valid.
        """
        return system_from_dict({"name": self.name, "knobs": self.knobs, "options": self.options})

    @classmethod
    def of(cls, system: System) -> SystemConfig:
        """Return the description of a system, from which `build` makes it again."""
        return cls(**system.to_dict())


class MixtureConfig(SystemConfig):
    """A member of a mixture: a system, or a store.

    Args:
        name: key in ``scifm.systems.SYSTEMS``; absent where `store` is given.
        knobs: as for `SystemConfig`.
        options: as for `SystemConfig`.
        store: folder of a store, instead of a system; its grid is that of the whole mixture.
        mapping: how foreign data at `store` are read where they lie; absent: it is a store of our own.
        weight: its share of the samples, relative to the others'.
        loss_weight: how much each of its samples counts in the loss.
    """

    name: str = ""
    store: str | None = None
    mapping: DataMapping | None = None
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    loss_weight: float = Field(1.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_source(self) -> MixtureConfig:
        if bool(self.name) == (self.store is not None):
            raise ValueError("a member of a mixture needs either the name of a system or a store, the folder of one")
        if self.store is None:
            refuse_idle(self, ("mapping",), "it says how store is read, and there is none")
        else:
            refuse_idle(self, ("knobs", "options"), "they are a system's, and this member is a store")
        return self


class BoxConfig(Config):
    """The box that samples of a system are drawn on.

    Args:
        num_points: points a side, one number or one per axis (y, x).
        extent: length of a side, one number or one per axis (y, x).
        boundary: what stands at the ends of an axis, one word or one per axis (y, x): periodic, wall or open.
    """

    num_points: int | tuple[int, ...] = 64
    extent: float | tuple[float, ...] = 1.0
    boundary: Boundary | tuple[Boundary, ...] = "periodic"

    def grid(self, num_spatial_dims: int) -> Grid:
        """Return the grid.

        Raises:
            ConfigError: if the numbers do not fit the dimension.
        """
        points = (self.num_points,) * num_spatial_dims if isinstance(self.num_points, int) else self.num_points
        try:
            grid = Grid(points, self.extent, self.boundary)
            if grid.num_spatial_dims != num_spatial_dims:
                raise SignatureError(f"They are of {plural(grid.num_spatial_dims, 'axis', 'axes')}.")
        except SignatureError as error:
            box = f"a box of {plural(num_spatial_dims, 'axis', 'axes')}"
            raise ConfigError(f"num_points, extent and boundary do not make {box}: {error}") from error
        return grid


BOX_SETTINGS = tuple(BoxConfig.model_fields)


class Curriculum(Config):
    """Easier problems that come first: a knob that changes in stages, the last of which are the system's own.

    After Krishnapriyan et al., arXiv:2109.01050, section 5, who raise the coefficient of an equation while a network is
    trained by it. It serves any system and any objective.

    Args:
        knob: of the system.
        values: what it is in each stage before the last: a number or a range, ``[low, high]``, each.
        steps: of training, that each of these stages lasts.
    """

    knob: str
    values: tuple[Any, ...] = Field(min_length=1)
    steps: int = Field(ge=1)

    def stages(self, system: SystemConfig) -> list[SystemConfig]:
        """Return the system of each stage, itself in the last.

        Raises:
            ConfigError: if it has no such knob, or cannot take a value of it.
        """
        made = []
        for value in self.values:
            stage = system.model_copy(update={"knobs": {**system.knobs, self.knob: value}})
            try:
                stage.build()
            except ConfigError as error:
                raise ConfigError(f"data.curriculum: {error}") from error
            made.append(stage)
        return [*made, system]


class DataConfig(BoxConfig):
    """Where samples live and how many are set aside.

    Args:
        num_points, extent, boundary: of the box, as in `BoxConfig`; a store has its own.
        store: folder of a store to train on; absent: samples of the system.
        mapping: how foreign data at `store` are read where they lie; absent: it is a store of our own.
        history: of trajectories, input frames of a sample.
        horizon: of trajectories, target frames of a sample: with several the operator marches and learns from them all.
        stride: of trajectories, frames from one frame of a sample to the next.
        leads: of trajectories and a single target, how many lead times: one stride, two, … each a sample of its own.
        observed: of several targets, whether each is asked for when the true ones before it are known (teacher forcing,
            one step ahead all along); else the operator marches from its own answers.
        stations: of trajectories, at how many points the input frames are seen, other ones in every sample; 0:
            everywhere.
        station_spacing: they stand at every so many-th point of each axis.
        windows_per_trajectory: of fresh trajectories, how many samples of a step are taken from each one that is drawn.
        same_knobs: how many problems to train on, one behind the other, share the knobs of their system, so that each
            can be an example for the others of what is not told; absent: knobs are drawn for each.
        curriculum: of a system, easier problems to train on first, see `Curriculum`; absent: none.
        stream_blocks: independent draws that a step's fresh samples are made of; with several, each process that trains
            makes only its own. Another number draws other samples.
        temperature: of a mixture of stores, how their sizes weigh in: a store of n training samples has a share of
            weight · n^(1/temperature), so that 1 shows all samples alike often, and more brings small stores nearer to
            the large ones. Absent: weights alone.
        num_samples: distinct samples to train on, drawn once and gone over in epochs; absent: fresh ones at every step.
        num_solved: how many of `num_samples` have solutions; the others are never solved, and each batch holds as many
            of either kind. 0: none has, for an objective that reads none. Absent: all have.
        num_validation_samples: samples that only score; of trajectories that many windows, from all over.
        num_normalization_samples: samples the normalization is fitted on; of trajectories windows, from all over.
    """

    store: str | None = None
    mapping: DataMapping | None = None
    history: int = Field(1, ge=1)
    horizon: int = Field(1, ge=1)
    stride: int = Field(1, ge=1)
    leads: int = Field(1, ge=1)
    observed: bool = False
    stations: int = Field(0, ge=0)
    station_spacing: int = Field(1, ge=1)
    windows_per_trajectory: int = Field(4, ge=1)
    same_knobs: int | None = Field(None, ge=2)
    curriculum: Curriculum | None = None
    stream_blocks: int = Field(1, ge=1)
    temperature: float | None = Field(None, gt=0, allow_inf_nan=False)
    num_samples: int | None = Field(None, ge=1)
    num_solved: int | None = Field(None, ge=0)
    num_validation_samples: int = Field(256, ge=1)
    num_normalization_samples: int = Field(512, ge=2)

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if self.store is not None and self.num_samples is not None:
            raise ValueError("num_samples draws from a system; a store is trained on whole, so give one of the two")
        return self

    @property
    def window(self) -> Window:
        """Which frames of a trajectory make a sample."""
        return Window(**{name: getattr(self, name) for name in WINDOW_SETTINGS})

    def check(self, *, drawn_alone: bool = True, mixes_stores: bool = False, evolves: bool = False) -> None:
        """Refuse what would have no effect.

        Args:
            drawn_alone: whether samples are drawn from one system.
            mixes_stores: whether members of a mixture are stores.
            evolves: whether a system is sampled that evolves in time.

        Raises:
            ConfigError: names the first such setting.
        """
        stored = self.store is not None
        has_frames = stored or mixes_stores or evolves
        idle: list[tuple[bool, tuple[str, ...], str]] = [
            (stored or mixes_stores, BOX_SETTINGS, "a store has its own grid"),
            (stored, ("stream_blocks",), "a store is read and not drawn"),
            (stored or mixes_stores, ("same_knobs",), "nobody says which samples of a store share knobs"),
            (not stored, ("mapping",), "it says how data.store is read, and there is none"),
            (not drawn_alone, ("curriculum",), "it changes a knob of [system]"),
            (not mixes_stores, ("temperature",), "it weighs the stores of a mixture by their sizes"),
            (not has_frames, WINDOW_SETTINGS, "it counts frames of trajectories: there are none"),
            (not evolves, ("windows_per_trajectory",), "no trajectories are drawn"),
            (self.num_samples is not None, ("stream_blocks",), "data.num_samples are drawn once"),
        ]
        idle += [
            (stored, ("num_solved",), "a store is trained on whole, with the solutions it has"),
            (
                self.num_samples is None,
                ("num_solved",),
                "it counts some of data.num_samples, and fresh ones are endless",
            ),
        ]
        if self.num_samples is not None and (self.num_solved or 0) > self.num_samples:
            raise ConfigError(
                f"data.num_solved = {self.num_solved} is more than data.num_samples = {self.num_samples}, of which so "
                "many have solutions. Lower it."
            )
        for holds, names, why in idle:
            if holds:
                refuse_idle(self, names, why, prefix="data.")

    def at(self, store: str, mapping: Mapping[str, Any] | None = None) -> DataConfig:
        """Return the settings that train on a store instead of on drawn samples: the grid is the store's.

        Raises:
            ConfigError: if there are settings of drawn samples that a store has no counterpart of.
        """
        tree = {**self.to_dict(), "store": store, **({} if mapping is None else {"mapping": mapping})}
        rest = {name: value for name, value in tree.items() if name not in BOX_SETTINGS}
        return build_config(DataConfig, rest, source="data of the recipe")
