"""Foreign data said to be of a known system: held against its names and its equation before that is believed.

What is believed brings the system's exact scalings, so imported data are normalized as generated ones are.
"""

from __future__ import annotations

import numpy as np
import torch

from scifm.data.formats.format import Contents
from scifm.data.formats.mapping import DataMapping
from scifm.data.formats.reader import MappedReader, frame_times, grid_of, trajectory_count
from scifm.data.split import StoreSplit
from scifm.errors import ConfigError, DataError
from scifm.fields.batch import Signature
from scifm.fields.seeds import generator_for
from scifm.systems.catalog import find_system
from scifm.systems.system import System

__all__ = ["doubt", "known_system"]

_NUM_SAMPLES = 4
_SOLVES = 0.02  # residual over forcing; a wrong sign or scale leaves 0.5 and more
_ROUNDING = 10  # times what rounding the solution once leaves, which grows with resolution; solvers round often


def known_system(contents: Contents, mapping: DataMapping) -> System | None:
    """Return the system that a mapping names, with its default options, or None where it names none.

    Raises:
        ConfigError: if there is no such system, or its names are not those of the mapping.
        DataError: if the first samples do not solve its equation; says by how much.
    """
    if mapping.system is None:
        return None
    system = find_system(mapping.system)()
    if mapping.signature != system.signature:
        raise ConfigError(
            f"The mapping says system = '{system.name}', which has {_names(system.signature)}; the mapping has "
            f"{_names(mapping.signature)}. Use these names in this order, or leave out system."
        )
    reason = doubt(contents, mapping, system)
    if reason is not None:
        raise DataError(
            f"'{contents.path}' is said to be of system '{system.name}', but {reason}. Look at signs, units, the "
            "extent and the order of axes, or leave out system."
        )
    return system


def doubt(contents: Contents, mapping: DataMapping, system: System) -> str | None:
    """Return by how much the first samples miss the equation of a system, or None where they solve it.

    The mapping has the names of the system.

    Raises:
        SignatureError: if the system is not defined on such a grid.
        StoreError: if the samples cannot be read.
        DataError: if they hold something else than finite numbers.
    """
    part, arrays = next(iter(contents.parts.items()))
    reader = MappedReader(contents, part, mapping, range(min(_NUM_SAMPLES, trajectory_count(arrays, mapping))))
    dtype: torch.dtype = getattr(torch, mapping.dtype)
    split = StoreSplit(reader, mapping.signature, grid_of(contents, mapping), "", dtype, frame_times(contents, mapping))
    batch = split.some(_NUM_SAMPLES).to(dtype=torch.float64)
    solution = batch.require_targets()
    residual = system.residual(batch)
    forcing = _sizes(system.residual(batch.with_targets(torch.zeros_like(solution))))
    noise = 2 * torch.rand(solution.shape, generator=generator_for(0, "rounding"), dtype=torch.float64) - 1
    rounded = batch.with_targets(solution * (1 + _half_step(contents, mapping) * noise))
    rounding = _sizes(system.residual(rounded) - residual)
    missed = _sizes(residual)
    wrong = ~(missed <= _SOLVES * forcing + _ROUNDING * rounding)
    if not wrong.any():
        return None
    first = int(wrong.nonzero()[0])
    share = (missed[first] / forcing[first]).item()
    return f"its sample {first} does not solve {system.equation} (residual {share:.2g} of the forcing)"


def _half_step(contents: Contents, mapping: DataMapping) -> float:
    """Return by how much, of itself, a number of the solution may be off from rounding."""
    types = [np.dtype(contents.arrays[entry.array].dtype) for entry in mapping.fields.values() if entry.role != "input"]
    coarsest = min([np.dtype(mapping.dtype), *(own for own in types if own.kind == "f")], key=lambda own: own.itemsize)
    return float(np.finfo(coarsest).eps) / 2


def _sizes(values: torch.Tensor) -> torch.Tensor:
    return values.flatten(1).norm(dim=1)


def _names(signature: Signature) -> str:
    kind = "evolving" if signature.evolves else "steady"
    listed = {"inputs": signature.inputs, "coefficients": signature.coefficients, "outputs": signature.outputs}
    named = ", ".join(f"{role} {', '.join(names) or 'none'}" for role, names in listed.items())
    return f"{named} ({kind}, {signature.num_spatial_dims}D)"
