"""Shapes written as jaxtyping annotations are checked while tests run; nothing else is."""

from __future__ import annotations

import pytest
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor, zeros

from shape_checker import check


@jaxtyped(typechecker=check)
def summed(field: Float[Tensor, "batch points"], scale: float) -> Float[Tensor, " batch"]:
    return field.sum(1) * scale if scale else field


@jaxtyped(typechecker=check)
def counted(count: int) -> int:
    return count


def test_right_shapes_pass_and_an_int_is_a_float():
    assert summed(zeros(2, 3), 1).shape == (2,)


def test_a_wrong_argument_is_found():
    with pytest.raises(TypeCheckError):
        summed(zeros(2), 1)


def test_a_wrong_result_is_found():
    with pytest.raises(TypeCheckError):
        summed(zeros(2, 3), 0)


def test_functions_without_shapes_are_left_alone():
    assert counted("three") == "three"
