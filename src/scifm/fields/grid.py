"""Uniform grids: where the numbers of a field sit, and what stands at the ends of their axes.

Axes are listed in array order. In two dimensions that is ``(y, x)``: **x runs along the last axis**. A periodic
axis holds its left end point and not its right one; any other axis holds both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from pydantic import model_validator
from torch import Tensor

from scifm.config import Plain
from scifm.errors import SignatureError, suggest
from scifm.wording import box_text

__all__ = ["Boundary", "Grid"]

Boundary = Literal["periodic", "wall", "open", "bounded"]
"""What stands at both ends of an axis: its other end; a wall; nothing, so that what arrives there leaves; or it ends
there, and nobody says how."""

_AXIS_NAMES = {1: ("x",), 2: ("y", "x"), 3: ("z", "y", "x")}


@dataclass(frozen=True, init=False)
class Grid(Plain):
    """A uniform grid of one to three axes; or one place, where a series of numbers is known, see `place`.

    Args:
        num_points: points per axis, in array order (x last).
        extent: physical length per axis, same order; or one for all.
        boundary: what stands at the ends of each axis, same order: a `Boundary`, or True for ``"periodic"`` and False
            for ``"bounded"``; or one for all.

    Raises:
        SignatureError: if the three do not have the same length of 1 to 3, or hold impossible numbers or words.
    """

    num_points: tuple[int, ...]
    extent: tuple[float, ...]
    boundary: tuple[Boundary, ...]

    def __init__(
        self,
        num_points: Iterable[int],
        extent: float | Sequence[float] = 1.0,
        boundary: Boundary | bool | Sequence[Boundary | bool] = "periodic",
    ) -> None:
        points = tuple(num_points)
        sides = tuple(extent) if isinstance(extent, Sequence) else (float(extent),) * len(points)
        ends = (boundary,) * len(points) if isinstance(boundary, (str, bool)) else tuple(boundary)
        named = tuple(("periodic" if end else "bounded") if isinstance(end, bool) else end for end in ends)
        for name, value in (("num_points", points), ("extent", sides), ("boundary", named)):
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        lengths = {len(self.num_points), len(self.extent), len(self.boundary)}
        if len(lengths) != 1 or not 1 <= len(self.num_points) <= 3:
            raise SignatureError(
                f"A grid needs num_points, extent and boundary of the same length 1, 2 or 3; got {self.num_points}, "
                f"{self.extent}, {self.boundary}."
            )
        for end in self.boundary:
            if end not in get_args(Boundary):
                raise SignatureError(f"The boundary of an axis: {suggest(str(end), get_args(Boundary))}")
        too_few = any(n < 2 for n in self.num_points) and not self.is_place
        if too_few or any(not 0 < e < float("inf") for e in self.extent):
            raise SignatureError(
                f"A grid needs at least 2 points and a positive finite extent on every axis; got {self.num_points} "
                f"points on {self.extent}."
            )

    @model_validator(mode="before")
    @classmethod
    def _as_before(cls, entries: Any) -> Any:
        """Read what was written when a grid said no more than whether an axis is periodic."""
        if not isinstance(entries, dict) or "boundary" in entries or not isinstance(entries.get("periodic"), Sequence):
            return entries
        rest = {name: value for name, value in entries.items() if name != "periodic"}
        return {**rest, "boundary": ["periodic" if wraps else "bounded" for wraps in entries["periodic"]]}

    @classmethod
    def square(cls, num_points: int, *, num_spatial_dims: int = 2, extent: float = 1.0) -> Grid:
        """Return the periodic grid with the same number of points and extent on every axis."""
        d = num_spatial_dims
        return cls((num_points,) * d, extent)

    @classmethod
    def place(cls) -> Grid:
        """Return where series lie that know no space: one point, alike all around, so that nothing changes along x.

        A field there has the shape ``(…, 1)``: what holds of fields holds of numbers that change in time alone.
        """
        return cls((1,))

    @property
    def is_place(self) -> bool:
        """Whether it is one point and no more."""
        return self.num_points == (1,) and self.boundary == ("periodic",)

    @property
    def num_spatial_dims(self) -> int:
        return len(self.num_points)

    @property
    def told_points(self) -> str:
        """The points in words: ``40 × 66 points``."""
        return box_text(self.num_points)

    @property
    def told(self) -> str:
        """The grid in words: ``40 × 66 points on a box of 1 × 1.3, periodic along x, open along y``."""
        return box_text(self.num_points, self.extent, self.boundary)

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Whether each axis wraps around."""
        return tuple(end == "periodic" for end in self.boundary)

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
        return Grid(num_points, self.extent, self.boundary)
