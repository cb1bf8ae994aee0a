"""Stores of earthquakes: `make_events` draws them as `scifm generate` draws samples of an equation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from scifm.applications.early_warning.events import Events
from scifm.config import Config
from scifm.data.generate import generate
from scifm.data.store import Store
from scifm.fields.grid import Grid
from scifm.systems.knobs import Knob
from scifm.systems.media import RandomMedium

__all__ = ["EventRecipe", "make_events"]

_DEFAULT = Events()


class EventRecipe(Config):
    """Which earthquakes, of which region.

    Args:
        magnitude: lowest and highest moment magnitude.
        num_events: training events; validation and test get an eighth each. Or exact numbers by split.
        physics: ``acoustic``, or ``elastic`` by deepwave (extra ``waves``).
        region: number of the region: which medium it has.
        medium: ``random``, or ``layered`` along y.
        mean_speed: of the waves, of elastic ones that of shear [km/s].
        contrast: standard deviation of the logarithm of the speed.
        correlation_length: over which it changes [km].
        pulse_width: of a pulse [km].
        rupture_speed: over the mean speed of waves.
        num_points: points a side.
        spacing: from point to point [km].
        absorbing_layer: thickness of the layer at the ends of acoustic waves [km]; faults stay out of it.
        save_interval: time between frames [s].
        num_frames: frames of an event, the first when it begins.
        seed: of every draw but the region's.
    """

    magnitude: tuple[float, float] = (_DEFAULT.magnitude.low, _DEFAULT.magnitude.high)
    num_events: int | dict[str, int] = 256
    physics: Literal["acoustic", "elastic"] = "acoustic"
    region: int = Field(0, ge=0)
    medium: Literal["random", "layered"] = "random"
    mean_speed: float = Field(_DEFAULT.mean_speed, gt=0)
    contrast: float = Field(_DEFAULT.contrast, ge=0, lt=1)
    correlation_length: float = Field(_DEFAULT.correlation_length, gt=0)
    pulse_width: float = Field(_DEFAULT.pulse_width, gt=0)
    rupture_speed: float = Field(_DEFAULT.rupture_speed, gt=0)
    num_points: int = Field(64, ge=8)
    spacing: float = Field(1.0, gt=0)
    absorbing_layer: float = Field(_DEFAULT.absorbing_layer, gt=0)
    save_interval: float = Field(_DEFAULT.save_interval, gt=0)
    num_frames: int = Field(_DEFAULT.num_frames, ge=2)
    seed: int = 0

    @property
    def events(self) -> Events:
        """The system whose samples they are."""
        own = ("num_events", "num_points", "spacing", "seed", "magnitude", "medium")
        settings: dict[str, Any] = {name: value for name, value in self if name not in own}
        return Events(Knob(*self.magnitude), medium=RandomMedium(self.medium), **settings)

    @property
    def grid(self) -> Grid:
        """Where they are recorded."""
        return Grid((self.num_points,) * 2, self.spacing * (self.num_points - 1), "open")


def make_events(recipe: EventRecipe, path: str | Path, **more: Any) -> Store:
    """Make a store of earthquakes, or finish, repair or just open the one that is there.

    Args:
        recipe: which ones.
        path: its folder.
        more: ``progress`` and ``make_executor``, as of `scifm.data.generate.generate`.

    Raises:
        ConfigError: if the settings make no sense, or what marches elastic waves is not installed.
        SignatureError: if the box is too small or its points are too few.
        StoreError: if the folder holds something else, or cannot be written.
    """
    about: dict[str, Any] = {"num_samples": recipe.num_events, "seed": recipe.seed, "dtype": torch.float32}
    events = recipe.events
    if events.physics == "elastic":
        from scifm.applications.early_warning.elastic import require_deepwave

        require_deepwave()  # before a folder is begun
    return generate(events, path=path, grid=recipe.grid, **about, **more)
