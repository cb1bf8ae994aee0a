"""What conservation laws marched by finite volumes share: ∂U/∂t + Σ ∂F(U)/∂x = S on boxes that wrap, walled or open.

The fields of such a system are primitive, as they are measured: a density (of water the depth), the velocities, and
what else there is. What is conserved is marched. A subclass says how the two follow from each other, what flows through
a face, and how fast waves are; values at faces, ghost cells and time steps are those of `solvers.finite_volume`.

Cells. Every point of the grid is the center of a cell that is as wide as points are apart. Along an axis that is not
periodic the box therefore reaches half a cell beyond the first and the last point; there stands a wall, or an open end
through which waves leave, as the grid's `boundary` says.

On a CPU with a C compiler the three systems of the house are marched by `solvers.volumes`, which gives the same numbers
to round-off, many times faster; elsewhere, and in subclasses, by what stands here.

Steps. Each sample has its own: between two frames it takes as many equal steps as its fastest wave crosses cells
(summed over the axes), divided by `courant`; where waves have grown so much faster on the way that a step exceeded a
whole cell, its march to that frame is repeated with more. So a trajectory hangs on nothing but its own state.
"""

from __future__ import annotations

import abc
import math
from typing import ClassVar

import torch
from torch import Tensor

from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.grid import Boundary, Grid
from scifm.systems.evolving import Evolving
from scifm.systems.solvers.finite_volume import NUM_GHOSTS, differences, face_values, ssprk3, with_ghosts
from scifm.systems.solvers.volumes import ENDS, Equation, march, volumes_for

__all__ = ["FiniteVolumeSystem", "derivative"]

_PIECE_NUMBERS = {"cpu": 2**16}  # numbers of the state marched at once: few, to stay in the cache
_PIECE_NUMBERS_COMPILED = 2**20  # each sample stays there by itself; enough of them to share out to threads
_PIECE_NUMBERS_ELSEWHERE = 2**25
_LARGEST_COURANT = 1.0  # beyond it a march is repeated
_MOST_STEPS = 10**6  # between two frames


class FiniteVolumeSystem(Evolving):
    """A conservation law in one to three dimensions; channels are a density, the velocities, and what else there is.

    Attributes:
        num_spatial_dims: option.
        courant: option, cells that waves cross in a step, summed over the axes; 1 at most.
        positive: channels that are positive wherever the equation means anything.
        compiled: what `solvers.volumes` calls this equation, where it knows it. Not inherited: a subclass may be
            another equation, and is marched by its own methods unless it says so itself.
    """

    num_spatial_dims: int
    courant: float

    positive: ClassVar[tuple[int, ...]] = (0,)
    compiled: ClassVar[Equation | None] = None
    order: ClassVar[int] = 3

    # --- what a system says -------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def conserved(self, primitive: Tensor, coefficients: Tensor) -> Tensor:
        """Return what is conserved, from the outputs ``(batch, outputs, *space)``; a new tensor of the same shape."""

    @abc.abstractmethod
    def primitive(self, conserved: Tensor, coefficients: Tensor) -> Tensor:
        """Return the outputs from what is conserved; a new tensor of the same shape."""

    @abc.abstractmethod
    def sound_squared(self, primitive: Tensor, coefficients: Tensor) -> Tensor:
        """Return the square of the speed of waves in what is at rest, ``(batch, *space)``."""

    @abc.abstractmethod
    def flux(self, before: Tensor, behind: Tensor, normal: int, coefficients: Tensor) -> Tensor:
        """Return what flows through faces, ``(batch, outputs, faces)``, given the states on their two sides.

        Args:
            before: outputs on the side of smaller coordinates.
            behind: on the other side.
            normal: the channel of the velocity along the axis.
            coefficients: ``(batch, coefficients)``.
        """

    # --- what follows -------------------------------------------------------------------------------------------------

    def kept(self, grid: Grid) -> tuple[str, ...]:
        # mass, the first output; at walls cells are whole, and points count half
        return self.signature.outputs[:1] if all(grid.periodic) else ()

    def normal(self, axis: int) -> int:
        """Return the channel of the velocity along an axis of the array: x, the last, comes first."""
        return self.num_spatial_dims - axis

    def per_sample(self, coefficients: Tensor, index: int) -> Tensor:
        """Return one coefficient as ``(batch, 1, …)``, to act on one channel ``(batch, *space)``."""
        return coefficients[:, index].view(-1, *(1,) * self.num_spatial_dims)

    def rates(self, primitive: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        """Return how many cells the fastest wave of each sample crosses in a time, summed over axes, ``(batch,)``."""
        sound = self.sound_squared(primitive, coefficients).sqrt()
        total = sound * sum(1 / width for width in grid.spacing)
        for axis, width in enumerate(grid.spacing):
            total = total.add_(primitive[:, self.normal(axis)].abs(), alpha=1 / width)
        return total.flatten(1).amax(1)

    def change(self, primitive: Tensor, still: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        """Return ∂U/∂t in every cell as the solver has it, ``(batch, outputs, *space)``.

        Args:
            primitive: outputs.
            still: ``(batch, inputs that do not change in time, *space)``.
            coefficients: ``(batch, coefficients)``.
            grid: where.
        """
        total = self.change_along(primitive, still, coefficients, grid, 0)
        for axis in range(1, grid.num_spatial_dims):
            total += self.change_along(primitive, still, coefficients, grid, axis)
        return total

    def change_along(self, primitive: Tensor, still: Tensor, coefficients: Tensor, grid: Grid, axis: int) -> Tensor:
        """Return what flows in along one axis less what flows out, as `change`; a new tensor."""
        place, normal = axis - grid.num_spatial_dims, self.normal(axis)
        padded = with_ghosts(primitive, place, grid.boundary[axis], normal)
        flux = self.flux(*face_values(padded, place, self.positive), normal, coefficients)
        return differences(flux, padded.shape, place).mul_(1 / grid.spacing[axis])

    @torch.no_grad()
    def advance(
        self, inputs: Tensor, coefficients: Tensor, grid: Grid, *, interval: float, num_frames: int, refine: int = 1
    ) -> Tensor:
        self.require_grid(grid)
        names = self.signature
        outputs = names.state_places
        rest = [names.inputs.index(name) for name in names.inputs if name not in names.outputs]
        numbers = _PIECE_NUMBERS.get(inputs.device.type, _PIECE_NUMBERS_ELSEWHERE)
        if self._own_equation and volumes_for(inputs):
            numbers = _PIECE_NUMBERS_COMPILED
        piece = max(1, numbers // (math.prod(grid.num_points) * len(outputs)))
        made = inputs.new_empty(len(inputs), num_frames, len(outputs), *grid.num_points)
        for start in range(0, len(inputs), piece):
            rows = slice(start, start + piece)
            still, numbers_of = inputs[rows][:, rest], coefficients[rows]
            state = self.conserved(inputs[rows][:, outputs], numbers_of)
            for frame in range(num_frames):
                state = self._to_frame(state, still, numbers_of, grid, interval, refine)
                made[rows, frame] = self.primitive(state, numbers_of)
        self.require_finite(made, grid)
        return made

    @property
    def _own_equation(self) -> Equation | None:
        return vars(type(self)).get("compiled")

    def _to_frame(
        self, start: Tensor, still: Tensor, coefficients: Tensor, grid: Grid, interval: float, refine: int
    ) -> Tensor:
        """Return the conserved state an interval later, each sample by as many steps as it needs."""
        state = torch.empty_like(start)
        todo = torch.arange(len(start), device=start.device)
        counts = self._num_steps(self.rates(self.primitive(start, coefficients), coefficients, grid), interval)
        while len(todo):
            order = counts.argsort(descending=True, stable=True)
            todo, counts = todo[order], counts[order]
            reached, fastest = self._march(start[todo], still[todo], coefficients[todo], grid, interval, counts, refine)
            state[todo] = reached
            late = fastest * interval > _LARGEST_COURANT * (1 + 1e-4) * counts  # more steps follow, never as many
            todo, counts = todo[late], self._num_steps(fastest[late], interval)
        return state

    def _num_steps(self, rates: Tensor, interval: float) -> Tensor:
        needed = (rates.double() * (interval / self.courant) - 1e-6).ceil().clamp(min=1)
        # what is no number any more is told at the end of the march
        needed = torch.where(torch.isfinite(rates), needed, 1.0)
        if bool((needed > _MOST_STEPS).any()):
            raise DataError(
                f"'{self.name}' would take {float(needed.max()):.3g} steps from frame to frame, more than "
                f"{_MOST_STEPS}: its waves are too fast for this grid. Look at the state and the knobs, "
                f"{self.told_knobs}."
            )
        return needed.long()

    def _march(
        self,
        state: Tensor,
        still: Tensor,
        coefficients: Tensor,
        grid: Grid,
        interval: float,
        counts: Tensor,
        refine: int,
    ) -> tuple[Tensor, Tensor]:
        """March every sample over the interval in its own number of steps, in place, those with most steps first.

        Returns:
            The state, and how fast its waves were at most, ``(batch,)``.
        """
        steps = (interval / (counts * refine)).to(state.dtype).view(-1, *(1,) * (state.dim() - 1))
        fastest = state.new_zeros(len(state))
        numbers = [count * refine for count in counts.tolist()]
        if (equation := self._own_equation) and (native := volumes_for(state)):
            return state, march(native, equation, state, still, coefficients, grid, numbers, steps)
        active = len(numbers)
        for step in range(numbers[0]):
            while numbers[active - 1] <= step:
                active -= 1
            now, fixed, ours = state[:active], still[:active], coefficients[:active]
            fields = self.primitive(now, ours)
            torch.maximum(fastest[:active], self.rates(fields, ours, grid), out=fastest[:active])

            def rate(state: Tensor, fixed: Tensor = fixed, ours: Tensor = ours) -> Tensor:
                return self.change(self.primitive(state, ours), fixed, ours, grid)

            ssprk3(now, steps[:active], rate, self.change(fields, fixed, ours, grid))
        return state, fastest

    # --- checks -------------------------------------------------------------------------------------------------------

    def require_options(self) -> None:
        super().require_options()
        if self.num_spatial_dims not in (1, 2, 3):
            raise ConfigError(
                f"'{self.name}' has 1, 2 or 3 dimensions; got num_spatial_dims={self.num_spatial_dims!r}."
            )
        if not 0 < self.courant <= _LARGEST_COURANT:
            raise ConfigError(
                f"'{self.name}' needs 0 < courant <= 1, cells that waves cross in a step; got {self.courant}."
            )

    def require_grid(self, grid: Grid) -> None:
        super().require_grid(grid)
        if min(grid.num_points) < NUM_GHOSTS:
            raise SignatureError(f"'{self.name}' needs at least {NUM_GHOSTS} points an axis; got {grid.num_points}.")
        if not set(grid.boundary) <= set(ENDS):
            raise SignatureError(
                f"'{self.name}' has to be told what stands at the ends of an axis that is not periodic: 'wall' or "
                f"'open'. The grid: {grid.told}."
            )

    def require_finite(self, state: Tensor, grid: Grid) -> None:
        if not bool(torch.isfinite(state).all()):
            names = ", ".join(self.signature.outputs[channel] for channel in self.positive)
            raise DataError(
                f"The march of '{self.name}' left every bound on {grid.told_points}: {names} must stay positive. "
                f"Give weaker knobs than {self.told_knobs}, or a smaller courant than {self.courant}."
            )


def derivative(field: Tensor, grid: Grid, axis: int, ends: Boundary, *, odd: bool = False) -> Tensor:
    """Return ∂field/∂x along an axis, ``(…, *space)``, written without the solver.

    Spectral where the axis wraps, and between walls too, about which a field is even or odd; where it is open, plain
    differences of second order.

    Args:
        field: ``(…, *space)``.
        grid: where.
        axis: in array order.
        ends: what lies beyond the ends of the axis.
        odd: whether a wall turns the sign of the field, as that of the velocity towards it.
    """
    place, count, width = axis - grid.num_spatial_dims, grid.num_points[axis], grid.spacing[axis]
    if ends == "open":
        return torch.gradient(field, spacing=width, dim=field.dim() + place, edge_order=2)[0]
    if ends == "wall":
        field = torch.cat([field, -field.flip(place) if odd else field.flip(place)], dim=place)
    whole = field.shape[place]
    waves = torch.fft.rfftfreq(whole, width / (2 * math.pi), dtype=field.dtype, device=field.device)
    if whole % 2 == 0:
        waves[-1] = 0.0
    factor = 1j * waves.view(-1, *(1,) * (-place - 1))
    slope = torch.fft.irfft(torch.fft.rfft(field, dim=place) * factor, n=whole, dim=place)
    return slope.narrow(place, 0, count)
