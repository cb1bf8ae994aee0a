"""Loads ``kernels.c``: the float32 products of a CPU with AVX-512.

Where it cannot be used, `kernels` in this room does the same through torch: a processor without AVX-512, another
device, another precision, or what `scifm.native` says.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import special
from torch import Tensor

from scifm.native import Library, load

__all__ = ["is_exporting", "library", "native_for"]

_SOURCE = Path(__file__).with_name("kernels.c")
_INTERVAL = 0.375  # of |x|, for the tables of GELU: 15 of them reach 5.6, where the normal tail is 1e-8
_FLAGS = ("-mavx2", "-mfma", "-mavx512f")


def _gelu_tables() -> Tensor:
    """Return polynomials of the normal distribution function P and of the slope of GELU, P + x P′, both minus 1/2.

    Interpolated in float64 at Chebyshev points of intervals of |x|, in a variable that runs from 0 to 1 there; in the
    last interval both are 1/2. Error before rounding: at most 4e-9 and 3e-8; where the constant begins, 9e-9 and 3e-7.

    Returns:
        numbers ``(2, degree + 1, intervals)``, then the number of intervals in a unit of |x|.
    """
    within = (1 + np.polynomial.chebyshev.chebpts1(6)) / 2
    x = (np.arange(15)[:, None] + within) * _INTERVAL
    odd = special.ndtr(x) - 0.5
    slope = odd + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    tables = np.zeros((2, 6, 16))
    for values, table in zip((odd, slope), tables, strict=True):
        table[:, :15] = np.polynomial.polynomial.polyfit(within, values.T, 5)
        table[0, 15] = 0.5
    return torch.tensor([*tables.ravel(), 1 / _INTERVAL], dtype=torch.float32)


def is_exporting() -> bool:
    """Return whether torch writes down a program instead of computing.

    Only its plain functions may then be called, and nothing made then may be kept: numbers of points can be symbols.
    """
    return bool(getattr(torch.compiler, "is_exporting", bool)())  # torch before 2.7 does not tell


def native_for(tensor: Tensor) -> Library | None:
    """Return the library where it can work on `tensor`, else None."""
    if tensor.dtype != torch.float32 or type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.device.type != "cpu":
        return None
    if tensor.numel() == 0 or torch.compiler.is_compiling():  # no rows to cut; nothing a compiler could trace
        return None
    return library()


@lru_cache(maxsize=1)
def library() -> Library | None:
    """Compile if needed and load; None where the processor, the system or the user says no."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    found = load(_SOURCE, _FLAGS)
    if found is not None:
        found.call("set_tables", _gelu_tables())
    return found
