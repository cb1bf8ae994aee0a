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
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from scifm.models.parts.compiled_jets import compiled_jets, jets_for
from scifm.native import Library

__all__ = ["ACTIVATIONS", "Jets", "Passed", "of_network", "of_network_at_once"]


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
        found = self.planes[self._first(line) + order - 1]
        return found * math.factorial(order) if order > 1 else found

    def lines(self) -> list[tuple[int, int]]:
        """Return of each line its first plane and its highest order."""
        return [(self._first(line), order) for line, order in self.orders.items()]

    def times(self, other: Jets) -> Jets:
        """Return the product with jets along the same lines, of as many channels or of one (Cauchy's rule)."""
        made = [self.value * other.value]
        for first, highest in self.lines():
            one, two = ([jets.value, *jets.planes[first : first + highest]] for jets in (self, other))
            for order in range(1, highest + 1):
                made.append(torch.stack([one[j] * two[order - j] for j in range(order + 1)]).sum(0))
        return Jets(torch.stack(made), self.orders)

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


# --- the same up to the second order, with a gradient of our own ------------------------------------------------------

_Slopes = Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]


def _of_tanh(inner: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    value = torch.tanh(inner)
    square = value.square()
    first = 1 - square
    return value, first, -2 * value * first, (6 * square - 2) * first


def _of_sin(inner: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    value, first = torch.sin(inner), torch.cos(inner)
    return value, first, -value, -first


_DERIVED: dict[str, _Slopes] = {"tanh": _of_tanh, "sin": _of_sin}
"""The value of an activation and its first three derivatives."""


def _acted(slopes: Sequence[Tensor], planes: Tensor, lines: Sequence[tuple[int, int]]) -> Tensor:
    """Return a₀ = f(z₀), a₁ = f′ z₁, a₂ = f′ z₂ + ½ f″ z₁² along each line."""
    value, first, second, _ = slopes
    made = torch.mul(planes, first)
    made[0] = value
    for start, highest in lines:
        if highest == 2:
            made[start + 1].addcmul_(second, planes[start].square(), value=0.5)
    return made


def _back_through(slopes: Sequence[Tensor], planes: Tensor, lines: Sequence[tuple[int, int]], back: Tensor) -> Tensor:
    """Return the gradient by what went into `_acted`, of that by what came out."""
    _, first, second, third = slopes
    found = torch.mul(back, first)
    ahead = torch.mul(back[1:], planes[1:]).sum(0) if len(planes) > 1 else None
    if ahead is not None:
        found[0].addcmul_(ahead, second)
    for start, highest in lines:
        if highest == 2:
            along, curved = planes[start], back[start + 1]
            found[start].addcmul_(second * along, curved)
            found[0].addcmul_(third * along.square(), curved, value=0.5)
    return found


class _Fused(torch.autograd.Function):
    """A network of linear maps; its gradient is by the weights alone, and has none itself."""

    @staticmethod
    def forward(ctx: Any, planes: Tensor, activation: str, lines: list[tuple[int, int]], *weights: Tensor) -> Tensor:
        ctx.lines, ctx.activation, kept = lines, activation, []
        count, points = planes.shape[:2]
        for place in range(0, len(weights), 2):
            weight, bias = weights[place : place + 2]
            made = torch.mm(planes.view(count * points, -1), weight.T).view(count, points, -1)
            made[0] += bias
            kept += [planes]
            if place + 2 < len(weights):
                slopes = _DERIVED[activation](made[0])
                kept += [made, *slopes[1:]]
                made = _acted(slopes, made, lines)
            planes = made
        ctx.save_for_backward(*weights, *kept)
        return planes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, back: Tensor) -> tuple[Any, ...]:
        count = len(ctx.needs_input_grad) - 3
        weights, kept = ctx.saved_tensors[:count], list(ctx.saved_tensors[count:])
        found: list[Tensor] = []
        planes, points = back.shape[:2]
        for place in range(count - 2, -1, -2):
            inputs, flat = kept.pop(), back.reshape(planes * points, -1)
            found = [flat.T @ inputs.view(planes * points, -1), back[0].sum(0), *found]
            if place:
                back = (flat @ weights[place]).view(planes, points, -1)
                first, second, third = kept[-3:]
                inner = kept[-4]
                del kept[-4:]
                back = _back_through((first, first, second, third), inner, ctx.lines, back)
        return (None, None, None, *found)


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


def _through(native: Library, activation: str, several: Sequence[Jets], weights: Sequence[Tensor]) -> list[Jets]:
    orders = [list(features.orders.values()) for features in several]
    found = compiled_jets(native, [features.planes for features in several], activation, orders, weights)
    return [Jets(planes, features.orders) for planes, features in zip(found, several, strict=True)]


def of_network_at_once(
    layers: Sequence[nn.Linear], activation: str, several: Sequence[Jets], *, plain: bool = False
) -> list[Jets]:
    """Return what `of_network` makes of each of several jets, at some points each."""
    highest = max((order for features in several for order in features.orders.values()), default=0)
    if several and not plain and activation in _DERIVED and highest <= 2:
        weights = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
        if native := jets_for([features.planes for features in several], weights):
            return _through(native, activation, several, weights)
    return [of_network(layers, activation, features, plain=plain) for features in several]


def of_network(
    layers: Sequence[nn.Linear],
    activation: str,
    features: Jets,
    passed: list[Passed] | None = None,
    *,
    plain: bool = False,
) -> Jets:
    """Return the jets of a network of linear maps with an activation between each and the next.

    Args:
        layers: the maps, one behind the other.
        activation: a name in `ACTIVATIONS`.
        features: of what goes into the first of them, ``(plane, point, feature)``.
        passed: where what passed through each map is put down, if it is wanted.
        plain: give what comes out derivatives by the weights of every order, at more cost.
    """
    if passed is None and not plain and activation in _DERIVED and max(features.orders.values(), default=0) <= 2:
        weights = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
        if native := jets_for([features.planes], weights):
            return _through(native, activation, [features], weights)[0]
        found: Tensor = _Fused.apply(features.planes, activation, features.lines(), *weights)
        return Jets(found, features.orders)
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
