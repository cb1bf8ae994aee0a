"""What scores say of the samples they were made on, so that a number can be made again and told from another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scifm.config import config_hash
from scifm.fields.samples import Samples

__all__ = ["identity_of", "name_of", "origin_of"]


def origin_of(samples: Samples) -> dict[str, Any]:
    """Return in plain values where samples came from, as far as they say it themselves.

    A split tells its store, its name and its stride. A batch that was made in Python tells its systems, the range of
    each coefficient and a hash of its numbers.
    """
    return {**samples.describe(), "num_samples": samples.num_samples, "num_points": list(samples.grid.num_points)}


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
