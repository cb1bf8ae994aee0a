"""Ridge regression that is honest about what it was fitted on: every number is predicted by fits that never saw it.

Of each fold the others fit ‖y − ȳ − (x − x̄) w‖² + λ n ‖w‖² in closed form, columns of x brought to unit spread; λ is
the one with the least error when the same is done among those others, fold by fold.
"""

from __future__ import annotations

import numpy as np

__all__ = ["PENALTIES", "folds_of", "held_out", "varies"]

PENALTIES = 10.0 ** np.arange(-12.0, 4.5, 0.5)
"""The λ to choose from: from none that matters to none that lets anything through."""

_ROUND_OFF = 1e-6  # spread of a column, in units of its size, that counts as none


def varies(columns: np.ndarray) -> np.ndarray:
    """Return which columns of ``(sample, column)`` differ between samples by more than round-off."""
    return columns.std(0) > _ROUND_OFF * np.sqrt(np.square(columns).mean(0))


def folds_of(groups: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each sample, ``(sample,)``: groups are dealt out whole, in random order, as evenly as it goes.

    Args:
        groups: ``(sample,)`` whole numbers, from 0 on; samples of one are never on two sides.
        num_folds: at most as many as there are groups.
        seed: of the order.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(int(groups.max()) + 1)
    return np.argsort(order)[groups] % num_folds


def held_out(x: np.ndarray, y: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what a linear map of `x` predicts of `y`, each sample by a fit to the other folds.

    Args:
        x: ``(sample, column)``.
        y: ``(sample,)``.
        folds: ``(sample,)``, at least three different ones.

    Returns:
        ``(sample,)`` each: the predictions, and the means of `y` over the other folds, which need no `x`.
    """
    predicted, trivial = np.empty_like(y), np.empty_like(y)
    for fold in np.unique(folds):
        rest = folds != fold
        tries = np.stack([_fitted(x, y, own, rest) for own in _splits(folds, rest)])
        best = int(tries.mean(0).argmin())
        predicted[~rest] = _predictions(x[rest], y[rest], x[~rest])[:, best]
        trivial[~rest] = y[rest].mean()
    return predicted, trivial


def _splits(folds: np.ndarray, among: np.ndarray) -> list[np.ndarray]:
    return [(folds == fold) & among for fold in np.unique(folds[among])]


def _fitted(x: np.ndarray, y: np.ndarray, held: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the sum of squared errors on `held` of fits to the rest of `among`, ``(penalty,)``."""
    train = among & ~held
    errors = _predictions(x[train], y[train], x[held]) - y[held, None]
    return np.square(errors).sum(0)


def _predictions(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return ``(asked, penalty)``: what the fit to (x, y) by each of `PENALTIES` makes of other samples."""
    kept = varies(x)
    middle, spread = x[:, kept].mean(0), x[:, kept].std(0)
    rows, others = (x[:, kept] - middle) / spread, (asked[:, kept] - middle) / spread
    left, sizes, right = np.linalg.svd(rows, full_matrices=False)
    along = left.T @ (y - y.mean())
    weights = (sizes * along)[:, None] / (np.square(sizes)[:, None] + PENALTIES * len(y))
    return y.mean() + others @ right.T @ weights
