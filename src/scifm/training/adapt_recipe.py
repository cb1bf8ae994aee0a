"""The settings of an adaptation, which serve fine-tuning and training from scratch alike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from pydantic import Field, field_validator, model_validator
from torch import Tensor

from scifm.config import Config, refuse_idle
from scifm.data.subsets import cross_validation
from scifm.training.choice import Candidate, Constants, rounds
from scifm.training.loop import TrainingConfig
from scifm.training.methods import FinetuneMethod
from scifm.training.recipe import refuse_beside_candidates

__all__ = ["AdaptRecipe", "refuse_without_trials"]

_CONSTANTS: dict[str, tuple[Constants, ...]] = {
    "never": ("pretrained",),
    "try": ("pretrained", "refitted"),
    "always": ("refitted",),
}


def refuse_without_trials(config: Config, *more: str) -> None:
    """Refuse settings of trials, those named in `more` among them, where a single learning rate leaves nothing to try.

    Raises:
        ConfigError: names the first of them.
    """
    refuse_idle(config, ("trial_budget", "held_out", "min_scored", *more), "it takes two learning rates or more to try")


class AdaptRecipe(Config):
    """How to adapt to downstream samples; the same settings serve fine-tuning and training from scratch.

    With two learning rates or more, candidates are trained on part of the samples and scored on the rest; with one,
    nothing is chosen.

    Args:
        num_samples: downstream samples used; of a store of trajectories, whole trajectories.
        seed: which samples, their order, and first weights (from scratch).
        learning_rates: candidates.
        try_zero_shot: whether fine-tuning may keep the pre-trained weights as they are, when no candidate is clearly
            better on the held-out samples. Only where candidates are scored at all; from scratch it is of no account.
        refit_coefficients: whether the shift and scale of coefficients are fitted on the downstream samples
            (``always``), stay those of pre-training (``never``), or are among what is chosen (``try``; where nothing is
            chosen, they stay). From scratch everything is fitted, and it is of no account.
        trial_budget: optimizer steps that all trials may take together, in units of ``training.num_steps``, whatever
            the number of candidates; see `scifm.training.choice.rounds`.
        max_doublings: how often the number of steps may be doubled beyond ``training.num_steps``, as long as the
            held-out error of the chosen candidate falls; 0: it is as given. Comes on top of the budget of trials.
        held_out: share of the samples that scores the candidates.
        min_scored: samples that score them at least. With few samples, several splits take turns, each with trials of
            its own, until so many were held out or all of them were.
        stride: of a store of trajectories, frames from input to target.
        rename: new name → name the operator knows, for channels that are only called otherwise; from scratch it is of
            no account.
        method: what fine-tuning trains; from scratch all weights train, whatever is said here.
        training: how each of them trains. Its learning_rate, patience and strategy are to be left out: rates are
            candidates, all samples train and none validates (so validate_every is of no account), and one process
            adapts.
    """

    num_samples: int = Field(64, ge=2)
    seed: int = 0
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    try_zero_shot: bool = True
    refit_coefficients: Literal["never", "try", "always"] = "try"
    trial_budget: float = Field(2.0, gt=0, allow_inf_nan=False)
    max_doublings: int = Field(0, ge=0, le=20)
    held_out: float = Field(0.2, gt=0, lt=1)
    min_scored: int = Field(16, ge=1)
    stride: int = Field(1, ge=1)
    rename: dict[str, str] = Field(default_factory=dict)
    method: FinetuneMethod = FinetuneMethod()
    training: TrainingConfig = TrainingConfig(num_steps=300, validate_every=100, checkpoint_every=100)

    @model_validator(mode="after")
    def _trials_are_made(self) -> AdaptRecipe:
        if not self.chooses:
            refuse_without_trials(self, "max_doublings")
        return self

    @field_validator("learning_rates")
    @classmethod
    def _some_candidates(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < rate < math.inf for rate in value):
            raise ValueError("give at least one positive learning rate")
        return value

    @field_validator("training")
    @classmethod
    def _every_setting_counts(cls, value: TrainingConfig) -> TrainingConfig:
        refuse_beside_candidates(value)
        return value

    @property
    def chooses(self) -> bool:
        """Whether candidates are scored on held-out samples."""
        return len(self.learning_rates) > 1

    def candidates(self, *, fits: bool, has_coefficients: bool = True) -> tuple[Candidate, ...]:
        """Return the ways of fine-tuning to choose from; of equal scores the first is chosen.

        Args:
            fits: whether the operator knows the samples' channels. One that is given others has all constants fitted.
            has_coefficients: whether the samples have any; else there is nothing to refit.
        """
        constants = _CONSTANTS["always" if not fits else self.refit_coefficients if has_coefficients else "never"]
        if not self.chooses:
            return (Candidate(self.learning_rates[0], constants[0]),)
        untrained = (Candidate(0.0, "pretrained" if fits else "refitted"),) if self.try_zero_shot else ()
        return (*untrained, *(Candidate(rate, which) for which in constants for rate in self.learning_rates))

    @property
    def splits(self) -> list[tuple[Tensor, Tensor]]:
        """Which samples, of those used, trials train on and which score them, split by split."""
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
