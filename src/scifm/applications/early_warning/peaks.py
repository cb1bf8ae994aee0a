"""What an early warning tells: how strongly each place will shake, when, and how long before.

Everything is of the frames behind those that were seen. Shapes: fields of velocities ``(event, frame, direction, y,
x)``, maps ``(event, y, x)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Peaks", "by_lead", "covering", "peaks_of", "warning_times", "widened"]

_LEAST = 1e-30


@dataclass(frozen=True)
class Peaks:
    """The strongest shaking of each place.

    Args:
        velocity: peak ground velocity, max over frames of |v|, ``(event, y, x)``.
        time: from the last frame seen to it, ``(event, y, x)``.
    """

    velocity: Tensor
    time: Tensor


def peaks_of(fields: Float[Tensor, "event frame direction y x"], lead_times: Float[Tensor, "event frame"]) -> Peaks:
    """Return the peaks of velocities, the horizontal ones taken together as the length of their vector."""
    sizes = fields.norm(dim=2)
    largest, when = sizes.max(dim=1)
    times = lead_times[:, :, None, None].expand_as(sizes).gather(1, when[:, None])[:, 0]
    return Peaks(largest, times)


def by_lead(
    said: Float[Tensor, "event frame direction y x"], true: Float[Tensor, "event frame direction y x"]
) -> tuple[Float[Tensor, "event frame"], Float[Tensor, "event frame"]]:
    """Return correlation, uncentered, and relative error of each frame over places and directions.

    Of a frame in which nothing moves they are 0 and infinite.
    """
    a, b = said.flatten(2).double(), true.flatten(2).double()
    size = b.norm(dim=2)
    return (a * b).sum(2) / (a.norm(dim=2) * size).clamp(min=_LEAST), (a - b).norm(dim=2) / size


def warning_times(
    fields: Float[Tensor, "event frame direction y x"], lead_times: Float[Tensor, "event frame"], threshold: float
) -> tuple[Bool[Tensor, "event y x"], Float[Tensor, "event y x"]]:
    """Return where velocities go beyond a threshold, and after how long they first do; there is 0 where they do not."""
    beyond = fields.norm(dim=2) > threshold
    first = beyond.int().argmax(dim=1)
    times = lead_times[:, :, None, None].expand(beyond.shape).gather(1, first[:, None])[:, 0]
    ever = beyond.any(dim=1)
    return ever, torch.where(ever, times, 0.0)


def widened(
    draws: Float[Tensor, "draw event y x"], true: Float[Tensor, "event y x"], level: float, *, least: float
) -> tuple[float, float]:
    """Return how wide bands around the logarithm of peaks have to be: how many spreads, and what is added to each.

    Split-conformal: bands |ln v − mean| ≤ q · (spread + floor), with the floor the median spread of all places, hold
    `level` of the places of events like these.

    Args:
        draws: peaks, each by another set of stations or another member.
        true: the peaks that were.
        level: from 0 to 1.
        least: velocities that are smaller count as that large.
    """
    mean, spread = _of_logs(draws, least)
    floor = max(float(spread.median()), 1e-3)
    scores = (true.clamp(min=least).log() - mean).abs() / (spread + floor)
    return float(torch.quantile(scores.flatten()[:: max(1, scores.numel() // 1_000_000)], level)), floor


def covering(
    draws: Float[Tensor, "draw event y x"],
    true: Float[Tensor, "event y x"],
    width: tuple[float, float],
    *,
    least: float,
) -> tuple[Bool[Tensor, "event y x"], Tensor, Tensor]:
    """Return where bands hold the peaks that were, and their lower and upper ends."""
    (factor, floor), (mean, spread) = width, _of_logs(draws, least)
    half = factor * (spread + floor)
    held = (true.clamp(min=least).log() - mean).abs() <= half
    return held, (mean - half).exp(), (mean + half).exp()


def _of_logs(draws: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the logarithms over draws; of a single one no deviation."""
    logs = draws.clamp(min=least).log()
    return logs.mean(0), logs.std(0, correction=1) if len(logs) > 1 else torch.zeros_like(logs[0])
