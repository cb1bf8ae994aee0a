"""How much answers miss their equation by, in parts of what is known without a solution: a loss that reads no solution.

The equation is found by the name that samples carry (`Batch.systems`). Of a sample with residual r (`residual_of`) and
what is known k (`known_of`: the forcing, or the rate of change of the last input frame) it is the mean, over frames and
outputs, of ‖r‖ / ‖k‖. Where k nearly vanishes, as of a state at rest, r is divided by its usual size instead.

The norm is the plain one over space, or one that is weaker at short waves::

    l2      ‖r‖₂                        h-1, h-2     ‖ (k₀² / (k₀² + |k|²))^(s/2) r̂(k) ‖₂,  s = 1, 2

with k₀ the wavenumber of the longest wave of the box. An operator of second order, −∇·(K∇u), multiplies an error of
wavenumber k by about |k|²: in the plain norm the shortest wave of 32 points weighs as much as one of the longest that
is 256 times larger, and nearly all of the loss is what hardly counts in a solution. Under h-2 all waves weigh about as
they do in the error of the answer, under h-1 about as in the error of its slope. Between frames the change over a step
stands beside that operator, so that the plain norm is not far from that of the error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from scifm.errors import ConfigError, SciFMError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.norms import sizes_of, typical_sizes
from scifm.fields.seeds import generator_for
from scifm.systems.catalog import require_system_of, system_on
from scifm.systems.evolving import Evolving
from scifm.systems.residuals import guess_of, known_of, residual_of, weaker
from scifm.systems.system import System

__all__ = ["Equation", "Norm", "residual_floor"]

Norm = Literal["l2", "h-1", "h-2"]
_SMOOTHING: dict[str, int] = {"l2": 0, "h-1": 1, "h-2": 2}
_VANISHES = 0.1  # of the usual size of what is known, below which a residual is divided by the usual size instead
_REMEDY = (
    "Train on solutions (training.objective = 'relative_l2'), or on samples of a system that 'scifm systems' lists, on "
    "a periodic box."
)


@dataclass(frozen=True)
class Equation:
    """The loss by which answers miss their equations, of samples of one system or of several.

    Args:
        norm: of a residual over space; None: ``h-1`` of what is steady on a periodic box, else ``l2``.
        system: name of the system of samples that do not say one that is installed.
        typical: by system, the usual size of what is known of each output, ``(output,)``, as `on` finds it.
    """

    norm: Norm | None = None
    system: str | None = None
    typical: Mapping[str, Tensor] = field(default_factory=dict)

    def missed(self, answer: Batch) -> Tensor:
        """Return the loss of each sample, ``(batch, 1)``; a function of answers and inputs, differentiable.

        Raises:
            ConfigError: if a sample is of no system that has a residual.
        """
        total = answer.require_targets().new_zeros(answer.num_samples, 1)
        for rows, system, own in self._groups(answer):
            total = total.index_add(0, rows, self._relative(system, own).mean((1, 2)).unsqueeze(1).to(total))
        return total

    def on(self, samples: Batch) -> Equation:
        """Return the same with the usual sizes of what is known of samples like these; targets play no part.

        Raises:
            ConfigError: if a sample is of no system that has a residual, or the norm is not one of its grid.
        """
        self.require_norm(samples.grid)
        typical = {}
        with torch.no_grad():
            for _, system, own in self._groups(samples.with_targets(None)):
                self.require_residual(system, own)
                known = self._smoothed(known_of(system, own), system, own.grid)
                typical[system.name] = typical_sizes(known, own.grid)
        return replace(self, typical=typical)

    @torch.no_grad()
    def guessed(self, samples: Batch) -> Batch:
        """Return samples with first guesses as targets (`guess_of`), of every frame the same; no solution is read.

        Raises:
            ConfigError: if a sample is of no system that has a residual.
        """
        names, frames = samples.signature, samples.num_frames
        shape = (samples.num_samples, frames, len(names.outputs), *samples.grid.num_points)
        targets = samples.inputs.new_zeros(shape)
        for rows, system, own in self._groups(samples.with_targets(None)):
            self.require_residual(system, own)
            guess = guess_of(system, own)
            for place, name in enumerate(system.signature.outputs):
                targets[rows, :, names.outputs.index(name)] = guess[:, :, place].to(targets)
        return samples.with_targets(targets)

    def require_systems(self, names: Iterable[str], grid: Grid) -> None:
        """Check, before anything is sampled, that systems of these names have a residual on a grid.

        Raises:
            ConfigError: names the first that has none.
        """
        self.require_norm(grid)
        for name in names:
            try:
                system = system_on(name, grid)
            except SignatureError as error:
                raise ConfigError(_refusal(name, error)) from error
            drawn = system.sample_inputs(1, grid, generator_for(0, "has a residual"))
            if isinstance(system, Evolving):
                drawn = replace(drawn, lead_time=drawn.inputs.new_full((1, 1), system.save_interval))
            self.require_residual(system, drawn)

    def require_norm(self, grid: Grid) -> None:
        """Check that the norm is one of fields on a grid.

        Raises:
            ConfigError: if it asks for the waves of a box that has ends.
        """
        if self.norm in ("h-1", "h-2") and not all(grid.periodic):
            raise ConfigError(
                f"norm = '{self.norm}' of a residual weighs the waves of a periodic box; this one is {grid.told}. "
                "Choose norm = 'l2'."
            )

    def require_residual(self, system: System, samples: Batch) -> None:
        """Check that what samples miss of the equation of their system can be told.

        Raises:
            ConfigError: says why it cannot.
        """
        if samples.valid_inputs is not None:
            raise ConfigError(
                f"The equation of '{system.name}' needs every point of its inputs, and some are missing. {_REMEDY}"
            )
        try:
            residual_of(system, samples.with_targets(_standing(system, samples)))
        except (SignatureError, NotImplementedError) as error:
            raise ConfigError(_refusal(system.name, error)) from error

    def _relative(self, system: System, samples: Batch) -> Tensor:
        """Return ‖r‖ / ‖k‖ of samples of one system, ``(batch, time, output)``."""
        missed = self._smoothed(residual_of(system, samples), system, samples.grid)
        with torch.no_grad():
            known = self._smoothed(known_of(system, samples.with_targets(None)), system, samples.grid)
            size = sizes_of(known, samples.grid, self.typical.get(system.name), vanishes=_VANISHES)
        return sizes_of(missed, samples.grid) / size

    def _smoothed(self, fields: Tensor, system: System, grid: Grid) -> Tensor:
        """Return fields whose plain norm is the norm asked for."""
        steady = not isinstance(system, Evolving) and all(grid.periodic)
        power = _SMOOTHING[self.norm or ("h-1" if steady else "l2")]
        return weaker(fields, grid, power) if power else fields

    def _groups(self, samples: Batch) -> Iterator[tuple[Tensor, System, Batch]]:
        """Yield the samples of each system: which they are, the system, and they in its names."""
        names = samples.systems or ("",) * samples.num_samples
        for name in sorted(set(names)):
            rows = torch.tensor([place for place, own in enumerate(names) if own == name], device=samples.inputs.device)
            own = samples.select(rows)
            try:
                system = require_system_of(own, self.system)
            except SciFMError as error:
                raise ConfigError(_refusal(name, error)) from error
            yield rows, system, own.without_absent(system.signature)


def _refusal(name: str, error: Exception) -> str:
    """Return why samples of a system of that name, or of none, cannot be taught by an equation."""
    if not name:
        return (
            "The objective asks by how much answers miss their equation, and the samples do not say of which system "
            f"they are. Name it: objective = {{ name = 'residual', system = 'poisson' }}, for example. {_REMEDY}"
        )
    why = " ".join(str(error).split()).rstrip(".")
    return f"The system '{name}' has no residual here, by which answers could be taught: {why}. {_REMEDY}"


def _standing(system: System, samples: Batch) -> Tensor:
    """Return an answer to ask about: that nothing changes, and zero of what is steady."""
    shape = (samples.num_samples, samples.num_frames, len(samples.signature.outputs), *samples.grid.num_points)
    answer = samples.inputs.new_zeros(shape)
    if isinstance(system, Evolving):
        for place, name in enumerate(samples.signature.outputs):
            if name in samples.signature.inputs:
                answer[:, :, place] = samples.field(name)[:, -1:]
    return answer


@torch.no_grad()
def residual_floor(samples: Batch, *, norm: Norm | None = None, system: str | None = None) -> dict[str, float]:
    """Return what solutions themselves miss of their equation on their grid and in their frames, by system.

    It is what `Residual` and ``residual`` of a supervised objective say of the truth: zero but for rounding of what is
    steady and solved on that grid, and what the steps between frames, the grid and the solver leave of an evolving one.
    Below it no answer can be told from the truth by its equation.

    Args:
        samples: with solutions, in the names of their systems or of a mixture of them.
        norm, system: as in `Equation`.

    Raises:
        ConfigError: if a sample is of no system that has a residual.
    """
    equation = Equation(norm, system).on(samples)
    each = equation.missed(samples)[:, 0].double()
    names = samples.systems or (system or "",) * samples.num_samples
    floors = {}
    for name in dict.fromkeys(names):
        mine = torch.tensor([own == name for own in names], device=each.device)
        floors[name] = float(each[mine].mean())
    return floors
