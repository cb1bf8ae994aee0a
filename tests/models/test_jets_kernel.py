"""The compiled jets give what torch gives, for every shape and number of threads; where they cannot be, torch works."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import scifm.native
from compiled_anew import emptied
from scifm.models.parts import compiled_jets, jets
from scifm.models.parts.jets import Jets, of_network, of_network_at_once

pytestmark = pytest.mark.skipif(compiled_jets.library() is None, reason="the compiled jets need Linux and a C compiler")
on_every_processor = pytest.mark.usefixtures("jets_library")
WIDTHS = st.lists(st.integers(1, 130), min_size=2, max_size=5)
ORDERS = st.lists(st.integers(1, 2), max_size=3)
ACTIVATIONS = st.sampled_from(["tanh", "sin"])


def problem(
    widths: list[int], points: int, orders: list[int], seed: int = 0
) -> tuple[list[nn.Linear], Jets, torch.Tensor]:
    """Return a network, what goes into it, and a gradient of what comes out."""
    torch.manual_seed(seed)
    layers = [nn.Linear(before, behind) for before, behind in pairwise(widths)]
    shape = 1 + sum(orders), points
    features = Jets(torch.randn(*shape, widths[0]), {str(line): order for line, order in enumerate(orders)})
    return layers, features, torch.randn(*shape, widths[-1])


def answer_and_gradient(layers, activation, features, grad) -> list[torch.Tensor]:
    found = of_network(layers, activation, features).planes
    weights = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
    return [found.detach(), *torch.autograd.grad(found, weights, grad)]


def through_torch(function, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jets, "jets_for", lambda planes, weights: None)
        return function(*arguments)


def in_double(layers: list[nn.Linear], features: Jets, grad: torch.Tensor):
    """Return the same problem in float64."""
    copies = [nn.Linear(layer.in_features, layer.out_features).double() for layer in layers]
    for copy, layer in zip(copies, layers, strict=True):
        copy.load_state_dict(layer.state_dict())
    return copies, Jets(features.planes.double(), features.orders), grad.double()


def error(got: list[torch.Tensor], truth: list[torch.Tensor]) -> float:
    """Return the largest error of all tensors, relative to the largest number of each."""
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) for a, b in zip(got, truth, strict=True))


@on_every_processor
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WIDTHS, st.integers(1, 300), ORDERS, ACTIVATIONS)
def test_values_and_gradients_are_those_of_torch_for_every_shape(widths, points, orders, activation):
    layers, features, grad = problem(widths, points, orders)
    double_layers, *double = in_double(layers, features, grad)
    truth = through_torch(answer_and_gradient, double_layers, activation, *double)
    compiled = answer_and_gradient(layers, activation, features, grad)
    usual = through_torch(answer_and_gradient, layers, activation, features, grad)
    assert [one.shape for one in compiled] == [one.shape for one in truth]
    assert error(compiled, truth) < 3e-6 + 4 * error(usual, truth)


@on_every_processor
def test_a_network_as_published_is_as_exact_as_through_torch():
    layers, features, grad = problem([2, 50, 50, 50, 50, 1], 1000, [2, 1])
    double_layers, *double = in_double(layers, features, grad)
    truth = through_torch(answer_and_gradient, double_layers, "tanh", *double)
    assert error(answer_and_gradient(layers, "tanh", features, grad), truth) < 5e-6


def values(activation: str, numbers: torch.Tensor) -> torch.Tensor:
    """Return an activation's values, by a network that does nothing else."""
    layers = [nn.Linear(1, 1), nn.Linear(1, 1)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.fill_(1.0)
            layer.bias.zero_()
        return of_network(layers, activation, Jets(numbers.view(1, -1, 1), {})).planes.flatten()


@on_every_processor
def test_tanh_is_exact_to_its_last_digits_near_zero_and_far_away():
    size = torch.cat([torch.logspace(-30, 1.5, 40_001), torch.linspace(0.001, 10, 100_001)])
    numbers = torch.cat([size, -size])
    truth = torch.tanh(numbers.double())
    assert float(((values("tanh", numbers) - truth) / truth).abs().max()) < 2e-7


@on_every_processor
def test_tanh_at_its_ends():
    numbers = torch.tensor([0.0, math.inf, -math.inf, 1e30, -1e30, 1e-45])
    torch.testing.assert_close(values("tanh", numbers), torch.tanh(numbers), rtol=2e-7, atol=0)


@on_every_processor
@pytest.mark.parametrize("size", [1.0, 100.0, 8000.0, 1e6])
def test_sine_of_small_and_large_numbers(size):
    numbers = torch.linspace(-size, size, 50_001)
    truth = torch.sin(numbers.double())
    assert float((values("sin", numbers) - truth).abs().max()) < 2e-7


@on_every_processor
@pytest.mark.parametrize("activation", ["tanh", "sin"])
@pytest.mark.parametrize("points", [7, 1000])
def test_any_number_of_threads_gives_the_same_bits(activation, points):
    layers, features, grad = problem([2, 50, 33, 2], points, [2, 1])
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(answer_and_gradient(layers, activation, features, grad))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@on_every_processor
@pytest.mark.parametrize("activation", ["tanh", "sin"])
def test_what_is_no_number_stays_none(activation):
    layers, features, grad = problem([2, 20, 20, 1], 40, [2])
    features.planes[0, 5, 1] = math.nan
    found, *slopes = answer_and_gradient(layers, activation, features, grad)
    lost = found.isnan().flatten(1)
    assert bool(lost[:, 5].all())
    assert int(lost.sum()) == len(lost), "of other points nothing is lost"
    assert all(bool(slope.isnan().any()) for slope in slopes[:-1])
    with torch.no_grad():
        layers[1].bias[3] = math.nan
    assert bool(of_network(layers, activation, features).planes.isnan().all())


@on_every_processor
def test_without_a_gradient_nothing_is_kept_and_the_answer_is_the_same():
    layers, features, _ = problem([2, 30, 30, 2], 50, [1, 2])
    kept = of_network(layers, "tanh", features).planes
    with torch.no_grad():
        free = of_network(layers, "tanh", features).planes
    assert kept.requires_grad
    assert not free.requires_grad
    assert torch.equal(kept, free)


@on_every_processor
@pytest.mark.parametrize("activation", ["tanh", "sin"])
def test_several_at_once_are_what_they_are_one_after_the_other(activation):
    layers, *_ = problem([2, 30, 30, 2], 1, [])
    weights = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
    asked = [problem([2, 30, 30, 2], points, orders)[1:] for points, orders in ((50, [1, 2]), (7, []), (300, [1]))]
    grads = [grad for _, grad in asked]
    several = [found.planes for found in of_network_at_once(layers, activation, [one for one, _ in asked])]
    alone = [of_network(layers, activation, features).planes for features, _ in asked]
    assert all(torch.equal(one, two) for one, two in zip(several, alone, strict=True))
    slopes = torch.autograd.grad(several, weights, grads)
    assert error(slopes, torch.autograd.grad(alone, weights, grads)) < 1e-6


def test_a_second_derivative_by_weights_is_refused():
    layers, features, grad = problem([2, 5, 1], 4, [1])
    found = of_network(layers, "tanh", features).planes
    (slope,) = torch.autograd.grad(found, layers[0].weight, grad.requires_grad_(), create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_what_it_cannot_do_goes_through_torch():
    layers, features, _ = problem([2, 5, 1], 4, [1])
    weights = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
    assert compiled_jets.jets_for([features.planes], weights) is not None
    assert compiled_jets.jets_for([features.planes.double()], weights) is None
    assert compiled_jets.jets_for([features.planes], [weight.double() for weight in weights]) is None
    assert compiled_jets.jets_for([features.planes.to("meta")], weights) is None
    assert compiled_jets.jets_for([features.planes[:, :0]], weights) is None, "no points"
    wide, _, _ = problem([2, compiled_jets.MOST_WIDTH + 1, 1], 4, [1])
    assert (
        compiled_jets.jets_for([features.planes], [tensor for layer in wide for tensor in layer.parameters()]) is None
    )


def test_plain_operations_never_ask_for_it(monkeypatch):
    def asked(planes, weights):
        raise AssertionError("asked")

    monkeypatch.setattr(jets, "jets_for", asked)
    layers, features, _ = problem([2, 5, 1], 4, [1])
    assert of_network(layers, "tanh", features, plain=True).planes.shape == (2, 4, 1)
    with pytest.raises(AssertionError, match="asked"):
        of_network(layers, "tanh", features)


def test_without_a_compiler_torch_does_it_and_it_is_said_once(monkeypatch, tmp_path):
    layers, features, grad = problem([2, 20, 20, 1], 40, [2, 1])
    compiled = answer_and_gradient(layers, "tanh", features, grad)
    with emptied(monkeypatch, tmp_path, compiled_jets.library):
        monkeypatch.setattr(scifm.native.shutil, "which", lambda name: None)
        with pytest.warns(RuntimeWarning, match="no C compiler was found"):
            found = answer_and_gradient(layers, "tanh", features, grad)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = answer_and_gradient(layers, "tanh", features, grad)
    assert all(torch.equal(one, two) for one, two in zip(found, again, strict=True))
    assert error(compiled, found) < 5e-6
