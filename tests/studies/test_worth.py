"""What a pre-training is worth, counted in samples, against tables whose answers are computed by hand."""

from __future__ import annotations

import math

import pytest

from scifm.findings.study import Source
from scifm.studies.analysis import analyze
from scifm.studies.table import Row, ScoredTable
from scifm.studies.worth import worths
from study_table import NAMED, make_row, make_rows

SCRATCH = {4: [0.8] * 3, 16: [0.4] * 3, 64: [0.2] * 3}  # halves with every factor of 4


def worth_of(few: dict[int, list[float]], scratch: dict[int, list[float]] = SCRATCH):
    rows = [*make_rows("few_shot", few), *make_rows("from_scratch", scratch)]
    return worths(ScoredTable(rows, **NAMED))


def test_it_is_read_from_the_curve_from_scratch():
    (worth,) = worth_of({4: [0.4 / math.sqrt(2)] * 3})
    assert worth.num_samples == 4
    assert worth.as_good_as == pytest.approx(32)
    assert (worth.low, worth.high, worth.bound) == (pytest.approx(32), pytest.approx(32), None)


def test_what_changes_nothing_is_worth_its_own_samples_and_what_hurts_fewer():
    nothing, hurts = worth_of({16: [0.4] * 3, 64: [0.4] * 3})
    assert nothing.as_good_as == pytest.approx(16)
    assert hurts.as_good_as == pytest.approx(16)


def test_beyond_the_curve_there_are_bounds():
    better, worse = worth_of({4: [0.1] * 3, 16: [0.9] * 3})
    assert (better.as_good_as, better.bound, better.low) == (64, "more than", None)
    assert (worse.as_good_as, worse.bound, worse.low) == (4, "at most", None)


def test_its_interval_is_of_the_numbers_seed_by_seed():
    (worth,) = worth_of({4: [0.4, 0.4 * 2**-0.5, 0.4 * 2**-0.25]})
    assert worth.as_good_as == pytest.approx(16 * 2**0.5)
    assert worth.low < 16 * 2**0.5 < worth.high


def rows_of(source: str, error: float, target: str = "poisson-5-10") -> list[Row]:
    return [make_row("few_shot", error, 4, seed, source=source, target=target) for seed in range(3)]


def verdict(*rows: list[Row], sources: tuple[str, ...]) -> dict[str, str]:
    every = [row for own in rows for row in own] + make_rows("from_scratch", SCRATCH)
    given = {**NAMED, "sources": [Source(name=name, systems=("poisson",)) for name in sources]}
    analysis = analyze(every, **given)
    return {finding.name: finding.said for finding in analysis.verdict}


def test_sources_are_set_side_by_side_in_words():
    rows = [rows_of(*each) for each in (("six", 0.2), ("near", 0.4), ("textures", 0.95))]
    told = verdict(*rows, sources=("six", "near", "textures"))
    assert told["worth of each pre-training"] == (
        "Counted in samples from scratch: on poisson-5-10, 4 samples of it after pre-training are as good as six 64, "
        "near 16, textures ≤ 4."
    )


def test_of_one_source_there_is_nothing_to_set_beside():
    assert "worth of each pre-training" not in verdict(rows_of("six", 0.2), sources=("six",))
