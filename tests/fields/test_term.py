"""Terms of equations: what they say, in words and as data, and what does not fit."""

from __future__ import annotations

import re

import pytest

from scifm.errors import ConfigError, SignatureError
from scifm.fields.signature import Signature
from scifm.fields.term import Term, renamed_equations, require_terms, told_equation

NAMES = Signature(("u", "f"), ("nu",), ("u",), 1, evolves=True)
STEEPENS = Term("advection", ("u", "u"), of="u", factor=-1.0)
SMOOTHS = Term("laplacian", ("u",), of="u", coefficient="nu")


def test_an_equation_is_told_in_words():
    assert Term("derivative_xy", ("u",), of="u", coefficient="nu", factor=-2.0).told == "- 2 nu derivative_xy(u)"
    terms = (SMOOTHS, STEEPENS, Term("value", ("u",), of="w", factor=0.5))
    assert told_equation(terms, evolves=True) == [
        "d(u)/dt = nu laplacian(u) - advection(u, u)",
        "d(w)/dt = 0.5 value(u)",
    ]
    assert told_equation((SMOOTHS, Term("value", ("f",), of="u")), evolves=False) == ["0 = nu laplacian(u) + value(f)"]


def test_it_is_written_down_and_read_again():
    assert Term.from_dict(STEEPENS.to_dict()) == STEEPENS
    with pytest.raises(ConfigError, match="Term: 'fields' is missing"):
        Term.from_dict({"operator": "laplacian", "of": "u"})
    with pytest.raises(SignatureError, match="finite and not zero; got 0 in"):
        Term("value", ("u",), of="u", factor=0.0)
    with pytest.raises(SignatureError, match="finite and not zero; got nan in"):
        Term("value", ("u",), of="u", factor=float("nan"))
    with pytest.raises(SignatureError, match="needs an operator and the field whose equation"):
        Term("", ("u",), of="u")


def test_other_names_of_fields_and_coefficients():
    names = {"u": "velocity", "nu": "viscosity"}
    made = renamed_equations({"burgers": (STEEPENS, SMOOTHS)}, lambda name: names.get(name, name))
    assert told_equation(made["burgers"], evolves=True) == [
        "d(velocity)/dt = - advection(velocity, velocity) + viscosity laplacian(velocity)"
    ]


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ((), "'toy' declares no terms"),
        ((STEEPENS, SMOOTHS, Term("value", ("w",), of="u")), "The term + value(w) of 'toy' names 'w'"),
        ((Term("laplacian", ("u",), of="u", coefficient="kappa"),), "names 'kappa'"),
        ((STEEPENS,), "The coefficient 'nu' of 'toy' stands in no term"),
        ((SMOOTHS, Term("value", ("u",), of="f")), "of each of its outputs alone; look at 'f'"),
        ((Term("laplacian", ("u",), of="f", coefficient="nu"),), "of each of its outputs alone; look at 'u'"),
    ],
)
def test_terms_and_names_fit_each_other(terms, told):
    require_terms((STEEPENS, SMOOTHS), NAMES, "toy")
    with pytest.raises(SignatureError, match=re.escape(told)):
        require_terms(terms, NAMES, "toy")
