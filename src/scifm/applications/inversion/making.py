"""Recordings of problems that are drawn, to try inversions on: the truth lies beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from pydantic import Field

from scifm.applications.inversion.observations import Observations, observed
from scifm.applications.inversion.unknowns import Sources
from scifm.data.origin_config import BoxConfig, SystemConfig
from scifm.errors import ConfigError, SignatureError
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for
from scifm.systems.system import System

__all__ = ["ObserveRecipe", "observe"]

_APART = 2**32  # seeds of the receivers of experiments: no user's seed is as large
_USUAL = 64  # problems that say how large inputs usually are


class ObserveRecipe(BoxConfig):
    """Which problem is drawn, and what of it is recorded.

    Args:
        system: what it is of, steady and in a plane.
        num_points, extent, boundary: of its box, as in `BoxConfig`.
        num_receivers: at random places.
        noise: standard deviation of the noise, in parts of the root mean square of what they record.
        unknown: inputs and coefficients that the file does not tell; ``coefficients`` or ``inputs``: all of them.
        num_sources: make the first input of so many sources, instead of what the system draws; 0: do not.
        source_width: of each source, a standard deviation in units of the box; absent: 1/32 of its shorter side.
        experiment: which of several on one problem: each has what is known of the inputs, receivers and noise for
            itself, as a medium that is lit from several sides; what is unknown, and coefficients, are the same.
        seed: of the problem, the places and the noise.
    """

    system: SystemConfig
    num_receivers: int = Field(16, ge=1)
    noise: float = Field(0.05, ge=0, allow_inf_nan=False)
    unknown: tuple[str, ...] = ("coefficients",)
    num_sources: int = Field(0, ge=0)
    source_width: float | None = Field(None, gt=0, allow_inf_nan=False)
    experiment: int = Field(0, ge=0)
    seed: int = 0


def observe(recipe: ObserveRecipe, path: str | Path) -> Observations:
    """Draw a problem and write what receivers record of it.

    Args:
        recipe: which problem, how many receivers.
        path: of the new ``.npz`` file.

    Raises:
        ConfigError: if a setting makes no sense.
        RunError: if the file cannot be written.
        SignatureError: if the system evolves, or is not in a plane.
    """
    system = recipe.system.build()
    names = system.signature
    if names.evolves or names.num_spatial_dims != 2:
        raise SignatureError(f"Receivers record steady fields in a plane; '{system.name}' has none.")
    words = {"coefficients": names.coefficients, "inputs": names.inputs}
    unknown = tuple(name for word in recipe.unknown for name in words.get(word, (word,)))
    generator = generator_for(recipe.seed, "observe")
    problem = system.sample(1, recipe.grid(2), generator, dtype=torch.float64)
    told = dict[str, torch.Tensor]()
    if recipe.num_sources:
        problem, told = _of_sources(system, problem, recipe)
    if recipe.experiment:
        problem = _lit_otherwise(system, problem, unknown, recipe)
    seed = recipe.seed + _APART * recipe.experiment
    seen = observed(problem, recipe.num_receivers, recipe.noise, unknown=unknown, seed=seed)
    made = replace(seen, truth={**seen.truth, **told}) if names.inputs[0] in unknown else seen
    made.write(path)
    return made


def _lit_otherwise(system: System, problem: Batch, unknown: tuple[str, ...], recipe: ObserveRecipe) -> Batch:
    """Return another experiment: the problem with other known inputs, solved."""
    known = [place for place, name in enumerate(problem.signature.inputs) if name not in unknown]
    if not known or recipe.num_sources:
        raise ConfigError(
            "Another experiment on one problem has other inputs that are known: leave one of them out of unknown, and "
            "num_sources too."
        )
    generator = generator_for(recipe.seed, "observe", "experiment", recipe.experiment)
    other = system.sample_inputs(1, problem.grid, generator, dtype=torch.float64).inputs
    inputs = problem.inputs.clone()
    inputs[:, :, known] = other[:, :, known]
    return system.solve(replace(problem, inputs=inputs, targets=None))


def _of_sources(system: System, problem: Batch, recipe: ObserveRecipe) -> tuple[Batch, dict[str, torch.Tensor]]:
    """Return the problem with sources for its first input, solved, and where they are."""
    grid, name = problem.grid, problem.signature.inputs[0]
    if len(problem.signature.inputs) != 1:
        raise ConfigError(f"Sources stand in for the only input; '{system.name}' has {problem.signature.inputs}.")
    usual = system.sample(_USUAL, grid, generator_for(0, "observe", "usual"), dtype=torch.float64)
    sources = Sources.like(name, usual, recipe.num_sources, recipe.source_width)
    z = sources.start(1, generator_for(recipe.seed, "observe", "sources"))
    inputs = sources.of(z)[name][:, None, None]
    told = {key: own[0] for key, own in sources.told(z).items()}
    return system.solve(replace(problem, inputs=inputs, targets=None)), told
