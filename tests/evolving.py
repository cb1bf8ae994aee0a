"""Trajectories of an evolving system in a foreign file: a decaying wave, another rate in each trajectory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tiny
from scifm.data.formats.mapping import DataMapping
from scifm.data.importing import import_data, open_data
from scifm.data.store import Store
from scifm.training.pretrain import PretrainRecipe

__all__ = ["NUM_FRAMES", "in_place", "recipe", "store"]

NUM_FRAMES, POINTS = 5, 16
MAPPING = DataMapping.model_validate(
    {
        "format": "arrays",
        "fields": {"heat": {"array": "heat", "axes": ["trajectory", "time", "y", "x"]}},
        "coefficients": {"rate": "rate"},
        "time": {"interval": 0.1},
        "extent": {"y": 1.0, "x": 1.0},
        "boundary": {"y": "periodic", "x": "periodic"},
        "splits": {"train": 0.5, "valid": 0.25, "test": 0.25},
    }
)


def in_place(folder: Path, num_trajectories: int = 16, *, seed: int = 0) -> Store:
    """Return foreign data, opened where they lie: no two windows are equal."""
    random = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(POINTS) / POINTS
    phase, rate = random.uniform(0, 2 * np.pi, num_trajectories), random.uniform(0.5, 2, num_trajectories)
    wave = np.cos(angle[None, None, :] + angle[None, :, None] + phase[:, None, None])
    decay = np.exp(-rate[:, None] * 0.1 * np.arange(NUM_FRAMES))
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "heat.npz", heat=(decay[:, :, None, None] * wave[:, None]).astype(np.float32), rate=rate)
    return open_data(folder / "heat.npz", MAPPING)


def store(folder: Path, num_trajectories: int = 16, *, seed: int = 0) -> Store:
    """Return the same copied into a store: half of the trajectories to train on, a quarter each to score."""
    return import_data(in_place(folder / "foreign", num_trajectories, seed=seed).path, folder / "heat", MAPPING)


def recipe(**changes: object) -> PretrainRecipe:
    """Return a recipe for such a store."""
    tree = {key: value for key, value in tiny.recipe(model={"normalization": "constant"}).items() if key != "system"}
    tree["data"] = {key: value for key, value in tree["data"].items() if key != "num_points"}
    return PretrainRecipe.read({**tree, **changes})
