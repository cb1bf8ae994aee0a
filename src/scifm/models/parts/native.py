"""Compiles, loads and calls ``kernels.c``: the float32 products of a CPU with AVX-512.

The C file travels with the package and is compiled once a machine, in about a second, into the user's cache folder.
Where it cannot be used, `kernels` in this room does the same through torch: a processor without AVX-512, another
device, another precision, no C compiler (said once, as a warning), or ``SCIFM_NATIVE=0`` in the environment.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor

__all__ = ["Library", "is_exporting", "library", "native_for"]

_SOURCE = Path(__file__).with_name("kernels.c")
_INTERVAL = 0.375  # of |x|, for the tables of GELU: 15 of them reach 5.6, where the normal tail is 1e-8
_C_TYPES: dict[str, Any] = {"int": ctypes.c_int, "i64": ctypes.c_longlong, "float*": ctypes.c_void_p}
_FLAGS = ("-O3", "-mavx2", "-mfma", "-mavx512f", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")


class Library:
    """The compiled functions; a call takes tensors, integers and None in the order of the C arguments."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._functions: dict[str, Any] = {}
        for name, parameters in re.findall(r"^void scifm_(\w+)\((.*?)\)", _SOURCE.read_text("utf-8"), re.M | re.S):
            function = library[f"scifm_{name}"]
            function.restype = None
            plain = re.sub(r"(?:const )?float \*", "float* ", parameters)  # pointers told as one type
            function.argtypes = [_C_TYPES[parameter.strip().rsplit(maxsplit=1)[0]] for parameter in plain.split(",")]
            self._functions[name] = function
        self.call("set_tables", _gelu_tables())

    def call(self, name: str, *arguments: Tensor | int | None) -> None:
        """Run ``scifm_<name>`` on as many threads as torch uses.

        Raises:
            TypeError: if the number of arguments is not that of the C function.
            ctypes.ArgumentError: if one is of another kind.
        """
        function = self._functions[name]
        if len(arguments) + 1 != len(function.argtypes):
            raise TypeError(f"{name} takes {len(function.argtypes) - 1} arguments; got {len(arguments)}.")
        function(torch.get_num_threads(), *(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))


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
    wanted = os.environ.get("SCIFM_NATIVE", "1") != "0"
    if not wanted or sys.platform != "linux" or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    compiler = next(
        (found for name in (os.environ.get("CC"), "cc", "gcc") if name and (found := shutil.which(name))), None
    )
    if compiler is None:
        _warn("no C compiler was found (tried $CC, cc, gcc)")
        return None
    try:
        return Library(_compiled(compiler))
    except (OSError, subprocess.SubprocessError) as error:
        message = getattr(error, "stderr", None) or str(error)
        _warn(f"{compiler} did not give a usable library: {message.strip().splitlines()[-1]}")
        return None


def _warn(reason: str) -> None:
    warnings.warn(
        "The fast CPU kernels are off and torch does their work, two to three times slower: "
        f"{reason.rstrip('.')}. Install gcc, let XDG_CACHE_HOME name a folder that can be written, or set "
        "SCIFM_NATIVE=0 to be content with torch.",
        RuntimeWarning,
        stacklevel=3,
    )


def _compiled(compiler: str) -> Path:
    """Return the shared library of this source and compiler, compiled now if it is not in the cache."""
    named = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    key = hashlib.sha256("\0".join((_SOURCE.read_text("utf-8"), *_FLAGS, named)).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scifm"
    target = folder / f"kernels-{key}.so"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder) as aside:  # others may be compiling too: the last rename wins
        made = Path(aside) / target.name
        command = [compiler, *_FLAGS, str(_SOURCE), "-o", str(made)]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        made.replace(target)
    return target
