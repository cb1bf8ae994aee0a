"""The transfer and scaling study: pre-train, move, compare, and say what it means.

A study is a graph of runs made from a `StudyRecipe`. Its folder holds one tidy table with a row a run, everything that
was derived from it, and the run folders every number can be traced to::

    <study>/
      config.toml  environment.json  STATUS  LOCK
      jobs/          result of every finished job: what is there is not done again
      runs/          pre-trainings; in a folder for each target its adaptations
      table.parquet  a row for each operator scored on a task
      analysis.json  gains, samples saved, shift, scaling, audits, and the verdict in words
      report.html    all of it to read
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scifm.data.normalize import fit_normalization
from scifm.data.stream import Epochs
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for
from scifm.models.operator import Operator
from scifm.runs import Run
from scifm.studies.conclusions import conclude
from scifm.studies.graph import Graph, Job
from scifm.studies.jobs import adapt_job, pretrain_job
from scifm.studies.recipe import SourceConfig, StudyRecipe, TargetConfig
from scifm.studies.table import KINDS, Row, write_table
from scifm.studies.workers import threads_of_a_worker
from scifm.training.loop import Observer, train
from scifm.training.pretrain import build_operator

__all__ = ["Estimate", "Plan", "estimate", "plan_jobs", "rows_of", "study"]


@dataclass(frozen=True)
class _Task:
    """What a job does, in words a progress display and an estimate need."""

    size: str
    steps: int
    batch_size: int
    weights: bool  # whether the run keeps its weights


@dataclass(frozen=True)
class Plan:
    """The graph of a study, before anything is run."""

    graph: Graph
    tasks: dict[str, _Task]
    folder: Path

    def finished(self) -> dict[str, Any]:
        """Return the results on disk whose run folders are there and whole."""
        found = self.graph.finished()
        return {name: result for name, result in found.items() if Run(self.folder / result["run"]).is_complete}


@dataclass(frozen=True)
class Estimate:
    """What is still to be done.

    Args:
        num_jobs: jobs in all.
        num_finished: of these done already.
        seconds: wall time of the rest, from a few measured steps.
        disk_bytes: what the run folders of the rest will take.
    """

    num_jobs: int
    num_finished: int
    seconds: float
    disk_bytes: float


def plan_jobs(recipe: StudyRecipe, folder: Path) -> Plan:
    """Return the graph of a study.

    Raises:
        ConfigError: if the recipe does not add up.
    """
    recipe.check()
    jobs: list[Job] = []
    tasks: dict[str, _Task] = {}

    def add(job: Job, size: str, batch_size: int, *, weights: bool) -> None:
        jobs.append(job)
        tasks[job.name] = _Task(size, int(job.cost), batch_size, weights)

    batch = recipe.training.batch_size
    for source in recipe.sources:
        for size in recipe.sizes_of(source):
            for seed in source.seeds or recipe.seeds:
                job = _pretraining(recipe, folder, source, size, seed, None)
                add(job, size, batch, weights=True)
            for job, count in _finetunings(recipe, folder, source, size):
                add(job, size, min(count, recipe.adapt.training.batch_size), weights=recipe.keep_weights == "all")
    for target in recipe.targets:
        for size, count in recipe.scratches(target):
            for job in _scratches(recipe, folder, target, size, count):
                add(job, size, min(count, recipe.adapt.training.batch_size), weights=recipe.keep_weights == "all")
    if recipe.scaling is not None:
        source = recipe.source(recipe.scaling.source)
        for size in recipe.scaling.sizes:
            for steps in recipe.scaling.num_steps:
                for seed in recipe.scaling.seeds or recipe.seeds:
                    add(_pretraining(recipe, folder, source, size, seed, steps), size, batch, weights=True)
    return Plan(Graph(jobs, folder / "jobs"), tasks, folder)


def _pretraining(
    recipe: StudyRecipe, folder: Path, source: SourceConfig, size: str, seed: int, num_steps: int | None
) -> Job:
    steps = num_steps or source.num_steps or recipe.training.num_steps
    name = (
        f"pretrain@{source.name}@{size}@seed{seed}"
        if num_steps is None
        else (f"scaling@{source.name}@{size}@{num_steps}steps@seed{seed}")
    )
    work = partial(pretrain_job, recipe, folder, source, size, seed, num_steps)
    return Job(name, work, cost=steps, group="scaling" if num_steps else f"pre-training {source.name}")


def _finetunings(recipe: StudyRecipe, folder: Path, source: SourceConfig, size: str) -> list[tuple[Job, int]]:
    found = []
    counts = recipe.few_shot if source.few_shot is None else source.few_shot
    parents = source.seeds or recipe.seeds
    for target in recipe.targets_of(source):
        for count in counts:
            for place, seed in enumerate(recipe.seeds):
                parent = f"pretrain@{source.name}@{size}@seed{parents[place % len(parents)]}"
                job = Job(
                    f"few_shot@{source.name}@{target.name}@{size}@{count}@seed{seed}",
                    partial(adapt_job, recipe, folder, "few_shot", source, target, size, count, seed),
                    needs=(parent,),
                    cost=_adapt_steps(recipe, "few_shot", count),
                    group=f"fine-tuning {source.name}",
                )
                found.append((job, count))
    return found


def _scratches(recipe: StudyRecipe, folder: Path, target: TargetConfig, size: str, count: int) -> list[Job]:
    return [
        Job(
            f"from_scratch@{target.name}@{size}@{count}@seed{seed}",
            partial(adapt_job, recipe, folder, "from_scratch", None, target, size, count, seed),
            cost=_adapt_steps(recipe, "from_scratch", count),
            group="from scratch",
        )
        for seed in recipe.seeds
    ]


def _adapt_steps(recipe: StudyRecipe, kind: Any, count: int) -> int:
    settings = recipe.adapt.recipe(kind, count, 0)
    trials = len(settings.learning_rates)
    return settings.training.num_steps * (trials + (trials > 1))


def estimate(recipe: StudyRecipe, plan: Plan, *, num_workers: int) -> Estimate:
    """Measure a few steps of every size and add up what is left to do."""
    finished = plan.finished()
    left = {name: task for name, task in plan.tasks.items() if name not in finished}
    threads = torch.get_num_threads()
    torch.set_num_threads(threads_of_a_worker(num_workers))
    seconds = {size: _seconds_a_sample(recipe, size) for size in {task.size for task in left.values()}}
    torch.set_num_threads(threads)
    weights = {size: _example(recipe, size)[0].num_params * 4 for size in seconds}
    return Estimate(
        num_jobs=len(plan.tasks),
        num_finished=len(finished),
        seconds=sum(t.steps * t.batch_size * seconds[t.size] for t in left.values()) / num_workers,
        disk_bytes=sum(weights[t.size] * t.weights for t in left.values())
        + 3 * num_workers * max(weights.values(), default=0),
    )


def _example(recipe: StudyRecipe, size: str) -> tuple[Operator, Batch]:
    """Return a fresh operator of a size for the first source, and some of its samples."""
    source = recipe.sources[0]
    system = source.systems[0].build()
    batch = system.sample(32, recipe.grid, generator_for(0, "study", "estimate"))
    normalization = fit_normalization(batch, system.homogeneities, kind=recipe.normalization)
    return build_operator(system.signature, recipe.network(size), normalization, seed=0), batch


def _seconds_a_sample(recipe: StudyRecipe, size: str) -> float:
    operator, batch = _example(recipe, size)
    config = recipe.training.model_copy(update={"num_steps": 4})
    source = Epochs(batch, batch_size=32, seed=0)
    train(operator, source, config=config)  # memory comes in, kernels are compiled
    position = train(operator, source, config=config)
    return position.seconds / (4 * 32)


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
        ConfigError: if the recipe does not add up.
        RunError: if the folder holds another study, is in use, cannot be written, or jobs failed.
        KeyboardInterrupt: after Ctrl-C; what was finished is kept.
    """
    folder = Path(out)
    plan = plan_jobs(recipe, folder)
    run = Run.claim(folder, recipe.to_dict())
    tell = observe if observe is not None else _ignore
    with run.locked():
        run.set_status("running")
        started = time.perf_counter()
        finished = plan.finished()
        tell(event="planned", jobs=plan.graph.jobs, finished=finished)
        results = plan.graph.carry_out(
            make_executor,
            on_start=lambda job: tell(event="started", job=job),
            on_end=lambda job, result: tell(event="finished", job=job, result=result),
            given=finished,
        )
        rows = rows_of(plan, results)
        write_table(rows, folder / "table.parquet")
        tell(event="concluding")
        conclude(recipe, folder, rows)
        run.log(event="sitting", jobs=len(results) - len(finished), seconds=time.perf_counter() - started)
        run.set_status("complete")
    return folder


def _ignore(**event: Any) -> None:
    pass


def rows_of(plan: Plan, results: dict[str, Any]) -> list[Row]:
    """Return the rows of all jobs in the order of the recipe, whatever the order they finished in."""
    rows = [Row(**entries) for name in plan.graph.jobs for entries in results[name]["rows"]]
    return sorted(rows, key=lambda row: KINDS.index(row.kind))
