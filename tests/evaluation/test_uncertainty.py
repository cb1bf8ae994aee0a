"""Scores of uncertainty: closed forms, a kept library's numbers, and what each is for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from scifm.errors import SignatureError
from scifm.evaluation.uncertainty import (
    calibration_error,
    coverage,
    crps_ensemble,
    crps_normal,
    log_density,
    n_merci,
    rank_correlation_interval,
    risk_coverage,
    spread_skill,
)


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_crps_is_that_of_a_kept_library():
    kept = pytest.importorskip("scoringrules")
    members, truth = draws(7, 50), draws(50, seed=1)
    own = kept.crps_ensemble(truth.numpy(), members.T.numpy(), estimator="fair")
    torch.testing.assert_close(crps_ensemble(members, truth), torch.from_numpy(own))
    mean, std = draws(50, seed=2), draws(50, seed=3).abs() + 0.1
    own = kept.crps_normal(truth.numpy(), mean.numpy(), std.numpy())
    torch.testing.assert_close(crps_normal(mean, std, truth), torch.from_numpy(own))


def test_crps_by_hand():
    members = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    assert crps_ensemble(members, torch.tensor([1.0], dtype=torch.float64)).item() == pytest.approx(0.0)  # 1 − 2/2
    zero = torch.zeros(1, dtype=torch.float64)
    assert crps_normal(zero, zero + 1, zero).item() == pytest.approx((math.sqrt(2) - 1) / math.sqrt(math.pi))
    assert log_density(zero, zero + 1, zero).item() == pytest.approx(-0.5 * math.log(2 * math.pi))


def test_what_is_calibrated_has_no_calibration_error_and_what_is_too_sure_has():
    truth, zero = draws(200_000), torch.zeros(200_000, dtype=torch.float64)
    assert calibration_error(zero, zero + 1, truth) < 0.003
    levels = torch.linspace(0, 1, 11, dtype=torch.float64)
    too_sure = (torch.special.ndtr(0.1 * torch.special.ndtri(levels)) - levels).square().mean().sqrt().item()
    assert calibration_error(zero, zero + 0.1, truth) == pytest.approx(too_sure, rel=0.02)
    assert coverage(zero - 1.96, zero + 1.96, truth) == pytest.approx(0.95, abs=0.002)


def test_spread_is_skill_where_the_truth_could_be_a_member():
    members, truth = draws(5, 100_000), draws(100_000, seed=1)
    assert spread_skill(members, truth) == pytest.approx(1.0, abs=0.01)
    assert spread_skill(0.1 * members, truth) == pytest.approx(0.11, abs=0.01)
    with pytest.raises(SignatureError, match="at least two members"):
        spread_skill(members[:1], truth)


def test_n_merci_tells_an_oracle_from_a_constant():
    errors = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 1.0, 200))
    assert n_merci(errors, 3 * errors) == pytest.approx(0.0, abs=1e-12)
    assert n_merci(errors, torch.ones_like(errors)) == pytest.approx(0.37, abs=0.1)
    assert n_merci(errors, 1 / errors) > 1


def test_ranks_go_together_or_not():
    errors = draws(200).abs()
    rank, low, high = rank_correlation_interval(errors.square(), errors)
    assert (rank, low, high) == (pytest.approx(1.0), pytest.approx(1.0), pytest.approx(1.0))
    rank, low, high = rank_correlation_interval(draws(200, seed=1), errors)
    assert low < rank < high
    assert low < 0 < high
    scores, errors = torch.tensor([1.0, 1.0, 2.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    tied = rank_correlation_interval(scores, errors)[0]
    assert tied == pytest.approx(float(stats.spearmanr([1, 1, 2, 2, 3], [1, 2, 3, 4, 5])[0]))
    with pytest.raises(SignatureError, match="four samples"):
        rank_correlation_interval(torch.ones(3), torch.ones(3))


def test_the_risk_of_answering_the_surest_first():
    shares, risks = risk_coverage(torch.tensor([3.0, 1.0, 2.0, 4.0]), torch.tensor([30.0, 10.0, 20.0, 100.0]))
    assert shares.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risks.tolist() == [10.0, 15.0, 20.0, 40.0]
