"""Problems made by hand: values of a system's knobs and a forcing become a batch that network and solver both take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scifm.applications.playground.dials import Dial
from scifm.errors import ConfigError, DataError, RunError, suggest
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.spectral import require_periodic
from scifm.systems.periodic_elliptic import PeriodicElliptic, spectrum_on_grid
from scifm.systems.system import System

__all__ = ["PlayedSystem", "Problem"]

_ROUNDING = 1e-6  # a mean this small beside the forcing is float32 noise
_NOTHING = 1e-12


@dataclass(frozen=True)
class Problem:
    """One problem, in float64.

    Args:
        batch: of one sample, without targets.
        removed_mean: what was taken away from the forcing, zero where nothing had to be.
    """

    batch: Batch
    removed_mean: float


@dataclass(frozen=True)
class PlayedSystem:
    """A system a run was trained on, with its dials.

    Args:
        system: its knobs are the trained ranges.
        dials: one for each knob.
    """

    system: PeriodicElliptic
    dials: tuple[Dial, ...]

    @classmethod
    def of(cls, system: System) -> PlayedSystem:
        """Return a system to play with.

        Raises:
            RunError: if it is of a kind the page cannot show.
        """
        if not isinstance(system, PeriodicElliptic):
            raise RunError(
                f"The playground shows steady systems that a forcing drives, in two dimensions; '{system.name}' is "
                "none. Look at this run with 'scifm evaluate' and 'scifm report'."
            )
        return cls(system, tuple(Dial.of(system, name) for name in system.knobs))

    @property
    def title(self) -> str:
        """Its name as a person writes it, with the trained ranges."""
        ranges = (_range_told(dial) for dial in self.dials)
        return f"{self.system.name.replace('_', '–').capitalize()}, " + ", ".join(ranges)

    def values(self, given: Mapping[str, str]) -> dict[str, float]:
        """Return the value of every knob out of what a browser sent, by name.

        Raises:
            ConfigError: if a name is unknown or missing, or a value is not valid.
        """
        names = [dial.name for dial in self.dials]
        for name in given:
            if name not in names:
                raise ConfigError(f"Knob of '{self.system.name}': {suggest(name[:40], names)}")
        missing = [name for name in names if name not in given]
        if missing:
            raise ConfigError(f"A value is missing for {', '.join(missing)}.")
        return {dial.name: dial.value(given[dial.name]) for dial in self.dials}

    def draw_forcing(self, grid: Grid, seed: int) -> Float[Tensor, "y x"]:
        """Return a forcing as training draws them, float32; one seed means one forcing at every resolution.

        Raises:
            ConfigError: if the seed is not valid.
            SignatureError: if the grid is too coarse for this forcing.
        """
        return self.system.sample(1, grid, generator_for(seed, "playground")).inputs[0, 0, 0]

    def pose(self, forcing: Float[Tensor, "y x"], values: Mapping[str, float], grid: Grid) -> Problem:
        """Return the problem with these knobs and this forcing.

        Coefficients that depend on the forcing, as the velocity that meets a ratio does, are found for this one.

        Args:
            forcing: any field; where the equation needs a zero mean, its mean is taken away.
            values: of all knobs.
            grid: where the forcing lives.

        Raises:
            ConfigError: if the system does not allow a value.
            DataError: if the forcing is zero everywhere, or no coefficients do what the knobs ask for.
            SignatureError: if the system is not defined on this grid.
        """
        self.system.where(**values)
        require_periodic(grid)
        field, mean = forcing.to(torch.float64), 0.0
        size = float(field.abs().max())
        if self.system.zero_mean:
            mean = float(field.mean())
            field = field - mean
        if float(field.abs().max()) <= _NOTHING * size:
            raise DataError("The forcing is zero everywhere, so nothing is to be solved: paint something or redraw it.")
        drawn = {name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()}
        spectrum = spectrum_on_grid(torch.fft.rfft2(field[None]), grid)
        batch = Batch(
            signature=self.system.signature,
            grid=grid,
            inputs=field[None, None, None],
            coefficients=self.system.coefficients_for(drawn, spectrum, grid).to(torch.float64),
            systems=(self.system.name,),
        )
        return Problem(batch, mean if abs(mean) > _ROUNDING * size else 0.0)

    def is_rejected(self, solved: Batch) -> bool:
        """Return whether the sampler would throw this problem away, so that training never met one like it."""
        kept = self.system.acceptable(solved.coefficients, solved.field("solution")[:, 0], solved.grid)
        return kept is not None and not bool(kept.all())

    def _options_told(self) -> str:
        options = self.system.to_dict()["options"].items()
        plain = (f"{name.replace('_', ' ')} = {value}" for name, value in options if not isinstance(value, dict))
        return ", ".join(plain)

    def to_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "equation": self.system.equation,
            "options": self._options_told(),
            "zero_mean": self.system.zero_mean,
            "knobs": [dial.to_dict() for dial in self.dials],
        }


def _range_told(dial: Dial) -> str:
    low, high = f"{dial.trained.low:.4g}", f"{dial.trained.high:.4g}"
    between = low if low == high else f"{low} to {high}"
    return f"{dial.name.replace('_', ' ')} {between}{' ' + dial.unit if dial.unit else ''}"
