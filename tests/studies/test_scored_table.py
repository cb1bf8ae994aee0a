"""What a table must be before anything is computed from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scifm.errors import DataError
from scifm.studies.table import CurveKey, ScoredTable
from study_table import NAMED, make_row, make_rows

ROWS = make_rows("few_shot", {16: [0.1, 0.2], 64: [0.05, 0.06]})


def test_rows_come_in_the_order_of_recipe_samples_and_seeds():
    rows = [*make_rows("few_shot", {64: [0.1]}, target="poisson-10-20"), *ROWS, make_row("in_distribution", 0.1)]
    table = ScoredTable(rows[::-1], **NAMED)
    assert [key.target for key in table.curves] == ["poisson-5-10", "poisson-10-20", "poisson-5-10"]
    points = table.curves[CurveKey("few_shot", "poisson", "poisson-5-10", "small", "all")]
    assert list(points) == [16, 64]
    assert [row.relative_l2 for row in points[16]] == [0.1, 0.2]
    assert table.num_seeds == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([*ROWS, ROWS[0]], "twice"),
        ([*ROWS, replace(ROWS[0], relative_l2=0.3, run="other")], "twice .* and other"),
        ([replace(ROWS[0], target="poisson-5-1")], "target.*Did you mean 'poisson-5-10'"),
        ([replace(ROWS[0], source="")], "source"),
        ([replace(ROWS[0], size="huge")], "size"),
        ([replace(ROWS[0], kind="tuned")], "kind"),
        ([replace(ROWS[0], relative_l2=-0.1)], "cannot be"),
        ([replace(ROWS[0], num_samples=0)], "cannot be"),
        ([make_row("zero_shot", 0.1, num_samples=4)], "cannot be"),
        (make_rows("from_scratch", {4: [1.0]}) + make_rows("from_scratch", {4: [1.0]}, method="lora"), "must be one"),
    ],
)
def test_bad_tables_are_refused_with_the_reason(rows, message):
    with pytest.raises(DataError, match=message):
        ScoredTable(rows, **NAMED)


def test_in_distribution_may_name_a_task_that_is_no_target():
    table = ScoredTable([make_row("in_distribution", 0.1, target="poisson-1-5")], **NAMED)
    assert table.num_seeds == 1


def test_errors_by_sample_widen_errors_but_cancel_in_ratios_where_they_are_alike():
    scratch = make_rows("from_scratch", {16: [0.4, 0.9]})
    pattern = np.array([0.5, 1.0, 1.5, 1.0])
    rows = [*ROWS, *scratch]
    plain = ScoredTable(rows, **NAMED)
    told = ScoredTable(rows, **NAMED, sample_errors=lambda row: row.relative_l2 * pattern)
    few = tuple(ROWS[:2])
    assert told.error(few).low < plain.error(few).low
    assert told.error(few).center == plain.error(few).center
    assert told.ratio(tuple(scratch), few) == pytest.approx(plain.ratio(tuple(scratch), few))


@pytest.mark.parametrize(
    ("errors", "message"),
    [(lambda row: [0.3, 0.4], "one scoring"), (lambda row: [[0.1]], "sample"), (lambda row: [row.relative_l2], "two")],
)
def test_errors_by_sample_must_belong_to_the_table(errors, message):
    with pytest.raises(DataError, match=message):
        ScoredTable(ROWS, **NAMED, sample_errors=errors).error(tuple(ROWS[:2]))
