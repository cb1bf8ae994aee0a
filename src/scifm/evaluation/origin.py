"""What scores say of the samples they were made on, so that a number can be made again and told from another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from scifm.config import config_hash
from scifm.data.split import StoreSplit
from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.system import System

__all__ = ["draw_unseen", "identity_of", "name_of", "origin_of"]


def origin_of(samples: Batch | StoreSplit) -> dict[str, Any]:
    """Return in plain values where samples came from, as far as they say it themselves.

    A split tells its store, its name and its stride. A batch that was made in Python tells its systems, the range of
    each coefficient and a hash of its numbers.
    """
    about = {"num_samples": samples.num_samples, "num_points": list(samples.grid.num_points)}
    if isinstance(samples, StoreSplit):
        return {**(samples.origin or {"systems": [samples.system]}), **about}
    names, values = samples.signature.coefficients, samples.coefficients.detach().cpu()
    ranges = {}
    if len(values) and values.isfinite().all():
        ranges = {name: [float(f"{v:.6g}") for v in values[:, i].aminmax()] for i, name in enumerate(names)}
    systems = sorted(set(samples.systems))
    return {"batch": _digest(samples), "systems": systems, "coefficients": ranges, **about}


def _digest(batch: Batch) -> str:
    content = hashlib.sha256()
    tensors: tuple[Tensor | None, ...] = (batch.inputs, batch.coefficients, batch.targets)
    for tensor in tensors:
        if tensor is not None:
            content.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
    return content.hexdigest()[:16]


def draw_unseen(system: System, num_samples: int, grid: Grid, *, seed: int = 0) -> tuple[Batch, dict[str, Any]]:
    """Draw problems that no training draws, and return them with their origin.

    Args:
        system: what to sample, with its knobs.
        num_samples: how many.
        grid: where the fields live.
        seed: of the draw.

    Raises:
        ConfigError: if fewer than one sample is asked for.
    """
    if num_samples < 1:
        raise ConfigError(f"The number of samples must be at least 1; got {num_samples}.")
    origin = {"system": system.to_dict(), "seed": seed, "num_samples": num_samples, **grid.to_dict()}
    return system.sample(num_samples, grid, generator_for(seed, "evaluate")), origin


def identity_of(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes samples others: a store that was moved is the same one, by its content."""
    return {key: value for key, value in origin.items() if key != "store" or "content" not in origin}


def name_of(origin: Mapping[str, Any]) -> str:
    """Return a word for samples, the readable beginning of a file's name."""
    if "store" in origin:
        return f"{str(origin['store']).rstrip('/').rpartition('/')[2]}-{origin.get('split', 'samples')}"
    if "system" in origin:
        return str(origin["system"]["name"])
    return "+".join(origin.get("systems", ())) or f"samples-{config_hash(origin)}"
