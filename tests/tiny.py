"""Settings small enough to train in a second: what the tests of training, studies and the command line share."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.normalization import Encoded
from scifm.fields.seeds import DrawingFrom, generator_for
from scifm.models.fno import FNOConfig
from scifm.models.operator import Operator
from scifm.models.registry import save_operator
from scifm.runs import Run
from scifm.systems.catalog import SYSTEMS
from scifm.systems.periodic_elliptic import PeriodicElliptic
from scifm.systems.poisson import Poisson
from scifm.training.pretrain import PretrainRecipe, build_operator

__all__ = [
    "ADAPTING",
    "EVOLVING",
    "GRID",
    "NETWORK",
    "RECIPE",
    "STEADY",
    "TRAINING",
    "batch",
    "dropping_operator",
    "encoded",
    "finished_run",
    "graph_study",
    "operator",
    "recipe",
    "steps_of",
]

STEADY = {name: system for name, system in SYSTEMS.items() if issubclass(system, PeriodicElliptic)}
"""Our systems that do not evolve and have constant coefficients; all are of two dimensions."""

GRID = Grid.square(16)
NETWORK: dict[str, Any] = {"width": 4, "modes": 3, "num_layers": 2, "projection_width": 8, "latent_points": 8}
TRAINING: dict[str, Any] = {
    "num_steps": 12,
    "batch_size": 4,
    "learning_rate": 1e-2,
    "validate_every": 4,
    "log_every": 2,
    "checkpoint_every": 3,
    "accelerator": "cpu",
}
ADAPTING = {name: value for name, value in TRAINING.items() if name != "learning_rate"}  # candidates stand elsewhere
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "seed": 1,
    "system": {"name": "poisson", "knobs": {"anisotropy": [1, 5]}},
    "data": {"num_points": 16, "num_validation_samples": 4, "num_normalization_samples": 8},
    "model": {"network": NETWORK},
    "training": TRAINING,
}

EVOLVING: dict[str, Any] = {
    **RECIPE,
    "system": {"name": "burgers", "options": {"num_frames": 5}},
    "data": {**RECIPE["data"], "history": 2, "horizon": 2, "windows_per_trajectory": 2},
}
"""The same of what evolves: two frames in, marched by two steps."""


def recipe(**changes: Any) -> dict[str, Any]:
    """Return the recipe with whole tables merged: ``recipe(training={"num_steps": 3})``."""
    tree = copy.deepcopy(RECIPE)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            tree[key] = {**tree[key], **value}
        else:
            tree[key] = value
    return tree


def batch(num_samples: int = 4, *, purpose: str = "test", dtype: torch.dtype = torch.float32) -> Batch:
    return Poisson().sample(num_samples, GRID, generator_for(0, purpose), dtype=dtype)


def encoded(inputs: torch.Tensor, coefficients: torch.Tensor) -> Encoded:
    """Return what a network is given: numbers on a periodic box of side one."""
    space = tuple(inputs.shape[3:])
    grid = Grid(space, (1.0,) * len(space), (True,) * len(space))
    return Encoded(inputs, coefficients, grid, output_scale=inputs.new_ones(()))


def operator(*, seed: int = 0, **network: Any) -> Operator:
    """Return a small untrained operator for Poisson that changes no number on the way in or out."""
    from scifm.models.fno import FNO

    torch.manual_seed(seed)
    return FNO(Poisson.signature, FNOConfig(**{**NETWORK, **network}))


def dropping_operator(*, seed: int = 0) -> Operator:
    """Return someone else's small untrained network, which draws numbers in every step it trains."""
    import networks
    from scifm.models.module_operator import ModuleOperator

    channels = len(Poisson.signature.inputs) + len(Poisson.signature.coefficients)
    with DrawingFrom(torch.Generator().manual_seed(seed)):  # threads share the global one
        return ModuleOperator.wrap(networks.Dropping(channels, 1), Poisson.signature)


def finished_run(root: Path, tree: dict[str, Any] | None = None) -> Run:
    """Return a complete run with an untrained operator: a parent where nothing hangs on how good it is."""
    from scifm.data.normalize import fit_normalization

    settings = PretrainRecipe.read(tree or RECIPE)
    run = Run.prepare(root, settings.name, settings.to_dict())
    normalization = fit_normalization(batch(16), Poisson.homogeneities)
    save_operator(
        build_operator(Poisson.signature, settings.model.resolve(), normalization, seed=1), run.path / "model"
    )
    run.set_status("complete")
    return run


def steps_of(events: Iterable[dict[str, Any]], kind: str) -> list[int]:
    """Return the steps of the events of one kind, in order."""
    return [event["step"] for event in events if event["event"] == kind]


FEW_CHOICES: dict[str, Any] = {  # of what adapts, so that seconds suffice; the rest is chosen elsewhere
    "learning_rates": [3e-4, 1e-3],
    "scratch_learning_rates": [3e-3, 1e-2],
    "refit_coefficients": "never",
    "min_scored": 1,
}


def graph_study(**changes: Any) -> dict[str, Any]:
    """Return a study of two sources, one of them a mixture, and two targets, in seconds."""
    poisson = {"name": "poisson", "knobs": {"anisotropy": [1, 5]}}
    tree: dict[str, Any] = {
        "title": "too small to mean anything",
        "seeds": [0, 1],
        "few_shot": [4],
        "from_scratch": [4, 8],
        "sizes": ["toy"],
        "models": {"toy": {"network": NETWORK}, "toy-wide": {"network": {**NETWORK, "width": 6}}},
        "data": RECIPE["data"],
        "training": {**TRAINING, "num_steps": 6},
        "adapt": {**FEW_CHOICES, "training": {**ADAPTING, "num_steps": 3}},
        "sources": [
            {"name": "poisson", "systems": [poisson]},
            {
                "name": "mixture",
                "seeds": [0],
                "systems": [poisson, {"name": "advection_diffusion", "weight": 2.0}],
                "targets": ["near"],
            },
        ],
        "targets": [
            {"name": "near", "system": {"name": "poisson", "knobs": {"anisotropy": [1, 3]}}},
            {"name": "far", "system": {"name": "poisson", "knobs": {"anisotropy": [5, 10]}}},
        ],
        "scaling": {"source": "poisson", "sizes": ["toy", "toy-wide"], "num_steps": [3], "seeds": [0]},
        "pool_size": 12,
        "num_test_samples": 6,
    }
    return {**copy.deepcopy(tree), **changes}
