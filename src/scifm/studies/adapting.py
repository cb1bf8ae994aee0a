"""How every adaptation of a study trains: one budget for fine-tuning and for training from scratch."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from scifm.studies.networks import StudyModel
from scifm.training.choice import AdaptRecipe, TrialSettings
from scifm.training.loop import TrainingConfig
from scifm.training.methods import FinetuneMethod

__all__ = ["AdaptConfig"]

_PASSED_ON = ("try_zero_shot", "refit_coefficients", "trial_budget", "held_out", "min_scored", "interpolation")


class AdaptConfig(TrialSettings):
    """How every adaptation trains; fine-tuning and training from scratch get the same budget.

    Args:
        learning_rates: candidates when fine-tuning.
        scratch_learning_rates: candidates from scratch, as many.
        epochs: at least this many rounds over the samples.
        training: how each trains; ``num_steps`` is the least number of steps.
    """

    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    scratch_learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    epochs: int = Field(0, ge=0)
    training: TrainingConfig = TrainingConfig(num_steps=200, checkpoint_every=200)

    @model_validator(mode="after")
    def _trials_are_made(self) -> Self:  # in place of the one it goes on with: that one would speak of trials first
        if len(self.learning_rates) != len(self.scratch_learning_rates) or not self.learning_rates:
            raise ValueError("give as many scratch_learning_rates as learning_rates, at least one: an equal budget")
        self.require_trials()
        return self

    def recipe(
        self,
        kind: Literal["few_shot", "from_scratch"],
        num_samples: int,
        seed: int,
        *,
        windows: int = 1,
        model: StudyModel | None = None,
    ) -> AdaptRecipe:
        """Return the settings of one adaptation of `model` to `num_samples` problems of so many windows each."""
        distinct = num_samples * windows
        rounds = math.ceil(self.epochs * distinct / min(self.training.batch_size, distinct))
        steps = max(self.training.num_steps, rounds)
        steps = steps if model is None else model.steps(steps)
        return AdaptRecipe(
            num_samples=num_samples,
            seed=seed,
            learning_rates=self.learning_rates if kind == "few_shot" else self.scratch_learning_rates,
            **{name: getattr(self, name) for name in _PASSED_ON},
            method=self.method if kind == "few_shot" else FinetuneMethod(),
            training=self.training.model_copy(update={"num_steps": steps}),
        )
