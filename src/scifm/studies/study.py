"""The transfer and scaling study: pre-train, move, compare, and say what it means.

A study is a graph of runs made from a `StudyRecipe`. Its folder holds one tidy table with a row a run, everything that
was derived from it, and the run folders every number can be traced to::

    <study>/
      config.toml  environment.json  STATUS  LOCK
      jobs/          result of every finished job: what is there is not done again
      runs/          pre-trainings; in a folder for each target its adaptations
      table.parquet  a row for each operator scored on a task
      analysis.json  gains, samples saved, shift, scaling, audits, and the verdict in words
      examples.npz   some test samples of the first task, answered by every kind of operator
      report.html    all of it to read
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from scifm.config import RECORDED, build_config
from scifm.data.normalize import fit_normalization
from scifm.data.stream import Epochs
from scifm.errors import ConfigError, RunError
from scifm.execution.graph import Graph, Job
from scifm.execution.workers import threads_of_a_worker
from scifm.runs import Run
from scifm.studies.analysis import conclude
from scifm.studies.jobs import Adaptation, Pretraining, Task, write_examples
from scifm.studies.recipe import StudyRecipe
from scifm.studies.table import KINDS, Row, write_table
from scifm.training.loggers import require_loggers
from scifm.training.loop import Observer, train
from scifm.training.pretrain import build_operator, settled_on
from scifm.training.processes import require_alone

__all__ = ["Estimate", "Speed", "StudyJobs", "estimate", "plan_jobs", "rows_of", "study"]


@dataclass(frozen=True)
class StudyJobs:
    """What a study will do, before anything is run.

    Args:
        recipe: of the study.
        folder: where.
        tasks: every job, by name, in the order of the recipe.
        graph: the same as a graph.
    """

    recipe: StudyRecipe
    folder: Path
    tasks: dict[str, Task]
    graph: Graph

    @property
    def record(self) -> dict[str, Any]:
        """The configuration of the study's folder."""
        return {"kind": "study", **self.recipe.to_record(), "origin": self.recipe.contents()}

    def claim(self) -> Run:
        """Return the folder of the study, a new one or one that holds this study.

        Raises:
            RunError: if it holds another, or cannot be written.
        """
        return Run.claim(self.folder, self.record, completed=_completed)

    def finished(self) -> dict[str, Any]:
        """Return the results on disk whose run folders are there and whole.

        Raises:
            RunError: if the folder holds another study, or a result cannot be read or is none.
        """
        Run(self.folder).is_claimed(self.record, completed=_completed)  # refuses a folder of another study
        results = self.graph.finished()
        for name, result in results.items():
            if not isinstance(result, dict) or not {"run", "rows"} <= set(result):
                file = self.graph.result_file(name)
                raise RunError(f"'{file}' is not the result of a job. Delete it to have that job looked at again.")
        return {name: result for name, result in results.items() if Run(self.folder / result["run"]).is_complete}


@dataclass(frozen=True)
class Speed:
    """How fast a network trains here.

    Args:
        num_params: its weights.
        seconds: wall time of a step of pre-training, with what it takes to draw fresh samples for it.
        steps_factor: what the recipe says of it.
    """

    num_params: int
    seconds: float
    steps_factor: float


@dataclass(frozen=True)
class Estimate:
    """What is still to be done.

    Args:
        num_jobs: jobs in all.
        num_finished: of these done already.
        seconds: wall time of the rest, from a few measured steps.
        disk_bytes: what the run folders of the rest will take.
        speeds: of every network that is still to be trained, in the order of the recipe.
    """

    num_jobs: int
    num_finished: int
    seconds: float
    disk_bytes: float
    speeds: dict[str, Speed]


def plan_jobs(recipe: StudyRecipe, folder: Path) -> StudyJobs:
    """Return the graph of a study.

    Raises:
        ConfigError: if the recipe does not add up.
    """
    recipe.check()
    tasks = [*_moves(recipe), *_scratches(recipe), *_scaling(recipe)]
    jobs = [
        Job(
            task.name,
            partial(task.carry_out, recipe, folder),
            needs=task.needs,
            cost=task.effort(recipe).num_steps,
            group=task.group,
        )
        for task in tasks
    ]
    return StudyJobs(recipe, folder, {task.name: task for task in tasks}, Graph(jobs, folder / "jobs"))


def _moves(recipe: StudyRecipe) -> Iterator[Task]:
    """Yield every pre-training and what is fine-tuned from it; seeds of the latter take those of parents in turn."""
    for source in recipe.sources:
        parents = source.seeds or recipe.seeds
        counts, _ = recipe.counts_of(source)
        for size in recipe.sizes_of(source):
            yield from (Pretraining(source, size, seed) for seed in parents)
            for target in recipe.targets_of(source):
                for count in counts:
                    for place, seed in enumerate(recipe.seeds):
                        yield Adaptation(source, target, size, count, seed, parents[place % len(parents)])


def _scratches(recipe: StudyRecipe) -> Iterator[Adaptation]:
    for target in recipe.targets:
        for size, count in recipe.scratches(target):
            yield from (Adaptation(None, target, size, count, seed) for seed in recipe.seeds)
        if recipe.convergence is not None and target.name in recipe.convergence.targets:
            for size, count in product(recipe.converged_sizes, recipe.convergence.num_samples):
                yield from (Adaptation(None, target, size, count, seed, to_convergence=True) for seed in recipe.seeds)


def _scaling(recipe: StudyRecipe) -> Iterator[Pretraining]:
    if recipe.scaling is not None:
        source, seeds = recipe.source(recipe.scaling.source), recipe.scaling.seeds or recipe.seeds
        for size in recipe.scaling.sizes:
            for steps in recipe.scaling.num_steps:
                yield from (Pretraining(source, size, seed, steps) for seed in seeds)


def estimate(plan: StudyJobs, *, num_workers: int) -> Estimate:
    """Measure a few steps of every network and add up what is left to do."""
    finished = plan.finished()
    left = [(task.size, task.effort(plan.recipe)) for name, task in plan.tasks.items() if name not in finished]
    threads = torch.get_num_threads()
    torch.set_num_threads(threads_of_a_worker(num_workers))
    try:
        measured = {size: _measured(plan.recipe, size) for size in dict.fromkeys(size for size, _ in left)}
        drawing = _drawing(plan.recipe) if any(effort.num_drawn for _, effort in left) else 0.0
    finally:
        torch.set_num_threads(threads)
    # weights and two moments, while a run trains
    states = 12 * num_workers * max((num_params for _, num_params in measured.values()), default=0)
    batch_size = plan.recipe.training.batch_size
    return Estimate(
        num_jobs=len(plan.tasks),
        num_finished=len(finished),
        seconds=sum(e.num_steps * e.batch_size * measured[size][0] + e.num_drawn * drawing for size, e in left)
        / num_workers,
        disk_bytes=sum(4 * measured[size][1] * e.keeps_weights for size, e in left) + states,
        speeds={
            size: Speed(num_params, batch_size * (seconds + drawing), plan.recipe.model(size).steps_factor)
            for size, (seconds, num_params) in measured.items()
        },
    )


def _measured(recipe: StudyRecipe, size: str) -> tuple[float, int]:
    """Return the seconds a sample takes in training a network, and how many weights it has."""
    origin, model = recipe.origins(recipe.sources[0])[0], recipe.model(size)
    batch = origin.draw(32, "study", "estimate")
    network = settled_on(origin, model.resolve())
    normalization = fit_normalization(batch, network.scalings(origin.homogeneities), kind=model.normalization)
    operator = build_operator(origin.signature, network, normalization, seed=0)
    config = recipe.training.model_copy(update={"num_steps": 4, "loggers": ()})
    source = Epochs(batch, batch_size=len(batch), seed=0)
    train(operator, source, config=config)  # memory comes in, kernels are compiled
    position = train(operator, source, config=config)
    return position.seconds / (4 * len(batch)), operator.num_params


def _drawing(recipe: StudyRecipe) -> float:
    """Return the seconds that a fresh sample takes to be drawn and solved, of the first source that draws any."""
    origin = next(recipe.origins(source)[0] for source in recipe.sources if source.store is None)
    count = recipe.training.batch_size
    origin.draw(count, "study", "estimate")  # memory comes in, constants are made
    started = time.perf_counter()
    origin.draw(count, "study", "estimate", seed=1)
    return (time.perf_counter() - started) / count


def study(
    recipe: StudyRecipe,
    *,
    out: str | Path,
    make_executor: Callable[[], Executor] | None = None,
    observe: Observer | None = None,
) -> Path:
    """Carry out a study, or go on with an interrupted one: what is complete is not run again.

    Args:
        recipe: what to do.
        out: folder of the study.
        make_executor: makes the executor that jobs run on, see `worker_pool`. None: here, one after the other.
        observe: called with ``planned``, ``started``, ``finished`` and ``concluding`` events.

    Returns:
        The folder.

    Raises:
        ConfigError: if the recipe does not add up, or a launcher started several processes.
        RunError: if the folder holds another study, is in use, cannot be written, or jobs failed.
        KeyboardInterrupt: after Ctrl-C; what was finished is kept.
    """
    require_alone("A study")
    require_loggers((*recipe.training.loggers, *recipe.adapt.training.loggers))
    folder = Path(out)
    plan = plan_jobs(recipe, folder)
    run = plan.claim()
    tell = observe or (lambda **event: None)

    def ended(job: Job, result: dict[str, Any]) -> None:
        run.note_time()  # a sitting that is killed ends with what it noted last
        tell(event="finished", job=job, result=result)

    with run.locked():
        run.set_status("running")
        started = time.perf_counter()
        finished = plan.finished()
        tell(event="planned", jobs=plan.graph.jobs, finished=finished)
        results = plan.graph.carry_out(
            make_executor,
            on_start=lambda job: tell(event="started", job=job),
            on_end=ended,
            given=finished,
        )
        rows = rows_of(plan, results)
        write_table(rows, folder / "table.parquet")
        tell(event="concluding")
        write_examples(recipe, folder, results)
        run.note_time()
        conclude(recipe, folder, rows, seconds=run.seconds)
        run.log(event="sitting", jobs=len(results) - len(finished), seconds=time.perf_counter() - started)
        run.set_status("complete")
    return folder


def _completed(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a folder with the settings that came after it was written, at their defaults."""
    with suppress(ConfigError):  # what cannot be read as a recipe of today is another's
        recipe = build_config(StudyRecipe, {key: value for key, value in record.items() if key not in RECORDED})
        return recipe.to_record() | {key: record[key] for key in RECORDED if key in record}
    return record


def rows_of(plan: StudyJobs, results: dict[str, Any]) -> list[Row]:
    """Return the rows of all jobs in the order of the recipe, whatever the order they finished in."""
    rows = [Row(**entries) for name in plan.graph.jobs for entries in results[name]["rows"]]
    return sorted(rows, key=lambda row: KINDS.index(row.kind))
