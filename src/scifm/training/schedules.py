"""Learning-rate schedules: pure functions of the step, so that resuming needs no state of theirs."""

from __future__ import annotations

import math

from scifm.errors import ConfigError, suggest

__all__ = ["SCHEDULES", "learning_rate_factor"]

SCHEDULES = ("one_cycle", "cosine", "constant")


def learning_rate_factor(schedule: str, step: int, num_steps: int, *, warmup_fraction: float) -> float:
    """Return what the peak learning rate is multiplied by at `step`, counted from 0.

    Args:
        schedule: ``one_cycle`` rises and falls along cosines (1/25 → 1 → 0, Smith & Topin, arXiv:1708.07120);
            ``cosine`` falls from 1 to 0 (Loshchilov & Hutter, arXiv:1608.03983) after a linear rise; ``constant`` stays
            at 1.
        step: from 0 to num_steps − 1.
        num_steps: length of the whole run; the schedule ends where training ends.
        warmup_fraction: share of the steps spent rising.

    Raises:
        ConfigError: if the schedule is unknown.
    """
    if schedule not in SCHEDULES:
        raise ConfigError(suggest(schedule, SCHEDULES))
    if schedule == "constant":
        return 1.0
    warmup = warmup_fraction * num_steps
    if step < warmup:
        risen = (step + 1) / (warmup + 1)
        return risen if schedule == "cosine" else 1 / 25 + (1 - 1 / 25) * 0.5 * (1 - math.cos(math.pi * risen))
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(num_steps - warmup, 1)))
