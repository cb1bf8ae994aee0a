"""``scifm plan``: how many more samples, and is pre-training worth it?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from scifm.cli.app import (
    NUM_WORKERS,
    AsJson,
    Imports,
    Model,
    Workers,
    app,
    console,
    print_json,
    print_rows,
    print_table,
)
from scifm.cli.executors import executor_maker
from scifm.cli.progress import ProgressBar, progress_bars
from scifm.cli.recipes import Overrides, RecipeFile, asked, settings
from scifm.wording import count_in_words

if TYPE_CHECKING:
    from scifm.findings.plan import Plan

__all__ = ["plan"]


@app.command()
def plan(
    run: Annotated[Path, Model],
    data: Annotated[Path, typer.Option("--data", help="Store with your few samples; all its splits are used.")],
    target_error: Annotated[float, typer.Option(help="Mean relative L2 error wanted; 0.02 is 2 %.")],
    level: Annotated[float, typer.Option(help="Probability of the intervals.")] = 0.8,
    study: Annotated[
        Path | None, typer.Option(help="Folder of an earlier study: its learning curves say what to expect.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the plan.")] = Path("runs/plan"),
    recipe: RecipeFile = None,
    overrides: Overrides = None,
    workers: Workers = NUM_WORKERS,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Predict how many samples a target error needs, fine-tuned and from scratch, from the few there are.

    Trains on parts of them, scores on the rest, and extrapolates. Asking again for another target costs no training.
    """
    from scifm.studies.calibration import priors_from_table
    from scifm.studies.planner import PRIORS
    from scifm.studies.planner import plan as work
    from scifm.studies.table import read_table

    how: dict[str, Any] = {
        "recipe": settings("plan", asked(recipe, overrides)),
        "priors": PRIORS if study is None else priors_from_table(read_table(study / "table.parquet")),
        "level": level,
        "make_executor": executor_maker(workers, None),
    }
    with progress_bars(console) as progress:
        bar = ProgressBar(progress)
        result = work(run, data, target_error, out=out, observe=bar, **how)
        bar.end()
    if as_json:
        print_json({"path": str(out), **result.model_dump(mode="json")})
    else:
        _tell(result, out)


def _tell(result: Plan, folder: Path) -> None:
    def words(count: float | None) -> str:
        return count_in_words(math.inf if count is None else count)

    title = f"Samples needed in all for {result.target_error:g}; you have {result.num_samples}"
    table = Table("", "error now", "median", "interval", "reachable", title=title)
    for name, outlook in (("fine-tuned", result.few_shot), ("scratch", result.from_scratch)):
        if outlook.current_error is None or outlook.need is None:
            table.add_row(name, "not measured", "", "", "")
            continue
        need = outlook.need
        now = f"{outlook.current_error:.4f} on {outlook.num_trained_samples}"
        between = f"{words(need.low)} to {words(need.high)}"
        table.add_row(name, now, words(need.median), between, f"{100 * need.reachable:.0f} %")
    print_table(table)
    told = [("zero-shot error", f"{result.zero_shot:.4f}"), ("all numbers", str(folder / "plan.json"))]
    print_rows(
        "Plan", [*told, *(("advice", f"{finding.said} {finding.evidence}".strip()) for finding in result.findings)]
    )
