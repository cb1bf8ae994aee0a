"""The nearest numbers that fulfil linear equations: an exact projection, as a layer that networks are trained through.

Of numbers u, of which k linear quantities A u have to be b, `Projection` returns the u′ nearest to u with A u′ = b,

    u′ = u − W⁻¹ Aᵀ (A W⁻¹ Aᵀ)⁻¹ (A u − b),

nearest by (u′ − u)ᵀ W (u′ − u), W the weights of the rule by which numbers are integrated: with one row of these
weights every number moves by the same. A W⁻¹ Aᵀ, k by k, is taken apart once. What is done to u is linear, so its
gradient is the transpose of the same, of every order, and what is projected already stays.

Where numbers are kept within a space by other means, whose projection P is known without rows (values that are set, the
projection of Leray), W⁻¹ Aᵀ is P W⁻¹ Aᵀ: what rows ask is met within that space.

It is solved in float64 and returned in the precision that came. With a spread of the answer in place of W⁻¹ this is
`scifm.fields.conserving.conserve`, which takes it apart anew for each answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError, SignatureError
from scifm.wording import plural

__all__ = ["MOST_ROWS", "Projection"]

MOST_ROWS = 4096
"""Rows that are taken apart together: time grows with the cube of their number."""

_UNSEEN = 1e-12  # of what a row sees without other means: less than that is rounding
_SAME = 1e-11  # of the largest eigenvalue: below it rows repeat each other
_AT_ONCE = 2**24  # numbers of sparse rows that are made dense
_AGREES = 1e-9  # of the values: by how much rows that repeat each other may differ in what they ask


class Projection:
    """Numbers brought to A u = b, the nearest there are; called with numbers, differentiable.

    Args:
        rows: A, ``(k, n)``: dense, or sparse as torch has it. Rows may repeat each other if they ask the same.
        values: b, ``(k,)``; None: they are given with the numbers, and rows may not repeat each other.
        weights: the diagonal of W, ``(n,)``, above zero; None: all alike.
        within: P, a linear map of ``(…, n)`` that projects in the norm of W; numbers are given within its space, up to
            `offset`. None: there is no such space.
        offset: ``(n,)``: what numbers are off that space by.
        varies: ``(k,)`` bool: which values are given with the numbers though `values` are there; None: none.
        names: what to call each row in errors; by their number when left out.

    Attributes:
        rank: how many of the rows say something of their own.

    Raises:
        SignatureError: if sizes do not fit.
        ConfigError: if a number is not finite, a weight is not above zero, rows are more than numbers or than
            `MOST_ROWS`, or what they ask contradicts itself.
    """

    def __init__(
        self,
        rows: Tensor,
        values: Float[Tensor, " k"] | None = None,
        *,
        weights: Float[Tensor, " n"] | None = None,
        within: Callable[[Tensor], Tensor] | None = None,
        offset: Float[Tensor, " n"] | None = None,
        varies: Tensor | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self._names = tuple(names)
        count = self._required(rows, values, weights)
        with torch.no_grad():
            self._rows = rows.detach().double()
            like: Any = {"dtype": torch.float64, "device": rows.device}
            self._values = torch.zeros(len(rows), **like) if values is None else values.detach().to(**like)
            self._weights = torch.ones(count, **like) if weights is None else weights.detach().to(**like)
            if values is None:
                varies = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
            if self._is_sparse:
                self._rows = self._rows.to_sparse_coo().coalesce()
            if within is not None:  # which leaves nothing sparse
                self._rows = self._rows.to_dense() if self._is_sparse else self._rows
            self._ways = _scaled(self._rows.transpose(0, 1), 1 / self._weights)
            if within is not None:
                self._ways = within(self._ways.transpose(0, 1)).transpose(0, 1)
            self._solve = self._taken_apart(offset, varies)

    @property
    def _is_sparse(self) -> bool:
        return self._rows.layout != torch.strided

    def _required(self, rows: Tensor, values: Tensor | None, weights: Tensor | None) -> int:
        if rows.dim() != 2:
            raise SignatureError(f"Rows are (k, n), a row a quantity of n numbers; got {tuple(rows.shape)}.")
        count, own = rows.shape[1], rows if rows.layout == torch.strided else rows.to_sparse_coo().coalesce().values()
        if values is not None and tuple(values.shape) != (len(rows),):
            raise SignatureError(
                f"{plural(len(rows), 'row')} need as many values, ({len(rows)},); got {tuple(values.shape)}."
            )
        if weights is not None and tuple(weights.shape) != (count,):
            raise SignatureError(f"Weights are of each of the {count:,} numbers; got {tuple(weights.shape)}.")
        for what, given in (("A row", own), ("A value", values), ("A weight", weights)):
            if given is not None and not bool(given.isfinite().all()):
                raise ConfigError(f"{what} of what is held is NaN or infinite: give finite numbers.")
        if weights is not None and not bool((weights > 0).all()):
            raise ConfigError(f"Weights are above zero; the least given is {float(weights.min()):g}.")
        if len(rows) > count:
            raise ConfigError(
                f"{plural(len(rows), 'row')} for {plural(count, 'number')} cannot all be held and leave anything to "
                "answer: give fewer rows than numbers."
            )
        if len(rows) > MOST_ROWS:
            raise ConfigError(
                f"{len(rows):,} rows are too many to be taken apart together; {MOST_ROWS:,} at most. Values along "
                "walls and the divergence need no rows: hold them by their names (scifm.fields.holding)."
            )
        return count

    def _taken_apart(self, offset: Tensor | None, varies: Tensor | None) -> Tensor:
        """Return the (pseudo-)inverse of A W⁻¹ Aᵀ, or say which rows contradict each other."""
        seen = self._seen() if self._is_sparse else self._rows @ self._ways
        seen = (seen + seen.T) / 2
        alone = _squares(self._rows, 1 / self._weights)  # of each row, without other means
        sees = seen.diagonal() > _UNSEEN * alone
        # a row that sees nothing that may move is no row: what it asks holds by itself, or cannot
        size = torch.where(sees, seen.diagonal(), torch.where(alone > 0, alone, 1.0)).sqrt()
        both = sees.unsqueeze(-1) & sees.unsqueeze(-2)
        scaled = torch.where(both, seen / (size.unsqueeze(-1) * size.unsqueeze(-2)), 0.0)
        sizes, ways = torch.linalg.eigh(scaled)
        says = sizes > _SAME * sizes[-1:].clamp(min=1e-300)
        self.rank = int(says.sum())
        self._require_agreement(ways[:, ~says] / size.unsqueeze(-1), offset, varies)
        inverse = (ways[:, says] / sizes[says]) @ ways[:, says].T
        return inverse / (size.unsqueeze(-1) * size.unsqueeze(-2))

    def _seen(self) -> Tensor:
        """Return A W⁻¹ Aᵀ of sparse rows, of which some at a time are made dense."""
        every, count = torch.arange(len(self._rows), device=self._rows.device), self._rows.shape[1]
        parts = every.split(max(1, _AT_ONCE // count))
        scaled = (self._rows.index_select(0, part).to_dense() / self._weights for part in parts)
        return torch.cat([_times(self._rows, part) for part in scaled])

    def _require_agreement(self, idle: Tensor, offset: Tensor | None, varies: Tensor | None) -> None:
        """Refuse rows whose combinations ``(k, combination)`` move nothing, and ask something all the same."""
        if not idle.shape[1]:
            return
        there = self._values.new_zeros(len(self._values)) if offset is None else self._rows @ offset.to(self._rows)
        parts = idle / idle.abs().amax(0)
        involved = parts.abs() > 1e-6
        if varies is not None and bool((involved & varies.unsqueeze(-1)).any()):
            which = (involved & varies.unsqueeze(-1)).any(0)
            raise ConfigError(
                f"{self._told(involved[:, which].any(1))} hang on each other, and what they ask differs from sample to "
                "sample, so that nobody can say whether it can hold: leave one of them out."
            )
        asked, size = self._values - there, self._values.abs() + there.abs()
        off = (parts * asked.unsqueeze(-1)).sum(0).abs()
        odd = off > _AGREES * (parts.abs() * size.unsqueeze(-1)).sum(0)
        if bool(odd.any()):
            raise ConfigError(
                f"What is to hold contradicts itself: {self._told(involved[:, odd].any(1))} cannot have the values "
                "asked for at once. Leave one of them out, or give values that go together."
            )

    def _told(self, which: Tensor) -> str:
        places = which.nonzero().flatten().tolist()
        told = [self._names[place] if self._names else f"row {place}" for place in places[:4]]
        return ", ".join(told) + ("" if len(places) <= 4 else f" and {len(places) - 4} more")

    def to(self, device: torch.device) -> Projection:
        """Return it with its tensors on a device."""
        if self._rows.device == device:
            return self
        other = object.__new__(type(self))
        other._names, other.rank = self._names, self.rank
        for name in ("_rows", "_values", "_weights", "_ways", "_solve"):
            setattr(other, name, getattr(self, name).to(device))
        return other

    def __call__(
        self, numbers: Float[Tensor, "... n"], values: Float[Tensor, "... k"] | None = None
    ) -> Float[Tensor, "... n"]:
        """Return the nearest numbers with A u = b, in the precision that came.

        Args:
            numbers: u, of any number of samples.
            values: b of each of them; those it was made with when left out.

        Raises:
            SignatureError: if sizes do not fit.
        """
        if numbers.shape[-1] != self._rows.shape[1]:
            raise SignatureError(
                f"Rows are of {plural(self._rows.shape[1], 'number')}; got numbers {tuple(numbers.shape)}."
            )
        asked = self._values if values is None else values.to(self._values)
        if asked.shape[-1:] != self._values.shape:
            raise SignatureError(f"Values are (…, {len(self._values)}); got {tuple(asked.shape)}.")
        moved = numbers.double()
        for _ in range(2):  # the second time for what rounding left
            left = (_times(self._rows, moved) - asked) @ self._solve
            moved = moved - _times(self._ways, left)
        return moved.to(numbers.dtype)


def _times(matrix: Tensor, numbers: Tensor) -> Tensor:
    """Return a dense or sparse matrix times the last axis of numbers."""
    if matrix.layout == torch.strided:
        return numbers @ matrix.transpose(0, 1)
    flat = torch.sparse.mm(matrix, numbers.reshape(-1, numbers.shape[-1]).transpose(0, 1))
    return flat.transpose(0, 1).reshape(*numbers.shape[:-1], matrix.shape[0])


def _scaled(matrix: Tensor, by: Tensor) -> Tensor:
    """Return a dense or sparse matrix with each of its rows times a number."""
    if matrix.layout == torch.strided:
        return matrix * by.unsqueeze(-1)
    matrix = matrix.coalesce()
    places = matrix.indices()
    values = matrix.values() * by[places[0]]
    return torch.sparse_coo_tensor(places, values, matrix.shape, check_invariants=False).coalesce()


def _squares(matrix: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of squares of each row."""
    if matrix.layout == torch.strided:
        return matrix.square() @ weights
    places, values = matrix.indices(), matrix.values()
    return weights.new_zeros(matrix.shape[0]).index_add(0, places[0], values.square() * weights[places[1]])
