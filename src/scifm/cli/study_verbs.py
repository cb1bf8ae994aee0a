"""Verbs about many runs: ``study``, ``demo``, ``plan``; and ``report``, the page that tells of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from scifm.cli.app import (
    NUM_WORKERS,
    AsJson,
    Imports,
    Model,
    Scheduler,
    Workers,
    app,
    console,
    executor_maker,
    print_json,
    print_rows,
    print_table,
)
from scifm.cli.progress import ProgressBar, StudyTree, progress_bars
from scifm.cli.recipes import Overrides, settings, told_by
from scifm.wording import count_in_words, duration, plural

if TYPE_CHECKING:
    from scifm.findings.study import Analysis, ErrorCurve
    from scifm.studies.recipe import StudyRecipe
    from scifm.studies.study import Speed

__all__ = ["demo", "plan", "report", "study", "transfer"]


@app.command()
def report(
    path: Annotated[Path, typer.Argument(help="Folder of a study, a plan, a run or a model.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File to write; default: report.html in the folder; of a model alone, MODEL.html."),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", help="Folder for a paper: figures as PDF and SVG, tables as CSV and LaTeX."),
    ] = None,
) -> None:
    """Write one self-contained HTML page about a study, a plan, a run or a model; for a paper also its parts."""
    from scifm.report.page import page

    typer.echo(str(page(path, out=out, figures=figures)))
    if figures is not None:
        typer.echo(str(figures))


@app.command()
def study(
    recipe: Annotated[Path, typer.Argument(help="TOML file of a study, or a name that 'scifm recipes' lists.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the study; default: runs/NAME of the recipe.")
    ] = None,
    overrides: Overrides = None,
    workers: Workers = NUM_WORKERS,
    scheduler: Scheduler = None,
    worker_threads: Annotated[int | None, typer.Option(min=1, help="With --scheduler: threads of each run.")] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="With --scheduler: what a run takes of a worker, e.g. GPU=1; repeatable."),
    ] = None,
    no_shared_files: Annotated[
        bool, typer.Option("--no-shared-files", help="With --scheduler: workers do not see this file system.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost.")] = False,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Transfer and scaling: pre-train on one or several systems, move to every task, compare, and say what it means.

    What is complete is not run again: give the same command again after an interruption.
    """
    from scifm.studies.recipe import StudyRecipe
    from scifm.studies.study import estimate, plan_jobs

    what = StudyRecipe.read(recipe, overrides=overrides or [])
    folder = out or Path("runs") / recipe.stem
    make = executor_maker(
        workers, scheduler, threads=worker_threads, resource=resource, carry=folder if no_shared_files else None
    )
    cost = estimate(plan_jobs(what, folder), num_workers=workers)
    message = (
        f"{plural(cost.num_jobs, 'run')}, {cost.num_finished} of them done; the rest takes about "
        f"{duration(cost.seconds)} with {plural(workers, 'worker')}, and {cost.disk_bytes / 1e9:.2g} GB in '{folder}'."
    )
    console.print(message, highlight=False, soft_wrap=True)
    if dry_run and len(cost.speeds) > 1:
        _print_speeds(cost.speeds)
    if not dry_run:
        _carry_out(what, folder, make, as_json)


@app.command()
def demo(
    which: Annotated[str, typer.Argument(help="'steady' or 'evolving'.")] = "steady",
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the study; default: runs/demo.")] = None,
    overrides: Overrides = None,
    workers: Workers = NUM_WORKERS,
    as_json: AsJson = False,
) -> None:
    """The whole path in one go: pre-train, shift the physics, fine-tune, compare, write the page.

    'steady' moves Poisson to stronger anisotropy, 'evolving' Burgers to thinner shocks (into runs/demo-evolving). They
    are the studies of the recipes transfer-demo and transfer-demo-evolving: --set overrides any of the settings.
    """
    from scifm.errors import ConfigError, suggest
    from scifm.studies.demo import DEMOS
    from scifm.studies.recipe import StudyRecipe

    if which not in DEMOS:
        raise ConfigError(f"Demo {suggest(which, DEMOS)}")
    folder = out or Path("runs/demo" if which == "steady" else f"runs/demo-{which}")
    _carry_out(
        StudyRecipe.read(DEMOS[which], overrides=overrides or []), folder, executor_maker(workers, None), as_json
    )


@app.command(hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def transfer() -> None:
    """Say what to give instead."""
    from scifm.config import FORMER_TRANSFER
    from scifm.errors import ConfigError

    raise ConfigError(f"{FORMER_TRANSFER}.")


def _carry_out(recipe: StudyRecipe, folder: Path, make: Callable[[], Executor] | None, as_json: bool) -> None:
    from scifm.findings.study import Analysis
    from scifm.report.page import page
    from scifm.studies.study import study as work

    with StudyTree(console) as tree:
        work(recipe, out=folder, make_executor=make, observe=tree)
    written = page(folder)
    analysis = Analysis.model_validate_json((folder / "analysis.json").read_bytes())
    if as_json:
        parts = analysis.model_dump(mode="json", include={"seconds", "verdict", "curves"}, exclude_none=True)
        print_json({"path": str(folder), "page": str(written), **parts})
        return
    for finding in analysis.verdict:
        typer.echo(f"{finding.said}\n    {finding.evidence}")
    if len(analysis.targets) == 1:
        for curve in analysis.curves:
            if curve.kind == "few_shot":
                _print_errors(analysis, curve)
    lines = [("folder", str(folder)), ("table", str(folder / "table.parquet")), ("page", str(written))]
    print_rows("Study", [*lines, ("took", duration(analysis.seconds or 0.0))])


def _print_speeds(speeds: Mapping[str, Speed]) -> None:
    """Print how fast each network trains here, and which steps_factor would take as long as the first."""
    first = next(iter(speeds.values()))
    columns = ("network", "weights", "seconds a step", "steps_factor now", "for equal time")
    table = Table(*columns, title="A few steps of each, measured here with nothing beside them")
    for name, speed in speeds.items():
        equal = first.steps_factor * first.seconds / speed.seconds
        table.add_row(
            name, f"{speed.num_params:,}", f"{speed.seconds:.3g}", f"{speed.steps_factor:.3g}", f"{equal:.2g}"
        )
    print_table(table)


def _print_errors(analysis: Analysis, tuned: ErrorCurve) -> None:
    """Print the errors of one source on the only task, fine-tuned beside from scratch."""

    def medians(kind: str, source: str = "") -> dict[int, float | None]:
        curves = [c for c in analysis.curves if (c.kind, c.source, c.size) == (kind, source, tuned.size)]
        return {point.num_samples: point.median for point in curves[0].points} if len(curves) == 1 else {}

    few_shot = {point.num_samples: point.median for point in tuned.points}
    scratch = medians("from_scratch")
    title = f"Relative L2 error on {tuned.target}: {tuned.source}, {tuned.size}, median over seeds"
    table = Table("downstream samples", "fine-tuned", "from scratch", "times lower", title=title)
    for name, kind in (("in distribution", "in_distribution"), ("0 (zero-shot)", "zero_shot")):
        table.add_row(name, _error(next(iter(medians(kind, tuned.source).values()), None)), "", "")
    for count in sorted({*few_shot, *scratch}):
        ours, theirs = few_shot.get(count), scratch.get(count)
        table.add_row(f"{count:,}", _error(ours), _error(theirs), f"{theirs / ours:.1f}" if ours and theirs else "")
    print_table(table)


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


@app.command()
@told_by()
def plan(
    run: Annotated[Path, Model],
    data: Annotated[Path, typer.Option("--data", help="Store with your few samples; all its splits are used.")],
    target_error: Annotated[float, typer.Option(help="Mean relative L2 error wanted; 0.02 is 2 %.")],
    tree: dict[str, Any],
    level: Annotated[float, typer.Option(help="Probability of the intervals.")] = 0.8,
    study: Annotated[
        Path | None, typer.Option(help="Folder of an earlier study: its learning curves say what to expect.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the plan.")] = Path("runs/plan"),
    workers: Workers = NUM_WORKERS,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Predict how many samples a target error needs, fine-tuned and from scratch, from the few there are.

    Trains on parts of them, scores on the rest, and extrapolates. Asking again for another target costs no training.
    """
    from scifm.studies.planner import PRIORS
    from scifm.studies.planner import plan as work
    from scifm.studies.planner_calibration import priors_from_study

    how = settings("plan", tree)
    priors = PRIORS if study is None else priors_from_study(study, run)
    make = executor_maker(workers, None)
    with progress_bars(console) as progress:
        bar = ProgressBar(progress)
        result = work(
            run, data, target_error, out=out, observe=bar, recipe=how, priors=priors, level=level, make_executor=make
        )
        bar.end()
    if as_json:
        print_json({"path": str(out), **result.model_dump(mode="json")})
        return
    title = f"Samples needed in all for {result.target_error:g}; you have {result.num_samples}"
    table = Table("", "error now", "median", "interval", "reachable", title=title)
    for name, outlook in (("fine-tuned", result.few_shot), ("scratch", result.from_scratch)):
        if outlook.current_error is None or outlook.need is None:
            table.add_row(name, "not measured", "", "", "")
            continue
        need = outlook.need
        now = f"{outlook.current_error:.4f} on {outlook.num_trained_samples}"
        between = f"{count_in_words(need.low)} to {count_in_words(need.high)}"
        table.add_row(name, now, count_in_words(need.median), between, f"{100 * need.reachable:.0f} %")
    print_table(table)
    zero_shot = "none: it does not know the names" if result.zero_shot is None else f"{result.zero_shot:.4f}"
    rows = [("zero-shot error", zero_shot), ("all numbers", str(out / "plan.json"))]
    rows += [("advice", f"{finding.said} {finding.evidence}".strip()) for finding in result.findings]
    print_rows("Plan", rows)
