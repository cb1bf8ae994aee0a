"""Frames of a forecast to look at: made where it is judged, read by its page."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scifm.runs import write_atomically
from scifm.wording import number_text

__all__ = ["ForecastFrames"]


@dataclass(frozen=True)
class ForecastFrames:
    """Frames of one trajectory, the first and the last step among them.

    Args:
        truth: ``(frame, channel, *space)`` float32, space of one or two axes: of three the middle plane is kept.
        prediction: likewise; NaN from where the forecast is lost.
        steps: of each frame, counted from 1.
        times: of each frame, from the last input frame.
        errors: relative L2 error of each frame on the whole grid, mean over channels; NaN where it is lost.
        channels: names of the fields.
        extent: side lengths of the axes kept.
        x: places of the points along the last axis.
        num_points: of the grid it was made on.
        sample: its place among the trajectories that were judged, counted from 0.
        num_steps: that were judged.
        plane: where it was cut, such as ``z = 0.5``; empty: it was not.
        left_out: channels that are not kept.
        axes: what the file that the samples came from calls the axes kept; empty: it says nothing of them.
        ends: its own first and last point along each, such as degrees of latitude, the smaller one first.
    """

    truth: NDArray[np.float32]
    prediction: NDArray[np.float32]
    steps: tuple[int, ...]
    times: tuple[float, ...]
    errors: tuple[float, ...]
    channels: tuple[str, ...]
    extent: tuple[float, ...]
    x: tuple[float, ...]
    num_points: tuple[int, ...]
    sample: int
    num_steps: int
    plane: str = ""
    left_out: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    ends: tuple[tuple[float, float], ...] = ()

    @property
    def sides(self) -> tuple[tuple[str, float, float], ...]:
        """Name and both ends of each axis: the file's own, else its letter, from zero."""
        if self.axes:
            return tuple((name, *ends) for name, ends in zip(self.axes, self.ends, strict=True))
        return tuple((name, 0.0, side) for name, side in zip("yx"[-len(self.extent) :], self.extent, strict=True))

    def few(self, most: int) -> ForecastFrames:
        """Return no more than so many of its frames, evenly spaced, the first and the last among them."""
        count = len(self.steps)
        if count <= most:
            return self
        chosen = sorted({int(place) for place in np.linspace(0, count - 1, most).round()})
        names = ("steps", "times", "errors")
        parts: dict[str, Any] = {name: tuple(getattr(self, name)[i] for i in chosen) for name in names}
        return replace(self, truth=self.truth[chosen], prediction=self.prediction[chosen], **parts)

    def over_time(self, channel: int) -> tuple[NDArray[np.floating], NDArray[np.floating], tuple[float, float]]:
        """Return truth and prediction of a channel on a line as maps ``(x, time)``, and where these begin and end.

        Columns are evenly spaced, a frame wide where frames are; each is the frame that is nearest to its middle.
        """
        times, count = np.asarray(self.times), len(self.times)
        half = (times[-1] - times[0]) / (2 * max(count - 1, 1))
        middles = np.linspace(times[0], times[-1], count)
        nearest = np.abs(middles[:, None] - times).argmin(axis=1)
        truth, answer = (part[nearest, channel].T.astype(np.float64) for part in (self.truth, self.prediction))
        return truth, answer, (float(times[0] - half), float(times[-1] + half))

    def write(self, path: Path) -> None:
        """Write it as ``.npz`` that is read without unpickling.

        Raises:
            RunError: if it cannot be written.
        """
        content = io.BytesIO()
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(self).items()}
        np.savez_compressed(content, **arrays)
        write_atomically(path, content.getvalue())

    def label(self, frame: int) -> str:
        """Return in words when a frame is, and how far off."""
        error = self.errors[frame]
        off = f"relative L2 error {number_text(error)}" if math.isfinite(error) else "lost: it left every bound"
        return f"step {self.steps[frame]} of {self.num_steps}, lead time {self.times[frame]:.4g}, {off}"
