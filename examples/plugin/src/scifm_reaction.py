"""Cubic reaction: diffusion against a reaction that grows with the third power, on a periodic box.

Equation
    −ℓ² Δu + u + u³ = f.

Sign convention
    f > 0 is a source: where f is large, u is large.

Domain and boundary
    A periodic box of any sides. The left side grows with u everywhere, so every f has exactly one solution.

Fields (x runs along the last axis)
    forcing    f   [1]   (batch, 1, ny, nx)   also called source
    solution   u   [1]   (batch, 1, ny, nx)

Coefficients (constant in space, one number a sample)
    length   ℓ   [L]   above 0

Knobs
    length      ℓ, 0.02–0.1
    amplitude   rms of u, 0.2–1: how much the third power counts

Dimensionless groups
    ℓ over the side; the amplitude.

Exact solution
    u is drawn, 3 waves a side at most, and f computed from it: a manufactured solution, exact for every sample.

Solver and order
    u ← u − (c − ℓ²Δ)⁻¹ (−ℓ²Δu + u + u³ − f) with c = 1 + 3M²/2 and |u| ≤ M = min(F, F^⅓), F = max|f|. The error shrinks
    at least by (c − 1)/c a step. Derivatives are spectral.

Good values
    20 points a side hold u³ without aliasing.

Where it breaks
    Large amplitudes: the number of steps grows with F^⅔, and 10,000 are the most.

References:
    Evans, "Partial Differential Equations", 2nd edition, AMS 2010, section 9.1 (monotone operators).
"""

# --8<-- [start:code]
from dataclasses import dataclass

import torch

from scifm.errors import ConfigError, DataError
from scifm.fields.batch import Batch, Signature
from scifm.fields.spectral import laplacian, wavenumbers
from scifm.systems.knobs import Knob
from scifm.systems.system import System


@dataclass(frozen=True)
class CubicReaction(System):
    """−ℓ² Δu + u + u³ = f."""

    length: Knob = Knob(0.02, 0.1)
    amplitude: Knob = Knob(0.2, 1)

    name = "cubic_reaction"
    equation = "-l^2 lap u + u + u^3 = f on a periodic box"
    signature = Signature(inputs=("forcing",), coefficients=("length",), outputs=("solution",))
    homogeneities = ()  # the third power lets nothing be rescaled

    def __post_init__(self):
        if not min(self.length.low, self.amplitude.low) > 0:
            raise ConfigError(f"'cubic_reaction' needs knobs > 0; got {self.length} and {self.amplitude}.")

    def sample(self, num_samples, grid, generator=None, *, dtype=torch.float32, device=None, record=None):
        source = generator.device if generator is not None else device
        drawn = {"generator": generator, "dtype": torch.float64, "device": source}
        length, amplitude = (knob.draw(num_samples, **drawn) for knob in (self.length, self.amplitude))
        solution = torch.randn(num_samples, *(7,) * grid.num_spatial_dims, **drawn)
        for points, side in zip(grid.coordinates(device=source), grid.extent, strict=True):
            angle = 2 * torch.pi / side * points[:, None] * torch.arange(1, 4, device=source)
            waves = torch.cat([torch.ones_like(points)[:, None], angle.cos(), angle.sin()], 1)
            solution = torch.tensordot(solution, waves, ([1], [1]))  # the next axis comes to the front
        solution *= _column(amplitude / solution.flatten(1).square().mean(1).sqrt(), solution)
        forcing = self.left(solution, length, grid)
        fields = [field[:, None, None].to(device=device, dtype=dtype) for field in (forcing, solution)]
        coefficients = length[:, None].to(device=device, dtype=dtype)
        if record is not None:
            record.drawn += num_samples
        return Batch(self.signature, grid, fields[0], coefficients, fields[1], (self.name,) * num_samples)

    def solve(self, batch):
        forcing, length = batch.field("forcing")[:, 0], batch.coefficient("length")
        largest = forcing.abs().flatten(1).amax(1)
        shift = 1 + 1.5 * torch.minimum(largest, largest ** (1 / 3)) ** 2
        square = sum(wave**2 for wave in wavenumbers(batch.grid, dtype=forcing.dtype, device=forcing.device))
        axes, solution = tuple(range(1, forcing.dim())), torch.zeros_like(forcing)
        for _ in range(10_000):
            missing = self.left(solution, length, batch.grid) - forcing
            step = torch.fft.rfftn(missing, dim=axes) / (_column(shift, forcing) + _column(length**2, forcing) * square)
            solution = solution - torch.fft.irfftn(step, s=batch.grid.num_points, dim=axes)
            if bool((missing.abs().flatten(1).amax(1) <= 100 * torch.finfo(forcing.dtype).eps * largest).all()):
                return batch.with_targets(solution[:, None, None])
        raise DataError("'cubic_reaction' did not converge in 10,000 steps; lower the amplitude of the forcing.")

    def residual(self, batch):
        batch.require_targets()
        solution = batch.field("solution")[:, 0]
        left = self.left(solution, batch.coefficient("length"), batch.grid)
        return (left - batch.field("forcing")[:, 0])[:, None, None]

    def invariants(self, batch):
        batch = batch.to(dtype=torch.float64)
        solution, missing = batch.field("solution").flatten(1), self.residual(batch).flatten(1)
        forcing = batch.field("forcing").flatten(1)
        return {
            "mean_balance": missing.mean(1) / forcing.square().mean(1).sqrt(),
            "energy_balance": (solution * missing).mean(1) / (solution * forcing).abs().mean(1),
        }

    def left(self, solution, length, grid):
        """Return the left side of the equation, ``(batch, *space)``."""
        return solution + solution**3 - _column(length**2, solution) * laplacian(solution, grid)


def _column(values, fields):
    return values.view(-1, *(1,) * (fields.dim() - 1))


# --8<-- [end:code]
