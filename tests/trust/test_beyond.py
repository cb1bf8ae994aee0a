"""Scales, other truths, finer grids, knobs beyond ranges, steps ahead: hand-made cases, and where none applies."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import exact
import networks
import tiny
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.findings.finding import Finding
from scifm.models.module_operator import ModuleOperator
from scifm.systems.knobs import Knob
from scifm.systems.poisson import Poisson
from scifm.trust import CHECKS, Extrapolation, LeadTimes, OverfitOneBatch, Resolution, Scales, ShuffledTruths
from scifm.trust.examine import CheckRecipe, check_operator
from scifm.trust.extrapolation import beyond_range
from scifm.trust.shuffled_truths import _resized


def ask(check, operator, batch, origin=None, **about):
    return check(operator, batch, generator=generator_for(0, "test"), origin=origin, **about)


class Halves(torch.nn.Module):
    """Answers the longest wave as it is, and the third one turned."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        modes = torch.fft.rfft(x[:, :1])
        modes[..., 3] *= -self.gain
        return torch.fft.irfft(modes, n=x.shape[-1])


def test_the_scale_that_is_wrong_is_named_by_its_wave():
    x = torch.arange(16) / 16 * 2 * math.pi
    field = (torch.cos(x) + 0.5 * torch.cos(3 * x) + 1e-3 * torch.cos(5 * x)).expand(4, 1, 1, 16).clone()
    batch = Batch(Signature(("f",), (), ("u",), 1), Grid((16,)), field, torch.zeros(4, 0), field)
    told = ask(Scales(), ModuleOperator.wrap(Halves(), batch.signature), batch)
    assert (told.good, told.statistic) == (False, pytest.approx(2.0, rel=1e-5)), "its wave is off by twice itself"
    assert "From 3 waves along a side on" in told.said
    assert "2 shells of 8 hold 0.001" in told.evidence, "the fifth holds less"
    flat = replace(batch, inputs=torch.ones_like(field), targets=torch.ones_like(field))
    assert ask(Scales(), ModuleOperator.wrap(Halves(), batch.signature), flat).light == "none"


def test_an_answer_of_another_size_still_belongs_to_its_question():
    good = ModuleOperator.wrap(networks.ExactPoisson(gain=1.2), Poisson.signature)
    told = ask(ShuffledTruths(), good, tiny.batch(16))
    assert told.good is True
    assert told.low < told.statistic < told.high < 1
    one = ask(ShuffledTruths(num_samples=2), good, tiny.batch(1))
    assert (one.light, one.statistic) == ("none", None)


def test_the_other_truth_is_brought_to_the_own_size():
    truth = torch.randn(3, 2, 2, 8, dtype=torch.float64)
    others = 100 * truth.roll(1, 0)
    brought = _resized(others, truth)
    torch.testing.assert_close(brought.square().mean(3), truth.square().mean(3))
    torch.testing.assert_close(
        brought / brought.abs().amax(3, keepdim=True), others / others.abs().amax(3, keepdim=True)
    )
    assert not _resized(torch.zeros_like(truth), truth).any(), "what is nothing stays nothing"


def test_the_other_truth_is_that_of_a_sample_far_away():
    """Of trajectories that hardly change neighbours are as good as the own truth: they say nothing of looking."""
    batch = tiny.batch(8)
    pairs = torch.arange(8) // 2  # windows of one trajectory, side by side and equal
    told = ask(ShuffledTruths(), exact.poisson(), batch.select(pairs))
    assert (told.good, told.statistic < 1e-3) == (True, True)


class Breaks(exact._Kept):
    """Answers NaN where `exact` answers nothing."""

    def forward(self, x):
        answer = super().forward(x)
        nothing = (answer == 0).flatten(1).all(1).view(-1, 1, 1, 1)
        return torch.where(nothing, torch.nan, answer)


def test_answers_that_are_no_numbers_are_bad_news_and_not_left_out():
    batch, origin = tiny.batch(8), exact.of_poisson(anisotropy=[1, 5])
    finer = ModuleOperator.wrap(Breaks(16, torch.inf), Poisson.signature)
    told = ask(Resolution(), finer, batch, origin)
    assert (told.good, "finite numbers" in told.said) == (False, True)
    assert "16 × 16: 0; 32 × 32: 8" in told.evidence
    beyond = ModuleOperator.wrap(Breaks(torch.inf, 5), Poisson.signature)
    told = ask(Extrapolation(), beyond, batch, origin)
    assert (told.good, told.said.endswith("anisotropy above 5.")) == (False, True)


def test_who_does_not_claim_other_grids_is_told_without_a_verdict():
    batch, origin = tiny.batch(6), exact.of_poisson()
    told = ask(Resolution(), exact.poisson(points=16, claims=False), batch, origin)
    assert (told.good, told.light) == (None, "amber")
    assert "does not say that it answers there" in told.said
    good = ask(Resolution(), exact.poisson(), batch, origin)
    assert good.good is True
    assert "16 × 16" in good.evidence
    assert "64 × 64" in good.evidence
    assert ask(Resolution(), exact.poisson(), batch).light == "none", "nobody says what draws them"


def test_beyond_the_ends_of_a_range_by_hand():
    assert [(told, k.low, k.high) for told, k in beyond_range(Knob(1, 5), 0.25)] == [
        ("below 1", 0.0, 1.0),
        ("above 5", 5.0, 6.0),
    ]
    low, high = (knob for _, knob in beyond_range(Knob(0.01, 1.0, scale="log"), 0.5))
    assert (low.low, low.high, high.high) == (pytest.approx(1e-3), 0.01, pytest.approx(10.0))
    assert [(k.low, k.high) for _, k in beyond_range(Knob(1, 5, integer=True), 0.1)] == [(0, 0), (6, 6)]
    assert list(beyond_range(Knob(2, 2), 0.25)) == []


def test_the_worst_end_is_named_and_what_cannot_be_is_left_out():
    told = ask(Extrapolation(), exact.poisson(anisotropy=5), tiny.batch(8), exact.of_poisson(anisotropy=[1, 5]))
    assert (told.good, told.said.endswith("anisotropy above 5.")) == (False, True)
    assert "below 1" not in told.evidence, "there is no anisotropy below one"
    assert "angle below 0" in told.evidence
    fixed = ask(Extrapolation(), exact.poisson(), tiny.batch(8), exact.of_poisson(anisotropy=2, angle=0.0))
    assert (fixed.light, "No knob" in fixed.said) == ("none", True)
    assert ask(Extrapolation(), exact.poisson(), tiny.batch(8)).light == "none"


def test_steps_are_counted_until_the_first_that_cannot_be_used():
    batch, origin = exact.windows(4), exact.of_burgers()
    good = ask(LeadTimes(), exact.forecaster(), batch, origin)
    assert (good.good, good.statistic, good.threshold) == (True, 5.0, 5.0)
    assert "It does not conserve" not in good.evidence
    some = ask(LeadTimes(most=0.2), exact.forecaster(0.95), batch, origin)
    errors = list(some.figure.panels[0].series[0].y)
    assert 0 < some.statistic < 5
    assert all(error <= 0.2 for error in errors[: int(some.statistic)])
    assert errors[int(some.statistic)] > 0.2
    assert (some.light, f"beyond step {int(some.statistic)}," in some.said) == ("amber", True)
    drifting = ask(LeadTimes(), exact.forecaster(kick=0.01), batch, origin)
    assert "It does not conserve: momentum by" in drifting.evidence
    assert ask(LeadTimes(num_steps=2), exact.forecaster(), batch, origin).threshold == 2.0
    assert ask(LeadTimes(), tiny.operator(), tiny.batch(4)).light == "none", "a steady problem does not march"
    assert ask(LeadTimes(), exact.forecaster(), batch).light == "none", "single steps are no trajectories"


def test_a_light_follows_from_verdict_and_number():
    lights = {(True, 1.0): "green", (False, None): "red", (None, 1.0): "amber", (None, None): "none"}
    for (good, statistic), light in lights.items():
        assert Finding(said="so", good=good, statistic=statistic).light == light


def test_a_budget_is_kept_and_what_was_not_asked_says_so():
    told = check_operator(tiny.operator(), tiny.batch(4), ["persistence", "overfit_one_batch"], budget=1e-9)
    assert [(one.name, one.light) for one in told] == [("persistence", "none"), ("overfit_one_batch", "none")]
    assert "budget was spent" in told[1].said
    assert told[1].seconds is None
    late = ask(OverfitOneBatch(num_steps=2000), tiny.operator(), tiny.batch(4), seconds=0.05)
    assert (late.light, "budget was spent" in late.said) == ("none", True)
    assert "of 2000 steps" in late.evidence


def test_of_what_evolves_fewer_trajectories_are_drawn(tmp_path):
    run = tiny.finished_run(tmp_path, {**tiny.EVOLVING, "name": "evolving"})
    assert CheckRecipe().samples_for(run.path)[0].num_problems == 32
    assert CheckRecipe(num_samples=3).samples_for(run.path)[0].num_problems == 3
    assert list(CHECKS)[-1] == "overfit_one_batch", "what trains comes last"
