"""How many samples does a target error need? A learning curve, extrapolated from a few points with its doubt.

The curve is a power law with a floor and, after pre-training, a head start::

    error(n) = A · [ φ + ((n + h) / (16 + h))^−b ] · exp(σ ε),    ε normal

A is the error that samples can still remove at n = 16, φ A the floor, b the slope, h the samples that pre-training was
worth (Hernandez et al. 2021, arXiv:2102.01293, count transferred data as more data of the task; a constant h is our
simplification), σ the noise from one training to the next. Without a head start, h = 0.

Two to four points at small n cannot fix four numbers: what is said about large n is mostly the prior's. So the answer
is Bayesian. Draws of (b, φ, h, σ) come from the prior and are weighted by the likelihood of the points, with log A, in
which the logarithm of the curve is linear, integrated out in closed form; log A is then drawn from what remains of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr, ndtri

from scifm.errors import ConfigError, DataError

__all__ = ["FEW_SHOT", "FROM_SCRATCH", "REFERENCE_SAMPLES", "Curve", "CurveDraws", "Need", "Prior", "predict_need"]

Floats = NDArray[np.float64]

REFERENCE_SAMPLES = 16
SLOPE_RANGE = (0.05, 1.5)
_NUM_DRAWS = (2**14, 2**18)  # prior draws; the second number is used where too few of the first carry weight
_MIN_EFFECTIVE_DRAWS = 400
_NUM_KEPT = 4000  # posterior draws handed on
_PRIOR_CURVES = 4.0  # how many curves the starting prior is worth when a prior is estimated from curves
_NUM_ROUNDS = 8  # of that estimation


@dataclass(frozen=True)
class Curve:
    """Errors of one learner after training on more and more samples.

    Args:
        num_samples: counts; a count may come several times.
        errors: one for each count, positive.
        zero_shot: error before any downstream sample, where there is one.

    Raises:
        DataError: if there is no point, lengths differ, a count is below 1, or an error is not positive and finite.
    """

    num_samples: tuple[int, ...]
    errors: tuple[float, ...]
    zero_shot: float | None = None

    def __post_init__(self) -> None:
        if not self.num_samples or len(self.num_samples) != len(self.errors):
            raise DataError(
                f"A learning curve needs one error for each number of samples, and at least one; got "
                f"{len(self.num_samples)} numbers and {len(self.errors)} errors."
            )
        if min(self.num_samples) < 1:
            raise DataError(f"Numbers of samples are counted from 1; got {min(self.num_samples)}.")
        given = [*self.errors, *([] if self.zero_shot is None else [self.zero_shot])]
        wrong = [error for error in given if not 0 < error < math.inf]
        if wrong:
            raise DataError(f"Errors on a learning curve must be positive and finite; got {wrong[0]}.")


@dataclass(frozen=True)
class Need:
    """How many samples a target error needs; `math.inf` where it is not reached at any number.

    Args:
        median: half of the possible curves need fewer.
        low: lower end of the central interval.
        high: its upper end.
        level: probability of the interval.
        reachable: probability that the target is reached at any number of samples.
    """

    median: float
    low: float
    high: float
    level: float
    reachable: float

    def to_dict(self) -> dict[str, float | None]:
        """Return the numbers for JSON; infinite ones are None."""
        entries = {"median": self.median, "low": self.low, "high": self.high}
        finite = {name: value if math.isfinite(value) else None for name, value in entries.items()}
        return {**finite, "level": self.level, "reachable": self.reachable}


@dataclass(frozen=True)
class Prior:
    """What is believed about a learning curve before seeing it. Pairs are a center and a spread.

    Args:
        slope: mean and standard deviation of b, a normal cut to 0.05 … 1.5.
        floor: median of φ and standard deviation of log φ, where there is a floor.
        no_floor: probability that there is none.
        noise: median of σ and standard deviation of log σ.
        level: median of A and standard deviation of log A.
        head_start: median of h and standard deviation of log h; None: h = 0.

    Raises:
        ConfigError: if a center or a spread is not positive and finite, or `no_floor` is no probability.
    """

    slope: tuple[float, float] = (0.6, 0.35)
    floor: tuple[float, float] = (0.05, 1.5)
    no_floor: float = 0.2
    noise: tuple[float, float] = (0.1, 0.7)
    level: tuple[float, float] = (0.15, 1.5)
    head_start: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("slope", "floor", "noise", "level", "head_start"):
            pair = getattr(self, name)
            if pair is not None and not all(0 < value < math.inf for value in pair):
                raise ConfigError(f"{name} of a prior must be a positive center and a positive spread; got {pair}.")
        if not 0 <= self.no_floor <= 1:
            raise ConfigError(f"no_floor of a prior must lie from 0 to 1; got {self.no_floor}.")

    def draw(self, num_draws: int, *, seed: int = 0) -> CurveDraws:
        """Return curves as the prior believes them."""
        random = np.random.default_rng(seed)
        shapes = self._shapes(num_draws, random)
        center, spread = self.level
        level = math.log(center) + spread * random.standard_normal(num_draws)
        return CurveDraws(*shapes, level, random.standard_normal(num_draws), float(num_draws))

    def condition(self, curve: Curve, *, common_noise: float = 0.0, seed: int = 0) -> CurveDraws:
        """Return curves as the prior believes them once the points of `curve` are known.

        Args:
            curve: the points; its zero-shot error counts as the point n = 0 of a curve with a head start.
            common_noise: standard deviation of an error in log that all points share, such as that of a small set of
                held-out samples on which all were scored.
            seed: of the draws.

        Raises:
            ConfigError: if a zero-shot error is given and the prior has no head start, or `common_noise` is negative.
        """
        if not 0 <= common_noise < math.inf:
            raise ConfigError(f"common_noise must be a standard deviation, 0 or more; got {common_noise}.")
        if curve.zero_shot is not None and self.head_start is None:
            raise ConfigError("A curve from scratch has no zero-shot error; give a prior with head_start, or no error.")
        counts, logs = _points(curve)
        for num_draws in _NUM_DRAWS:
            random = np.random.default_rng(seed)
            posterior = _Posterior(self, self._shapes(num_draws, random), counts, logs)
            if posterior.effective >= _MIN_EFFECTIVE_DRAWS:
                break
        return posterior.resample(random, common_noise)

    def _shapes(self, num_draws: int, random: np.random.Generator) -> tuple[Floats, Floats, Floats, Floats]:
        """Draw slope, floor, head start and noise."""
        mean, deviation = self.slope
        low, high = (float(ndtr((bound - mean) / deviation)) for bound in SLOPE_RANGE)
        slope = mean + deviation * ndtri(low + (high - low) * random.random(num_draws))
        floor = _lognormal(self.floor, random, num_draws)
        floor = np.where(random.random(num_draws) < self.no_floor, 0.0, floor)
        head_start = np.zeros(num_draws)
        if self.head_start is not None:
            head_start = _lognormal(self.head_start, random, num_draws)
        return np.clip(slope, *SLOPE_RANGE), floor, head_start, _lognormal(self.noise, random, num_draws)

    @classmethod
    def from_curves(cls, curves: Iterable[Curve], *, start: Prior | None = None, seed: int = 0) -> Prior:
        """Estimate a prior from earlier learning curves: what others' curves looked like.

        Empirical Bayes by expectation maximization: every curve is explained under the present prior, the moments of
        all explanations together are the next prior. `start` takes part like four more curves, so that a few curves
        alike do not make the prior sure of itself.

        Args:
            curves: of other systems; each with at least two different counts, others are left out.
            start: where to begin, and what to be drawn to; `FEW_SHOT` if a curve has a zero-shot error, else
                `FROM_SCRATCH`.
            seed: of the draws.

        Raises:
            DataError: if no curve has two different counts.
        """
        useful = [curve for curve in curves if len(set(curve.num_samples)) > 1]
        if not useful:
            raise DataError(
                "A prior needs at least one learning curve with two different numbers of samples; got none."
            )
        if start is None:
            start = FEW_SHOT if any(curve.zero_shot is not None for curve in useful) else FROM_SCRATCH
        prior = start
        for _ in range(_NUM_ROUNDS):
            prior = _next_prior([prior.condition(curve, seed=seed) for curve in useful], start, seed)
        return prior

    def to_dict(self) -> dict[str, Any]:
        pairs = {name: list(getattr(self, name)) for name in ("slope", "floor", "noise", "level")}
        head_start = None if self.head_start is None else list(self.head_start)
        return {**pairs, "no_floor": self.no_floor, "head_start": head_start}


FROM_SCRATCH = Prior()
FEW_SHOT = Prior(slope=(0.5, 0.35), level=(0.03, 1.5), head_start=(16.0, 1.5))


@dataclass(frozen=True)
class CurveDraws:
    """Possible curves, equally likely, each with the noise of its next training: arrays ``(draw,)``.

    Args:
        slope: b.
        floor: φ, the floor as a share of A; 0 where there is none.
        head_start: h, samples.
        noise: σ.
        level: log A.
        deviate: ε of the next training.
        effective: number of prior draws that carried the weight; below about 100 the points contradict the prior.
    """

    slope: Floats
    floor: Floats
    head_start: Floats
    noise: Floats
    level: Floats
    deviate: Floats
    effective: float

    def errors(self, num_samples: float) -> Floats:
        """Return the error of the next training on `num_samples`, its noise included."""
        return np.exp(self.level + self.noise * self.deviate) * (self.floor + self._learnable(num_samples))

    def _learnable(self, num_samples: float) -> Floats:
        h = self.head_start
        return ((num_samples + h) / (REFERENCE_SAMPLES + h)) ** -self.slope

    def needed(self, target: float) -> Floats:
        """Return the number of samples at which the next training reaches `target`; infinite below the floor.

        Raises:
            ConfigError: if the target is not positive and finite.
        """
        if not 0 < target < math.inf:
            raise ConfigError(f"The target error must be positive and finite; got {target}.")
        share = target / np.exp(self.level + self.noise * self.deviate) - self.floor
        reached = share > 0
        h = self.head_start
        with np.errstate(over="ignore"):  # so many samples that a float cannot hold them: infinite is right
            count = (REFERENCE_SAMPLES + h) * np.where(reached, share, 1.0) ** (-1 / self.slope) - h
        return np.where(reached, np.maximum(count, 0.0), np.inf)

    def need(self, target: float, *, level: float = 0.8) -> Need:
        """Return median and central interval of `needed`.

        Raises:
            ConfigError: if the target is not positive, or the level not strictly between 0 and 1.
        """
        if not 0 < level < 1:
            raise ConfigError(f"The level of an interval must lie strictly between 0 and 1; got {level}.")
        draws = self.needed(target)
        shares = (0.5, (1 - level) / 2, (1 + level) / 2)
        # a quantile that is one of the draws: between a finite and an infinite one nothing can be interpolated
        median, low, high = (float(np.quantile(draws, share, method="inverted_cdf")) for share in shares)
        return Need(median, low, high, level, float(np.isfinite(draws).mean()))


def predict_need(
    num_samples: Sequence[int],
    errors: Sequence[float],
    target: float,
    *,
    prior: Prior,
    zero_shot: float | None = None,
    common_noise: float = 0.0,
    level: float = 0.8,
    seed: int = 0,
) -> Need:
    """Predict how many samples one training needs to reach a target error.

    Args:
        num_samples: counts already tried; a count may come several times.
        errors: the errors they gave.
        target: the error wanted.
        prior: `FEW_SHOT`, `FROM_SCRATCH`, or one from `Prior.from_curves`.
        zero_shot: error before any downstream sample.
        common_noise: see `Prior.condition`.
        level: probability of the interval.
        seed: of the draws; the same seed gives the same answer.

    Raises:
        ConfigError: if target or level are out of range.
        DataError: if a point is unusable.
    """
    curve = Curve(tuple(num_samples), tuple(errors), zero_shot)
    return prior.condition(curve, common_noise=common_noise, seed=seed).need(target, level=level)


def _points(curve: Curve) -> tuple[Floats, Floats]:
    zero = [] if curve.zero_shot is None else [curve.zero_shot]
    counts = np.array([*([0] * len(zero)), *curve.num_samples], dtype=np.float64)
    return counts, np.log(np.array([*zero, *curve.errors], dtype=np.float64))


def _lognormal(pair: tuple[float, float], random: np.random.Generator, num_draws: int) -> Floats:
    return np.exp(math.log(pair[0]) + pair[1] * random.standard_normal(num_draws))


class _Posterior:
    """Prior draws with the weights that the points give them; log A is normal in each."""

    def __init__(self, prior: Prior, shapes: tuple[Floats, ...], counts: Floats, logs: Floats) -> None:
        self.shapes = shapes
        slope, floor, h, noise = (array[:, None] for array in shapes)
        residuals = logs - np.log(floor + ((counts + h) / (REFERENCE_SAMPLES + h)) ** -slope)
        center, spread = math.log(prior.level[0]), prior.level[1]
        variance = noise[:, 0] ** 2
        precision = 1 / spread**2 + len(logs) / variance
        self.mean = (center / spread**2 + residuals.sum(axis=1) / variance) / precision
        self.deviation = precision**-0.5
        misfit = (residuals**2).sum(axis=1) / variance + (center / spread) ** 2 - precision * self.mean**2
        weights = -0.5 * misfit - len(logs) * np.log(noise[:, 0]) - 0.5 * np.log(precision)
        self.weights = np.exp(weights - logsumexp(weights))

    @property
    def effective(self) -> float:
        return float(1 / (self.weights**2).sum())

    def resample(self, random: np.random.Generator, common_noise: float) -> CurveDraws:
        steps = (np.arange(_NUM_KEPT) + random.random()) / _NUM_KEPT
        kept = np.minimum(np.searchsorted(np.cumsum(self.weights), steps), len(self.weights) - 1)
        slope, floor, head_start, noise = (array[kept] for array in self.shapes)
        level = self.mean[kept] + self.deviation[kept] * random.standard_normal(_NUM_KEPT)
        level = level + common_noise * random.standard_normal(_NUM_KEPT)
        deviate = random.standard_normal(_NUM_KEPT)
        return CurveDraws(slope, floor, head_start, noise, level, deviate, self.effective)


def _next_prior(explained: list[CurveDraws], start: Prior, seed: int) -> Prior:
    """Return the prior with the moments of all draws, those of `start` weighing as much as a few curves."""
    parts = [start.draw(_NUM_KEPT, seed=seed), *explained]
    weights = np.repeat([_PRIOR_CURVES, *([1.0] * len(explained))], [len(part.slope) for part in parts])

    def pooled(name: str) -> Floats:
        return np.concatenate([getattr(part, name) for part in parts])

    floor, head_start = pooled("floor"), pooled("head_start")
    some = floor > 0
    slope = _moments(pooled("slope"), weights)
    return Prior(
        slope=slope,
        floor=_log_moments(floor[some], weights[some]) if some.any() else start.floor,
        no_floor=float(weights[~some].sum() / weights.sum()),
        noise=_log_moments(pooled("noise"), weights),
        level=_log_moments(np.exp(pooled("level")), weights),
        head_start=None if start.head_start is None else _log_moments(head_start, weights),
    )


def _moments(values: Floats, weights: Floats) -> tuple[float, float]:
    mean = float(np.average(values, weights=weights))
    return mean, math.sqrt(float(np.average((values - mean) ** 2, weights=weights)))


def _log_moments(values: Floats, weights: Floats) -> tuple[float, float]:
    mean, deviation = _moments(np.log(values), weights)
    return math.exp(mean), deviation
