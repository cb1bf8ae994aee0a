"""An attentive neural process: its sizes, its Gaussians, and that it learns."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from scifm.errors import SignatureError
from scifm.fields.seeds import generator_for
from scifm.models.neural_process import AttentiveNeuralProcess, NeuralProcessConfig, PointAnswers

SMALL = NeuralProcessConfig(num_dims=1, width=16, heads=2)


def small() -> AttentiveNeuralProcess:
    torch.manual_seed(0)
    return AttentiveNeuralProcess(SMALL)


def told(batch: int = 3, known: int = 7, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    points = torch.rand(batch, known, 1, generator=generator_for(seed, "process"))
    return points, torch.sin(6 * points)


def test_the_published_one_has_a_million_weights():
    assert sum(p.numel() for p in AttentiveNeuralProcess(NeuralProcessConfig()).parameters()) == 1_090_818


def test_log_density_divergence_and_mixture_are_those_of_gaussians():
    mean, scale = torch.randn(4, 2, 5, 1), torch.rand(4, 2, 5, 1) + 0.1
    values = torch.randn(2, 5, 1)
    said = PointAnswers(mean, scale)
    torch.testing.assert_close(said.log_density(values), torch.distributions.Normal(mean, scale).log_prob(values))
    mixed, variance = said.mixed()
    torch.testing.assert_close(mixed, mean.mean(0))
    second = (scale**2 + mean**2).mean(0)
    torch.testing.assert_close(variance, second - mixed**2)
    net, (points, known) = small().eval(), told()
    asked, truth = told(seed=1)
    found = net(points, known, asked, truth)
    prior = net._latent(torch.cat([points, known], -1))
    whole = net._latent(torch.cat([torch.cat([points, known], -1), torch.cat([asked, truth], -1)], 1))
    torch.testing.assert_close(
        found.divergence,
        torch.distributions.kl_divergence(*(torch.distributions.Normal(*one) for one in (whole, prior))).sum(-1),
        rtol=1e-4,
        atol=1e-6,
    )


def test_it_does_not_hang_on_the_order_of_points_or_on_other_functions():
    net, (points, values) = small().eval(), told()
    asked, _ = told(known=4, seed=1)
    whole = net(points, values, asked, generator=generator_for(0))
    assert whole.mean.shape == whole.scale.shape == (1, 3, 4, 1)
    assert (whole.scale > SMALL.least).all()
    turned = net(points.flip(1), values.flip(1), asked, generator=generator_for(0))
    torch.testing.assert_close(turned.mean, whole.mean, rtol=1e-5, atol=1e-5)
    many = net(points, values, asked, num_draws=6, generator=generator_for(0))
    assert many.mean.shape == (6, 3, 4, 1)
    assert (many.mean[0] != many.mean[1]).any()
    assert many.divergence is None


def test_it_learns_that_a_function_is_the_same_everywhere():
    torch.manual_seed(0)
    net = AttentiveNeuralProcess(SMALL.model_copy(update={"dropout": 0.0}))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    losses = []
    for step in range(60):
        generator = generator_for(step, "levels")
        level = 2 * torch.rand(16, 1, 1, generator=generator) - 1
        points, asked = (torch.rand(16, 5, 1, generator=generator) for _ in range(2))
        known = truth = level.expand(16, 5, 1)
        said = net(points, known, asked, truth, generator=generator)
        loss = said.divergence.mean() / 5 - said.log_density(truth).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(p.grad is not None for p in net.parameters())
    alone = 0.5 * math.log(2 * math.pi / 3) + 0.5  # of one Gaussian for all points
    assert sum(losses[-10:]) / 10 < alone - 0.3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": torch.zeros(3, 6, 1)}, "Every known point has a value"),
        ({"points": torch.zeros(3, 7, 2)}, "'points' is \\(batch, point, 1\\); got \\(3, 7, 2\\)"),
        ({"asked": torch.zeros(3, 1)}, "'asked' is"),
        ({"truth": torch.zeros(3, 7, 2)}, "'truth' is"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    points, values = told()
    given = {"points": points, "values": values, "asked": points, **change}
    with pytest.raises(SignatureError, match=message):
        small()(given.pop("points"), given.pop("values"), given.pop("asked"), **given)


def test_heads_share_the_width():
    with pytest.raises(ValidationError, match="4 heads share the width, and 10 cannot be shared"):
        NeuralProcessConfig(width=10)
