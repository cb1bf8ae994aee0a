"""The curvature of a loss in numbers, and the check that goes by it."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from torch import nn

import descended
import tiny
from scifm.errors import RunError
from scifm.fields.seeds import generator_for
from scifm.models.module_operator import ModuleOperator
from scifm.models.registry import load_operator
from scifm.objectives import MeanSquaredError
from scifm.systems.poisson import Poisson
from scifm.trust.curvature import Curvature, LossCurvature, curvature_of
from scifm.trust.examine import check_operator
from scifm.trust.hessian import Hessian, hessian_of

SMALL = {"width": 2, "modes": 2, "projection_width": 3, "latent_points": 6}


def ask(operator, batch=None, check=None, **about):
    generator = generator_for(0, "test")
    return (check or Curvature())(operator, batch or tiny.batch(4), generator=generator, **about)


def saddle(*values: float, at: float = 1.0) -> Hessian:
    curved = torch.tensor(values, dtype=torch.float64)
    return Hessian(lambda w: 10 + (curved * w["x"] ** 2).sum() / 2, {"x": torch.full_like(curved, at)})


def test_a_saddle_is_measured_exactly():
    found = LossCurvature.of(saddle(8.0, 2.0, -1.0, 0.0))
    assert (found.top, found.bottom) == (pytest.approx(8), pytest.approx(-1))
    assert found.negative == pytest.approx(1 / 8)
    assert (found.loss, found.slope) == (pytest.approx(14.5), pytest.approx(math.sqrt(69)))
    assert found.trace.value == pytest.approx(9)  # signs see a diagonal matrix exactly
    assert found.trace.standard_error == pytest.approx(0, abs=1e-9)
    assert found.negative_mass == pytest.approx(1 / 10)
    assert found.gain == pytest.approx((8 + 2) / 2 / 14.5)  # down to the minimum along what curves upward
    assert found.is_whole


def test_a_minimum_has_nothing_negative_and_nothing_to_gain():
    found = LossCurvature.of(saddle(8.0, 2.0, at=0.0))
    assert (found.negative, found.slope, found.gain, found.negative_mass) == (0.0, 0.0, 0.0, 0.0)
    assert LossCurvature.of(saddle(-1.0, -2.0)).negative == math.inf


def test_time_that_is_spent_is_told():
    hessian = hessian_of(tiny.operator(**SMALL), tiny.batch(2))
    found = LossCurvature.of(hessian, until=time.monotonic() - 1)
    assert not found.is_whole
    assert len(found.density.runs) == 1


def test_a_run_is_asked_by_the_objective_it_was_trained_by(tmp_path):
    tree = tiny.recipe(training={"objective": "mean_squared_error"})
    run, batch = tiny.finished_run(tmp_path, tree), tiny.batch(3)
    operator = load_operator(run.path / "model")
    how = {"num_runs": 1, "num_steps": 3}
    mse = curvature_of(operator, batch, MeanSquaredError(), **how)
    assert curvature_of(run, batch, **how).top == mse.top
    assert curvature_of(run.path, batch, **how).loss == mse.loss
    assert curvature_of(operator, batch, **how).loss != mse.loss
    parts = curvature_of(run, batch, batch_size=2, **how)
    assert parts.top == pytest.approx(mse.top, rel=1e-9)
    with pytest.raises(RunError):
        curvature_of(tmp_path / "nowhere", batch)
    (found,) = check_operator(run, batch, ["curvature"], record=False)
    assert "Of the Hessian of mean_squared_error, 3 samples" in found.evidence


def test_lights_go_by_the_most_negative_eigenvalue():
    found = ask(descended.ended(), tiny.batch(8))
    assert (found.light, found.threshold) == ("green", 0.003)
    assert 0 <= found.statistic < 0.003
    red = ask(tiny.operator())
    assert (red.light, red.threshold) == ("red", 0.003)
    assert red.statistic > 0.1
    assert "learning rate" in red.advice
    amber = ask(tiny.operator(), check=Curvature(most_negative=red.statistic / 2))
    assert (amber.light, amber.good) == ("amber", None)
    assert "stopped early" in amber.said
    own = LossCurvature.of(hessian_of(tiny.operator(), tiny.batch(4)), seed=5)
    assert red.statistic == pytest.approx(own.negative, rel=1e-3)


def test_it_draws_the_density_and_how_many_are_larger():
    found = ask(tiny.operator())
    assert [panel.group for panel in found.figure.panels] == ["Density", "How many"]
    density, larger = found.figure.panels
    x = np.array(density.series[0].x)
    y = np.array([0.0 if value is None else value for value in density.series[0].y])  # none: too small to be drawn
    width = np.ptp(x) / 108  # a hundredth of the range, which is drawn with four more at each end
    assert y.sum() * (x[1] - x[0]) / width == pytest.approx(1, abs=0.02)
    assert [series.line for series in larger.series] == ["solid", "dashed"]
    assert max(larger.series[0].y) + max(larger.series[1].y) <= 1261 + 1e-6


def test_what_was_not_measured_in_time_is_no_good_news():
    found = ask(descended.ended(), tiny.batch(8), seconds=1e-9)
    assert found.good is None
    assert "budget" in found.said or found.statistic > 0.003


class _Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Conv2d(4, 1, 1).requires_grad_(False)

    def forward(self, x):
        return self.map(x)


def test_what_has_no_curvature_says_why():
    with torch.random.fork_rng():
        frozen = ask(ModuleOperator.wrap(_Frozen(), Poisson.signature))
    assert frozen.light == "none"
    assert "No weight of this operator is trainable" in frozen.evidence
    halves = nn.Conv2d(4, 1, 1)
    nn.init.zeros_(halves.weight)
    nn.init.constant_(halves.bias, 0.5)
    batch = tiny.batch(2)
    exact = batch.with_targets(torch.full_like(batch.require_targets(), 0.5))
    found = ask(ModuleOperator.wrap(halves, Poisson.signature), exact)  # the norm of an error of zero has no slope
    assert found.light == "none"
    assert "no derivative at zero" in found.evidence


def test_it_looks_at_few_samples():
    found = ask(tiny.operator(**SMALL), tiny.batch(12), Curvature(num_runs=1, num_steps=3))
    assert "8 samples" in found.evidence
