"""Schedules of the learning rate by name: functions of the step alone, so that resuming needs no state of theirs.

A new one is a line in `SCHEDULES`, and the function it names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from scifm.errors import suggest

__all__ = ["SCHEDULES", "NamedSchedule", "Schedule", "learning_rate_factor"]


@dataclass(frozen=True)
class Schedule:
    """What the peak learning rate is multiplied by: more than 0, 1 at most.

    Args:
        fall: of the steps after the warm-up, how many are done and how many there are: from 1 at none of them down.
        rise: of the part of the warm-up that is done, above 0 and below 1: up to 1. None: it has no warm-up.
    """

    fall: Callable[[float, float], float]
    rise: Callable[[float], float] | None = None


def _half_a_cosine(done: float, whole: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done / whole))


def _line(part: float) -> float:
    return part


def _slow_start(part: float) -> float:
    return 1 / 25 + (1 - 1 / 25) * 0.5 * (1 - math.cos(math.pi * part))


def _stay(done: float, whole: float) -> float:
    return 1.0


SCHEDULES: dict[str, Schedule] = {
    "one_cycle": Schedule(_half_a_cosine, _slow_start),  # 1/25 → 1 → 0 (Smith & Topin, arXiv:1708.07120)
    "cosine": Schedule(_half_a_cosine, _line),  # Loshchilov & Hutter, arXiv:1608.03983, after a linear rise
    "constant": Schedule(_stay),
}
"""Every schedule by name."""


def _known(name: str) -> str:
    if name not in SCHEDULES:
        raise ValueError(suggest(name, SCHEDULES))
    return name


NamedSchedule = Annotated[str, AfterValidator(_known)]
"""The name of a schedule."""


def learning_rate_factor(schedule: str, step: int, num_steps: int, *, warmup_fraction: float) -> float:
    """Return what the peak learning rate is multiplied by at `step`, counted from 0.

    Args:
        schedule: a key of `SCHEDULES`.
        step: from 0 to num_steps − 1.
        num_steps: length of the whole run; the schedule ends where training ends.
        warmup_fraction: part of the run in which it rises; of no account to one that has no warm-up.
    """
    own = SCHEDULES[schedule]
    warmup = 0.0 if own.rise is None else warmup_fraction * num_steps
    if own.rise is not None and step < warmup:
        return own.rise((step + 1) / (warmup + 1))
    return own.fall(step - warmup, max(num_steps - warmup, 1))
