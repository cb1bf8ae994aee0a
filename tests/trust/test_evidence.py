"""The evidence of models that interpolate, in closed form and by integration; two experiments beside their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal

from scifm.errors import DataError
from scifm.trust.evidence import (
    best_free_energy,
    criterion_of,
    excess_evidence,
    excess_limit,
    free_energy,
    interpolating_criterion,
    nearest_interpolator,
    negative_log_evidence,
    predictive_loss,
)


def system(samples: int = 12, weights: int = 40, seed: int = 0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((samples, weights)), generator.standard_normal(samples)


def test_the_criterion_of_a_linear_model_is_its_evidence_at_the_best_scale():
    x, y = system()
    told = interpolating_criterion(x, y)
    n, gram = len(y), x @ x.T
    by_hand = math.log(y @ np.linalg.inv(gram) @ y) + np.linalg.slogdet(gram)[1] / n - math.log(n)
    assert told.value == pytest.approx(by_hand, abs=1e-12)
    assert told.curvature == 0
    best = float(y @ np.linalg.solve(gram, y)) / n
    least = negative_log_evidence(x, y, best)
    assert told.value == pytest.approx(2 / n * least - 1 - math.log(2 * math.pi), abs=1e-12)
    assert told.negative_log_evidence == pytest.approx(least, abs=1e-10)
    found = minimize_scalar(lambda log: negative_log_evidence(x, y, math.exp(log)), bracket=(-5, 0))
    assert found.fun == pytest.approx(least, abs=1e-9)
    assert math.exp(found.x) == pytest.approx(best, rel=1e-5)


def test_the_evidence_is_that_of_a_normal_distribution():
    x, y = system()
    expected = -multivariate_normal(np.zeros(len(y)), 0.3 * x @ x.T).logpdf(y)
    assert negative_log_evidence(x, y, 0.3) == pytest.approx(expected, rel=1e-12)


def test_turning_the_weights_changes_nothing_and_their_unit_does_not_either():
    x, y = system()
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((40, 40)))[0]
    told = interpolating_criterion(x, y).value
    assert interpolating_criterion(x @ turn, y).value == pytest.approx(told, abs=1e-12)
    assert interpolating_criterion(7 * x, y).value == pytest.approx(told, abs=1e-12)
    assert interpolating_criterion(x, 3 * y).value == pytest.approx(told + 2 * math.log(3), abs=1e-12)


def test_of_features_it_ranks_those_that_hold_the_answer_first():
    """The truth hangs on the first 15 inputs: the less weight the others have, the less error and the more evidence."""
    generator = np.random.default_rng(0)
    x, unseen = generator.standard_normal((40, 400)), generator.standard_normal((500, 400))
    theta = np.r_[generator.standard_normal(15), np.zeros(385)]
    values, errors = [], []
    for spread in (10.0, 3.0, 1.0, 0.3, 0.1):  # of the weight of all inputs but those
        scale = np.r_[np.ones(15), np.full(385, spread)]
        fit = np.linalg.pinv(x * scale) @ (x @ theta)
        errors.append(float(np.mean(((unseen * scale) @ fit - unseen @ theta) ** 2)))
        values.append(interpolating_criterion(x * scale, x @ theta).value)
    assert np.argsort(values).tolist() == np.argsort(errors).tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("x", "y", "why"),
    [
        (np.ones((3, 2)), np.ones(3), "do not interpolate"),
        (np.ones((2, 3)), np.ones(2), "dependent features"),
        (np.eye(3), np.zeros(3), "not all truths are zero"),
        (np.eye(3) * math.nan, np.ones(3), "finite numbers"),
        (np.ones(3), np.ones(3), r"\(sample, weight\)"),
    ],
)
def test_what_has_no_evidence_without_noise_is_refused(x, y, why):
    with pytest.raises(DataError, match=why):
        interpolating_criterion(x, y)


# --- models that bend -------------------------------------------------------------------------------------------------


def test_of_a_linear_model_derivatives_give_the_same():
    x, y = (torch.as_tensor(own) for own in system())
    start = torch.zeros(40, dtype=torch.float64)
    theta = nearest_interpolator(lambda w: x @ w, y, start)
    told, exact = criterion_of(lambda w: x @ w, theta, start), interpolating_criterion(x.numpy(), y.numpy())
    assert told.value == pytest.approx(exact.value, abs=1e-12)
    assert told.curvature == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("bend", [0.4, -0.7])
def test_of_one_that_bends_it_is_what_integration_gives_for_a_narrow_prior(bend):
    """y = a + bend·b²: the density of y is an integral over b; Laplace's term comes close as the prior narrows."""
    answer, start = 0.8, torch.zeros(2, dtype=torch.float64)

    def model(w):
        return (w[0] + bend * w[1] ** 2)[None]

    theta = nearest_interpolator(model, torch.tensor([answer], dtype=torch.float64), start)
    assert theta.tolist() == pytest.approx([answer, 0])
    told = criterion_of(model, theta, start)
    assert told.curvature == pytest.approx(math.log(1 - 2 * bend * answer))
    off = []
    for variance in (0.04, 0.01, 0.0025):
        scale = math.sqrt(variance)

        def density(b, scale=scale, variance=variance):
            a = answer - bend * b * b
            return math.exp(-(a * a + b * b - answer**2) / (2 * variance)) / (2 * math.pi * scale**2)

        exact = answer**2 / (2 * variance) - math.log(quad(density, -12 * scale, 12 * scale)[0])
        laplace = answer**2 / (2 * variance) + 0.5 * math.log(2 * math.pi * variance)
        laplace += 0.5 * told.sharpness + 0.5 * told.curvature
        off.append(abs(exact - laplace))
    assert off[0] > off[1] > off[2]
    assert off[2] < 0.01


def test_a_small_network_interpolates_at_a_right_angle():
    torch.manual_seed(0)
    inputs = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]
    truth = torch.tensor([0.2, -0.1, 0.3, 0.0], dtype=torch.float64)

    def network(w):
        first, shift, last = w[:10].view(1, 10), w[10:20], w[20:30]
        return torch.tanh(inputs @ first + shift) @ last

    start = torch.randn(30, dtype=torch.float64)
    theta = nearest_interpolator(network, truth, start)
    torch.testing.assert_close(network(theta), truth)
    told = criterion_of(network, theta, start)
    assert math.isfinite(told.value)
    for _ in range(5):  # other weights that answer so are farther away
        other = nearest_interpolator(network, truth, start + 0.3 * torch.randn(30, dtype=torch.float64))
        assert float((other - start).norm()) > float((theta - start).norm())
    with pytest.raises(DataError, match="not the nearest"):
        criterion_of(network, other, start)


def test_answers_that_no_weights_give_are_refused():
    start = torch.ones(2, dtype=torch.float64)
    with pytest.raises(DataError, match="No weights that answer so"):
        nearest_interpolator(lambda w: torch.tanh(w[:1] + w[1:]), torch.full((1,), 2.0, dtype=torch.float64), start)


def test_two_answers_that_are_one_are_refused():
    start = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(DataError, match="cannot be told apart"):
        criterion_of(lambda w: torch.stack([w.sum(), w.sum()]), start + 1, start)


def test_an_interpolator_that_is_nearest_to_second_order_only_is_told():
    """On a circle about the start all are as near; beyond its middle the far side is farthest."""

    def model(w):
        return ((w[0] + 1) ** 2 + w[1] ** 2)[None]

    start = torch.tensor([0.5, 0.0], dtype=torch.float64)
    with pytest.raises(DataError, match="others along the same answers are nearer"):
        criterion_of(model, torch.tensor([-3.0, 0.0], dtype=torch.float64), start)


# --- Gaussian processes -----------------------------------------------------------------------------------------------


def test_free_energy_by_its_definition():
    x, y = system(8, 20)
    gram = x @ x.T / 20
    covariance = gram / 3 + 0.2 * np.eye(8)
    assert free_energy(gram, y, 3.0, temperature=0.2) == pytest.approx(
        -multivariate_normal(np.zeros(8), covariance).logpdf(y), rel=1e-12
    )
    found = minimize_scalar(lambda log: free_energy(gram, y, math.exp(log)), bracket=(-2, 2))
    assert best_free_energy(gram, y) == pytest.approx(found.fun, abs=1e-9)


@pytest.mark.parametrize("ratio", [1.2, 1.5, 2, 3, 5, 10])
def test_evidence_of_inputs_that_mean_nothing_only_improves(ratio):
    draws = excess_evidence(60, round(60 * ratio), num_draws=100)
    assert draws.mean() == pytest.approx(excess_limit(ratio), abs=0.05)
    assert excess_limit(ratio) > excess_limit(1.1 * ratio) > 0
    assert draws.mean() > excess_evidence(60, round(120 * ratio), num_draws=100).mean()


def test_predictions_are_worst_where_inputs_are_as_many_as_samples():
    inputs = (20, 60, 120, 480)
    loss = predictive_loss(60, inputs, noise=1e-3, num_draws=60)
    assert int(loss.argmax()) == 1
    assert loss[1] > 5 * max(loss[0], loss[2])
    for number in (2, 3):
        d = inputs[number]
        assert loss[number] == pytest.approx(2 + 60 / (d - 61) - 60 / d, rel=0.1)
    assert predictive_loss(60, inputs, noise=1e-1, num_draws=60).max() < 3.5, "noise flattens the peak"


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: free_energy(np.eye(2), np.ones(3), 1.0), r"\(sample, sample\)"),
        (lambda: free_energy(np.eye(2), np.ones(2), 0.0), "positive"),
        (lambda: free_energy(np.ones((2, 2)), np.ones(2), 1.0), "singular"),
        (lambda: excess_evidence(10, 10, num_draws=1), "more inputs than samples"),
        (lambda: excess_limit(1.0), "larger than one"),
        (lambda: predictive_loss(10, [5], noise=0.0, num_draws=1), "above zero"),
        (lambda: negative_log_evidence(np.eye(2), np.ones(2), -1.0), "positive"),
    ],
)
def test_what_makes_no_sense_is_refused(call, why):
    with pytest.raises(DataError, match=why):
        call()
