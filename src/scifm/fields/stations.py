"""Stations: a few points at which fields are seen, other ones in every sample, as networks of instruments have them.

What lies between is missing (`Batch.valid_inputs`); what is asked for is known everywhere. Which points a sample is
seen at hangs on its number alone, so a training that is taken up again, and whoever scores, find the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for

__all__ = ["drawn_stations", "places_of_stations", "require_stations"]


def places_of_stations(grid: Grid, spacing: int) -> Tensor:
    """Return the points that stations can stand at, ``(place,)``, counted through the grid in array order.

    Args:
        grid: where the fields live.
        spacing: they stand at every so many-th point of each axis, from the first one on.
    """
    numbers = torch.arange(math.prod(grid.num_points)).view(grid.num_points)
    return numbers[tuple(slice(None, None, spacing) for _ in grid.num_points)].flatten()


def require_stations(num_stations: int, spacing: int, grid: Grid) -> None:
    """Check that there are so many places.

    Raises:
        ConfigError: if there are fewer.
    """
    places = math.prod(-(-points // spacing) for points in grid.num_points)
    if num_stations > places:
        apart = "" if spacing == 1 else f", of which one of {spacing} along each axis has a place for one"
        raise ConfigError(
            f"{num_stations} stations do not fit on the grid of {grid.told_points}{apart}: {places} at most. "
            "Give fewer stations, or a smaller station_spacing."
        )


def drawn_stations(num_stations: int, spacing: int, grid: Grid, numbers: Sequence[int], *, seed: int = 0) -> Tensor:
    """Return at which points samples are seen, ``(sample, *space)`` bool, `num_stations` of each.

    Args:
        num_stations: of each sample.
        spacing: see `places_of_stations`.
        grid: where the fields live.
        numbers: of the samples; the same number has the same stations.
        seed: of the draws.

    Raises:
        ConfigError: if there are not so many places.
    """
    require_stations(num_stations, spacing, grid)
    places = places_of_stations(grid, spacing)
    seen = torch.zeros(len(numbers), math.prod(grid.num_points), dtype=torch.bool)
    for row, number in enumerate(numbers):
        order = torch.randperm(len(places), generator=generator_for(seed, "stations", int(number)))
        seen[row, places[order[:num_stations]]] = True
    return seen.view(len(numbers), *grid.num_points)
