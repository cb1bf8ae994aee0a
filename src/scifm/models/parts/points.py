"""Points at which a network of coordinates is asked, and its fields there with their derivatives."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.derivatives import DifferenceDerivatives, SpectralDerivatives
from scifm.fields.grid import Grid
from scifm.models.parts.jets import Jets

__all__ = ["WAY", "Asked", "PointDerivatives", "Points", "orders_of"]

WAY = "along the way"
"""The line of the derivative along a way, see `Asked`; others are named by letters."""


@dataclass(frozen=True)
class Points:
    """Places of a grid, and times.

    Args:
        places: ``(point,)`` whole numbers: points of the grid, counted along its array.
        times: ``(point,)`` since the input frame [T]; None of what is steady.
        turns: ``(point, axis)``, in the order of the grid: whole lengths of the box that are added, to ask on the other
            side of a seam; None: none are.
    """

    places: Tensor
    times: Tensor | None = None
    turns: Tensor | None = None

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class Asked:
    """Points at which a network is asked, with all that does not hang on its weights: worth keeping for many answers.

    Args:
        points: where.
        grid: whose places they are.
        slab: whose network answers.
        features: what goes into it.
        fields: of the batch, or what the outputs start from, ``(1, *space)`` by their names.
        share: of what is met at the start by construction, s of u = u₀ + s N, ``(point,)``; None: nothing is.
        way: speeds along coordinates by their letters, of the derivative ``along_way``; None: it is not asked for.
        factor: what the network is multiplied by, so that it is zero at walls, of one channel; None: nothing.
    """

    points: Points
    grid: Grid
    slab: int
    features: Jets
    fields: Mapping[str, Tensor]
    share: Tensor | None = None
    way: Mapping[str, float] | None = None
    factor: Jets | None = None


class PointDerivatives:
    """The fields of a `Coordinate` operator at points, with their derivatives; see `scifm.fields.derivatives`.

    Outputs are those of the network, other fields those of the batch. All are ``(1, point)``.

    Args:
        outputs: names of what the network answers.
        pace: of s in u = u₀ + s N, by time [1/T].
        jets: what the network answers.
        asked: where, and what stands there.
    """

    def __init__(self, outputs: tuple[str, ...], pace: float, jets: Jets, asked: Asked) -> None:
        self._jets, self._asked, self._share = jets, asked, asked.share
        self._outputs, self._pace = outputs, pace

    @property
    def num_spatial_dims(self) -> int:
        """Axes of space."""
        return self._asked.grid.num_spatial_dims

    def value(self, name: str) -> Tensor:
        """Return a field, ``(1, point)``."""
        if name not in self._outputs:
            return self._given(name, "")
        own = self._jets.value[None, :, self._outputs.index(name)]
        return own if self._share is None else self._given(name, "") + self._share * own

    def along(self, name: str, axes: str) -> Tensor:
        """Return a derivative of a field, ``(1, point)``, by the letters of its axes.

        Raises:
            SignatureError: if the operator was not asked for it before, or a field of the batch is to be derived by
                time.
        """
        axes = "".join(sorted(axes))
        if name not in self._outputs:
            return self._given(name, axes)
        own = self._derived(name, axes)
        if self._share is None:
            return own
        # of u₀ + s(t) N with s linear: s ∂N, and where t is among the axes s' times what is left of them
        count = axes.count("t")
        found = self._share * own
        if count:
            rest = axes.replace("t", "", 1)
            return found + count * self._pace * (self._derived(name, rest) if rest else self._own(name))
        return found + self._given(name, axes)

    def along_way(self, name: str) -> Tensor:
        """Return the derivative of an output along the way, ``(1, point)``.

        Raises:
            SignatureError: if the operator was not asked for it before.
        """
        way = self._asked.way
        if way is None:
            raise SignatureError(f"The derivative of '{name}' along a way was not asked for when points were given.")
        own = self._jets.along(WAY, 1)[None, :, self._outputs.index(name)]
        if self._share is None:
            return own
        given = [speed * self._given(name, letter) for letter, speed in way.items() if letter != "t"]
        return sum(given, start=self._share * own + way.get("t", 0.0) * self._pace * self._own(name))

    def _own(self, name: str) -> Tensor:
        return self._jets.value[None, :, self._outputs.index(name)]

    def _derived(self, name: str, axes: str) -> Tensor:
        place = self._outputs.index(name)

        def along(line: str, order: int) -> Tensor:
            if self._jets.orders.get(line, 0) < order:
                raise SignatureError(f"The derivative '{axes}' of '{name}' was not asked for when points were given.")
            return self._jets.along(line, order)[None, :, place]

        letters = "".join(dict.fromkeys(axes))
        if len(letters) == 1:
            return along(letters, len(axes))
        one, other = letters[0], letters[1]
        return (along(one + other, 2) - along(one, 2) - along(other, 2)) / 2

    def _given(self, name: str, axes: str) -> Tensor:
        field, grid = self._asked.fields[name], self._asked.grid
        if "t" in axes:
            raise SignatureError(f"The field '{name}' is given at one time; it has no derivative by time.")
        if axes:
            way = SpectralDerivatives if all(grid.periodic) else DifferenceDerivatives
            field = way({name: field}, grid).along(name, axes)
        return field.reshape(1, -1)[:, self._asked.points.places]


def orders_of(derivatives: Collection[str], letters: str) -> dict[str, int]:
    """Return the lines along which Taylor coefficients are needed, each with its highest order.

    Args:
        derivatives: by the letters of their axes.
        letters: of the coordinates.

    Raises:
        SignatureError: if one is by another coordinate, or is mixed and of an order above two.
    """
    orders: dict[str, int] = {}
    for axes in sorted("".join(sorted(axes)) for axes in derivatives):
        odd = [letter for letter in axes if letter not in letters]
        if odd:
            raise SignatureError(f"The derivative '{axes}' is by '{odd[0]}'; the coordinates are {', '.join(letters)}.")
        several = "".join(dict.fromkeys(axes))
        if len(several) > 1 and len(axes) > 2:
            raise SignatureError(
                f"The mixed derivative '{axes}' is of order {len(axes)}; a network of coordinates gives mixed ones of "
                "order 2, and others along one axis."
            )
        lines = [(axes[0], len(axes))] if len(several) == 1 else [(several, 2), (several[0], 2), (several[1], 2)]
        for line, order in lines:
            orders[line] = max(order, orders.get(line, 0))
    return orders
