"""Foreign HDF5 files are first walked by a process of its own: some damaged ones make the HDF5 library hang or crash.

The probe opens a file, lists all it holds and reads every attribute, which is where damage does that. If it does not
come to an end, dies, or takes much memory, the file is refused, and this process never opens it. What it merely cannot
read it passes over: this process will meet the same and tell what it was. One probe serves a process for all its files;
it starts in 0.2 s when it is first needed and ends with the process.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from scifm.errors import StoreError

__all__ = ["require_sound"]

LONGEST = 8.0  # seconds without a sign of life
_SIGN_EVERY = 100  # objects, between two signs of life
MOST_GROWTH = 64 * 2**20  # bytes that what it tells of itself may take
_WORN = 32 * 2**20  # bytes after which another probe goes on
_SIGN = b"\n"
_ADDRESS_SPACE = 4 * 2**30  # of the probe


class _Probe:
    """The process, seen from here; started when it is first asked."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0  # a forked process has no probe: the one it inherited is its parent's
        self.verdicts: dict[tuple[str, int, int], str | None] = {}
        atexit.register(self.dismiss)

    def look(self, path: Path) -> str | None:
        """Return what is wrong with a file, or None."""
        stat = path.stat()
        key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
        with self.lock:
            if key not in self.verdicts:
                self.verdicts[key] = self._ask(key[0])
            return self.verdicts[key]

    def _ask(self, name: str) -> str | None:
        """Ask once; who ended the process, if it is a new one, is the file and nobody else."""
        was_new = self.process is None or self.owner != os.getpid()
        answer = self._answer(name)
        if answer is None:
            self.dismiss()
            return "reading it does not come to an end"
        if not answer:
            self.dismiss()
            return "reading it ends the process" if was_new else self._ask(name)
        growth, total = map(int, answer.split())
        if total > _WORN:
            self.dismiss()  # what a file took is not told of the files after it
        return f"what it tells of itself takes {growth / 2**20:.0f} MiB" if growth > MOST_GROWTH else None

    def _answer(self, name: str) -> bytes | None:
        """Return what the process says in the end, nothing if it ended, None if it gives no sign of life."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # then it has ended, and that is what is read
            process.stdin.write(json.dumps([name, LONGEST]).encode() + b"\n")
            process.stdin.flush()
        answer = _SIGN
        while answer == _SIGN:
            if not select.select([process.stdout], [], [], LONGEST)[0]:
                return None
            answer = process.stdout.readline()
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.owner != os.getpid():
            self.process = subprocess.Popen(
                [sys.executable, "-P", __file__],
                bufsize=0,  # or select would not know of a line that was read together with the one before
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
            )
            self.owner = os.getpid()
            assert self.process.stdout is not None
            if self.process.stdout.readline() != _SIGN:
                raise StoreError(f"No process could be started to look at HDF5 files; it would be '{sys.executable}'.")
        return self.process

    def dismiss(self) -> None:
        """End the process."""
        if self.process is not None and self.owner == os.getpid():
            self.process.kill()
            self.process.communicate()
        self.process = None


_probe = _Probe()


def require_sound(path: Path) -> None:
    """Let the probe walk a file.

    Raises:
        StoreError: if it did not come back; the file has to be left alone.
        OSError: if the file is not there.
    """
    wrong = _probe.look(path)
    if wrong is not None:
        raise StoreError(
            f"'{path}' cannot be read as HDF5: its list of contents is damaged ({wrong}). Copy it again, or write it "
            "anew with h5repack."
        )


def _walk(name: str, longest: float) -> None:
    import h5py

    with h5py.File(name, "r") as file:
        pending: list[Any] = [file]
        seen: set[int] = set()
        while pending:
            node = pending.pop()
            _read_about(node)
            if len(seen) % _SIGN_EVERY == 0:
                _give_sign(longest)
            for key in list(node) if isinstance(node, h5py.Group) else ():
                if isinstance(node.get(key, getlink=True), h5py.HardLink):
                    child = node[key]
                    place = h5py.h5o.get_info(child.id).addr
                    if place not in seen:
                        seen.add(place)
                        pending.append(child)


def _read_about(node: Any) -> None:
    """Read all attributes, and what is no array of numbers but one text."""
    for key in list(node.attrs):
        with suppress(Exception):  # what cannot be read is told by the process that needs it
            node.attrs[key]
    if getattr(node, "shape", None) == () and node.dtype.kind == "O":
        with suppress(Exception):
            node[()]


def _serve() -> None:
    """Walk files until no more names come in; answer each with the bytes the process grew by, for it and in all."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    import h5py  # noqa: F401 - before memory is looked at

    _give_sign(LONGEST)
    first = _most_memory()
    signal.alarm(0)
    for line in sys.stdin.buffer:
        name, longest = json.loads(line)
        before = _most_memory()
        _give_sign(longest)
        with suppress(Exception):
            _walk(name, longest)
        signal.alarm(0)
        print(_most_memory() - before, _most_memory() - first, flush=True)


def _give_sign(longest: float) -> None:
    """Say that it goes on; a probe that does not for long ends itself, in case nobody is there any more to end it."""
    signal.alarm(2 * math.ceil(longest))
    print(flush=True)


def _most_memory() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    _serve()
