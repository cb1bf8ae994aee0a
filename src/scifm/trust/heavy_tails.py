"""A power law fitted to the tail of numbers: exponent by maximum likelihood, its beginning by the distance of the fit.

After Clauset, Shalizi & Newman, "Power-law distributions in empirical data", arXiv:0706.1062, for continuous numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["PowerTail", "fit_tail"]

_ALL = 2000  # distinct numbers up to which every one of them is tried as the beginning of the tail
_TRIED = 500  # beginnings that are tried of more
_ALIKE = 1e-6  # mean logarithm of a tail over its beginning, below which its numbers are one number with round-off


@dataclass(frozen=True)
class PowerTail:
    """The density of numbers from `x_min` on, taken for ``x^−alpha``.

    Args:
        alpha: the exponent.
        sigma: its standard error if the law holds, ``(alpha − 1)/√num_tail``.
        x_min: where the tail begins, one of the numbers.
        distance: largest difference between the distribution function of the tail and that of the law (Kolmogorov and
            Smirnov's): below about ``1/√num_tail`` the two cannot be told apart. Of numbers that follow no power law
            an exponent is found too, and this is what tells.
        num_tail: numbers in the tail.
        num_values: numbers in all.
    """

    alpha: float
    sigma: float
    x_min: float
    distance: float
    num_tail: int
    num_values: int

    def survival(self, x: np.ndarray) -> np.ndarray:
        """Return the share of all numbers that the law says lie above `x`, which is at least `x_min`."""
        return self.num_tail / self.num_values * (x / self.x_min) ** (1 - self.alpha)


def fit_tail(values: np.ndarray) -> PowerTail | None:
    """Fit a power law to the largest of some numbers.

    With the numbers sorted, of each possible beginning x_i, n of them at or above it, ``α = 1 + n/Σ ln(x_j/x_i)`` and
    ``D = max_j |1 − (x_j/x_i)^(1−α) − (j−i)/n|``; the beginning with the smallest D is taken, the lowest of equals. Of
    more than 2,000 distinct numbers, 500 beginnings are tried, evenly in the logarithm of n.

    Args:
        values: ``(number,)``, positive.

    Returns:
        The fit; None where there are no numbers that differ by more than round-off.

    Raises:
        ValueError: if a number is not positive or not finite.
    """
    x = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if x.size and not (np.isfinite(x[-1]) and x[0] > 0):
        raise ValueError("a power law is fitted to positive, finite numbers")
    firsts = np.unique(x, return_index=True)[1][:-1]  # the largest alone has no tail
    if not firsts.size:
        return None
    if firsts.size > _ALL:
        counts = np.geomspace(2, firsts.size, _TRIED).astype(int)
        firsts = firsts[np.unique(firsts.size - counts)]
    logs = np.log(x)
    sums, best, least = np.cumsum(logs[::-1])[::-1], None, np.inf
    for first in firsts:
        n = x.size - first
        above = sums[first] - n * logs[first]
        if not above > _ALIKE * n:
            continue
        alpha = 1 + n / above
        law = -np.expm1((1 - alpha) * (logs[first:] - logs[first]))
        distance = float(np.abs(law - np.arange(n) / n).max())
        if distance < least:
            least, best = distance, (float(alpha), int(first), int(n))
    if best is None:
        return None
    alpha, first, n = best
    return PowerTail(alpha, (alpha - 1) / n**0.5, float(x[first]), least, n, int(x.size))
