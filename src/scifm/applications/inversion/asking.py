"""How recordings are asked: beliefs, noise, the search through a network or a solver, and the solver's word on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from scifm.applications.inversion.forward import Forward, through_operator, through_solver
from scifm.applications.inversion.observations import Observations
from scifm.applications.inversion.search import Found, posterior, searched
from scifm.applications.inversion.unknowns import Coefficients, FieldOf, Sources, Unknown, Unknowns
from scifm.config import Config
from scifm.data.origins import Origin, SystemOrigin
from scifm.errors import ConfigError, DataError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.operator import Operator

__all__ = ["Inversion", "InvertRecipe", "Progress", "inverted"]

_AROUND = 0.1  # of what is believed: how far from an earlier answer other searches begin
_TRIED = 64  # problems by which the network's own error at the receivers is told

Progress = Callable[[int, int], None]


class InvertRecipe(Config):
    """How unknowns are searched for.

    Args:
        unknown: inputs and coefficients that are asked for; absent: all that the file does not tell.
        through: ``network``: the search asks the operator, and the solver checks its answer; ``solver``: it asks that.
        num_sources: of an unknown input, how many sources it is the sum of; 0: a field, by principal components.
        source_width: of each source, a standard deviation in units of the box; absent: 1/32 of its shorter side.
        num_components: of an unknown field.
        num_starts: places from which searches begin.
        num_steps: of L-BFGS at most, each.
        begin: folder of an earlier account of the same unknowns: searches begin at its answer and a little around it,
            as from low wavenumbers on to high ones; absent: as believed.
        noise: standard deviation of the noise where the file does not tell it, in parts of the root mean square of what
            was recorded.
        count_network_error: add the network's own error at the receivers, measured on problems like those of its
            training, to the noise.
        refine: go on from the network's answer by the solver, where the system is known.
        num_usual: problems that say what is believed beforehand.
        level: probability of the intervals.
        seed: of starts and draws.
    """

    unknown: tuple[str, ...] = ()
    through: Literal["network", "solver"] = "network"
    num_sources: int = Field(0, ge=0)
    source_width: float | None = Field(None, gt=0, allow_inf_nan=False)
    num_components: int = Field(24, ge=1)
    num_starts: int = Field(8, ge=1)
    num_steps: int = Field(100, ge=1)
    begin: str | None = None
    noise: float = Field(0.05, gt=0, allow_inf_nan=False)
    count_network_error: bool = True
    refine: bool = True
    num_usual: int = Field(256, ge=16)
    level: float = Field(0.9, gt=0, lt=1)
    seed: int = 0


@dataclass(frozen=True)
class Inversion:
    """What was found, and what the solver says of it.

    Args:
        seen: the recordings.
        unknown: what was asked for.
        forward: what was searched through.
        found: where searches ended.
        draws: of z, as believed after the recordings, ``(draw, size)``.
        solver: the same question to the solver; None: the system is not known.
        solver_misfit: of the best place, by the solver.
        refined: where the solver's own search ended that began there; None: it was not asked for.
        network_error: by output, the network's own error at the receivers, in parts of the noise; empty: not counted.
        seconds: of the search, and of the solver's.
    """

    seen: Observations
    unknown: Unknown
    forward: Forward
    found: Found
    draws: Tensor
    solver: Forward | None
    solver_misfit: float | None
    refined: Found | None
    network_error: dict[str, float]
    seconds: tuple[float, float]

    @property
    def num_recordings(self) -> int:
        """Numbers that were recorded."""
        return len(self.forward.values)

    @property
    def content(self) -> float:
        """Mean squared misfits up to this one are what noise makes: 1 and three standard deviations."""
        return 1 + 3 * (2 / self.num_recordings) ** 0.5

    @property
    def adversarial(self) -> bool:
        """Whether the network is content with its answer and the solver is not."""
        return self.solver_misfit is not None and self.found.misfit <= self.content < self.solver_misfit


def inverted(
    operator: Operator,
    origin: Origin,
    seen: Observations,
    recipe: InvertRecipe,
    *,
    begin: Tensor | None = None,
    progress: Progress | None = None,
) -> Inversion:
    """Return what recordings tell of a problem.

    Args:
        operator: of problems like those of `origin`.
        origin: what it was trained on.
        seen: the recordings.
        recipe: how they are asked.
        begin: z of an earlier answer, ``(size,)``, from which searches begin; None: as believed.
        progress: told how many searches of how many are done.

    Raises:
        ConfigError: if a setting makes no sense.
        DataError: if the recordings do not fit.
    """
    system = origin.system
    usual = _usual(origin, seen.grid, recipe)
    unknown = _unknown(usual, seen, recipe)
    names = usual.signature
    title = usual.systems[0] if usual.systems else ""
    given = _noise(seen, recipe)
    error = _error_at(operator, usual, seen) if recipe.through == "network" and recipe.count_network_error else {}
    noise = {n: (own.square() + error.get(n, 0.0) ** 2).sqrt() for n, own in given.items()}
    solver = None if system is None else Forward(through_solver(system), unknown, seen, names, title, noise)
    if recipe.through == "solver":
        if solver is None:
            raise ConfigError("through = 'solver' asks the system's solver, and what the run was trained on has none.")
        forward = solver
    else:
        forward = Forward(through_operator(operator), unknown, seen, names, title, noise)
    starts = _starts(unknown, recipe, begin)
    clock = time.perf_counter()
    found = searched(forward, starts, num_steps=recipe.num_steps, progress=progress)
    took = time.perf_counter() - clock
    asked = forward if solver is None else solver
    by_solver, refined, clock = None, None, time.perf_counter()
    if solver is not None and recipe.through == "network":
        by_solver = solver.misfit(found.best.z)
        if recipe.refine:
            own = replace(solver, noise=given, num_asked=0)
            refined = searched(own, found.best.z[None], num_steps=recipe.num_steps)
            asked = own
    best = found.best if refined is None else refined.best
    draws = posterior(asked if refined is not None else forward, best, seed=recipe.seed)
    parts = {name: size / float(given[name].mean()) for name, size in error.items()}
    seconds = (took, time.perf_counter() - clock)
    return Inversion(seen, unknown, forward, found, draws, solver, by_solver, refined, parts, seconds)


def _usual(origin: Origin, grid: Grid, recipe: InvertRecipe) -> Batch:
    """Return problems like those of the training, solved, on the grid of the question."""
    if isinstance(origin, SystemOrigin):
        origin = SystemOrigin.of(origin.system, grid)
    elif origin.grid.num_points != grid.num_points or origin.grid.extent != grid.extent:
        raise DataError(
            f"The recordings are of a box of {grid.told}, and the store that the run was trained on is of "
            f"{origin.grid.told}: give the same num_points and extent."
        )
    usual = origin.draw(recipe.num_usual, "inversion", seed=recipe.seed)
    if usual.gaps:
        raise DataError(f"Points of {', '.join(usual.gaps)} are missing in the samples of the training.")
    return usual.to(dtype=torch.float64)


def _unknown(usual: Batch, seen: Observations, recipe: InvertRecipe) -> Unknown:
    """Return what is asked for: all that is not known, or what the recipe says."""
    names = usual.signature
    given = (*names.inputs, *names.coefficients)
    for name in recipe.unknown:
        if name not in given:
            raise ConfigError(f"What is unknown is one of {', '.join(given)}; got '{name}'.")
    asked = [name for name in given if name in recipe.unknown or (not recipe.unknown and name not in seen.known)]
    lacking = [name for name in given if name not in asked and name not in seen.known]
    if lacking:
        raise DataError(f"The file does not tell {', '.join(lacking)}, and it is not asked for: add it to unknown.")
    if not asked:
        raise ConfigError(
            f"Nothing is unknown: the file tells {', '.join(seen.known)}. Leave out of it what is to be found, or say "
            "so by --set unknown=[…]."
        )
    parts: list[Unknown] = []
    for name in (name for name in names.inputs if name in asked):
        if recipe.num_sources:
            parts.append(Sources.like(name, usual, recipe.num_sources, recipe.source_width))
        else:
            parts.append(FieldOf(name, usual, recipe.num_components))
    numbers = [name for name in names.coefficients if name in asked]
    if numbers:
        parts.append(Coefficients(numbers, usual))
    return parts[0] if len(parts) == 1 else Unknowns(parts)


def _starts(unknown: Unknown, recipe: InvertRecipe, begin: Tensor | None) -> Tensor:
    generator = generator_for(recipe.seed, "starts")
    if begin is None:
        return unknown.start(recipe.num_starts, generator)
    if begin.shape != (unknown.size,):
        raise ConfigError(
            f"What is asked for are {unknown.size} numbers, and the earlier answer has {tuple(begin.shape)}: begin at "
            "one of the same unknowns, with the same num_components and num_usual."
        )
    around = _AROUND * torch.randn(recipe.num_starts, unknown.size, generator=generator, dtype=torch.float64)
    around[0] = 0.0
    return begin + around


def _noise(seen: Observations, recipe: InvertRecipe) -> dict[str, Tensor]:
    """Return standard deviations of what was recorded."""
    noise = {}
    for name, values in seen.values.items():
        size = float(values.square().mean().sqrt())
        if name not in seen.noise and not size > 0:
            raise DataError(f"All that was recorded of '{name}' is zero, and its noise is not told: give noise_{name}.")
        noise[name] = seen.noise.get(name, torch.full_like(values, recipe.noise * size))
    return noise


def _error_at(operator: Operator, usual: Batch, seen: Observations) -> dict[str, float]:
    """Return the network's own error at the receivers, root mean square over problems like those of its training.

    Errors grow with solutions, so they are scaled to the size of what was recorded.
    """
    some = usual.select(slice(0, _TRIED))
    answered = operator.answers(some)
    errors = {}
    for name, values in seen.values.items():
        said, true = (seen.read(own.field(name)[:, 0].double()) for own in (answered, some))
        part = (said - true).square().mean(1).sqrt() / true.square().mean(1).sqrt().clamp(min=1e-300)
        errors[name] = float(part.square().mean().sqrt() * values.square().mean().sqrt())
    return errors
