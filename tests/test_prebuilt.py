"""C files that were compiled elsewhere need no compiler; threads are torch's; what a Mac is told."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
import torch

import scifm.native
from compiled_anew import emptied
from scifm.models.parts import compiled_jets, native
from scifm.native import Code, Library, Target, build, load, signatures, vector_flags, width
from scifm.systems.solvers import volumes

PACKAGE = Path(scifm.native.__file__).parent
GNU = shutil.which("gcc")
needs_gcc = pytest.mark.skipif(GNU is None or native.library() is None, reason="needs Linux and gcc")
CODES = {
    "layers": native.sources(width()),
    "networks of coordinates": compiled_jets.sources(width()),
    **{f"finite volumes, {dtype}": volumes.sources(width(), dtype) for dtype in (torch.float32, torch.float64)},
}
SMALL = """
#include "threads.h"
typedef long long i64;

/* Each thread adds up its own of 0 ... n - 1. */
void scifm_share(int threads, i64 n, float *sums) {
#pragma omp parallel num_threads(threads)
    for (i64 i = omp_get_thread_num(); i < n; i += omp_get_num_threads()) sums[omp_get_thread_num()] += (float)i;
}
"""


@pytest.fixture
def small(tmp_path) -> Code:
    file = tmp_path / "small.c"
    file.write_text(SMALL)
    return Code((file,), vector_flags(128))


@pytest.fixture
def shipped(small, tmp_path) -> Path:
    """The library of `small`, where a wheel would have it."""
    return build(small, tmp_path / "prebuilt", (GNU,))


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache, and a place for what comes with the package."""
    with emptied(monkeypatch, tmp_path / "cache", native.library) as cache:
        monkeypatch.setattr(scifm.native, "_PREBUILT", tmp_path / "prebuilt")
        yield cache / "scifm"


@pytest.fixture
def bare(fresh, monkeypatch):
    """The same on a machine without a compiler."""
    monkeypatch.setenv("CC", "/bin/false")
    monkeypatch.setenv("PATH", "")
    return fresh


def shared(library: Library) -> list[float]:
    """Return what each of two threads has added up."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        sums = torch.zeros(2)
        library.call("share", 10, sums)
    finally:
        torch.set_num_threads(before)
    return sums.tolist()


@needs_gcc
def test_what_came_with_the_package_needs_no_compiler(small, shipped, bare):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        library = load(small)
    assert library is not None
    assert library.prebuilt
    assert shared(library) == [20, 25]
    assert not bare.exists()


@needs_gcc
def test_it_is_not_taken_for_other_sources_flags_or_processors(small, shipped, fresh, monkeypatch):
    for other in (small._replace(flags=("-DOTHER",)), small):
        if other is small:
            small.files[0].write_text(SMALL.replace("Each", "Every"))
        library = load(other)
        assert library is not None
        assert not library.prebuilt
        assert shared(library) == [20, 25]
    assert len(list(fresh.iterdir())) == 2
    for target in (Target("linux", "riscv64"), Target("darwin", "x86_64")):
        assert scifm.native._name(small, target) != shipped.name


@needs_gcc
def test_one_that_is_broken_is_compiled_anew_or_told(small, shipped, fresh, monkeypatch):
    shipped.write_bytes(b"GOMP_parallel, and no library")
    library = load(small)
    assert library is not None
    assert not library.prebuilt
    monkeypatch.setenv("CC", "/bin/false")
    monkeypatch.setenv("PATH", "")
    with pytest.warns(RuntimeWarning, match=r"twice as long.*came with the package cannot be used: .*/bin/false"):
        assert load(small) is None


@needs_gcc
def test_threads_are_those_of_torchs_own_runtime(small, shipped):
    """Two runtimes would each have threads of their own, and the second might not be there."""
    assert b"libgomp" not in shipped.read_bytes()
    loaded = re.findall(r"/.*/lib[gi]?omp[^/\n]*$", Path("/proc/self/maps").read_text(), re.M)
    assert shared(Library(shipped, small.files)) == [20, 25]
    assert set(loaded) == set(re.findall(r"/.*/lib[gi]?omp[^/\n]*$", Path("/proc/self/maps").read_text(), re.M))


@needs_gcc
def test_without_openmp_it_is_one_thread_and_said_once(small, fresh, monkeypatch):
    monkeypatch.setattr(scifm.native, "_is_provided", lambda symbol: False)
    with pytest.warns(RuntimeWarning, match=r"one thread only: with .*no OpenMP runtime has GOMP_parallel"):
        library = load(small)
    assert library is not None
    assert not library.threads
    assert shared(library) == [45, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(small) is not None


def test_a_runtime_that_nobody_has_is_not_found(monkeypatch):
    monkeypatch.setitem(scifm.native._RUNTIMES, "GOMP_no_such_function", ("libnone.so",))
    assert not scifm.native._is_provided("GOMP_no_such_function")


@pytest.fixture
def mac(fresh, monkeypatch):
    """What would be run on a Mac with Apple's processor: commands, whose libraries are empty files."""
    commands = []

    def run(command, timeout, folder=None):
        commands.append(command)
        if "-o" in command:
            Path(folder, command[-1]).touch()
        return "Apple clang version 15.0.0 (clang-1500.3.9.4)\nTarget: arm64-apple-darwin23.5.0\n"

    monkeypatch.setattr(scifm.native.sys, "platform", "darwin")
    monkeypatch.setattr(scifm.native.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(scifm.native.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "cc" else None)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    monkeypatch.setattr(scifm.native, "_run", run)
    monkeypatch.delenv("CC", raising=False)
    return commands


def test_a_mac_is_told_what_it_understands(mac, fresh):
    """What Apple's compiler and linker are asked; that they do it has been tried on no Mac."""
    with pytest.warns(RuntimeWarning, match="did not give a usable library"):  # empty files are none
        assert load(native.sources(width())) is None
    version, compiled, linked, *_ = mac
    assert version == ["/usr/bin/cc", "--version"]
    assert not [word for word in compiled if word.startswith(("-march", "-mavx", "-mcpu"))]
    assert compiled[compiled.index("-fopenmp") - 1] == "-Xclang"
    assert "-DLANES=4" in compiled
    assert {"-shared", "-undefined", "dynamic_lookup"} <= set(linked)
    assert {path.suffix for path in fresh.iterdir()} == {".dylib"}


def test_other_systems_go_through_torch(monkeypatch, small):
    monkeypatch.setattr(scifm.native.sys, "platform", "win32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(small) is None


@pytest.mark.parametrize("compiler", ["gcc", "clang", "aarch64-linux-gnu-gcc"])
@pytest.mark.parametrize("name", CODES)
def test_compilers_have_nothing_to_warn_of(name, compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    code = CODES[name]
    narrow = compiler.startswith("aarch64")
    flags = [flag for flag in code.flags if not (narrow and flag.startswith("-m"))]
    strict = ["-Wall", "-Wextra", "-Werror", "-fopenmp", "-fsyntax-only", f"-I{PACKAGE}"]
    command = [compiler, *flags, *strict, *map(str, code.files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_c_file_is_of_one_of_the_libraries():
    there = {*PACKAGE.rglob("*.c")}
    assert there == {file for code in CODES.values() for file in code.files}


def test_every_compiled_function_is_called_from_python():
    text = "\n".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    called = set(re.findall(r'\.call\(\s*"(\w+)"', text))
    made = {name for code in CODES.values() for name in signatures(code.files)}
    assert made - {"product"} == called, "only benchmarks measure the product"
