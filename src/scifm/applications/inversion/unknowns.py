"""What is asked for, as numbers without bounds: sources, coefficients, fields; each with what is believed beforehand.

Every unknown is a function of numbers z that are standard normal beforehand, so −log prior is ½|z|² for all of them.

    sources        Σ a exp(−|x − x₀|²/2w²), x₀ uniform in the box, around and around where it is periodic; log a normal
                   about the largest value that inputs have usually, with a factor of e up and down; the mean is taken
                   away where inputs have none
    coefficients   those of problems that the system of the run draws: log c where all are positive, c else; jointly
                   normal, as such problems say
    field          the mean of such problems and their principal components

So beliefs are those of the knobs that the network was trained with: what lies far outside of them it does not know.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError, DataError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid

__all__ = ["Coefficients", "FieldOf", "Sources", "Unknown", "Unknowns"]

_FACTOR = 1.0  # standard deviation of the logarithm of a source's height
_NO_MEAN = 1e-4  # of their size: inputs of that little mean have none
_FEWEST = 16  # problems that beliefs are made of


class Unknown(abc.ABC):
    """One thing that is asked for.

    Attributes:
        size: how many numbers z it takes.
    """

    size: int

    @abc.abstractmethod
    def of(self, z: Float[Tensor, "batch size"]) -> dict[str, Tensor]:
        """Return inputs ``(batch, y, x)`` and coefficients ``(batch,)`` by name; differentiable."""

    @abc.abstractmethod
    def told(self, z: Float[Tensor, "batch size"]) -> dict[str, Tensor]:
        """Return the numbers that people ask for, ``(batch,)`` each."""

    def start(self, count: int, generator: torch.Generator) -> Float[Tensor, "count size"]:
        """Return places to begin from, as believed."""
        return torch.randn(count, self.size, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class Sources(Unknown):
    """Some sources in an input field.

    Args:
        name: of the field.
        num: sources.
        width: w of each, a standard deviation [L].
        usual: largest value that such inputs have usually.
        zero_mean: whether inputs have no mean.
        grid: where.
    """

    name: str
    num: int
    width: float
    usual: float
    zero_mean: bool
    grid: Grid

    @classmethod
    def like(cls, name: str, usual: Batch, num: int, width: float | None = None) -> Sources:
        """Return sources as large as such inputs usually are.

        Args:
            name: of the field.
            usual: problems that say so.
            num: sources.
            width: of each; None: 1/32 of the shorter side.
        """
        fields, grid = usual.field(name)[:, -1].double(), usual.grid
        mean = float(fields.mean((1, 2)).abs().max() / fields.square().mean().sqrt())
        largest = float(fields.amax((1, 2)).median())
        return cls(name, num, width or min(grid.extent) / 32, largest, mean < _NO_MEAN, grid)

    @property
    def size(self) -> int:  # type: ignore[override]
        """Two numbers for the place of each, one for its height."""
        return 3 * self.num

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return places ``(batch, source, 2)``, (y, x), and heights ``(batch, source)``."""
        own = z.view(len(z), self.num, 3)
        # around a periodic axis a normal number of sides is uniform but for 5e-9, and a search meets no end
        along = [own[..., k] if self.grid.periodic[k] else torch.special.ndtr(own[..., k]) for k in (0, 1)]
        sides = torch.tensor(self.grid.extent, dtype=z.dtype)
        return torch.stack(along, dim=-1) * sides, self.usual * torch.exp(_FACTOR * own[..., 2])

    def of(self, z: Float[Tensor, "batch size"]) -> dict[str, Tensor]:
        places, heights = self._parts(z)
        lines = []
        for axis, points in enumerate(self.grid.coordinates()):
            side, wraps = self.grid.extent[axis], self.grid.periodic[axis]
            place = places[..., axis].remainder(side) if wraps else places[..., axis]
            off = points.to(z) - place[..., None]  # (batch, source, point)
            images = (-1, 0, 1) if wraps else (0,)
            lines.append(
                torch.stack([torch.exp(-0.5 * ((off + k * side) / self.width).square()) for k in images]).sum(0)
            )
        field = torch.einsum("bs,bsy,bsx->byx", heights, lines[0], lines[1])
        return {self.name: field - field.mean((1, 2), keepdim=True) if self.zero_mean else field}

    def told(self, z: Float[Tensor, "batch size"]) -> dict[str, Tensor]:
        """Return places and heights; around a periodic axis places are those within half a side of the first one."""
        places, heights = self._parts(z)
        sides = torch.tensor(self.grid.extent, dtype=z.dtype)
        first = places[:1].remainder(sides)
        near = first + (places - first + sides / 2).remainder(sides) - sides / 2
        places = torch.where(torch.tensor(self.grid.periodic), near, places)
        numbers: dict[str, Tensor] = {}
        for k in range(self.num):
            end = "" if self.num == 1 else f" {k + 1}"
            numbers |= {f"source{end}, x": places[:, k, 1], f"source{end}, y": places[:, k, 0]}
            numbers |= {f"source{end}, height": heights[:, k]}
        return numbers


class Coefficients(Unknown):
    """Some coefficients, jointly.

    Args:
        names: of the coefficients.
        usual: problems that say what is believed.
    """

    def __init__(self, names: Sequence[str], usual: Batch) -> None:
        self.names = tuple(names)
        values = torch.stack([usual.coefficient(name).double() for name in self.names], dim=1)
        _require_enough(values)
        self.positive = (values > 0).all(dim=0)
        placed = self._placed(values)
        self.mean = placed.mean(0)
        covariance = torch.cov(placed.T).reshape(len(self.names), -1)
        variances, turned = torch.linalg.eigh(covariance)
        kept = variances > 1e-12 * variances.max().clamp(min=1e-300)
        self.basis = turned[:, kept] * variances[kept].sqrt()  # one that never changes is what it is
        self.size = int(kept.sum())
        self._starts = torch.linalg.lstsq(self.basis, (placed - self.mean).T).solution.T

    def _placed(self, values: Tensor) -> Tensor:
        return torch.where(self.positive, values.clamp(min=1e-300).log(), values)

    def _values(self, z: Tensor) -> Tensor:
        placed = self.mean.to(z) + z @ self.basis.T.to(z)
        return torch.where(self.positive, placed.exp(), placed)

    def of(self, z: Float[Tensor, "batch size"]) -> dict[str, Tensor]:
        return dict(zip(self.names, self._values(z).unbind(1), strict=True))

    def told(self, z: Float[Tensor, "batch size"]) -> dict[str, Tensor]:
        return self.of(z)

    def start(self, count: int, generator: torch.Generator) -> Float[Tensor, "count size"]:
        """Return places of problems that were drawn: coefficients that belong together."""
        return self._starts[torch.randint(len(self._starts), (count,), generator=generator)].clone()


class FieldOf(Unknown):
    """An input field, such as a medium.

    Args:
        name: of the field.
        usual: problems that say what is believed, on the grid of the question.
        num_components: principal components.
    """

    def __init__(self, name: str, usual: Batch, num_components: int) -> None:
        fields = usual.field(name)[:, -1].double()
        _require_enough(fields)
        self.name, self.shape = name, tuple(fields.shape[1:])
        flat = fields.flatten(1)
        self.mean = flat.mean(0)
        _, sizes, rows = torch.linalg.svd(flat - self.mean, full_matrices=False)
        self.size = min(num_components, len(fields) - 1)
        self.basis = rows[: self.size] * (sizes[: self.size] / math.sqrt(len(fields) - 1))[:, None]
        self.explained = float(sizes[: self.size].square().sum() / sizes.square().sum())

    def of(self, z: Float[Tensor, "batch size"]) -> dict[str, Tensor]:
        return {self.name: (self.mean.to(z) + z @ self.basis.to(z)).view(len(z), *self.shape)}

    def told(self, z: Float[Tensor, "batch size"]) -> dict[str, Tensor]:
        field = self.of(z)[self.name].flatten(1)
        return {f"{self.name}, mean": field.mean(1), f"{self.name}, largest": field.amax(1)}


class Unknowns(Unknown):
    """Several unknowns side by side."""

    def __init__(self, parts: Sequence[Unknown]) -> None:
        self.parts = tuple(parts)
        self.size = sum(part.size for part in self.parts)

    def _split(self, z: Tensor) -> tuple[Tensor, ...]:
        return z.split([part.size for part in self.parts], dim=1)

    def of(self, z: Float[Tensor, "batch size"]) -> dict[str, Tensor]:
        return _joined(part.of(own) for part, own in zip(self.parts, self._split(z), strict=True))

    def told(self, z: Float[Tensor, "batch size"]) -> dict[str, Tensor]:
        return _joined(part.told(own) for part, own in zip(self.parts, self._split(z), strict=True))

    def start(self, count: int, generator: torch.Generator) -> Float[Tensor, "count size"]:
        return torch.cat([part.start(count, generator) for part in self.parts], dim=1)


def _joined(parts: object) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for part in parts:  # type: ignore[attr-defined]
        assert isinstance(part, Mapping)
        made |= part
    return made


def _require_enough(values: Tensor) -> None:
    if len(values) < _FEWEST:
        raise DataError(
            f"What is believed of an unknown is told by problems like those of the training; {len(values)} are there, "
            f"and {_FEWEST} are the fewest. Give --set num_usual=… or a larger store."
        )
    if not bool(torch.isfinite(values).all()):
        raise ConfigError("Problems of the training have missing points, and an unknown field has none.")
