"""``scifm doctor``: what is installed, what is fast, what is missing, and what to do about it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import typer

from scifm.cli.app import AsJson, app, print_json

__all__ = ["doctor"]

_MARKS = {True: "good", False: "bad", None: "–"}
_ROOM = 2**30  # bytes that a disk should have free


class _Answer(NamedTuple):
    """One thing that was looked at: good, bad, or neither, where nothing is wrong but something more could be had."""

    name: str
    good: bool | None
    told: str
    remedy: str = ""


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look at this installation: versions, fast parts, GPUs, extras, disk; say what to do. Exit status 1: a fault."""
    answers = [*_versions(), *_computing(), *_libraries(), *_extras(), *_plugins(), *_disks()]
    if as_json:
        print_json([answer._asdict() for answer in answers])
    else:
        width = max(len(answer.name) for answer in answers)
        for answer in answers:
            typer.echo(f"  {_MARKS[answer.good]:4}  {answer.name:{width}}  {answer.told}")
            if answer.remedy:
                typer.echo(f"  {'':4}  {'':{width}}  {answer.remedy}")
    if any(answer.good is False for answer in answers):
        raise typer.Exit(1)


def _versions() -> Iterator[_Answer]:
    from scifm.runs import describe_environment

    about = describe_environment()
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    yield _Answer("packages", True, f"Python {about['python']}, {versions}")
    yield _Answer("machine", True, f"{about['processor']}, {about['num_cores']} cores, {about['system']}")


def _computing() -> Iterator[_Answer]:
    """Compute something on each device that torch sees: a build for other hardware fails only then."""
    import torch

    def works(device: str) -> str | None:
        try:
            x = torch.linspace(0, 1, 512, device=device).view(2, 16, 16).requires_grad_()
            torch.fft.rfft2(x).abs().sum().backward()
            return None if x.grad is not None and bool(x.grad.isfinite().all()) else "its numbers are not finite"
        except RuntimeError as error:
            return str(error).splitlines()[0]

    fault = works("cpu")
    threads = f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    yield _Answer("torch on the CPU", fault is None, fault or threads, "" if fault is None else "Install torch anew.")
    devices = {f"cuda:{i}": torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
    devices |= {"mps": "Apple"} if torch.backends.mps.is_available() else {}
    for device, title in devices.items():
        fault = works(device)
        remedy = "" if fault is None else "Install the build of torch for this device and driver (pytorch.org)."
        yield _Answer(f"torch on {device}", fault is None, title if fault is None else f"{title}: {fault}", remedy)
    if not devices:
        yield _Answer("GPU", None, f"none that torch {torch.__version__} sees; everything runs on the CPU")


def _libraries() -> Iterator[_Answer]:
    import torch

    from scifm.models.parts.compiled_jets import library as jets
    from scifm.models.parts.native import library as layers
    from scifm.native import Library, width
    from scifm.systems.solvers.volumes import library as volumes

    libraries: dict[str, Callable[[], Library | None]] = {
        "compiled layers": layers,
        "compiled networks of coordinates": jets,
        "compiled finite volumes": partial(volumes, torch.float32),
    }
    for name, load in libraries.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            library = load()
        if library is not None:
            origin = "came with the package" if library.prebuilt else "compiled on this machine"
            threads = "" if library.threads else ", for one thread only"
            yield _Answer(name, True, f"in use, {origin} for vectors of {width()} bits{threads}")
            continue
        reasons = [str(entry.message).partition(": ")[2] for entry in caught if entry.category is RuntimeWarning]
        off = os.environ.get("SCIFM_NATIVE", "1") == "0"
        why = reasons[0] if reasons else "SCIFM_NATIVE=0 is set" if off else "not for this system"
        yield _Answer(name, None, f"torch does their work, several times slower: {why}")


def _extras() -> Iterator[_Answer]:
    wanted: dict[str, list[str]] = {}
    for line in metadata.requires("scifm") or []:
        found = re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", line)
        if found and found[2] not in ("dev", "docs"):
            wanted.setdefault(found[2], []).append(found[1])
    for extra, packages in wanted.items():
        missing = [name for name in packages if not _is_installed(name)]
        told = "installed" if not missing else f"missing: {', '.join(missing)}"
        remedy = f"pip install 'scifm[{extra}]'" if missing else ""
        yield _Answer(f"extra '{extra}'", None if missing else True, told, remedy)


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _plugins() -> Iterator[_Answer]:
    from scifm.systems.catalog import list_systems

    for listing in list_systems():
        if listing.fault is not None:
            remedy = f"Mend or remove the package {listing.distribution}."
            yield _Answer(f"plug-in '{listing.name}'", False, listing.fault, remedy)


def _disks() -> Iterator[_Answer]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    places = {"this folder": Path.cwd(), "temporary files": Path(tempfile.gettempdir()), "cache": cache}
    for name, place in places.items():
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        if not os.access(there, os.W_OK):
            yield _Answer(f"disk, {name}", None, f"{place}: you may not write there")
        elif free < _ROOM:
            yield _Answer(f"disk, {name}", False, f"{place}: {free / 1e6:.0f} MB free", "Free some space.")
        else:
            yield _Answer(f"disk, {name}", True, f"{place}: {free / 1e9:.0f} GB free")
