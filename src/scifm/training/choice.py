"""Choosing how to adapt, on samples set aside: learning rate, constants of the coefficients, or not to train at all.

What trials may cost together is fixed, however many candidates there are. Where it does not suffice to train each to
the end, half of it goes to short trainings of all, the other half to longer ones of two: the best with either
constants, or the best two where all have the same (after successive halving: Jamieson & Talwalkar, arXiv:1502.07943).
With few samples, several splits take turns at being set aside.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from scifm.errors import RunError

__all__ = ["Candidate", "Constants", "Trial", "choose", "rounds"]

Constants = Literal["pretrained", "refitted"]
_NUM_FINALISTS = 2
_WORTH_DOUBLING = 0.98  # times the error of before: an error above has stopped falling


@dataclass(frozen=True)
class Candidate:
    """One way to adapt.

    Args:
        learning_rate: of training; 0: none, the weights stay as they are.
        coefficients: whether the shift and scale of coefficients stay those of pre-training or are fitted on the
            downstream samples; None from scratch, where everything is fitted.
    """

    learning_rate: float
    coefficients: Constants | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate} | (
            {} if self.coefficients is None else {"coefficients": self.coefficients}
        )


@dataclass(frozen=True)
class Trial:
    """How a candidate did on samples set aside.

    Args:
        candidate: what was tried.
        num_steps: optimizer steps of its training on each split.
        num_splits: trainings, each on what another split leaves.
        samples_seen: samples that went through a step in all of them.
        errors: relative L2 error of every sample set aside; None if a training diverged.
    """

    candidate: Candidate
    num_steps: int
    num_splits: int
    samples_seen: int
    errors: tuple[float, ...] | None

    @property
    def relative_l2(self) -> float:
        """The mean error; infinite if a training diverged."""
        return math.fsum(self.errors) / len(self.errors) if self.errors is not None else math.inf

    def clearly_beats(self, other: Trial) -> bool:
        """Tell whether it is better by more than the standard error of the difference, sample by sample."""
        if self.errors is None or other.errors is None:
            return self.errors is not None
        gains = torch.tensor(other.errors, dtype=torch.float64) - torch.tensor(self.errors, dtype=torch.float64)
        doubt = float(gains.std()) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
        return float(gains.mean()) > doubt

    def to_dict(self) -> dict[str, Any]:
        mean = self.relative_l2 if self.errors is not None else None
        counts = {"num_steps": self.num_steps, "num_splits": self.num_splits, "samples_seen": self.samples_seen}
        errors = list(self.errors) if self.errors is not None else None
        return {**self.candidate.to_dict(), **counts, "relative_l2": mean, "errors": errors}

    @classmethod
    def read_all(cls, file: Path) -> list[Trial]:
        """Return the trials an interrupted sitting wrote down; none where there is no file.

        Raises:
            RunError: if the file holds something else.
        """
        try:
            return [cls.from_dict(e) for e in json.loads(file.read_text(encoding="utf-8"))] if file.is_file() else []
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise RunError(
                f"'{file}' cannot be read as trials ({type(error).__name__}: {error}). Delete it to make them again."
            ) from error

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> Trial:
        errors = entries["errors"]
        return cls(
            Candidate(entries["learning_rate"], entries.get("coefficients")),
            entries["num_steps"],
            entries["num_splits"],
            entries["samples_seen"],
            None if errors is None else tuple(errors),
        )


def rounds(num_candidates: int, num_steps: int, budget: float) -> list[tuple[int, int]]:
    """Return how many candidates train for how many steps, round by round; those of the first are all.

    Args:
        num_candidates: that train.
        num_steps: of the training that is being chosen for; no trial takes more.
        budget: steps of all trials on a split, in units of `num_steps`.
    """
    one_round = num_candidates <= max(budget, _NUM_FINALISTS)
    counts = [num_candidates] if one_round else [num_candidates, _NUM_FINALISTS]
    share = budget * num_steps / len(counts)
    return [(count, max(1, min(num_steps, math.floor(share / count)))) for count in counts]


def choose(
    candidates: Sequence[Candidate],
    attempt: Callable[[Candidate, int], Trial],
    *,
    num_steps: int,
    budget: float,
    max_doublings: int = 0,
    done: Iterable[Trial] = (),
) -> tuple[Trial, list[Trial]]:
    """Return the trial of the best candidate, and all trials in order.

    Not to train, where it is among the candidates, is left only for what clearly beats it (`Trial.clearly_beats`).

    Args:
        candidates: at least one.
        attempt: tries a candidate with so many steps; called in an order that depends on results alone.
        num_steps, budget: see `rounds`.
        max_doublings: how often the steps of the best candidate that trains may be doubled beyond `num_steps`, as long
            as that lowers its error by 2 %.
        done: trials of an interrupted sitting, in order; they are not made again.
    """
    earlier = list(done)
    trials: list[Trial] = []

    def tried(candidate: Candidate, steps: int) -> Trial:
        trials.append(earlier[len(trials)] if len(trials) < len(earlier) else attempt(candidate, steps))
        return trials[-1]

    untrained = [tried(candidate, 0) for candidate in candidates if candidate.learning_rate == 0]
    left = [candidate for candidate in candidates if candidate.learning_rate > 0]
    ranked: list[Trial] = []
    for count, steps in rounds(len(left), num_steps, budget):
        ranked = sorted((tried(candidate, steps) for candidate in left[:count]), key=lambda trial: trial.relative_l2)
        left = _in_turn([trial.candidate for trial in ranked if trial.errors is not None])
        if not left:
            break  # all diverged, and so they would in longer trials
    if max_doublings and left:
        ranked = [_longer(ranked[0], tried, num_steps, max_doublings)]
    if untrained and not (ranked and ranked[0].clearly_beats(untrained[0])):
        return untrained[0], trials
    return ranked[0], trials


def _in_turn(ranked: Sequence[Candidate]) -> list[Candidate]:
    """Return the best with either constants first, then the others: short trials tell rates apart, and not yet these.

    Fine-tuning that takes coefficients for other ones than it knew first has to unlearn.
    """
    leaders = list({candidate.coefficients: candidate for candidate in reversed(ranked)}.values())
    return [*(c for c in ranked if c in leaders), *(c for c in ranked if c not in leaders)]


def _longer(best: Trial, tried: Callable[[Candidate, int], Trial], num_steps: int, max_doublings: int) -> Trial:
    """Return the trial of the best candidate at which its error stopped falling, or the longest allowed."""
    if best.num_steps < num_steps:
        best = tried(best.candidate, num_steps)
    for doubling in range(1, max_doublings + 1):
        longer = tried(best.candidate, num_steps * 2**doubling)
        if not longer.relative_l2 < _WORTH_DOUBLING * best.relative_l2:
            break
        best = longer
    return best
