"""How every adaptation of a study trains: the same budget for fine-tuning and for training from scratch."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from scifm.config import Config
from scifm.training.choice import AdaptRecipe, refuse_beside_candidates, refuse_without_trials
from scifm.training.loop import TrainingConfig
from scifm.training.methods import FinetuneMethod

__all__ = ["AdaptConfig"]

_PASSED_ON = ("try_zero_shot", "refit_coefficients", "trial_budget", "held_out", "min_scored")


class AdaptConfig(Config):
    """How every adaptation trains; fine-tuning and training from scratch get the same budget.

    Args:
        learning_rates: candidates when fine-tuning.
        scratch_learning_rates: candidates from scratch, as many.
        try_zero_shot: whether fine-tuning may keep the pre-trained weights, see `AdaptRecipe`; costs no training.
        refit_coefficients: whether fine-tuning may fit the constants of coefficients anew, see `AdaptRecipe`.
        trial_budget: steps of all trials of one adaptation, see `AdaptRecipe`: the same for both, whatever is tried.
        held_out: share of the samples that scores the candidates.
        min_scored: samples that score them at least, see `AdaptRecipe`.
        epochs: at least this many rounds over the samples.
        method: which weights fine-tuning trains, see `FinetuneMethod`; from scratch all do.
        training: how each trains; ``num_steps`` is the least number of steps.
    """

    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    scratch_learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    try_zero_shot: bool = True
    refit_coefficients: Literal["never", "try", "always"] = "try"
    trial_budget: float = Field(2.0, gt=0, allow_inf_nan=False)
    held_out: float = Field(0.2, gt=0, lt=1)
    min_scored: int = Field(16, ge=1)
    epochs: int = Field(0, ge=0)
    method: FinetuneMethod = FinetuneMethod()
    training: TrainingConfig = TrainingConfig(num_steps=200, checkpoint_every=200)

    @model_validator(mode="after")
    def _equal_budgets(self) -> AdaptConfig:
        if len(self.learning_rates) != len(self.scratch_learning_rates) or not self.learning_rates:
            raise ValueError("give as many scratch_learning_rates as learning_rates, at least one: an equal budget")
        refuse_beside_candidates(self.training)
        if len(self.learning_rates) == 1:
            refuse_without_trials(self)
        return self

    def recipe(
        self, kind: Literal["few_shot", "from_scratch"], num_samples: int, seed: int, *, windows: int = 1
    ) -> AdaptRecipe:
        """Return the settings of one adaptation to `num_samples` problems of so many windows each."""
        distinct = num_samples * windows
        rounds = math.ceil(self.epochs * distinct / min(self.training.batch_size, distinct))
        steps = max(self.training.num_steps, rounds)
        return AdaptRecipe(
            num_samples=num_samples,
            seed=seed,
            learning_rates=self.learning_rates if kind == "few_shot" else self.scratch_learning_rates,
            **{name: getattr(self, name) for name in _PASSED_ON},
            method=self.method if kind == "few_shot" else FinetuneMethod(),
            training=self.training.model_copy(update={"num_steps": steps}),
        )
