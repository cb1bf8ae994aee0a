"""Numbers from few seeds: medians, their intervals, paired ratios, rank correlation.

Errors of neural operators spread by factors, not by differences, so everything here is done on logarithms. A study
has few seeds, typically three. The percentile bootstrap of a median of three values can only return the three values:
even the whole range from smallest to largest holds the true median in just 1 − 2·(1/2)³ = 75 % of studies. The
intervals here are Student's instead: exact for log-normal errors at any number of seeds from two on, and as wide as so
few seeds deserve. See docs/concepts/transfer-scores.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from scifm.errors import ConfigError, DataError

__all__ = [
    "LEVEL",
    "Interval",
    "RankCorrelation",
    "check_level",
    "geometric_mean",
    "log_interval",
    "median_estimate",
    "paired_ratio",
    "rank_correlation",
    "relative_spread",
]

LEVEL = 0.9
"""Of every interval of a study."""

# Up to here all orders are tried (5,040 of them); beyond, the t approximation of the p-value is good.
_MAX_EXACT_TASKS = 7
_MIN_TASKS = 3


class Interval(NamedTuple):
    """A number with its interval; NaN where it could not be computed."""

    center: float
    low: float
    high: float


class RankCorrelation(NamedTuple):
    """Spearman's ρ, its two-sided p-value, and the number of pairs it was computed from."""

    rho: float
    p_value: float
    num_pairs: int


_UNKNOWN = Interval(math.nan, math.nan, math.nan)


def check_level(level: float) -> None:
    """Refuse a level of confidence that is none.

    Raises:
        ConfigError: if `level` is not strictly between 0 and 1.
    """
    if not 0 < level < 1:
        raise ConfigError(f"The level of an interval must lie strictly between 0 and 1, such as 0.9; got {level}.")


def geometric_mean(values: ArrayLike) -> float:
    """Return exp(mean(log v)); NaN for no values, if one is NaN, or if one is not above 0."""
    logs = _logs(values)
    return float(np.exp(logs.mean())) if logs.size else math.nan


def relative_spread(sample_errors: ArrayLike) -> NDArray[np.float64]:
    """Return what each test sample adds to the logarithm of a mean error, to first order: mean over seeds of e/ē.

    Args:
        sample_errors: ``(seed, sample)``, one run a row, the same test samples in the same order.

    Returns:
        ``(sample,)``; its standard error is that of log ē from drawing other test samples (delta method).

    Raises:
        DataError: if it is not two-dimensional.
    """
    errors = np.asarray(sample_errors, dtype=np.float64)
    if errors.ndim != 2:
        raise DataError(f"Errors by sample must come as (seed, sample); got the shape {errors.shape}.")
    with np.errstate(divide="ignore", invalid="ignore"):
        spread: NDArray[np.float64] = (errors / errors.mean(axis=1, keepdims=True)).mean(axis=0)
    return spread


def log_interval(values: ArrayLike, level: float, *, spread: ArrayLike | None = None) -> tuple[float, float]:
    """Return Student's interval of the center of log-normal values: exp(mean(log v) ± t·s/√n).

    The center of a distribution symmetric in log v is its median, its geometric mean alike.

    Args:
        values: one positive number a seed.
        level: share of studies whose interval holds the truth, such as 0.9.
        spread: what `relative_spread` returns, or a difference of two such (for a ratio): adds, in quadrature, the
            error of having drawn these test samples and no others.

    Returns:
        Low and high; both NaN for fewer than two values or if a logarithm does not exist. Equal values give an interval
        of no width: the seeds then say nothing of how much runs differ.

    Raises:
        ConfigError: if `level` is not between 0 and 1.
    """
    check_level(level)
    logs = _logs(values)
    if logs.size < 2 or not np.isfinite(logs).all():
        return math.nan, math.nan
    half = _half_width(logs, level)
    if spread is not None:
        half = math.hypot(half, _half_width(np.asarray(spread, dtype=np.float64), level))
    center = float(logs.mean())
    return math.exp(center - half), math.exp(center + half)


def median_estimate(values: ArrayLike, level: float, *, spread: ArrayLike | None = None) -> Interval:
    """Return the median with `log_interval` around it, widened where it would not hold the median itself.

    One value that is NaN or infinite makes all three NaN: what a diverged run would have scored is not known.

    Raises:
        ConfigError: if `level` is not between 0 and 1.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not numbers.size or not np.isfinite(numbers).all():
        return _UNKNOWN
    center = float(np.median(numbers))
    low, high = log_interval(numbers, level, spread=spread)
    # Comparisons with NaN are false, and min(NaN, x) is NaN: an interval that is missing stays missing.
    return Interval(center, min(low, center), max(high, center))


def paired_ratio(
    numerator: ArrayLike, denominator: ArrayLike, level: float, *, spread: ArrayLike | None = None
) -> Interval:
    """Return the median of the ratios seed by seed, with the interval of their center.

    Pairing removes what the two runs of a seed share, above all the draw of the training samples. All is NaN where an
    error is not finite, or is 0 and has no logarithm.

    Args:
        numerator: one error a seed.
        denominator: errors of the same seeds in the same order.
        level: of the interval.
        spread: of numerator less that of the denominator, see `log_interval`.

    Raises:
        DataError: if the two are not equally long.
        ConfigError: if `level` is not between 0 and 1.
    """
    above, below = (np.asarray(x, dtype=np.float64) for x in (numerator, denominator))
    if above.shape != below.shape:
        raise DataError(f"A paired ratio needs the same seeds on both sides; got {above.size} and {below.size}.")
    if not all(np.isfinite(x).all() and (x > 0).all() for x in (above, below)):
        return _UNKNOWN
    return median_estimate(above / below, level, spread=spread)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> RankCorrelation:
    """Return Spearman's ρ of the pairs of which both numbers are finite.

    1: y rises whenever x does · −1: y falls whenever x rises · around 0: no order. Up to 7 pairs the p-value is exact,
    over all orders; beyond, it is the t approximation, never below what the two extreme of all orders have, 2/n!.

    Returns:
        ρ and p are NaN for fewer than 3 pairs and where x or y is constant.
    """
    pairs = np.array([(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)])
    num_pairs = len(pairs)
    if num_pairs < _MIN_TASKS or (pairs == pairs[0]).all(axis=0).any():
        return RankCorrelation(math.nan, math.nan, num_pairs)
    from scipy import stats  # half a second to import, which every worker of a study would pay

    rho, p_value = stats.spearmanr(pairs)
    if num_pairs > _MAX_EXACT_TASKS:
        return RankCorrelation(float(rho), max(float(p_value), 2 / math.factorial(num_pairs)), num_pairs)
    first, second = (ranks - ranks.mean() for ranks in stats.rankdata(pairs, axis=0).T)

    def strength(order: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.abs((order * second).sum(axis=axis))

    every_order = {"permutation_type": "pairings", "n_resamples": np.inf, "alternative": "greater"}
    test = stats.permutation_test((first,), strength, vectorized=True, **every_order)
    return RankCorrelation(float(rho), float(test.pvalue), num_pairs)


def _logs(values: ArrayLike) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: NDArray[np.float64] = np.log(numbers)
    return np.where(numbers > 0, logs, np.nan)


def _half_width(values: NDArray[np.float64], level: float) -> float:
    factor = float(stdtrit(values.size - 1, (1 + level) / 2))
    return factor * float(values.std(ddof=1)) / math.sqrt(values.size)
