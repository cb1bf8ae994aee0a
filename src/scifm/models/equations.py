"""Telling an operator the equations of systems, term by term, so that it can be asked about samples of these."""

from __future__ import annotations

from collections.abc import Callable

import torch

from scifm.fields.term import Equations, renamed_equations
from scifm.models.operator import Operator
from scifm.models.parts.terms import TermTokens

__all__ = ["called_anew", "taught"]


def taught(operator: Operator, equations: Equations, *, generator: torch.Generator | None = None) -> Operator:
    """Tell an operator the terms of further systems, in place; answers about those it knows stay as they are.

    An operator that takes no terms, and one that knows all this already, is left as it is.

    Args:
        operator: changed and returned.
        equations: the terms of each system, by the name that samples of it say (`Batch.systems`).
        generator: of vectors for operators and fields that were in no equation before; None: such are refused, for what
            was never trained says nothing.

    Raises:
        SignatureError: if such a word is there, or a coefficient that the operator does not know.

    Example:
        A combination of terms that were never seen together::

            taught(operator, {"heat_and_drift": (
                Term("laplacian", ("temperature",), of="temperature", coefficient="diffusivity"),
                Term("derivative_x", ("temperature",), of="temperature", coefficient="speed", factor=-1.0),
            )})
    """
    for part in operator.modules():
        if not isinstance(part, Operator) or not part.config.wants_terms:
            continue
        config = part.config.knowing(equations)
        if config == part.config:
            continue
        for tokens in part.children():
            if isinstance(tokens, TermTokens):
                tokens.know(config.equations_known, part.normalization, generator)
        part.config = config
    return operator


def called_anew(operator: Operator, names: Callable[[str], str]) -> None:
    """Give the fields and coefficients of the equations that an operator knows other names, in place."""
    for part in operator.modules():
        if isinstance(part, Operator) and part.config.wants_terms:
            equations = renamed_equations(part.config.equations_known, names)
            part.config = part.config.model_copy(update={"equations": equations})
            for tokens in part.children():
                if isinstance(tokens, TermTokens):
                    tokens.call(names)
