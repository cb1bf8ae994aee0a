from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scifm.config import build_config
from scifm.errors import ConfigError
from scifm.training.loop import TrainingConfig
from scifm.training.schedules import SCHEDULES, learning_rate_factor


def curve(schedule: str, num_steps: int = 100, warmup: float = 0.1) -> list[float]:
    return [learning_rate_factor(schedule, step, num_steps, warmup_fraction=warmup) for step in range(num_steps)]


@given(schedule=st.sampled_from(sorted(SCHEDULES)), num_steps=st.integers(1, 200), warmup=st.floats(0, 0.99))
def test_factors_lie_between_nothing_and_the_peak_and_rise_then_fall(schedule, num_steps, warmup):
    factors = curve(schedule, num_steps, warmup)
    assert all(0 < f <= 1 for f in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_constant_is_constant():
    assert set(curve("constant")) == {1.0}


def test_cosine_by_hand():
    factors = curve("cosine", 100, 0.0)
    assert factors[0] == 1
    assert factors[50] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(0.5 * (1 - 0.99950656), abs=1e-6)  # cos(0.99 π)
    assert curve("cosine", 100, 0.1)[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])


def test_one_cycle_starts_low_peaks_after_the_warm_up_and_ends_at_nothing():
    factors = curve("one_cycle", 1000, 0.3)
    assert factors[0] == pytest.approx(1 / 25, abs=1e-4)
    assert factors.index(max(factors)) == 300
    assert factors[300] == 1
    assert factors[-1] < 1e-5


def test_it_does_not_jump():
    for schedule in SCHEDULES:
        factors = curve(schedule, 1000, 0.1)
        assert max(abs(a - b) for a, b in pairwise(factors)) < 0.02


def test_an_unknown_schedule_is_refused_with_those_there_are():
    allowed = ", ".join(sorted(SCHEDULES))
    with pytest.raises(ConfigError, match=rf"'schedule' = 'cosin': .*Did you mean 'cosine'.*Allowed: {allowed}"):
        build_config(TrainingConfig, {"schedule": "cosin"})
