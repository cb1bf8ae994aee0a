"""Who writes into a folder: one process, by a lock of the operating system with the owner's name in it.

The lock goes when its owner dies, however it dies, and the name stays: whoever comes next can tell a folder that was
left (its owner was killed) from one that was finished (the name is wiped). Where locks do not reach other machines,
which network file systems can be mounted to do, or do not exist at all, the name is all there is. It is believed: a
name from this machine is checked against its processes, a name from another machine is not overruled.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import psutil

from scifm.errors import RunError

__all__ = ["Owner", "exclusive", "locks_reach_other_machines", "unwritable"]

_TIME = "%Y-%m-%d %H:%M:%S"
_SLACK = 2.0  # seconds: the name is written in whole ones


@dataclass(frozen=True)
class Owner:
    """The process that holds a folder, as written into its LOCK.

    Args:
        process: its number.
        host: the machine it runs on.
        since: when it took the folder, local time.
    """

    process: int
    host: str
    since: str

    @classmethod
    def myself(cls) -> Owner:
        """Return this process, as of now."""
        return cls(os.getpid(), socket.gethostname(), time.strftime(_TIME))

    @classmethod
    def read(cls, text: str) -> Owner | None:
        """Return the owner that a LOCK names; None when it names nobody."""
        match = re.fullmatch(r"process (\d{1,10}) on (\S+) since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", text.strip())
        return cls(int(match[1]), match[2], match[3]) if match else None

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} since {self.since}"

    @property
    def is_here(self) -> bool:
        """Whether it ran on this machine, so that one can look whether it still does."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether it runs on this machine now. Another process that was given its number later does not count."""
        if not self.is_here:
            return False
        try:
            return psutil.Process(self.process).create_time() <= time.mktime(time.strptime(self.since, _TIME)) + _SLACK
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


def locks_reach_other_machines(path: Path) -> bool:
    """Return whether a lock under `path` is seen by other machines that mount the same file system.

    False for Lustre mounted with ``localflock`` and NFS with ``local_lock=flock`` or ``all`` (or ``nolock``).
    """
    place = path.resolve()
    try:
        above = [mount for mount in psutil.disk_partitions(all=True) if place.is_relative_to(mount.mountpoint)]
    except OSError:
        return True  # nothing is told of mounts here, and nothing known against it
    local = {"localflock", "nolock", "local_lock=flock", "local_lock=all"}
    mount = max(above, key=lambda mount: len(mount.mountpoint), default=None)
    return mount is None or mount.fstype not in {"lustre", "nfs", "nfs4"} or not local & set(mount.opts.split(","))


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for writing, by its file LOCK.

    A folder whose last owner was killed is taken over with a warning that says so.

    Raises:
        RunError: if another process holds it, or may hold it on a machine that cannot be seen from here.
    """
    file = folder / "LOCK"
    try:
        handle = file.open("a+", encoding="utf-8")
    except OSError as error:
        raise unwritable(file, error) from error
    with handle:
        before = _take(handle, folder)
        _write(handle, f"{Owner.myself()}\n", file)
        if before is not None:
            warnings.warn(
                f"'{folder}' was left by {before}, which was killed or crashed; going on from what it stored.",
                stacklevel=1,
            )
        try:
            yield
        finally:
            _write(handle, "", file)


def _take(handle: TextIO, folder: Path) -> Owner | None:
    """Take the lock; return the owner that left without wiping its name."""
    shared = locks_reach_other_machines(folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(folder, _owner_in(handle)) from error
    except OSError:  # a file system without locks: the name is all there is
        shared = False
    owner = _owner_in(handle)
    if owner is None or (owner.process == os.getpid() and owner.is_here):
        return None
    if not shared and owner.is_alive:
        raise _in_use(folder, owner)
    if not shared and not owner.is_here:
        raise RunError(
            f"The folder '{folder}' names {owner} as its writer, and locks on this file system do not reach other "
            f"machines, so whether it still runs cannot be seen from here. If it does not, delete "
            f"'{folder / 'LOCK'}' and give the same command again."
        )
    return owner


def _owner_in(handle: TextIO) -> Owner | None:
    handle.seek(0)
    return Owner.read(handle.read(200))


def _in_use(folder: Path, owner: Owner | None) -> RunError:
    message = f"The folder '{folder}' is in use by another process ({owner or 'unknown'})."
    if owner is not None and owner.is_here and not owner.is_alive:
        return RunError(
            f"{message} That process is gone, but one it started still holds the folder: 'fuser {folder / 'LOCK'}' "
            "names it. Stop it, or choose another folder with --out."
        )
    return RunError(f"{message} Wait for it, stop it, or choose another folder with --out.")


def _write(handle: TextIO, text: str, file: Path) -> None:
    """Replace the content past the buffer: what a full disk refuses must not be refused again on closing."""
    try:
        os.ftruncate(handle.fileno(), 0)
        os.write(handle.fileno(), text.encode())
    except OSError as error:
        raise unwritable(file, error) from error


def unwritable(file: Path, error: OSError) -> RunError:
    """Return what a user is told of a file that cannot be written."""
    return RunError(
        f"Cannot write '{file}': {error.strerror or error}. Free some space or choose another folder with --out; what "
        "was stored before is untouched."
    )
