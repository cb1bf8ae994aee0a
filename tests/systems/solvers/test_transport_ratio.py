from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scifm.errors import DataError
from scifm.fields.seeds import generator_for
from scifm.systems.solvers.transport_ratio import RatioCurve, meet_ratio, ratio_at


def problem(spread, num=16, modes=50):
    generator = generator_for(0)
    power = torch.rand(num, modes, generator=generator, dtype=torch.float64)
    return power, torch.exp(spread * torch.randn(num, modes, generator=generator, dtype=torch.float64))


@given(st.floats(-3, 2), st.floats(0, 4))
def test_the_speed_found_has_the_ratio_asked_for(log_ratio, spread):
    ratio = torch.full((16,), 10.0**log_ratio, dtype=torch.float64)
    power, balance = problem(spread)
    torch.testing.assert_close(ratio_at(meet_ratio(ratio, power, balance), power, balance), ratio, rtol=1e-5, atol=0)


def test_one_mode_by_hand():
    speed = meet_ratio(torch.tensor([3.0]), torch.tensor([[2.0]]), torch.tensor([[4.0]]))
    assert speed.item() == pytest.approx(1.5)


def test_waves_across_the_flow_bound_the_ratio():
    power, balance = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])
    assert meet_ratio(torch.tensor([1.7]), power, balance).isfinite().all()
    with pytest.raises(DataError, match=r"ratio of 1\.8 cannot be reached in sample 0"):
        meet_ratio(torch.tensor([1.8]), power, balance)


def test_calibration_inverts_the_mean():
    power, balance = problem(1.0, num=200)
    curve = RatioCurve.run(power, balance)
    speed = curve.speed(torch.tensor([0.4, 1.3], dtype=torch.float64))
    means = torch.stack([ratio_at(s.expand(200), power, balance).mean() for s in speed])
    torch.testing.assert_close(means, torch.tensor([0.4, 1.3], dtype=torch.float64), rtol=2e-3, atol=0)
    with pytest.raises(DataError, match="reach from"):
        curve.speed(torch.tensor([1e12], dtype=torch.float64))
