"""Run folders that travel with jobs, where workers do not see this file system.

A job goes out with what it needs of the runs before it (settings and operator), works in a temporary folder laid out as
the one here, and comes back with its own run folder, which is unpacked whole. For that a job is
``partial(function, …, folder)`` and its result names the run folder, relative to that one, under ``run``.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from scifm.errors import RunError

__all__ = ["bring_back", "send_out"]

_NEEDED = ("config.toml", "STATUS", "model/*")


def send_out(
    folder: Path, work: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return function, arguments and keywords of a job that carries its folders with it.

    Args:
        folder: that all run folders lie in.
        work: ``partial(function, …, folder)``.
        args: results of the jobs before it.
    """
    assert isinstance(work, partial)
    assert work.args[-1] == folder, "the last argument of a job is the folder that all run folders lie in"
    parents = {result["run"]: _pack(folder / result["run"], _NEEDED) for result in args}
    return _away, (work.func, work.args[:-1], args, parents), {}


def _away(
    work: Callable[..., Any], settings: tuple[Any, ...], args: tuple[Any, ...], parents: Mapping[str, bytes]
) -> tuple[Any, bytes]:
    """Do a job in a temporary folder; return its result and its run folder."""
    with tempfile.TemporaryDirectory(prefix="scifm-") as name:
        folder = Path(name)
        for run, content in parents.items():
            _unpack(content, folder / run)
        result = work(*settings, folder, *args)
        return result, _pack(folder / result["run"], ("*",))


def bring_back(folder: Path, returned: tuple[Any, bytes]) -> Any:
    """Put the run folder of a job that came back into the folder here; return the job's result."""
    result, content = returned
    target = folder / result["run"]
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _unpack(content, aside)
        if target.exists():  # what an earlier sitting left unfinished
            shutil.rmtree(target)
        aside.rename(target)
    except OSError as error:
        raise RunError(f"Cannot write '{target}': {error.strerror or error}. Free some space.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return result


def _pack(run: Path, patterns: Iterable[str]) -> bytes:
    files = {file for pattern in patterns for file in (run.rglob("*") if pattern == "*" else run.glob(pattern))}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # weights do not compress
        for file in sorted(file for file in files if file.is_file() and file.name != "LOCK"):
            archive.write(file, file.relative_to(run).as_posix())
    return buffer.getvalue()


def _unpack(content: bytes, target: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            parts = PurePosixPath(name)
            if parts.is_absolute() or ".." in parts.parts:
                raise RunError(f"A worker sent back a file called '{name}', which leads out of its run folder.")
        archive.extractall(target)
