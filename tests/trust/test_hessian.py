"""Products with the Hessian of a loss, beside dense ones of torch; of functions, and of operators."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

import tiny
from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.seeds import generator_for
from scifm.models.ensemble import Ensemble
from scifm.models.module_operator import ModuleOperator
from scifm.objectives import MeanSquaredError, RelativeL2
from scifm.systems.poisson import Poisson
from scifm.trust.eigenvalues import density_of, ends_of, trace_of
from scifm.trust.hessian import Hessian, hessian_of


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator_for(seed, "hessian"), dtype=torch.float64)


def dense(hessian: Hessian) -> np.ndarray:
    """Return the matrix by torch's own second derivatives of the loss by its weights, complex ones as pairs."""
    complex_ones = {name for name, weight in hessian.weights.items() if weight.is_complex()}
    reals = {n: torch.view_as_real(w) if n in complex_ones else w for n, w in hessian.weights.items()}
    sizes = [real.numel() for real in reals.values()]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = {n: part.view(reals[n].shape) for n, part in zip(reals, flat.split(sizes), strict=True)}
        weights = {n: torch.view_as_complex(part) if n in complex_ones else part for n, part in parts.items()}
        return sum(share * part(weights) for share, part in hessian.parts)

    return torch.autograd.functional.hessian(loss, torch.cat([r.flatten() for r in reals.values()])).numpy()


def whole(hessian: Hessian) -> np.ndarray:
    return hessian @ np.eye(hessian.shape[0])


def small(seed: int = 0, **network):
    """Return an FNO of some hundred weights, on a grid of 8 points."""
    return tiny.operator(seed=seed, **{"width": 2, "modes": 2, "projection_width": 3, "latent_points": 6, **network})


def test_a_quadratic_has_the_eigenvalues_and_the_gradient_of_its_matrix():
    a, y = normal(90, 70), normal(90, seed=1)
    start = {"first": normal(10, 4, seed=2), "second": normal(30, seed=3)}

    def loss(weights):
        return (a @ torch.cat([w.flatten() for w in weights.values()]) - y).square().sum() / 2

    hessian, matrix = Hessian(loss, start), (a.T @ a).numpy()
    assert hessian.shape == (70, 70)
    assert np.allclose(whole(hessian), matrix, rtol=0, atol=1e-10)
    values, theta = np.linalg.eigvalsh(matrix), torch.cat([w.flatten() for w in start.values()])
    assert np.array_equal(hessian.vector(start), theta.numpy())
    assert np.allclose(hessian.gradient, (a.T @ (a @ theta - y)).numpy(), rtol=0, atol=1e-10)
    assert hessian.loss() == pytest.approx(float(loss(start)), rel=1e-14)
    found = ends_of(hessian, 5, 3, tolerance=1e-13)
    assert np.allclose(found.top, values[::-1][:5], rtol=1e-10)
    assert np.allclose(found.bottom, values[:3], rtol=0, atol=1e-10 * values[-1])
    density = density_of(hessian, 3, 70)  # as many steps as weights: all eigenvalues
    assert density.weights.sum() == pytest.approx(1, abs=1e-10)
    nodes = np.sort(density.runs[0][0])
    assert np.allclose(nodes, values, rtol=0, atol=1e-9 * values[-1])
    estimate = trace_of(hessian, relative_error=0.01)
    assert abs(estimate.value - np.trace(matrix)) < 4 * estimate.standard_error


def test_a_network_of_97_weights_has_the_eigenvalues_of_its_dense_hessian():
    """4 → 16 tanh → 1, 200 points, after L-BFGS: a few large eigenvalues, most near zero, some of them negative."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    x = normal(200, 4)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3] + 0.1 * normal(200, 1, seed=1)
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        error = (network(x) - y).square().mean()
        error.backward()
        return error

    optimizer.step(closure)

    def loss(weights):
        return (functional_call(network, dict(weights), (x,)) - y).square().mean()

    weights = {name: p.detach() for name, p in network.named_parameters()}
    names, hessian = list(weights), Hessian(loss, weights)
    blocks = torch.func.hessian(loss)(weights)
    size = {name: w.numel() for name, w in weights.items()}
    rows = [torch.cat([blocks[n][m].reshape(size[n], size[m]) for m in names], 1) for n in names]
    matrix = torch.cat(rows).numpy()
    values = np.linalg.eigvalsh(matrix)
    assert hessian.shape == (97, 97)
    assert np.allclose(whole(hessian), matrix, rtol=0, atol=1e-10 * values[-1])
    found = ends_of(hessian, 5, 1, tolerance=1e-9)
    assert np.allclose(found.top, values[::-1][:5], rtol=1e-4)
    assert values[0] < 0
    assert found.bottom[0] == pytest.approx(values[0], rel=1e-4)
    estimate = trace_of(hessian, relative_error=0.05)
    assert estimate.standard_error <= 0.05 * estimate.value
    assert abs(estimate.value - np.trace(matrix)) < 3 * estimate.standard_error
    density = density_of(hessian, 10, 25)
    assert density.nodes.max() == pytest.approx(values[-1], rel=1e-4)
    for power in (0, 1, 2):
        value, error = density.moment(power)
        assert abs(value - np.mean(values**power)) <= 3 * error + 1e-12


def test_a_complex_weight_is_a_pair_of_real_ones():
    turn = torch.complex(normal(3), normal(3, seed=1))
    weights = {"turn": turn, "size": normal(2, seed=2)}

    def loss(w):
        return (w["turn"] ** 2 * w["size"].sum()).real.square().sum() + (w["turn"].abs() ** 4).sum()

    hessian = Hessian(loss, weights)
    assert hessian.shape == (8, 8)
    assert np.allclose(whole(hessian), dense(hessian), rtol=0, atol=1e-11)
    there = hessian.tensors(hessian.vector(weights))
    assert all(torch.equal(there[name], weights[name]) for name in weights)


def test_an_fno_has_its_dense_hessian_spectral_weights_included():
    operator, batch = small(num_layers=1), tiny.batch(2)
    hessian = hessian_of(operator, batch)
    expected, found = dense(hessian), whole(hessian)
    assert found.shape[0] == sum(p.numel() for p in operator.parameters())
    assert np.allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())
    spectral = [n for n in hessian.weights if "spectral" in n]
    named = hessian.tensors(found[0])
    assert spectral
    assert any(named[name].abs().max() > 0 for name in spectral)


@pytest.mark.parametrize("objective", [RelativeL2(), MeanSquaredError(), RelativeL2(jitter=True)])
def test_products_are_symmetric_and_the_same_again(objective):
    hessian = hessian_of(small(), tiny.batch(2), objective)
    u, v = np.random.default_rng(0).standard_normal((2, hessian.shape[0]))
    assert u @ (hessian @ v) == pytest.approx(v @ (hessian @ u), rel=1e-9)
    assert np.array_equal(hessian @ v, hessian @ v)
    assert hessian.loss() == hessian.loss()


def test_what_an_objective_draws_hangs_on_the_seed_alone():
    class Drawing(RelativeL2):
        name = "drawing"

        def __call__(self, operator, batch, *, step, generator):
            return super().__call__(operator, batch, step=step, generator=generator) * torch.rand(
                (), generator=generator
            )

    losses = [hessian_of(small(), tiny.batch(2), Drawing(), seed=seed).loss() for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_the_operator_is_left_as_it_was():
    operator = small().train()
    before = {name: value.clone() for name, value in operator.state_dict().items()}
    state = torch.get_rng_state()
    hessian = hessian_of(operator, tiny.batch(2))
    hessian @ np.ones(hessian.shape[0])
    assert operator.training
    assert all(p.grad is None for p in operator.parameters())
    assert all(torch.equal(value, before[name]) for name, value in operator.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    with torch.no_grad():
        operator.get_parameter("lift.bias").add_(1)  # and what is measured are the weights as they were
    again = hessian_of(small(), tiny.batch(2))
    assert np.array_equal(hessian.gradient, again.gradient)


def test_operators_that_compute_by_kernels_have_the_same_curvature():
    """Kernels have one derivative, so that the same network in torch's own operations is asked."""
    fast, plain = tiny.operator(engine="auto"), tiny.operator(engine="plain")
    one, other = (hessian_of(operator, tiny.batch(2), dtype=None) for operator in (fast, plain))
    assert all(weight.dtype == torch.float32 for weight in one.weights.values())
    v = np.random.default_rng(0).standard_normal(one.shape[0])
    assert np.allclose(one @ v, other @ v, rtol=0, atol=1e-4 * np.abs(other @ v).max())
    double = hessian_of(fast, tiny.batch(2)) @ v
    assert np.allclose(one @ v, double, rtol=0, atol=1e-3 * np.abs(double).max())


def test_an_ensemble_has_the_hessians_of_its_members_side_by_side():
    members = [small(seed) for seed in (0, 1)]
    hessian = hessian_of(Ensemble.of(members), tiny.batch(2))
    u, v = np.random.default_rng(0).standard_normal((2, hessian.shape[0] // 2))
    own = [hessian_of(member, tiny.batch(2)) @ way / 2 for member, way in zip(members, (u, v), strict=True)]
    assert np.allclose(hessian @ np.concatenate([u, v]), np.concatenate(own), rtol=0, atol=1e-10)
    assert np.abs((hessian @ np.concatenate([u, 0 * v]))[len(u) :]).max() == 0


@pytest.mark.parametrize("size", [1, 3, 7])
def test_parts_of_a_batch_count_by_their_samples(size):
    batch = tiny.batch(7)
    at_once = hessian_of(small(), batch)
    v = np.random.default_rng(0).standard_normal(at_once.shape[0])
    parts = hessian_of(small(), batch, batch_size=size)
    assert len(parts.parts) == math.ceil(7 / size)
    assert parts.loss() == pytest.approx(at_once.loss(), rel=1e-12)
    assert np.allclose(parts.gradient, at_once.gradient, rtol=0, atol=1e-12)
    assert np.allclose(parts @ v, at_once @ v, rtol=0, atol=1e-10)


def test_parts_count_by_the_weights_of_their_samples():
    weighed = replace(tiny.batch(5), loss_weights=torch.tensor([1.0, 2, 3, 4, 10]))
    at_once, parts = (hessian_of(small(), weighed, batch_size=size) for size in (None, 2))
    v = np.random.default_rng(0).standard_normal(at_once.shape[0])
    assert parts.loss() == pytest.approx(at_once.loss(), rel=1e-6)  # weights of samples are float32
    assert np.allclose(parts @ v, at_once @ v, rtol=0, atol=1e-5 * np.abs(at_once @ v).max())


def test_of_frozen_weights_nothing_is_said():
    operator = small()
    for name, weight in operator.named_parameters():
        weight.requires_grad_("projection" in name)
    hessian = hessian_of(operator, tiny.batch(2))
    assert set(hessian.weights) == {f"operator.{n}" for n, _ in operator.named_parameters() if "projection" in n}
    free, last = hessian_of(small(), tiny.batch(2)), np.random.default_rng(0).standard_normal(hessian.shape[0])
    padded = np.concatenate([np.zeros(free.shape[0] - len(last)), last])  # weights of the projection come last
    assert np.allclose(hessian @ last, (free @ padded)[-len(last) :], rtol=0, atol=1e-11)
    assert {name: p.requires_grad for name, p in operator.named_parameters()} == {
        name: "projection" in name for name, _ in operator.named_parameters()
    }
    for weight in operator.parameters():
        weight.requires_grad_(False)
    with pytest.raises(ConfigError, match="No weight of this operator is trainable"):
        hessian_of(operator, tiny.batch(2))


def test_weights_that_share_a_tensor_are_one_and_idle_ones_curve_nothing():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.idle = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(2, 2)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(torch.tanh(self.first(x)))[:, :1]

    with torch.random.fork_rng():
        torch.manual_seed(0)
        hessian = hessian_of(ModuleOperator.wrap(Tied(), Poisson.signature), tiny.batch(2))
    assert hessian.shape[0] == 16 + 4 + 4 + 6
    found = whole(hessian)
    assert np.allclose(found, dense(hessian), rtol=0, atol=1e-10)
    idle = hessian.vector({n: torch.full_like(w, float("idle" in n)) for n, w in hessian.weights.items()})
    assert np.abs(found @ idle).max() == 0
    assert np.abs(found).max() > 0


def test_a_loss_may_derive_by_its_inputs_as_that_of_an_equation_does():
    """u = tanh(w x), and the loss is the mean of (u′ − 1)²; u′ = w (1 − u²)."""
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)

    def residual(weights):
        points = x.clone().requires_grad_()
        u = torch.tanh(weights["w"] * points)
        (slope,) = torch.autograd.grad(u.sum(), points, create_graph=True)
        return (slope - 1).square().mean()

    def told(w):
        return (w * (1 - torch.tanh(w * x) ** 2) - 1).square().mean()

    w = torch.tensor(0.7, dtype=torch.float64)
    with torch.no_grad():
        hessian = Hessian(residual, {"w": w})
        assert hessian.loss({"w": w + 1}) == pytest.approx(float(told(w + 1)), rel=1e-12)
        found = hessian @ np.ones(1)
    assert found == pytest.approx([float(torch.func.hessian(told)(w))], rel=1e-10)


def test_a_loss_that_is_linear_does_not_curve():
    hessian = Hessian(lambda w: 3 * w["a"].sum(), {"a": normal(4)})
    assert np.array_equal(whole(hessian), np.zeros((4, 4)))
    assert np.array_equal(hessian.gradient, np.full(4, 3.0))


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return 3 * ctx.saved_tensors[0] ** 2 * slope


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda w: w["a"].norm() * 0 + (w["a"] * 0).norm(), "NaN or infinite"),
        (lambda w: w["a"].sum() / 0, "The loss at these weights is -?inf"),
        (lambda w: w["a"], "one real number; got torch.float64 of shape"),
        (lambda w: w["a"].sum() + 0j, "one real number; got torch.complex128"),
        (lambda w: torch.tensor(1.0), "does not hang on any"),
        (lambda w: _Once.apply(w["a"]).square().sum(), "no second derivative"),
    ],
)
def test_a_loss_without_curvature_is_refused(loss, words):
    hessian = Hessian(loss, {"a": normal(4)})
    with pytest.raises(DataError, match=words):
        hessian @ np.ones(4)


def test_what_has_no_weights_or_parts_is_refused():
    with pytest.raises(DataError, match="here is none"):
        Hessian(lambda w: torch.zeros(()), {})
    with pytest.raises(DataError, match="here is none"):
        Hessian([], {"a": normal(2)})
    with pytest.raises(DataError, match=r"The weight 'a' is torch\.int64"):
        Hessian(lambda w: torch.zeros(()), {"a": torch.ones(2, dtype=torch.int64)})
    with pytest.raises(DataError, match=r"has the shape \(2,\); got \(3,\)"):
        Hessian(lambda w: w["a"].sum(), {"a": normal(2)}).tensors(np.ones(3))


def test_samples_that_do_not_fit_are_refused():
    batch = tiny.batch(4)
    with pytest.raises(SignatureError, match="at least one sample"):
        hessian_of(small(), batch.select([]))
    with pytest.raises(ConfigError, match="batch_size is at least 1; got 0"):
        hessian_of(small(), batch, batch_size=0)
    with pytest.raises(ConfigError, match="do not add up to 'relative_l2'"):
        hessian_of(small(), batch, RelativeL2(shows=2), batch_size=2)
    with pytest.raises(SignatureError, match="targets"):
        hessian_of(small(), batch.with_targets(None))
