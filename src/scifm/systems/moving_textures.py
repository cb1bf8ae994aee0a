"""Moving textures: a pattern and a crowd of shapes that slide over each other, for what is no physics at all.

Equation
    ∂bₖ/∂t + vₖ·∇bₖ = 0 for two layers k, which know nothing of each other

Sign convention
    Where background_velocity_x > 0 the background moves towards larger x.

Domain and boundary
    A box with any sides, periodic, in one to three dimensions (option num_spatial_dims).

Fields (x runs along the last axis)
    background   b₁   [–]   (batch, time, [[nz,] ny,] nx), a texture of random waves
    foreground   b₂   [–]   the same, 0 between shapes and about 1 within them

Coefficients (constant in space, one number a sample)
    background_velocity_x, background_velocity_y, background_velocity_z   v₁   [L/T], as many as there are dimensions
    foreground_velocity_x, foreground_velocity_y, foreground_velocity_z   v₂   [L/T], the same

Knobs
    speed   |vₖ| [L/T], 0.1–1, drawn for each layer; the directions are drawn too, all alike

Dimensionless groups
    |vₖ| t/L, the crossings of the box.

Initial state
    Background: random waves (`systems.initial`), 1 to 8 along a side, root mean square 1. Foreground: shapes of radius
    0.08 to 0.2 of the shortest side at random places, each the ball of a p-norm with p from 2 to 8 (from a disk to
    nearly a box), brightness 0.5 to 1; edges fall off over `edge` of that side, and where shapes meet they
    add up.

Exact solution
    bₖ(x, t) = bₖ(x − vₖ t, 0).

Conserved
    The mean of each layer and of every function of it.

Solver and order
    The exact solution, mode by mode, as of `systems.advection`.

Good values
    At least 32 points a side, so that edges are smooth on the grid.

Where it breaks
    Edges thinner than a cell ring.

References:
    McCabe et al., "Multiple physics pretraining for spatiotemporal surrogate models", arXiv:2310.02994: networks that
    were pre-trained on videos of people (Kinetics-400, Something-Something V2) beat those from scratch on compressible
    flow. What moves and is no physics tells how much of a gain that is; as a source of a study it is one like others.
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
from scifm.fields.spectral import gradient
from scifm.systems.initial import RandomWaves
from scifm.systems.knobs import Knob
from scifm.systems.periodic_evolution import PeriodicEvolution

__all__ = ["MovingTextures"]

_LAYERS = ("background", "foreground")
_RADII, _POWERS, _BRIGHTNESS = (0.08, 0.2), (2.0, 8.0), (0.5, 1.0)


@dataclass(frozen=True)
class MovingTextures(PeriodicEvolution):
    """Two layers that move, each with its own velocity, on a periodic box; the module has the full description.

    Args:
        speed: knob, |v| of each layer [L/T].
        num_shapes: of the foreground.
        edge: over which a shape falls from its brightness to nothing, in parts of the shortest side.
        texture: how the background is drawn.
        num_spatial_dims: 1, 2 or 3.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.

    Raises:
        ConfigError: if the speed can be zero or below, or an option is out of its range.
    """

    speed: Knob = Knob(0.1, 1.0)
    num_shapes: int = 6
    edge: float = 0.04
    texture: RandomWaves = field(default_factory=lambda: RandomWaves(max_wave=8, slope=1.0))
    num_spatial_dims: int = 2
    save_interval: float = 0.05
    num_frames: int = 21

    name: ClassVar[str] = "moving_textures"
    equation: ClassVar[str] = "db/dt + v . grad(b) = 0 for two layers on a periodic box"
    keeps: ClassVar[float] = math.inf

    def __post_init__(self) -> None:
        self.read_knobs(positive=("speed",))
        self.require_options()
        if self.num_shapes < 1 or not 0 < self.edge < 1:
            raise ConfigError(
                f"'{self.name}' needs num_shapes of at least 1 and an edge between 0 and 1 of a side; got "
                f"{self.num_shapes} and {self.edge}."
            )

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """The names, of as many dimensions as the option says."""
        velocities = tuple(f"{layer}_velocity_{axis}" for layer in _LAYERS for axis in "xyz"[: self.num_spatial_dims])
        return Signature(_LAYERS, velocities, _LAYERS, self.num_spatial_dims, evolves=True)

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:  # type: ignore[override]
        """bₖ → sₖ bₖ, each layer by itself."""
        return tuple(Homogeneity(((layer, 1.0),), (layer,), "rms") for layer in _LAYERS)

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        how: dict[str, Any] = {"dtype": torch.float64, "device": device}
        shape = (num_samples, len(_LAYERS), self.num_spatial_dims)
        along = torch.randn(shape, generator=generator, **how)
        speeds = torch.stack([self.speed.draw(num_samples, generator, **how) for _ in _LAYERS], dim=1)
        velocity = speeds[..., None] * along / torch.linalg.vector_norm(along, dim=-1, keepdim=True)
        background = self.texture.draw(num_samples, 1, grid, generator, device=device)
        return torch.cat([background, self._shapes(num_samples, grid, generator, device)], dim=1), velocity.flatten(1)

    def _shapes(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> Float[Tensor, "batch 1 *space"]:
        dims, least = grid.num_spatial_dims, min(grid.extent)
        drawn = torch.rand(
            num_samples, self.num_shapes, dims + 3, generator=generator, dtype=torch.float64, device=device
        )
        radius, power, bright = (
            low + (high - low) * drawn[..., dims + place]
            for place, (low, high) in enumerate((_RADII, _POWERS, _BRIGHTNESS))
        )
        total = torch.zeros(num_samples, self.num_shapes, *grid.num_points, dtype=torch.float64, device=device)
        on_grid = (..., *(None,) * dims)
        for axis, (num, side) in enumerate(zip(grid.num_points, grid.extent, strict=True)):
            along = torch.arange(num, dtype=torch.float64, device=device).mul(side / num)
            away = along - side * drawn[..., axis, None]
            # a period of the sine, as near as the distance itself close to the middle, and smooth where it ends
            away = (side / math.pi * torch.sin(math.pi * away / side)).abs() / (least * radius[..., None])
            away = away.view(num_samples, self.num_shapes, *(num if here == axis else 1 for here in range(dims)))
            total = total + away.clamp(min=1e-12) ** power[on_grid]
        distance = (total ** (1 / power[on_grid]) - 1) * radius[on_grid]
        return (bright[on_grid] * torch.sigmoid(-4 * distance / self.edge)).sum(1, keepdim=True)

    def symbol(self, waves: tuple[Tensor, ...], odd: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
        layers = coefficients.unflatten(1, (len(_LAYERS), -1))
        along = [
            layers[:, :, axis].view(*layers.shape[:2], *(1,) * len(odd)) * wave for axis, wave in enumerate(odd[::-1])
        ]
        return -1j * torch.stack(torch.broadcast_tensors(*along)).sum(0)

    def tendency(self, inputs: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        layers, dims = coefficients.unflatten(1, (len(_LAYERS), -1)), grid.num_spatial_dims
        slopes = gradient(inputs, grid)[::-1]  # along x, y, z
        velocity = [layers[:, :, axis].view(*layers.shape[:2], *(1,) * dims) for axis in range(dims)]
        return -torch.stack([v * slope for v, slope in zip(velocity, slopes, strict=True)]).sum(0)

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for place, layer in enumerate(_LAYERS):
            values = state[:, :, place].flatten(2)
            power = values.square().mean(-1)
            found |= {layer: values.mean(-1) / power[:, :1].sqrt(), f"{layer}_power": power / power[:, :1]}
        return found

    def measured_knobs(self, batch: Batch) -> dict[str, Float[Tensor, " batch"]]:
        """Return the mean speed of the two layers."""
        axes = "xyz"[: self.num_spatial_dims]
        speeds = [
            torch.linalg.vector_norm(
                torch.stack([batch.coefficient(f"{layer}_velocity_{axis}") for axis in axes], dim=1), dim=1
            )
            for layer in _LAYERS
        ]
        return {"speed": torch.stack(speeds).mean(0)}
