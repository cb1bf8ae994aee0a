"""Engine ``plain`` answers as the others do, and has derivatives of every order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.func import functional_call, hessian, jacrev, jvp, vmap

import tiny
from scifm.models.fno import FNO, FNOConfig
from scifm.models.operator import Operator
from scifm.models.parts.spectral import FourierLayer
from scifm.systems.poisson import Poisson

SMALL = {"width": 2, "modes": 2, "num_layers": 2, "projection_width": 3, "latent_points": 4}


def fno(**settings) -> FNO:
    torch.manual_seed(0)
    return FNO(Poisson.signature, FNOConfig(**{**SMALL, **settings})).double()


@pytest.mark.parametrize("space", [(9,), (8, 6), (6, 4, 5)])
@pytest.mark.parametrize("engine", ["gemm", "fft"])
def test_a_layer_answers_as_the_others(space, engine):
    torch.manual_seed(0)
    layers = [
        FourierLayer(3, 3, (2,) * len(space), engine=each, activation=True, residual=True).double()
        for each in (engine, "plain")
    ]
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randn(*space, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(layers[1](x), layers[0](x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_operator_answers_as_before_on_the_same_weights(dtype):
    operator = tiny.operator().to(dtype)
    plain = operator.differentiable()
    assert plain.config.engine == "plain"
    assert operator.config.engine == "auto"
    batch = tiny.batch(3, dtype=dtype)
    scale = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(
        plain(batch).require_targets(), operator(batch).require_targets(), rtol=scale, atol=scale
    )
    assert plain.lift.weight.data_ptr() == operator.lift.weight.data_ptr(), "shared, not copied"
    assert plain.lift.weight.requires_grad


def test_first_and_second_derivatives_are_those_of_differences():
    operator = fno(engine="plain")
    batch = Poisson().sample(2, tiny.GRID.resized((8, 8)), torch.Generator().manual_seed(0), dtype=torch.float64)
    names, weights = zip(*operator.named_parameters(), strict=True)

    def answer(inputs, coefficients, *weights):
        asked = replace(batch, inputs=inputs, coefficients=coefficients)
        return functional_call(operator, dict(zip(names, weights, strict=True)), (asked,)).require_targets()

    given = (batch.inputs.requires_grad_(), batch.coefficients.requires_grad_(), *weights)
    assert torch.autograd.gradcheck(answer, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(answer, given, fast_mode=True)


def test_the_compiled_engine_refuses_a_second_derivative():
    operator, batch = fno(), tiny.batch(1, dtype=torch.float64)
    loss = operator(batch).require_targets().square().sum()
    (gradient,) = torch.autograd.grad(loss, operator.lift.bias, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_torch_func_goes_through():
    operator = fno().differentiable()
    batch = tiny.batch(2, dtype=torch.float64)
    weights = dict(operator.named_parameters())
    bias = weights["lift.bias"].detach()

    def loss_of(bias):
        answer = functional_call(operator, {**weights, "lift.bias": bias}, (batch,)).require_targets()
        return answer.square().mean()

    matrix = hessian(loss_of)(bias)
    torch.testing.assert_close(matrix, matrix.T)
    value, moved = jvp(loss_of, (bias,), (torch.ones_like(bias),))
    torch.testing.assert_close(moved, jacrev(loss_of)(bias).sum())
    torch.testing.assert_close(vmap(loss_of)(torch.stack([bias, 2 * bias]))[0], value)


def test_what_is_frozen_stays_so():
    operator = fno()
    operator.lift.weight.requires_grad_(False)
    plain = operator.differentiable()
    assert plain.lift.weight is operator.lift.weight
    assert not operator.lift.weight.requires_grad
    assert operator.lift.bias.requires_grad


def test_an_operator_that_has_them_already_gives_itself():
    class Plain(Operator):
        pass

    operator = Plain(Poisson.signature, tiny.operator().config)
    assert operator.differentiable() is operator
