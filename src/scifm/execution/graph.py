"""A graph of jobs: what depends on what, and carrying it out on any executor.

A job is a function of the results of the jobs it needs. What it returns is kept in a file of its own, so a job whose
file is there is not done again, whoever stopped the last sitting and how.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, field
from functools import partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from scifm.errors import ConfigError, RunError, SciFMError
from scifm.runs import write_json

__all__ = ["Graph", "Job", "JobsFailedError"]

_MOST_DEATHS = 3  # of workers, with no job finished in between

Work = Callable[..., Any]


class JobsFailedError(RunError):
    """Some jobs failed; everything that did not depend on them is done."""


@dataclass(frozen=True)
class Job:
    """One node.

    Args:
        name: unique; also the name of the file of its result, so no slash.
        work: called with the results of the jobs it needs, in that order; returns plain JSON. For an executor of
            processes it must be picklable.
        needs: names of jobs that come first.
        cost: how long it takes, in any unit; the costliest ready job starts first.
        group: what it belongs to, for progress.
    """

    name: str
    work: Work = field(compare=False)
    needs: tuple[str, ...] = ()
    cost: float = 1.0
    group: str = ""


class Graph:
    """Jobs with a folder for their results.

    Args:
        jobs: in any order.
        folder: where results are kept.

    Raises:
        ConfigError: if a name comes twice, a job needs one that is not there, or jobs need each other in a circle.
    """

    def __init__(self, jobs: Iterable[Job], folder: Path) -> None:
        self.jobs: dict[str, Job] = {}
        self.folder = folder
        for job in jobs:
            if job.name in self.jobs:
                raise ConfigError(f"Two jobs are called '{job.name}'. Give every one its own name.")
            self.jobs[job.name] = job
        for job in self.jobs.values():
            for need in job.needs:
                if need not in self.jobs:
                    raise ConfigError(f"The job '{job.name}' needs '{need}', which is not among the jobs.")
        self._ranks = self._rank()

    def _rank(self) -> dict[str, float]:
        """Return for each job the cost of the longest chain that begins with it; refuses circles."""
        try:
            order = list(TopologicalSorter({job.name: job.needs for job in self.jobs.values()}).static_order())
        except CycleError as error:
            circle = ", ".join(sorted(set(error.args[1])))
            raise ConfigError(f"These jobs need each other in a circle: {circle}.") from error
        ranks = {name: job.cost for name, job in self.jobs.items()}
        for name in reversed(order):  # whatever needs a job has its final rank before the job itself
            for need in self.jobs[name].needs:
                ranks[need] = max(ranks[need], self.jobs[need].cost + ranks[name])
        return ranks

    def result_file(self, name: str) -> Path:
        """Return where the result of a job is kept."""
        return self.folder / f"{name}.json"

    def finished(self) -> dict[str, Any]:
        """Return the results that are on disk, by job.

        Raises:
            RunError: if one of them cannot be read.
        """
        results = {}
        for name in self.jobs:
            file = self.result_file(name)
            if file.is_file():
                try:
                    results[name] = json.loads(file.read_text(encoding="utf-8"))
                except (OSError, ValueError) as error:
                    raise RunError(f"'{file}' cannot be read ({error}). Delete it to do that job again.") from error
        return results

    def carry_out(
        self,
        make_executor: Callable[[], Executor] | None = None,
        *,
        on_start: Callable[[Job], None] = lambda job: None,
        on_end: Callable[[Job, Any], None] = lambda job, result: None,
        given: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Do every job that is not done yet.

        Args:
            make_executor: makes what jobs are submitted to; called again when a worker died. None: here, one by one.
            on_start: told which job was handed out.
            on_end: told which job is done, and its result.
            given: results known already; by default those on disk.

        Returns:
            The results of all jobs, by name.

        Raises:
            JobsFailedError: if jobs failed or their workers died again and again; the others are done and kept.
            KeyboardInterrupt: after Ctrl-C; what was finished is kept.
        """
        results = dict(self.finished() if given is None else given)
        sitting = _Sitting(self, results, on_start, on_end)
        if make_executor is None:
            sitting.alone()
        else:
            while sitting.with_workers(make_executor):
                pass
        sitting.require_success()
        return results


@dataclass
class _Sitting:
    """One attempt to do all jobs."""

    graph: Graph
    results: dict[str, Any]
    on_start: Callable[[Job], None]
    on_end: Callable[[Job, Any], None]
    failures: dict[str, str] = field(default_factory=dict)
    deaths: int = 0

    def _ready(self, running: Sequence[str] = ()) -> list[Job]:
        busy = {*self.results, *self.failures, *running}
        jobs = [
            job
            for name, job in self.graph.jobs.items()
            if name not in busy and all(need in self.results for need in job.needs)
        ]
        return sorted(jobs, key=lambda job: -self.graph._ranks[job.name])

    def _inputs(self, job: Job) -> Iterator[Any]:
        return (self.results[need] for need in job.needs)

    def alone(self) -> None:
        while ready := self._ready():
            job = ready[0]
            self.on_start(job)
            self._take(job, partial(job.work, *self._inputs(job)))

    def _take(self, job: Job, work: Work) -> None:
        """Keep what a job returns, or why it failed."""
        try:
            result = work()
        except SciFMError as error:
            self.failures[job.name] = str(error)
            return
        write_json(self.graph.result_file(job.name), result)
        self.results[job.name] = result
        self.deaths = 0
        self.on_end(job, result)

    def with_workers(self, make_executor: Callable[[], Executor]) -> bool:
        """Hand out jobs until none is ready; True if a worker died and a new executor should go on."""
        futures: dict[Future[Any], Job] = {}
        with make_executor() as executor:
            try:
                return self._hand_out(executor, futures)
            finally:
                for future in futures:
                    future.cancel()

    def _hand_out(self, executor: Executor, futures: dict[Future[Any], Job]) -> bool:
        while True:
            # all that are ready, so that a remote scheduler sees them; the costliest chain first
            for job in self._ready([job.name for job in futures.values()]):
                try:
                    futures[executor.submit(job.work, *self._inputs(job))] = job
                except BrokenExecutor:
                    return self._survived()
                self.on_start(job)
            if not futures:
                return False
            done, _ = wait(futures, return_when=FIRST_COMPLETED)
            died = False
            for future in done:  # every one of them
                try:
                    self._take(futures.pop(future), future.result)
                except BrokenExecutor:  # a worker died, which ends every job of its pool
                    died = True
            if died:
                return self._survived()

    def _survived(self) -> bool:
        """Count a death; False after several without progress, when the jobs that are left are given up."""
        self.deaths += 1
        if self.deaths < _MOST_DEATHS:
            return True
        for job in self._ready():
            self.failures[job.name] = f"its worker died, {_MOST_DEATHS} times in a row; is there enough memory?"
        return False

    def require_success(self) -> None:
        if not self.failures:
            return
        left = len(self.graph.jobs) - len(self.results) - len(self.failures)
        first = "; ".join(f"{name}: {why}" for name, why in list(self.failures.items())[:3])
        raise JobsFailedError(
            f"{len(self.failures)} of {len(self.graph.jobs)} jobs failed"
            + (f" and {left} could not begin without them" if left else "")
            + f". {first} All others are done and kept; give the same command again to try these anew."
        )
