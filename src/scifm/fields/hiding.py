"""`Hiding`: what a sample keeps to itself of its own input fields, and under which names these are asked for.

An operator that has no solutions can learn to tell whole fields from what it is shown of them. The whole fields stand
as targets under names of their own (`signature_of_whole`), so that a head that gives them back is never taken for one
that solves; the sample is asked with points that count for nothing, and blurred (`Hiding`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scifm.config import Plain
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.seeds import generator_for
from scifm.wording import hidden_text, plural

__all__ = ["Hiding", "scalings_of_whole", "signature_of_whole", "whole_name"]

_LEAST_SEEN = 1e-2  # of a field's mean square: where less is left to see, other points are hidden
_MOST_DRAWS = 20  # of masks; a field that is zero but for a few points may never be seen
_REACH = 4.0  # of a blur, in its standard deviations


def whole_name(name: str) -> str:
    """Return what an input field is called where it is asked for as a whole."""
    return f"{name}_whole"


def signature_of_whole(names: Signature) -> Signature:
    """Return the names of the steady problem whose answers are the input fields of another one."""
    return replace(names, outputs=tuple(map(whole_name, names.inputs)), evolves=False)


def scalings_of_whole(scalings: Sequence[Homogeneity], names: Signature) -> tuple[Homogeneity, ...]:
    """Return the scalings of a problem as those of `signature_of_whole`: whole fields scale as the fields do.

    Args:
        scalings: of the problem.
        names: of the problem.
    """
    given = (*names.inputs, *names.coefficients)

    def of_whole(scaling: Homogeneity) -> Homogeneity:
        kept = [(name, power) for name, power in scaling.exponents if name in given]
        kept += [(whole_name(name), power) for name, power in kept if name in names.inputs]
        parts = tuple(map(of_whole, scaling.parts))
        return replace(scaling, exponents=tuple(kept), parts=parts, fields=())

    return tuple(map(of_whole, scalings))


@dataclass(frozen=True)
class Hiding(Plain):
    """Which points of the input fields are hidden, and how these are blurred before.

    Args:
        ratio: part of the points that is hidden, rounded down, from 0 to less than 1; the same points of all fields of
            a sample.
        patch: points a side of what is hidden at once: 1 hides single points.
        blur: the lowest and the highest standard deviation, in points, of the Gaussian that a sample's fields are
            blurred with, drawn for each; None: they are not. It wraps where an axis does, and is mirrored at ends.

    Raises:
        ConfigError: if a number is not allowed.
    """

    ratio: float = 0.0
    patch: int = 1
    blur: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise ConfigError(
                f"ratio is the part of the points that is hidden, from 0 to less than 1; got {self.ratio:g}"
            )
        if self.patch < 1:
            raise ConfigError(f"patch counts points a side and is at least 1; got {self.patch}")
        if self.blur is not None and not 0 <= self.blur[0] <= self.blur[1] < math.inf:
            low, high = self.blur
            raise ConfigError(
                "blur is the lowest and the highest standard deviation in points, 0 or more and the lower one first; "
                f"got {low:g} and {high:g}"
            )

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().to_dict().items() if value is not None}  # TOML has no nothing

    @property
    def told(self) -> str:
        """What is hidden, in words."""
        return hidden_text(self.ratio, self.patch, self.blur)

    def require_grid(self, grid: Grid) -> None:
        """Check that it can be done on a grid.

        Raises:
            ConfigError: if patches do not fill an axis, no point would be hidden, or the blur is wider than the box.
        """
        uneven = [points for points in grid.num_points if points % self.patch]
        if self.ratio and uneven:
            raise ConfigError(
                f"patch = {self.patch} does not divide the {uneven[0]} points of an axis, and patches fill the grid of "
                f"{grid.told_points}. Give a number that divides all of them."
            )
        if self.ratio and not self.num_hidden(grid):
            raise ConfigError(
                f"ratio = {self.ratio:g} of {math.prod(self._patches(grid))} patches of {plural(self.patch, 'point')} "
                "a side hides none. Give a larger ratio, a smaller patch, or ratio = 0."
            )
        if self.blur is not None and self.blur[1] > max(grid.num_points):
            raise ConfigError(
                f"A blur of {self.blur[1]:g} points is wider than the grid of {grid.told_points}. Give a smaller one."
            )

    def num_hidden(self, grid: Grid) -> int:
        """Return how many points of a field are hidden."""
        # a ratio of 0.29 of 100 is 29, whatever its binary digits say
        return math.floor(round(self.ratio * math.prod(self._patches(grid)), 9)) * self.patch**grid.num_spatial_dims

    def _patches(self, grid: Grid) -> tuple[int, ...]:
        return tuple(points // self.patch for points in grid.num_points)

    def of(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return samples as they are asked: blurred, hidden points missing, and those alone to be answered.

        Where nothing is hidden every point is to be answered. A mask that leaves less than a hundredth of the mean
        square of a field to be seen is drawn again, up to 20 times: what is not seen has no size.

        Args:
            batch: whole samples, their fields as targets too.
            generator: on the device of the batch.

        Raises:
            ConfigError: as `require_grid`.
        """
        self.require_grid(batch.grid)
        asked = batch if self.blur is None else replace(batch, inputs=self._blurred(batch, generator))
        if not self.ratio:
            return asked
        hidden = self._hidden(batch, generator)
        there, wanted = ~hidden[:, None, None].expand_as(batch.inputs), hidden[:, None, None]
        wanted = wanted.expand_as(batch.require_targets())
        valid, known = batch.valid_inputs, batch.valid_targets
        return replace(
            asked,
            valid_inputs=there if valid is None else there & valid,
            valid_targets=wanted if known is None else wanted & known,
        )

    def of_each(self, batch: Batch, numbers: Sequence[int], seed: int = 0) -> Batch:
        """Return samples as they are scored: what is hidden of each hangs on its number alone.

        Raises:
            ConfigError: as `require_grid`.
        """
        each = []
        for place, number in enumerate(numbers):
            generator = generator_for(seed, "hidden", number, device=batch.inputs.device)
            each.append(self.of(batch.select(slice(place, place + 1)), generator))
        return Batch.concatenate(each) if each else batch

    # --- masks --------------------------------------------------------------------------------------------------------

    def _hidden(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return which points are hidden, ``(batch, *space)``."""
        hidden = self._drawn(batch.num_samples, batch, generator)
        for _ in range(_MOST_DRAWS):
            again = _unseen(batch, hidden).nonzero().flatten()
            if not len(again):
                break
            hidden[again] = self._drawn(len(again), batch, generator)
        return hidden

    def _drawn(self, count: int, batch: Batch, generator: torch.Generator) -> Tensor:
        patches, axes = self._patches(batch.grid), batch.grid.num_spatial_dims
        num_hidden = self.num_hidden(batch.grid) // self.patch**axes
        order = torch.rand(count, math.prod(patches), generator=generator, device=generator.device).argsort(dim=1)
        hidden = torch.zeros(order.shape, dtype=torch.bool, device=order.device)
        hidden = hidden.scatter_(1, order[:, :num_hidden], True).view(count, *patches)
        for axis in range(1, 1 + axes if self.patch > 1 else 1):
            hidden = hidden.repeat_interleave(self.patch, dim=axis)
        return hidden

    # --- blur ---------------------------------------------------------------------------------------------------------

    def _blurred(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the inputs blurred; of fields with missing points over those that are there."""
        assert self.blur is not None
        low, high = self.blur
        drawn = torch.rand(batch.num_samples, generator=generator, device=generator.device, dtype=torch.float64)
        widths = low + (high - low) * drawn
        reach = math.ceil(_REACH * high)
        away = torch.arange(-reach, reach + 1, device=widths.device)
        # of no width all but the middle are zero, and no division by zero is made of it
        weights = torch.exp(-0.5 * (away / widths.clamp(min=1e-6)[:, None]) ** 2)
        weights = (weights / weights.sum(dim=1, keepdim=True)).to(batch.inputs)
        fields, valid = batch.inputs, batch.valid_inputs
        if valid is None:
            return _along_all_axes(fields, weights, batch.grid)
        share = _along_all_axes(valid.to(fields), weights, batch.grid)
        blurred = _along_all_axes(torch.where(valid, fields, 0.0), weights, batch.grid)
        return torch.where(valid, blurred / share.clamp(min=torch.finfo(share.dtype).tiny), fields)


def _unseen(batch: Batch, hidden: Tensor) -> Tensor:
    """Return of which samples too little is left to see, ``(batch,)``."""
    square, valid = batch.inputs.square(), batch.valid_inputs
    square = square if valid is None else torch.where(valid, square, 0.0)
    whole = square.flatten(3).mean(-1)
    left = torch.where(hidden[:, None, None], 0.0, square).flatten(3).mean(-1)
    seen = 1 - hidden.flatten(1).float().mean(dim=1).view(-1, 1, 1)
    return ((left < _LEAST_SEEN * seen * whole) & (whole > 0)).flatten(1).any(dim=1)


def _along_all_axes(fields: Tensor, weights: Tensor, grid: Grid) -> Tensor:
    """Return fields ``(batch, time, channel, *space)`` folded along each axis with weights ``(batch, 2·reach + 1)``."""
    reach = (weights.shape[1] - 1) // 2
    by_sample: Any = (-1, *(1,) * (fields.dim() - 1))
    for axis, (points, wraps) in enumerate(zip(grid.num_points, grid.periodic, strict=True), start=3):
        places = torch.arange(-reach, points + reach, device=fields.device)
        if wraps:
            places = places % points
        else:  # the end itself is not repeated
            places = (places % (2 * (points - 1))).sub(points - 1).abs().neg().add(points - 1)
        wide = fields.index_select(axis, places)
        parts = (wide.narrow(axis, at, points) * own.view(by_sample) for at, own in enumerate(weights.T))
        fields = sum(parts, torch.zeros_like(fields))
    return fields
