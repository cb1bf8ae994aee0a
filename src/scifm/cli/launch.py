"""``--devices N``: the same command in N processes of this machine, which train together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO, Any

import typer

from scifm.cli.app import console
from scifm.errors import ConfigError, StopRequested

__all__ = ["launch", "without_devices"]

_GRACE_SECONDS = 20.0  # to save, before those that wait for a dead process are ended
_MOST_PROCESSES = 64  # where there are fewer processors than that
_INTERRUPTED = 130
_ENDS_ALL = (_INTERRUPTED, StopRequested.EXIT_STATUS)  # of processes that agreed to stop and save


def without_devices(arguments: list[str]) -> list[str]:
    """Return a command line without its ``--devices N``."""
    words, skip = [], False
    for word in arguments:
        if not (skip or word == "--devices" or word.startswith("--devices=")):
            words.append(word)
        skip = word == "--devices"
    return words


def launch(num_processes: int, arguments: list[str]) -> None:
    """Run ``scifm arguments``, without ``--devices``, in several processes, pass signals on, and end as they end.

    The first process speaks; what another one said is shown if it was the first to fail.

    Raises:
        ConfigError: if this process was itself started by a launcher, or so many would only be in each other's way.
        typer.Exit: otherwise; with the status of the first process that did not end well, else 0.
    """
    if "WORLD_SIZE" in os.environ:
        raise ConfigError("--devices starts processes, and torchrun does too (WORLD_SIZE is set): use one of the two.")
    most = max(_MOST_PROCESSES, os.cpu_count() or 1)
    if num_processes > most:
        raise ConfigError(f"--devices starts processes of this machine: at most {most}; got {num_processes}.")
    with ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(num_processes - 1)]
        raise typer.Exit(_Family(num_processes, arguments, outputs).run())


class _Family:
    """The processes, from their start to their end."""

    def __init__(self, size: int, arguments: list[str], outputs: Sequence[IO[bytes]]) -> None:
        self.size, self.arguments, self.outputs = size, arguments, outputs
        self.processes: list[subprocess.Popen[bytes]] = []
        self.signals: set[int] = set()
        self.failed: int | None = None  # the first that did

    def run(self) -> int:
        handlers: dict[int, Any] = dict.fromkeys((signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2), self._pass_on)
        handlers[signal.SIGINT] = lambda *_: None  # the terminal tells all of them itself
        for number, handler in handlers.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # else they are to ignore it too
                signal.signal(number, handler)
        self._start()
        self._wait()
        if self.failed is None:
            return 0
        status = int(self.processes[self.failed].returncode)
        if -status in self.signals:  # it had not yet begun to listen
            return StopRequested.EXIT_STATUS
        if self.failed and status not in _ENDS_ALL:
            self.outputs[self.failed - 1].seek(0)
            sys.stderr.write(self.outputs[self.failed - 1].read().decode(errors="replace"))
        if status > 0:
            return status
        console.print(
            f"scifm: process {self.failed} of {self.size} was killed by signal {-status}; give the same command again "
            "to go on from the last saved state.", highlight=False, soft_wrap=True,
        )  # fmt: skip
        return 1

    def _start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        threads = str(max(1, (os.cpu_count() or 1) // self.size))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(self.size)}
        command = [sys.executable, "-m", "scifm", *self.arguments]
        for rank in range(self.size):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            environment = {"OMP_NUM_THREADS": threads, **os.environ, **meeting, **own}
            stderr = self.outputs[rank - 1] if rank else None
            self.processes.append(subprocess.Popen(command, env=environment, stderr=stderr))

    def _pass_on(self, number: int, frame: Any) -> None:
        self.signals.add(number)
        for process in self.processes:
            process.send_signal(number)

    def _wait(self) -> None:
        """Wait for all; once one has failed the others get some time to end."""
        deadline = float("inf")
        while any(process.poll() is None for process in self.processes):
            if self._note_failure():
                status = self.processes[self.failed or 0].returncode
                grace = _GRACE_SECONDS if status in _ENDS_ALL else 0.0  # those end by themselves
                deadline = time.monotonic() + grace
            if time.monotonic() > deadline:
                for process in self.processes:
                    process.kill()
            time.sleep(0.05)
        self._note_failure()

    def _note_failure(self) -> bool:
        """Keep which process failed first; return whether that is new. A killed one goes before those that miss it."""
        if self.failed is not None:
            return False
        ended = [(p.returncode > 0, rank) for rank, p in enumerate(self.processes) if p.returncode]
        self.failed = min(ended)[1] if ended else None
        return self.failed is not None
