"""The headline says what the numbers say, also when they do not flatter."""

from __future__ import annotations

import math

import pytest

from scifm.report.records import Summary
from scifm.report.sentences import budget_sentence, headline, headline_count, remarks
from scifm.report.tables import Group, groups_from_summary


def summary(few_shot: dict, from_scratch: dict, *, zero_shot: float | None = 0.08) -> Summary:
    return Summary(0.012, zero_shot, few_shot, from_scratch, 500.0, {})


def test_gain_and_the_largest_count_overtaken():
    told = headline(summary({16: 0.04, 64: 0.021, 256: 0.018}, {16: 0.19, 64: 0.0651, 256: 0.041, 1024: 0.033}))
    assert told == (
        "With 64 downstream samples, fine-tuning reaches a relative L2 error of 0.021, 3.1 times lower than training "
        "from scratch on the same samples, and lower than from scratch on 1,024."
    )


def test_only_counts_really_overtaken_are_claimed():
    told = headline(summary({64: 0.04}, {64: 0.08, 256: 0.05, 1024: 0.03}))
    assert told.endswith("lower than from scratch on 256.")
    assert headline(summary({64: 0.04}, {64: 0.08, 256: 0.04})).endswith("on the same samples.")


def test_a_count_beyond_one_that_is_not_overtaken_is_not_claimed():
    told = headline(summary({64: 0.04}, {64: 0.08, 256: 0.03, 1024: 0.05}))
    assert "256" not in told
    assert "1,024" not in told


def test_negative_transfer_is_said():
    told = headline(summary({64: 0.06}, {64: 0.04, 1024: 0.03}))
    assert told.startswith("Negative transfer: with 64 downstream samples")
    assert "0.060, 1.5 times higher than training from scratch" in told
    assert "lower" not in told


@pytest.mark.parametrize("scratch", [0.0497, 0.05, 0.0512])
def test_a_gain_that_rounds_to_one_is_no_gain(scratch):
    told = headline(summary({64: 0.05}, {64: scratch}))
    assert told.startswith("No gain: with 64")
    assert "times" not in told


def test_negative_transfer_at_another_count_is_remarked():
    record = summary({16: 0.30, 64: 0.02, 256: 0.018}, {16: 0.15, 64: 0.06, 256: 0.04})
    said = " ".join(remarks(record, groups_from_summary(record)))
    assert "Fine-tuning is worse than training from scratch on 16 (2.0 times higher)." in said
    assert "Fine-tuning on 16 samples is worse than not adapting at all." in said


def test_overlapping_seeds_are_remarked_and_separate_ones_are_not():
    record = summary({64: 0.05}, {64: 0.06})
    near = [Group("few_shot", 64, (0.04, 0.06)), Group("from_scratch", 64, (0.05, 0.07))]
    apart = [Group("few_shot", 64, (0.04, 0.05)), Group("from_scratch", 64, (0.06, 0.07))]
    assert any("overlap" in said for said in remarks(record, near))
    assert not any("overlap" in said for said in remarks(record, apart))


def test_missing_and_diverged_errors_are_never_zero_and_never_compared():
    assert headline_count(summary({64: None}, {64: 0.05})) is None
    assert headline_count(summary({64: math.nan, 16: 0.1}, {64: 0.05, 16: 0.2})) == 16
    assert headline(summary({64: 0.05}, {})).endswith("so no gain can be stated.")
    assert headline(summary({}, {64: 0.05})).startswith("No fine-tuned model")
    assert "nothing was fine-tuned" in headline(summary({}, {}))
    assert headline(summary({}, {}, zero_shot=None)).startswith("No error was recorded")
    assert not any("zero-shot" in said for said in remarks(summary({}, {}, zero_shot=None), []))


def test_budgets_are_called_equal_only_when_recorded_equal():
    def groups(steps: tuple, trials: tuple = (3,)) -> list[Group]:
        tuned = Group("few_shot", 64, (0.1,), num_steps=(300,), trial_steps=(3,))
        return [tuned, Group("from_scratch", 64, (0.2,), num_steps=steps, trial_steps=trials)]

    assert budget_sentence(groups((300,))).startswith("The budgets are equal: optimizer steps: 300")
    unequal = budget_sentence(groups((900,)))
    assert unequal.startswith("The budgets are not shown to be equal")
    assert "300 fine-tuning, 900 from scratch" in unequal
    assert budget_sentence(groups((300,), (9,))).startswith("The budgets are not shown to be equal")
    assert "optimizer steps: not recorded" in budget_sentence(groups(()))
    assert budget_sentence([]).endswith("not recorded.")


def test_budgets_are_compared_where_both_had_as_many_samples():
    def group(kind: str, count: int, steps: int) -> Group:
        return Group(kind, count, (0.1,), num_steps=(steps,), trial_steps=(2 * steps,))

    groups = [group("few_shot", 16, 100), group("few_shot", 64, 200), group("from_scratch", 16, 100)]
    groups += [group("from_scratch", 64, 200), group("from_scratch", 1024, 900)]
    assert budget_sentence(groups) == (
        "The budgets are equal: optimizer steps: 100 or 200 for each model, both ways; steps of all trials before: "
        "200 or 400 for each model, both ways."
    )
    crossed = [group("few_shot", 16, 100), group("few_shot", 64, 200)]
    crossed += [group("from_scratch", 16, 200), group("from_scratch", 64, 100)]
    assert budget_sentence(crossed).startswith("The budgets are not shown to be equal")


def test_the_trial_without_training_is_told_by_itself():
    def told(rates: tuple, steps: tuple, trials: int = 600, *, tried: bool = True) -> str:
        tuned = Group("few_shot", 16, (0.1,), learning_rates=rates, num_steps=steps, trial_steps=(trials,))
        scratch = Group("from_scratch", 16, (0.2,), num_steps=(300,), trial_steps=(600,))
        return budget_sentence([tuned, scratch], tried_zero_shot=tried)

    equal = "The budgets are equal: optimizer steps: 300 for each model trained, both ways; steps of all trials"
    assert told((0.0, 0.01), (0, 300)).startswith(equal)
    assert told((0.0, 0.01), (0, 300)).endswith("at no step: it did, for one seed or more, on 16 samples.")
    assert told((0.01,), (300,)).startswith(equal)
    assert told((0.01,), (300,)).endswith("at no step: it never did.")
    assert told((0.0,), (0,)).startswith("The budgets are not shown to be equal: optimizer steps: 0 fine-tuning, 300")
    assert told((0.01,), (300,), 900).startswith("The budgets are not shown to be equal")
    assert told((0.01,), (300,), 600, tried=False).endswith("both ways.")
