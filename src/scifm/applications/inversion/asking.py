"""How recordings are asked: beliefs, noise, the search through a network or a solver, and the solver's word on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from scifm.applications.inversion.forward import Forward, Through, through_operator, through_solver
from scifm.applications.inversion.observations import Observations
from scifm.applications.inversion.search import Found, posterior, searched
from scifm.applications.inversion.unknowns import Coefficients, FieldOf, Sources, Unknown, Unknowns
from scifm.config import Config
from scifm.data.origins import Origin, SystemOrigin
from scifm.errors import ConfigError, DataError
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for
from scifm.models.operator import Operator
from scifm.systems.system import System

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
        continuation: known coefficient, such as ``wavenumber``, by which several recordings are taken in one after the
            other, the smallest first; searches begin where those before ended. Absent: all at once.
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
    continuation: str | None = None
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
        seen: the recordings; of several the first.
        unknown: what was asked for.
        forward: what was searched through, of all recordings.
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
    def num_files(self) -> int:
        """Recordings of the same unknowns."""
        return 1 + len(self.forward.others)

    @property
    def best(self) -> Tensor:
        """The answer that counts, z ``(size,)``: the solver's own where it went on."""
        return (self.found if self.refined is None else self.refined).best.z

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
    seen: Observations | Sequence[Observations],
    recipe: InvertRecipe,
    *,
    begin: Tensor | None = None,
    system: System | None = None,
    progress: Progress | None = None,
) -> Inversion:
    """Return what recordings tell of a problem.

    Args:
        operator: of problems like those of `origin`.
        origin: what it was trained on.
        seen: the recordings; several are of the same unknowns, and each tells what it knows beside them.
        recipe: how they are asked.
        begin: z of an earlier answer, ``(size,)``, from which searches begin; None: as believed.
        system: whose solver is asked, of samples that do not draw themselves, as those of a store; None: that of the
            origin.
        progress: told how many searches of how many are done.

    Raises:
        ConfigError: if a setting makes no sense.
        DataError: if the recordings do not fit.
    """
    system, files = system or origin.system, (seen,) if isinstance(seen, Observations) else tuple(seen)
    usual = _usual(origin, files, recipe)
    unknown = _unknown(usual, files, recipe)
    given = [_noise(own, recipe) for own in files]
    counted = recipe.through == "network" and recipe.count_network_error
    errors = [_error_at(operator, usual, own) if counted else {} for own in files]
    noise = [_with_error(own, error) for own, error in zip(given, errors, strict=True)]
    solver = None if system is None else _forward(through_solver(system), unknown, files, usual, noise)
    if recipe.through == "solver":
        if solver is None:
            raise ConfigError("through = 'solver' asks the system's solver, and what the run was trained on has none.")
        forward = solver
    else:
        forward = _forward(through_operator(operator), unknown, files, usual, noise)
    starts = _starts(unknown, recipe, begin)
    clock = time.perf_counter()
    found = _from_easy_to_hard(forward, starts, recipe, progress)
    took = time.perf_counter() - clock
    asked = forward if solver is None else solver
    by_solver, refined, clock = None, None, time.perf_counter()
    if solver is not None and recipe.through == "network":
        by_solver = solver.misfit(found.best.z)
        if recipe.refine:
            own = _forward(solver.through, unknown, files, usual, given)
            refined = searched(own, found.best.z[None], num_steps=recipe.num_steps)
            asked = own
    best = found.best if refined is None else refined.best
    draws = posterior(asked if refined is not None else forward, best, seed=recipe.seed)
    parts = {name: size / float(given[0][name].mean()) for name, size in errors[0].items()}
    seconds = (took, time.perf_counter() - clock)
    return Inversion(files[0], unknown, forward, found, draws, solver, by_solver, refined, parts, seconds)


def _forward(
    through: Through,
    unknown: Unknown,
    files: Sequence[Observations],
    usual: Batch,
    noise: Sequence[Mapping[str, Tensor]],
) -> Forward:
    """Return predictions of all recordings."""
    title = usual.systems[0] if usual.systems else ""
    first, *others = (
        Forward(through, unknown, seen, usual.signature, title, own) for seen, own in zip(files, noise, strict=True)
    )
    return replace(first, others=tuple(others))


def _with_error(noise: Mapping[str, Tensor], error: Mapping[str, float]) -> dict[str, Tensor]:
    return {name: (own.square() + error.get(name, 0.0) ** 2).sqrt() for name, own in noise.items()}


def _from_easy_to_hard(forward: Forward, starts: Tensor, recipe: InvertRecipe, progress: Progress | None) -> Found:
    """Return where searches end that take recordings in one after the other, or all at once."""
    everyone = (replace(forward, others=()), *forward.others)
    stages = [everyone]
    if recipe.continuation is not None:
        name = recipe.continuation
        known = [own.seen.known.get(name) for own in everyone]
        if any(own is None or own.dim() for own in known):
            raise ConfigError(
                f"continuation = '{name}' is a coefficient that every recording knows, such as wavenumber; one does "
                f"not. They know {', '.join(everyone[0].seen.known)}."
            )
        numbers = [float(own) for own in known if own is not None]
        stages = [
            tuple(own for own, number in zip(everyone, numbers, strict=True) if number <= most)
            for most in sorted(set(numbers))
        ]
    found, asked = None, 0
    for number, (first, *others) in enumerate(stages):
        begun = starts if found is None else torch.stack([place.z for place in found.places])
        counted = None if progress is None else partial(_counted, progress, number, len(stages))
        found = searched(replace(first, others=tuple(others)), begun, num_steps=recipe.num_steps, progress=counted)
        asked += found.num_asked
    assert found is not None
    return replace(found, num_asked=asked)


def _counted(progress: Progress, stage: int, num_stages: int, done: int, total: int) -> None:
    progress(stage * total + done, num_stages * total)


def _usual(origin: Origin, files: Sequence[Observations], recipe: InvertRecipe) -> Batch:
    """Return problems like those of the training, solved, on the grid of the question."""
    grid = files[0].grid
    if any(own.grid != grid for own in files):
        raise DataError("Recordings of the same unknowns are of one box and one grid: give the same in every file.")
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


def _unknown(usual: Batch, files: Sequence[Observations], recipe: InvertRecipe) -> Unknown:
    """Return what is asked for: all that is not known, or what the recipe says."""
    names, seen = usual.signature, files[0]
    if any(set(own.known) != set(seen.known) for own in files) and not recipe.unknown:
        raise DataError("Recordings of the same unknowns know the same names; say what is unknown (--set unknown=[…]).")
    given = (*names.inputs, *names.coefficients)
    for name in recipe.unknown:
        if name not in given:
            raise ConfigError(f"What is unknown is one of {', '.join(given)}; got '{name}'.")
    asked = [name for name in given if name in recipe.unknown or (not recipe.unknown and name not in seen.known)]
    lacking = [name for name in given if name not in asked and any(name not in own.known for own in files)]
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
