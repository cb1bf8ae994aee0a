"""What an adaptation may choose from, and the choice, on samples set aside: learning rate, constants of coefficients.

What trials may cost together is fixed, however many candidates there are. Where it does not suffice to train each to
the end, half of it goes to short trainings of all, the other half to longer ones of two: the best with either
constants, or the best two where all have the same (after successive halving: Jamieson & Talwalkar, arXiv:1502.07943).
With few samples, several splits take turns at being set aside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator
from torch import Tensor

from scifm.config import Config, Plain, refuse_idle
from scifm.data.origins import Origin
from scifm.data.subsets import cross_validation
from scifm.errors import ConfigError, RunError
from scifm.fields.window import WINDOW_SETTINGS, Pace
from scifm.training.loop import TrainingConfig
from scifm.training.methods import FinetuneMethod

__all__ = ["AdaptRecipe", "Candidate", "Constants", "Trial", "TrialSettings", "choose", "rounds"]

Constants = Literal["pretrained", "refitted"]
_NUM_FINALISTS = 2
_BY_LABELS = "relative_l2"  # what candidates are compared by, unless no label is read
_WORTH_DOUBLING = 0.98  # times the error of before: an error above has stopped falling


@dataclass(frozen=True)
class Candidate(Plain):
    """One way to adapt.

    Args:
        learning_rate: of training; 0: none, the weights stay as they are.
        coefficients: whether the shift and scale of coefficients stay those of pre-training or are fitted on the
            downstream samples; None from scratch, where everything is fitted.
    """

    learning_rate: float
    coefficients: Constants | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().to_dict().items() if (name, value) != ("coefficients", None)}


@dataclass(frozen=True, kw_only=True)
class Trial(Candidate):
    """How a candidate did on samples set aside.

    Args:
        num_steps: optimizer steps of its training on each split.
        num_splits: trainings, each on what another split leaves.
        samples_seen: samples that went through a step in all of them.
        interpolation: how far its weights go from the pre-trained ones to those of training, the best on the samples
            set aside of those that were tried.
        furthest: the mean error at the largest share of the way that was tried, by which candidates are ranked: a rate
            that goes too far looks good where weights go back, and trials are shorter than what follows. None: the
            same as `score`.
        errors: relative L2 error of every sample set aside, or where no label is read what the objective is of each
            sample; None if a training diverged.
        by: which of the two: ``relative_l2``, or the name of the objective.
    """

    num_steps: int
    num_splits: int
    samples_seen: int
    errors: tuple[float, ...] | None
    interpolation: float = 1.0
    furthest: float | None = None
    by: str = _BY_LABELS

    @property
    def rank(self) -> float:
        """What candidates are ranked by, the lower the better."""
        return self.score if self.furthest is None or self.errors is None else self.furthest

    @property
    def candidate(self) -> Candidate:
        """What was tried."""
        return Candidate(self.learning_rate, self.coefficients)

    @property
    def score(self) -> float:
        """The mean of its errors; infinite if a training diverged."""
        return math.fsum(self.errors) / len(self.errors) if self.errors is not None else math.inf

    def clearly_beats(self, other: Trial) -> bool:
        """Tell whether it is better by more than the standard error of the difference, sample by sample."""
        if self.errors is None or other.errors is None:
            return self.errors is not None
        gains = torch.tensor(other.errors, dtype=torch.float64) - torch.tensor(self.errors, dtype=torch.float64)
        doubt = float(gains.std()) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
        return float(gains.mean()) > doubt

    def to_dict(self) -> dict[str, Any]:
        told = {name: value for name, value in super().to_dict().items() if (name, value) != ("by", _BY_LABELS)}
        return {**told, self.by: self.score if self.errors is not None else None}

    @classmethod
    def read_all(cls, file: Path) -> list[Trial]:
        """Return the trials an interrupted sitting wrote down; none where there is no file.

        Raises:
            RunError: if the file holds something else.
        """
        try:
            return TypeAdapter(list[Trial]).validate_json(file.read_bytes()) if file.is_file() else []
        except (OSError, ValidationError) as error:
            raise RunError(
                f"'{file}' cannot be read as trials ({type(error).__name__}: {' '.join(str(error).split())[:200]}). "
                "Delete it to make them again."
            ) from error


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
        ranked = sorted((tried(candidate, steps) for candidate in left[:count]), key=lambda trial: trial.rank)
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
        if not longer.score < _WORTH_DOUBLING * best.score:
            break
        best = longer
    return best


_IDLE_IN_TRAINING = {
    "learning_rate": "candidates stand in learning_rates",
    "patience": "adapting trains on all samples and validates on none",
    "validation_metric": "adapting trains on all samples and validates on none",
    "strategy": "one process adapts",
}


class TrialSettings(Config):
    """What fine-tuning and training from scratch choose from, and what trials may cost.

    With two learning rates or more, candidates are trained on part of the samples and scored on the rest; with one,
    nothing is chosen.

    Args:
        learning_rates: candidates.
        try_zero_shot: whether fine-tuning may keep the pre-trained weights as they are, when no candidate is clearly
            better on the held-out samples. Only where candidates are scored at all; from scratch it is of no account.
        refit_coefficients: whether the shift and scale of coefficients are fitted on the downstream samples
            (``always``), stay those of pre-training (``never``), or are among what is chosen (``try``; where nothing is
            chosen, they stay). From scratch everything is fitted, and it is of no account.
        trial_budget: optimizer steps that all trials may take together, in units of ``training.num_steps``, whatever
            the number of candidates; see `rounds`.
        held_out: share of the samples that scores the candidates.
        min_scored: samples that score them at least. With few samples, several splits take turns, each with trials of
            its own, until so many were held out or all of them were.
        interpolation: how far a fine-tuned operator's weights go from the pre-trained ones (0) to those of training
            (1). Of several the best on the held-out samples is taken for what was chosen; none costs a step (Wortsman
            et al. 2022, arXiv:2109.01903). From scratch it is of no account.
        method: what fine-tuning trains; from scratch all weights train, whatever is said here.
        training: how each of them trains. Its learning_rate, patience and strategy are to be left out: rates are
            candidates, all samples train and none validates (so validate_every is of no account), and one process
            adapts.
    """

    without_trials: ClassVar[tuple[str, ...]] = ("trial_budget", "held_out", "min_scored")

    learning_rates: tuple[float, ...]
    try_zero_shot: bool = True
    refit_coefficients: Literal["never", "try", "always"] = "try"
    trial_budget: float = Field(2.0, gt=0, allow_inf_nan=False)
    held_out: float = Field(0.2, gt=0, lt=1)
    min_scored: int = Field(16, ge=1)
    interpolation: tuple[float, ...] = (1.0,)
    method: FinetuneMethod = FinetuneMethod()
    training: TrainingConfig

    @model_validator(mode="after")
    def _trials_are_made(self) -> Self:
        self.require_trials()
        return self

    @model_validator(mode="after")
    def _nothing_is_held_out_without_labels(self) -> Self:
        if not self.reads_labels:
            why = f"objective '{self.training.objective.name}' reads no label, and none of the samples is held out"
            refuse_idle(self, ("held_out", "min_scored"), why)
        return self

    @model_validator(mode="after")
    def _solutions_are_learned(self) -> Self:
        if self.training.objective.reconstructs:
            raise ConfigError(
                f"training.objective = '{self.training.objective.name}' learns inputs without solutions, and adapting "
                "learns from solutions. Choose another here, and give this one to scifm pretrain."
            )
        return self

    def require_trials(self) -> None:
        """Refuse settings of trials where a single learning rate leaves nothing to try.

        Raises:
            ConfigError: names the first of them.
        """
        if len(self.learning_rates) < 2:
            refuse_idle(self, self.without_trials, "it takes two learning rates or more to try")
            if len(self.interpolation) > 1:
                raise ConfigError(
                    f"interpolation = {list(self.interpolation)}: which is best is told by held-out samples, and it "
                    "takes two learning rates or more to try. Give one, or more learning_rates."
                )

    @field_validator("training")
    @classmethod
    def _every_setting_counts(cls, value: TrainingConfig) -> TrainingConfig:
        for name, why in _IDLE_IN_TRAINING.items():
            refuse_idle(value, (name,), why, prefix="training.")
        return value

    @field_validator("interpolation")
    @classmethod
    def _on_the_way(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < share <= 1 for share in value):
            raise ValueError("give shares of the way from pre-trained to fine-tuned weights, above 0 and at most 1")
        return value

    @property
    def chooses(self) -> bool:
        """Whether candidates are scored, on held-out samples or by an objective that reads no label."""
        return len(self.learning_rates) > 1

    @property
    def reads_labels(self) -> bool:
        """Whether solutions are learned from, and candidates compared by errors on held-out ones.

        Else candidates are compared by the objective itself, on the samples they are trained on.
        """
        return self.training.objective.needs_solutions


class AdaptRecipe(TrialSettings):
    """How to adapt to downstream samples; the same settings serve fine-tuning and training from scratch.

    Args:
        num_samples: downstream samples used; of a store of trajectories, whole trajectories. One leaves none to choose
            by, unless no label is read: the first learning rate is taken, and what else would be chosen is as if
            nothing were.
        seed: which samples, their order, and first weights (from scratch).
        max_doublings: how often the number of steps may be doubled beyond ``training.num_steps``, as long as the
            held-out error of the chosen candidate falls; 0: it is as given. Comes on top of the budget of trials.
        stride: of trajectories, frames from one frame of a sample to the next; absent: as many as make a lead time that
            the operator was trained at, else one.
        history: of trajectories, input frames of a sample; absent: as many as the operator takes. An operator that was
            trained on single frames, or on what does not evolve, is made to take so many.
        horizon: of trajectories, target frames of a sample: with several the operator marches and learns from them all.
        leads: of trajectories and a single target, how many lead times: one stride, two, … each a sample of its own.
        observed: of several targets, whether each is asked for when the true ones before it are known.
        stations: of trajectories, at how many points the input frames are seen; 0: everywhere.
        station_spacing: they stand at every so many-th point of each axis.
        rename: new name → name the operator knows, for channels that are only called otherwise; from scratch it is of
            no account.
    """

    without_trials: ClassVar[tuple[str, ...]] = (*TrialSettings.without_trials, "max_doublings")

    num_samples: int = Field(64, ge=1)
    seed: int = 0
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    max_doublings: int = Field(0, ge=0, le=20)
    stride: int | None = Field(None, ge=1)
    history: int | None = Field(None, ge=1)
    horizon: int = Field(1, ge=1)
    leads: int = Field(1, ge=1)
    observed: bool = False
    stations: int = Field(0, ge=0)
    station_spacing: int = Field(1, ge=1)
    rename: dict[str, str] = Field(default_factory=dict)
    training: TrainingConfig = TrainingConfig(num_steps=300, validate_every=100, checkpoint_every=100)

    @field_validator("learning_rates")
    @classmethod
    def _some_candidates(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < rate < math.inf for rate in value):
            raise ValueError("give at least one positive learning rate")
        return value

    @property
    def chooses(self) -> bool:
        """Whether candidates are scored: several of them, and samples to hold out where errors score them."""
        return super().chooses and (self.num_samples > 1 or not self.reads_labels)

    def candidates(self, *, fits: bool, has_coefficients: bool = True) -> tuple[Candidate, ...]:
        """Return the ways of fine-tuning to choose from; of equal scores the first is chosen.

        Args:
            fits: whether the operator knows the samples' channels. One that is given others has all constants fitted.
            has_coefficients: whether the samples have any; else there is nothing to refit.
        """
        constants: tuple[Constants, ...] = ("pretrained", "refitted")
        if not fits or (has_coefficients and self.refit_coefficients == "always"):
            constants = ("refitted",)
        elif not has_coefficients or self.refit_coefficients == "never":
            constants = ("pretrained",)
        if not self.chooses:
            return (Candidate(self.learning_rates[0], constants[0]),)
        untrained = (Candidate(0.0, "pretrained" if fits else "refitted"),) if self.try_zero_shot else ()
        return (*untrained, *(Candidate(rate, which) for which in constants for rate in self.learning_rates))

    def framed(self, origin: Origin, pace: Pace) -> Origin:
        """Return an origin whose samples are the frames of trajectories that an operator of a pace is given."""
        pace = replace(pace, history=self.history or pace.history)
        asked = {name: getattr(self, name) for name in WINDOW_SETTINGS if name != "history"}
        return origin.paced(pace, **asked)

    @property
    def splits(self) -> list[tuple[Tensor, Tensor]]:
        """Which samples, of those used, trials train on and which score them, split by split.

        Where no label is read, trials train on all, and all score them.
        """
        if not self.reads_labels:
            return [(torch.arange(self.num_samples), torch.arange(self.num_samples))]
        return cross_validation(self.num_samples, self.held_out, min_scored=self.min_scored, seed=self.seed)

    def steps_of_trials(self, candidates: Iterable[Candidate]) -> int:
        """Return the most optimizer steps that all trials of candidates take, over all splits."""
        num_trained = sum(candidate.learning_rate > 0 for candidate in candidates)
        if not self.chooses or not num_trained:
            return 0
        planned = rounds(num_trained, self.training.num_steps, self.trial_budget)
        longest = 2**self.max_doublings * self.training.num_steps
        doubled = 2 * longest - self.training.num_steps if self.max_doublings else 0
        return len(self.splits) * (sum(count * steps for count, steps in planned) + doubled)
