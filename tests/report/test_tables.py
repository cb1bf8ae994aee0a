"""Grouping over seeds and numbers as text."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scifm.report.records import ResultRow, Summary
from scifm.report.score_sets import ScoreSet
from scifm.report.tables import (
    MISSING,
    Group,
    compare_settings,
    count_text,
    disagreements,
    duration_text,
    gains,
    group_rows,
    number_text,
    summarize_scores,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.021, "0.0210"),
        (0.0, "0.00"),
        (None, MISSING),
        (math.nan, "not finite"),
        (math.inf, "not finite"),
        (123.4, "123"),
        (2.5e-6, "2.50 × 10^-6"),
    ],
)
def test_number_text(value, text):
    assert number_text(value) == text


@given(st.floats(1e-4, 9.9e3))
def test_number_text_keeps_three_digits(value):
    assert float(number_text(value)) == pytest.approx(value, rel=5.1e-3)


def test_counts_and_durations():
    assert count_text(1024) == "1,024"
    assert duration_text(512.3).split() == ["8", "min", "32", "s"]
    assert duration_text(3599.7).split() == ["1", "h", "00", "min"]
    assert duration_text(None) == MISSING


def test_rows_are_grouped_over_seeds_in_a_fixed_order():
    rows = [
        ResultRow("from_scratch", 64, 0.2, seed=0, num_steps=300, seconds=2.0),
        ResultRow("few_shot", 64, 0.03, seed=1, learning_rate=0.01, seconds=1.0),
        ResultRow("few_shot", 64, 0.01, seed=0, learning_rate=0.003, seconds=1.5),
        ResultRow("zero_shot", 0, 0.08),
    ]
    zero, tuned, scratch = group_rows(rows)
    assert (zero.kind, tuned.kind, scratch.kind) == ("zero_shot", "few_shot", "from_scratch")
    assert tuned.mean == pytest.approx(0.02)
    assert (tuned.low, tuned.high, tuned.seconds) == (0.01, 0.03, 2.5)
    assert tuned.learning_rates == (0.003, 0.01)
    assert scratch.num_steps == (300,)
    assert zero.seconds is None
    assert gains([tuned, scratch]) == {64: pytest.approx(10.0)}


def test_one_diverged_seed_makes_the_mean_not_finite():
    group = Group("few_shot", 16, (0.1, math.nan))
    assert math.isnan(group.mean)
    assert group.low is None
    assert gains([group, Group("from_scratch", 16, (0.2,))]) == {}


def test_one_missing_seed_makes_the_mean_missing():
    assert Group("few_shot", 16, (0.1, None)).mean is None


def test_summary_and_table_that_disagree_are_named():
    summary = Summary(None, 0.08, {64: 0.02}, {}, None, {})
    found = disagreements(summary, [Group("zero_shot", 0, (0.08,)), Group("few_shot", 64, (0.03, 0.05))])
    assert len(found) == 1
    assert "64 samples: 0.0200 in summary.json, 0.0400 in results.parquet" in found[0]


def test_scores_by_channel():
    errors = {"u": (1.0, 2.0, 3.0, 4.0), "p": (math.nan,)}
    first, second = summarize_scores(ScoreSet(Path("s.parquet"), None, "", 4, errors, {}, ""))
    assert (first.channel, first.num_samples, first.mean, first.median, first.worst) == ("u", 4, 2.5, 2.5, 4.0)
    assert first.p90 == pytest.approx(3.7)
    assert math.isnan(second.mean)
    assert math.isnan(second.p90)


def test_settings_side_by_side():
    low, only, name = compare_settings({"k": {"low": 1.0}, "a": [2, math.pi]}, {"k": {"low": 5}, "n": "x"})
    assert (low.name, low.before, low.after, low.changed) == ("k.low", "1", "5", True)
    assert (only.before, only.after) == ("2, 3.14159", "–")
    assert name.before == "–"
