"""`Term`: one term of an equation, said so that a network can read it.

An evolving equation is ∂u/∂t = Σ terms, a steady one 0 = Σ terms. A term is an operator by name, the fields it acts on,
the coefficient that multiplies it and a constant factor; ``u_t + u u_x = ν u_xx`` is::

    Term("advection", ("velocity", "velocity"), of="velocity", factor=-1.0)
    Term("laplacian", ("velocity",), of="velocity", coefficient="viscosity")

The vocabulary of operators is open. `scifm.systems.term_operators` computes those our own systems have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from scifm.config import Plain
from scifm.errors import SignatureError
from scifm.fields.signature import Signature

__all__ = ["Equations", "Term", "renamed_equations", "require_terms", "told_equation"]


@dataclass(frozen=True)
class Term(Plain):
    """One term on the right-hand side of an equation.

    Args:
        operator: what is done to the fields, a name such as ``laplacian``.
        fields: what it acts on, in the operator's order; a field may stand there twice.
        of: the field whose equation it stands in: which changes by it or, of steady problems, is solved for.
        coefficient: the coefficient that multiplies it; None: none does.
        factor: a constant that multiplies it, its sign above all.

    Raises:
        SignatureError: if the operator has no name, or the factor is zero or not finite.
    """

    operator: str
    fields: tuple[str, ...]
    of: str
    coefficient: str | None = None
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not self.operator or not self.of:
            raise SignatureError(f"A term needs an operator and the field whose equation it stands in; got {self!r}.")
        if not math.isfinite(self.factor) or self.factor == 0:
            raise SignatureError(f"The factor of a term is finite and not zero; got {self.factor:g} in {self.told}.")

    @property
    def told(self) -> str:
        """In words: ``- 2 viscosity laplacian(velocity)``."""
        number = "" if abs(self.factor) == 1 else f"{abs(self.factor):g} "
        constant = f"{self.coefficient} " if self.coefficient else ""
        what = f"{self.operator}({', '.join(self.fields)})"
        return f"{'-' if self.factor < 0 else '+'} {number}{constant}{what}"


Equations = Mapping[str, tuple[Term, ...]]
"""The terms of systems, by their names."""


def renamed_equations(equations: Equations, call: Callable[[str], str]) -> dict[str, tuple[Term, ...]]:
    """Return equations whose fields and coefficients have other names; systems keep theirs."""

    def renamed(term: Term) -> Term:
        coefficient = None if term.coefficient is None else call(term.coefficient)
        return replace(term, fields=tuple(map(call, term.fields)), of=call(term.of), coefficient=coefficient)

    return {name: tuple(map(renamed, terms)) for name, terms in equations.items()}


def told_equation(terms: Sequence[Term], *, evolves: bool) -> list[str]:
    """Return an equation for each field, in words, a line each: ``d(velocity)/dt = viscosity laplacian(velocity)``."""
    lines = []
    for name in dict.fromkeys(term.of for term in terms):
        side = " ".join(term.told for term in terms if term.of == name).removeprefix("+ ")
        lines.append(f"d({name})/dt = {side}" if evolves else f"0 = {side}")
    return lines


def require_terms(terms: Sequence[Term], signature: Signature, name: str) -> None:
    """Check that terms and the names of a system fit each other.

    Args:
        terms: all of the system.
        signature: its names.
        name: the system's, for the message.

    Raises:
        SignatureError: if there are none, a term names what is not there, or a coefficient or an output is in no term.
    """
    if not terms:
        raise SignatureError(f"'{name}' declares no terms of its equation.")
    for term in terms:
        unknown = [field for field in (*term.fields, term.of) if field not in signature.fields]
        if term.coefficient is not None and term.coefficient not in signature.coefficients:
            unknown.append(term.coefficient)
        if unknown:
            raise SignatureError(f"The term {term.told} of '{name}' names '{unknown[0]}'; the system has {signature}.")
    said = {term.coefficient for term in terms}
    if lost := [own for own in signature.coefficients if own not in said]:
        raise SignatureError(f"The coefficient '{lost[0]}' of '{name}' stands in no term.")
    left = {term.of for term in terms}
    if odd := [own for own in signature.outputs if own not in left] or sorted(left - set(signature.outputs)):
        raise SignatureError(f"'{name}' needs terms in the equation of each of its outputs alone; look at '{odd[0]}'.")
