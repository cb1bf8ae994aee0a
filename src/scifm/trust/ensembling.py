"""When does an ensemble help? Two numbers for classifiers that vote, one exact identity for fields that are averaged.

For classifiers after Theisen, Kim, Yang, Hodgkinson & Mahoney, "When are ensembles really effective?", NeurIPS 2023
(arXiv:2305.12313): how much the vote is better than a member, beside how much members disagree. What holds of votes
does not hold of means: fields have no majority. For these there is `ambiguity_of` alone (Krogh & Vedelsby, "Neural
network ensembles, cross validation, and active learning", NIPS 1994). See `docs/concepts/ensembles.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scifm.errors import DataError

__all__ = ["Ambiguity", "Vote", "ambiguity_of", "competence_margin", "lower_bound", "plurality", "vote_of"]


@dataclass(frozen=True)
class Vote:
    """What classifiers are worth alone, together, and how often they disagree; all of them shares of samples.

    Args:
        num_members, num_samples, num_classes: how many.
        member_error: mean error of a member, E L(h).
        vote_error: of the plurality vote, L(h_MV). Where several classes have most votes, one of them is drawn, each as
            likely as the other; this is the expectation.
        disagreement: how often two members differ that are drawn independently, so that the same one may be drawn
            twice (V-statistic): E D(h, h'), of these members as the distribution.
        competence: `competence_margin`.
    """

    num_members: int
    num_samples: int
    num_classes: int
    member_error: float
    vote_error: float
    disagreement: float
    competence: float

    @property
    def disagreement_apart(self) -> float:
        """How often two unlike members differ (U-statistic): larger by M/(M − 1); what more members would have."""
        return self.disagreement * self.num_members / (self.num_members - 1)

    @property
    def eir(self) -> float:
        """Ensemble improvement rate, (E L(h) − L(h_MV))/E L(h): the share of the error that the vote takes away.

        NaN where no member errs.
        """
        return (self.member_error - self.vote_error) / self.member_error if self.member_error else float("nan")

    @property
    def der(self) -> float:
        """Disagreement–error ratio, E D(h, h')/E L(h), by the V-statistic: the one that the bounds are about."""
        return self.disagreement / self.member_error if self.member_error else float("nan")

    @property
    def der_apart(self) -> float:
        """The same ratio by the U-statistic, as an estimate of more members of the same kind."""
        return self.disagreement_apart / self.member_error if self.member_error else float("nan")

    @property
    def least_eir(self) -> float:
        """What competent members improve at least, `lower_bound` of `der`; they improve at most by `der` itself."""
        return lower_bound(self.der, self.num_classes)

    @property
    def is_competent(self) -> bool:
        """Whether members are competent on these samples.

        A diagnostic and no gate: of more than two classes a vote may be right where most members are wrong, and samples
        that miss the condition by little are as good.
        """
        return self.competence >= 0


@dataclass(frozen=True)
class Ambiguity:
    """The error of a mean of answers, taken apart: ``ensemble_error = member_error − ambiguity``, exactly.

    Args:
        member_error: mean over members of their mean squared errors.
        ensemble_error: mean squared error of the mean of their answers.
        ambiguity: mean squared distance of members from their mean: half of that between two members, drawn
            independently.
    """

    member_error: float
    ensemble_error: float
    ambiguity: float

    @property
    def eir(self) -> float:
        """The share of the squared error that averaging takes away, from 0 to 1; NaN where no member errs.

        It is ``ambiguity/member_error`` by the identity, so that a disagreement beside it would say nothing more.
        """
        return 1 - self.ensemble_error / self.member_error if self.member_error else float("nan")


def _counts(answers: np.ndarray, num_classes: int) -> np.ndarray:
    """Return how many members answer each class, ``(sample, class)``."""
    counts = np.zeros((answers.shape[1], num_classes), dtype=np.int64)
    for own in answers:
        counts[np.arange(len(own)), own] += 1
    return counts


def _answers(answers: ArrayLike, num_classes: int) -> np.ndarray:
    own = np.asarray(answers)
    if own.ndim != 2 or own.shape[0] < 2 or own.shape[1] < 1:
        raise DataError(f"Votes are of two members or more, (member, sample); these have the shape {own.shape}.")
    if not np.issubdtype(own.dtype, np.integer):
        raise DataError(f"Votes are whole numbers, a class each; these are of type {own.dtype}.")
    _require_classes(own, num_classes)
    return own


def _require_classes(labels: np.ndarray, num_classes: int) -> None:
    if num_classes < 2:
        raise DataError(f"There are two classes or more to vote for; got num_classes = {num_classes}.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"Classes are numbered from 0 to {num_classes - 1}; the votes or truths go from {labels.min()} to "
            f"{labels.max()}. Give num_classes."
        )


def plurality(answers: ArrayLike, num_classes: int) -> np.ndarray:
    """Return the class that most members answer; of several the lowest, so that it is always the same.

    `vote_of` prefers none of them.

    Args:
        answers: ``(member, sample)``, classes from 0 on.

    Returns:
        ``(sample,)``.

    Raises:
        DataError: if these are no votes, or a class is not among `num_classes`.
    """
    return np.asarray(_counts(_answers(answers, num_classes), num_classes).argmax(1))


def vote_of(answers: ArrayLike, truth: ArrayLike, num_classes: int) -> Vote:
    """Return how much a vote is better than its members, and how much these disagree.

    Args:
        answers: ``(member, sample)``, classes from 0 on.
        truth: ``(sample,)``.
        num_classes: K, which the bounds hang on.

    Raises:
        DataError: if these are no votes, there is not one truth for each sample, or a class is not among `num_classes`.
    """
    own, true = _answers(answers, num_classes), np.asarray(truth)
    if true.shape != own.shape[1:] or not np.issubdtype(true.dtype, np.integer):
        raise DataError(
            f"There is one class for each of {own.shape[1]} samples; the truths are {true.dtype} {true.shape}."
        )
    _require_classes(true, num_classes)
    counts, members = _counts(own, num_classes), len(own)
    right = counts[np.arange(len(true)), true]
    most = counts.max(1)
    drawn = (right == most) / (counts == most[:, None]).sum(1)  # the chance that a draw among the first gives the truth
    return Vote(
        num_members=members,
        num_samples=len(true),
        num_classes=num_classes,
        member_error=float(1 - right.mean() / members),
        vote_error=float(1 - drawn.mean()),
        disagreement=float(1 - (np.square(counts).sum(1) / members**2).mean()),
        competence=competence_margin(members - right, members),
    )


def competence_margin(wrong: ArrayLike, num_members: int) -> float:
    """Return by how much members are competent at least: the smallest, over t, of P(W ∈ [t, ½)) − P(W ∈ [½, 1 − t]).

    W is the share of members that are wrong on a sample, t goes from 0 to ½. Members are competent where this is not
    negative: samples on which few are wrong outweigh those on which as few are right.

    Args:
        wrong: ``(sample,)``, how many members are wrong on each.
        num_members: of how many.

    Raises:
        DataError: if more members than there are, or fewer than none, are wrong.
    """
    own = np.asarray(wrong)
    if own.size == 0 or own.min() < 0 or own.max() > num_members:
        raise DataError(f"On each sample 0 to {num_members} members are wrong; got {own.size} samples.")
    found = np.bincount(own, minlength=num_members + 1)
    few, many = np.arange(num_members + 1) * 2 < num_members, np.arange(num_members + 1) * 2 >= num_members
    margins = [
        found[least:][few[least:]].sum() - found[: num_members - least + 1][many[: num_members - least + 1]].sum()
        for least in range((num_members + 1) // 2 + 1)  # whole numbers t·M; between them nothing changes
    ]
    return float(min(margins)) / own.size


def lower_bound(der: float, num_classes: int) -> float:
    """Return the improvement that competent members have at least, ``2(K−1)/K · DER − (3K−4)/K``."""
    return (2 * (num_classes - 1) * der - (3 * num_classes - 4)) / num_classes


def ambiguity_of(answers: ArrayLike, truth: ArrayLike) -> Ambiguity:
    """Take the squared error of a mean of answers apart; done in float64.

    Args:
        answers: ``(member, …)``, of fields: ``(member, sample, frame, channel, *space)``.
        truth: the same without the first axis.

    Raises:
        DataError: if there are fewer than two members, shapes do not fit, or a number is not finite.
    """
    own, true = np.asarray(answers, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if own.ndim < 1 or own.shape[0] < 2 or own.shape[1:] != true.shape or not true.size:
        raise DataError(
            f"Answers of two members or more, (member, …), are compared with one truth (…); got {own.shape} and "
            f"{true.shape}."
        )
    if not (np.isfinite(own).all() and np.isfinite(true).all()):
        raise DataError("There are answers or truths that are no finite numbers: leave those samples out.")
    mean = own.mean(0)
    return Ambiguity(
        member_error=float(np.square(own - true).mean()),
        ensemble_error=float(np.square(mean - true).mean()),
        ambiguity=float(np.square(own - mean).mean()),
    )
