"""What answers hold beside what they have to hold: budgets, what is conserved, signs; one step and marches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import exact
import tiny
from scifm.data.origins import Origin, SystemOrigin
from scifm.data.split import windows_of
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.normalization import Encoded
from scifm.fields.seeds import generator_for
from scifm.fields.window import Window
from scifm.models.conserved import Conserved
from scifm.models.fno import FNOConfig
from scifm.models.operator import Operator
from scifm.systems.allen_cahn import AllenCahn
from scifm.systems.incompressible_flow import IncompressibleFlow
from scifm.systems.stefan import Stefan
from scifm.trust import Conservation
from scifm.trust.contract import CheckContract

STEFAN = Stefan(num_frames=6)
LINE = Grid((65,), 1.0, "open")


class Leaking(Operator):
    """Stefan's solution, less a part of what was there, and less a number."""

    needs_periodic = False

    def __init__(self, part: float = 0.0, *, below: float = 0.0) -> None:
        super().__init__(STEFAN.signature, FNOConfig(**tiny.NETWORK))
        self.part, self.below = nn.Parameter(torch.tensor(part)), nn.Parameter(torch.tensor(below))

    def network(self, encoded: Encoded) -> Tensor:
        now = encoded.inputs[:, 0]
        later = STEFAN.advance(now, encoded.coefficients, encoded.grid, interval=STEFAN.save_interval, num_frames=1)
        return (1 - self.part) * later - self.below - now.unsqueeze(1)


def pairs(count: int = 6) -> Batch:
    drawn = STEFAN.sample(count, LINE, generator_for(0, "leaks"))
    return windows_of(drawn, Window()).batch(torch.arange(0, 5 * count, 5))


def origin() -> Origin:
    return SystemOrigin.of(STEFAN, LINE)


def ask(operator: Operator, batch: Batch, where: Origin | None = None, **settings):
    return Conservation(**settings)(operator, batch, generator=generator_for(0, "test"), origin=where)


class TestOnAFrontThatIsFed(CheckContract):
    check = Conservation()

    def samples(self):
        return pairs()

    def origin(self):
        return origin()

    def good(self):
        return Leaking()

    def bad(self):
        return [Leaking(0.05), Leaking(below=0.05)]


def test_a_part_that_is_lost_at_each_step_is_the_number_told():
    told = ask(Leaking(0.0015), pairs(), origin())
    assert (told.good, told.light) == (None, "amber")
    assert "integral of temperature 0.0015 after one step" in told.evidence
    assert "march of 5 steps" in told.evidence
    assert 2 < told.statistic < 10
    assert "scifm.models.conserved" in told.advice
    ask_more = ask(Leaking(0.0015), pairs(), origin(), most=0.05)
    assert ask_more.good is True
    shorter = ask(Leaking(0.0015), pairs(), origin(), num_steps=1)
    assert shorter.statistic == pytest.approx(1.5, rel=0.02)


def test_what_is_below_zero_where_the_truth_is_not_is_told():
    told = ask(Leaking(below=0.02), pairs(), origin())
    assert "temperature below zero 0.02 after one step (0)" in told.evidence
    assert {panel.title for panel in told.figure.panels} == {"integral of temperature", "temperature below zero"}


def test_one_that_is_held_to_what_is_known_passes():
    held = Conserved(Leaking(0.05), STEFAN.budgets)
    before, after = (ask(operator, pairs(), origin()) for operator in (Leaking(0.05), held))
    assert before.good is False
    assert (after.good, after.statistic < 0.1) == (True, True)
    free = ask(Conserved([Leaking(0.04), Leaking(0.06)], STEFAN.budgets), pairs(), origin())
    assert free.good is True


def test_samples_alone_say_their_system():
    told = ask(Leaking(0.05), pairs())
    assert told.good is False
    nameless = replace(pairs(), systems=())
    alone = ask(Leaking(0.05), nameless)
    assert alone.good is True, "nobody says what it holds, and it is nowhere below zero"
    assert "integral" not in alone.evidence


def test_what_grows_beyond_bounds_is_bad_news():
    told = ask(Leaking(below=-1e4), pairs(), origin())
    assert (told.good, told.statistic) == (False, None)


def test_where_it_does_not_apply():
    steady = ask(exact.poisson(), tiny.batch(4), exact.of_poisson())
    assert (steady.light, "does not evolve" in steady.said) == ("none", True)
    untold = ask(Leaking(), pairs().with_targets(None))
    assert (untold.light, "have none" in untold.said) == ("none", True)
    reacting = AllenCahn(num_spatial_dims=1, num_frames=3)
    drawn = reacting.sample(3, Grid.square(32, num_spatial_dims=1), generator_for(0, "none"))

    class Still(Operator):
        def __init__(self) -> None:
            super().__init__(reacting.signature, FNOConfig(**tiny.NETWORK))
            self.nothing = nn.Parameter(torch.zeros(()))

        def network(self, encoded: Encoded) -> Tensor:
            return self.nothing * encoded.inputs[:, None, 0]

    told = ask(Still(), windows_of(drawn, Window()).batch([0, 2, 4]))
    assert (told.light, "Nobody says" in told.said) == ("none", True)


FLOW = IncompressibleFlow(num_frames=4)


class Compressing(Operator):
    """The flow's own march, and something with a divergence and no mean."""

    def __init__(self, size: float = 0.0) -> None:
        super().__init__(FLOW.signature, FNOConfig(**tiny.NETWORK))
        self.size = nn.Parameter(torch.tensor(size))

    def network(self, encoded: Encoded) -> Tensor:
        now, grid = encoded.inputs[:, 0], encoded.grid
        later = FLOW.advance(now, encoded.coefficients, grid, interval=FLOW.save_interval, num_frames=1)
        wave = torch.sin(2 * torch.pi * torch.arange(16) / 16).expand(16, 16)
        return later - now[:, None, :2] + self.size * torch.stack([wave, 0 * wave]).to(later)


class TestOnAFlowWithoutDivergence(CheckContract):
    check = Conservation(num_steps=3)

    def samples(self):
        drawn = FLOW.sample(6, Grid.square(16), generator_for(0, "flows"))
        return windows_of(drawn, Window()).batch(torch.arange(0, 18, 3))

    def origin(self):
        return SystemOrigin.of(FLOW, Grid.square(16))

    def good(self):
        return Compressing()

    def bad(self):
        return [Compressing(0.05)]


def test_a_divergence_is_told_beside_the_solvers_own():
    samples = TestOnAFlowWithoutDivergence().samples()
    told = ask(Compressing(0.05), samples, TestOnAFlowWithoutDivergence().origin())
    assert told.good is False
    assert "divergence of velocity_x, velocity_y" in told.said
    assert "momentum_x" in told.evidence
    held = ask(Conserved(Compressing(0.05), FLOW.budgets, solenoidal=FLOW.solenoidal), samples)
    assert held.good is True
    assert any(panel.title.startswith("divergence") for panel in held.figure.panels)
