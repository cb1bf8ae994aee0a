"""`Window`: which frames of a trajectory make one sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scifm.config import Plain
from scifm.errors import ConfigError
from scifm.wording import plural

__all__ = ["NEXT_FRAME", "SAME_TIME", "WINDOW_SETTINGS", "Pace", "Window", "are_within", "is_one_time", "told_times"]

SAME_TIME = 1e-3
"""By which part times of one lead differ: what files round."""

_COUNTS = ("history", "horizon", "stride", "leads")

WINDOW_SETTINGS = (*_COUNTS, "observed", "stations", "station_spacing")
"""The names of its settings, by which recipes know them too."""


@dataclass(frozen=True)
class Window(Plain):
    """`history` input frames and, behind them, `horizon` target frames, all `stride` frames apart.

    Args:
        history: input frames.
        horizon: target frames: 1 asks for the next one, more for a forecast in that many steps.
        stride: stored frames from one frame of the sample to the next.
        leads: of a single target, how many lead times there are: it stands one stride, two, … up to so many behind the
            last input, each a sample of its own. So all pairs of frames can be learned from.
        observed: of several targets, whether each is asked for when the true ones before it are known: one step ahead,
            all along the window, by who remembers what came before. Else an operator marches from its own answers.
        stations: at how many points the input frames are seen, other ones in every sample, see `scifm.fields.stations`;
            0: everywhere.
        station_spacing: these stand at every so many-th point of each axis.

    Raises:
        ConfigError: if one of them is below 1, several leads are asked of several targets, a single one is observed,
            or what is observed is seen at stations alone.
    """

    history: int = 1
    horizon: int = 1
    stride: int = 1
    leads: int = 1
    observed: bool = False
    stations: int = 0
    station_spacing: int = 1

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ConfigError(f"The {name} counts frames and is at least 1; got {getattr(self, name)}.")
        if self.leads > 1 and self.horizon > 1:
            raise ConfigError(
                f"Several lead times are of a single target: give leads = {self.leads} or horizon = {self.horizon}, "
                "not both."
            )
        if self.observed and self.horizon == 1:
            raise ConfigError(
                "observed = true is of several targets, each asked for when those before it are known; give a horizon "
                "of 2 frames or more, or leave it out."
            )
        if self.stations < 0 or self.station_spacing < 1:
            raise ConfigError(
                "stations counts points, 0 for all of them, and station_spacing is at least 1; got "
                f"{self.stations} and {self.station_spacing}."
            )
        if self.station_spacing > 1 and not self.stations:
            raise ConfigError(f"station_spacing = {self.station_spacing} says where stations stand: say how many.")
        if self.stations and self.observed:
            raise ConfigError(
                "observed = true gives an operator the true frames on the way, and stations are what it is given of "
                "the first ones alone. Leave one of them out."
            )

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Window:
        """Return the window that a record holds; what it does not say is usual."""
        own: dict[str, Any] = {name: record[name] for name in WINDOW_SETTINGS if name in record}
        return cls(**own)

    def record(self) -> dict[str, int]:
        """Return what records say of it: the stride always, and what is not one frame to one."""
        return {"stride": self.stride, **self.not_usual()}

    def not_usual(self) -> dict[str, int]:
        """Return the settings that differ from one frame to the next one."""
        return {name: value for name, value in self.to_dict().items() if value != getattr(NEXT_FRAME, name)}

    @property
    def inputs(self) -> range:
        """The input frames, counted from the first one."""
        return range(0, self.history * self.stride, self.stride)

    def targets(self, lead: int = 1) -> range:
        """The target frames, counted likewise; of several leads that of one of them."""
        first = (self.history - 1 + lead) * self.stride
        return range(first, first + self.horizon * self.stride, self.stride)

    def counts(self, num_frames: int) -> list[int]:
        """Return how many windows of each lead a trajectory of so many frames has.

        Raises:
            ConfigError: if it has none of some lead.
        """
        spans = [self.targets(lead)[-1] + 1 for lead in range(1, self.leads + 1)]
        if spans[-1] > num_frames:
            told = ", ".join(f"{name} {frames}" for name, frames in self.to_dict().items() if name in self.record())
            raise ConfigError(
                f"A window of {told} spans {plural(spans[-1], 'frame')}, and a trajectory has {num_frames}. Lower one "
                "of them."
            )
        return [num_frames - span + 1 for span in spans]

    def fits(self, num_frames: int) -> int:
        """Return how many windows such a trajectory has.

        Raises:
            ConfigError: if it has none of some lead.
        """
        return sum(self.counts(num_frames))

    @property
    def span(self) -> int:
        """Frames from the first to the last of a window of the longest lead, both counted."""
        return self.targets(self.leads)[-1] + 1


NEXT_FRAME = Window()
"""One frame, and the one behind it."""


@dataclass(frozen=True)
class Pace:
    """How an operator goes through time.

    Args:
        history: input frames it takes.
        lead_times: the shortest and the longest physical time to a target that it was trained at; None: nobody says.
    """

    history: int = 1
    lead_times: tuple[float, float] | None = None

    def stride(self, neighbours: tuple[float, float] | None) -> int:
        """Return how many stored frames apart samples are to be, so that it knows their lead time.

        Args:
            neighbours: the shortest and the longest time from one stored frame to the next; None: it is not known.

        Returns:
            The fewest frames; 1 where no number of them is a lead time of its training.
        """
        if self.lead_times is None or neighbours is None:
            return 1
        stride = max(1, math.ceil(self.lead_times[0] * (1 - SAME_TIME) / neighbours[0]))
        return stride if are_within((neighbours[0] * stride, neighbours[1] * stride), self.lead_times) else 1


def is_one_time(lead_times: tuple[float, float]) -> bool:
    """Return whether the shortest and the longest lead time are one."""
    return lead_times[1] <= lead_times[0] * (1 + SAME_TIME)


def are_within(asked: tuple[float, float], trained: tuple[float, float]) -> bool:
    """Return whether lead times that are asked for are among those of a training."""
    return trained[0] * (1 - SAME_TIME) <= asked[0] and asked[1] <= trained[1] * (1 + SAME_TIME)


def told_times(lead_times: tuple[float, float]) -> str:
    """Return ``0.5``, or ``0.5 to 2`` where they differ; to five digits, for single precision holds hardly more."""
    return f"{lead_times[0]:.5g}" if is_one_time(lead_times) else f"{lead_times[0]:.5g} to {lead_times[1]:.5g}"
