"""Shapes written as jaxtyping annotations are checked while tests run; nothing else is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from torch import Tensor, zeros

from scifm.data.normalize import fit_normalization
from scifm.fields.grid import Grid
from scifm.fields.spectral import laplacian
from shape_checker import check


@check
def summed(field: Float[Tensor, "batch points"], scale: float) -> Float[Tensor, " batch"]:
    return field.sum(1) * scale if scale else field


@check
def counted(count: int) -> int:
    return count


@check
@dataclass
class Pair:
    """Two of one length, and one of its own kind."""

    first: Float[Tensor, " points"]
    second: Float[Tensor, " points"]
    before: Pair | None = None


def test_right_shapes_pass_and_an_int_is_a_float():
    assert summed(zeros(2, 3), 1).shape == (2,)
    assert summed(zeros(4, 3), 1).shape == (4,), "a name is one number within a call alone"


def test_a_wrong_argument_is_found():
    with pytest.raises(BeartypeCallHintViolation):
        summed(zeros(2), 1)


def test_a_wrong_result_is_found():
    with pytest.raises(BeartypeCallHintViolation):
        summed(zeros(2, 3), 0)


def test_a_dataclass_is_checked_where_it_is_made():
    assert Pair(zeros(3), zeros(3), Pair(zeros(2), zeros(2))).before is not None
    with pytest.raises(BeartypeCallHintViolation):
        Pair(zeros(3), zeros(2))


def test_functions_without_shapes_are_left_alone():
    assert counted("three") == "three"
    for untouched in (Grid.square, fit_normalization, counted):
        assert not hasattr(untouched, "__wrapped__")


def test_the_package_is_checked_while_tests_run():
    with pytest.raises(BeartypeCallHintViolation):
        laplacian(zeros(8, 8, dtype=int), Grid.square(8))
