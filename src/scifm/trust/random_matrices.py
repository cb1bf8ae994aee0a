"""Where the spectrum of a matrix of noise ends: the law of Marchenko and Pastur, and how far single values go beyond.

Of a matrix with ``N ≥ M`` rows and columns, independent entries of mean zero and mean square σ², real or complex, the
eigenvalues of ``WᴴW`` (squared singular values, not divided by N) lie between ``σ²(√N ± √M)²``. The largest one
fluctuates about the upper end by Tracy and Widom's law on the scale ``σ²(√N + √M)(1/√N + 1/√M)^(1/3)`` (Johnstone,
"On the distribution of the largest eigenvalue in principal components analysis", Ann. Statist. 29, 2001).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

__all__ = ["bulk_variance", "edges", "largest_of_noise", "median_of_noise"]

_CHANCE = 1e-3  # of taking noise for more


def edges(rows: int, columns: int, variance: float = 1.0) -> tuple[float, float]:
    """Return the ends of the spectrum of noise, the lower one first."""
    long, short = math.sqrt(max(rows, columns)), math.sqrt(min(rows, columns))
    return variance * (long - short) ** 2, variance * (long + short) ** 2


@lru_cache(maxsize=256)
def median_of_noise(rows: int, columns: int) -> float:
    """Return the median of the spectrum of noise with unit mean square, by the law of Marchenko and Pastur."""
    low, high = edges(rows, columns)
    short = min(rows, columns)
    # x = low + (high − low) sin²t takes the roots of the density away at both ends
    t = np.linspace(0, math.pi / 2, 20001)[1:-1]
    x = low + (high - low) * np.sin(t) ** 2
    density = (high - low) ** 2 * (np.sin(t) * np.cos(t)) ** 2 / (math.pi * short * x)
    below = np.cumsum(density)
    return float(np.interp(0.5, below / below[-1], x))


def bulk_variance(eigenvalues: np.ndarray, rows: int, columns: int) -> float:
    """Return the mean square σ² of noise whose spectrum has the median of these: a few large ones count for nothing."""
    return float(np.median(eigenvalues)) / median_of_noise(rows, columns)


def largest_of_noise(
    rows: int, columns: int, variance: float = 1.0, *, count: int = 1, is_complex: bool = False
) -> float:
    """Return what the largest eigenvalue of `count` matrices of noise exceeds in about one of 1,000 draws or fewer.

    The upper end, and behind it as many units of the scale as bring the tail of Tracy and Widom's law,
    ``exp(−(2β/3) s^(3/2))`` (β = 1 of real matrices, 2 of complex ones), down to that chance over `count`.
    """
    long, short = math.sqrt(max(rows, columns)), math.sqrt(min(rows, columns))
    unit = variance * (long + short) * (1 / long + 1 / short) ** (1 / 3)
    beta = 2 if is_complex else 1
    return edges(rows, columns, variance)[1] + unit * (3 * math.log(count / _CHANCE) / (2 * beta)) ** (2 / 3)
