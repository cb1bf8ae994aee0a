"""The headline says what the numbers say, also when they do not flatter."""

from __future__ import annotations

import math

import pytest

from scifm.findings.study import Gain
from scifm.report.records import MODEL_ALONE, Curve, RunRecord
from scifm.report.run_page import run_headline, run_remarks
from scifm.report.study_page import TaskErrors, budget_sentence, headline, remarks


def errors(tuned: dict, scratch: dict, *, zero_shot: float | None = 0.08, spread: float = 0.1) -> TaskErrors:
    gains = {}
    for n in tuned.keys() & scratch.keys():
        gain = scratch[n] / tuned[n]
        who = {"source": "s", "target": "t", "size": "m", "num_samples": n}
        gains[n] = Gain.model_validate(who | {"gain": gain, "low": gain * (1 - spread), "high": gain * (1 + spread)})
    return TaskErrors(tuned, scratch, gains, zero_shot, 0.012 if zero_shot is not None else None)


def test_gain_and_the_largest_count_overtaken():
    told = headline(errors({16: 0.04, 64: 0.021, 256: 0.018}, {16: 0.19, 64: 0.0651, 256: 0.041, 1024: 0.033}))
    assert told == (
        "With 64 downstream samples, fine-tuning reaches a relative L2 error of 0.021, 3.1 times lower than training "
        "from scratch on the same samples, and lower than from scratch on 1,024."
    )


def test_only_counts_really_overtaken_are_claimed():
    told = headline(errors({64: 0.04}, {64: 0.08, 256: 0.05, 1024: 0.03}))
    assert told.endswith("lower than from scratch on 256.")
    assert headline(errors({64: 0.04}, {64: 0.08, 256: 0.04})).endswith("on the same samples.")


def test_a_count_beyond_one_that_is_not_overtaken_is_not_claimed():
    told = headline(errors({64: 0.04}, {64: 0.08, 256: 0.03, 1024: 0.05}))
    assert "256" not in told
    assert "1,024" not in told


def test_negative_transfer_is_said():
    told = headline(errors({64: 0.06}, {64: 0.04, 1024: 0.03}))
    assert told.startswith("Negative transfer: with 64 downstream samples")
    assert "0.060, 1.5 times higher than training from scratch" in told
    assert "lower" not in told


@pytest.mark.parametrize("scratch", [0.0497, 0.05, 0.0512])
def test_a_gain_that_rounds_to_one_is_no_gain(scratch):
    told = headline(errors({64: 0.05}, {64: scratch}))
    assert told.startswith("No gain: with 64")
    assert "times" not in told


def test_negative_transfer_at_another_count_is_remarked():
    said = " ".join(remarks(errors({16: 0.30, 64: 0.02, 256: 0.018}, {16: 0.15, 64: 0.06, 256: 0.04})))
    assert "Fine-tuning is worse than training from scratch on 16 (2.0 times higher)." in said
    assert "Fine-tuning on 16 samples is worse than not adapting at all." in said


def test_an_interval_that_holds_one_is_remarked_and_another_is_not():
    assert any("may be chance" in said for said in remarks(errors({64: 0.05}, {64: 0.06}, spread=0.3)))
    assert not any("chance" in said for said in remarks(errors({64: 0.05}, {64: 0.06})))


def test_missing_and_diverged_errors_are_never_zero_and_never_compared():
    assert errors({16: 0.1}, {16: 0.2, 64: 0.05}).count == 16
    assert headline(errors({64: 0.05}, {})).endswith("so no gain can be stated.")
    assert headline(errors({}, {64: 0.05})).startswith("No fine-tuned model")
    assert "nothing was fine-tuned" in headline(errors({}, {}))
    assert headline(errors({}, {}, zero_shot=None)).startswith("No error was recorded")
    assert not any("zero-shot" in said for said in remarks(errors({}, {}, zero_shot=None)))


def row(kind: str, count: int, num_steps: float | None, trial_steps: int | None = 600, rate: float = 0.003) -> dict:
    about = {"kind": kind, "target": "t", "size": "m", "num_samples": count, "learning_rate": rate}
    return about | {"num_steps": num_steps, "trial_steps": trial_steps}


def test_equal_budgets_are_said_to_be_equal_and_others_are_not():
    same = [row("few_shot", 16, 300), row("from_scratch", 16, 300), row("zero_shot", 0, 3000)]
    assert budget_sentence(same) == (
        "The budgets are equal: optimizer steps: 300 for each model, both ways; "
        "steps of all trials before: 600 for each model, both ways."
    )
    told = budget_sentence([row("few_shot", 16, 300), row("from_scratch", 16, 500)])
    assert told.startswith("The budgets are not shown to be equal: optimizer steps: 300 fine-tuning, 500 from scratch")


@pytest.mark.parametrize("absent", [None, math.nan])
def test_what_was_not_recorded_is_no_equal_budget(absent):
    told = budget_sentence([row("few_shot", 16, absent), row("from_scratch", 16, 300)])
    assert "not shown to be equal: optimizer steps: not recorded" in told
    assert "not recorded" in budget_sentence([row("few_shot", 16, 300)])


def test_counts_that_only_one_way_has_are_not_compared():
    rows = [row("few_shot", 16, 300), row("from_scratch", 16, 300), row("from_scratch", 1024, 900)]
    assert budget_sentence(rows).startswith("The budgets are equal")


def test_budgets_that_grow_with_the_samples_are_equal_where_both_do():
    rows = [row(kind, n, steps) for kind in ("few_shot", "from_scratch") for n, steps in ((16, 300), (1024, 900))]
    assert "optimizer steps: 300 or 900 by the number of samples, the same both ways" in budget_sentence(rows)
    ways = [(kind, size) for kind in ("few_shot", "from_scratch") for size in ("a", "b")]
    networks = [{**row(kind, 16, {"a": 300, "b": 150}[size]), "size": size} for kind, size in ways]
    assert "150 or 300 by network and number of samples, the same both ways" in budget_sentence(networks)
    crossed = [row("few_shot", 16, 300), row("from_scratch", 16, 900), row("few_shot", 64, 900)]
    assert "not shown to be equal" in budget_sentence([*crossed, row("from_scratch", 64, 300)])


def test_keeping_the_weights_is_told_by_itself_and_not_compared():
    rows = [row("few_shot", 16, 0, rate=0.0), row("few_shot", 64, 300), row("from_scratch", 16, 300)]
    told = budget_sentence([*rows, row("from_scratch", 64, 300)], tried_zero_shot=True)
    assert told.startswith("The budgets are equal: optimizer steps: 300 for each model trained, both ways")
    assert told.endswith("at no step: it did, for one seed or more, on 16 samples.")
    never = budget_sentence([row("few_shot", 16, 300), row("from_scratch", 16, 300)], tried_zero_shot=True)
    assert never.endswith("it never did.")
    kept = budget_sentence([row("few_shot", 16, 0, rate=0.0), row("from_scratch", 16, 300)], tried_zero_shot=True)
    assert kept.startswith("The budgets are not shown to be equal: optimizer steps: 0 fine-tuning, 300")
    more = [row("few_shot", 16, 300, trial_steps=900), row("from_scratch", 16, 300)]
    assert budget_sentence(more, tried_zero_shot=True).startswith("The budgets are not shown to be equal")


def test_a_run_tells_what_it_knows(tmp_path):
    def record(status: str = "complete", curve: Curve | None = None, kept: str | None = None) -> RunRecord:
        return RunRecord(tmp_path / "r", status, None, curve or Curve(), (), (), None, "", kept=kept)

    assert "validation relative L2 error of 0.030 at step 20" in run_headline(
        record(curve=Curve((), (), (10, 20), (0.1, 0.03)))
    )
    assert "has recorded no error yet" in run_headline(record())
    assert "holds no scores: they stay with the run" in run_headline(record(status=MODEL_ALONE))
    assert run_remarks(record("failed: out of memory")) == [
        "The run is not complete; its status: failed: out of memory."
    ]
    assert run_remarks(record(kept="the weights")) == ["Nothing was trained. Fine-tuning kept the weights."]
