"""The verbs of applications but the playground's.

``scifm events`` and ``scifm warn`` of early warning, ``scifm observe`` and ``scifm invert`` of inversion.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scifm.cli.app import (
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
)
from scifm.cli.progress import counting, progress_bars
from scifm.cli.recipes import knob_ranges, settings, told_by
from scifm.errors import ConfigError

if TYPE_CHECKING:
    from scifm.findings.account import Account

__all__ = ["events", "invert", "observe", "print_account", "warn"]

Magnitude = Annotated[
    str | None, typer.Option("--magnitude", metavar="LOW,HIGH", help="Moment magnitudes; default: 3.5,4.5.")
]
Physics = Annotated[str | None, typer.Option("--physics", help="acoustic, or elastic (pip install 'scifm[waves]').")]
NumEvents = Annotated[int | None, typer.Option("--num-events", help="Training events; an eighth more of each other.")]
Region = Annotated[int | None, typer.Option("--region", help="Number of the region: which medium it has.")]
Stations = Annotated[
    int | None, typer.Option("--stations", min=0, help="Points at which the first frames are seen; 0: everywhere.")
]
Receivers = Annotated[int | None, typer.Option("--num-receivers", min=1, help="At random places; default: 16.")]
Noise = Annotated[float | None, typer.Option("--noise", min=0, help="In parts of what is recorded; default: 0.05.")]
Sources = Annotated[
    int | None, typer.Option("--num-sources", min=0, help="The input is a sum of so many sources, asked for by place.")
]
Through = Annotated[str | None, typer.Option("--through", help="network, or solver: what the search asks.")]
Forecast = Annotated[int | None, typer.Option("--num-events", min=1, help="Events that are forecast; default: 32.")]


def print_account(title: str, account: Account, out: Path, *, as_json: bool) -> None:
    """Print what an application found, and where its page is to be had."""
    if as_json:
        print_json({"path": str(out), **account.model_dump(mode="json")})
        return
    rows = [(own.name or "found", f"{own.said} {own.evidence}".strip()) for own in account.findings]
    rows += [("advice", own.advice) for own in account.findings if own.advice]
    print_rows(title, [*rows, ("all of it", str(out / "account.json")), ("its page", f"scifm report {out}")])


@app.command()
@told_by("seed", magnitude=Magnitude, physics=Physics, num_events=NumEvents, region=Region)
def events(
    out: Annotated[Path, typer.Option("--out", help="Folder of the new store.")],
    tree: dict[str, Any],
    workers: Workers = 1,
    scheduler: Scheduler = None,
    as_json: AsJson = False,
) -> None:
    """Make a store of earthquakes: ground velocities of waves from sources that nobody tells.

    A network that is trained on it forecasts the waves of other earthquakes; 'scifm warn' says how well. Larger
    magnitudes break longer faults. An interrupted store is finished by the same command.
    """
    from scifm.applications.early_warning.making import make_events

    if isinstance(tree.get("magnitude"), str):
        tree["magnitude"] = knob_ranges([f"magnitude={tree['magnitude']}"])["magnitude"]
    recipe = settings("events", tree)
    with progress_bars(console) as progress:
        make = executor_maker(workers, scheduler)
        store = make_events(recipe, out, make_executor=make, progress=counting(progress, "sampling"))
    if as_json:
        print_json({"path": str(store.path), "splits": store.splits})
        return
    rows = [("events", ", ".join(f"{n} {split}" for split, n in store.splits.items())), ("grid", store.grid.told)]
    assert store.card.times is not None
    rows.append(("frames", f"{len(store.card.times)}, times 0 to {store.card.times[-1]:g} s"))
    print_rows(
        f"Store {store.path}", rows + [(n, f"rms {store.statistics[n].rms:.4g}") for n in store.signature.fields]
    )


@app.command()
@told_by("store", "seed", stations=Stations, num_events=Forecast)
def warn(
    run: Annotated[Path, Model],
    tree: dict[str, Any],
    out: Annotated[Path, typer.Option("--out", help="Folder of the account.")] = Path("runs/warn"),
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Forecast wavefields from what stations see first: how strongly each place will shake, when, how long before.

    Events are unseen ones of the store that the network was trained on, or those of --store, as of larger magnitudes.
    'scifm report' makes a page of what is found, with maps and waveforms.
    """
    from scifm.applications.early_warning.warning import warn as work

    recipe = settings("warn", tree)
    with progress_bars(console) as progress:
        account = work(run, recipe, out=out, progress=counting(progress, "forecasting"))
    print_account(f"Early warning: {account.question}", account, out, as_json=as_json)


@app.command()
@told_by("system", "knobs", "seed", num_receivers=Receivers, noise=Noise, num_sources=Sources)
def observe(
    out: Annotated[Path, typer.Option("--out", help="The new .npz file.")],
    tree: dict[str, Any],
    as_json: AsJson = False,
) -> None:
    """Draw a problem of a system, and write what a few receivers record of it: something to try 'scifm invert' on.

    What is not told is in the file too, for comparison; --set unknown=[...] says what that is, by default all
    coefficients.
    """
    from scifm.applications.inversion.making import observe as work

    if "system" not in tree:
        raise ConfigError("Say of which system a problem is drawn: --system NAME, as 'scifm systems' lists them.")
    seen = work(settings("observe", tree), out)
    rows = [("recorded", ", ".join(seen.values)), ("receivers", str(len(seen.places)))]
    rows += [("known", ", ".join(seen.known) or "nothing"), ("to be found", ", ".join(seen.truth) or "nothing")]
    if as_json:
        print_json({"path": str(out), **{name.replace(" ", "_"): text for name, text in rows}})
        return
    print_rows(f"Recordings {out}", rows)


@app.command()
@told_by("seed", num_sources=Sources, through=Through)
def invert(
    run: Annotated[Path, Model],
    data: Annotated[
        list[Path],
        typer.Option("--data", help="An .npz file of recordings; repeatable, of the same unknowns. See the guide."),
    ],
    tree: dict[str, Any],
    out: Annotated[Path, typer.Option("--out", help="Folder of the account.")] = Path("runs/invert"),
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Find source, coefficients or medium from what a few receivers recorded, and ask the solver whether it agrees.

    What the file neither records nor tells is asked for. 'scifm report' makes a page of what is found, with intervals
    and maps.
    """
    from scifm.applications.inversion.inverting import invert as work

    recipe = settings("invert", tree)
    with progress_bars(console) as progress:
        account = work(run, data, recipe, out=out, progress=counting(progress, "searching"))
    print_account(f"Inversion: {account.question}", account, out, as_json=as_json)
