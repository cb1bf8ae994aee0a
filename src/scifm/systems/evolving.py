"""`Evolving`: the interface of equations that march in time, ∂u/∂t = F(u).

What a subclass gives is a problem at time 0 (`initial`), the march from a state to later times (`advance`), and the
right-hand side F itself, written without the solver, so that each can be held against the other: by its `terms`, from
which `tendency` is put together, or where no terms say it as `tendency`. Sampling, solving, residuals and balances
follow.

A sample is a whole trajectory: the state at time 0 as input, the states at `save_interval`, twice that, and so on as
targets. Windows are cut from trajectories by who trains on them (`scifm.fields.window`).
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import psutil
import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.derivatives import SpectralDerivatives
from scifm.fields.grid import Grid
from scifm.fields.norms import integral
from scifm.systems.knobs import Knob
from scifm.systems.system import SamplingRecord, System
from scifm.systems.term_operators import right_hand_side
from scifm.wording import plural

__all__ = ["Evolving"]

_SAME_STEP = 1e-5  # by which times in single precision differ
_DRAW_BLOCK = 256  # problems drawn at once; fixed, so that drawn numbers depend on nothing but the seed


class Evolving(System):
    """An equation ∂u/∂t = F(u), with the options every such system has as dataclass fields.

    Attributes:
        save_interval: physical time between stored frames [T].
        num_frames: frames of a trajectory, the first at time 0.
        spin_up: time marched before the first frame [T], so that it lies on the attractor; an option of some.
    """

    save_interval: float
    num_frames: int
    spin_up: float = 0.0

    solenoidal: ClassVar[tuple[str, ...]] = ()
    """Outputs that are the components, along x, y, z, of a field without divergence on a periodic box, if any."""

    order: ClassVar[int]
    """Observed order of the solver in time: what halving its step divides the error by, as a power of two."""

    # --- what a system says -------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Draw problems at time 0.

        Returns:
            Input fields ``(num_samples, inputs, *space)`` and coefficients ``(num_samples, coefficients)``, in float64;
            the random numbers drawn are the same on every grid.
        """

    @abc.abstractmethod
    def advance(
        self, inputs: Tensor, coefficients: Tensor, grid: Grid, *, interval: float, num_frames: int, refine: int = 1
    ) -> Tensor:
        """Return the states at ``interval``, ``2 interval``, … after the one given.

        Args:
            inputs: ``(batch, inputs, *space)`` at time 0.
            coefficients: ``(batch, coefficients)``.
            grid: where.
            interval: physical time between frames [T].
            num_frames: frames to return.
            refine: divides the solver's own step, to see its error.

        Returns:
            ``(batch, num_frames, outputs, *space)`` in the dtype and on the device of the inputs.

        Raises:
            DataError: if the numbers leave every bound.
        """

    def tendency(self, inputs: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        """Return the right-hand side F, ``(batch, outputs, *space)``, of a state ``(batch, inputs, *space)``.

        Left to itself it is the sum of the system's `terms`, by derivatives of the waves on a periodic grid. A system
        that declares none, or whose terms nobody can compute, overrides it.

        Raises:
            SignatureError: if it cannot be put together from terms on this grid.
        """
        names = self.signature
        fields = SpectralDerivatives({name: inputs[:, place] for place, name in enumerate(names.inputs)}, grid)
        numbers = {name: coefficients[:, place] for place, name in enumerate(names.coefficients)}
        sums = right_hand_side(self.terms, fields, numbers)
        silent = [name for name in names.outputs if name not in sums]
        if silent:
            raise SignatureError(
                f"'{self.name}' says by no term, and no tendency of its own, how '{silent[0]}' changes: "
                "declare its terms, or write `tendency`."
            )
        return torch.stack([sums[name] for name in names.outputs], dim=1)

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        """Return what an exact solution conserves, by name, dimensionless: over its own scale in the first frame.

        The scale is one that does not vanish with the quantity, such as rms(u) for mean(u). Left to itself nothing is.

        Args:
            state: ``(batch, time, outputs, *space)``, the first frame at time 0; behind the outputs stand the inputs
                that do not change in time, such as a medium, where there are any.

        Returns:
            ``(batch, time)`` each. Empty where nothing is conserved.
        """
        return {}

    def kept(self, grid: Grid) -> tuple[str, ...]:
        """Return the outputs whose integral over space stays what it is in the first frame; none: nobody says so."""
        return ()

    # --- what follows -------------------------------------------------------------------------------------------------

    @property
    def times(self) -> tuple[float, ...]:
        """Physical times of the frames of a trajectory [T]."""
        return tuple(self.save_interval * frame for frame in range(self.num_frames))

    def read_knobs(self, *, positive: tuple[str, ...] = (), not_negative: tuple[str, ...] = ()) -> None:
        """Bring every knob into its own form, whatever the caller wrote, and check how low it may go.

        Args:
            positive: knobs that are above zero.
            not_negative: knobs that are zero or above.

        Raises:
            ConfigError: if a knob is none or goes lower than it may.
        """
        for entry in self._entries():
            if isinstance(entry.default, Knob):
                object.__setattr__(self, entry.name, Knob.parse(getattr(self, entry.name)))
        for name in (*positive, *not_negative):
            low, strict = getattr(self, name).low, name in positive
            if low < 0 or (strict and low == 0):
                raise ConfigError(
                    f"Knob '{name}' of '{self.name}' needs low {'>' if strict else '>='} 0; got low={low:g}."
                )

    def draw_knobs(
        self, num_samples: int, generator: torch.Generator | None, device: torch.device
    ) -> Float[Tensor, "batch knob"]:
        """Return a value of every knob for each sample, in the order in which they are declared, in float64."""
        knobs = self.knobs.values()
        return torch.stack(
            [knob.draw(num_samples, generator, dtype=torch.float64, device=device) for knob in knobs], dim=1
        )

    def require_options(self) -> None:
        """Check the options that every evolving system has.

        Raises:
            ConfigError: if a trajectory has fewer than two frames, or they do not follow each other.
        """
        if not 0 < self.save_interval < math.inf:
            raise ConfigError(f"'{self.name}' needs a positive finite save_interval; got {self.save_interval}.")
        if not 0 <= self.spin_up < math.inf:
            raise ConfigError(f"'{self.name}' needs a finite spin_up, 0 or more; got {self.spin_up}.")
        if self.num_frames < 2:
            raise ConfigError(f"A trajectory of '{self.name}' has at least 2 frames; got num_frames={self.num_frames}.")

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        grid: Grid,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
        record: SamplingRecord | None = None,
    ) -> Batch:
        """Draw problems and solve them: trajectories, as `System.sample` says; targets have ``num_frames - 1`` frames.

        Raises:
            ConfigError: if `num_samples` or `dtype` is not allowed.
            SignatureError: if the system is not defined on this grid.
            DataError: if the solver's numbers leave every bound, for its step is too long for the knobs, or the
                trajectories need more memory than there is.
        """
        home, device = self.require_sampling(num_samples, grid, generator, dtype, device)
        if device.type == "cpu":
            self._require_room(num_samples, grid, dtype)
        parts = []
        for inputs, coefficients in self._drawn(num_samples, grid, generator, home):
            inputs, coefficients = inputs.to(device, dtype), coefficients.to(device, dtype)
            parts.append((inputs, coefficients, self._trajectories(inputs, coefficients, grid)))
        if record is not None:
            record.drawn += num_samples
        inputs, coefficients, targets = (torch.cat(part) for part in zip(*parts, strict=True))
        lead_time = torch.tensor(self.times[1:], dtype=dtype, device=device).expand(num_samples, -1)
        systems = (self.name,) * num_samples
        return Batch(self.signature, grid, inputs[:, None], coefficients, targets, systems, lead_time)

    @torch.no_grad()
    def sample_inputs(
        self,
        num_samples: int,
        grid: Grid,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
    ) -> Batch:
        home, device = self.require_sampling(num_samples, grid, generator, dtype, device)
        parts = zip(*self._drawn(num_samples, grid, generator, home), strict=True)
        inputs, coefficients = (torch.cat(part).to(device, dtype) for part in parts)
        return Batch(self.signature, grid, inputs[:, None], coefficients, systems=(self.name,) * num_samples)

    def _drawn(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, home: torch.device
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield problems at the time of their first frame, inputs and coefficients in float64, block by block."""
        for start in range(0, num_samples, _DRAW_BLOCK):
            inputs, coefficients = self.initial(min(_DRAW_BLOCK, num_samples - start), grid, generator, home)
            yield (self._spun_up(inputs, coefficients, grid) if self.spin_up else inputs), coefficients

    def _require_room(self, num_samples: int, grid: Grid, dtype: torch.dtype) -> None:
        frames = num_samples * self.num_frames * len(self.signature.outputs) * math.prod(grid.num_points)
        needed, free = frames * dtype.itemsize, psutil.virtual_memory().available
        if needed > free:
            raise DataError(
                f"{plural(num_samples, 'trajectory', 'trajectories')} of {self.num_frames:,} frames on "
                f"{grid.told_points} take {needed / 1e9:.3g} GB of memory, and {free / 1e9:.3g} GB are free. Ask for "
                "fewer frames, or for fewer trajectories at a time."
            )

    def _spun_up(self, inputs: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        """Return the problems `spin_up` later, in the float64 they were drawn in, whatever the trajectories are."""
        state = self.advance(inputs, coefficients, grid, interval=self.spin_up, num_frames=1)[:, 0]
        inputs = inputs.clone()
        for place, name in enumerate(self.signature.outputs):
            inputs[:, self.signature.inputs.index(name)] = state[:, place]
        return inputs

    def _trajectories(self, inputs: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        return self.advance(inputs, coefficients, grid, interval=self.save_interval, num_frames=self.num_frames - 1)

    @torch.no_grad()
    def solve(self, batch: Batch) -> Batch:
        """Return the batch with the frames at its lead times, marched from its last input frame.

        Raises:
            SignatureError: if the batch is not one of this system, or says no lead times.
            DataError: if the solver's numbers leave every bound.
        """
        self.require_ours(batch)
        return batch.with_targets(self._marched(batch))

    def _marched(self, batch: Batch) -> Tensor:
        steps = batch.lead_steps
        assert steps is not None, "require_ours has looked"
        coefficients = self._coefficients(batch)
        state, made = self._inputs(batch), []
        outputs = self.signature.state_places
        frame = 0
        while frame < batch.num_frames:
            # equal steps that follow each other are marched in one go; samples whose steps differ, one after the other
            same = 1
            while frame + same < batch.num_frames and torch.allclose(
                steps[:, frame + same], steps[:, frame], rtol=_SAME_STEP
            ):
                same += 1
            part = state.new_empty(len(state), same, len(outputs), *batch.grid.num_points)
            for interval in steps[:, frame].unique().tolist():
                rows = steps[:, frame] == interval
                part[rows] = self.advance(
                    state[rows], coefficients[rows], batch.grid, interval=interval, num_frames=same
                )
            made.append(part)
            state = state.index_copy(1, torch.tensor(outputs, device=state.device), part[:, -1])
            frame += same
        return torch.cat(made, dim=1)

    def residual(self, batch: Batch) -> Float[Tensor, "batch time output *space"]:
        """Return what the change from frame to frame misses of the solver's, over the time between them.

        ``(targets − solved) / lead time``, ``(batch, time, outputs, *space)``; unit: the state's over time.
        Differentiable with respect to the targets. How far the solver itself is from the equation is for
        `tendency` to say.

        Raises:
            SignatureError: if the batch is not one of this system or has no targets.
        """
        self.require_ours(batch)
        with torch.no_grad():
            solved = self._marched(batch)
        assert batch.lead_time is not None
        time = batch.lead_time.view(*batch.lead_time.shape, *(1,) * (1 + batch.grid.num_spatial_dims))
        names = batch.signature.outputs
        order = [names.index(name) for name in self.signature.outputs]
        return (batch.require_targets()[:, :, order] - solved) / time

    def invariants(self, batch: Batch) -> dict[str, Float[Tensor, " batch"]]:
        """Return by how much each of `quantities` drifts at most from the last input frame on, in float64."""
        return {f"{name}_drift": values.abs().amax(1) for name, values in self.drifts(batch).items()}

    @torch.no_grad()
    def drifts(self, batch: Batch) -> dict[str, Float[Tensor, "batch time"]]:
        """Return how far each of `quantities` is from its value in the last input frame, over its scale, in float64.

        Raises:
            SignatureError: if the batch is not one of this system or has no targets.
        """
        self.require_ours(batch)
        batch = batch.to(dtype=torch.float64)
        batch.require_targets()
        names = self.signature
        outputs = names.state_places
        constants = [place for place, name in enumerate(names.inputs) if name not in names.outputs]
        inputs = self._inputs(batch).unsqueeze(1)
        later = torch.stack([batch.target(name) for name in names.outputs], dim=2)
        state = torch.cat([inputs[:, :, outputs], later], dim=1)
        if constants:
            still = inputs[:, :, constants].expand(-1, state.shape[1], -1, *batch.grid.num_points)
            state = torch.cat([state, still], dim=2)
        found = self.quantities(state, self._coefficients(batch), batch.grid)
        return {name: values[:, 1:] - values[:, :1] for name, values in found.items()}

    def budgets(self, batch: Batch) -> dict[str, Float[Tensor, "batch time"]]:
        """Return what the integral of an output over space has to be at the lead times, by the name of the output.

        Left to itself: of those that are `kept`, what it is in the last input frame. A system whose fields change by
        what flows through the ends overrides it, where it knows that flow. The integral is that of
        `scifm.fields.norms`; targets play no part.

        Returns:
            ``(batch, time)`` each, in float64; unit: that of the field times length**dims.

        Raises:
            SignatureError: if the batch is not one of this system.
        """
        self.require_ours(batch)
        held = {name: integral(batch.field(name)[:, -1].double(), batch.grid) for name in self.kept(batch.grid)}
        assert batch.lead_time is not None, "require_ours has looked"
        return {name: start[:, None].expand(batch.lead_time.shape) for name, start in held.items()}

    def measured_knobs(self, batch: Batch) -> dict[str, Float[Tensor, " batch"]]:
        """Return the knobs that are coefficients by the same name."""
        names = batch.signature.coefficients
        return {name: batch.coefficient(name) for name in self.knobs if name in names}

    def require_ours(self, batch: Batch) -> None:
        super().require_ours(batch)
        if batch.lead_time is None:
            raise SignatureError(
                f"'{self.name}' evolves, and this batch does not say to which times: give lead_time, (batch, time)."
            )

    def _inputs(self, batch: Batch) -> Tensor:
        """Return the last input frame in the order of this system's names, ``(batch, inputs, *space)``."""
        return torch.stack([batch.field(name)[:, -1] for name in self.signature.inputs], dim=1)

    def _coefficients(self, batch: Batch) -> Tensor:
        names = self.signature.coefficients
        if not names:
            return batch.coefficients[:, :0]
        return torch.stack([batch.coefficient(name) for name in names], dim=1)

    def require_finite(self, state: Tensor, grid: Grid) -> None:
        """Raise DataError where the solver's numbers have left every bound, saying what to do."""
        if not bool(torch.isfinite(state).all()):
            raise DataError(
                f"The solver of '{self.name}' left every bound on {grid.told_points}: its step is too long for "
                f"these knobs, {self.told_knobs}. Give more points, weaker knobs, or a shorter step (its option "
                "max_step)."
            )
