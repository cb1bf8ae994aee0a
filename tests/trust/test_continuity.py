"""Continuity and bands: numbers by hand, and where they do not apply."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import exact
import tiny
from scifm.evaluation.forecast import spectral_error
from scifm.fields.domain import Domain
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.continuous import Continuous, ContinuousConfig
from scifm.models.fno import FNO, FNOConfig
from scifm.models.operator import Operator
from scifm.trust.continuity import Continuity
from scifm.trust.waves import Waves


def ask(check, operator, batch, **about):
    return check(operator, batch, generator=generator_for(0, "test"), **about)


# --- continuity -------------------------------------------------------------------------------------------------------


def test_the_error_in_finer_steps_is_that_of_the_closed_form():
    """Every step of Euler fits: in 8 parts (1 + G t/8)⁸ is left, over what a turn by t moves. All samples are alike."""
    angle = 2 * torch.pi * (torch.arange(4, dtype=torch.float64) / 4 + torch.arange(8)[:, None] / 8)
    inputs = torch.stack([angle.cos(), angle.sin()], dim=1)[:, None]  # place and speed are alike in size
    later = torch.stack([(angle - 0.3).cos(), (angle - 0.3).sin()], dim=1)[:, None]
    told = ask(Continuity(), exact.turning("euler"), replace(exact.turns(), inputs=inputs, targets=later))
    assert told.good is False
    turn = complex(torch.tensor(0.3j).exp())
    off = abs((1 + (turn - 1) / 8) ** 8 - turn) / abs(turn - 1)
    assert told.statistic == pytest.approx(off / 1e-3, rel=1e-5)  # its own error counts as a thousandth
    assert told.low <= told.statistic <= told.high
    assert "a map of the step" in told.said
    assert [round(1 / x) for x in told.figure.panels[0].series[0].x] == [1, 2, 4, 8]


def test_the_equation_itself_gets_better_in_finer_steps_whatever_the_scheme():
    for scheme in ("euler", "midpoint", "rk4"):
        told = ask(Continuity(), exact.turning(scheme, learned=False), exact.turns())
        assert told.good is True, scheme
        assert told.statistic < {"euler": 0.2, "midpoint": 0.3, "rk4": 1.01}[scheme]


def test_a_midpoint_that_fits_a_long_step_is_caught_and_of_a_short_one_is_let_go():
    assert ask(Continuity(), exact.turning("midpoint", time=0.3), exact.turns(time=0.3)).good is False
    assert ask(Continuity(), exact.turning("midpoint", time=0.03), exact.turns(time=0.03)).good is True


def test_what_is_wrong_in_its_own_steps_is_not_judged():
    told = ask(Continuity(), exact.Turning("euler", -3 * torch.eye(2)), exact.turns())
    assert (told.good, told.statistic) == (None, None)
    assert "in its own steps already" in told.said


def test_what_leaves_every_bound_in_finer_steps_is_bad():
    class Bursting(exact.Turning):
        def stepped(self, *, scheme=None, num_steps=None):
            return exact.Turning("rk4", 1e200 * torch.eye(2), num_steps) if num_steps > 1 else self

    told = ask(Continuity(), Bursting("rk4", exact.turning("rk4").generator.data), exact.turns())
    assert told.good is False
    assert "finite numbers" in told.said


def test_a_map_from_state_to_state_has_no_steps_to_be_made_finer():
    operator = FNO(exact.BURGERS.signature, FNOConfig(**tiny.NETWORK))
    operator.domain = Domain(lead_times=(0.125, 0.125))
    told = ask(Continuity(), operator, exact.windows(4))
    assert (told.good, told.statistic) == (None, None)
    assert "the next state, 0.125 later, and nothing between" in told.evidence
    steady = ask(Continuity(), tiny.operator(), tiny.batch(4))
    assert "does not evolve" in steady.evidence


class Told(Operator):
    """Oscillators that are told how far ahead they look: exact, or only at one time and standing still before it."""

    def __init__(self, only: float | None = None) -> None:
        super().__init__(exact.OSCILLATORS, FNOConfig(**tiny.NETWORK, lead_time=True))
        self.generator, self.only = torch.nn.Parameter(exact.turning("rk4", learned=False).generator.data), only

    def _next_frame(self, batch):
        times = batch.lead_time[:, 0, None, None].to(batch.inputs)
        turns = torch.linalg.matrix_exp(self.generator.to(batch.inputs) * times)
        moved = torch.einsum("bij,btjx->btix", turns, batch.inputs)
        still = torch.zeros(batch.num_samples) if self.only is None else (times.flatten() - self.only).abs() > 1e-3
        return torch.where(still.bool()[:, None, None, None], batch.inputs, moved)


def test_one_that_is_told_the_time_goes_it_in_parts():
    batch = exact.turns()
    good, bad = ask(Continuity(), Told(), batch), ask(Continuity(), Told(only=0.3), batch)
    assert (good.good, bad.good) == (True, False)
    assert good.statistic == pytest.approx(1)
    assert bad.statistic == pytest.approx(1000, rel=1e-6)  # it stands still, beside a thousandth
    assert [round(1 / x) for x in bad.figure.panels[0].series[0].x] == [1, 2, 4]


def test_parts_are_of_times_that_it_was_trained_at():
    operator, batch = Told(), exact.turns()
    operator.domain = Domain(lead_times=(0.15, 0.3))
    told = ask(Continuity(), operator, batch)
    assert [round(1 / x) for x in told.figure.panels[0].series[0].x] == [1, 2]
    operator.domain = Domain(lead_times=(0.2, 0.3))
    told = ask(Continuity(), operator, batch)
    assert (told.good, told.statistic) == (None, None)
    assert "none of the samples' has a half among them" in told.evidence


def test_networks_in_depth_and_in_time_are_asked():
    torch.manual_seed(0)
    small = {**tiny.NETWORK, "scheme": "midpoint", "num_steps": 2}
    for batch in (tiny.batch(4), exact.windows(4)):
        operator = Continuous(batch.signature, ContinuousConfig(**small))
        own = operator.answers(batch).require_targets()
        flow = operator.stepped(scheme="rk4", num_steps=8).answers(batch).require_targets()
        start = batch.inputs if batch.signature.evolves else 0.0
        told = ask(Continuity(), operator, batch.with_targets(flow + 0.01 * (flow - start)))
        assert told.good is True
        away = own + 10 * (own - flow)  # where the flow is further off than the steps of its own
        told = ask(Continuity(least=1e-9), operator, batch.with_targets(away))
        assert 1 < told.statistic < 2, "of eleven parts one"


# --- bands ------------------------------------------------------------------------------------------------------------


def test_bands_of_waves_by_hand():
    """On 64 points, of which a grid of 32 holds waves to 16: thirds end at 2.52 and 6.35."""
    grid, x = Grid.square(64, num_spatial_dims=1), torch.arange(64, dtype=torch.float64) / 64
    sizes = {1: 1.0, 4: 0.5, 9: 0.1, 20: 1e-6}
    waves = {k: (2 * torch.pi * k * x).cos().view(1, 1, 1, -1) for k in (*sizes, 2, 6, 16, 30)}
    truth = sum(size * waves[k] for k, size in sizes.items())
    answer = truth + 0.1 * waves[2] - 0.2 * waves[6] + 0.03 * waves[16] + 0.004 * waves[30]
    about = {"resolved": 16.0, "least_share": 1e-4}
    found = {name: float(value) for name, value in spectral_error(answer, truth, grid, **about).items()}
    whole = (1 + 0.25 + 0.01) ** 0.5
    assert found == pytest.approx({"low": 0.1, "middle": 0.4, "high": 0.3, "beyond": 0.004 / (whole * 1e-2)}, rel=1e-6)
    plain = spectral_error(answer, truth, grid)
    assert set(plain) == {"low", "middle", "high"}
    assert float(plain["high"]) != pytest.approx(0.3)


def test_an_answer_that_ends_where_its_grid_does_is_told_and_not_judged():
    class Low(type(exact.poisson().module)):
        def forward(self, x):
            full = super().forward(x)
            spectrum = torch.fft.fft2(full)
            n = x.shape[-1]
            waves = torch.fft.fftfreq(n, 1 / n)
            beyond = (waves[:, None].square() + waves.square()).sqrt() > 8
            return torch.fft.ifft2(torch.where(beyond, 0, spectrum)).real

    operator = type(exact.poisson()).wrap(Low(torch.inf, torch.inf), tiny.batch(1).signature)
    told = ask(Waves(least_share=1e-14), operator, tiny.batch(4), origin=exact.of_poisson())
    assert told.good is None
    assert told.statistic == pytest.approx(1, rel=1e-3)
    assert "shorter waves it does not answer" in told.said


def test_bands_are_not_asked_of_what_nobody_can_draw():
    told = ask(Waves(), exact.poisson(), tiny.batch(4))
    assert (told.good, told.statistic) == (None, None)
    assert "not known" in told.said


def test_bands_of_what_evolves():
    told = ask(Waves(), exact.forecaster(), exact.windows(4), origin=exact.of_burgers())
    assert told.good is True
    assert told.statistic < 0.1
    kicked = ask(Waves(), exact.forecaster(factor=-1.0), exact.windows(4), origin=exact.of_burgers())
    assert kicked.good is False
    assert "long waves" in kicked.said or "waves the answer" in kicked.said


def test_numbers_that_are_none_are_bad_on_a_finer_grid():
    operator = exact.poisson()
    operator.module.register_forward_hook(lambda module, given, out: out if out.shape[-1] < 17 else out * torch.nan)
    told = ask(Waves(), operator, tiny.batch(4), origin=exact.of_poisson())
    assert told.good is False
    assert "finite numbers" in told.said
