"""Build wheels with compiled libraries inside: who installs one needs no compiler.

``make wheels``, or ``python scripts/wheels.py [--out dist] [--for linux-x86_64 linux-aarch64 macos-arm64]``

A wheel holds all that an installation from source holds, and in ``scifm/prebuilt`` what a compiler made of each C file
for every width of vectors that such processors have; `scifm.native` takes the one for the processor it runs on. Without
``--for``: for this machine, and for Linux on ARM where its compiler is installed (Debian: ``gcc-aarch64-linux-gnu``).

On Linux the compiler must be GNU's (``$CC`` or ``gcc``): the threads are those of the OpenMP that torch brings, and on
Linux that is GNU's. The wheel's tag names the oldest C library that has all that the libraries call; where auditwheel
is installed (``pip install auditwheel``), it must agree. For macOS the script is meant to run on a Mac, with Apple's
compiler; elsewhere ``pip install ziglang`` has one that makes libraries for it, which nobody has run.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import importlib.util
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402

from scifm.models.parts import compiled_jets, native  # noqa: E402
from scifm.native import Code, Library, Target, build, width  # noqa: E402
from scifm.systems.solvers import volumes  # noqa: E402

HOST = Target(sys.platform, platform.machine())
OLDEST_GLIBC = (2, 17)  # manylinux2014; torch itself needs a younger one
SYSTEM_LIBRARIES = {"libc.so.6", "libm.so.6", "ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2"}


@dataclass(frozen=True)
class Kind:
    """Machines that one wheel is for: system, processor, and how wide their vectors may be."""

    target: Target
    widths: tuple[int, ...]

    @property
    def compiler(self) -> tuple[str, ...] | None:
        """The command that compiles for it here, if there is one."""
        system, machine = self.target
        if system == "darwin":
            if self.target == HOST:
                return ("cc", "-mmacosx-version-min=11.0")
            zig = (
                sys.executable,
                "-m",
                "ziglang",
                "cc",
                "-target",
                f"{machine.replace('arm64', 'aarch64')}-macos.11.0",
            )
            return zig if importlib.util.find_spec("ziglang") else None
        own = (os.environ.get("CC"), "gcc") if self.target == HOST else ()
        found = (shutil.which(name) for name in (*own, f"{machine}-linux-gnu-gcc") if name)
        path = next(filter(None, found), None)
        return path and (path,)


KINDS = {
    "linux-x86_64": Kind(Target("linux", "x86_64"), (128, 256, 512)),
    "linux-aarch64": Kind(Target("linux", "aarch64"), (128,)),
    "macos-arm64": Kind(Target("darwin", "arm64"), (128,)),
}


def codes(bits: int) -> list[Code]:
    """Return what of the package is compiled, for vectors of so many bits."""
    marches = [volumes.sources(bits, dtype) for dtype in (torch.float32, torch.float64)]
    return [native.sources(bits), compiled_jets.sources(bits), *marches]


def libraries_for(kind: Kind, folder: Path) -> list[Path]:
    """Compile everything at every width into a folder; what this machine can load is loaded."""
    compiler = kind.compiler
    if compiler is None:
        sys.exit(f"No compiler for {kind.target.system} on {kind.target.machine} is installed here.")
    made = []
    for bits in kind.widths:
        for code in codes(bits):
            made.append(build(code, folder, compiler, kind.target))
            if kind.target.system == "linux" and b"GOMP_parallel" not in made[-1].read_bytes():
                sys.exit(
                    f"{' '.join(compiler)} calls another OpenMP than torch's on Linux; let CC name GNU's compiler."
                )
            if kind.target == HOST and bits <= width():
                Library(made[-1], code.files)
    return made


def pure_wheel(folder: Path) -> Path:
    """Build the wheel that has no libraries, from a copy: what an earlier build left in the checkout stays out."""
    copy = folder / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "prebuilt"))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps"]
    if int(metadata.version("setuptools").partition(".")[0]) >= 77:  # else pip fetches one
        command.append("--no-build-isolation")
    subprocess.run([*command, "-w", str(folder), str(copy)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def tags_of(kind: Kind, libraries: list[Path]) -> list[str]:
    """Return what systems a wheel with these libraries is for, the most general name first."""
    system, machine = kind.target
    if system == "darwin":
        return [f"macosx_11_0_{machine}"]
    command = ["readelf", "--dynamic", "--version-info", "--wide", *map(str, libraries)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}).stdout
    linked = set(re.findall(r"\(NEEDED\).*\[(.+)\]", told))
    if not linked <= SYSTEM_LIBRARIES:
        sys.exit(f"The libraries need {', '.join(sorted(linked - SYSTEM_LIBRARIES))}, which not every Linux has.")
    numbers = {tuple(map(int, version.split("."))) for version in re.findall(r"Name: GLIBC_([\d.]+)", told)}
    if "GLIBC_ABI" in told:
        sys.exit("The linker uses what only young C libraries can load (GLIBC_ABI…); take an older one.")
    newest = max(OLDEST_GLIBC, *(version[:2] for version in numbers))
    old_name = [f"manylinux2014_{machine}"] if newest == OLDEST_GLIBC else []
    return [f"manylinux_{newest[0]}_{newest[1]}_{machine}", *old_name]


def platform_wheel(pure: Path, libraries: list[Path], tags: list[str], folder: Path) -> Path:
    """Write a wheel that is `pure` with libraries inside, for such systems; the same bytes for the same input."""
    with zipfile.ZipFile(pure) as source:
        members = {name: source.read(name) for name in source.namelist()}
    (about,) = (name for name in members if name.endswith(".dist-info/WHEEL"))
    record = about.replace("WHEEL", "RECORD")
    text = members[about].decode().replace("Root-Is-Purelib: true", "Root-Is-Purelib: false")
    told = "".join(f"Tag: py3-none-{tag}\n" for tag in tags)
    members[about] = re.sub(r"^Tag: .*\n", told, text, count=1, flags=re.M).encode()
    members |= {f"scifm/prebuilt/{path.name}": path.read_bytes() for path in libraries}
    del members[record]
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for name, content in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        writer.writerow((name, f"sha256={digest}", len(content)))
    writer.writerow((record, "", ""))
    wheel = folder / pure.name.replace("py3-none-any", f"py3-none-{'.'.join(tags)}")
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in {**members, record: rows.getvalue().encode()}.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr, entry.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
            target.writestr(entry, content)
    return wheel


def audited(wheel: Path, tags: list[str]) -> str:
    """Return what auditwheel thinks of the tag; it must agree where it is installed."""
    if importlib.util.find_spec("auditwheel") is None or not tags[0].startswith("manylinux"):
        return "not audited"
    command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    granted = re.search(r'platform\s+tag:\s+"(\w+?)_(\d+)_(\d+)_', told)
    if granted is None or tuple(map(int, granted.groups()[1:])) > tuple(map(int, tags[0].split("_")[1:3])):
        sys.exit(f"auditwheel does not grant {tags[0]}:\n{told}")
    return "auditwheel agrees"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--for", nargs="+", choices=KINDS, dest="kinds", metavar="KIND", help=", ".join(KINDS))
    options = parser.parse_args()
    here = [
        name
        for name, kind in KINDS.items()
        if kind.target == HOST or (name == "linux-aarch64" and kind.compiler is not None)
    ]
    with tempfile.TemporaryDirectory() as room:
        pure = pure_wheel(Path(room))
        for name in options.kinds or here:
            libraries = libraries_for(KINDS[name], Path(room, name))
            tags = tags_of(KINDS[name], libraries)
            wheel = platform_wheel(pure, libraries, tags, options.out)
            tried = "what this machine can load was loaded" if KINDS[name].target == HOST else "nothing in it was run"
            print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB, {audited(wheel, tags)}, {tried}")


if __name__ == "__main__":
    main()
