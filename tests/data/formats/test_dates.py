from __future__ import annotations

import numpy as np
import pytest

from scifm.data.formats.axes import Times
from scifm.errors import DataError

DOUBLE = np.dtype(np.float64)


@pytest.mark.parametrize(
    ("units", "factor"), [("hours since 2000-01-01", 3600), ("days", 86400), ("s", 1), ("furlongs", 1), ("", 1)]
)
def test_times_are_told_in_seconds(units, factor):
    times = Times.of(np.array([2.0, 3.0, 5.0]), units, "standard", DOUBLE)
    np.testing.assert_allclose(np.diff(times.values), np.array([1.0, 2.0]) * factor)
    assert (times.remarks == ()) == (times.dates is None) == (factor == 1)


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
    assert Times.of(np.array([2.0, 3.0]), units, calendar, DOUBLE).origin == expected


@pytest.mark.parametrize(
    ("units", "calendar", "unit", "step", "origin"),
    [
        ("weeks since 1970-01-08", "", "s", 7 * 86400, 3 * 7 * 86400),
        ("months since 1971-03-01", "standard", "months", 1, 14),
        ("years since 1980-01-01", "standard", "years", 1, 10),
        ("months since 1971-03-01", "360_day", "s", 30 * 86400, (14 + 2) * 30 * 86400),
        ("months since 1971-03-01", "360", "s", 30 * 86400, (14 + 2) * 30 * 86400),
        ("years since 1971-01-01", "noleap", "s", 365 * 86400, 3 * 365 * 86400),
        ("hours after 1970-01-02", "", "s", 3600, 86400 + 7200),
        ("Hours  @ 1970-01-02", "", "s", 3600, 86400 + 7200),
    ],
)
def test_units_that_are_rare_have_a_length_or_stay_comparable(units, calendar, unit, step, origin):
    times = Times.of(np.array([2.0, 3.0]), units, calendar, DOUBLE)
    assert (times.unit, np.diff(times.values).item(), times.origin) == (unit, step, origin)


def test_a_date_that_nobody_can_read_is_told_of():
    times = Times.of(np.array([2.0, 3.0]), "days since the flood", "", DOUBLE)
    assert "'the flood' is no date that can be read" in times.remarks[-1]


@pytest.mark.parametrize(
    ("units", "values", "calendar", "days"),
    [
        ("day as %Y%m%d.%f", [20000130.75, 20000131.75, 20000201.75], "standard", 1),  # as CDO writes them
        ("day as %Y%m%d.%f", [20000227, 20000228, 20000301], "noleap", 1),
        ("YYYYMMDD", [20000229, 20000230, 20000301], "360_day", 1),
    ],
)
def test_dates_written_as_numbers_are_dates(units, values, calendar, days):
    times = Times.of(np.array(values), units, calendar, DOUBLE)
    np.testing.assert_allclose(times.values, np.arange(3) * days * 86400, atol=1e-3)
    assert times.dates is not None
    assert times.dates.units == "days since 1970-01-01"


def test_a_number_that_is_no_date_is_refused():
    with pytest.raises(DataError, match=r"'2000-01-45' is none of the calendar 'standard'.*cdo -r"):
        Times.of(np.array([20000145.0, 20000146.0]), "day as %Y%m%d.%f", "", DOUBLE)


@pytest.mark.parametrize(
    ("first", "step", "units", "seconds"),
    [
        (44000, 1 / 24, "days since 1900-01-01", 3600),  # float32 tells days apart by five minutes there
        (1.7e9, 3600, "seconds since 1970-01-01", 3600),
        (1043135, 0.5, "hours since 1900-01-01", 1800),
        (0, 0.1, "days", 8640),
    ],
)
def test_times_that_float32_rounded_are_equally_spaced_again(first, step, units, seconds):
    written = (first + step * np.arange(9)).astype(np.float32)
    times = Times.of(written.astype(np.float64), units, "", written.dtype)
    np.testing.assert_array_equal(times.values, seconds * np.arange(9))


def test_times_that_are_not_equally_spaced_stay_so():
    written = np.array([0, 31, 59, 90, 120], np.float32)
    times = Times.of(written.astype(np.float64), "days since 2001-01-01", "", written.dtype)
    np.testing.assert_array_equal(times.values, written * 86400.0)


def test_nanoseconds_since_1970_are_not_rounded():
    written = 1_700_000_000_000_000_001 + 1000 * np.arange(4)
    times = Times.of(written, "nanoseconds since 1970-01-01", "", written.dtype)
    np.testing.assert_allclose(times.values, 1e-6 * np.arange(4), rtol=1e-12)
    assert times.dates is not None
    assert times.dates.of(times.values).tolist() == written.tolist()
