"""Acoustic waves in a medium whose speed of sound differs from place to place.

Equation
    ∂²p/∂t² = c(x)² Δp, as ∂p/∂t = −c² ∇·u and ∂u/∂t = −∇p: the density is constant, and p is the pressure over it.
    With an absorbing layer ∂pᵢ/∂t = −c² ∂uᵢ/∂xᵢ − σᵢpᵢ and ∂uᵢ/∂t = −∂p/∂xᵢ − σᵢuᵢ, i over the axes, p = Σ pᵢ.

Sign convention
    c > 0. p is the pressure above that at rest, of either sign. A wave with p = cu moves towards larger x. σ ≥ 0 damps.

Domain and boundary
    A box with any sides, periodic, in one to three dimensions (option num_spatial_dims). With absorbing_layer > 0, a
    thickness [L], waves that reach the ends of any axis are damped there, so that the inside behaves as an open field:
    σᵢ = c(x) aᵢ(xᵢ), aᵢ rising from 0 where the layer begins as the square of the way into it. Along one axis a wave
    that goes through the layers on both sides keeps 1e-4 of its amplitude, whatever c is.

Fields (x runs along the last axis)
    pressure                            p         [L²/T²]  (batch, time, nx)            in one dimension
    velocity                            u         [L/T]    the same                     in one dimension
    velocity_x, velocity_y, velocity_z  u₁, u₂, … [L/T]    (batch, time, [nz,] ny, nx)  in more
    pressure_x, pressure_y              p₁, …     [L²/T²]  the same; with an absorbing layer only: the first in two
                                                           dimensions, both in three; the rest of p is the last pᵢ
    wave_speed                          c         [L/T]    the same; does not change in time
    damping_x, damping_y, damping_z     aᵢ        [1/L]    the same, damping in one dimension; with an absorbing layer
                                                           only, which stands in the box: no number says where

Coefficients (constant in space, one number a sample)
    none: the medium is a field

Knobs
    mean_speed           c₀  [L/T], 0.7–1.4, drawn on a log scale: the geometric mean of c
    contrast             [1], 0.05–0.3: the standard deviation of log c
    correlation_length   ℓ   [L], 0.1–0.4: over which c changes, see `scifm.systems.media.RandomMedium`
    pulse_width          w   [L], 0.05–0.1: of the pulses at time 0

Dimensionless groups
    Contrast; pulse width over correlation length, 0.12–1 (much below: rays, much above: an effective medium); crossings
    of the box c₀T/L, 0.7–1.4 in a default trajectory.

Initial state
    c = c₀ exp(contrast · g), g random or layered (option medium). Three pulses (option pulses) at random places, each
    on its way somewhere: p = c₀ Σ fⱼ, and u is Σ vⱼfⱼ, |vⱼ| ≤ 1, without its mean and what of it turns about.
    With an absorbing layer all pᵢ are alike.

Exact solution
    In one dimension and a uniform medium d'Alembert's: p = f(x − ct) + g(x + ct). In two, by Green's function
    H(ct − r)/(2πc √(c²t² − r²)) of p when its rate is δ in space at time 0 and p itself zero.

Conserved
    Without the layer the energy ∫ (p²/c² + |u|²)/2, the mass ∫ p/c² and the momentum ∫ u.

Solver and order
    The rapid expansion in Chebyshev polynomials (`solvers.rapid_expansion`), spectral in space: no error in time but
    rounding. The layer is split off, symmetrically: order 2. Measured with a layer of 0.15 and a pulse of width 0.05
    in the middle of the unit box of 64 points: inside, the pressure differs from that in the open by 3e-4 of it in two
    dimensions over one unit of time; in one dimension by 1e-4 of the pulse, which is what the layers let through.

Good values
    64 points a side for the default knobs; trajectories of 21 frames, 0.05 apart.

Where it breaks
    Pulses and changes of c thinner than two grid spacings ring. A layer of fewer than about 8 points reflects; grazing
    waves are damped less; what lies inside the layer is no physics. Waves of the medium, up to 8 along an axis, ask for
    17 points.

References:
    Tal-Ezer, Kosloff and Koren, Geophysical Prospecting 35 (1987) 479; Berenger, J. Comput. Phys. 114 (1994) 185;
    Evans, Partial Differential Equations, 2nd ed., section 2.4 (formulas of d'Alembert and Poisson).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from scifm.errors import ConfigError, DataError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.spectral import divergence, gradient, require_periodic, wavenumbers
from scifm.systems.evolving import Evolving
from scifm.systems.knobs import Knob
from scifm.systems.media import Pulses, RandomMedium
from scifm.systems.solvers.rapid_expansion import WaveMarch

__all__ = ["Acoustic"]

_KEPT = 1e-4  # of the amplitude of a wave that goes through the layers on both sides of an axis
_STEP = 0.05  # of the splitting, in crossings of one layer at the highest mean speed
_PIECE_NUMBERS = {"cpu": 2**15}  # of the states marched at once: few, to stay in the cache
_PIECE_NUMBERS_ELSEWHERE = 2**24


@dataclass(frozen=True)
class Acoustic(Evolving):
    """p_tt = c(x)² Δp on a periodic box or with absorbing layers; the module has the full description.

    Args:
        mean_speed: knob, c₀ [L/T].
        contrast: knob, standard deviation of log c; 0: a uniform medium.
        correlation_length: knob, ℓ [L].
        pulse_width: knob, w [L].
        medium: how c differs from place to place.
        pulses: what waves start from.
        absorbing_layer: thickness of the layer at both ends of every axis [L]; 0: the box is periodic.
        num_spatial_dims: 1, 2 or 3.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.

    Raises:
        ConfigError: if a knob can take a value that makes no sense, or an option is out of its range.
    """

    mean_speed: Knob = Knob(0.7, 1.4, scale="log")
    contrast: Knob = Knob(0.05, 0.3)
    correlation_length: Knob = Knob(0.1, 0.4)
    pulse_width: Knob = Knob(0.05, 0.1)
    medium: RandomMedium = field(default_factory=RandomMedium)
    pulses: Pulses = field(default_factory=Pulses)
    absorbing_layer: float = 0.0
    num_spatial_dims: int = 2
    save_interval: float = 0.05
    num_frames: int = 21

    name: ClassVar[str] = "acoustic"
    equation: ClassVar[str] = "d2p/dt2 = wave_speed(x)^2 * laplace(p) on a periodic box or with absorbing layers"
    order: ClassVar[int] = 2  # of the splitting of the layer; without it there is no error in time

    def __post_init__(self) -> None:
        self.read_knobs(positive=("mean_speed", "correlation_length", "pulse_width"), not_negative=("contrast",))
        if not 0 <= self.absorbing_layer < math.inf:
            raise ConfigError(
                f"'acoustic' needs absorbing_layer >= 0, a thickness; got {self.absorbing_layer}. 0: a periodic box."
            )
        if self.num_spatial_dims not in (1, 2, 3):
            raise ConfigError(f"'acoustic' has 1, 2 or 3 dimensions; got num_spatial_dims={self.num_spatial_dims!r}.")
        self.require_options()

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """p, u along each axis, with a layer what of p belongs to all axes but the last, and c; with a layer aᵢ."""
        dims, layer = self.num_spatial_dims, self.absorbing_layer > 0
        ends = ("",) if dims == 1 else ("_x", "_y", "_z")[:dims]
        apart = ("pressure_x", "pressure_y")[: dims - 1] if layer else ()
        state = ("pressure", *(f"velocity{end}" for end in ends), *apart)
        still = ("wave_speed", *(f"damping{end}" for end in ends if layer))
        return Signature((*state, *still), (), state, dims, evolves=True)

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:  # type: ignore[override]
        """c → s c, p → s p, t → t/s; and p → s p, u → s u."""
        state = self.signature.outputs
        pressures = tuple((name, 1.0) for name in state if name.startswith("pressure"))
        larger = tuple((name, 1.0) for name in state)
        faster = (("wave_speed", 1.0), *pressures, ("lead_time", -1.0))
        return Homogeneity(faster, ("wave_speed",), "rms"), Homogeneity(larger, ("pressure",), "rms")

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        knobs = (self.mean_speed, self.contrast, self.correlation_length, self.pulse_width)
        drawn = (knob.draw(num_samples, generator, dtype=torch.float64, device=device) for knob in knobs)
        mean, contrast, length, width = drawn
        shape = (-1, *(1,) * grid.num_spatial_dims)
        speed = mean.view(shape) * torch.exp(contrast.view(shape) * self.medium.draw(length, grid, generator))
        bumps, moving = self.pulses.draw(width, grid, generator, margin=self.absorbing_layer)
        pressure, dims = mean.view(shape) * bumps, grid.num_spatial_dims
        apart = [pressure / dims] * (dims - 1) if self.absorbing_layer else []
        fields = [pressure, *_irrotational(moving, grid).unbind(1)[::-1], *apart, speed]
        if self.absorbing_layer:
            fields += [damping.expand_as(speed) for damping in self._layer(grid, speed)[::-1]]
        return torch.stack(fields, dim=1), mean.new_empty(num_samples, 0)

    @torch.no_grad()
    def advance(
        self, inputs: Tensor, coefficients: Tensor, grid: Grid, *, interval: float, num_frames: int, refine: int = 1
    ) -> Tensor:
        speed, layer = self._medium(inputs)
        num_steps = refine
        if layer is not None:
            step = _STEP * self.absorbing_layer / self.mean_speed.high
            num_steps *= max(1, math.ceil(interval / step - 1e-9))
        numbers = _PIECE_NUMBERS.get(inputs.device.type, _PIECE_NUMBERS_ELSEWHERE)
        piece = max(1, numbers // (2 * math.prod(grid.num_points)))
        turned = self._in_array_order(grid.num_spatial_dims)
        made = inputs.new_empty(len(inputs), num_frames, len(turned), *grid.num_points)
        for start in range(0, len(inputs), piece):
            rows = slice(start, start + piece)
            here = speed[rows]
            damping = None if layer is None else here.unsqueeze(1) * layer[rows]
            march = WaveMarch(here, grid, interval, num_frames, damping=damping, num_steps=num_steps)
            made[rows] = march(inputs[rows][:, turned], num_frames)[:, :, turned]
        self.require_finite(made, grid)
        return made

    def tendency(self, inputs: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        dims, turned = grid.num_spatial_dims, self._in_array_order(grid.num_spatial_dims)
        pressure, *rest = inputs[:, turned].unbind(1)
        velocity, others = rest[:dims], rest[dims:]
        speed, layer = self._medium(inputs)
        square = speed.square()
        if layer is None:
            rates = [-square * divergence(velocity, grid), *(-slope for slope in gradient(pressure, grid))]
            return torch.stack(rates, dim=1)[:, turned]
        each = (speed.unsqueeze(1) * layer).unbind(1)
        parts = [pressure - torch.stack(others).sum(0) if others else pressure, *others]
        flows = [gradient(part, grid)[axis] for axis, part in enumerate(velocity)]
        given = [-square * flow - damping * part for flow, damping, part in zip(flows, each, parts, strict=True)]
        pushed = zip(gradient(pressure, grid), each, velocity, strict=True)
        rates = [torch.stack(given).sum(0), *(-slope - damping * part for slope, damping, part in pushed), *given[1:]]
        return torch.stack(rates, dim=1)[:, turned]

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        if self.absorbing_layer:
            return {}
        pressure, velocity, speed = state[:, :, 0], state[:, :, 1:-1], state[:, :, -1]

        def mean(field: Tensor) -> Tensor:
            return field.flatten(2).mean(2)

        energy = mean((pressure / speed).square()) + mean(velocity.square().sum(2))
        held = pressure / speed.square()
        result = {"energy": energy / energy[:, :1], "mass": mean(held) / mean(held.square())[:, :1].sqrt()}
        size = mean(velocity.square().sum(2))[:, :1].sqrt()
        for axis, part in zip("xyz", velocity.unbind(2), strict=False):
            result["momentum" if self.num_spatial_dims == 1 else f"momentum_{axis}"] = mean(part) / size
        return result

    def measured_knobs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean speed and, of a random medium, its contrast; the other knobs cannot be told from a batch."""
        if self.medium.kind != "random":
            return {}
        logs = batch.field("wave_speed")[:, -1].flatten(1).log()
        return {"mean_speed": logs.mean(1).exp(), "contrast": logs.std(1, correction=0)}

    def require_grid(self, grid: Grid) -> None:
        super().require_grid(grid)
        require_periodic(grid)
        if not 2 * self.absorbing_layer < min(grid.extent):
            raise SignatureError(
                f"Two absorbing layers of {self.absorbing_layer:g} leave nothing of a box with sides {grid.extent}; "
                f"give absorbing_layer below {min(grid.extent) / 2:g}."
            )

    def _in_array_order(self, dims: int) -> list[int]:
        """Return the places of the state with what belongs to axes in array order; it is its own inverse."""
        apart = range(2 * dims - 1, dims, -1) if self.absorbing_layer else ()
        return [0, *range(dims, 0, -1), *apart]

    def _layer(self, grid: Grid, like: Tensor) -> list[Tensor]:
        """Return aᵢ = σᵢ/c [1/L] of each axis in array order, ``space`` each with sides of 1 along other axes."""
        highest = -1.5 * math.log(_KEPT) / self.absorbing_layer  # for the square of the way, over two layers
        lines = []
        for axis, (points, side) in enumerate(zip(grid.coordinates(device=like.device), grid.extent, strict=True)):
            way = (1 - torch.minimum(points, side - points) / self.absorbing_layer).clamp(min=0)
            lines.append((highest * way.square()).view(-1, *(1,) * (grid.num_spatial_dims - 1 - axis)))
        return lines

    def _medium(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return c, ``(batch, *space)``, and aᵢ, ``(batch, axes, *space)`` in array order; None: nothing is damped."""
        place = len(self.signature.outputs)
        speed, layer = inputs[:, place], inputs[:, place + 1 :].flip(1)
        if not bool((speed > 0).all()) or not bool(torch.isfinite(speed).all()):
            raise DataError(
                "A 'wave_speed' is positive and finite everywhere; the given one is not. Look at what was read in its "
                "place, and fill points where it is missing."
            )
        if not self.absorbing_layer:
            return speed, None
        if not bool((layer >= 0).all()):
            raise DataError("A 'damping' is zero or positive everywhere; the given one is not.")
        return speed, layer


def _irrotational(velocity: Tensor, grid: Grid) -> Tensor:
    """Return the part of a velocity ``(batch, axis, *space)`` that is a gradient: without its mean and its curl."""
    axes = grid.axes_of(velocity)
    waves = torch.stack(torch.broadcast_tensors(*wavenumbers(grid, odd=True, device=velocity.device)))
    square = waves.square().sum(0)
    along = (torch.fft.rfftn(velocity, dim=axes) * waves).sum(1) / torch.where(square > 0, square, math.inf)
    return torch.fft.irfftn(along.unsqueeze(1) * waves, s=grid.num_points, dim=axes)
