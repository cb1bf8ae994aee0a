"""Processes that share the cores of this machine, stop when they are asked to, and go when their parent is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.synchronize import Event
from typing import Any

import torch

__all__ = ["threads_of_a_worker", "worker_pool"]

# Held back while a process is started, which inherits that: until it has settled, a signal sent to all processes at
# once would kill it, or print its traceback.
_HELD = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

_stopping: Event | None = None  # in a worker: set when its pool wants no more


def worker_pool(num_workers: int) -> Executor:
    """Return a pool of processes that share the cores of this machine evenly.

    Leaving its ``with`` block by an exception, such as Ctrl-C, stops the workers; one that trains saves its state
    first.

    They are spawned, so a script that calls this needs an ``if __name__ == "__main__":`` guard.
    """
    return _Pool(num_workers)


def threads_of_a_worker(num_workers: int) -> int:
    """Return how many threads each of some workers should use."""
    return max(1, (os.cpu_count() or 1) // num_workers)


class _Pool(ProcessPoolExecutor):
    def __init__(self, num_workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        with _signals_held():
            self._stop = context.Event()  # starts multiprocessing's own helper process
        settings = (threads_of_a_worker(num_workers), self._stop)
        super().__init__(num_workers, context, initializer=_settle_worker, initargs=settings)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with _signals_held():
            return super().submit(_unless_stopping, fn, *args, **kwargs)

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            self._stop.set()
            for process in list((self._processes or {}).values()):
                process.terminate()
        self.shutdown(wait=True, cancel_futures=kind is not None)


@contextmanager
def _signals_held() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unless_stopping(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Do the work, unless the pool was stopped while it waited: a pool cannot take back what it handed to a worker."""
    if _stopping is not None and _stopping.is_set():
        raise KeyboardInterrupt
    return work(*args, **kwargs)


def _settle_worker(num_threads: int, stopping: Event) -> None:
    global _stopping
    _stopping = stopping
    torch.set_num_threads(num_threads)
    # A terminal or a scheduler may send its signal to all processes at once: who stops is decided by the parent, which
    # terminates its workers. One that trains listens to that and saves its state.
    for number in _HELD:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this process when its parent dies: an orphan would hold run folders that the next sitting wants.

    Nothing is lost: what is on disk is whole at every moment.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
