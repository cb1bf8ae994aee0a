"""Schemes against closed forms, places on the way, and three gradients: which are equal, and by how much one is not."""

from __future__ import annotations

import gc
import math
import weakref
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from scifm.models.parts.ode import GRADIENTS, SCHEMES, Place, places, solve

TURN = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)


def polynomial(scheme: str, z: float) -> float:
    """Return what a scheme makes of exp(z) in one step: the Taylor polynomial of its order."""
    return sum(z**power / math.factorial(power) for power in range(SCHEMES[scheme].order + 1))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_step_of_a_linear_equation_is_the_taylor_polynomial_of_its_order(scheme):
    start = torch.ones(1, dtype=torch.float64)
    answer = solve(lambda y, _: -0.7 * y, start, 0.5, scheme=SCHEMES[scheme], num_steps=3)
    assert float(answer) == pytest.approx(polynomial(scheme, -0.35 / 3) ** 3, rel=1e-14)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_error_falls_at_the_order_of_the_scheme(scheme):
    """Also where the slope hangs on the place: dy/dx = y cos x has y = exp(sin x)."""
    counts, start = (16, 32, 64), torch.ones(1, dtype=torch.float64)

    def slope(y: Tensor, place: Place) -> Tensor:
        return y * math.cos(float(place.at))

    answers = [float(solve(slope, start, scheme=SCHEMES[scheme], num_steps=n)) for n in counts]
    errors = [abs(answer - math.exp(math.sin(1))) for answer in answers]
    assert math.log2(errors[1] / errors[2]) == pytest.approx(SCHEMES[scheme].order, abs=0.1)


def test_a_place_between_two_pieces_belongs_to_its_own_step():
    half = Fraction(1, 2)
    assert Place(half, Fraction(1, 4)).piece(2) == 0
    assert Place(half, Fraction(3, 4)).piece(2) == 1
    assert [Place(Fraction(1), Fraction(7, 8)).piece(count) for count in (1, 2, 3)] == [0, 1, 2]
    last = places(SCHEMES["rk4"], 3)[-1]
    assert [place.piece(3) for place in last] == [2, 2, 2, 2]
    back = places(SCHEMES["rk4"], 3, backward=True)
    assert [place.at for place in back[0]] == [1, Fraction(5, 6), Fraction(5, 6), Fraction(2, 3)]
    assert [place.piece(3) for steps in back for place in steps] == [2] * 4 + [1] * 4 + [0] * 4


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_half_pieces_are_pieces_of_the_same(scheme, count):
    for num_steps in (1, 2, 3, 7, 12):
        for stages in places(SCHEMES[scheme], num_steps):
            assert all(place.piece(2 * count) // 2 == place.piece(count) for place in stages)


class Net(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2)).double()

    def forward(self, y: Tensor, place: Place) -> Tensor:
        return self.inner(y) * (1 + float(place.at))


def gradients(gradient: str, scheme: str, num_steps: int) -> Tensor:
    """Return the gradient of a loss by the state, the width of each sample, and every weight."""
    net, generator = Net(), torch.Generator().manual_seed(1)
    start = torch.randn(5, 2, generator=generator, dtype=torch.float64).requires_grad_()
    width = torch.linspace(0.5, 2, 5, dtype=torch.float64)[:, None].requires_grad_()
    held = tuple(net.parameters())
    about: dict[str, Any] = {"scheme": SCHEMES[scheme], "num_steps": num_steps, "gradient": gradient, "held": held}
    loss = solve(net, start, width, **about).square().sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, (start, width, *held))])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_computing_steps_again_gives_the_same_gradient_bit_for_bit(scheme):
    assert torch.equal(gradients("checkpoint", scheme, 5), gradients("plain", scheme, 5))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_adjoint_is_off_by_the_order_of_the_scheme(scheme):
    off = []
    for num_steps in (1, 16, 32):
        right = gradients("plain", scheme, num_steps)
        off.append(float((gradients("adjoint", scheme, num_steps) - right).norm() / right.norm()))
    order = SCHEMES[scheme].order
    assert off[0] > {1: 0.1, 2: 0.03, 4: 1e-4}[order]
    assert off[2] > 1e-9, "exact, and it should not be"
    assert math.log2(off[1] / off[2]) == pytest.approx(order, abs=0.3)


def test_the_adjoint_of_one_number_is_its_closed_form():
    """For dy/dx = r y the way back from y₁ passes other states, and d y₁/d r is a sum over these."""
    rate, count = torch.tensor(0.9, dtype=torch.float64, requires_grad=True), 4
    step, start = 1 / count, torch.ones(1, dtype=torch.float64)
    about: dict[str, Any] = {"scheme": SCHEMES["euler"], "num_steps": count, "held": (rate,)}
    forward, back = 1 + 0.9 * step, 1 - 0.9 * step
    right = {
        "plain": count * step * forward ** (count - 1),
        "adjoint": sum(step * forward**k * forward**count * back**k for k in range(count)),
    }
    for gradient, value in right.items():
        answer = solve(lambda y, _: rate * y, start, gradient=gradient, **about)
        (found,) = torch.autograd.grad(answer.sum(), rate)
        assert float(found) == pytest.approx(value, rel=1e-12)
    assert abs(right["adjoint"] / right["plain"] - 1) > 0.05


class Watch(TorchDispatchMode):
    """The most bytes of tensors that live at once, of those made while it watches."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key = id(storage)
                if key not in self.alive:
                    self.alive[key] = storage.nbytes()
                    weakref.finalize(storage, self.alive.pop, key, None)
        self.most = max(self.most, sum(self.alive.values()))
        return made


def peak(gradient: str, num_steps: int) -> float:
    """Return the most memory of a backward pass, in states."""
    net = Net(width=64)
    start = torch.ones(2000, 2, dtype=torch.float64, requires_grad=True)
    held = tuple(net.parameters())
    gc.collect()
    with Watch() as watch:
        answer = solve(net, start, scheme=SCHEMES["rk4"], num_steps=num_steps, gradient=gradient, held=held)
        answer.square().sum().backward()
    return watch.most / (start.numel() * 8)


def test_memory_grows_by_the_states_alone_where_steps_are_computed_again_and_not_at_all_with_the_adjoint():
    grown = {gradient: (peak(gradient, 12) - peak(gradient, 4)) / 8 for gradient in GRADIENTS}
    assert grown["plain"] > 100  # of each of four stages the hidden layer, 32 states wide, twice
    assert 0.9 < grown["checkpoint"] < 1.1
    assert abs(grown["adjoint"]) < 0.05
