"""What a system promises of the terms it declares: they are its equation, to round-off. A part of `SystemContract`."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.batch import Batch
from scifm.fields.derivatives import SpectralDerivatives
from scifm.fields.grid import Grid
from scifm.fields.spectral import wavenumbers
from scifm.fields.term import require_terms
from scifm.systems.evolving import Evolving
from scifm.systems.system import System
from scifm.systems.term_operators import is_known, right_hand_side

__all__ = ["TermsContract"]


class TermsContract:
    """The promises of terms; see `SystemContract`, of which it is a part.

    Attributes:
        terms_tolerance: largest difference between the equation put together from its terms and the system's own, in
            float64, over the size of the latter.
    """

    system: System
    terms_tolerance: ClassVar[float] = 1e-10
    tried: Callable[[], Batch]

    def test_terms_name_what_there_is(self) -> None:
        """Every field and coefficient of a term is one of the system's, and no coefficient or output is forgotten."""
        if not self.system.terms:
            raise unittest.SkipTest("it declares no terms, which it may")
        try:
            require_terms(self.system.terms, self.system.signature, self.system.name)
        except SignatureError as error:
            raise AssertionError(str(error)) from error

    def test_terms_are_the_equation(self) -> None:
        """Summed up, the terms are the right-hand side or, of a steady system, minus the residual of any field.

        Of fields without the highest wave of an even number of points, whose mixed derivatives are a convention. A
        right-hand side that is put together from them is held against the solver instead.
        """
        system, batch, terms = self.system, self.tried(), self.system.terms
        if not terms or not all(batch.grid.periodic) or not all(is_known(term.operator) for term in terms):
            raise unittest.SkipTest("it declares no terms that can be computed, which it may")
        if isinstance(system, Evolving) and type(system).tendency is Evolving.tendency:
            raise unittest.SkipTest("its right-hand side is their sum, which the solver is held against")
        names, grid = system.signature, batch.grid
        coefficients = {name: batch.coefficient(name) for name in names.coefficients}
        if isinstance(system, Evolving):
            state = _without_highest(batch.inputs[:, -1], grid)
            fields = {name: state[:, place] for place, name in enumerate(names.inputs)}
            own = system.tendency(state, batch.coefficients, grid)
        else:
            anything = batch.require_targets().flip(-1) + 0.1  # which solves nothing: no term is in balance
            batch = batch.with_targets(_without_highest(anything, grid))
            fields = {name: batch.field(name)[:, 0] for name in names.fields}
            own = -system.residual(batch)[:, 0]
        sums = right_hand_side(terms, SpectralDerivatives(fields, grid), coefficients)
        made = torch.stack([sums[name] for name in names.outputs], dim=1)
        off = float(((made - own).flatten(1).norm(dim=1) / own.flatten(1).norm(dim=1)).max())
        if not off < self.terms_tolerance:
            raise AssertionError(f"put together from its terms the equation differs from the system's by {off:.3g}")


def _without_highest(fields: Tensor, grid: Grid) -> Tensor:
    """Return fields ``(…, *space)`` without the waves whose odd derivatives a grid cannot hold."""
    spectrum = torch.fft.rfftn(fields, dim=grid.axes_of(fields))
    for wave, odd in zip(wavenumbers(grid), wavenumbers(grid, odd=True), strict=True):
        spectrum = torch.where(wave == odd, spectrum, 0.0)
    return torch.fft.irfftn(spectrum, s=grid.num_points, dim=grid.axes_of(fields))
