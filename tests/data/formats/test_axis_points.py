from __future__ import annotations

import math

import numpy as np
import pytest

from scifm.data.formats.axis_points import are_even, axis_length

F4, F8 = np.dtype("f4"), np.dtype("f8")


@pytest.mark.parametrize(
    ("points", "even"),
    [
        ([0.0, 1.0, 2.0], True),
        ([2.0, 1.0, 0.0], True),
        ([0.0, 1.0, 2.001], True),
        ([0.0, 1.0, 2.01], False),
        ([0.0, 1.0, 0.0], False),
        ([0.0, 0.0, 0.0], False),
        ([0.0, math.nan, 2.0], False),
        ([0.0], False),
        ([[0.0, 1.0]], False),
    ],
)
def test_even_points(points, even):
    assert are_even(np.array(points)) is even


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("start", [0.0, -3.0, 100.0])
@pytest.mark.parametrize("length", [1.0, 0.3, 20.0])
def test_a_length_is_what_was_meant_whatever_the_precision(dtype, start, length):
    for num in (8, 37, 1024):
        walls = (start + length * np.arange(num) / (num - 1)).astype(dtype)
        wraps = (start + length * np.arange(num) / num).astype(dtype)
        assert axis_length(walls, num, dtype, wraps=False) == length
        assert axis_length(wraps, num, dtype, wraps=True) == length
        assert axis_length(wraps[::-1], num, dtype, wraps=True) == length


def test_a_length_keeps_all_digits_that_the_points_have():
    assert axis_length(np.arange(64) * (2 * np.pi / 64), 64, F8, wraps=True) == pytest.approx(2 * np.pi, rel=2e-12)
    told = axis_length((np.arange(64) * (2 * np.pi / 64)).astype("f4"), 64, F4, wraps=True)
    assert told == pytest.approx(2 * np.pi, rel=2e-6)


def test_one_point_more_than_the_fields_have_changes_nothing():
    assert axis_length(np.linspace(0, 1, 9), 8, F8, wraps=True) == 1.0
    assert axis_length(np.linspace(0, 1, 9), 8, F8, wraps=False) == 0.875


def test_integers_are_exact():
    assert axis_length(np.arange(8.0), 8, np.dtype("i4"), wraps=True) == 8.0
