"""Processes that share the cores of this machine, and go when the one that made them is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing.connection import wait

import torch

__all__ = ["threads_of_a_worker", "worker_pool"]


def worker_pool(num_workers: int) -> Executor:
    """Return a pool of processes that share the cores of this machine evenly.

    They are spawned, so a script that calls this needs an ``if __name__ == "__main__":`` guard.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(
        num_workers, context, initializer=_settle_worker, initargs=(threads_of_a_worker(num_workers),)
    )


def threads_of_a_worker(num_workers: int) -> int:
    """Return how many threads each of some workers should use."""
    return max(1, (os.cpu_count() or 1) // num_workers)


def _settle_worker(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    # An idle worker has nothing to save; a training one listens to Ctrl-C itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this process when its parent dies: an orphan would hold run folders that the next sitting wants.

    Nothing is lost: what is on disk is whole at every moment.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
