"""Loads the float32 work of networks in C: products, transforms, layers, pointwise work, attention and recurrence.

One text for every width of vectors (``vectors.h``); `scifm.native.width` says which. Where it cannot be used, `kernels`
in this room does the same through torch: another device, another precision, or what `scifm.native` says.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import special
from torch import Tensor

from scifm.native import Code, Library, load, vector_flags, width

__all__ = ["compiled", "is_exporting", "library", "native_for", "set_tables", "sources"]

_FILES = ("products", "transforms", "layers", "pointwise", "attention", "stages", "recurrence")
_SOURCES = tuple(Path(__file__).with_name(f"{name}.c") for name in _FILES)
_INTERVALS, _TABLES_END, _TABLES_DEGREE = 16, 5.625, 5  # there the normal tail is 1e-8
_TAIL_END, _TAIL_DEGREE = 6.0, 8


def _gelu_tables() -> Tensor:
    """Return polynomials of the normal distribution function P and of the slope of GELU, P + x P′, both minus 1/2.

    Interpolated in float64 at Chebyshev points of intervals of |x|, in a variable that runs from 0 to 1 there; in the
    last interval both are 1/2. Error before rounding: at most 4e-9; where the constant begins, 9e-9.

    Returns:
        numbers ``(2, degree + 1, intervals)``, then the number of intervals in a unit of |x|.
    """
    last = _INTERVALS - 1
    within = (1 + np.polynomial.chebyshev.chebpts1(_TABLES_DEGREE + 1)) / 2
    x = (np.arange(last)[:, None] + within) * _TABLES_END / last
    odd = special.ndtr(x) - 0.5
    slope = odd + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    tables = np.zeros((2, _TABLES_DEGREE + 1, _INTERVALS))
    for values, table in zip((odd, slope), tables, strict=True):
        table[:, :last] = np.polynomial.polynomial.polyfit(within, values.T, _TABLES_DEGREE)
        table[0, last] = 0.5
    return torch.tensor([*tables.ravel(), last / _TABLES_END], dtype=torch.float32)


def _gelu_tail() -> Tensor:
    """Return the polynomial p of P(−a) = p(a)⁻⁸, then where it ends: what processors use on which looking up is dear.

    Least squares in float64, weighted so that errors of a P(−a) count alike. Error before rounding: of GELU at most
    7e-8, of its slope 3.1e-7; after, 2.1e-7 and 5.3e-7.
    """
    a = (1 + np.polynomial.chebyshev.chebpts1(400)) / 2 * _TAIL_END
    values = special.ndtr(-a) ** -0.125
    weights = values**-9 * np.maximum(a, 0.5)
    p = np.polynomial.Polynomial.fit(a, values, _TAIL_DEGREE, domain=[0, _TAIL_END], w=weights)
    return torch.tensor([*p.convert().coef, _TAIL_END], dtype=torch.float32)


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
    """Load, compiled if needed; None where the system or the user says no."""
    return compiled(width())


def sources(bits: int, processor: int | None = None) -> Code:
    """Return the C files, for vectors of so many bits; a `processor` with narrower ones does them in parts, slowly."""
    return Code(_SOURCES, (f"-DLANES={bits // 32}", *vector_flags(processor or bits)))


def compiled(bits: int, processor: int | None = None) -> Library | None:
    """Load what `sources` tells, compiled if needed, with its tables."""
    found = load(sources(bits, processor))
    if found is not None:
        set_tables(found, bits)
    return found


def set_tables(library: Library, bits: int) -> None:
    """Give a library what it looks up: once, before anything else."""
    library.call("set_gelu", _gelu_tables() if bits == 512 else _gelu_tail())
