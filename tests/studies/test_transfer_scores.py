"""Scores of transfer against tables whose answers are computed by hand."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scifm.errors import DataError
from scifm.studies.table import ScoredTable
from scifm.studies.transfer_scores import converged, crossovers, curves, first_reaching, gains, mixing, needs, shift
from study_table import NAMED, make_row, make_rows

NAMES = {"source": "poisson", "target": "poisson-5-10", "size": "small", "method": "all"}
T3 = 2.919986  # t of 95 % with 2 degrees of freedom


def table(*rows, **more):
    return ScoredTable([row for group in rows for row in group], **NAMED, **more)


def pair(few, scratch, **more):
    return table(make_rows("few_shot", few), make_rows("from_scratch", scratch), **more)


# --- curves and gains -------------------------------------------------------------------------------------------------


def test_a_point_of_a_curve():
    (curve,) = curves(table(make_rows("few_shot", {16: [1.0, 4.0, 2.0]})))
    (point,) = curve.points
    assert curve.model_dump(exclude={"points"}) == {"kind": "few_shot"} | NAMES
    assert point.median == 2.0
    assert point.high == pytest.approx(2 ** (1 + T3 / math.sqrt(3)), rel=1e-5)
    assert point.values == (1.0, 4.0, 2.0)
    assert [run[-1] for run in point.runs] == ["0", "1", "2"]


def test_gain_is_paired_by_seed():
    # ratios 2, 4, 8: log2 1, 2, 3
    (gain,) = gains(pair({16: [0.1, 0.01, 0.1]}, {16: [0.2, 0.04, 0.8], 64: [0.1] * 3}))
    assert gain.gain == pytest.approx(4)
    assert gain.low == pytest.approx(2 ** (2 - T3 / math.sqrt(3)), rel=1e-5)
    assert gain.negative is False
    assert gain.num_samples == 16


def test_gain_of_equal_runs_is_one_and_not_negative():
    (gain,) = gains(pair({16: [0.1, 0.2]}, {16: [0.1, 0.2]}))
    assert (gain.gain, gain.low, gain.high, gain.negative) == (1, 1, 1, False)


def test_negative_transfer_needs_the_whole_interval_below_one():
    few = {16: [0.2, 0.21, 0.19], 64: [0.2, 0.1, 0.4]}
    clear, unclear = gains(pair(few, {16: [0.1] * 3, 64: [0.15] * 3}))
    assert clear.negative is True
    assert unclear.gain < 1
    assert unclear.negative is False


def test_one_seed_has_a_gain_without_interval_or_judgment():
    (gain,) = gains(pair({16: [0.2]}, {16: [0.1]}))
    assert (gain.gain, gain.low, gain.high, gain.negative) == (0.5, None, None, None)


def test_seeds_without_a_partner_are_left_out_of_the_pair():
    scratch = [make_row("from_scratch", 0.4, 16, seed) for seed in (1, 7)]
    (gain,) = gains(table(make_rows("few_shot", {16: [9.0, 0.1]}), scratch))
    assert (gain.gain, gain.low) == (4, None)
    (none,) = gains(table(make_rows("few_shot", {16: [9.0]}), scratch))
    assert none.gain is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_broken_run_leaves_blanks(bad):
    told = pair({16: [0.1, bad, 0.1]}, {16: [0.2] * 3})
    point = curves(told)[0].points[0]
    assert (point.median, point.low, point.values) == (None, None, (0.1, None, 0.1))
    (gain,) = gains(told)
    assert (gain.gain, gain.negative) == (None, None)


# --- needs ------------------------------------------------------------------------------------------------------------


def test_first_reaching_on_a_power_law_is_exact():
    counts = [4, 16, 64, 256]
    errors = [n**-0.5 for n in counts]
    for wanted in (40, 100):
        needed, bound = first_reaching(counts, errors, wanted**-0.5)
        assert needed == pytest.approx(wanted)
        assert bound is None


@pytest.mark.parametrize(
    ("errors", "wanted", "answer"),
    [
        ([0.1, 0.05], 0.2, (16, "at most")),
        ([0.1, 0.05], 0.1, (16, "at most")),
        ([0.1, 0.05], 0.05, (64, None)),
        ([0.1, 0.05], 0.04, (64, "more than")),
        ([0.1, 0.3], 0.2, (16, "at most")),  # a rise is not followed: fewer samples may be used
    ],
)
def test_first_reaching_at_its_ends(errors, wanted, answer):
    assert first_reaching([16, 64], errors, wanted) == (pytest.approx(answer[0]), answer[1])


def test_first_reaching_reads_the_running_minimum():
    # the bump at 64 does not count: from (64, 0.1) to (256, 0.025), 0.05 lies in the middle of the logarithms
    assert first_reaching([16, 64, 256], [0.1, 0.5, 0.025], 0.05) == (pytest.approx(128), None)


@pytest.mark.parametrize(
    ("errors", "wanted"),
    [([math.nan, 0.01], 0.1), ([0.1, math.nan], 0.05), ([0.1, 0.01], math.nan), ([0.1, 0.0], 0.05)],
)
def test_first_reaching_does_not_guess(errors, wanted):
    needed, bound = first_reaching([16, 64], errors, wanted)
    assert math.isnan(needed)
    assert bound is None


def test_first_reaching_before_a_nan_is_known():
    assert first_reaching([16, 64, 256], [0.2, 0.05, math.nan], 0.1) == (pytest.approx(32), None)


def test_needs_by_hand():
    # fine-tuned error 0.4/√n: 0.02 at 400 would be beyond; scratch at 1024 has 0.05, which is reached at 64
    few = {n: [0.4 / math.sqrt(n) * f for f in (1, 1.1, 0.9)] for n in (16, 100, 400)}
    scratch = {16: [0.9] * 3, 1024: [0.05, 0.055, 0.045]}
    (need,) = needs(pair(few, scratch))
    assert need.reference_samples == 1024
    assert need.reference_error == 0.05
    assert need.needed == pytest.approx(64)
    assert need.ratio == pytest.approx(16)
    assert (need.ratio_low, need.ratio_high) == pytest.approx((16, 16))  # each seed's two curves move together
    assert need.bound is None


def test_needs_interval_is_of_ratios_by_seed():
    few = {n: [1 / n] * 3 for n in (2, 1024)}
    # scratch reaches 1/8, 1/16, 1/32: needed 8, 16, 32; ratios 128, 64, 32: log2 7, 6, 5
    (need,) = needs(pair(few, {1024: [1 / 8, 1 / 16, 1 / 32]}))
    assert need.ratio == pytest.approx(64)
    assert need.ratio_low == pytest.approx(2 ** (6 - T3 / math.sqrt(3)), rel=1e-5)


def test_needs_bounds():
    (most,) = needs(pair({16: [0.1] * 2}, {256: [0.2] * 2}))
    assert (most.bound, most.needed, most.ratio, most.ratio_low) == ("at most", 16, 16, None)
    (more,) = needs(pair({16: [0.3] * 2}, {256: [0.2] * 2}))
    assert (more.bound, more.needed, more.ratio, more.ratio_high) == ("more than", 16, 16, None)


def test_zero_shot_that_is_enough_bounds_the_need():
    zero = [make_row("zero_shot", 0.1)]
    few, scratch = make_rows("few_shot", {16: [0.3] * 2}), make_rows("from_scratch", {256: [0.2] * 2})
    (need,) = needs(table(zero, few, scratch))
    assert (need.bound, need.needed) == ("at most", 16)


def test_a_seed_that_is_only_bounded_takes_the_interval_away():
    (need,) = needs(pair({16: [0.4, 0.4, 0.1], 64: [0.1] * 3}, {256: [0.2] * 3}))
    assert need.ratio == pytest.approx(256 / 32)
    assert (need.ratio_low, need.ratio_high) == (None, None)


def test_needs_without_scratch_are_none_and_with_nan_null():
    assert needs(table(make_rows("few_shot", {16: [0.1]}))) == []
    (need,) = needs(pair({16: [0.1, 0.1]}, {64: [math.nan, 0.1]}))
    numbers = ("reference_error", "needed", "ratio", "ratio_low", "ratio_high", "bound")
    assert [getattr(need, name) for name in numbers] == [None] * 6


# --- crossovers -------------------------------------------------------------------------------------------------------


def test_crossing_is_interpolated_in_logarithms():
    # gains 4 at 16, 1/4 at 256: 1 at 64
    (cross,) = crossovers(pair({16: [0.1] * 2, 256: [0.4] * 2}, {16: [0.4] * 2, 256: [0.1] * 2}))
    assert cross.num_samples == pytest.approx(64)
    assert "falls to 1 at about 64 samples" in cross.told


def test_always_ahead_is_null_with_a_sentence():
    (cross,) = crossovers(pair({16: [0.1] * 2, 256: [0.1] * 2}, {16: [0.4] * 2, 256: [0.2] * 2}))
    assert cross.num_samples is None
    assert cross.told == "fine-tuning is ahead at every number of samples measured (up to 256)"


def test_an_interval_that_holds_one_ends_the_lead_where_it_was_measured():
    (cross,) = crossovers(pair({16: [0.1] * 3, 64: [0.1, 0.1, 0.3]}, {16: [0.4] * 3, 64: [0.2, 0.2, 0.2]}))
    assert cross.num_samples == 64
    assert "not clearly ahead any more at 64" in cross.told


def test_never_ahead_and_ahead_again_are_told():
    few = {16: [0.5] * 2, 64: [0.1] * 2}
    (cross,) = crossovers(pair(few, {16: [0.4] * 2, 64: [0.2] * 2}))
    assert cross.num_samples == 16
    assert "even at the smallest" in cross.told
    assert "ahead again at 64" in cross.told


def test_one_seed_is_judged_by_the_gain_and_says_so():
    (cross,) = crossovers(pair({16: [0.1], 64: [0.1]}, {16: [0.2], 64: [0.2]}))
    assert cross.num_samples is None
    assert "no interval" in cross.told


def test_no_shared_samples_and_broken_gains_are_told():
    (cross,) = crossovers(pair({16: [0.1]}, {64: [0.1]}))
    assert cross.num_samples is None
    assert "no number of samples" in cross.told
    (cross,) = crossovers(pair({16: [math.nan]}, {16: [0.1]}))
    assert "not finite" in cross.told


# --- mixing -----------------------------------------------------------------------------------------------------------


def test_mixtures_are_paired_with_the_specialist():
    rows = [make_rows("few_shot", {16: [0.1, 0.2], 64: [0.1, 0.1]})]
    rows += [make_rows("few_shot", {16: [0.2, 0.4]}, source="mixture")]
    rows += [make_rows("few_shot", {64: [0.1, 0.1]}, source="others"), make_rows("from_scratch", {16: [0.8, 0.8]})]
    with_it, without = mixing(table(*rows))
    assert with_it.model_dump() == {
        "target": "poisson-5-10", "size": "small", "num_samples": 16, "specialist": "poisson", "mixture": "mixture",
        "contains_system": True, "specialist_error": pytest.approx(0.15), "mixture_error": pytest.approx(0.3),
        "ratio": 2, "low": pytest.approx(2), "high": pytest.approx(2), "scratch_error": 0.8,
    }  # fmt: skip
    assert (without.mixture, without.contains_system, without.ratio) == ("others", False, 1)
    assert without.scratch_error is None


def test_a_target_without_specialist_has_no_pairs():
    names = {"source": "mixture", "target": "helmholtz-1-5"}
    assert mixing(table(make_rows("few_shot", {16: [0.1]}, **names))) == []


# --- shift ------------------------------------------------------------------------------------------------------------

ZERO = [make_row("zero_shot", e, target=t) for t, e in (("poisson-5-10", 0.1), ("poisson-10-20", 0.4))]
ZERO += [make_row("zero_shot", 0.9, target="helmholtz-1-5")]
VALUES = {("poisson", t): {"spectra": v} for t, v in (("poisson-5-10", 1.0), ("poisson-10-20", 2.0))}


def test_shift_pooled_and_within():
    told = shift(table(ZERO), VALUES | {("poisson", "helmholtz-1-5"): {"spectra": 1.5}})
    assert told.tasks[1].model_dump() == {
        "source": "poisson", "target": "poisson-10-20", "size": "small", "zero_shot": 0.4, "values": {"spectra": 2.0},
    }  # fmt: skip
    (measure,) = told.measures
    # errors rank 1 2 3, values 1 3 2: 1 − 6·2/24 = 0.5; two orders of six reach |1|, four more |0.5|
    assert measure.model_dump() == {
        "name": "spectra", "label": "distance of spectra", "rank_correlation": pytest.approx(0.5), "num_tasks": 3,
        "p_value": pytest.approx(1.0), "within": {"poisson": None, "helmholtz": None},
    }  # fmt: skip


def test_shift_of_two_tasks_is_null():
    (measure,) = shift(table(ZERO), VALUES).measures
    assert (measure.rank_correlation, measure.num_tasks, measure.label) == (None, 2, "distance of spectra")


def test_shift_counts_a_task_once_however_many_sizes_saw_it():
    values = VALUES | {("poisson", "helmholtz-1-5"): {"spectra": 3.0}}
    large = [replace(row, size="large", run="large", relative_l2=1 / row.relative_l2) for row in ZERO]
    told = shift(table(ZERO, large), values)
    assert len(told.tasks) == 6
    assert (told.measures[0].num_tasks, told.measures[0].rank_correlation) == (3, -1)


def test_shift_values_of_strangers_are_refused_and_nan_is_null():
    with pytest.raises(DataError, match="'mars'"):
        shift(table(ZERO), {("poisson", "mars"): {}})
    told = shift(table(ZERO), {("poisson", "poisson-5-10"): {"spectra": math.nan}})
    assert told.tasks[0].values == {"spectra": None}
    assert shift(table(ZERO)).measures == ()


# --- laws -------------------------------------------------------------------------------------------------------------

ERRORS = st.lists(st.floats(1e-4, 1.0), min_size=3, max_size=3)


@given(st.fixed_dictionaries(dict.fromkeys((4, 16, 64), ERRORS)), ERRORS, ERRORS, st.sampled_from([1 / 64, 8.0, 0.5]))
def test_scaling_all_errors_changes_no_ratio(few, at_16, at_256, factor):
    scratch = {16: at_16, 256: at_256}
    plain = pair(few, scratch)
    scaled = table([replace(row, relative_l2=factor * row.relative_l2) for row in plain.rows])
    for one, other in ((gains(plain), gains(scaled)), (needs(plain), needs(scaled))):
        for before, after in zip(one, other, strict=True):
            for name, value in before.model_dump(exclude={"reference_error"}).items():
                close = isinstance(value, float)
                assert getattr(after, name) == (pytest.approx(value, rel=1e-6) if close else value)


@given(st.randoms(use_true_random=False), st.fixed_dictionaries(dict.fromkeys((4, 16), ERRORS)))
def test_the_order_of_rows_changes_nothing(shuffler: random.Random, few):
    rows = make_rows("few_shot", few) + make_rows("from_scratch", few) + make_rows("few_shot", few, source="mixture")
    rows += ZERO
    shuffled = shuffler.sample(rows, len(rows))
    for score in (curves, gains, needs, crossovers, mixing, shift):
        assert score(table(rows)) == score(table(shuffled))


@given(st.lists(st.floats(1e-3, 1), min_size=3, max_size=3), st.floats(1e-3, 1))
def test_what_is_needed_lies_within_what_was_measured(errors, wanted):
    needed, _ = first_reaching([4, 16, 64], errors, wanted)
    assert 4 <= needed <= 64 * (1 + 1e-12)


def test_shift_is_correlated_over_the_size_that_has_most_tasks():
    errors = {"poisson-5-10": 0.1, "poisson-10-20": 0.2, "helmholtz-1-5": 0.4}
    rows = [make_row("zero_shot", e, source="mixture", target=t, size="small") for t, e in errors.items()]
    rows += [make_row("zero_shot", 0.9, source="mixture", target="poisson-5-10", size="large")]
    values = {("mixture", t): {"novelty": e} for t, e in errors.items()}
    found = shift(ScoredTable(rows, **NAMED), values)
    assert found.measures[0].num_tasks == 3
    assert found.measures[0].rank_correlation == 1


# --- training from scratch to the end of its tether -------------------------------------------------------------------


def test_the_best_budget_from_scratch_stands_beside_the_equal_one():
    tuned = make_rows("few_shot", {16: [0.3, 0.3], 64: [0.1, 0.1], 256: [0.05, 0.05]})
    equal = make_rows("from_scratch", {1024: [0.2, 0.2]})
    long = [
        replace(row, kind="from_scratch_converged", num_steps=steps, run=f"{row.run}-long")
        for row, steps in zip(make_rows("from_scratch", {1024: [0.11, 0.13]}), (400, 800), strict=True)
    ]
    (found,) = converged(ScoredTable([*tuned, *equal, *long], **NAMED), lambda size, num_samples: 800)
    assert (found.target, found.source, found.num_samples) == ("poisson-5-10", "poisson", 1024)
    assert found.error == pytest.approx(0.12, rel=0.01)
    assert found.equal == pytest.approx(0.2)
    assert (found.num_steps, found.num_limited, found.fewest) == ((400, 800), 1, 64)
    worse = make_rows("few_shot", {16: [0.3, 0.3]})
    assert converged(ScoredTable([*worse, *equal, *long], **NAMED), lambda size, n: 801)[0].fewest is None
    assert converged(ScoredTable([*worse, *equal], **NAMED), lambda size, n: 1) == []
