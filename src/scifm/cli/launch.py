"""``--devices N``: the same command in N processes of this machine, which train together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import typer

from scifm.cli.app import console
from scifm.errors import StopRequested

__all__ = ["launch", "without_devices"]

_GRACE_SECONDS = 20.0  # to save, before those that wait for a dead process are ended
_INTERRUPTED = 130


def without_devices(arguments: list[str]) -> list[str]:
    """Return a command line without its ``--devices N``."""
    kept, skip = [], False
    for word in arguments:
        if not (skip or word == "--devices" or word.startswith("--devices=")):
            kept.append(word)
        skip = word == "--devices"
    return kept


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(num_processes: int, arguments: list[str]) -> None:
    """Run ``scifm arguments`` in several processes, pass signals on to them, and end as they end.

    Args:
        num_processes: how many.
        arguments: without ``--devices``.

    Raises:
        typer.Exit: always; with the status of the first process that did not end well, else 0.
    """
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(num_processes)}
    threads = str(max(1, (os.cpu_count() or 1) // num_processes))
    processes = []
    for rank in range(num_processes):
        environment = {"OMP_NUM_THREADS": threads, **os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(subprocess.Popen([sys.executable, "-m", "scifm", *arguments], env=environment))

    def pass_on(number: int, frame: Any) -> None:
        for process in processes:
            process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells all of them itself
    status = _wait(processes)
    if status < 0:
        console.print(
            f"scifm: one of {num_processes} processes was killed by signal {-status}; give the same command again to "
            "go on from the last saved state.", highlight=False,
        )  # fmt: skip
        status = 1
    raise typer.Exit(status)


def _wait(processes: list[subprocess.Popen[bytes]]) -> int:
    """Wait for all; once one has failed the others get some time to end. Return the status of the first that failed."""
    failed, deadline = 0, float("inf")
    while any(process.poll() is None for process in processes):
        for process in processes:
            if process.poll() and not failed:
                failed, deadline = int(process.returncode), time.monotonic() + _GRACE_SECONDS
                if failed not in (_INTERRUPTED, StopRequested.EXIT_STATUS):  # these end all by themselves
                    deadline = time.monotonic()
        if time.monotonic() > deadline:
            for process in processes:
                process.kill()
        time.sleep(0.05)
    return failed or next((int(p.returncode) for p in processes if p.returncode), 0)
