from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest

from scifm.findings.plan import Outlook
from scifm.studies.learning_curves import CurveDraws
from scifm.studies.plan_advice import advise
from scifm.wording import count_in_words

NOTHING = None


def curves(target: float, needs: list[float], *, effective: float = 1000.0) -> CurveDraws:
    """Return curves that need the given numbers: as 1 / n without noise, or a floor above the target."""
    floor = np.array([0.0 if math.isfinite(n) else 10.0 for n in needs])
    unexplained = target / math.sqrt(1 - target**2)
    level = np.log([unexplained * (n if math.isfinite(n) else 16) / 16 for n in needs])
    zeros = np.zeros(len(needs))
    draws = CurveDraws(zeros + 1.0, floor, zeros, zeros, level, zeros, effective)
    assert draws.needed(target) == pytest.approx(needs)
    return draws


def outlook(target: float, needs: list[float], *, error: float = 0.1, effective: float = 1000.0):
    """Return an outlook and what it rests on."""
    draws = curves(target, needs, effective=effective)
    need = draws.need(target)
    return Outlook(num_trained_samples=12, current_error=error, need=need, effective_draws=effective), draws


class Advice(NamedTuple):
    verdict: str
    said: str
    evidence: str


def told(few_shot, from_scratch, target: float, num_samples: int, zero_shot: float | None) -> Advice:
    given = {"few_shot": few_shot, "from_scratch": from_scratch}
    outlooks = {kind: Outlook() if own is None else own[0] for kind, own in given.items()}
    draws = {kind: own[1] for kind, own in given.items() if own is not None}
    verdict, finding = advise(outlooks, draws, target, num_samples, zero_shot)
    return Advice(verdict, finding.said, finding.evidence)


def test_what_cannot_be_asked_without_an_example_is_not_enough():
    some = outlook(0.05, [89.5, 99.5, 119.5]), outlook(0.05, [899.5] * 3), 0.05, 16
    assert told(*some, zero_shot=None) == told(*some, zero_shot=0.2)


def test_zero_shot_may_be_enough():
    advice = told(NOTHING, NOTHING, 0.05, 16, zero_shot=0.04)
    assert advice.verdict == "reached"
    assert "without any training" in advice.said


def test_the_samples_at_hand_may_be_enough():
    advice = told(outlook(0.05, [10.0], error=0.04), outlook(0.05, [900.0]), 0.05, 16, zero_shot=0.2)
    assert advice.verdict == "reached"
    assert "fine-tuned on 12 of your samples" in advice.said
    advice = told(outlook(0.05, [90.0]), outlook(0.05, [10.0], error=0.05), 0.05, 16, zero_shot=0.2)
    assert "trained from scratch on 12" in advice.said


def test_a_number_to_collect():
    advice = told(outlook(0.05, [89.5, 99.5, 119.5]), outlook(0.05, [899.5] * 3), 0.05, 16, zero_shot=0.2)
    assert advice.verdict == "collect"
    assert "about 84 more samples (80 % interval 74 to 100)" in advice.said
    assert "Pre-training is worth it: from scratch it takes about 880 more." in advice.said


def test_training_from_scratch_may_be_better():
    advice = told(outlook(0.05, [899.5] * 3), outlook(0.05, [39.5] * 3), 0.05, 16, zero_shot=0.2)
    assert "about 24 more samples" in advice.said
    assert "not worth it here: train from scratch, which takes about 24 more" in advice.said


def test_who_is_better_may_be_unsure():
    advice = told(outlook(0.05, [40.0, 80.0]), outlook(0.05, [60.0, 60.0]), 0.05, 16, zero_shot=0.2)
    assert "not sure (probability 0.50)" in advice.said


def test_a_wide_interval_names_no_number_but_a_first_step():
    advice = told(outlook(0.05, [30.0, 300.0, 30_000.0]), outlook(0.05, [math.inf] * 3), 0.05, 16, zero_shot=0.2)
    assert advice.verdict == "collect and ask again"
    assert "Collect 16 more first" in advice.said
    assert "if it gets there at all" in advice.said


def test_far_away_is_no_number_either():
    advice = told(outlook(0.05, [16_000.0] * 3), NOTHING, 0.05, 16, zero_shot=0.2)
    assert advice.verdict == "collect and ask again"
    assert "could not be measured" in advice.said


@pytest.mark.parametrize(
    ("few_shot", "reason"),
    [
        (outlook(0.05, [math.inf, math.inf, 50.0]), "in 67 % of the learning curves"),
        (outlook(0.05, [50.0], effective=10.0), "do not look like a learning curve"),
        (NOTHING, "diverged"),
    ],
)
def test_what_cannot_be_told(few_shot, reason):
    advice = told(few_shot, outlook(0.05, [math.inf] * 3), 0.05, 16, zero_shot=0.2)
    assert advice.verdict == "cannot be told"
    assert reason in advice.evidence


def test_nearly_there():
    assert "Nearly there" in told(outlook(0.05, [15.0] * 3), NOTHING, 0.05, 16, zero_shot=0.2).said


@pytest.mark.parametrize(
    ("count", "words"),
    [(0.0, "0"), (7.0, "7"), (84.0, "84"), (884.0, "880"), (12_345.0, "12,000"), (2e6, "over a million"),
     (math.inf, "no end in sight")],
)  # fmt: skip
def test_counts_in_words(count, words):
    assert count_in_words(count) == words
