"""Knobs: the ranges from which a system draws the numbers of its equation, and the scales they are drawn on.

A distribution is a scale: a knob's values are uniform on it. A new one is a line in `SCALES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.config import Plain
from scifm.errors import ConfigError, suggest

__all__ = ["SCALES", "Knob", "Scale"]


@dataclass(frozen=True)
class Scale:
    """A line on which values are drawn uniformly: the density of a value is as the slope of its place.

    Args:
        place: where a value stands on the line; larger values stand higher.
        value: which values stand at these places, which may lie beyond those of a range.
        above: values are larger than this; None: any number stands on the line.
    """

    place: Callable[[float], float]
    value: Callable[[Tensor], Tensor]
    above: float | None = None

    def at(self, place: float) -> float:
        """Return the value at one place."""
        return float(self.value(torch.tensor(place, dtype=torch.float64)))


def _as_it_is(places: Tensor) -> Tensor:
    return places


SCALES: dict[str, Scale] = {
    "linear": Scale(float, _as_it_is),
    "log": Scale(math.log, torch.exp, above=0.0),
}
"""Every distribution by name."""


def _as_number(value: Any, given: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"A knob's bounds are numbers; got {given!r}. Write [1, 5] or {{low = 1, high = 5}}.")
    return float(value)


@dataclass(frozen=True)
class Knob(Plain):
    """A range of one number of an equation, drawn anew for every sample.

    Args:
        low: smallest value, included.
        high: largest value, included; equal to `low` for a fixed value.
        scale: a key of `SCALES`: "linear" draws uniformly, "log" draws the logarithm uniformly.
        integer: draws whole numbers only; on the linear scale each is equally likely.

    Raises:
        ConfigError: if low > high, a bound is not finite or not on the scale, as 0 is on none of logarithms, or an
            integer knob has fractional bounds.
    """

    low: float
    high: float
    scale: str = "linear"
    integer: bool = False

    def __post_init__(self) -> None:
        given = (self.low, self.high)
        for name in ("low", "high"):
            object.__setattr__(self, name, _as_number(getattr(self, name), given))
        if not isinstance(self.integer, bool):
            raise ConfigError(f"A knob's 'integer' is true or false; got {self.integer!r}.")
        if self.scale not in SCALES:
            raise ConfigError(f"The scale of a knob: {suggest(str(self.scale), SCALES)}")
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ConfigError(f"A knob's bounds must be finite; got {given}.")
        if self.low > self.high:
            raise ConfigError(f"A knob needs low <= high; got low={self.low:g}, high={self.high:g}. Swap them.")
        above = self.line.above
        if above is not None and self.low <= above:
            raise ConfigError(
                f"A {self.scale}-scale knob needs low > {above:g}; got low={self.low:g}. Use scale 'linear' or raise "
                "it."
            )
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ConfigError(f"An integer knob needs whole bounds; got {given}. Round them or set integer to false.")

    @property
    def line(self) -> Scale:
        """The scale itself."""
        return SCALES[self.scale]

    def draw(
        self,
        num_samples: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
    ) -> Float[Tensor, " num_samples"]:
        """Return `num_samples` independent values, shape ``(num_samples,)``.

        Numbers are drawn in float64 where the generator lives, so that `dtype` rounds them and changes nothing else.
        """
        source = generator.device if generator is not None else device
        uniform = torch.rand(num_samples, generator=generator, dtype=torch.float64, device=source)
        line = self.line
        low, high = line.place(self.low), line.place(self.high + 1 if self.integer else self.high)
        values = line.value(low + (high - low) * uniform)
        if self.integer:
            values = values.floor()
        return values.clamp(self.low, self.high).to(device=device, dtype=dtype)

    def contains(self, values: Tensor | float) -> Tensor:
        """Return for each value whether it could have been drawn; bounds are rounded to the values' own precision."""
        given = torch.as_tensor(values)
        if not given.is_floating_point():
            given = given.to(torch.float64)
        low, high = (torch.tensor(bound, dtype=given.dtype, device=given.device) for bound in (self.low, self.high))
        inside = (given >= low) & (given <= high)
        return inside & (given == given.round()) if self.integer else inside

    @classmethod
    def parse(cls, given: Any, *, like: Knob | None = None) -> Knob:
        """Return a knob from what a recipe or a caller may write.

        Args:
            given: a `Knob`, a pair ``[low, high]``, a single number (a fixed value), or a table with keys low, high
                and optionally scale and integer.
            like: the knob that is being replaced; what `given` does not say is taken over from it.

        Raises:
            ConfigError: if it is none of these, a key is unknown, or the numbers are not valid.
        """
        if isinstance(given, Knob):
            return given
        base = like.to_dict() if like is not None else {}
        if isinstance(given, dict):
            unknown = [key for key in given if key not in cls.__dataclass_fields__]
            if unknown:
                raise ConfigError(f"A knob's key {suggest(str(unknown[0]), cls.__dataclass_fields__)}")
            entries = {**base, **given}
        elif isinstance(given, (list, tuple)) and len(given) == 2:
            entries = {**base, "low": given[0], "high": given[1]}
        else:
            number = _as_number(given, given)
            entries = {**base, "low": number, "high": number}
        if "low" not in entries or "high" not in entries:
            raise ConfigError(f"A knob needs both low and high; got {given!r}.")
        return cls(**entries)
