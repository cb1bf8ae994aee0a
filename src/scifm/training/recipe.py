"""What a recipe may say: the tables shared by every training command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from scifm.config import Config, build_config, refuse_idle
from scifm.data.formats.mapping import DataMapping
from scifm.data.importing import open_store
from scifm.data.mixture import MixtureMember
from scifm.data.store import Store
from scifm.errors import ConfigError, SignatureError
from scifm.fields.grid import Grid
from scifm.models.operator import OperatorConfig
from scifm.models.registry import DEFAULT_KIND, operator_class, settings_of, settings_of_size
from scifm.systems.catalog import system_from_dict
from scifm.systems.system import System
from scifm.training.loop import TrainingConfig

__all__ = ["DataConfig", "MixtureConfig", "ModelConfig", "SystemConfig", "refuse_beside_candidates"]


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
    """A system of a mixture.

    Args:
        name: key in ``scifm.systems.SYSTEMS``.
        knobs: as for `SystemConfig`.
        options: as for `SystemConfig`.
        weight: its share of the samples, relative to the others'.
        loss_weight: how much each of its samples counts in the loss.
    """

    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    loss_weight: float = Field(1.0, gt=0, allow_inf_nan=False)

    def member(self) -> MixtureMember:
        """Return the member described here.

        Raises:
            ConfigError: if a name is unknown or a range is not valid.
        """
        return MixtureMember(self.build(), self.weight, self.loss_weight)


class DataConfig(Config):
    """Where samples live and how many are set aside.

    Args:
        num_points: points a side, one number or one per axis (y, x); a store has its own grid.
        extent: length of the box, one number or one per axis (y, x); a store has its own grid.
        store: folder of a store to train on; absent: samples of the system.
        mapping: how foreign data at `store` are read where they lie; absent: it is a store of our own.
        stride: of a store of trajectories, frames from input to target.
        stream_blocks: independent draws that a step's fresh samples are made of; with several, each process that trains
            makes only its own. Another number draws other samples.
        num_samples: distinct samples to train on, drawn once and gone over in epochs; absent: fresh ones at every step.
        num_validation_samples: samples that only score; of a store of trajectories that many windows, from all over.
        num_normalization_samples: samples the normalization is fitted on; of trajectories windows, from all over.
    """

    num_points: int | tuple[int, ...] = 64
    extent: float | tuple[float, ...] = 1.0
    store: str | None = None
    mapping: DataMapping | None = None
    stride: int = Field(1, ge=1)
    stream_blocks: int = Field(1, ge=1)
    num_samples: int | None = Field(None, ge=1)
    num_validation_samples: int = Field(256, ge=1)
    num_normalization_samples: int = Field(512, ge=2)

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if self.store is not None and self.num_samples is not None:
            raise ValueError("num_samples draws from a system; a store is trained on whole, so give one of the two")
        return self

    def check(self) -> None:
        """Refuse what would have no effect.

        Raises:
            ConfigError: names the first such setting.
        """
        idle: list[tuple[bool, tuple[str, ...], str]] = [
            (self.store is not None, ("num_points", "extent"), "a store has its own grid"),
            (self.store is not None, ("stream_blocks",), "a store is read and not drawn"),
            (self.store is None, ("mapping",), "it says how data.store is read, and there is none"),
            (self.store is None, ("stride",), "it counts frames of a store of trajectories, and there is none"),
            (self.num_samples is not None, ("stream_blocks",), "data.num_samples are drawn once"),
        ]
        for holds, names, why in idle:
            if holds:
                refuse_idle(self, names, why, prefix="data.")

    def at(self, store: str, mapping: Mapping[str, Any] | None = None) -> DataConfig:
        """Return the settings that train on a store instead of on drawn samples: the grid is the store's.

        Raises:
            ConfigError: if there are settings of drawn samples that a store has no counterpart of.
        """
        tree = {**self.to_dict(), "store": store, **({} if mapping is None else {"mapping": mapping})}
        kept = {name: value for name, value in tree.items() if name not in ("num_points", "extent")}
        return build_config(DataConfig, kept, source="data of the recipe")

    def open_store(self) -> Store:
        """Return the store; there has to be one.

        Raises:
            StoreError, DataError, ConfigError: if it cannot be read.
        """
        assert self.store is not None
        return open_store(self.store, self.mapping)

    def grid(self, num_spatial_dims: int) -> Grid:
        """Return the periodic grid described here.

        Raises:
            ConfigError: if the numbers do not fit the dimension.
        """
        points = (self.num_points,) * num_spatial_dims if isinstance(self.num_points, int) else self.num_points
        extent = self.extent if isinstance(self.extent, tuple) else (self.extent,) * num_spatial_dims
        try:
            return Grid(points, extent, (True,) * num_spatial_dims)
        except SignatureError as error:
            raise ConfigError(f"data.num_points and data.extent: {error}") from error


class ModelConfig(Config):
    """The operator: one dial of size, or every setting.

    Args:
        kind: a name of ``scifm.models.OPERATORS``; taken from `network` where that is a configuration already.
        size: a name of ``scifm.models.SIZES``, for a kind that has sizes.
        network: settings of that kind, instead of `size`.
        normalization: how numbers are brought to order one; see ``scifm.data.fit_normalization``.
    """

    kind: str = DEFAULT_KIND
    size: str | None = None
    network: SerializeAsAny[OperatorConfig] | None = None
    normalization: Literal["homogeneous", "joint", "constant"] = "homogeneous"

    @model_validator(mode="before")
    @classmethod
    def _kind_of_settings(cls, value: Any) -> Any:
        if isinstance(value, dict) and "kind" not in value and isinstance(value.get("network"), OperatorConfig):
            return {**value, "kind": value["network"].kind}
        return value

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        operator_class(value)
        return value

    @field_validator("network", mode="before")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None or "kind" not in info.data:  # a kind nobody knows is told alone
            return None
        return settings_of(info.data["kind"], value)

    @model_validator(mode="after")
    def _one_of_two(self) -> ModelConfig:
        has_sizes = bool(operator_class(self.kind).config_class.sizes)
        if self.size is not None and not has_sizes:
            raise ValueError(f"a '{self.kind}' comes in no sizes; say what it is in model.network")
        if self.size is not None and self.network is not None:
            raise ValueError("give either size or network, not both")
        if self.network is None and not has_sizes:
            raise ValueError(f"kind '{self.kind}' needs its settings: give [model.network]")
        return self

    def resolve(self) -> OperatorConfig:
        """Return the complete architecture.

        Raises:
            ConfigError: if the size is unknown.
        """
        return self.network or settings_of_size(self.size or "small", self.kind)


def refuse_beside_candidates(training: TrainingConfig) -> None:
    """Refuse settings of a training that have no effect where candidates of learning rates are tried.

    Raises:
        ConfigError: names the first of them.
    """
    for name, why in (
        ("learning_rate", "candidates stand in learning_rates"),
        ("patience", "adapting trains on all samples and validates on none"),
        ("validation_metric", "adapting trains on all samples and validates on none"),
        ("strategy", "one process adapts"),
    ):
        refuse_idle(training, (name,), why, prefix="training.")
