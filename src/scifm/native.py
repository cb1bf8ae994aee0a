"""Compiles and loads C files of the package: plain functions that work where torch would take many passes over memory.

A C file travels with the package and is compiled once a machine, in about a second, into the user's cache folder. Where
that cannot be, its caller does the same through torch: no Linux, no C compiler (said once, as a warning), or
``SCIFM_NATIVE=0`` in the environment. Vectors are as wide as the processor has them, or narrower where
``SCIFM_NATIVE_WIDTH`` (128, 256 or 512, bits) says so.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scifm.errors import ConfigError

__all__ = ["Library", "load", "vector_flags", "width"]

_C_TYPES: dict[str, Any] = {"int": ctypes.c_int, "i64": ctypes.c_longlong}
_FLAGS = ("-O3", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
_WIDE = ("-mavx512f", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512")
_VECTORS = {512: _WIDE, 256: ("-mavx2", "-mfma"), 128: ()}  # 128: what every processor of the kind has
_WIDTHS = {"AVX512": 512, "AVX2": 256}  # bits, by what torch calls a processor's vectors


class Library:
    """The compiled functions; a call takes tensors, integers and None in the order of the C arguments.

    Those that a caller may use are ``void scifm_NAME(int threads, …)``, of ``int``, ``i64`` and pointers.

    Args:
        path: the shared library.
        sources: its C files; functions of files that they include count too.
    """

    def __init__(self, path: Path, sources: tuple[Path, ...]) -> None:
        library = ctypes.CDLL(str(path))
        self._functions: dict[str, Any] = {}
        text = "\n".join(_texts(sources))
        for name, parameters in re.findall(r"^void scifm_(\w+)\((.*?)\)", text, re.M | re.S):
            function = library[f"scifm_{name}"]
            function.restype = None
            function.argtypes = [
                ctypes.c_void_p if "*" in parameter else _C_TYPES[parameter.split()[0]]
                for parameter in parameters.split(",")
            ]
            self._functions[name] = function

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


def load(source: Path | tuple[Path, ...], flags: tuple[str, ...]) -> Library | None:
    """Compile if needed and load; None where the system, the compiler or the user says no.

    The caller keeps the answer, and so says a warning once.

    Args:
        source: the C file, or several that make one library; files they include lie beside them.
        flags: for the compiler, beside those that every file gets: optimization, OpenMP, a shared library.
    """
    if os.environ.get("SCIFM_NATIVE", "1") == "0" or sys.platform != "linux":
        return None
    compiler = next(
        (found for name in (os.environ.get("CC"), "cc", "gcc") if name and (found := shutil.which(name))), None
    )
    if compiler is None:
        _warn("no C compiler was found (tried $CC, cc, gcc)")
        return None
    sources = source if isinstance(source, tuple) else (source,)
    try:
        return Library(_compiled(compiler, sources, (*_FLAGS, *flags)), sources)
    except (OSError, subprocess.SubprocessError) as error:
        message = getattr(error, "stderr", None) or str(error)
        _warn(f"{compiler} did not give a usable library: {message.strip().splitlines()[-1]}")
        return None


def width() -> int:
    """Return how wide vectors are, in bits: what the processor has, as torch sees it, or the user's narrower choice.

    Raises:
        ConfigError: if ``SCIFM_NATIVE_WIDTH`` is none of 128, 256 and 512.
    """
    has = _WIDTHS.get(torch.backends.cpu.get_cpu_capability(), 128)
    wanted = os.environ.get("SCIFM_NATIVE_WIDTH", "512")
    if wanted not in ("128", "256", "512"):
        raise ConfigError(f"SCIFM_NATIVE_WIDTH must be 128, 256 or 512 (bits of a vector); got {wanted!r}.")
    return min(has, int(wanted))


def vector_flags(bits: int | None = None) -> tuple[str, ...]:
    """Return what tells a compiler to use vectors of so many bits, 128, 256 or 512; of `width` where none are given."""
    return _VECTORS[bits or width()]


@cache
def _warn(reason: str) -> None:
    warnings.warn(
        "Fast CPU kernels are off and torch does their work, several times slower: "
        f"{reason.rstrip('.')}. Install gcc, let XDG_CACHE_HOME name a folder that can be written, or set "
        "SCIFM_NATIVE=0 to be content with torch.",
        RuntimeWarning,
        stacklevel=4,
    )


def _texts(sources: tuple[Path, ...]) -> list[str]:
    """Return C files and, once each, those beside them that they include, or that these do."""
    paths, texts = list(sources), []
    for path in paths:  # grows
        texts.append(path.read_text("utf-8"))
        included = (path.with_name(name) for name in re.findall(r'^#include "(.+)"', texts[-1], re.M))
        paths += [beside for beside in included if beside not in paths]
    return texts


def _compiled(compiler: str, sources: tuple[Path, ...], flags: tuple[str, ...]) -> Path:
    """Return the shared library of these sources and compiler, compiled now if it is not in the cache."""
    named = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    key = hashlib.sha256("\0".join((*_texts(sources), *flags, named)).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scifm"
    target = folder / f"{sources[0].stem}-{key}.so"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder) as aside:  # others may be compiling too: the last rename wins
        made = Path(aside) / target.name
        command = [compiler, *flags, *map(str, sources), "-o", str(made)]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        made.replace(target)
    return target
