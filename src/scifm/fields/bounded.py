"""Answers with a spread, brought to where inequalities hold and linear quantities are known: not negative, monotone.

Of an answer with mean μ and covariance Σ, `nearest` returns

    the m that makes (m − μ)ᵀ Σ⁻¹ (m − μ) least, with G m = b and every bound met.

A bound is of one field: `AtLeast` (no value is below a number) or `Monotone` (along one axis values rise, or fall).
Others are a subclass of `Bound`.

Where numbers vary by themselves (Σ diagonal) the nearest m for given multipliers λ of G m = b is that of μ − Σ Gᵀ λ
without the quantities: cut off at the least value, or the isotonic regression of each line (`scipy`), or both, in that
order reversed. Newton's method finds the few λ. For any other Σ = R Rᵀ, m = μ + R a with the shortest a that fulfils
the inequalities: least distance programming, solved as non-negative least squares after Lawson and Hanson, Solving
Least Squares Problems, 1974, chapter 23. Two bounds that ask for monotony along two axes are solved so too.

All is solved in float64 on the host, and returned in the precision that came. It is not differentiable, and says
nothing of the spread that is left.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import isotonic_regression, nnls
from torch import Tensor

from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.conserving import Covariance, Diagonal, is_met, require_finite, seen
from scifm.wording import plural

__all__ = ["AtLeast", "Bound", "Bounded", "Monotone", "nearest"]

_MOST_ROUNDS, _MOST_HALVINGS = 100, 60  # of Newton's method
_FLAT = 1e-10  # of what a quantity varies without bounds: added to how it varies with them
_MOST_NUMBERS = 2048  # that vary together: time grows with their square at least


@dataclass
class _Pooled:
    """Values on the way through bounds, each in a pool of those that are equal by a bound.

    Args:
        values: ``(…, n)``.
        pools: which pool each value is in, a number below n.
        free: whether it follows what it is asked to be near to.
    """

    values: Float[Tensor, "... n"]
    pools: Int[Tensor, "... n"]
    free: Bool[Tensor, "... n"]


@dataclass(frozen=True)
class _Asked:
    """What is asked for of some samples: means and variances ``(sample, n)``, rows ``(sample, k, n)`` and values."""

    mean: Tensor
    variance: Tensor
    rows: Tensor
    values: Tensor

    def at(self, which: Tensor) -> _Asked:
        """Return some of the samples."""
        return _Asked(self.mean[which], self.variance[which], self.rows[which], self.values[which])


class Bound(abc.ABC):
    """An inequality that the values of one field fulfil."""

    @abc.abstractmethod
    def rows(self, space: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return A ``(inequality, n)`` and c ``(inequality,)`` of A m ≥ c, for a field ``space`` of n points."""

    @abc.abstractmethod
    def _meet(self, pooled: _Pooled, weights: Tensor, space: tuple[int, ...]) -> _Pooled:
        """Return the values that meet it and are nearest, weighed point by point."""


@dataclass(frozen=True)
class AtLeast(Bound):
    """No value is below a number.

    Args:
        least: that number.
    """

    least: float = 0.0

    def rows(self, space: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        count = math.prod(space)
        return np.eye(count), np.full(count, self.least)

    def _meet(self, pooled: _Pooled, weights: Tensor, space: tuple[int, ...]) -> _Pooled:
        above = pooled.values > self.least
        return _Pooled(pooled.values.clamp(min=self.least), pooled.pools, pooled.free & above)


@dataclass(frozen=True)
class Monotone(Bound):
    """Along one axis no value is below the one before; or, falling, above it.

    Args:
        rising: whether they rise; else they fall.
        axis: which, in array order: −1 is x. Periodic axes have no such fields but constants.
    """

    rising: bool = True
    axis: int = -1

    def rows(self, space: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        places = np.moveaxis(np.arange(math.prod(space)).reshape(space), self._axis(space), -1)
        before, after = places[..., :-1].ravel(), places[..., 1:].ravel()
        matrix = np.zeros((len(before), places.size))
        each, sign = np.arange(len(before)), 1.0 if self.rising else -1.0
        matrix[each, after], matrix[each, before] = sign, -sign
        return matrix, np.zeros(len(before))

    def _meet(self, pooled: _Pooled, weights: Tensor, space: tuple[int, ...]) -> _Pooled:
        axis, lead = self._axis(space) - len(space), pooled.values.shape[:-1]

        def lines(numbers: Tensor) -> np.ndarray:
            return numbers.reshape(*lead, *space).movedim(axis, -1).numpy()

        values, heavy, pools = (lines(part).copy() for part in (pooled.values, weights, pooled.pools))
        slopes = np.diff(values, axis=-1)
        broken = ((slopes < 0) if self.rising else (slopes > 0)).any(axis=-1)
        for place in map(tuple, np.argwhere(broken)):
            found = isotonic_regression(values[place], weights=heavy[place], increasing=self.rising)
            values[place] = found.x
            starts = found.blocks[:-1]
            pools[place] = np.repeat(pools[place][starts], np.diff(found.blocks))
        back = [torch.from_numpy(part).movedim(-1, axis).reshape(*lead, -1) for part in (values, pools)]
        return _Pooled(back[0], back[1], pooled.free)

    def _axis(self, space: tuple[int, ...]) -> int:
        if not -len(space) <= self.axis < len(space):
            raise SignatureError(f"A field of {plural(len(space), 'axis', 'axes')} has no axis {self.axis}.")
        return self.axis % len(space)


@dataclass(frozen=True)
class Bounded:
    """One field among the numbers of an answer, and its bounds.

    Args:
        space: points an axis.
        bounds: which it meets, all of them.
        start: its first number; it takes as many as it has points.
    """

    space: tuple[int, ...]
    bounds: tuple[Bound, ...]
    start: int = 0

    @property
    def numbers(self) -> slice:
        """Its place among the numbers."""
        return slice(self.start, self.start + math.prod(self.space))

    @property
    def _by_lines(self) -> bool:
        return sum(isinstance(bound, Monotone) for bound in self.bounds) <= 1


def nearest(
    mean: Float[Tensor, "... n"],
    covariance: Covariance | None,
    rows: Tensor,
    values: Tensor,
    fields: Sequence[Bounded],
) -> Float[Tensor, "... n"]:
    """Return the answer nearest to a mean that meets its bounds and whose quantities are exact.

    Args:
        mean: μ, of any number of samples, each by itself.
        covariance: Σ; None: the identity. Diagonal, its variances are above zero.
        rows: G, ``(…, k, n)``; k may be 0, then only bounds are met.
        values: b, ``(…, k)``.
        fields: which numbers are which field, and its bounds; a number of none of them has no bound.

    Raises:
        SignatureError: if sizes do not fit.
        DataError: if a number is not finite, a variance that may not be is zero, or there is no such answer.
        ConfigError: if more numbers vary together than this can do.
    """
    for what, given in (("The mean", mean), ("A row", rows), ("A value", values)):
        require_finite(given, what)
    count = mean.shape[-1]
    if rows.shape[-1] != count or rows.shape[-2] != values.shape[-1]:
        raise SignatureError(
            f"Quantities of {plural(count, 'number')} are rows (…, k, {count}) with values (…, k); got rows "
            f"{tuple(rows.shape)} and values {tuple(values.shape)}."
        )
    if any(field.numbers.stop > count for field in fields):
        raise SignatureError(f"A field reaches beyond the {plural(count, 'number')} there are.")
    prior = (Diagonal(torch.ones_like(mean)) if covariance is None else covariance).double()
    if prior.variance.shape[-1] != count:
        raise SignatureError(f"The covariance is of {plural(prior.variance.shape[-1], 'number')}, the mean of {count}.")
    start, rows, values = (part.detach().double().cpu() for part in (mean, rows, values))
    lead = torch.broadcast_shapes(start.shape[:-1], values.shape[:-1], rows.shape[:-2])
    start, values = start.expand(*lead, count), values.expand(*lead, values.shape[-1])
    if isinstance(prior, Diagonal) and all(field._by_lines for field in fields):
        found = _by_newton(start, prior.values.detach().cpu().expand(*lead, count), rows, values, fields)
    else:
        if count > _MOST_NUMBERS:
            raise ConfigError(
                f"{count:,} numbers that vary together are too many to bound; {_MOST_NUMBERS:,} at most. Weigh them by "
                "their variances alone, each by itself."
            )
        root = prior.root().detach().cpu()
        found = _by_least_distance(start, root.expand(*lead, *root.shape[-2:]), rows, values, fields)
    if not bool(is_met((seen(rows, found) - values).abs(), rows, found, values).all()):  # NaN where there was none
        raise DataError(
            "No answer that meets these bounds has these quantities: look whether their values are possible "
            f"({'; '.join(_told(field) for field in fields)})."
        )
    return found.to(mean)


def _told(field: Bounded) -> str:
    return ", ".join(map(str, field.bounds))


def _by_newton(mu: Tensor, variance: Tensor, rows: Tensor, values: Tensor, fields: Sequence[Bounded]) -> Tensor:
    """Return the answer where numbers vary by themselves; where there is none, one that misses its quantities."""
    if not bool((variance > 0).all()):
        raise DataError("Variances are above zero here: what may not move cannot be brought above its bound.")
    lead, samples = mu.shape[:-1], math.prod(mu.shape[:-1])
    parts = (mu, variance, rows.expand(*lead, *rows.shape[-2:]), values)
    asked = _Asked(*(part.reshape(samples, *part.shape[len(lead) :]) for part in parts))
    size = asked.values.abs() + seen(asked.rows.abs(), asked.mean.abs())
    dual, found = torch.zeros_like(asked.values), asked.mean.clone()
    todo = torch.arange(samples)  # those that are not there yet, and can get nearer
    for _ in range(_MOST_ROUNDS):
        ours = asked.at(todo)
        now = _answer(dual[todo], ours, fields)
        found[todo] = now.values
        off = seen(ours.rows, now.values) - ours.values
        left = (off.abs() > 1e-13 * size[todo]).any(-1)
        if not bool(left.any()):
            break
        todo, off, ours = todo[left], off[left], ours.at(left)
        now = _Pooled(now.values[left], now.pools[left], now.free[left])
        step = _newton_step(now, off, ours)
        length, old = torch.ones_like(step[:, :1]), _dual_value(dual[todo], now.values, ours)
        worse = torch.ones(len(todo), dtype=torch.bool)
        for _ in range(_MOST_HALVINGS):
            those, tried = ours.at(worse), dual[todo[worse]] + (length * step)[worse]
            met = _answer(tried, those, fields).values
            rises = _dual_value(tried, met, those) > (old + 1e-14 * old.abs())[worse]
            # close to the end it changes by less than rounding, while what is missed still falls
            misses = (seen(those.rows, met) - those.values).norm(dim=-1) > 0.5 * off[worse].norm(dim=-1)
            worse[worse.clone()] = rises & misses
            if not bool(worse.any()):
                break
            length[worse] /= 2
        dual[todo] += torch.where(worse.unsqueeze(-1), 0.0, length * step)
        todo = todo[~worse]
        if not len(todo):
            break
    return found.view(*lead, -1)


def _answer(dual: Tensor, asked: _Asked, fields: Sequence[Bounded]) -> _Pooled:
    """Return the nearest values that meet all bounds, for given multipliers of the quantities."""
    near, weights = asked.mean - asked.variance * seen(asked.rows.transpose(-1, -2), dual), 1 / asked.variance
    own = torch.arange(near.shape[-1]).expand(near.shape).clone()
    whole = _Pooled(near, own, torch.ones_like(own, dtype=torch.bool))
    for field in fields:
        part = field.numbers
        met = _Pooled(whole.values[..., part], whole.pools[..., part], whole.free[..., part])
        for bound in sorted(field.bounds, key=lambda bound: isinstance(bound, AtLeast)):  # cut off last
            met = bound._meet(met, weights[..., part], field.space)
        whole.values[..., part], whole.pools[..., part], whole.free[..., part] = met.values, met.pools, met.free
    return whole


def _dual_value(dual: Tensor, met: Tensor, asked: _Asked) -> Tensor:
    """Return what the multipliers make least."""
    moved = (0.5 * (met - asked.mean).square() / asked.variance).sum(-1)
    return -moved - (dual * (seen(asked.rows, met) - asked.values)).sum(-1)


def _newton_step(now: _Pooled, off: Tensor, asked: _Asked) -> Tensor:
    """Return by how much multipliers change: of a pool all move alike, by its rows' sum over its weights' sum."""
    variance, rows = asked.variance, asked.rows
    weight = torch.zeros_like(variance).scatter_add_(-1, now.pools, 1 / variance)
    labels = now.pools.unsqueeze(-2).expand_as(rows)
    pooled = torch.zeros_like(rows).scatter_add_(-1, labels, rows * now.free.unsqueeze(-2))
    curved = (pooled / weight.clamp(min=torch.finfo(weight.dtype).tiny).unsqueeze(-2)) @ pooled.transpose(-1, -2)
    full = (rows.square() * variance.unsqueeze(-2)).sum(-1)
    full = torch.diag_embed(full.where(full > 0, 1.0))
    # where nothing moves along some quantity it is flat: then go far, and come back by halves
    return torch.linalg.solve(curved + _FLAT * full, off.unsqueeze(-1)).squeeze(-1)


def _by_least_distance(mu: Tensor, root: Tensor, rows: Tensor, values: Tensor, fields: Sequence[Bounded]) -> Tensor:
    """Return μ + R a with the shortest a, sample by sample; NaN where there is none."""
    count, lead = mu.shape[-1], mu.shape[:-1]
    blocks, sides = [np.zeros((0, count))], [np.zeros(0)]
    for field in fields:
        for bound in field.bounds:
            own, least = bound.rows(field.space)
            block = np.zeros((len(own), count))
            block[:, field.numbers] = own
            blocks.append(block)
            sides.append(least)
    matrix, least = np.concatenate(blocks), np.concatenate(sides)
    rows = rows.expand(*lead, *rows.shape[-2:])
    means, roots, seers, wanted = (
        part.reshape(math.prod(lead), *part.shape[len(lead) :]).numpy() for part in (mu, root, rows, values)
    )
    made = [_one_by_least_distance(*parts, matrix, least) for parts in zip(means, roots, seers, wanted, strict=True)]
    return torch.from_numpy(np.stack(made)).view(*lead, count)


def _one_by_least_distance(
    mu: np.ndarray, root: np.ndarray, rows: np.ndarray, values: np.ndarray, matrix: np.ndarray, least: np.ndarray
) -> np.ndarray:
    """Return one answer: quantities are met first, and what moves beyond that is orthogonal to them."""
    seen_by = rows @ root
    _, sizes, basis = np.linalg.svd(seen_by, full_matrices=True)
    rank = int((sizes > 1e-11 * max(sizes, default=0.0)).sum()) if sizes.size else 0
    first = np.linalg.pinv(seen_by, rcond=1e-11) @ (values - rows @ mu) if rank else np.zeros(root.shape[1])
    moves = root @ basis[rank:].T
    start = mu + root @ first
    left, right = matrix @ moves, least - matrix @ start
    further = _shortest(left, right)
    return np.full_like(mu, np.nan) if further is None else start + moves @ further


def _shortest(left: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """Return the shortest z with left z ≥ right, or None where there is none."""
    size = np.linalg.norm(left, axis=1)
    scale = float(np.abs(right).max(initial=0.0))
    still = size <= 1e-13 * size.max(initial=0.0)
    if (right[still] > 1e-12 * scale).any():
        return None
    left, right = left[~still] / size[~still, None], right[~still] / size[~still]
    farthest = right.max(initial=0.0)
    if farthest <= 0:
        return np.zeros(left.shape[1])
    # z = −r/r₀ of the residual r of non-negative least squares; scaled, so that neither part of it is small
    stacked = np.vstack([left.T, right / farthest])
    target = np.zeros(len(stacked))
    target[-1] = 1.0
    multipliers, off = nnls(stacked, target, maxiter=30 * stacked.shape[1])
    if off < 1e-7:
        return None
    active = multipliers > 0
    return np.linalg.pinv(left[active], rcond=1e-11) @ right[active]  # to rounding, once it is known which bind
