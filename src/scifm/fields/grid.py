"""Uniform grids: where the numbers of a field sit.

Axes are listed in array order. In two dimensions that is ``(y, x)``: **x runs along the last axis**. A periodic
axis holds its left end point and not its right one; any other axis holds both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scifm.config import Plain
from scifm.errors import SignatureError

__all__ = ["Grid"]

_AXIS_NAMES = {1: ("x",), 2: ("y", "x"), 3: ("z", "y", "x")}


@dataclass(frozen=True)
class Grid(Plain):
    """A uniform grid of one to three axes.

    Args:
        num_points: points per axis, in array order (x last).
        extent: physical length per axis, same order.
        periodic: whether each axis wraps around.

    Raises:
        SignatureError: if the three do not have the same length of 1 to 3, or hold impossible numbers.
    """

    num_points: tuple[int, ...]
    extent: tuple[float, ...]
    periodic: tuple[bool, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.num_points), len(self.extent), len(self.periodic)}
        if len(lengths) != 1 or not 1 <= len(self.num_points) <= 3:
            raise SignatureError(
                f"A grid needs num_points, extent and periodic of the same length 1, 2 or 3; got {self.num_points}, "
                f"{self.extent}, {self.periodic}."
            )
        if any(n < 2 for n in self.num_points) or any(not 0 < e < float("inf") for e in self.extent):
            raise SignatureError(
                f"A grid needs at least 2 points and a positive finite extent on every axis; got {self.num_points} "
                f"points on {self.extent}."
            )

    @classmethod
    def square(cls, num_points: int, *, num_spatial_dims: int = 2, extent: float = 1.0) -> Grid:
        """Return the periodic grid with the same number of points and extent on every axis."""
        d = num_spatial_dims
        return cls((num_points,) * d, (float(extent),) * d, (True,) * d)

    @property
    def num_spatial_dims(self) -> int:
        return len(self.num_points)

    @property
    def told_points(self) -> str:
        """The points in words: ``40 × 66 points``."""
        return " × ".join(map(str, self.num_points)) + " points"

    @property
    def told(self) -> str:
        """The grid in words: ``40 × 66 points on a box of 1 × 1.3, periodic along x``."""
        wraps = [name for name, wraps in zip(self.axis_names, self.periodic, strict=True) if wraps]
        ends = "not periodic" if not wraps else "periodic along " + " and ".join(wraps)
        return f"{self.told_points} on a box of {' × '.join(f'{side:g}' for side in self.extent)}, {ends}"

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names in array order: ``("y", "x")`` in two dimensions."""
        return _AXIS_NAMES[self.num_spatial_dims]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring points per axis."""
        cells = (n if p else n - 1 for n, p in zip(self.num_points, self.periodic, strict=True))
        return tuple(e / c for e, c in zip(self.extent, cells, strict=True))

    def coordinates(self, *, dtype: torch.dtype = torch.float64, device: Any = None) -> tuple[Tensor, ...]:
        """Return one 1-D coordinate tensor per axis, starting at 0."""
        return tuple(
            torch.arange(n, dtype=dtype, device=device) * h for n, h in zip(self.num_points, self.spacing, strict=True)
        )

    def axes_of(self, field: Tensor) -> tuple[int, ...]:
        """Return the axes of space of a field ``(..., *space)``, counted from its last.

        Raises:
            SignatureError: if the field does not live on this grid.
        """
        dims = self.num_spatial_dims
        if tuple(field.shape[-dims:]) != self.num_points:
            raise SignatureError(f"The field's last axes must be {self.num_points}; got shape {tuple(field.shape)}.")
        return tuple(range(-dims, 0))

    def resized(self, num_points: tuple[int, ...]) -> Grid:
        """Return the same box with another number of points."""
        return Grid(tuple(num_points), self.extent, self.periodic)
