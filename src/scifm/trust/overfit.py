"""Can this architecture learn a few samples by heart? A training path that is broken anywhere cannot."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field

from scifm.data.stream import Epochs
from scifm.errors import ConfigError
from scifm.findings.figure import Axis, Figure, Panel, Rule, Series
from scifm.findings.finding import Finding
from scifm.models.operator import Operator
from scifm.training.loop import DivergedError, TrainingConfig, train
from scifm.training.pretrain import build_operator
from scifm.training.validation import sample_errors
from scifm.trust.case import Case
from scifm.trust.check import Check

__all__ = ["OverfitOneBatch"]

_NO_GRADIENT = "does not require grad"


class _OutOfTimeError(Exception):
    """The budget is spent."""


class OverfitOneBatch(Check):
    """A fresh operator of the same architecture and normalization is trained on a few samples, always the same.

    Statistic: mean over these samples of the relative L2 error after training, by the library's own loop with AdamW
    and the relative L2 loss.

    Threshold: 0.1. An FNO of any size gets below 0.02 in 200 steps; what answers zero has 1, and a network that sees
    neighbours only stays above 0.5 on an elliptic problem. Between the two nothing that works was met.

    A network that was wrapped from an object cannot be built anew: the question is then not answered.

    Args:
        num_steps: optimizer steps.
        learning_rate: its peak.
        largest_error: threshold.
    """

    name: ClassVar[str] = "overfit_one_batch"
    leaves_out_gaps: ClassVar[bool] = True
    question: ClassVar[str] = "Does a fresh operator of this architecture learn a few samples by heart?"
    advice: ClassVar[str] = (
        "Mend the training path before training longer: a frozen part, a wrong normalization, a learning rate far off."
    )

    num_samples: int | None = Field(4, ge=1)
    num_steps: int = Field(200, ge=1)
    learning_rate: float = Field(1e-2, gt=0, allow_inf_nan=False)
    largest_error: float = Field(0.1, gt=0, allow_inf_nan=False)

    def ask(self, case: Case) -> Finding:
        operator, samples = case.operator, case.samples
        samples.require_targets()
        if operator.knows_one_problem:
            return Finding(
                said="The question does not apply: one problem is all that this operator was trained on.",
                evidence="Its error there says whether it can be trained.",
            )
        seed = case.draw_seed()
        try:
            fresh = build_operator(operator.signature, operator.config, operator.normalization, seed=seed)
        except ConfigError as reason:
            return Finding(said="This architecture cannot be built anew, so it was not trained.", evidence=str(reason))
        first = {name: value.detach().clone() for name, value in fresh.named_parameters()}
        curve: list[tuple[int, float]] = []

        def note(**event: Any) -> None:
            if event["event"] == "train":
                curve.append((event["step"], event["loss"]))
                if case.seconds_left <= 0:
                    raise _OutOfTimeError

        try:
            train(
                fresh,
                Epochs(samples, batch_size=len(samples), seed=seed),
                config=self._training(operator, len(samples)),
                observe=note,
            )
        except _OutOfTimeError:
            seen = f"After {curve[-1][0]} of {self.num_steps} steps its loss was {curve[-1][1]:.3g}."
            return Finding(said="The budget was spent before a fresh operator was trained.", evidence=seen)
        except RuntimeError as problem:  # by which torch says that nothing has a gradient, and much else
            if not (isinstance(problem, DivergedError) or _NO_GRADIENT in str(problem)):
                raise
            cause = " ".join(str(problem).split())
            return Finding(said="A fresh operator of this architecture cannot be trained.", evidence=cause, good=False)
        still = [name for name, value in fresh.named_parameters() if torch.equal(value.detach().cpu(), first[name])]
        error = float(sample_errors(fresh, samples).mean())
        return self._finding(error, len(samples), still, curve)

    def _training(self, operator: Operator, batch_size: int) -> TrainingConfig:
        device, dtype = operator.home
        return TrainingConfig(
            num_steps=self.num_steps,
            batch_size=batch_size,
            learning_rate=self.learning_rate,
            log_every=max(1, self.num_steps // 20),
            precision="64-true" if dtype == torch.float64 else "32-true",
            accelerator="cuda" if device.type == "cuda" else "cpu",
        )

    def _finding(self, error: float, count: int, still: list[str], curve: list[tuple[int, float]]) -> Finding:
        good = error <= self.largest_error
        evidence = f"After {self.num_steps} steps on the same {count} samples the relative L2 error is {error:.3g}."
        if still:
            evidence += f" Weights that training never moved: {', '.join(still[:5])}{', …' if len(still) > 5 else ''}."
        series = Series(label="loss", x=tuple(s for s, _ in curve), y=tuple(loss for _, loss in curve))
        rule = Rule(at=self.largest_error, label="small enough")
        panel = Panel(x=Axis(label="step"), y=Axis(label="relative L2", scale="log"), series=(series,), rules=(rule,))
        can = "learns a few samples by heart" if good else "does not learn even a few samples by heart"
        return Finding(
            said=f"A fresh operator of this architecture {can}.",
            evidence=evidence,
            good=good,
            statistic=error,
            threshold=self.largest_error,
            unit="relative L2",
            figure=Figure(caption="Loss while a fresh operator learns the same few samples.", panels=(panel,)),
        )
