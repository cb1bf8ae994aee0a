"""The march of finite volumes on a CPU, compiled: many times faster than operation after operation through torch.

``volumes.c`` does what `FiniteVolumeSystem` does through torch, with the same numbers to round-off: whole steps of one
sample at a time, which stay in the processor's caches. It is compiled for float32 and float64 when first needed, see
`scifm.native`; it is plain C, and runs wherever there is a C compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from scifm.fields.grid import Boundary, Grid
from scifm.native import Code, Library, load, vector_flags, width

__all__ = ["ENDS", "Equation", "library", "march", "sources", "volumes_for"]

Equation = Literal["water", "gas", "viscous gas"]
"""Equations that the C file knows: those of shallow water, Euler, and compressible Navier and Stokes."""

_SOURCE = Path(__file__).with_name("volumes.c")
_EQUATIONS: dict[Equation, int] = {"water": 0, "gas": 1, "viscous gas": 2}
ENDS: dict[Boundary, int] = {"periodic": 0, "wall": 1, "open": 2}
"""What may stand at the ends of an axis, and what the C file calls it."""

_TYPES = {torch.float32: "float", torch.float64: "double"}


def volumes_for(tensor: Tensor) -> Library | None:
    """Return the library where it can work on `tensor`, else None."""
    if tensor.device.type != "cpu" or tensor.dtype not in _TYPES or tensor.numel() == 0:
        return None
    return library(tensor.dtype)


@lru_cache(maxsize=2)
def library(dtype: torch.dtype) -> Library | None:
    """Load, compiled if needed; None where the system or the user says no."""
    return load(sources(width(), dtype))


def sources(bits: int, dtype: torch.dtype) -> Code:
    """Return the C file, for vectors of so many bits and numbers of single or double precision."""
    return Code((_SOURCE,), (f"-DREAL={_TYPES[dtype]}", "-fno-trapping-math", *vector_flags(bits)))


def march(
    library: Library,
    equation: Equation,
    state: Tensor,
    still: Tensor,
    coefficients: Tensor,
    grid: Grid,
    counts: Sequence[int],
    steps: Tensor,
) -> Tensor:
    """March every sample in its own number of steps.

    Args:
        library: of the state's precision.
        equation: which.
        state: what is conserved, ``(batch, outputs, *space)``, contiguous; overwritten.
        still: inputs that do not change in time, ``(batch, …, *space)``.
        coefficients: ``(batch, coefficients)``.
        grid: where.
        counts: steps of each sample.
        steps: how long they are, ``(batch,)``.

    Returns:
        How many cells the fastest wave crossed in a time at most, before any of the steps, ``(batch,)``.
    """
    assert state.is_contiguous()
    box = torch.tensor([*grid.num_points, *(ENDS[end] for end in grid.boundary)])
    per_width = torch.tensor([1 / width for width in grid.spacing], dtype=torch.float64)
    fastest = state.new_empty(len(state))
    numbers = [part.to(state.dtype).contiguous() for part in (steps, coefficients, still)]
    sizes = (_EQUATIONS[equation], grid.num_spatial_dims, len(state))
    library.call("march", *sizes, box, per_width, coefficients.shape[1], torch.tensor(counts), *numbers, state, fastest)
    return fastest
