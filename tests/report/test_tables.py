"""Numbers as text, and what stands beside one another in tables."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scifm.findings.study import Analysis
from scifm.report.parts import Table
from scifm.report.records import ScoreSet
from scifm.report.run_page import score_table
from scifm.report.study import Study
from scifm.report.study_tables import STUDY_TABLES, settings_table
from scifm.wording import MISSING, count_text, duration_text, factor_text, number_text, plain_number, short_count


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.021, "0.0210"),
        (0.0, "0"),
        (None, MISSING),
        (math.nan, "not finite"),
        (math.inf, "not finite"),
        (123.4, "123"),
        (999.7, "1000"),
        (1193.0, "1190"),
        (-9996.0, "-10000"),
        (2.5e-6, "2.50 × 10⁻⁶"),
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
    assert [short_count(v) for v in (950, 74_000, 1.19e6, 3e9)] == [
        "950",
        "74\N{NO-BREAK SPACE}k",
        "1.19\N{NO-BREAK SPACE}M",
        "3\N{NO-BREAK SPACE}G",
    ]


def test_numbers_beside_ticks():
    assert [plain_number(v) for v in (0.02, 1.0, 30000, 0.0)] == ["0.02", "1", "30000", "0"]
    assert [plain_number(v) for v in (1e-7, 3e14)] == ["10⁻⁷", "3×10¹⁴"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(64.2, "64"), (4.84, "4.8"), (0.77, "0.77"), (0.7, "0.70"), (1.0, "1.0"), (1234.0, "1,234"), (None, "not known"),
     (float("nan"), "not finite")],
)  # fmt: skip
def test_factors(value, text):
    assert factor_text(value) == text


def test_scores_by_channel():
    errors = {"u": (1.0, 2.0, 3.0, 4.0), "p": (math.nan,)}
    table = score_table([ScoreSet(Path("s.parquet"), None, "", 4, errors, {}, "samples")])
    first, second = ([cell.text for cell in row] for row in table.rows)
    assert first == ["1: samples", "u", "4", "2.50", "2.50", "3.70", "4.00"]
    assert second == ["1: samples", "p", "1", *["not finite"] * 4]


def test_settings_side_by_side():
    def table_of(before: dict, after: dict) -> Table | None:
        return settings_table({"sources": [{"systems": [before]}], "targets": [{"system": after}]})

    table = table_of({"k": {"low": 1.0}, "a": [2, math.pi], "weight": 1.0}, {"k": {"low": 5}, "n": "x"})
    rows = [[cell.text for cell in row] for row in table.rows]
    assert rows == [["k.low", "1", "5"], ["a", "2, 3.14159", "–"], ["n", "–", "x"]]
    assert all(row[1].strong for row in table.rows)
    two = [{"systems": [{"k": 1.0}]}, {"systems": [{"k": 2.0}]}]
    assert settings_table({"sources": two, "targets": [{"system": {"k": 1.0}}]}) is None
    assert settings_table({}) is None
    assert not table_of({"k": 1.0}, {"k": 1}).rows[0][1].strong


def test_parts_add_up():
    def table_of(**parts: float) -> Table:
        return STUDY_TABLES["parts"](Study(Analysis(targets=(), curves=(), seconds_by_part=parts)))

    table = table_of(pretrain=300.0, own_part=100.0)
    assert [row[0].text for row in table.rows] == ["pre-training", "own part"]
    assert [row[2].share for row in table.rows] == [75.0, 25.0]
    assert table_of(pretrain=0.0).rows[0][2].share == 0.0
