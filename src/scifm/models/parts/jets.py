"""`Jets`: a network that is a function of coordinates, with its derivatives by them, in one pass forwards.

Of a value z along a line x + s d the Taylor coefficients z₀, z₁, …, zₙ (zₖ = 1/k! dᵏz/dsᵏ) pass through the network
together: a linear map acts on each alone, an activation by its recurrence (Griewank & Walther, *Evaluating
Derivatives*, 2nd ed., chapter 13). For a = tanh z with s = 1 − a², and for a = sin z with c = cos z::

    aₖ = 1/k Σⱼ j zⱼ sₖ₋ⱼ       aₖ = 1/k Σⱼ j zⱼ cₖ₋ⱼ,  cₖ = −1/k Σⱼ j zⱼ aₖ₋ⱼ       (j = 1 … k)

Derivatives along several lines share the value. What comes out is differentiated backwards, by the weights, once: no
graph of a graph is made, as calls of ``torch.autograd.grad`` one inside the other do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "Jets", "Passed", "of_network"]


@dataclass(frozen=True)
class Jets:
    """Values, with Taylor coefficients along lines, all in one tensor.

    Args:
        planes: ``(plane, point, channel)``: the values first, then of each line its coefficients from the first on.
        orders: of each line, by its name, the highest order.
    """

    planes: Tensor
    orders: Mapping[str, int]

    @property
    def value(self) -> Tensor:
        """The values, ``(point, channel)``."""
        return self.planes[0]

    def along(self, line: str, order: int) -> Tensor:
        """Return a derivative along a line, ``(point, channel)``; unit: the value's over the line's to the order."""
        return self.planes[self._first(line) + order - 1] * math.factorial(order)

    def lines(self) -> list[tuple[int, int]]:
        """Return of each line its first plane and its highest order."""
        return [(self._first(line), order) for line, order in self.orders.items()]

    def _first(self, line: str) -> int:
        names = list(self.orders)
        return 1 + sum(self.orders[name] for name in names[: names.index(line)])


def _recurred(parts: Sequence[Tensor], outer: Sequence[Tensor], order: int) -> Tensor:
    """Return 1/k Σⱼ j zⱼ oₖ₋ⱼ, coefficient k of the integral of o dz."""
    terms = [parts[j] * outer[order - j] * (j / order) for j in range(1, order + 1)]
    return terms[0] if order == 1 else torch.stack(terms).sum(0)


def _tanh(jets: Jets) -> Tensor:
    value = torch.tanh(jets.value)
    slope, made = 1 - value.square(), [value]
    for first, highest in jets.lines():
        inner = [jets.value, *jets.planes[first : first + highest]]
        answer, slopes = [value], [slope]
        for order in range(1, highest + 1):
            answer.append(_recurred(inner, slopes, order))
            if order < highest:
                products = [answer[j] * answer[order - j] for j in range(order + 1)]
                slopes.append(-torch.stack(products).sum(0))
        made += answer[1:]
    return torch.stack(made)


def _sin(jets: Jets) -> Tensor:
    value, other = torch.sin(jets.value), torch.cos(jets.value)
    made = [value]
    for first, highest in jets.lines():
        inner = [jets.value, *jets.planes[first : first + highest]]
        sines, cosines = [value], [other]
        for order in range(1, highest + 1):
            sines.append(_recurred(inner, cosines, order))
            if order < highest:
                cosines.append(-_recurred(inner, sines[:-1], order))
        made += sines[1:]
    return torch.stack(made)


ACTIVATIONS: dict[str, Callable[[Jets], Tensor]] = {"tanh": _tanh, "sin": _sin}
"""What each makes of jets."""


@dataclass(frozen=True)
class Passed:
    """What passed through a linear map.

    Args:
        layer: the map.
        inputs: ``(plane, point, feature)``, what went into it.
        outputs: ``(plane, point, channel)``, what came out; only the first plane has its bias.
    """

    layer: nn.Linear
    inputs: Tensor
    outputs: Tensor


def of_network(
    layers: Sequence[nn.Linear], activation: str, features: Jets, passed: list[Passed] | None = None
) -> Jets:
    """Return the jets of a network of linear maps with an activation between each and the next.

    Args:
        layers: the maps, one behind the other.
        activation: a name in `ACTIVATIONS`.
        features: of what goes into the first of them, ``(plane, point, feature)``.
        passed: where what passed through each map is put down, if it is wanted.
    """
    act, planes = ACTIVATIONS[activation], features.planes
    for place, layer in enumerate(layers):
        inputs = planes
        planes = torch.matmul(inputs, layer.weight.T)
        planes = torch.cat([planes[:1] + layer.bias, planes[1:]])
        if passed is not None:
            passed.append(Passed(layer, inputs, planes))
        if place + 1 < len(layers):
            planes = act(Jets(planes, features.orders))
    return Jets(planes, features.orders)
