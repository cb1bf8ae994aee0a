from __future__ import annotations

import numpy as np
import pytest

from scifm.data.formats.axes import seconds_of


@pytest.mark.parametrize(
    ("units", "factor"), [("hours since 2000-01-01", 3600), ("days", 86400), ("s", 1), ("furlongs", 1), ("", 1)]
)
def test_times_are_told_in_seconds(units, factor):
    seconds, _, told = seconds_of(np.array([2.0, 3.0, 5.0]), units, "standard")
    np.testing.assert_allclose(np.diff(seconds), np.array([1.0, 2.0]) * factor)
    assert (told is None) == (factor == 1)


@pytest.mark.parametrize(
    ("units", "calendar", "days"),
    [
        ("days since 1970-01-11", "standard", 10),
        ("hours since 1971-01-01 00:00:00", "noleap", 365),
        ("days since 2000-03-01", "noleap", 30 * 365 + 59),
        ("days since 2000-03-01", "360_day", 30 * 360 + 60),
        ("days", "standard", 0),
        ("days since whenever", "standard", None),
        ("furlongs", "standard", None),
    ],
)
def test_times_of_two_files_can_be_compared(units, calendar, days):
    factor = 3600 if "hours" in units else 86400
    expected = 0.0 if days is None else days * 86400 + 2 * factor
    assert seconds_of(np.array([2.0, 3.0]), units, calendar)[1] == expected
