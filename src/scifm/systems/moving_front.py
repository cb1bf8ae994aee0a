"""What problems with one moving front share, whose solution is known: what fills the interval from its left end on.

Fields are means over cells, not values at points. The cell of a point reaches half-way to its neighbours, so those at
the ends are half as wide, as they count in the trapezoidal rule: the integral of a frame by the rule of
`scifm.fields.norms` is then the exact one, wherever the front is. Two things follow. What the interval holds is known
in closed form at every time, since it changes by nothing but what flows through the ends (`budgets`); and it tells the
time, so that a march may start from any frame.

A subclass says four things in closed form: what lies left of a point (`filled`), what flows through it (`flow`), the
value there (`profile`) and the time by what the whole interval holds (`time_of`). None is used to write another, so
tests hold them together: ∂ filled/∂x is the profile, ∂ filled/∂t what flows in less what flows on.
"""

from __future__ import annotations

import abc
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.norms import integral
from scifm.systems.evolving import Evolving
from scifm.systems.knobs import Knob

__all__ = ["MovingFront", "cell_faces"]


class MovingFront(Evolving):
    """One field in one dimension on an interval with ends, and one coefficient; see the module.

    Attributes:
        start: knob, the time of the first frame [T], counted from when the front set out.
    """

    start: Knob

    order: ClassVar[int] = 1  # there is no error in time
    fills: ClassVar[bool] = False
    """Whether the state stays as it is once the front has left, so that it may."""

    # --- what a system says; tensors broadcast, times and coefficients are float64 ------------------------------------

    @abc.abstractmethod
    def profile(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        """Return the field at x, counted from the left end of an interval of that length."""

    @abc.abstractmethod
    def filled(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        """Return the integral of the field from the left end to x."""

    @abc.abstractmethod
    def flow(self, x: Tensor, time: Tensor, coefficient: Tensor, length: float) -> Tensor:
        """Return the flux of the equation through x, to the right."""

    @abc.abstractmethod
    def time_of(self, mass: Tensor, coefficient: Tensor, length: float) -> Tensor:
        """Return the time at which the whole interval holds so much; less than at time 0: time 0."""

    @abc.abstractmethod
    def leaves_at(self, coefficient: float, length: float) -> float:
        """Return the time at which the front has come to the right end."""

    # --- what follows -------------------------------------------------------------------------------------------------

    @property
    def _knob(self) -> Knob:
        return getattr(self, self.signature.coefficients[0])

    def require_options(self) -> None:
        super().require_options()
        if self.spin_up:
            raise ConfigError(f"'{self.name}' starts at its knob 'start'; leave spin_up out.")

    def require_grid(self, grid: Grid) -> None:
        super().require_grid(grid)
        if grid.boundary[0] not in ("open", "bounded"):
            raise SignatureError(
                f"'{self.name}' is fed at the left end of an interval that is open at the right; the one given is "
                f'{grid.boundary[0]}. Give boundary = "open".'
            )
        last = self.start.high + (self.num_frames - 1) * self.save_interval
        leaves = min(self.leaves_at(value, grid.extent[0]) for value in (self._knob.low, self._knob.high))
        if not self.fills and last > leaves * (1 + 1e-9):
            raise SignatureError(
                f"The front of '{self.name}' leaves an interval of length {grid.extent[0]:g} at time {leaves:.4g}, and "
                f"the last frame may be at {last:.4g}. Take fewer frames, closer ones, an earlier start, or a longer "
                "interval."
            )

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        drawn = self.draw_knobs(num_samples, generator, device)
        place = list(self.knobs).index(self.signature.coefficients[0])
        coefficients, start = drawn[:, place : place + 1], drawn[:, list(self.knobs).index("start")]
        return self.cell_means(start[:, None], coefficients, grid), coefficients

    def cell_means(
        self, times: Float[Tensor, "batch time"], coefficients: Float[Tensor, "batch one"], grid: Grid
    ) -> Float[Tensor, "batch time point"]:
        """Return the exact frames at some times, in float64."""
        faces = cell_faces(grid, times.device)
        held = self.filled(faces, times.double()[..., None], coefficients.double()[..., None], grid.extent[0])
        return held.diff(dim=-1) / faces.diff()

    def times_of(
        self, state: Float[Tensor, "batch point"], coefficients: Tensor, grid: Grid
    ) -> Float[Tensor, " batch"]:
        """Return the time of each frame by what it holds."""
        return self.time_of(integral(state.double(), grid), coefficients.double()[:, 0], grid.extent[0])

    @torch.no_grad()
    def advance(
        self, inputs: Tensor, coefficients: Tensor, grid: Grid, *, interval: float, num_frames: int, refine: int = 1
    ) -> Tensor:
        start = self.times_of(inputs[:, 0], coefficients, grid)
        steps = torch.arange(1, num_frames + 1, dtype=torch.float64, device=inputs.device)
        frames = self.cell_means(start[:, None] + interval * steps, coefficients, grid)
        self.require_finite(frames, grid)
        return frames.unsqueeze(2).to(inputs.dtype)

    def tendency(self, inputs: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        """Return what flows into each cell less what flows out, over its width."""
        time = self.times_of(inputs[:, 0], coefficients, grid)[:, None]
        faces = cell_faces(grid, inputs.device)
        flow = self.flow(faces, time, coefficients.double(), grid.extent[0])
        return (-flow.diff(dim=-1) / faces.diff()).unsqueeze(1).to(inputs.dtype)

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        """Return nothing: what the interval holds changes, by a known amount; `budgets` says by how much."""
        return {}

    def budgets(self, batch: Batch) -> dict[str, Float[Tensor, "batch time"]]:
        self.require_ours(batch)
        coefficients = self._coefficients(batch)
        start = self.times_of(self._inputs(batch)[:, 0], coefficients, batch.grid)
        assert batch.lead_time is not None, "require_ours has looked"
        length = batch.grid.extent[0]
        end = torch.tensor(length, dtype=torch.float64, device=start.device)
        return {
            self.signature.outputs[0]: self.filled(end, start[:, None] + batch.lead_time, coefficients.double(), length)
        }

    def measured_knobs(self, batch: Batch) -> dict[str, Float[Tensor, " batch"]]:
        start = self.times_of(self._inputs(batch)[:, 0], self._coefficients(batch), batch.grid)
        return {**super().measured_knobs(batch), "start": start}


def cell_faces(grid: Grid, device: torch.device | None = None) -> Float[Tensor, " face"]:
    """Return the ends of the cells of a grid with ends, one more than points, in float64."""
    (points,) = grid.coordinates(device=device)
    return torch.cat([points[:1], (points[:-1] + points[1:]) / 2, points[-1:]])
