"""Dials: what a slider of the page turns, the trained range of a knob and how far beyond it one may go."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from scifm.errors import ConfigError
from scifm.systems.knobs import Knob
from scifm.systems.system import System

__all__ = ["Dial"]

_UNITS = {"angle": "rad", "direction": "rad", "wavenumber_shift": "1/T"}  # as the systems' own pages give them
_FULL_TURN = 2 * math.pi
_NUM_STEPS = 100  # at least, where the knob is no whole number


@dataclass(frozen=True)
class Dial:
    """One knob as a slider.

    Args:
        name: of the knob.
        trained: the range it was drawn from in training.
        low: where the slider begins.
        high: where it ends.
        step: what one press of an arrow key adds, on the linear scale.
        start: where it stands at first, inside the trained range.
    """

    name: str
    trained: Knob
    low: float
    high: float
    step: float
    start: float

    @classmethod
    def of(cls, system: System, name: str) -> Dial:
        """Return the dial of a system's knob: from half the trained range's lower end to twice its upper one.

        An end that the system refuses, such as an anisotropy below 1, stays at the trained range's. Angles go round
        once.

        Args:
            system: its knobs are the trained ranges.
            name: of a knob.
        """
        knob = system.knobs[name]
        low, high = _bounds(knob, turns=_UNITS.get(name) == "rad")
        low = low if _accepts(system, name, low) else knob.low
        high = high if _accepts(system, name, high) else knob.high
        step = 1.0 if knob.integer else _round_step((high - low) / _NUM_STEPS)
        return cls(name, knob, low, high, step, _start(knob, step))

    @property
    def unit(self) -> str:
        """The knob's unit, empty for a number without one."""
        return _UNITS.get(self.name, "")

    def value(self, text: str) -> float:
        """Return the number that a browser sent.

        Raises:
            ConfigError: if it is none, or lies beyond the slider.
        """
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not self.low <= number <= self.high:  # false for NaN
            raise ConfigError(
                f"{self.name} must be a number from {self.low:.6g} to {self.high:.6g}; got '{text[:40]}'."
            )
        return number

    def is_trained(self, value: float) -> bool:
        """Return whether training can have met this value."""
        return bool(self.trained.contains(torch.tensor(value, dtype=torch.float64)))

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "trained": [self.trained.low, self.trained.high],
            "low": self.low,
            "high": self.high,
            "step": self.step,
            "start": self.start,
            "scale": self.trained.scale,
            "integer": self.trained.integer,
        }


def _bounds(knob: Knob, *, turns: bool) -> tuple[float, float]:
    if turns:
        return min(knob.low, 0.0), max(knob.high, _FULL_TURN)
    span = knob.high - knob.low or abs(knob.high) or 1.0
    low = knob.low / 2 if knob.low > 0 else knob.low - span
    high = 2 * knob.high if knob.high > 0 else knob.high + span
    return (math.floor(low), math.ceil(high)) if knob.integer else (low, high)


def _accepts(system: System, name: str, value: float) -> bool:
    try:
        system.where(**{name: value})
    except ConfigError:
        return False
    return True


def _round_step(step: float) -> float:
    """Return the largest of …, 0.1, 0.2, 0.5, 1, 2, 5, … that is not above `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= step * (1 + 1e-9))


def _start(knob: Knob, step: float) -> float:
    middle = math.sqrt(knob.low * knob.high) if knob.scale == "log" else (knob.low + knob.high) / 2
    rounded = round(round(middle / step) * step, 10)
    return min(max(rounded, knob.low), knob.high)
