"""Verbs about many runs, and the page that tells of them."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from scifm.cli.app import (
    NUM_WORKERS,
    AsJson,
    Imports,
    Overrides,
    Scheduler,
    Workers,
    app,
    console,
    print_json,
    print_rows,
    print_table,
)
from scifm.cli.executors import executor_maker
from scifm.cli.progress import ProgressBar, StudyTree, progress_bars
from scifm.wording import duration, plural

if TYPE_CHECKING:
    from scifm.studies.transfer import TransferRecipe

__all__ = ["demo", "report", "study", "transfer"]


@app.command()
def report(
    path: Annotated[Path, typer.Argument(help="Folder of a study, a plan, a run or a model.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File to write; default: report.html in the folder; of a model alone, MODEL.html."),
    ] = None,
) -> None:
    """Write one self-contained HTML page about a study, a plan, a run or a model."""
    from scifm.report.page import page

    typer.echo(str(page(path, out=out)))


@app.command()
def study(
    recipe: Annotated[Path, typer.Argument(help="TOML file of a study; see recipes/transfer-*.toml.")],
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
    from scifm.studies.study import study as work

    settings = StudyRecipe.read(recipe, overrides=overrides or [])
    folder = out or Path("runs") / recipe.stem
    make = executor_maker(
        workers, scheduler, threads=worker_threads, resource=resource, ferry=folder if no_shared_files else None
    )
    cost = estimate(plan_jobs(settings, folder), num_workers=workers)
    told = f"{plural(cost.num_jobs, 'run')}, {cost.num_finished} of them done; the rest takes about "
    told += (
        f"{duration(cost.seconds)} with {plural(workers, 'worker')}, and {cost.disk_bytes / 1e9:.2g} GB in '{folder}'."
    )
    console.print(told, highlight=False, soft_wrap=True)
    if dry_run:
        return
    with StudyTree(console) as tree:
        work(settings, out=folder, make_executor=make, observe=tree)
    _tell_study(folder, as_json)


def _tell_study(folder: Path, as_json: bool) -> None:
    from scifm.report.page import page

    written = page(folder)
    verdict = json.loads((folder / "analysis.json").read_text(encoding="utf-8"))["verdict"]
    if as_json:
        print_json({"path": str(folder), "page": str(written), "verdict": verdict})
        return
    for sentence in verdict:
        typer.echo(f"{sentence['said']}\n    {sentence['evidence']}")
    print_rows("Study", [("folder", str(folder)), ("table", str(folder / "table.parquet")), ("page", str(written))])


@app.command()
def transfer(
    recipe: Annotated[Path, typer.Argument(help="TOML file of a transfer study; see recipes/.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the study.")],
    overrides: Overrides = None,
    workers: Workers = NUM_WORKERS,
    as_json: AsJson = False,
) -> None:
    """Carry out a transfer study: pre-train, move with 0 to n samples, compare with training from scratch."""
    from scifm.config import read_recipe
    from scifm.studies.transfer import TransferRecipe

    _study(read_recipe(TransferRecipe, recipe, "transfer", overrides=overrides or []), out, workers, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the study.")] = Path("runs/demo"),
    overrides: Overrides = None,
    workers: Workers = NUM_WORKERS,
    as_json: AsJson = False,
) -> None:
    """The whole path in one go: pre-train on Poisson, shift its anisotropy, fine-tune, compare, write the page."""
    from scifm.config import apply_overrides, build_config
    from scifm.studies.transfer import TransferRecipe

    tree = apply_overrides(TransferRecipe().to_dict(), overrides or [])
    _study(build_config(TransferRecipe, tree, source="the demo"), out, workers, as_json)


def _study(recipe: TransferRecipe, out: Path, workers: int, as_json: bool) -> None:
    from scifm.report.page import page
    from scifm.studies.transfer import transfer as work
    from scifm.studies.workers import worker_pool

    with progress_bars(console) as progress:
        bar = ProgressBar(progress)
        with worker_pool(workers) if workers > 1 else nullcontext() as executor:
            folder = work(recipe, out=out, executor=executor, observe=bar)
        bar.end()
    written = page(folder)
    summary = json.loads((folder / "summary.json").read_text())
    if as_json:
        print_json({**summary, "page": str(written)})
        return
    table = Table("downstream samples", "fine-tuned", "from scratch", "times lower", title=recipe.title)
    table.add_row("0 (zero-shot)", f"{summary['zero_shot']:.4f}", "", "")
    for count in sorted({*summary["few_shot"], *summary["from_scratch"]}, key=int):
        tuned, scratch = summary["few_shot"].get(count), summary["from_scratch"].get(count)
        gain = f"{scratch / tuned:.1f}" if tuned and scratch else ""
        table.add_row(count, f"{tuned:.4f}" if tuned else "", f"{scratch:.4f}" if scratch else "", gain)
    print_table(table)
    told = [("in distribution", f"{summary['in_distribution']:.4f}"), ("seconds", f"{summary['seconds']:.0f}")]
    print_rows("Relative L2 error, mean over test samples", [*told, ("page", str(written))])
