"""From what a recipe says to where samples come from: one `Origin`, resolved once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from scifm.data.importing import open_store
from scifm.data.mixtures import Member, MixtureOrigin
from scifm.data.origin_config import DataConfig, MixtureConfig, SystemConfig
from scifm.data.origins import Origin, StoreOrigin, SystemOrigin
from scifm.errors import ConfigError
from scifm.fields.batch import Signature

__all__ = ["resolve_origin"]


def resolve_origin(
    data: DataConfig,
    *,
    system: SystemConfig | None = None,
    mixture: Sequence[MixtureConfig] = (),
    store: str | None = None,
    mapping: Mapping[str, Any] | None = None,
) -> Origin:
    """Return the origin that a recipe names: a system, a mixture, or a store.

    Args:
        data: grid and window; its own store, where none of the others is given.
        system: a system.
        mixture: systems and stores.
        store: folder of a store.
        mapping: how foreign data at `store` are read.

    Raises:
        ConfigError: if not exactly one of them is given, or a range or a window is not valid.
        StoreError, DataError: if a store cannot be read.
    """
    if store is None and data.store is not None:
        store, mapping = data.store, None if data.mapping is None else data.mapping.to_dict()
    if [system is not None, bool(mixture), store is not None].count(True) != 1:
        raise ConfigError("Samples come from exactly one of these: a system, a mixture, or a store, the folder of one.")
    if store is not None:
        return StoreOrigin(open_store(store, mapping), data.window)
    if system is not None:
        grid = data.grid(system.build().signature.num_spatial_dims)
        taken: tuple[Any, ...] = (data.windows_per_trajectory, data.same_knobs, data.curriculum)
        return SystemOrigin(system, grid, data.window, *taken)
    sources = [
        entry.build() if entry.store is None else StoreOrigin(open_store(entry.store, entry.mapping), data.window)
        for entry in mixture
    ]
    num_spatial_dims = reduce(Signature.union, (source.signature for source in sources)).num_spatial_dims
    stored = (source.grid for source in sources if isinstance(source, StoreOrigin))
    grid = next(stored, None) or data.grid(num_spatial_dims)
    origins = [
        source
        if isinstance(source, StoreOrigin)
        else SystemOrigin(entry, grid, data.window, data.windows_per_trajectory, data.same_knobs)
        for source, entry in zip(sources, mixture, strict=True)
    ]
    shares = [entry.weight * _size(origin, data.temperature) for origin, entry in zip(origins, mixture, strict=True)]
    counted = zip(origins, shares, mixture, strict=True)
    return MixtureOrigin(tuple(Member(origin, share, entry.loss_weight) for origin, share, entry in counted))


def _size(origin: Origin, temperature: float | None) -> float:
    """Return what the size of a member counts in its share of a mixture."""
    if temperature is None:
        return 1.0
    if not isinstance(origin, StoreOrigin):
        raise ConfigError(
            f"data.temperature weighs stores by how many samples they hold; '{origin.name}' is drawn and has no size. "
            "Leave it out and give weights, or put its samples into a store (scifm generate)."
        )
    return float(origin.split("train").num_samples ** (1 / temperature))
