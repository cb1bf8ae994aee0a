"""What an equation asks of a network of coordinates, and at which points: parts of `Collocation`.

Points are places of the grid of the samples, where their fields are known, at any times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.term import Term
from scifm.models.coordinate import Coordinate
from scifm.models.parts.points import Asked, PointDerivatives, Points
from scifm.systems.term_operators import right_hand_side

__all__ = ["PointEquation", "along_edge", "among_frames", "anywhere", "few", "frames_of", "slope_of"]

_LETTERS = "xyz"
_STEP = 1 / 256  # of a slab's time, between a point and its neighbours in time


@dataclass(frozen=True)
class PointEquation:
    """An equation at points.

    Args:
        terms: of it.
        derivatives: those that it asks for, time's among them, by the letters of their axes.
    """

    terms: tuple[Term, ...]
    derivatives: frozenset[str]

    @classmethod
    def of(cls, terms: Sequence[Term], names: Signature) -> PointEquation:
        """Return the equation in time of these terms, of fields with these names.

        Raises:
            SignatureError: if a term needs whole fields.
        """
        named = _Named(names.num_spatial_dims)
        right_hand_side(terms, named, {name: torch.zeros(1) for name in names.coefficients})
        return cls(tuple(terms), frozenset({*named.found, "t"}))

    def asked(self, batch: Batch) -> dict[str, Any]:
        """Return what it asks of an operator at points, as `Coordinate.ask` is told.

        An equation ∂u/∂t + Σ cⱼ ∂u/∂xⱼ = 0 is one derivative, along the way (c, 1).
        """
        names, first = batch.signature, {f"derivative_{letter}": letter for letter in _LETTERS}
        if not names.evolves or any(term.operator not in first or term.fields != names.outputs for term in self.terms):
            return {"derivatives": self.derivatives}
        way = {"t": 1.0}
        for term in self.terms:
            letter, number = first[term.operator], 1.0
            if term.coefficient is not None:
                number = float(batch.coefficients[0, names.coefficients.index(term.coefficient)])
            way[letter] = way.get(letter, 0.0) - term.factor * number
        return {"way": way}

    def left(self, batch: Batch, fields: PointDerivatives, asked: Asked) -> list[Tensor]:
        """Return what fields leave of the equation of each output, ``(1, point)``."""
        names = batch.signature
        if asked.way is not None:
            return [fields.along_way(name) for name in names.outputs]
        numbers = {name: batch.coefficients[:, place] for place, name in enumerate(names.coefficients)}
        right = right_hand_side(self.terms, fields, numbers)
        if not names.evolves:
            return [right[name] for name in names.outputs]
        return [fields.along(name, "t") - right[name] for name in names.outputs]


class _Named:
    """Derivatives that only remember which they were asked for."""

    def __init__(self, num_spatial_dims: int) -> None:
        self.num_spatial_dims, self.found = num_spatial_dims, set[str]()

    def value(self, name: str) -> Tensor:
        return torch.zeros(1, 1)

    def along(self, name: str, axes: str) -> Tensor:
        self.found.add("".join(sorted(axes)))
        return torch.zeros(1, 1)


def few(places: Tensor, most: int, seed: int) -> Tensor:
    """Return so many of some places at most, drawn without repeating any."""
    if len(places) <= most:
        return places
    return places[torch.randperm(len(places), generator=generator_for(seed, "collocation", "edges"))[:most]]


def frames_of(batch: Batch, operator: Coordinate, slab: int) -> Tensor:
    """Return the times of the frames in a slab, in float64; of one without a frame its end."""
    lead = cast(Tensor, batch.lead_time)[0].double().cpu()
    own = lead[operator.slab_of(lead) == slab]
    end = torch.tensor([(slab + 1) / operator.config.slabs * operator.duration], dtype=torch.float64)
    return own if len(own) else end


def among_frames(batch: Batch, operator: Coordinate, slab: int, num_points: int, generator: torch.Generator) -> Points:
    """Return points of the grid in frames of a slab, none twice; fewer where there are not so many."""
    places, device = math.prod(batch.grid.num_points), batch.inputs.device
    if not operator.signature.evolves:
        return Points(torch.randperm(places, generator=generator)[:num_points].to(device))
    frames = frames_of(batch, operator, slab)
    drawn = torch.randperm(places * len(frames), generator=generator)[:num_points]
    return Points((drawn % places).to(device), frames[drawn // places].to(batch.inputs))


def anywhere(batch: Batch, operator: Coordinate, slab: int, num_points: int, generator: torch.Generator) -> Points:
    """Return points of the grid at any times of a slab."""
    places = torch.randint(math.prod(batch.grid.num_points), (num_points,), generator=generator)
    places = places.to(batch.inputs.device)
    if not operator.signature.evolves:
        return Points(places)
    share = (torch.rand(num_points, generator=generator, dtype=torch.float64) + slab) / operator.config.slabs
    return Points(places, (share * operator.duration).to(batch.inputs))


def along_edge(
    grid: Grid, axis: int, end: int, batch: Batch, operator: Coordinate, slab: int, *, most: int, seed: int
) -> tuple[Tensor, Tensor | None]:
    """Return the places of an end of an axis, 0 or −1, with the times of all frames of a slab; of more `most`."""
    places = torch.arange(math.prod(grid.num_points)).view(grid.num_points).select(axis, end).flatten()
    if not operator.signature.evolves:
        return few(places, most, seed).to(batch.inputs.device), None
    frames = frames_of(batch, operator, slab)
    pairs = few(torch.cartesian_prod(torch.arange(len(frames)), places), most, seed)
    return pairs[:, 1].to(batch.inputs.device), frames[pairs[:, 0]].to(batch.inputs)


def slope_of(asked: Callable[[Points], Tensor], points: Points, grid: Grid, lasts: tuple[float, float]) -> Tensor:
    """Return |∂f/∂x| + … + |∂f/∂t| of what is asked at points, ``(point,)``, in the units of the coordinates.

    By differences: between the neighbouring places of the grid on either side, where alone the fields of the samples
    are known, and between times on either side, 1/256 of a slab away; at walls and where the slab begins and ends one
    side is the point itself. What changes within two places of the grid is not seen.

    Args:
        asked: f, ``(point,)``.
        points: where.
        grid: whose places they are.
        lasts: when the slab begins and ends [T].
    """
    pairs = [_beside(points, grid, axis) for axis in range(grid.num_spatial_dims)]
    if points.times is not None:
        step = (lasts[1] - lasts[0]) * _STEP
        before, behind = ((points.times + move).clamp(*lasts) for move in (-step, step))
        pairs.append((Points(points.places, before), Points(points.places, behind), behind - before))
    found = [(asked(other) - asked(one)).abs() / apart for one, other, apart in pairs]
    return torch.stack(found).sum(0)


def _beside(points: Points, grid: Grid, axis: int) -> tuple[Points, Points, Tensor]:
    """Return the neighbours of points along an axis, before and behind, and how far they are from each other."""
    index, count = list(torch.unravel_index(points.places, grid.num_points)), grid.num_points[axis]
    sides, reached = [], []
    for move in (-1, 1):
        there, turns = index[axis] + move, None
        if grid.periodic[axis]:
            turns = points.places.new_zeros(len(points), grid.num_spatial_dims)
            turns[:, axis] = there.div(count, rounding_mode="floor")
            reached.append(there)
            there = there % count
        else:
            there = there.clamp(0, count - 1)
            reached.append(there)
        places = torch.zeros_like(points.places)
        for own, (size, place) in enumerate(zip(grid.num_points, index, strict=True)):
            places = places * size + (there if own == axis else place)
        sides.append(Points(places, points.times, turns))
    return sides[0], sides[1], (reached[1] - reached[0]) * grid.spacing[axis]
