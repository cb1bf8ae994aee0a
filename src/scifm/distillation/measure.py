"""What a compression costs and saves, measured."""

from __future__ import annotations

import torch

from scifm.errors import DataError
from scifm.evaluation.evaluate import undefined_of
from scifm.evaluation.pointwise import relative_l2
from scifm.evaluation.ratios import ratio_of_means
from scifm.fields.batch import Batch
from scifm.findings.finding import Finding
from scifm.models.operator import Operator
from scifm.wording import plural

__all__ = ["measure_answers", "measure_bytes"]

MOST_GROWTH = 1.05
"""Errors after over errors before up to which a compression is good news."""


def measure_answers(
    before: Operator, after: Operator, samples: Batch, *, generator: torch.Generator
) -> tuple[Finding, Finding]:
    """Return by how much answers changed, and what errors against the truth became.

    The first finding: mean over samples of ‖N'(f) − N(f)‖₂/‖N(f)‖₂, good below the mean error of the operator before,
    because then its own error is the larger one. The second: mean relative L2 error after over before, with a bootstrap
    interval over samples, good up to `MOST_GROWTH`.

    Args:
        before: the operator.
        after: what it was compressed to.
        samples: with targets.
        generator: of the bootstrap.

    Raises:
        SignatureError: if the samples do not fit, or have no targets.
        DataError: if an answer is not finite, or the truth or the answers vanish in all samples.
    """
    truth = before.align(samples).require_targets()
    old, new = (operator.predict(samples).require_targets() for operator in (before, after))
    if not (old.isfinite().all() and new.isfinite().all()):
        raise DataError("The operator's answers to these samples are not finite, before or after: nothing to compare.")
    change = relative_l2(new, old, samples.grid)[~undefined_of("relative_l2", old)].double()
    counts = ~undefined_of("relative_l2", truth)
    errors = [relative_l2(answer, truth, samples.grid)[counts].double() for answer in (old, new)]
    if not len(change) or not counts.any():
        raise DataError("The truth or the answers are zero in all samples: there are no relative errors to compare.")
    own, changed = float(errors[0].mean()), float(change.mean())
    ratio, low, high = ratio_of_means(errors[1], errors[0], generator=generator)
    grown = ratio if high is None else high
    number = plural(samples.num_samples, "sample")
    return (
        Finding(
            name="answers",
            said=f"Answers changed by {changed:.2g}.",
            evidence=f"Mean relative L2 over {number}, at most {float(change.max()):.2g}; the operator's own error is "
            f"{own:.3g}.",
            good=changed < own,
            statistic=changed,
            threshold=own,
            unit="relative L2",
        ),
        Finding(
            name="errors",
            said=f"Errors became {ratio:.4g} times as large.",
            evidence=f"Mean relative L2 against the truth on {number}: {own:.4g} before, "
            f"{float(errors[1].mean()):.4g} after.",
            good=grown <= MOST_GROWTH,
            statistic=ratio,
            low=low,
            high=high,
            threshold=MOST_GROWTH,
            unit="error after over before",
        ),
    )


def measure_bytes(before: int, after: int) -> Finding:
    """Return how much smaller the file of the weights became, from its bytes."""
    return Finding(
        name="bytes",
        said=f"The weights take {after / before:.2f} of the bytes.",
        evidence=f"model.safetensors on disk: {before:,} bytes before, {after:,} after.",
        good=after < before,
        statistic=after / before,
        threshold=1.0,
        unit="bytes after over before",
    )
