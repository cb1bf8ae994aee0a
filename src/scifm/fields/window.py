"""`Window`: which frames of a trajectory make one sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scifm.config import Plain
from scifm.errors import ConfigError
from scifm.wording import plural

__all__ = ["NEXT_FRAME", "Window"]


@dataclass(frozen=True)
class Window(Plain):
    """`history` input frames and, behind them, `horizon` target frames, all `stride` frames apart.

    Args:
        history: input frames.
        horizon: target frames: 1 asks for the next one, more for a forecast in that many steps.
        stride: stored frames from one frame of the sample to the next.

    Raises:
        ConfigError: if one of them is below 1.
    """

    history: int = 1
    horizon: int = 1
    stride: int = 1

    def __post_init__(self) -> None:
        for name in ("history", "horizon", "stride"):
            if getattr(self, name) < 1:
                raise ConfigError(f"The {name} counts frames and is at least 1; got {getattr(self, name)}.")

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Window:
        """Return the window that a record holds; what it does not say is 1."""
        return cls(**{name: int(record[name]) for name in ("history", "horizon", "stride") if name in record})

    def record(self) -> dict[str, int]:
        """Return what records say of it: the stride always, and what is not one frame to one."""
        return {"stride": self.stride, **{name: frames for name, frames in self.to_dict().items() if frames > 1}}

    @property
    def inputs(self) -> range:
        """The input frames, counted from the first one."""
        return range(0, self.history * self.stride, self.stride)

    @property
    def targets(self) -> range:
        """The target frames, counted likewise."""
        return range(self.history * self.stride, (self.history + self.horizon) * self.stride, self.stride)

    @property
    def span(self) -> int:
        """Frames from the first to the last, both counted."""
        return (self.history + self.horizon - 1) * self.stride + 1

    def fits(self, num_frames: int) -> int:
        """Return how many windows a trajectory of so many frames has.

        Raises:
            ConfigError: if it has none.
        """
        if self.span > num_frames:
            raise ConfigError(
                f"A window of history {self.history}, horizon {self.horizon} and stride {self.stride} spans "
                f"{plural(self.span, 'frame')}, and a trajectory has {num_frames}. Lower one of the three."
            )
        return num_frames - self.span + 1


NEXT_FRAME = Window()
"""One frame, and the one behind it."""
