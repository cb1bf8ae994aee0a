"""What ``--workers`` and ``--scheduler`` mean."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from scifm.errors import ConfigError

__all__ = ["executor_maker"]


def executor_maker(
    workers: int,
    scheduler: str | None,
    *,
    threads: int | None = None,
    resource: list[str] | None = None,
    carry: Path | None = None,
) -> Callable[[], Executor] | None:
    """Return what makes the executor that was asked for; None for this process alone.

    Args:
        workers: processes on this machine.
        scheduler: address of a Dask scheduler, or ``local``.
        threads: of each job.
        resource: ``NAME=N`` each.
        carry: folder that run folders lie in, where workers do not see this file system.

    Raises:
        ConfigError: if an option is malformed or does not belong.
    """
    if scheduler is None:
        if threads is not None or resource or carry is not None:
            raise ConfigError("--worker-threads, --resource and --no-shared-files belong to --scheduler; give it too.")
        from scifm.execution.workers import worker_pool

        return partial(worker_pool, workers) if workers > 1 else None
    from scifm.execution.cluster import cluster_executor

    takes = {}
    for text in resource or []:
        name, _, number = text.partition("=")
        try:
            takes[name.strip()] = float(number)
        except ValueError as error:
            raise ConfigError(f"The resource '{text}' is not of the form NAME=N, for example GPU=1.") from error
    return partial(cluster_executor, scheduler, num_workers=workers, num_threads=threads, resources=takes, carry=carry)
