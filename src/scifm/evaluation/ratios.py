"""One error over another on the same samples, with an interval."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["ratio_of_means"]


def ratio_of_means(
    errors: Float[Tensor, " sample"],
    others: Float[Tensor, " sample"],
    *,
    generator: torch.Generator,
    level: float = 0.95,
    num_resamples: int = 2000,
) -> tuple[float, float | None, float | None]:
    """Return mean(errors) / mean(others) and its bootstrap percentile interval over samples.

    Both are of the same samples, which are drawn together: what makes a sample hard for both cancels. Of fewer than
    four samples there is no interval. NaN in gives NaN out, and others that are all zero give infinity or NaN.

    Args:
        errors: of each sample.
        others: of the same samples.
        generator: of the resampling, on the CPU.
        level: probability of the interval.
        num_resamples: how often samples are drawn anew, with replacement.

    Returns:
        The ratio, the lower and the upper end.
    """
    errors, others = errors.detach().cpu().double(), others.detach().cpu().double()
    ratio = float(errors.mean() / others.mean())
    if len(errors) < 4:
        return ratio, None, None
    drawn = torch.randint(len(errors), (num_resamples, len(errors)), generator=generator)
    ratios = errors[drawn].mean(1) / others[drawn].mean(1)
    tail = (1 - level) / 2
    low, high = ratios.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return ratio, low, high
