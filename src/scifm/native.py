"""Loads C files of the package: plain functions that work where torch would take many passes over memory.

A C file travels with the package. A wheel for one system (``scripts/wheels.py``) also has what a compiler made of it,
which is taken where it belongs to these very sources and flags; else it is compiled once a machine, in seconds, into
the user's cache folder. Where neither can be, its caller does the same through torch: no C compiler (said once, as a
warning), or ``SCIFM_NATIVE=0`` in the environment. Vectors are as wide as the processor has them, or narrower where
``SCIFM_NATIVE_WIDTH`` (128, 256 or 512, bits) says so.

No library is linked to a runtime of threads: it calls the OpenMP that torch has loaded, so that both share one set of
threads and no compiler's files are needed where it runs.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scifm.errors import ConfigError

__all__ = ["Code", "Library", "Target", "build", "load", "signatures", "vector_flags", "width"]

_HERE = Path(__file__).parent
_PREBUILT = _HERE / "prebuilt"  # in wheels for one system
_C_TYPES: dict[str, Any] = {"int": ctypes.c_int, "i64": ctypes.c_longlong}
_FLAGS = ("-O3", "-fno-math-errno", "-fPIC")
_WIDE = ("-mavx512f", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512")
_VECTORS = {512: _WIDE, 256: ("-mavx2", "-mfma"), 128: ()}  # 128: what every processor of the kind has
_WIDTHS = {"AVX512": 512, "AVX2": 256}  # bits, by what torch calls a processor's vectors
_SUFFIXES = {"linux": ".so", "darwin": ".dylib"}
_LINKED = {"linux": ("-lm",), "darwin": ("-undefined", "dynamic_lookup")}
_COMPILERS = ("cc", "gcc", "clang")
# What a library calls to have threads, made by GNU's compiler or by clang; runtimes that have it, if torch's has not.
_RUNTIMES = {
    "GOMP_parallel": ("libgomp.so.1",),
    "__kmpc_fork_call": ("libomp.so", "libomp.so.5", "libiomp5.so", "libomp.dylib"),
}


class Code(NamedTuple):
    """C files that make one library, and what a compiler is told beside what it is told of every file."""

    files: tuple[Path, ...]
    flags: tuple[str, ...]


class Target(NamedTuple):
    """What a library is made for: a system, ``linux`` or ``darwin``, and its processor, such as ``x86_64``."""

    system: str
    machine: str


class Library:
    """The compiled functions; a call takes tensors, integers and None in the order of the C arguments.

    Those that a caller may use are ``void scifm_NAME(int threads, …)``, of ``int``, ``i64`` and pointers.

    Attributes:
        prebuilt: whether it came with the package.
        threads: whether it can have several.

    Args:
        path: the shared library.
        files: its C files; functions of files that they include count too.

    Raises:
        OSError: if it cannot be loaded, or the process has no OpenMP that it could call.
    """

    def __init__(self, path: Path, files: tuple[Path, ...]) -> None:
        code = path.read_bytes()
        needed = [symbol for symbol in _RUNTIMES if symbol.encode() in code]
        for symbol in needed:
            if not _is_provided(symbol):
                raise OSError(f"no OpenMP runtime has {symbol} (tried torch's, {', '.join(_RUNTIMES[symbol])})")
        self.prebuilt, self.threads = path.parent == _PREBUILT, bool(needed)
        library = ctypes.CDLL(str(path))
        self._functions: dict[str, Any] = {}
        for name, parameters in signatures(files).items():
            function = library[f"scifm_{name}"]
            function.restype = None
            function.argtypes = [
                ctypes.c_void_p if "*" in parameter else _C_TYPES[parameter.split()[0]] for parameter in parameters
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
        threads = torch.get_num_threads() if self.threads else 1
        function(threads, *(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))


def signatures(files: tuple[Path, ...]) -> dict[str, list[str]]:
    """Return the functions of C files that a caller may use: names without ``scifm_``, parameters as written."""
    found = re.findall(r"^void scifm_(\w+)\((.*?)\)", "\n".join(_texts(files)), re.M | re.S)
    return {name: [part.strip() for part in parameters.split(",")] for name, parameters in found}


def load(code: Code) -> Library | None:
    """Load, from the package or compiled if needed; None where the system, the compiler or the user says no.

    The caller keeps the answer, and so says a warning once.
    """
    if os.environ.get("SCIFM_NATIVE", "1") == "0" or sys.platform not in _SUFFIXES:
        return None
    reasons = []
    shipped = _PREBUILT / _name(code, _host())
    if shipped.exists():
        try:
            return Library(shipped, code.files)
        except OSError as error:
            reasons.append(f"what came with the package cannot be used: {error}")
    wanted = (os.environ.get("CC"), *_COMPILERS)
    compiler = next((os.path.abspath(found) for name in wanted if name and (found := shutil.which(name))), None)
    if compiler is None:
        reasons.append(f"no C compiler was found (tried $CC, {', '.join(_COMPILERS)})")
    else:
        try:
            return _compiled_here(code, compiler)
        except (OSError, subprocess.SubprocessError) as error:
            reasons.append(f"{compiler} did not give a usable library: {_last_line(error)}")
    _warn("; ".join(reasons))
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


def vector_flags(bits: int) -> tuple[str, ...]:
    """Return what tells a compiler to use vectors of so many bits, 128, 256 or 512."""
    return _VECTORS[bits]


def build(code: Code, folder: Path, compiler: Sequence[str], target: Target | None = None) -> Path:
    """Compile into a folder, under the name by which `load` finds it in a package, and return the library.

    Args:
        code: what.
        folder: where; made if it is not there.
        compiler: the command and what it is always told, such as a target of its own.
        target: for which system and processor; those of this machine where none are given.

    Raises:
        OSError: if the compiler or the folder cannot be used.
        subprocess.SubprocessError: if the compiler fails.
    """
    target = target or _host()
    return _compile(code, folder / _name(code, target), compiler, target, threads=True)


@cache
def _warn(reason: str) -> None:
    warnings.warn(
        "Fast CPU kernels are off and torch does their work: a network takes up to twice as long, a march of gases or "
        f"shallow water over ten times: {reason.rstrip('.')}. Install a C compiler such as gcc, or a wheel made for "
        "this system; let XDG_CACHE_HOME name a folder that can be written; or set SCIFM_NATIVE=0 to be content "
        "with torch.",
        RuntimeWarning,
        stacklevel=4,
    )


@cache
def _warn_of_one_thread(reason: str) -> None:
    warnings.warn(
        f"Fast CPU kernels work on one thread only: {reason.rstrip('.')}. Let CC name gcc, or install clang's OpenMP "
        "(libomp).",
        RuntimeWarning,
        stacklevel=5,
    )


def _host() -> Target:
    return Target(sys.platform, platform.machine())


def _texts(files: tuple[Path, ...]) -> list[str]:
    """Return C files and, once each, those that they include by name, or that these do."""
    paths, texts = list(files), []
    for path in paths:  # grows
        texts.append(path.read_text("utf-8"))
        for name in re.findall(r'^#include "(.+)"', texts[-1], re.M):
            beside = path.with_name(name)
            included = beside if beside.exists() else _HERE / name
            if included not in paths:
                paths.append(included)
    return texts


def _name(code: Code, target: Target, *more: str) -> str:
    """Return a file's name that tells its sources, flags, target and what else from all others."""
    told = "\0".join((*_texts(code.files), *_FLAGS, *code.flags, *target, *more))
    return f"{code.files[0].stem}-{hashlib.sha256(told.encode()).hexdigest()[:16]}{_SUFFIXES[target.system]}"


def _compiled_here(code: Code, compiler: str) -> Library:
    """Return the library from the user's cache, compiled now if it is not there; of one thread if it must be."""
    named = _run([compiler, "--version"], timeout=60)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scifm"

    def made(*, threads: bool) -> Library:
        path = folder / _name(code, _host(), named, str(threads))
        if not path.exists():
            _compile(code, path, (compiler,), _host(), threads=threads)
        return Library(path, code.files)

    try:
        return made(threads=True)
    except (OSError, subprocess.SubprocessError) as error:
        library = made(threads=False)
        _warn_of_one_thread(f"with {compiler}, {_last_line(error)}")
        return library


def _compile(code: Code, path: Path, compiler: Sequence[str], target: Target, *, threads: bool) -> Path:
    openmp = "-fopenmp" if threads else "-fopenmp-simd"
    # Apple's clang has OpenMP but refuses to be told so, unless one speaks to its inner part.
    openmp_flags = ("-Xclang", openmp) if target.system == "darwin" else (openmp,)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=path.parent) as aside:  # others may be compiling too: the last rename wins
        flags = (*_FLAGS, *openmp_flags, *code.flags, f"-I{_HERE}")
        _run([*compiler, *flags, "-c", *map(str, code.files)], timeout=300, folder=aside)
        objects = sorted(path.name for path in Path(aside).glob("*.o"))
        _run([*compiler, "-shared", *objects, *_LINKED[target.system], "-o", path.name], timeout=300, folder=aside)
        Path(aside, path.name).replace(path)
    return path


def _run(command: list[str], timeout: float, folder: str | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=timeout, cwd=folder)
    return done.stdout


def _last_line(error: Exception) -> str:
    told = getattr(error, "stderr", None) or str(error)
    return told.strip().splitlines()[-1]


def _is_provided(symbol: str) -> bool:
    """Return whether libraries find a runtime's function, after letting them: torch may have it for itself alone."""
    everyone, runtimes = ctypes.CDLL(None), _runtimes(symbol)
    while not hasattr(everyone, symbol):
        runtime = next(runtimes, None)
        if runtime is None:
            return False
        with suppress(OSError):
            ctypes.CDLL(runtime, mode=ctypes.RTLD_GLOBAL)
    return True


def _runtimes(symbol: str) -> Iterator[str]:
    """Yield what is loaded, what came with torch or lies in the environment, and what the system may have."""
    loaded = Path("/proc/self/maps")
    if loaded.exists():
        yield from dict.fromkeys(re.findall(r"/.*/lib[gi]?omp[^/\n]*$", loaded.read_text(), re.M))
    for folder in (Path(torch.__file__).parent / "lib", Path(sys.prefix) / "lib"):
        yield from map(str, sorted(folder.glob("lib*omp*")))
    yield from _RUNTIMES[symbol]
