"""Advection: a tracer carried along by a constant velocity, unchanged in shape, in one to three dimensions.

Equation
    ∂u/∂t + v·∇u = 0

Sign convention
    Where velocity_x > 0 the tracer moves towards larger x.

Domain and boundary
    A box with any sides, periodic, in one to three dimensions (option num_spatial_dims).

Fields (x runs along the last axis)
    tracer   u   [–]   (batch, time, [[nz,] ny,] nx)

Coefficients (constant in space, one number a sample)
    velocity_x, velocity_y, velocity_z   v   [L/T], as many as there are dimensions

Knobs
    speed   |v| [L/T], 0.2–1; the direction is drawn too, all alike, unless the option direction gives it

Dimensionless groups
    |v| t/L, the crossings of the box.

Initial state
    Random waves (`systems.initial`), 1 to 8 along a side, root mean square 1.

Exact solution
    u(x, t) = u(x − v t, 0).

Conserved
    The mean of u and of every function of u.

Solver and order
    The exact solution, mode by mode: û(t) = û(0) exp(−i k·v t), at any step. The Nyquist mode of an axis with an even
    number of points cannot move along that axis and stays (see `scifm.fields.spectral`).

Good values
    Any grid of more than 16 points a side; trajectories of 21 frames, 0.05 apart: one crossing at speed 1.

Where it breaks
    A tracer that is not smooth on the grid is carried as the trigonometric polynomial through its points, which rings.

References:
    PDEBench, arXiv:2210.07182, has the same equation in one dimension with velocities 0.1–7 on (0, 1):
    ``Advection(speed=[0.1, 7], direction=(1,), num_spatial_dims=1)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.term import Term
from scifm.systems.initial import RandomWaves
from scifm.systems.knobs import Knob
from scifm.systems.periodic_evolution import PeriodicEvolution

__all__ = ["Advection"]

_COMPONENTS = ("velocity_x", "velocity_y", "velocity_z")


@dataclass(frozen=True)
class Advection(PeriodicEvolution):
    """∂u/∂t + v·∇u = 0 on a periodic box; the module has the full description.

    Args:
        speed: knob, |v| [L/T].
        direction: of v, along x, y, z, of any length; empty: drawn for every sample.
        initial_state: how u is drawn at time 0.
        num_spatial_dims: 1, 2 or 3.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.

    Raises:
        ConfigError: if the speed can be zero or below, or an option is out of its range.
    """

    speed: Knob = Knob(0.2, 1.0)
    direction: tuple[float, ...] = ()
    initial_state: RandomWaves = field(default_factory=lambda: RandomWaves(max_wave=8, slope=1.0))
    num_spatial_dims: int = 2
    save_interval: float = 0.05
    num_frames: int = 21

    name: ClassVar[str] = "advection"
    equation: ClassVar[str] = "du/dt + v . grad(u) = 0 on a periodic box"
    keeps: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        self.read_knobs(positive=("speed",))
        self.require_options()
        length = math.hypot(*self.direction)
        if self.direction and (len(self.direction) != self.num_spatial_dims or not 0 < length < math.inf):
            raise ConfigError(
                f"A direction has {self.num_spatial_dims} finite parts, of which one is not zero; got "
                f"{self.direction}. Leave it out to have one drawn for every sample."
            )

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """The names, of as many dimensions as the option says."""
        velocity = _COMPONENTS[: self.num_spatial_dims]
        return Signature(("tracer",), velocity, ("tracer",), self.num_spatial_dims, evolves=True)

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:  # type: ignore[override]
        """u → s u; in two dimensions, where a velocity has a measure, also v → s v, t → t/s."""
        linear = Homogeneity((("tracer", 1.0),), ("tracer",), "rms")
        if self.num_spatial_dims != 2:
            return (linear,)
        powers = (("velocity_x", 1.0), ("velocity_y", 1.0), ("lead_time", -1.0))
        return (linear, Homogeneity(powers, ("velocity_x", "velocity_y"), "transport"))

    @property
    def terms(self) -> tuple[Term, ...]:  # type: ignore[override]
        """A slope along each axis."""
        return tuple(
            Term(f"derivative_{axis}", ("tracer",), of="tracer", coefficient=name, factor=-1.0)
            for axis, name in zip("xyz", self.signature.coefficients, strict=False)
        )

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        how: dict[str, Any] = {"dtype": torch.float64, "device": device}
        speed = self.speed.draw(num_samples, generator, **how)
        along = torch.randn(num_samples, self.num_spatial_dims, generator=generator, **how)
        if self.direction:
            along = torch.tensor(self.direction, **how).expand_as(along)
        velocity = speed[:, None] * along / torch.linalg.vector_norm(along, dim=1, keepdim=True)
        return self.initial_state.draw(num_samples, 1, grid, generator, device=device), velocity

    def symbol(self, waves: tuple[Tensor, ...], odd: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
        along = [self.per_sample(coefficients, i, len(odd)) * wave for i, wave in enumerate(odd[::-1])]  # x, y, z
        return -1j * torch.stack(torch.broadcast_tensors(*along)).sum(0)

    def kept(self, grid: Grid) -> tuple[str, ...]:
        return self.signature.outputs

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        space = state[:, :, 0].flatten(2)
        power = space.square().mean(-1)
        return {"tracer": space.mean(-1) / power[:, :1].sqrt(), "variance": power / power[:, :1]}

    def measured_knobs(self, batch: Batch) -> dict[str, Float[Tensor, " batch"]]:
        velocity = [batch.coefficient(name) for name in self.signature.coefficients]
        return {"speed": torch.linalg.vector_norm(torch.stack(velocity, dim=1), dim=1)}
