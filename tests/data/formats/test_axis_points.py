from __future__ import annotations

import math

import numpy as np
import pytest

from scifm.data.formats.axes import are_even, axis_length, same_points

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


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.5, 10.0])
@pytest.mark.parametrize("num", [40, 64, 128])
def test_a_length_far_from_zero_is_that_between_the_points(spacing, num):
    points = np.float32(5400000 + spacing * np.arange(num))  # exact: a map projection in meters
    assert axis_length(points, num, F4, wraps=False) == spacing * (num - 1)
    assert axis_length(points.astype("f8"), num, F4, wraps=True) == spacing * num  # as a table of coordinates is read


def test_points_rounded_far_from_zero_are_even_and_uneven_ones_are_not():
    points = np.float32(5400000 + 2.3 * np.arange(64))  # float32 knows halves there
    assert are_even(points)
    assert are_even(points.astype("f8"), F4)
    assert not are_even(points.astype("f8"))
    assert axis_length(points, 64, F4, wraps=False) == pytest.approx(2.3 * 63, abs=1)
    assert not are_even(np.float32(5400000 + np.array([0.0, 10, 20, 31, 40])))
    assert not are_even(np.float32(5400000 + np.array([0.0, 0.1, 0.2])))  # all one number there


@pytest.mark.parametrize("start", [0.0, 1.7e9, 2459000.5 * 86400])
def test_points_are_the_same_by_their_differences(start):
    ours = start + 60.0 * np.arange(10)
    assert same_points(ours, ours + 0.05, F8)
    assert not same_points(ours, start + 600.0 * np.arange(10), F8)
    assert not same_points(ours, ours + 0.1, F8)
    assert not same_points(ours, ours[:9], F8)
    assert same_points(ours, np.float32(ours).astype("f8"), F4)
    assert same_points(ours[:1], ours[:1], F8)
    assert not same_points(ours[:1], ours[:1] + 1.0, F8)
