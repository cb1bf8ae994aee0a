"""Cells of the tables: bounds are said as bounds, what is not known is not a number."""

from __future__ import annotations

import pytest

from scifm.findings.study import Analysis, Need, ShiftMeasure
from scifm.report.study import Study
from scifm.report.study_tables import STUDY_TABLES, correlation_words, fewer_text

WHO = {"source": "poisson", "target": "p1", "size": "small", "method": "all"}


def view_of(**entries: object) -> Study:
    tree = {
        "targets": [{"name": "p1", "system": "poisson"}, {"name": "p2", "system": "poisson"}],
        "sources": [{"name": "poisson", "systems": ["poisson"]}],
        "sizes": [{"name": "small", "num_params": 10}],
        "curves": [
            WHO | {"kind": "few_shot", "target": t, "points": [{"num_samples": 4, "median": 0.1}]} for t in ("p1", "p2")
        ],
    }
    return Study(Analysis.model_validate(tree | entries))


@pytest.mark.parametrize(
    ("entries", "text", "small", "bad"),
    [
        ({"needed": 16.0, "ratio": 64.0, "ratio_low": 40.0, "ratio_high": 70.0}, "64 times fewer", "40–70", False),
        ({"needed": 4.0, "ratio": 256.0, "bound": "at most"}, "at least 256 times fewer", "", False),
        ({"needed": 256.0, "ratio": 4.0, "bound": "more than"}, "less than 4.0 times fewer", "", False),
        ({"needed": 1024.0, "ratio": 1.0, "bound": "more than"}, "no fewer", "", True),
        ({"needed": 2048.0, "ratio": 0.5, "ratio_low": 0.25, "ratio_high": 0.8}, "2.0 times more", "1.2–4.0", True),
        ({"needed": 0.0, "ratio": None, "bound": "at most"}, "no sample needed", "", False),
        ({"needed": None, "ratio": None}, "not known", "", False),
    ],
)
def test_how_many_fewer(entries, text, small, bad):
    cell = fewer_text(Need.model_validate(WHO | {"reference_samples": 1024} | entries))
    assert (cell.text, cell.small, cell.bad) == (text, small, bad)


def test_bounds_stand_before_what_is_needed_and_constant_columns_in_the_caption():
    needs = [
        WHO | {"reference_samples": 1024, "needed": 4.0, "ratio": 256.0, "bound": "at most"},
        WHO | {"reference_samples": 1024, "needed": 64.4, "ratio": 15.9, "target": "p2"},
    ]
    table = STUDY_TABLES["needs"](view_of(needs=needs))
    assert table.headers == ("task", "its error", "fine-tuning needs", "that is")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["p1", "not recorded", "at most 4", "at least 256 times fewer"],
        ["p2", "not recorded", "64", "16 times fewer"],
    ]
    assert table.caption.endswith("source: poisson, network: small, trained: all, from scratch on: 1,024.")


def test_gains_are_laid_out_by_task_and_count_and_harm_is_marked():
    gains = [
        WHO | {"num_samples": 4, "gain": 4.8, "low": 4.1, "high": 5.5, "negative": False},
        WHO | {"num_samples": 64, "gain": 0.8, "low": 0.7, "high": 0.9, "negative": True},
        WHO | {"num_samples": 64, "gain": None, "target": "p2"},
    ]
    table = STUDY_TABLES["gains"](view_of(gains=gains))
    assert table.headers == ("task", "4", "64")
    first, second = table.rows
    assert [(c.text, c.small, c.bad) for c in first[1:]] == [("4.8×", "4.1–5.5", False), ("0.80×", "0.70–0.90", True)]
    assert [cell.text for cell in second] == ["p2", "–", "not known"]


def test_a_crossover_that_was_not_measured_is_no_number():
    table = STUDY_TABLES["crossovers"](view_of(crossovers=[WHO | {"num_samples": None, "told": "ahead everywhere"}]))
    assert [cell.text for cell in table.rows[0]][-2:] == ["none measured", "ahead everywhere"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.93, "almost the same order (rank correlation 0.93)"),
        (-0.75, "much the same order, reversed (rank correlation −0.75)"),
        (0.05, "no order in common (rank correlation 0.05)"),
        (None, "no rank correlation could be computed"),
        (float("nan"), "no rank correlation could be computed"),
    ],
)
def test_correlations_in_words(value, words):
    assert correlation_words(ShiftMeasure(name="spectra", rank_correlation=value)) == words
