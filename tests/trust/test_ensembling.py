"""Votes, disagreement, bounds and the identity of means: by hand, by brute force, and on handwritten digits."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from scifm.errors import DataError
from scifm.trust.ensembling import ambiguity_of, competence_margin, lower_bound, plurality, vote_of

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_vote_by_hand():
    answers = np.array([[0, 1, 1, 2], [0, 1, 2, 2], [0, 2, 1, 1]])
    told = vote_of(answers, [0, 1, 1, 2], 3)
    assert (told.num_members, told.num_samples) == (3, 4)
    assert told.member_error == pytest.approx(3 / 12)
    assert told.vote_error == 0
    assert told.eir == 1
    # of 9 ordered pairs 4 differ on three of the samples; of 6 unlike ones these 4
    assert told.disagreement == pytest.approx(3 / 4 * 4 / 9)
    assert told.disagreement_apart == pytest.approx(3 / 4 * 4 / 6)
    assert told.der == pytest.approx(told.disagreement / 0.25)
    assert told.der_apart == pytest.approx(1.5 * told.der)
    assert told.is_competent


def test_disagreement_is_that_of_all_pairs():
    answers = np.random.default_rng(0).integers(4, size=(7, 50))
    told = vote_of(answers, answers[0], 4)
    pairs = [np.mean(one != other) for one, other in itertools.product(answers, answers)]
    apart = [np.mean(one != other) for one, other in itertools.combinations(answers, 2)]
    assert told.disagreement == pytest.approx(np.mean(pairs))
    assert told.disagreement_apart == pytest.approx(np.mean(apart))


def test_of_classes_with_as_many_votes_one_is_drawn():
    answers = np.array([[0, 0], [1, 1], [2, 1], [2, 0]])  # two ties of two
    assert vote_of(answers, [2, 1], 3).vote_error == pytest.approx((0 + 1 / 2) / 2)
    three = np.array([[0], [1], [2]])
    assert vote_of(three, [1], 3).vote_error == pytest.approx(2 / 3)
    assert vote_of(three, [1], 4).vote_error == pytest.approx(2 / 3), "a class without votes is not drawn"
    assert plurality(answers, 3).tolist() == [2, 0]


def test_competence_by_its_definition():
    generator = np.random.default_rng(0)
    for members in (2, 3, 8, 9):
        for _ in range(20):
            wrong = generator.integers(members + 1, size=30)
            share, margins = wrong / members, []
            for t in np.linspace(0, 0.5, 1 + 4 * members):  # multiples of 1/M, and between them
                few = (share >= t - 1e-9) & (share < 0.5 - 1e-9)
                many = (share >= 0.5 - 1e-9) & (share <= 1 - t + 1e-9)
                margins.append(few.mean() - many.mean())
            assert competence_margin(wrong, members) == pytest.approx(min(margins))
    assert competence_margin([0, 0, 1], 3) == 0, "at t = ½ nothing is left on either side"
    assert competence_margin([3, 0], 3) == 0, "one that all miss is outweighed by one that nobody does"
    assert competence_margin([2, 0], 3) == -0.5, "one that two of three miss is not"


def test_competent_members_keep_the_bounds():
    """Random members of every kind, 2 to 5 classes: where they are competent the theorem holds, without exception."""
    generator, held = np.random.default_rng(0), 0
    for _ in range(400):
        classes, members, samples = (int(generator.integers(*span)) for span in ((2, 6), (2, 12), (5, 40)))
        truth = generator.integers(classes, size=samples)
        hard = generator.random(samples) < generator.random()
        skill = np.where(hard, generator.random(), generator.uniform(0.4, 1))
        right = generator.random((members, samples)) < skill
        told = vote_of(np.where(right, truth, generator.integers(classes, size=right.shape)), truth, classes)
        if told.is_competent and told.member_error:
            held += 1
            assert told.der + 1e-12 >= told.eir >= max(0.0, told.least_eir) - 1e-12
    assert held > 100


def test_the_bound_of_the_paper():
    assert lower_bound(1.4, 2) == pytest.approx(1.4 - 1)
    assert lower_bound(1.4, 10) == pytest.approx(1.8 * 1.4 - 2.6)


def test_members_that_never_err_have_no_ratio():
    told = vote_of([[0, 1], [0, 1]], [0, 1], 2)
    assert (told.member_error, told.vote_error) == (0, 0)
    assert math.isnan(told.eir)
    assert math.isnan(told.der)


@pytest.mark.parametrize(
    ("answers", "truth", "classes", "why"),
    [
        ([[0, 1]], [0, 1], 2, "two members or more"),
        ([0, 1], [0, 1], 2, "two members or more"),
        ([[0.2, 0.8], [0.1, 0.9]], [0, 1], 2, "whole numbers"),
        ([[0, 1], [0, 2]], [0, 1], 2, "from 0 to 1"),
        ([[0, 1], [0, 1]], [0, 3], 2, "from 0 to 1"),
        ([[0, -1], [0, 1]], [0, 1], 2, "from 0 to 1"),
        ([[0, 1], [0, 1]], [0], 2, "one class for each of 2 samples"),
        ([[0, 0], [0, 0]], [0, 0], 1, "two classes or more"),
    ],
)
def test_what_is_no_vote_is_refused(answers, truth, classes, why):
    with pytest.raises(DataError, match=why):
        vote_of(answers, truth, classes)


def test_more_members_than_there_are_cannot_be_wrong():
    with pytest.raises(DataError, match="0 to 3 members"):
        competence_margin([4], 3)
    with pytest.raises(DataError, match="0 samples"):
        competence_margin(np.array([], dtype=int), 3)


# --- fields -----------------------------------------------------------------------------------------------------------


def test_the_error_of_a_mean_is_the_mean_error_less_the_ambiguity():
    generator = np.random.default_rng(0)
    truth = generator.standard_normal((3, 1, 2, 8, 8))
    shared = generator.standard_normal(truth.shape)
    members = truth + shared + 2 * generator.standard_normal((5, *truth.shape))
    told = ambiguity_of(members, truth)
    assert told.ensemble_error == pytest.approx(told.member_error - told.ambiguity, rel=1e-12)
    assert told.eir == pytest.approx(told.ambiguity / told.member_error, rel=1e-12)
    pairs = [np.mean((one - other) ** 2) for one, other in itertools.product(members, members)]
    assert told.ambiguity == pytest.approx(np.mean(pairs) / 2, rel=1e-12)
    alike = ambiguity_of(np.stack([truth + shared] * 3), truth)
    assert (alike.eir, alike.ambiguity) == (pytest.approx(0), pytest.approx(0)), "what all share is not averaged away"
    assert math.isnan(ambiguity_of(np.stack([truth, truth]), truth).eir)


def test_answers_of_operators_are_averaged_as_they_come():
    import tiny

    batch = tiny.batch(4)
    members = np.stack([tiny.operator(seed=seed).answers(batch).targets.numpy() for seed in range(3)])
    told = ambiguity_of(members, batch.targets.numpy())
    assert told.ensemble_error == pytest.approx(told.member_error - told.ambiguity, rel=1e-10)


@pytest.mark.parametrize(
    ("answers", "truth", "why"),
    [
        (np.ones((1, 4)), np.ones(4), "two members or more"),
        (np.ones((2, 4)), np.ones(3), r"\(2, 4\) and \(3,\)"),
        (np.ones((2, 0)), np.ones(0), "two members or more"),
        (np.array([[1.0], [math.nan]]), np.ones(1), "no finite numbers"),
    ],
)
def test_what_cannot_be_averaged_is_refused(answers, truth, why):
    with pytest.raises(DataError, match=why):
        ambiguity_of(answers, truth)


# --- handwritten digits -----------------------------------------------------------------------------------------------


@pytest.fixture
def digits(monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import when_ensembles_help

    yield when_ensembles_help
    for name in ("when_ensembles_help", "harness"):
        sys.modules.pop(name, None)


def holds(vote):
    assert vote.der >= vote.eir >= vote.least_eir


def test_larger_trees_disagree_more_and_gain_more(digits):
    """Numbers of an independent run of 100 trees, to 0.05."""
    small, large = digits.forest(10)[0], digits.forest(100)[0]
    for told, der, eir in ((small, 1.295, 0.731), (large, 1.467, 0.882)):
        assert told.der == pytest.approx(der, abs=0.05)
        assert told.eir == pytest.approx(eir, abs=0.05)
        holds(told)
    assert large.eir > small.eir


@pytest.mark.slow
def test_the_whole_table_of_digits(digits):
    """Forests by leaves, and random features below and beyond the number that fits all samples."""
    published = {
        (digits.forest, 10): (0.471, 0.127, 1.295, 0.731),
        (digits.forest, 20): (0.370, 0.079, 1.369, 0.786),
        (digits.forest, 50): (0.296, 0.042, 1.442, 0.857),
        (digits.forest, 100): (0.274, 0.032, 1.467, 0.882),
        (digits.forest, 300): (0.271, 0.027, 1.472, 0.902),
        (digits.bagged, 10): (0.380, 0.091, 1.355, 0.760),
        (digits.bagged, 50): (0.103, 0.027, 1.414, 0.741),
        (digits.bagged, 200): (0.059, 0.030, 1.146, 0.493),
    }
    found = {}
    for (train, size), numbers in published.items():
        told, own = train(size)
        found[train.__name__, size] = told.eir
        assert (told.member_error, told.vote_error, told.der, told.eir) == pytest.approx(numbers, abs=0.05)
        holds(told)
        if train is digits.bagged:
            assert (own == 0) == (size > 10), "from 50 features on each fits its own samples"
    leaves = [found["forest", size] for size in (10, 20, 50, 100, 300)]
    assert leaves == sorted(leaves)
    assert found["bagged", 200] < found["bagged", 50]
