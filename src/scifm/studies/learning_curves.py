"""How many samples does a target error need? A learning curve, extrapolated from a few points with its doubt.

The curve is a power law with a floor and, after pre-training, a head start, for the ratio u of what is unexplained to
what is explained::

    u(n) = A · [ φ + ((n + h) / (16 + h))^−b ] · exp(σ ε),    ε normal
    error(n) = u / √(1 + u²),    at most 1, the error of answering zero

Small errors and u are the same. A is what samples can still remove at n = 16, φ A the floor, b the slope, h the samples
that pre-training was worth (Hernandez et al. 2021, arXiv:2102.01293, count transferred data as more data of the task; a
constant h is our simplification), σ the noise from one training to the next. Without a head start, h = 0.

Two to four points at small n cannot fix four numbers: what is said about large n is mostly the prior's. So the answer
is Bayesian. Draws of (b, φ, h, σ) come from the prior and are weighted by the likelihood of the points, with log A, in
which the logarithm of the curve is linear, integrated out in closed form; log A is then drawn from what remains of it.

Two kinds of points are bounds: they tell only that training does not get below. One whose weights stayed those of
pre-training has the zero-shot error, however many samples there were; taken as measured, a few of them would prove a
plateau without noise. And one with an error of 0.95 or more knows next to nothing, however far above it lies.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri

from scifm.errors import ConfigError, DataError
from scifm.findings.plan import SamplesNeeded
from scifm.studies.statistics import check_level

__all__ = ["FEW_SHOT", "FROM_SCRATCH", "REFERENCE_SAMPLES", "Curve", "CurveDraws", "Prior"]

Floats = NDArray[np.float64]

REFERENCE_SAMPLES = 16
SLOPE_RANGE = (0.05, 2.5)
_NUM_DRAWS = (2**13, 2**17)  # prior draws; the second number is used where too few of the first carry weight
_MIN_EFFECTIVE_DRAWS = 200
_NUM_RESAMPLED = 4000  # posterior draws handed on
_PRIOR_FAMILIES = 1.0  # how many families of curves the starting prior is worth when a prior is estimated from them
_NUM_ROUNDS = 5  # of that estimation; each contents itself with the first number of draws
_KNOWS_LITTLE = 0.95  # an error that explains a tenth of the solution's energy
_SAME = 1e-5  # relative; the same weights scored in other batches


@dataclass(frozen=True)
class Curve:
    """Errors of one learner after training on more and more samples.

    Args:
        num_samples: counts; a count may come several times. 0 is a pre-trained operator as it is, zero-shot.
        errors: one for each count, positive.
        groups: for each point the set of samples it was scored on, by any number; empty: one set for all.

    Raises:
        DataError: if there is no point, lengths differ, a count is negative, or an error is not positive and finite.
    """

    num_samples: tuple[int, ...]
    errors: tuple[float, ...]
    groups: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.num_samples), len(self.errors), len(self.groups) or len(self.errors)}
        if not self.num_samples or len(lengths) > 1:
            raise DataError(
                f"A learning curve needs one error for each number of samples, and at least one; got "
                f"{len(self.num_samples)} numbers, {len(self.errors)} errors and {len(self.groups)} groups."
            )
        if min(self.num_samples) < 0:
            raise DataError(f"A number of samples is 0 or more; got {min(self.num_samples)}.")
        wrong = [error for error in self.errors if not 0 < error < math.inf]
        if wrong:
            raise DataError(f"Errors on a learning curve must be positive and finite; got {wrong[0]}.")

    @property
    def spans(self) -> bool:
        """Whether training was tried on two different numbers of samples or more."""
        return len(set(self.num_samples) - {0}) > 1

    @property
    def bounds(self) -> tuple[bool, ...]:
        """Which points tell only that the error of training is not below: see the module."""
        groups = self.groups or (0,) * len(self.errors)
        points = list(zip(self.num_samples, self.errors, groups, strict=True))
        untrained = {group: error for count, error, group in points if count == 0}
        return tuple(
            error >= _KNOWS_LITTLE or (count > 0 and abs(error / untrained.get(group, math.inf) - 1) < _SAME)
            for count, error, group in points
        )


@dataclass(frozen=True)
class Prior:
    """What is believed about a learning curve before seeing it. Pairs are a center and a spread.

    Args:
        slope: mean and standard deviation of b, a normal cut to 0.05 … 2.5.
        floor: median of φ and standard deviation of log φ, where there is a floor.
        no_floor: probability that there is none.
        noise: median of σ and standard deviation of log σ.
        level: median of A and standard deviation of log A.
        head_start: median of h and standard deviation of log h; None: h = 0.

    Raises:
        ConfigError: if a center or a spread is not positive and finite, or `no_floor` is no probability.
    """

    slope: tuple[float, float] = (0.8, 0.6)
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

    def condition(self, curve: Curve, *, group_noise: float = 0.0, seed: int = 0) -> CurveDraws:
        """Return curves as the prior believes them once the points of `curve` are known.

        Args:
            curve: the points.
            group_noise: standard deviation of an error in log that all points of a group share: how hard the few
                samples happen to be on which they were scored. What is predicted is free of it.
            seed: of the draws.

        Raises:
            ConfigError: if a zero-shot error is given and the prior has no head start, or `group_noise` is negative.
        """
        if not 0 <= group_noise < math.inf:
            raise ConfigError(f"group_noise must be a standard deviation, 0 or more; got {group_noise}.")
        if 0 in curve.num_samples and self.head_start is None:
            raise ConfigError("A curve from scratch has no zero-shot error; give a prior with head_start, or no error.")
        few, many = _NUM_DRAWS
        draws = self._explain(curve, few, group_noise=group_noise, seed=seed)
        if draws.effective < _MIN_EFFECTIVE_DRAWS:
            draws = self._explain(curve, many, group_noise=group_noise, seed=seed)
        return draws

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

    def _explain(self, curve: Curve, num_draws: int, *, group_noise: float = 0.0, seed: int) -> CurveDraws:
        """Weigh draws by the likelihood of the points, log A integrated out, and draw from them by their weights.

        The m points of a group have covariance σ² I + τ² 1 1ᵀ, whose inverse is (I − τ² 1 1ᵀ / (σ² + m τ²)) / σ².
        """
        random = np.random.default_rng(seed)
        shapes = self._shapes(num_draws, random)
        slope, floor, h, noise = (array[:, None] for array in shapes)
        counts, errors = np.array(curve.num_samples, dtype=np.float64), np.array(curve.errors)
        each, places = np.unique(counts, return_inverse=True)  # repeats are the same number, and powers are dear
        learnable = ((each + h) / (REFERENCE_SAMPLES + h)) ** -slope
        residuals = np.log(_unexplained(errors)) - np.log(floor + learnable)[:, places]
        bounds = np.array(curve.bounds)
        measured = residuals[:, ~bounds]
        if measured.size:  # the logarithm of u is steeper than that of the error
            group_noise *= float((1 / (1 - errors[~bounds] ** 2)).mean())
        groups = np.array(curve.groups or [0] * len(errors))[~bounds]
        member = (groups[:, None] == np.unique(groups)).astype(np.float64)  # (point, group)
        sizes, sums = member.sum(axis=0), measured @ member
        variance, shared = noise**2, noise**2 + group_noise**2 * sizes  # (draw, 1), (draw, group)
        center, spread = math.log(self.level[0]), self.level[1]
        precision = 1 / spread**2 + (sizes / shared).sum(axis=1)
        mean = (center / spread**2 + (sums / shared).sum(axis=1)) / precision  # of log A in each draw
        squares = (measured**2 / variance).sum(axis=1) - (group_noise**2 * sums**2 / (variance * shared)).sum(axis=1)
        misfit = squares + (center / spread) ** 2 - precision * mean**2
        volume = ((sizes - 1) * np.log(variance) + np.log(shared)).sum(axis=1) + np.log(precision)
        level = mean + precision**-0.5 * random.standard_normal(num_draws)
        not_below = log_ndtr((level[:, None] - residuals[:, bounds]) / np.hypot(noise, group_noise)).sum(axis=1)
        logs = not_below - 0.5 * (misfit + volume)
        weights = np.exp(logs - logsumexp(logs))
        steps = (np.arange(_NUM_RESAMPLED) + random.random()) / _NUM_RESAMPLED
        chosen = np.minimum(np.searchsorted(np.cumsum(weights), steps), len(weights) - 1)
        deviate = random.standard_normal(_NUM_RESAMPLED)
        slope, floor, h, noise = (array[chosen] for array in shapes)
        return CurveDraws(slope, floor, h, noise, level[chosen], deviate, float(1 / (weights**2).sum()))

    @classmethod
    def from_curves(
        cls,
        curves: Iterable[Curve],
        *,
        families: Sequence[Hashable] | None = None,
        start: Prior | None = None,
        seed: int = 0,
    ) -> Prior:
        """Estimate a prior from earlier learning curves: what others' curves looked like.

        Empirical Bayes by expectation maximization: every curve is explained under the present prior, the moments of
        all explanations together are the next prior. Every family of curves weighs the same, and `start` like one of
        them: what many curves of one system tell of a new system is little more than what one of them tells.

        Args:
            curves: of other systems; each with at least two different counts, others are left out.
            families: for each curve what it shares with others, such as its system; left out: each is one.
            start: where to begin, and what to be drawn to; `FEW_SHOT` if a curve has a zero-shot error, else
                `FROM_SCRATCH`.
            seed: of the draws.

        Raises:
            DataError: if no curve has two different counts.
        """
        given = list(curves)
        named = zip(given, range(len(given)) if families is None else families, strict=True)
        useful = [(curve, family) for curve, family in named if curve.spans]
        if not useful:
            raise DataError(
                "A prior needs at least one learning curve with two different numbers of samples; got none."
            )
        if start is None:
            start = FEW_SHOT if any(0 in curve.num_samples for curve, _ in useful) else FROM_SCRATCH
        members = Counter(family for _, family in useful)
        weights, prior = [1 / members[family] for _, family in useful], start
        for _ in range(_NUM_ROUNDS):
            explained = [prior._explain(curve, _NUM_DRAWS[0], seed=seed) for curve, _ in useful]
            prior = _next_prior(explained, weights, start, seed)
        return prior


FROM_SCRATCH = Prior()
FEW_SHOT = Prior(level=(0.03, 1.5), head_start=(16.0, 1.5))


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
        learnable = ((num_samples + self.head_start) / (REFERENCE_SAMPLES + self.head_start)) ** -self.slope
        unexplained = np.exp(self.level + self.noise * self.deviate) * (self.floor + learnable)
        return unexplained / np.sqrt(1 + unexplained**2)

    def needed(self, target: float) -> Floats:
        """Return the number of samples at which the next training reaches `target`; infinite below the floor.

        Raises:
            ConfigError: if the target is not positive and finite.
        """
        if not 0 < target < math.inf:
            raise ConfigError(f"The target error must be positive and finite; got {target}.")
        wanted = target / math.sqrt(1 - target**2) if target < 1 else math.inf
        share = wanted / np.exp(self.level + self.noise * self.deviate) - self.floor
        reached = share > 0
        h = self.head_start
        with np.errstate(over="ignore"):  # so many samples that a float cannot hold them: infinite is right
            count = (REFERENCE_SAMPLES + h) * np.where(reached, share, 1.0) ** (-1 / self.slope) - h
        return np.where(reached, np.maximum(count, 0.0), np.inf)

    def need(self, target: float, *, level: float = 0.8) -> SamplesNeeded:
        """Return median and central interval of `needed`.

        Raises:
            ConfigError: if the target is not positive, or the level not strictly between 0 and 1.
        """
        check_level(level)
        draws = self.needed(target)
        shares = (0.5, (1 - level) / 2, (1 + level) / 2)
        # a quantile that is one of the draws: between a finite and an infinite one nothing can be interpolated
        median, low, high = (float(np.quantile(draws, share, method="inverted_cdf")) for share in shares)
        reachable = float(np.isfinite(draws).mean())
        return SamplesNeeded(median=median, low=low, high=high, level=level, reachable=reachable)


def _unexplained(errors: Floats) -> Floats:
    """Return the ratio of what is unexplained to what is explained; that of `_KNOWS_LITTLE` for errors above."""
    some = np.minimum(errors, _KNOWS_LITTLE)
    return some / np.sqrt(1 - some**2)


def _lognormal(pair: tuple[float, float], random: np.random.Generator, num_draws: int) -> Floats:
    return np.exp(math.log(pair[0]) + pair[1] * random.standard_normal(num_draws))


def _next_prior(explained: list[CurveDraws], of_curves: list[float], start: Prior, seed: int) -> Prior:
    """Return the prior with the moments of all draws, those of `start` weighing as much as a family of curves."""
    parts = [start.draw(_NUM_RESAMPLED, seed=seed), *explained]
    weights = np.repeat([_PRIOR_FAMILIES, *of_curves], [len(part.slope) for part in parts])

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
