"""The fast route of sampling: sums of separable Gaussians in a truncated real trigonometric basis.

A smooth forcing has no power beyond a few wavelengths of its width, so in float32 most of a fast transform computes
zeros. Here the transform of a forcing Σ a_ij g_i(y) h_j(x) is two small matrix products with the transformed profiles
g_i, h_j, the equation is solved on the M × M modes that matter, and two products write u on the grid. Every matrix is
made in float64 and cached; all arithmetic is real.

M is the smallest even number for which all that is dropped of 1/k² times the spectrum of every profile sums to less
than 1.5e-8 of the largest coefficient, a quarter of float32 round-off (M = 26 for the reference's forcing). Where the
grid does not hold M modes below its Nyquist wavenumber, where a symbol does not yet grow like k² at M, and for float64,
the general route (`solvers.elliptic`) is taken instead.

A pair of waves exp(i(k_x x ± k_y y)) is carried as ``real`` and ``imaginary``, each ``(batch, 2, M, M)``: axis 1 holds
the signs + and − of k_y, then come k_y ≥ 0 and k_x ≥ 0, and the amplitude of the wave is (real − i·imaginary) / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from scifm.fields.grid import Grid
from scifm.systems.forcing import GaussianForcing, samples_at_once
from scifm.systems.solvers.elliptic import Pair

__all__ = ["LowModes", "low_modes"]

_TOLERANCE = 1.5e-8
_MULTIPLE = 2
_STRONG_POWER = 1e-7


@dataclass(frozen=True)
class LowModes:
    """Matrices of one forcing on one grid; float32 except the wavenumbers.

    Args:
        analysis_y: ``(2M, centers)`` trigonometric coefficients of the profiles along y, cosines first.
        analysis_x: ``(centers, 2M)`` the same along x.
        synthesis_y: ``(ny, 2M)`` cosines and sines on the grid.
        synthesis_x: ``(2M, nx)`` the same along x.
        wave_y: ``(2, M, M)`` float64, ±k_y.
        wave_x: ``(2, M, M)`` float64, k_x.
        weights: ``(2, S, S)`` relative number of grid waves an entry stands for; 0 for the mean. The S lowest modes of
            an axis are the strong ones: others hold less than 1e-7 of any profile's power.
    """

    analysis_y: Tensor
    analysis_x: Tensor
    synthesis_y: Tensor
    synthesis_x: Tensor
    wave_y: Tensor
    wave_x: Tensor
    weights: Tensor

    @property
    def num_modes(self) -> int:
        return int(self.wave_x.shape[-1])

    @property
    def num_strong(self) -> int:
        return int(self.weights.shape[-1])

    @property
    def first_dropped_wave(self) -> float:
        """Smallest wavenumber that is left out, in 1/length."""
        m = self.num_modes
        return min(float(self.wave_x[0, 0, -1]), float(self.wave_y[0, -1, 0])) * m / (m - 1)

    def analyze(self, amplitudes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the waves of Σ a_ij g_i h_j, ``(batch, 2, M, M)`` twice; amplitudes ``(batch, centers, centers)``."""
        num, side, m = len(amplitudes), amplitudes.shape[1], self.num_modes
        rows = (amplitudes.reshape(num * side, side) @ self.analysis_x).view(num, side, 2 * m)
        blocks = torch.bmm(self.analysis_y.expand(num, -1, -1), rows).view(num, 2, m, 2, m)
        cos_cos, cos_sin, sin_cos, sin_sin = (blocks[:, i, :, j] for i in (0, 1) for j in (0, 1))
        real, imaginary = (amplitudes.new_empty(num, 2, m, m) for _ in range(2))
        torch.sub(cos_cos, sin_sin, out=real[:, 0])
        torch.add(cos_cos, sin_sin, out=real[:, 1])
        torch.add(cos_sin, sin_cos, out=imaginary[:, 0])
        torch.sub(cos_sin, sin_cos, out=imaginary[:, 1])
        return real, imaginary

    def multiply(self, waves: tuple[Tensor, Tensor], factor: Pair) -> tuple[Tensor, Tensor]:
        """Return the waves times one complex factor each; every tensor is ``(batch, 2, M, M)``."""
        real, imaginary = waves
        factor_real, factor_imaginary = factor
        if factor_imaginary is None:
            return real * factor_real, imaginary * factor_real
        return (
            (real * factor_real).addcmul_(imaginary, factor_imaginary),
            (imaginary * factor_real).addcmul_(real, factor_imaginary, value=-1.0),
        )

    def strong_power(self, waves: tuple[Tensor, Tensor]) -> Tensor:
        """Return the power of the strong waves, ``(batch, modes)``, up to one common factor; the mean has none."""
        strong = self.num_strong
        real, imaginary = (part[:, :, :strong, :strong] for part in waves)
        return (real * real).addcmul_(imaginary, imaginary).mul_(self.weights).flatten(1)

    @property
    def strong_waves(self) -> tuple[Tensor, Tensor]:
        """k_y and k_x of the strong waves, ``(modes,)`` each."""
        strong = self.num_strong
        return self.wave_y[:, :strong, :strong].flatten(), self.wave_x[:, :strong, :strong].flatten()

    def synthesize(self, waves: tuple[Tensor, Tensor], out: Tensor) -> None:
        """Write the field of these waves into `out`, ``(batch, ny, nx)``."""
        real, imaginary = waves
        num, m = len(real), self.num_modes
        blocks = real.new_empty(num, 2, m, 2, m)
        torch.add(real[:, 0], real[:, 1], out=blocks[:, 0, :, 0])
        torch.add(imaginary[:, 0], imaginary[:, 1], out=blocks[:, 0, :, 1])
        torch.sub(imaginary[:, 0], imaginary[:, 1], out=blocks[:, 1, :, 0])
        torch.sub(real[:, 1], real[:, 0], out=blocks[:, 1, :, 1])
        block = samples_at_once(out)
        for start in range(0, num, block):
            rows = (blocks[start : start + block].view(-1, 2 * m) @ self.synthesis_x).view(-1, 2 * m, out.shape[2])
            torch.bmm(self.synthesis_y.expand(len(rows), -1, -1), rows, out=out[start : start + block])


@lru_cache(maxsize=16)
def low_modes(forcing: GaussianForcing, grid: Grid, device: str) -> LowModes | None:
    """Return the cached matrices, or None where this grid does not hold the modes that float32 can see."""
    axes = zip(forcing.profiles(grid, dtype=torch.float64, device="cpu"), grid.num_points, grid.extent, strict=True)
    spectra = [(_trigonometric(profile), num, extent) for profile, num, extent in axes]
    m = max(_needed_modes(cosines, sines) for (cosines, sines), _, _ in spectra)
    if any(m > num // 2 for num in grid.num_points):
        return None
    analysis, synthesis, waves = [], [], []
    for (cosines, sines), num, extent in spectra:
        analysis.append(torch.cat([cosines[:m], sines[:m]]))
        angle = _angles(num, m)
        synthesis.append(torch.cat([angle.cos(), angle.sin()], 1))
        waves.append(torch.arange(m, dtype=torch.float64) * (2 * torch.pi / extent))
    wave_y = torch.stack([waves[0], -waves[0]])[:, :, None].expand(2, m, m)
    strong = max(_strong_modes(cosines[:m], sines[:m]) for (cosines, sines), _, _ in spectra)
    axis = torch.ones(strong)
    axis[0] = 2.0
    weights = torch.outer(axis, axis).expand(2, strong, strong).clone()
    weights[:, 0, 0] = 0.0
    half = 0.5  # a wave is carried with twice its amplitude, see the module
    return LowModes(
        analysis_y=analysis[0].to(device, torch.float32),
        analysis_x=analysis[1].T.contiguous().to(device, torch.float32),
        synthesis_y=(half * synthesis[0]).to(device, torch.float32),
        synthesis_x=synthesis[1].T.contiguous().to(device, torch.float32),
        wave_y=wave_y.contiguous().to(device),
        wave_x=waves[1].expand(2, m, m).contiguous().to(device),
        weights=weights.to(device),
    )


def _angles(num: int, m: int) -> Tensor:
    # The product of indices is reduced modulo num first: cos and sin then see angles in [0, 2π) only.
    steps = torch.arange(num)[:, None] * torch.arange(m) % num
    return steps.to(torch.float64) * (2 * torch.pi / num)


def _trigonometric(profile: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosine and sine coefficients, ``(num // 2 + 1, centers)`` each, of profiles ``(num, centers)``."""
    spectrum = torch.fft.rfft(profile, dim=0) / len(profile)
    spectrum[1:] *= 2
    return spectrum.real, -spectrum.imag


def _strong_modes(cosines: Tensor, sines: Tensor) -> int:
    power = cosines.square() + sines.square()
    dropped = power.flip(0).cumsum(0).flip(0) / power.sum(0)
    return int((dropped.amax(1) > _STRONG_POWER).sum())


def _needed_modes(cosines: Tensor, sines: Tensor) -> int:
    size = (cosines.square() + sines.square()).sqrt().amax(1)
    weighted = size / torch.arange(len(size)).clamp(min=1).square()
    tail = weighted.flip(0).cumsum(0).flip(0)
    needed = int((tail > _TOLERANCE * size.max()).sum())
    return -(-needed // _MULTIPLE) * _MULTIPLE
