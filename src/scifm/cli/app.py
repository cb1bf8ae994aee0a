"""What the verbs share: the application they join, options that mean the same everywhere, how results are printed."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from scifm.cli.recipes import setting_of_option
from scifm.errors import ConfigError, StopRequested

__all__ = [
    "EXAMPLES",
    "NUM_WORKERS",
    "AsJson",
    "Imports",
    "Model",
    "OutRuns",
    "Scheduler",
    "Workers",
    "app",
    "console",
    "executor_maker",
    "print_json",
    "print_rows",
    "print_table",
    "say",
]

EXAMPLES: dict[str, str] = {
    "demo": "scifm demo",
    "systems": "scifm systems",
    "recipes": "scifm recipes",
    "models": "scifm models",
    "generate": "scifm generate poisson --num-samples 512 --out stores/poisson",
    "verify": "scifm verify stores/poisson",
    "inspect": "scifm inspect stores/poisson",
    "pretrain": "scifm pretrain poisson-small --set training.num_steps=100",
    "pinn": "scifm pinn convection --knob speed=30",
    "finetune": "scifm finetune runs/poisson-small-* --system poisson --num-samples 16",
    "evaluate": "scifm evaluate runs/finetune-16-* --system poisson --knob anisotropy=5,10",
    "scores": "scifm scores runs/finetune-16-*",
    "rollout": "scifm rollout runs/burgers-small-* --steps 40",
    "calibrate": "scifm calibrate runs/poisson-small-*",
    "predict": "scifm predict runs/poisson-small-* --input stores/poisson --out prediction.nc",
    "embed": "scifm embed runs/poisson-small-* --out features.parquet",
    "check": "scifm check runs/poisson-small-*",
    "compress": "scifm compress runs/poisson-small-* --to int8 --out models/small",
    "report": "scifm report runs/finetune-16-*",
    "play": "scifm play runs/poisson-small-*",
    "export": "scifm export runs/finetune-16-* --to onnx",
    "events": "scifm events --magnitude 3.5,4.5 --num-events 64 --out stores/events",
    "warn": "scifm warn runs/early-warning-* --stations 200",
    "observe": "scifm observe --system poisson --num-receivers 64 --out recordings.npz",
    "invert": "scifm invert runs/poisson-small-* --data recordings.npz",
    "records": "scifm records --num-events 64 --out stores/records",
    "imitate": "scifm imitate stores/records",
    "shake": "scifm shake runs/imitate-* --magnitude 3.5 --distance 20 --out shaking.npz",
    "assess": "scifm assess runs/imitate-*",
    "plan": "scifm plan runs/poisson-small-* --data stores/poisson --target-error 0.02",
    "study": "scifm study transfer-tiny --out runs/tiny",
    "import": "scifm import measured.nc --out stores/measured",
    "doctor": "scifm doctor",
}
"""One line for each verb that works as it stands in the project's folder; the help lists verbs in this order.

Tests give them all, shortened, but those that take minutes or never end (demo, study, play).
"""

# What is printed is plain text, whoever wrote it: rich would take [play] for a style, and :x: for a picture.
console = Console(stderr=True, markup=False, emoji=False)


def print_table(table: Table) -> None:
    """Print a table, its cells as they are: what is too long for a column goes on beneath, none is cut off."""
    for column in table.columns:
        column.overflow = "fold"
    Console(markup=False, emoji=False).print(table)


def say(mark: str, style: str, message: str) -> None:
    """Print one line for a user, on standard error: a colored mark, then plain words."""
    console.print(Text.assemble((mark, style), " ", message), soft_wrap=True)


_UsageError: Any = typer.BadParameter.__mro__[1]  # typer has click's own inside, and shows only some of its errors


class _Verbs(TyperGroup):
    """The verbs, their help as it was written and a line that works beneath it.

    What the parser would make of a signal to stop is replaced by a line that says how to go on.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for name, command in self.commands.items():
            if name in EXAMPLES:
                command.epilog = f"Example:\n\n{escape(EXAMPLES[name])}"
            entries: list[Any] = [command, *command.params]
            for entry in entries:
                if getattr(entry, "help", None):
                    entry.help = escape(entry.help)

    def list_commands(self, ctx: Any) -> list[str]:
        return [*EXAMPLES, *(name for name in super().list_commands(ctx) if name not in EXAMPLES)]

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            option, verb = getattr(error, "option_name", None), getattr(getattr(error, "ctx", None), "info_name", "")
            setting = setting_of_option(verb, option) if option else None
            if setting is None:
                raise
            raise ConfigError(f"{option} is a setting of '{verb}', not an option: write {setting}.") from error
        except KeyboardInterrupt as error:
            by = f" by {error}" if isinstance(error, StopRequested) else ""
            console.print(f"scifm: interrupted{by}; give the same command again to go on.", highlight=False)
            raise typer.Exit(StopRequested.EXIT_STATUS if by else 130) from error


app = typer.Typer(
    name="scifm",
    cls=_Verbs,
    help="Foundation models for scientific machine learning: sample physical systems, pre-train an operator, adapt it "
    "to a shifted system with few samples, and see by how much that beats training from scratch.",
    epilog="Start with 'scifm demo': the whole path in one go, ending with a page to read.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"scifm {version('scifm')} · torch {version('torch')} · Python {platform.python_version()}")
        raise typer.Exit()


@app.callback()
def _every_verb(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print versions and end.")
    ] = False,
) -> None:
    """Options before the verb."""


NUM_WORKERS = min(os.cpu_count() or 1, 4)

Model = typer.Argument(help="Folder of a run or a model; scifm/NAME, which 'scifm models' lists; or hf:NAME/MODEL.")
OutRuns = Annotated[Path, typer.Option("--out", help="Folder that holds run folders.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of a table.")]


def _import(places: list[str] | None) -> list[str] | None:
    if places:
        from scifm.models.module_operator import import_own

        import_own(places)
    return places


Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="FILE.py|MODULE",
        callback=_import,
        help="Code of your own to import first, so that a network of kind 'module' may be of it; repeatable.",
    ),
]
Workers = Annotated[
    int, typer.Option(min=1, help="Processes that work at the same time, the cores shared evenly among them.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Run on Dask: address of a scheduler, tcp://…, or 'local' for processes on this machine."),
]


def print_rows(title: str, rows: list[tuple[str, str]]) -> None:
    """Print plain lines, so that a long path stays in one piece to be copied."""
    width = max(len(name) for name, _ in rows)
    typer.echo("\n".join([title, *(f"  {name:{width}}  {value}" for name, value in rows)]))


def print_json(entries: Any) -> None:
    """Print as JSON; NaN is refused, since JSON has none."""
    typer.echo(json.dumps(entries, indent=2, allow_nan=False))


def executor_maker(
    workers: int,
    scheduler: str | None,
    *,
    threads: int | None = None,
    resource: list[str] | None = None,
    carry: Path | None = None,
) -> Callable[[], Executor] | None:
    """Return what makes the executor that was asked for; None for this process alone.

    Each job takes `threads` and each `resource`, ``NAME=N``; run folders lie in `carry` where workers do not see this
    file system. A `scheduler` is the address of a Dask scheduler, or ``local``.

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
