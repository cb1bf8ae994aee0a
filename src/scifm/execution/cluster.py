"""Jobs on many machines through Dask: a running scheduler's address, or a cluster of processes on this machine.

Dask hands a job whose worker died to another one; what it saved lies in its run folder, so it goes on from there. A run
folder is locked by who writes it, so two workers never write one.

Where workers do not see this file system, run folders travel with the jobs through Dask. A job goes out with what it
needs of the runs before it (settings and operator), works in a temporary folder laid out as the one here, and comes
back with its own run folder, which is unpacked whole. For that a job is ``partial(function, …, folder)`` and its result
names the run folder, relative to that one, under ``run``.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from scifm.errors import ConfigError, RunError, SciFMError
from scifm.execution.workers import threads_of_a_worker

__all__ = ["LOCAL", "cluster_executor"]

LOCAL = "local"
_CONNECT_SECONDS = 30
_LOCAL_DEATHS = 20  # of workers under one job, before it is given up
_WATCH_SECONDS = 0.5
_STOP_SECONDS = 5.0
_NEEDED = ("config.toml", "STATUS", "model/*")  # of a run, by those that come after it


def cluster_executor(
    scheduler: str,
    *,
    num_workers: int = 2,
    num_threads: int | None = None,
    resources: Mapping[str, float] | None = None,
    carry: Path | None = None,
) -> Executor:
    """Return an executor whose jobs run on Dask workers.

    Args:
        scheduler: address of a running scheduler, such as ``tcp://login:8786``, or ``local`` for processes here.
        num_workers: processes, with ``local``.
        num_threads: threads torch uses in each job; with ``local`` the cores are shared evenly when left out, elsewhere
            the worker's own setting stays.
        resources: what a job takes of what a worker was started with (``dask worker --resources GPU=1``).
        carry: folder that run folders lie in, where workers do not see this file system: they travel through Dask.

    Raises:
        ConfigError: if Dask is not installed or the address is not one.
        RunError: if nobody answers there.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ConfigError("Dask is not installed. Install it with: pip install 'scifm[scale]'.") from error
    if scheduler == LOCAL:
        import dask

        with dask.config.set({"distributed.scheduler.allowed-failures": _LOCAL_DEATHS}):
            cluster = LocalCluster(n_workers=0, dashboard_address=None, silence_logs="CRITICAL")
        workers = _Workers(cluster.scheduler_address, num_workers, dict(resources or {}))
        threads = num_threads or threads_of_a_worker(num_workers)
        return _ClusterExecutor(Client(cluster), [workers.stop, cluster.close], threads, resources, carry)
    if "://" not in scheduler:
        raise ConfigError(f"'{scheduler}' is no address of a scheduler. Give one like tcp://host:8786, or '{LOCAL}'.")
    try:
        client = Client(scheduler, timeout=_CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise RunError(
            f"No scheduler answers at '{scheduler}' within {_CONNECT_SECONDS} s ({error}). Start one with 'dask "
            "scheduler' and workers with 'dask worker', or look at the address."
        ) from error
    return _ClusterExecutor(client, [], num_threads, resources, carry)


class _Workers:
    """Worker processes on this machine; one that dies is started anew, at whatever moment it died.

    Dask's own nannies give up a worker that is killed while it starts, and a cluster can be left without any.
    """

    def __init__(self, scheduler: str, num_workers: int, resources: Mapping[str, float]) -> None:
        self._command = [
            sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--no-nanny", "--no-dashboard",
            "--nthreads", "1", "--death-timeout", str(_CONNECT_SECONDS),
            *(["--resources", ",".join(f"{name}={n:g}" for name, n in resources.items())] if resources else []),
        ]  # fmt: skip
        self._processes = [self._start() for _ in range(num_workers)]
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._replace_the_dead, daemon=True)
        self._watch.start()

    def _start(self) -> subprocess.Popen[bytes]:
        # it imports what this process can; how many threads torch takes is told when a job begins
        environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.Popen(self._command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _replace_the_dead(self) -> None:
        while not self._over.wait(_WATCH_SECONDS):
            self._processes = [p if p.poll() is None else self._start() for p in self._processes]

    def stop(self) -> None:
        """End all of them; what they trained is on disk up to the last saved state."""
        self._over.set()
        self._watch.join()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class _ClusterExecutor(Executor):
    """A Dask client as an executor that tells deaths of workers as the house does."""

    def __init__(
        self,
        client: Any,
        close: Sequence[Callable[[], Any]],
        num_threads: int | None,
        resources: Mapping[str, float] | None,
        carry: Path | None,
    ) -> None:
        self._client, self._close = client, close
        self._threads, self._resources, self._carry = num_threads, dict(resources or {}), carry
        self._inner: dict[Future[Any], Any] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        call: tuple[Any, ...] = (fn, args, kwargs)
        if self._carry is not None:
            call = _send_out(self._carry, fn, args)
        outer: Future[Any] = Future()
        outer.set_running_or_notify_cancel()
        inner = self._client.submit(
            _work, self._threads, *call, pure=False, retries=0, resources=self._resources or None,
            priority=-len(self._inner),  # in the order they are handed out, which is the graph's
        )  # fmt: skip
        self._inner[outer] = inner
        inner.add_done_callback(lambda done: self._pass_on(done, outer))
        return outer

    def _pass_on(self, inner: Any, outer: Future[Any]) -> None:
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        error = inner.exception()
        if isinstance(error, KilledWorker):
            error = RunError(f"its worker died again and again ({error}); is there enough memory?")
        elif isinstance(error, (FutureCancelledError, OSError)) and not isinstance(error, SciFMError):
            error = BrokenExecutor(f"the scheduler is gone: {error}")
        if error is not None:
            outer.set_exception(error)
            return
        try:
            result = inner.result()
            outer.set_result(result if self._carry is None else _bring_back(self._carry, result))
        except RunError as full:  # the disk here
            outer.set_exception(full)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            self._client.cancel(list(self._inner.values()))
        self._client.close()
        for close in self._close:
            close()

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.shutdown(cancel_futures=kind is not None)


def _work(num_threads: int | None, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Do a job on a worker."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if num_threads is not None:
        import torch

        torch.set_num_threads(num_threads)
    return fn(*args, **kwargs)


# --- folders that travel with jobs ------------------------------------------------------------------------------------


def _send_out(
    folder: Path, work: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return function, arguments and keywords of a job that carries its folders with it."""
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


def _bring_back(folder: Path, returned: tuple[Any, bytes]) -> Any:
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
