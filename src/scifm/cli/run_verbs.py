"""Verbs about one system, one store or one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from scifm.cli.app import (
    AsJson,
    Imports,
    Knobs,
    Model,
    OutRuns,
    Overrides,
    Scheduler,
    Seed,
    Workers,
    app,
    console,
    print_json,
    print_rows,
    print_table,
)
from scifm.cli.executors import executor_maker
from scifm.cli.progress import ProgressBar, progress_bars
from scifm.errors import ConfigError
from scifm.wording import span

if TYPE_CHECKING:
    from scifm.data.store import Store
    from scifm.plugins import Listing
    from scifm.runs import Run
    from scifm.systems.system import System

Renamed = Annotated[
    list[str] | None,
    typer.Option("--rename", metavar="NEW=OLD", help="Name in the data = name the operator knows; repeatable."),
]
Stride = Annotated[
    int | None, typer.Option(min=1, help="Frames from input to target, with a store of trajectories; default 1.")
]

__all__ = [
    "Renamed",
    "Stride",
    "finetune",
    "generate",
    "named_system",
    "pretrain",
    "renamings",
    "require_one_origin",
    "systems",
]


def named_system(name: str, knobs: list[str] | None) -> System:
    """Return the system that --system and --knob say."""
    from scifm.systems.catalog import find_system

    return find_system(name)().where(**_knob_ranges(knobs))


def require_one_origin(
    system: str | None, store: Path | None, *, of_system: dict[str, Any], of_store: dict[str, Any]
) -> None:
    """Check that samples come from a system or a store, and that no option is given that only the other one reads.

    Raises:
        ConfigError: says which option is too many.
    """
    if (system is None) == (store is None):
        raise ConfigError("Give either --system NAME (with --knob) or --store FOLDER: where the samples come from.")
    chosen, other, options = ("--store", "--system", of_system) if system is None else ("--system", "--store", of_store)
    extra = [name for name, value in options.items() if value is not None]
    if extra:
        raise ConfigError(
            f"{', '.join(extra)} would have no effect with {chosen}: leave it out, or give {other} instead."
        )


def _knob_ranges(knobs: list[str] | None) -> dict[str, list[float]]:
    ranges = {}
    for text in knobs or []:
        name, equals, bounds = text.partition("=")
        try:
            low, high = (float(part) for part in bounds.split(","))
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f"The knob '{text}' is not of the form NAME=LOW,HIGH, for example anisotropy=5,10.")
        ranges[name.strip()] = [low, high]
    return ranges


@app.command()
def systems(as_json: AsJson = False) -> None:
    """List the systems that can be sampled, with their equations, knobs and the package they come from."""
    from scifm.systems.catalog import list_systems

    listings = list_systems()
    if as_json:
        print_json({key: _system_entries(listing) for key, listing in zip(_keys(listings), listings, strict=True)})
        return
    table = Table("system", "equation", "knobs (default range)", "package", title="Systems")
    for listing in listings:
        if listing.offered is not None:
            knobs = (f"{knob} {span(f'{k.low:g}', f'{k.high:g}')}" for knob, k in listing.offered().knobs.items())
            table.add_row(listing.name, listing.offered.equation, "\n".join(knobs), listing.distribution)
    print_table(table)
    for listing in listings:
        if listing.fault is not None:
            typer.echo(f"broken: {listing.fault}")


def _keys(listings: list[Listing]) -> list[str]:
    """Return the names; a broken system that takes the name of another is told with its package."""
    names = [listing.name for listing in listings]
    return [
        f"{name} ({listing.distribution})" if listing.fault is not None and names.count(name) > 1 else name
        for name, listing in zip(names, listings, strict=True)
    ]


def _system_entries(listing: Listing) -> dict[str, Any]:
    if listing.offered is None:
        return {"distribution": listing.distribution, "broken": listing.fault}
    about = {"equation": listing.offered.equation, "distribution": listing.distribution}
    return {**about, **listing.offered().to_dict()}


@app.command()
def generate(
    system: Annotated[str, typer.Argument(help="Name of a system; 'scifm systems' lists them.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new store.")],
    num_samples: Annotated[int, typer.Option(help="Training samples; validation and test get an eighth each.")] = 4096,
    num_points: Annotated[int, typer.Option(help="Points a side of the grid.")] = 64,
    knob: Knobs = None,
    seed: Seed = 0,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    as_json: AsJson = False,
) -> None:
    """Sample a system and its solutions into a store on disk (HDF5, readable by The Well's tools).

    An interrupted generation goes on where it stopped when the same command is given again.
    """
    from scifm.data.generate import generate as make

    with progress_bars(console) as progress:
        task = progress.add_task("sampling", total=None, note="")
        store = make(
            named_system(system, knob),
            num_samples=num_samples,
            num_points=num_points,
            seed=seed,
            path=out,
            make_executor=executor_maker(workers, scheduler),
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(
            {
                "path": str(store.path),
                "splits": store.splits,
                "system": store.card.system_name,
                "knobs": store.card.knobs,
            }
        )
    else:
        samples = ", ".join(f"{n} {split}" for split, n in store.splits.items())
        print_rows(f"Store {store.path}", [("samples", samples), *_described(store)])


def _described(store: Store) -> list[tuple[str, str]]:
    rows = [("equation", store.card.equation), ("grid", " × ".join(map(str, store.grid.num_points)))]
    names = (*store.signature.inputs, *store.signature.outputs)
    return rows + [(name, f"rms {store.statistics[name].rms:.4g}") for name in names]


@app.command()
def pretrain(
    recipe: Annotated[Path, typer.Argument(help="TOML file; complete ones lie in recipes/.")],
    store: Annotated[Path | None, typer.Option(help="Store to train on, instead of what the recipe says.")] = None,
    out: OutRuns = Path("runs"),
    overrides: Overrides = None,
    devices: Annotated[
        int, typer.Option(min=1, help="Processes of this machine that train together, each on its GPU or its cores.")
    ] = 1,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Pre-train an operator; prints the run folder. Give the same command again to resume.

    Under torchrun or srun all processes train together, on as many machines as there are.
    """
    if devices > 1:
        from scifm.cli.launch import launch, without_devices

        launch(devices, without_devices(sys.argv[1:]))
    from scifm.data.store import Store
    from scifm.training.pretrain import PretrainRecipe
    from scifm.training.pretrain import pretrain as work
    from scifm.training.processes import world_from

    settings = PretrainRecipe.read(recipe, overrides=overrides or [])
    if not world_from().is_first:
        work(settings, store=Store.open(store) if store else None, out=out)
        return
    with progress_bars(console) as progress:
        bar = ProgressBar(progress)
        bar.begin("pre-training", settings.training.num_steps)
        run = work(settings, store=Store.open(store) if store else None, out=out, observe=bar)
        bar.end()
    scores = [event["relative_l2"] for event in run.metrics() if event["event"] == "valid"]
    _print_run({"run": str(run.path), "validation_relative_l2": scores[-1] if scores else None}, as_json)


def _print_run(entries: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(entries)
    else:
        print_rows("Run", [(name.replace("_", " "), _shown(value)) for name, value in entries.items()])


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@app.command()
def finetune(
    parent: Annotated[Path, Model],
    system: Annotated[str | None, typer.Option(help="Downstream system, e.g. poisson.")] = None,
    store: Annotated[Path | None, typer.Option(help="Downstream store, instead of a system.")] = None,
    knob: Knobs = None,
    rename: Renamed = None,
    stride: Stride = None,
    num_samples: Annotated[
        int, typer.Option(help="Downstream samples used; of a store of trajectories, whole trajectories.")
    ] = 64,
    num_steps: Annotated[
        int,
        typer.Option(help="Optimizer steps of the final training; trials before it take twice as many on each split."),
    ] = 300,
    learning_rate: Annotated[
        list[float] | None, typer.Option(help="Candidate, chosen on held-out downstream samples; repeatable.")
    ] = None,
    refit_coefficients: Annotated[
        str | None,
        typer.Option(
            metavar="never|try|always",
            help="Whether constants of coefficients are fitted on the samples; try, when left out: chosen like a rate.",
        ),
    ] = None,
    method: Annotated[str, typer.Option(help="What trains: a key of scifm.training.METHODS, e.g. affine.")] = "all",
    rank: Annotated[int | None, typer.Option(help="Rank of the adapters, with --method low_rank.")] = None,
    scratch: Annotated[bool, typer.Option("--from-scratch", help="Start from fresh weights, for comparison.")] = False,
    seed: Seed = 0,
    out: OutRuns = Path("runs"),
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Adapt a pre-trained operator to a shifted system, or to a store, with a few samples.

    Data with other fields or coefficients give the operator the channels it lacks; a table says which.
    """
    from scifm.data.store import Store
    from scifm.training.choice import AdaptRecipe

    require_one_origin(system, store, of_system={"--knob": knob}, of_store={"--stride": stride})
    if scratch and (method != "all" or rank is not None or refit_coefficients is not None):
        raise ConfigError(
            "--from-scratch trains all weights and fits all constants: leave out --method, --rank and "
            "--refit-coefficients."
        )
    target = named_system(system, knob) if system is not None else Store.open(str(store))
    defaults = AdaptRecipe()
    settings: dict[str, Any] = {
        "num_samples": num_samples,
        "seed": seed,
        "learning_rates": tuple(learning_rate or defaults.learning_rates),
        "training": {**defaults.training.to_dict(), "num_steps": num_steps},
        "method": {"method": method, "rank": rank},
        "stride": stride or 1,
        "rename": renamings(rename),
    }
    if refit_coefficients is not None:
        settings["refit_coefficients"] = refit_coefficients
    _print_adapted(_adapt(parent, target, out, settings, scratch=scratch), as_json)


def _adapt(parent: Path, target: System | Store, out: Path, settings: dict[str, Any], *, scratch: bool) -> Run:
    from scifm.config import build_config
    from scifm.training.choice import AdaptRecipe, Candidate
    from scifm.training.finetune import finetune, from_scratch

    recipe = build_config(AdaptRecipe, settings, source="the options of finetune")
    ways = tuple(map(Candidate, recipe.learning_rates)) if scratch else recipe.candidates(fits=True)
    work = from_scratch if scratch else finetune
    with progress_bars(console) as progress:
        bar = ProgressBar(progress)
        num_steps = recipe.training.num_steps + recipe.steps_of_trials(ways)
        bar.begin("from scratch" if scratch else "fine-tuning", num_steps)
        run = work(parent, target, out=out, observe=bar, **settings)
        bar.end()
    return run


def _print_adapted(run: Run, as_json: bool) -> None:
    channels = run.read_json("channels.json") if (run.path / "channels.json").is_file() else []
    outcome = {"run": str(run.path), **run.read_json("outcome.json")}
    if channels and not as_json:
        _print_channels(channels)
    _print_run({**outcome, "channels": channels} if as_json else outcome, as_json)


def _print_channels(channels: list[dict[str, str]]) -> None:
    table = Table("channel", "name", "became", title="Channels: what the pre-trained operator had and what it lacked")
    for row in channels:
        table.add_row(row["role"], row["name"], row["became"])
    print_table(table)


def renamings(texts: list[str] | None) -> dict[str, str]:
    """Return what --rename says, as new name → old name."""
    pairs = {}
    for text in texts or []:
        new, equals, old = (part.strip() for part in text.partition("="))
        if not (new and equals and old):
            raise ConfigError(f"The renaming '{text}' is not of the form NEW=OLD, for example source=forcing.")
        pairs[new] = old
    return pairs
