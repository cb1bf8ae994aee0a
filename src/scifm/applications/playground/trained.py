"""What a run was trained on, out of its configuration, and the run made ready to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scifm.applications.playground.marching import PlayedEvolution
from scifm.applications.playground.problems import PlayedSystem
from scifm.data.run_origin import RunOrigin
from scifm.errors import ConfigError, DataError, RunError, SignatureError, StoreError, suggest
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.folder import ModelPlace, find_model
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.systems.evolving import Evolving
from scifm.systems.system import System
from scifm.wording import plural

__all__ = ["Playground", "trained_on"]

_NUM_POINTS = (32, 64, 128, 256)  # points along the longer side that are offered beside those of the training
_MARCHED_POINTS = {1: (64, 128, 256, 512), 2: (32, 64, 128)}  # the same where a solver marches, by dimension
_KINDS = {"pretrain": "Trained", "finetune": "Fine-tuned", "from_scratch": "Trained from scratch"}
_PRETRAINED_ON = {"system": "samples", "store": "a store", "mixture": "a mixture"}


def trained_on(place: ModelPlace) -> tuple[tuple[System, ...], Grid, str]:
    """Return the systems and the grid of a model's samples, and how it was trained, the beginning of a sentence.

    Of an adapted model they are those of its downstream samples.

    Raises:
        RunError: if its samples came from a store without a system that SciFM can solve, or nothing tells them.
        ConfigError: if the configuration is not one of a run.
    """
    run, past = place.run, place.provenance
    kind = past.made if run is None else run.kind
    if kind not in (*_KINDS, ""):
        raise RunError(
            f"'{place.path}' is a run of kind '{kind}', which the playground does not know. Give the folder of a run "
            "that 'scifm pretrain' or 'scifm finetune' printed."
        )
    try:
        origin = RunOrigin.of_model(place)
        if origin is None:
            raise RunError("it does not say which system it was trained on.")
        if origin.hiding is not None:
            raise RunError("it learned to reconstruct inputs, and no solutions: fine-tune it on some first.")
        systems = origin.systems()
    except (StoreError, ConfigError, RunError) as error:
        raise RunError(
            f"The system behind '{place.path}' is not known: {error} The playground needs a system that SciFM "
            "samples and solves: give a run trained on one, or on a store that 'scifm generate' made, or a system with "
            "--system, and --knob for its ranges."
        ) from error
    if kind == "pretrain":
        return systems, origin.grid, f"Trained on {_PRETRAINED_ON[origin.kind]} of"
    count = past.num_samples if run is None else run.config["num_samples"]
    return systems, origin.grid, f"{_KINDS[kind]} on {plural(count or 0, 'sample')} of"


@dataclass(frozen=True)
class Playground:
    """A trained operator with the systems to put to it."""

    name: str
    told: str  # one sentence on what it was trained on
    operator: Operator
    systems: tuple[PlayedSystem, ...] | tuple[PlayedEvolution, ...]  # one operator knows one of the two kinds
    grids: Mapping[int, Grid]  # those offered, by number of points along the longer side
    trained_points: int  # the key of the grid it was trained on

    @classmethod
    def open(cls, path: str | Path, *, system: System | None = None, grid: Grid | None = None) -> Playground:
        """Return the playground of a finished run or of a model.

        Without `system` it is asked about what it was trained on, which models of before do not tell; `grid` is of
        that system's problems, 64 points a side of length 1 when left out.

        Raises:
            RunError: if there is no finished run or model, or its system is not known or cannot be shown.
            ConfigError: if its configuration is not valid.
        """
        place = find_model(path)
        chosen: tuple[System, ...]
        if system is not None:
            own = grid or Grid.square(64, num_spatial_dims=system.signature.num_spatial_dims)
            chosen, how = (system,), "Asked about samples of"
        else:
            chosen, own, how = trained_on(place)
        operator = load_operator(place.folder)
        systems, counts = _played(chosen, operator)
        longest = max(own.num_points)
        sizes = {n: tuple(max(2, round(m * n / longest)) for m in own.num_points) for n in {*counts, longest}}
        offered = {n: own.resized(sizes[n]) for n in sorted(sizes)}
        grids = {n: grid for n, grid in offered.items() if _works(operator, systems, grid)}
        if longest not in grids:
            raise RunError(f"The operator of '{place.path}' does not answer {systems[0].title} on {longest} points.")
        sentence = f"{how} {'; '.join(system.title for system in systems)}; {own.told}."
        return cls(place.path.resolve().name, sentence, operator, systems, grids, longest)

    @property
    def marches(self) -> bool:
        """Whether its systems evolve."""
        return isinstance(self.systems[0], PlayedEvolution)

    def system(self, text: str) -> PlayedSystem | PlayedEvolution:
        """Return the system a browser asks for by its place in the list.

        Raises:
            ConfigError: if there is none.
        """
        places = [str(place) for place in range(len(self.systems))]
        if text not in places:
            raise ConfigError(f"System {suggest(text[:40], places)}")
        return self.systems[int(text)]

    def grid(self, text: str) -> Grid:
        """Return the grid a browser asks for by the number of points along its longer side.

        Raises:
            ConfigError: if it is not offered.
        """
        by_name = {str(n): grid for n, grid in self.grids.items()}
        if text not in by_name:
            raise ConfigError(f"Resolution {suggest(text[:40], by_name)}")
        return by_name[text]

    def to_dict(self) -> dict[str, Any]:
        grids = [{"longer_side": n, "num_points": list(grid.num_points)} for n, grid in self.grids.items()]
        systems = [system.to_dict() for system in self.systems]
        for played, entry in zip(self.systems, systems, strict=True):
            if isinstance(played, PlayedEvolution):
                entry["most_steps"] = {n: played.most_steps(grid) for n, grid in self.grids.items()}
        first = next(iter(self.grids.values()))
        return {
            "name": self.name,
            "told": self.told,
            "num_params": self.operator.num_params,
            "systems": systems,
            "grids": grids,
            "trained_points": self.trained_points,
            "extent": list(first.extent),
            "periodic": list(first.periodic),
        }


def _played(
    chosen: tuple[System, ...], operator: Operator
) -> tuple[tuple[PlayedSystem, ...] | tuple[PlayedEvolution, ...], tuple[int, ...]]:
    """Return the systems to play with, and the numbers of points to offer."""
    if any(isinstance(system, Evolving) for system in chosen):
        marched = tuple(PlayedEvolution.of(system, operator) for system in chosen)
        return marched, _MARCHED_POINTS[marched[0].system.signature.num_spatial_dims]
    return tuple(map(PlayedSystem.of, chosen)), _NUM_POINTS


def _works(operator: Operator, systems: tuple[PlayedSystem, ...] | tuple[PlayedEvolution, ...], grid: Grid) -> bool:
    """Return whether all systems and the operator work on a grid; also makes what they keep for each grid."""
    generator = generator_for(0, "playground")
    try:
        for played in systems:
            if isinstance(played, PlayedEvolution):
                state, _ = played.system.initial(1, grid, generator, torch.device("cpu"))
                played.march(operator, state[0], {dial.name: dial.start for dial in played.dials}, grid, 1)
            else:
                sample = played.system.sample(1, grid, generator, dtype=torch.float64)
                operator.answers(played.system.solve(sample).with_targets(None))
    except (SignatureError, DataError):
        return False
    return True
