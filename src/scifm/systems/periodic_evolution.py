"""What evolving systems on periodic boxes share: a linear part that is diagonal in Fourier space, and the rest.

    ∂û/∂t = L(k) û + N̂(û)

A subclass gives the symbol L (`symbol`), what it begins with (`initial_state`) and, where there is one, the nonlinear
term (`nonlinear`); the march is that of `solvers.etdrk`, of fourth order, with products dealiased: modes beyond `keeps`
of the highest wavenumber are zero, from the first state on, so that no product of the term's degree can fold back onto
those that are kept.

Precision. Symbol and weights are formed in float64; all else runs in the precision of the state.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.grid import Grid
from scifm.fields.spectral import require_periodic, wavenumbers
from scifm.systems.evolving import Evolving
from scifm.systems.initial import RandomWaves
from scifm.systems.solvers.etdrk import ETDRK, Nonlinear

__all__ = ["PIECE_POINTS", "PeriodicEvolution", "SpectralBox", "carried_by_itself", "squared"]

PIECE_POINTS = {"cpu": 2**17}
"""Grid points of the samples marched at once, by the kind of device: few, to stay in the cache."""
_PIECE_POINTS_ELSEWHERE = 2**24
_ROUNDED = 1e-5
_CLEARED_AFTER = 50  # steps


@dataclass(frozen=True)
class SpectralBox:
    """A periodic grid and its half-spectrum, in one precision on one device.

    Args:
        grid: periodic on every axis.
        keeps: the part of the highest wavenumber up to which modes are kept.
        dtype: of fields, float32 or float64.
        device: of all.
    """

    grid: Grid
    keeps: float
    dtype: torch.dtype
    device: torch.device

    @cached_property
    def waves(self) -> tuple[Tensor, ...]:
        """Angular wavenumbers of each axis, that of Nyquist among them; see `scifm.fields.spectral.wavenumbers`."""
        return wavenumbers(self.grid, dtype=self.dtype, device=self.device)

    @cached_property
    def derivative(self) -> tuple[Tensor, ...]:
        """The factors i·k of a first derivative along each axis, in array order; zero for the Nyquist wavenumber."""
        return tuple(1j * wave for wave in wavenumbers(self.grid, odd=True, dtype=self.dtype, device=self.device))

    @cached_property
    def kept(self) -> Tensor:
        """1 for the modes that are kept and 0 for the others, ``modes``."""
        mask = torch.ones((), dtype=torch.bool)
        for axis, wave in enumerate(wavenumbers(self.grid)):
            highest = math.pi * self.grid.num_points[axis] / self.grid.extent[axis]
            mask = mask & (wave.abs() < self.keeps * highest * (1 - 1e-12))
        return mask.to(self.device, self.dtype)

    def to_modes(self, fields: Tensor) -> Tensor:
        """Return the half-spectrum of fields ``(…, *space)``."""
        return torch.fft.rfftn(fields, dim=self._axes)

    def to_grid(self, spectrum: Tensor) -> Tensor:
        """Return the fields ``(…, *space)`` of a half-spectrum."""
        return torch.fft.irfftn(spectrum, s=self.grid.num_points, dim=self._axes)

    def cleared_(self, spectrum: Tensor) -> Tensor:
        """Clear a half-spectrum, in place, of what belongs to no real field, and return it.

        Where the last wavenumber is zero a half-spectrum holds both modes of a pair, and `to_grid` does not see by how
        much they differ. Round-off makes them differ, no nonlinear term holds that back, and where the symbol is
        positive it grows until it leaves every bound.
        """
        pairs = spectrum[..., 0]
        other = pairs.conj()
        for axis in self._axes[1:]:
            other = other.flip(axis).roll(1, axis)
        spectrum[..., 0] = 0.5 * (pairs + other)
        return spectrum

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-self.grid.num_spatial_dims, 0))


class PeriodicEvolution(Evolving):
    """An evolving equation on a periodic box, in as many dimensions as an option `num_spatial_dims` says, if any.

    Attributes:
        initial_state: how fields are drawn at time 0; an option of those that `initial` is left to itself in.
        max_step: longest step of the solver [T]; see `longest_step`. An option of those with a nonlinear term; the
            others are exact at any step.
        keeps: the part of the highest wavenumber up to which modes are kept: 2/(degree + 1) for a nonlinear term that
            is a polynomial of that degree; infinity where there is none, for all modes.
    """

    initial_state: RandomWaves
    max_step: float = math.inf
    keeps: ClassVar[float] = 2 / 3
    order: ClassVar[int] = 4

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Draw problems at time 0; see `Evolving.initial`.

        Left to itself every field is drawn by `initial_state`, and the knobs are the coefficients. What begins, or is
        told, otherwise overrides it.

        Raises:
            ConfigError: if there is no `initial_state`.
        """
        if not hasattr(self, "initial_state"):
            raise ConfigError(
                f"'{self.name}' says by no option initial_state, and no initial of its own, how it begins: give it "
                "initial_state, or write `initial`."
            )
        drawn = self.draw_knobs(num_samples, generator, device)
        return self.initial_state.draw(num_samples, len(self.signature.inputs), grid, generator, device=device), drawn

    @abc.abstractmethod
    def symbol(self, waves: tuple[Tensor, ...], odd: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
        """Return L, ``(batch, outputs or 1, *modes)``, float64 or complex128.

        Args:
            waves: angular wavenumbers of each axis in array order, float64, for even derivatives.
            odd: the same for odd derivatives: zero for the Nyquist wavenumber.
            coefficients: ``(batch, coefficients)`` float64.
        """

    def nonlinear(self, box: SpectralBox, coefficients: Tensor, inputs: Tensor) -> Nonlinear | None:
        """Return N̂, which must be zero beyond the modes that are kept; None: there is none.

        Args:
            box: where.
            coefficients: ``(batch, coefficients)``.
            inputs: ``(batch, inputs, *space)`` at time 0, for what does not change in time.
        """
        return None

    def longest_step(self, grid: Grid) -> float:
        """Return the longest step that is stable and accurate for the knobs on a grid [T]."""
        return self.max_step

    def per_sample(self, coefficients: Tensor, index: int, dims: int) -> Tensor:
        """Return one coefficient as ``(batch, 1, 1, …)``, to act on ``(batch, channel, *space)``."""
        return coefficients[:, index].view(-1, 1, *(1,) * dims)

    @torch.no_grad()
    def advance(
        self, inputs: Tensor, coefficients: Tensor, grid: Grid, *, interval: float, num_frames: int, refine: int = 1
    ) -> Tensor:
        box = SpectralBox(grid, self.keeps, inputs.dtype, inputs.device)
        # times in single precision are off by a few parts in 1e6, which must not cost a step
        num_steps = max(1, math.ceil(interval / self.longest_step(grid) * (1 - _ROUNDED))) * refine
        names = self.signature
        outputs = names.state_places
        points = PIECE_POINTS.get(inputs.device.type, _PIECE_POINTS_ELSEWHERE)
        piece = max(1, points // (math.prod(grid.num_points) * len(outputs)))
        made = inputs.new_empty(len(inputs), num_frames, len(outputs), *grid.num_points)
        for start in range(0, len(inputs), piece):
            rows = slice(start, start + piece)
            step = self._stepper(box, inputs[rows], coefficients[rows], interval / num_steps)
            spectrum = box.to_modes(inputs[rows][:, outputs]) * box.kept
            for frame in range(num_frames):
                for number in range(num_steps):
                    spectrum = step(spectrum)
                    if number % _CLEARED_AFTER == _CLEARED_AFTER - 1:
                        spectrum = box.cleared_(spectrum)
                spectrum = box.cleared_(spectrum)
                made[rows, frame] = box.to_grid(spectrum)
        self.require_finite(made, grid)
        return made

    def _stepper(self, box: SpectralBox, inputs: Tensor, coefficients: Tensor, step: float) -> ETDRK:
        grid, device = box.grid, inputs.device
        waves, odd = wavenumbers(grid, device=device), wavenumbers(grid, odd=True, device=device)
        symbol = self.symbol(waves, odd, coefficients.double())
        rest = self.nonlinear(box, coefficients, inputs)
        return ETDRK(symbol, step, rest, order=self.order, dtype=inputs.dtype.to_complex())

    def require_options(self) -> None:
        super().require_options()
        asked = any(entry.name == "max_step" for entry in self._entries())
        if asked and not 0 < self.max_step < math.inf:
            raise ConfigError(f"'{self.name}' needs a positive finite max_step; got {self.max_step}.")
        dims = getattr(self, "num_spatial_dims", 1)
        if dims not in (1, 2, 3):
            raise ConfigError(f"'{self.name}' has 1, 2 or 3 dimensions; got num_spatial_dims={dims!r}.")

    def require_grid(self, grid: Grid) -> None:
        super().require_grid(grid)
        require_periodic(grid)


def squared(waves: tuple[Tensor, ...]) -> Tensor:
    """Return |k|², ``modes``."""
    total: Any = sum(wave * wave for wave in waves)
    return total


def carried_by_itself(box: SpectralBox) -> Nonlinear:
    """Return −½ ∂(u²)/∂x in one dimension, two transforms."""
    factor = -0.5 * box.derivative[0] * box.kept
    return lambda spectrum: box.to_modes(box.to_grid(spectrum).square_()).mul_(factor)
