"""Intervals from few seeds: by hand, and by counting how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from scifm.errors import ConfigError, DataError
from scifm.studies.statistics import (
    geometric_mean,
    log_interval,
    median_estimate,
    paired_ratio,
    rank_correlation,
    relative_spread,
)


def test_interval_of_three_by_hand():
    # log2: 0, 1, 2 → mean 1, s = 1, t(0.95, 2 degrees) = 2.919986, half = 2.919986/√3 = 1.685855
    low, high = log_interval([1.0, 2.0, 4.0], 0.9)
    assert low == pytest.approx(2 ** (1 - 1.685855), rel=1e-5)
    assert high == pytest.approx(2 ** (1 + 1.685855), rel=1e-5)
    assert median_estimate([4.0, 1.0, 2.0], 0.9) == pytest.approx((2.0, low, high))


@pytest.mark.parametrize("values", [[], [0.1], [0.1, math.nan, 0.2], [0.1, 0.0, 0.2]])
def test_without_enough_there_is_no_interval(values):
    assert all(map(math.isnan, log_interval(values, 0.9)))


def test_one_seed_keeps_its_number_and_nothing_else():
    center, low, high = median_estimate([0.1], 0.9)
    assert center == 0.1
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_not_survived(bad):
    assert all(map(math.isnan, median_estimate([0.1, 0.2, bad], 0.9)))
    assert all(map(math.isnan, paired_ratio([0.1, 0.2], [0.1, bad], 0.9)))
    assert all(map(math.isnan, paired_ratio([0.1, bad], [0.1, 0.2], 0.9)))
    assert math.isnan(geometric_mean([1.0, math.nan]))


def test_interval_holds_the_median_it_is_printed_beside():
    skewed = [1.0] * 30 + [1000.0] * 14
    low, high = log_interval(skewed, 0.9)
    assert low > 1.0  # the geometric mean's interval leaves the median out
    assert median_estimate(skewed, 0.9) == (1.0, 1.0, high)


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_interval_holds_the_truth_as_often_as_it_says(num_seeds):
    """20,000 studies of log-normal errors around a median of 0.03; standard error of the share 0.002, allowed 0.01."""
    draws = 0.03 * np.exp(0.3 * np.random.default_rng(0).standard_normal((20_000, num_seeds)))
    bounds = np.array([log_interval(draw, 0.9) for draw in draws])
    share = ((bounds[:, 0] <= 0.03) & (bounds[:, 1] >= 0.03)).mean()
    assert share == pytest.approx(0.9, abs=0.01)


def test_the_range_of_three_seeds_is_no_interval_of_90_percent():
    """Why there is no percentile bootstrap of seeds here: its widest answer holds the median in 75 % of studies."""
    draws = np.random.default_rng(0).standard_normal((20_000, 3))
    assert ((draws.min(1) <= 0) & (draws.max(1) >= 0)).mean() == pytest.approx(0.75, abs=0.01)


def test_interval_with_errors_by_sample_covers_the_draw_of_samples_too():
    """Runs and test samples are both drawn; blind to the samples, the interval holds the truth too rarely."""
    generator, truth, num_studies = np.random.default_rng(1), math.log(0.03), 3000
    wide, blind = 0, 0
    for _ in range(num_studies):
        samples = np.exp(generator.standard_normal(64) - 0.5)  # mean 1 over all samples there could be
        errors = 0.03 * np.exp(0.05 * generator.standard_normal((3, 1))) * samples
        means = errors.mean(1)
        for spread in (None, relative_spread(errors)):
            low, high = log_interval(means, 0.9, spread=spread)
            held = low <= math.exp(truth) <= high
            blind, wide = (blind + held, wide) if spread is None else (blind, wide + held)
    assert blind / num_studies < 0.5
    assert wide / num_studies == pytest.approx(0.9, abs=0.04)


def test_spread_of_samples_by_hand():
    # rows over their means 2 and 4: (0.5, 1.5) and (0.25, 1.75); their mean
    assert relative_spread([[1.0, 3.0], [1.0, 7.0]]) == pytest.approx([0.375, 1.625])
    with pytest.raises(DataError, match=r"\(seed, sample\)"):
        relative_spread([1.0, 2.0])


def test_paired_ratio_forgets_what_seeds_share():
    shared = np.array([1.0, 10.0, 100.0])
    center, low, high = paired_ratio(3 * shared, shared, 0.9)
    assert (center, low, high) == pytest.approx((3, 3, 3))
    with pytest.raises(DataError, match="same seeds"):
        paired_ratio([1.0], [1.0, 2.0], 0.9)


@pytest.mark.parametrize("level", [0, 1, 90, math.nan])
def test_a_level_that_is_none_is_refused(level):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        log_interval([1.0, 2.0], level)


def test_rank_correlation_by_hand():
    # ranks 1 2 3 4 against 1 3 2 4: 1 − 6·2/(4·15) = 0.8; |ρ| ≥ 0.8 in 8 of 24 orders
    assert rank_correlation([1, 2, 3, 4], [0.1, 0.3, 0.2, 0.4]) == pytest.approx((0.8, 8 / 24, 4))
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx((-1, 2 / 6, 3))


def test_rank_correlation_agrees_with_scipy_beyond_the_exact_ones():
    x, y = np.random.default_rng(0).standard_normal((2, 9))
    told = stats.spearmanr(x, y)
    assert rank_correlation(x, y) == pytest.approx((told.statistic, told.pvalue, 9))


def test_no_p_value_is_smaller_than_orders_allow():
    order = list(range(8))
    assert rank_correlation(order, order) == pytest.approx((1, 2 / math.factorial(8), 8))


@pytest.mark.parametrize(
    ("x", "y", "num"),
    [([], [], 0), ([1, 2], [1, 2], 2), ([1, 1, 1], [1, 2, 3], 3), ([1, 2, 3], [1, math.nan, 2], 2)],
)
def test_too_little_to_rank(x, y, num):
    rho, p_value, num_pairs = rank_correlation(x, y)
    assert math.isnan(rho)
    assert math.isnan(p_value)
    assert num_pairs == num
