"""Samples that a run has not seen, of what it was trained on: to question it where it should be at home."""

from __future__ import annotations

from typing import Any

from scifm.config import build_config
from scifm.data.importing import open_store
from scifm.data.mixture import MixtureStream
from scifm.data.split import StoreSplit
from scifm.data.store import Store
from scifm.errors import ConfigError
from scifm.evaluation.origin import draw_unseen, origin_of
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.runs import Run
from scifm.training.pretrain import PretrainRecipe
from scifm.training.recipe import SystemConfig

__all__ = ["unseen_samples"]


def unseen_samples(run: Run, num_samples: int, *, seed: int = 0) -> tuple[Batch | StoreSplit, dict[str, Any]]:
    """Return samples that no training draws, of the system, the mixture or the store a run was trained on last.

    Args:
        run: a training; of one on a store its test split is returned, whatever `num_samples` says.
        num_samples: how many to draw; of a mixture in equal parts, rounded up.
        seed: of the draw.

    Returns:
        The samples, and where they came from.

    Raises:
        ConfigError: if its configuration is not that of a training.
        StoreError: if it was trained on a store that is gone or has no test split.
    """
    adapted = run.config.get("downstream")
    if adapted is not None:
        if "system" in adapted:
            system = build_config(SystemConfig, adapted["system"], source=f"system of '{run.path}'").build()
            return draw_unseen(system, num_samples, Grid.from_dict(adapted["grid"]), seed=seed)
        return _test_split(open_store(adapted["store"], adapted.get("mapping")), adapted.get("stride", 1))
    recipe = build_config(PretrainRecipe, run.config, source=f"'{run.path}'")
    if recipe.data.store is not None:
        return _test_split(recipe.data.open_store(), recipe.data.stride)
    if recipe.system is not None:
        system = recipe.system.build()
        return draw_unseen(system, num_samples, recipe.data.grid(system.signature.num_spatial_dims), seed=seed)
    members = [entry.member() for entry in recipe.mixture]
    if not members:
        raise ConfigError(f"'{run.path}' does not say what it was trained on: give --system or --store.")
    grid = recipe.data.grid(members[0].system.signature.num_spatial_dims)
    stream = MixtureStream(members, grid, batch_size=len(members), seed=seed)
    batch = stream.draw(-(-num_samples // len(members)), "evaluate")
    return batch, {**origin_of(batch), "seed": seed}


def _test_split(store: Store, stride: int) -> tuple[StoreSplit, dict[str, Any]]:
    split = store.split("test", stride=stride)
    return split, origin_of(split)
