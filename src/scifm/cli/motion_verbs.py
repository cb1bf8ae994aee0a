"""The verbs of ground motion: ``scifm records``, ``scifm imitate``, ``scifm shake`` and ``scifm assess``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scifm.cli.app import AsJson, Model, OutRuns, app, console, print_json, print_rows
from scifm.cli.application_verbs import print_account
from scifm.cli.progress import ProgressBar, counting, progress_bars
from scifm.cli.recipes import settings, told_by
from scifm.errors import ConfigError

__all__ = ["assess", "imitate", "records", "shake"]

NumEvents = Annotated[int | None, typer.Option("--num-events", help="Training events; an eighth more of each other.")]
PerEvent = Annotated[int | None, typer.Option("--records-per-event", min=1, help="Records of each; default: 4.")]
Table = Annotated[
    Path | None,
    typer.Option(
        "--table", help="CSV of real records: file, event, magnitude, distance; pip install 'scifm[seismic]'."
    ),
]
Conditions = Annotated[
    list[str] | None,
    typer.Option("--condition", metavar="NAME=VALUE", help="What is asked for, e.g. depth=8; repeatable."),
]
Magnitude = Annotated[float | None, typer.Option("--magnitude", help="The condition of that name.")]
Distance = Annotated[float | None, typer.Option("--distance", help="The condition of that name [km].")]
Made = Annotated[int | None, typer.Option("--num-records", min=1, help="Records that are made; default: 100.")]
Judged = Annotated[int | None, typer.Option("--num-records", min=16, help="Records compared at most; default: 1000.")]


@app.command()
@told_by("seed", num_events=NumEvents, records_per_event=PerEvent, table=Table)
def records(
    out: Annotated[Path, typer.Option("--out", help="Folder of the new store.")],
    tree: dict[str, Any],
    as_json: AsJson = False,
) -> None:
    """Make a store of ground motion records: drawn by the stochastic method, or real ones that a table names.

    A generator that is trained on it ('scifm imitate') makes others. An interrupted store is finished by the same
    command.
    """
    from scifm.applications.ground_motion.making import make_records

    if (table := tree.pop("table", None)) is not None:
        named = tree.get("files")
        tree["files"] = {**(named if isinstance(named, dict) else {}), "table": str(table)}
    recipe = settings("records", tree)
    with progress_bars(console) as progress:
        store = make_records(recipe, out, progress=counting(progress, "recording"))
    if as_json:
        print_json({"path": str(store.path), "splits": store.splits})
        return
    names = store.signature
    rows = [("records", ", ".join(f"{n} {split}" for split, n in store.splits.items())), ("grid", store.grid.told)]
    rows.append(("conditions", ", ".join(name for name in names.coefficients if name != "event")))
    print_rows(f"Store {store.path}", [*rows, *((n, f"rms {store.statistics[n].rms:.4g}") for n in names.fields)])


@app.command()
@told_by("seed")
def imitate(
    store: Annotated[Path, typer.Argument(help="Folder of a store that 'scifm records' made.")],
    tree: dict[str, Any],
    out: OutRuns = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Train a generator of ground motion on records; prints the run folder. Give the same command again to resume."""
    from scifm.applications.ground_motion.imitating import imitate as work

    recipe = settings("imitate", {**tree, "store": str(store)})
    with progress_bars(console) as progress:
        bar = ProgressBar(progress)
        bar.begin("training", recipe.training.num_steps)
        run = work(recipe, out=out, observe=bar)
        bar.end()
    bounds = [event for event in run.metrics() if event["event"] == "bound"]
    last = {name: bounds[-1][name] for name in ("misfit", "divergence")} if bounds else {}
    if as_json:
        print_json({"run": str(run.path), **last})
        return
    told = [(name, f"{number:.4f} nat a number, on records held out") for name, number in last.items()]
    print_rows("Generator", [("run", str(run.path)), *told])


@app.command()
@told_by("seed", conditions=Conditions, magnitude=Magnitude, distance=Distance, num_records=Made)
def shake(
    run: Annotated[Path, Model],
    out: Annotated[Path, typer.Option("--out", help="The new file: .npz, .mseed or .sac.")],
    tree: dict[str, Any],
    as_json: AsJson = False,
) -> None:
    """Make ground motion records for a magnitude, a distance, and what else a generator is asked by."""
    from scifm.applications.ground_motion.shaking import shake as work

    recipe = settings("shake", _with_conditions(tree))
    file = work(run, recipe, out=out)
    told = ", ".join(f"{name} {number:g}" for name, number in recipe.conditions.items())
    if as_json:
        print_json({"file": str(file), "num_records": recipe.num_records, "conditions": recipe.conditions})
        return
    print_rows("Records", [("file", str(file)), ("records", str(recipe.num_records)), ("conditions", told)])


def _with_conditions(tree: dict[str, Any]) -> dict[str, Any]:
    """Return what was asked, with all conditions in one table, however they were given."""
    given, named = tree.get("conditions"), dict[str, Any]()
    if isinstance(given, dict):
        named |= given
    for text in given if isinstance(given, list | tuple) else ():
        name, equals, value = str(text).partition("=")
        try:
            named[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f"The condition '{text}' is not of the form NAME=VALUE, for example depth=8.")
    named |= {name: tree[name] for name in ("magnitude", "distance") if name in tree}
    rest = {name: value for name, value in tree.items() if name not in ("magnitude", "distance", "conditions")}
    return {**rest, "conditions": named}


@app.command()
@told_by("store", "seed", num_records=Judged)
def assess(
    run: Annotated[Path, Model],
    tree: dict[str, Any],
    out: Annotated[Path, typer.Option("--out", help="Folder of the account.")] = Path("runs/assess"),
    as_json: AsJson = False,
) -> None:
    """Compare made ground motion with true records: spectra, their scaling and scatter, and whether they can be told.

    'scifm report' makes a page of what is found, with spectra, waveforms and spectrograms.
    """
    from scifm.applications.ground_motion.assessing import assess as work

    account = work(run, settings("assess", tree), out=out)
    print_account(f"Ground motion: {account.question}", account, out, as_json=as_json)
