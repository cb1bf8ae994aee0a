"""Acoustic waves in a medium whose speed of sound differs from place to place.

Equation
    ∂²p/∂t² = c(x)² Δp, as ∂p/∂t = q, ∂q/∂t = c² Δp: of constant density.
    With an absorbing layer (∂/∂t + σ)² p = c² Δp, as ∂p/∂t = q − σp, ∂q/∂t = c² Δp − σq.

Sign convention
    c > 0. p is the pressure above that at rest, of either sign; q is its rate. σ ≥ 0 damps.

Domain and boundary
    A box with any sides, periodic, in one to three dimensions (option num_spatial_dims). With absorbing_layer > 0, a
    thickness [L], waves that reach the ends of any axis are damped there, so that the inside behaves as an open field:
    σ(x) = c(x) Σ a(dist), a rising from 0 where the layer begins as the square of the way into it. Along one axis a
    wave that goes through the layers on both sides keeps 1e-4 of its amplitude, whatever c is.

Fields (x runs along the last axis)
    pressure        p   [P]     (batch, time, [[nz,] ny,] nx)
    pressure_rate   q   [P/T]   (batch, time, [[nz,] ny,] nx)
    wave_speed      c   [L/T]   the same; does not change in time

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
    c = c₀ exp(contrast · g), g random or layered (option medium). Three pulses (option pulses) at random places p = Σ pⱼ,
    each with a drift vⱼ, |vⱼ| ≤ 1: q = −(c²/c₀) Σ vⱼ·∇pⱼ, so that the mean of q/c² is zero and that of p does not run away.

Exact solution
    In one dimension and a uniform medium d'Alembert's: p = f(x − ct) + g(x + ct). In two, by Green's function
    H(ct − r)/(2πc √(c²t² − r²)) of a source q, δ in space at time 0. In one dimension at normal incidence on a step from
    c₁ to c₂ the pulse is reflected with (c₂ − c₁)/(c₂ + c₁).

Conserved
    Without the layer the energy ∫ (q²/c² + |∇p|²)/2.

Solver and order
    The rapid expansion in Chebyshev polynomials (`solvers.rapid_expansion`), spectral in space: no error in time but
    rounding. The layer is split off, symmetrically: order 2. Measured, layer of 0.15 and pulses of 0.05 on 128 points of the
    unit line: what comes back is 1e-3 of what went in.

Good values
    64 points a side for the default knobs; trajectories of 21 frames, 0.05 apart.

Where it breaks
    Pulses and changes of c thinner than two grid spacings ring. A layer thinner than a wave is long reflects it; grazing
    waves are damped less. Knobs ask for waves of the medium up to 8 along an axis: 17 points at least.

References:
    Tal-Ezer, Kosloff and Koren, Geophysical Prospecting 35 (1987) 479; Cerjan, Kosloff, Kosloff and Reshef, Geophysics 50
    (1985) 705; Evans, Partial Differential Equations, 2nd ed., section 2.4 (formulas of d'Alembert and Poisson).
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
from scifm.fields.spectral import divergence, laplacian, require_periodic
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
        for name in ("mean_speed", "contrast", "correlation_length", "pulse_width"):
            knob = Knob.parse(getattr(self, name))
            object.__setattr__(self, name, knob)
            if knob.low < 0 or (knob.low == 0 and name != "contrast"):
                least = ">= 0" if name == "contrast" else "> 0"
                raise ConfigError(f"Knob '{name}' of 'acoustic' needs low {least}; got low={knob.low:g}.")
        if not 0 <= self.absorbing_layer < math.inf:
            raise ConfigError(
                f"'acoustic' needs absorbing_layer >= 0, a thickness; got {self.absorbing_layer}. 0: a periodic box."
            )
        if self.num_spatial_dims not in (1, 2, 3):
            raise ConfigError(f"'acoustic' has 1, 2 or 3 dimensions; got num_spatial_dims={self.num_spatial_dims!r}.")
        self.require_options()

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        state = ("pressure", "pressure_rate")
        return Signature((*state, "wave_speed"), (), state, self.num_spatial_dims, evolves=True)

    @property
    def homogeneities(self) -> tuple[Homogeneity, ...]:  # type: ignore[override]
        """p → s p, q → s q; and c → s c, q → s q, t → t/s."""
        size = Homogeneity((("pressure", 1.0), ("pressure_rate", 1.0)), gauge=("pressure",), measure="rms")
        powers = (("wave_speed", 1.0), ("pressure_rate", 1.0), ("lead_time", -1.0))
        return size, Homogeneity(powers, gauge=("wave_speed",), measure="rms")

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        knobs = (self.mean_speed, self.contrast, self.correlation_length, self.pulse_width)
        mean, contrast, length, width = (
            knob.draw(num_samples, generator, dtype=torch.float64, device=device) for knob in knobs
        )
        shape = (-1, *(1,) * grid.num_spatial_dims)
        speed = mean.view(shape) * torch.exp(contrast.view(shape) * self.medium.draw(length, grid, generator))
        pressure, moving = self.pulses.draw(width, grid, generator, margin=self.absorbing_layer)
        spread = divergence(moving.unbind(1), grid)
        rate = -speed.square() / mean.view(shape) * spread
        return torch.stack([pressure, rate, speed], dim=1), mean.new_empty(num_samples, 0)

    @torch.no_grad()
    def advance(
        self, inputs: Tensor, coefficients: Tensor, grid: Grid, *, interval: float, num_frames: int, refine: int = 1
    ) -> Tensor:
        speed = self._speed(inputs)
        layer = self._layer(grid, inputs)
        num_steps = refine
        if layer is not None:
            step = _STEP * self.absorbing_layer / self.mean_speed.high
            num_steps *= max(1, math.ceil(interval / step - 1e-9))
        numbers = _PIECE_NUMBERS.get(inputs.device.type, _PIECE_NUMBERS_ELSEWHERE)
        piece = max(1, numbers // (2 * math.prod(grid.num_points)))
        made = inputs.new_empty(len(inputs), num_frames, 2, *grid.num_points)
        for start in range(0, len(inputs), piece):
            rows = slice(start, start + piece)
            here = speed[rows]
            damping = None if layer is None else here * layer
            march = WaveMarch(here, grid, interval, num_frames, damping=damping, num_steps=num_steps)
            made[rows] = march(inputs[rows, :2], num_frames)
        self.require_finite(made, grid)
        return made

    def tendency(self, inputs: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        pressure, rate, speed = inputs.unbind(1)
        layer = self._layer(grid, inputs)
        damping = 0.0 if layer is None else speed * layer
        return torch.stack(
            [rate - damping * pressure, speed.square() * laplacian(pressure, grid) - damping * rate], dim=1
        )

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        if self.absorbing_layer:
            return {}
        pressure, rate, speed = state.unbind(2)
        bent = -pressure * laplacian(pressure, grid)  # by parts; and, unlike gradients, with the highest mode
        energy = 0.5 * ((rate / speed).square() + bent).flatten(2).mean(-1)
        return {"energy": energy / energy[:, :1]}

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

    def _layer(self, grid: Grid, like: Tensor) -> Tensor | None:
        """Return σ/c [1/L] on the grid; None where nothing is damped."""
        if not self.absorbing_layer:
            return None
        highest = -1.5 * math.log(_KEPT) / self.absorbing_layer  # for the square of the way, over two layers
        total = like.new_zeros(grid.num_points)
        for axis, (points, side) in enumerate(zip(grid.coordinates(device=like.device), grid.extent, strict=True)):
            inside = torch.minimum(points, side - points)
            way = (1 - inside / self.absorbing_layer).clamp(min=0)
            line = (highest * way.square()).to(like.dtype)
            total += line.view(-1, *(1,) * (grid.num_spatial_dims - 1 - axis))
        return total

    def _speed(self, inputs: Tensor) -> Tensor:
        speed = inputs[:, 2]
        if not bool((speed > 0).all()) or not bool(torch.isfinite(speed).all()):
            raise DataError(
                "A 'wave_speed' is positive and finite everywhere; the given one is not. Look at what was read in its "
                "place, and fill points where it is missing."
            )
        return speed
