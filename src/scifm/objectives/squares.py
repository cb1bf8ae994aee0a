"""`Squares`: a loss as the sum of squares it is, for optimizers that use that.

Gauss and Newton's way needs the slopes of every single term by every weight, the Jacobian. Where a term hangs on one
place of what passes through linear maps, all of them come from one backward pass (Goodfellow, arXiv:1510.01799): the
slopes by the weight of a map are the product of what went into it there and of the slopes by what came out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scifm.errors import ConfigError
from scifm.models.parts.jets import Passed

__all__ = ["Rows", "Squares"]


@dataclass(frozen=True)
class Rows:
    """Some terms of a sum of squares.

    Args:
        values: ``(term,)``, before they are squared.
        passed: the maps they came through, where every term hangs on its own points only.
        of: ``(point,)``, which term hangs on each point; None: each on that of its number.
    """

    values: Tensor
    passed: Sequence[Passed] = ()
    of: Tensor | None = None

    def scaled(self, factor: float) -> Rows:
        """Return the same terms times a number."""
        return Rows(self.values * factor, self.passed, self.of)

    def slopes(self, weights: Sequence[Tensor]) -> Tensor:
        """Return the derivatives by weights that lie one behind the other, ``(term, weight)``; by others they are 0."""
        begins, total = {}, 0
        for weight in weights:
            begins[id(weight)] = total
            total += weight.numel()
        outputs = [one.outputs for one in self.passed]
        found = torch.autograd.grad(self.values.sum(), outputs, retain_graph=True, materialize_grads=True)
        made = self.values.new_zeros(len(self.values), total)
        for one, slopes in zip(self.passed, found, strict=True):
            by_weight = torch.einsum("pno,pnf->nof", slopes, one.inputs.detach()).flatten(1)
            for weight, by in ((one.layer.weight, by_weight), (one.layer.bias, slopes[0])):
                if id(weight) in begins:
                    start = begins[id(weight)]
                    own = made[:, start : start + weight.numel()]
                    own.add_(by) if self.of is None else own.index_add_(0, self.of, by)
        return made


class Squares:
    """A sum of squares, of terms in rows.

    Args:
        rows: some terms each.
    """

    def __init__(self, rows: Sequence[Rows]) -> None:
        self.rows = tuple(rows)

    @property
    def values(self) -> Tensor:
        """The terms before they are squared, ``(term,)``."""
        return torch.cat([rows.values for rows in self.rows])

    @property
    def loss(self) -> Tensor:
        """Their sum of squares, a scalar."""
        return self.values.square().sum()

    def jacobian(self, weights: Sequence[Tensor]) -> Tensor:
        """Return the derivative of every term by every weight, ``(term, weight)``.

        Raises:
            ConfigError: if a term does not say what it came through.
        """
        if any(not rows.passed for rows in self.rows):
            raise ConfigError("These terms do not say what they came through, so nobody knows their derivatives.")
        return torch.cat([rows.slopes(weights) for rows in self.rows])
