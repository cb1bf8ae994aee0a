"""Does the answer belong to its question? One that is as near to the truths of others has not looked at it."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from scifm.evaluation.evaluate import ratio_of_means
from scifm.fields.batch import Batch
from scifm.findings.finding import Finding
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.trust.errors import errors_of
from scifm.wording import plural

__all__ = ["ShuffledTruths"]


class ShuffledTruths(Check):
    """Every answer is compared with its own truth, and with that of a sample half of all away, brought to its size.

    Trained on labels that were shuffled, or on nothing, an operator answers the mean, and is as far from one truth as
    from another. A sign or a size alone is no sign of having looked either: the other truth is brought to the size of
    the own one.

    Statistic: mean relative L2 error against the own truth, over the mean error against the others'. Interval:
    bootstrap over samples, 95 %.

    Threshold: 1. Good news where the whole interval lies below, bad where the ratio does not.
    """

    name: ClassVar[str] = "shuffled_truths"
    leaves_out_gaps: ClassVar[bool] = True
    question: ClassVar[str] = "Is an answer nearer to its own truth than to those of other samples?"
    advice: ClassVar[str] = (
        "Look whether inputs and targets of the training belong together: the order of files, of axes."
    )

    num_samples: int | None = Field(64, ge=2)

    def ask(self, case: Case) -> Finding:
        samples, truth = case.samples, case.samples.require_targets().double()
        if samples.num_samples < 2:
            return Finding(said="Of one sample there is no other truth to compare with.")
        away = samples.num_samples // 2  # windows of one trajectory stand side by side, and are alike
        others = _resized(truth.roll(away, 0), truth)
        own, other = case.errors(samples), errors_of(case.answer, others, _as_targets(samples, others, away))
        counts = own.isfinite() & other.isfinite()
        if not counts.any():
            return Finding(said="The truth is zero in every sample: there is no relative error to compare.")
        ratio, low, high = ratio_of_means(own[counts], other[counts], generator=case.generator)
        good = False if ratio >= 1 else True if high is not None and high < 1 else None
        words = {
            True: "An answer is nearer to its own truth than to those of others.",
            False: "An answer is no nearer to its own truth than to those of others.",
            None: "So few samples do not show whether an answer belongs to its question.",
        }
        return Finding(
            said=words[good],
            evidence=f"Mean relative L2 on {plural(int(counts.sum()), 'sample')}: {float(own[counts].mean()):.3g} "
            f"against the own truth, {float(other[counts].mean()):.3g} against another one.",
            good=good,
            statistic=ratio,
            low=low,
            high=high,
            threshold=1.0,
            unit="error over that against another truth",
        )


def _resized(others: Tensor, truth: Tensor) -> Tensor:
    """Return other truths in the sizes of the own ones, frame by frame and field by field."""
    sizes = [
        fields.flatten(3).square().mean(3).sqrt()[(..., *(None,) * (truth.dim() - 3))] for fields in (truth, others)
    ]
    return torch.where(sizes[1] > 0, others * sizes[0] / sizes[1], others)


def _as_targets(samples: Batch, targets: Tensor, away: int) -> Batch:
    valid = None if samples.valid_targets is None else samples.valid_targets & samples.valid_targets.roll(away, 0)
    return samples.with_targets(targets, valid)
