from __future__ import annotations

import pytest

from scifm.wording import duration, plural, signed, span


@pytest.mark.parametrize(
    ("count", "words", "told"),
    [
        (0, ("sample",), "0 samples"),
        (1, ("sample",), "1 sample"),
        (1024, ("sample",), "1,024 samples"),
        (2, ("axis", "axes"), "2 axes"),
        (1, ("axis", "axes"), "1 axis"),
    ],
)
def test_one_is_not_many(count, words, told):
    assert plural(count, *words) == told


@pytest.mark.parametrize(
    ("seconds", "told", "exact"),
    [
        (0.52, "0.5 s", "0.5 s"),
        (12, "12 s", "12.0 s"),
        (512, "8.5 min", "8 min 32 s"),
        (3 * 3600 + 300, "3.1 h", "3 h 05 min"),
        (5 * 86400, "5 days", "5 days"),
        (13126.9 * 3600, "1.5 years", "1.5 years"),
        (3.2e10, "1,014 years", "1,014 years"),
    ],
)
def test_a_duration_is_told_in_the_unit_that_suits(seconds, told, exact):
    assert duration(seconds) == told
    assert duration(seconds, exact=True) == exact


def test_two_ends_that_do_not_differ_are_one():
    assert span("1", "5") == "1 to 5"
    assert span("5", "5") == "5"


def test_a_sign_is_no_hyphen():
    assert [signed(-0.0214), signed(1234.5), signed(-2.0, ".2f")] == ["−0.0214", "1.23e+03", "−2.00"]
