"""Verbs about one system, one store or one run."""

from __future__ import annotations

import re
import sys
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from scifm.cli.app import (
    AsJson,
    Imports,
    Model,
    OutRuns,
    Scheduler,
    Workers,
    app,
    console,
    executor_maker,
    print_json,
    print_rows,
    print_table,
    say,
)
from scifm.cli.progress import ProgressBar, counting, progress_bars
from scifm.cli.recipes import Overrides, complete_systems, knob_ranges, settings, told_by
from scifm.errors import ConfigError, suggest
from scifm.wording import span

if TYPE_CHECKING:
    from scifm.runs import Run

__all__ = ["finetune", "generate", "pinn", "pretrain", "recipes", "systems"]

SystemArgument = Annotated[
    str | None, typer.Argument(help="Name of a system; 'scifm systems' lists them.", autocompletion=complete_systems)
]
TrainingSamples = Annotated[
    int | None,
    typer.Option(
        "--num-samples",
        "--num-trajectories",
        help="Training samples, of what evolves trajectories, default 4096; validation and test get an eighth each.",
    ),
]
Frames = Annotated[int | None, typer.Option(help="Frames of a trajectory, the first at time 0; of what evolves.")]
Interval = Annotated[float | None, typer.Option(help="Physical time between frames; of what evolves.")]
Points = Annotated[int | None, typer.Option(help="Points a side of the grid; default: 64.")]
DownstreamSamples = Annotated[
    int | None, typer.Option(help="Downstream samples used, default 64; of trajectories, whole ones.")
]


@app.command()
def systems(
    name: Annotated[
        str | None,
        typer.Argument(help="Tell this one whole, with the terms of its equation.", autocompletion=complete_systems),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the systems that can be sampled, with their equations, knobs and the package they come from; or tell one."""
    from scifm.systems.catalog import find_system, list_systems

    if name is not None:
        system = find_system(name)()
        if as_json:
            terms = [term.to_dict() for term in system.terms]
            print_json({"equation": system.equation, **system.to_dict(), "terms": terms})
        else:
            title, rows = system._shown()
            print_rows(title, [row for row in rows if row[1]])
        return
    listings = list_systems()
    if as_json:
        entries: dict[str, Any] = {}
        for listing in listings:
            if listing.offered is not None:
                about = {"equation": listing.offered.equation, "distribution": listing.distribution}
                entries[listing.name] = {**about, **listing.offered().to_dict()}
                continue
            rivals = [other for other in listings if other.name == listing.name]
            name = f"{listing.name} ({listing.distribution})" if len(rivals) > 1 else listing.name
            entries[name] = {"distribution": listing.distribution, "broken": listing.fault}
        print_json(entries)
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


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Print this one, to be changed: scifm recipes NAME > my.toml")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes that come with the package, which pretrain and study find by name; or print one of them."""
    from scifm.config import read_toml, shipped_recipes, verb_of

    shipped = shipped_recipes()
    if name is not None:
        if name not in shipped:
            raise ConfigError(f"Recipe {suggest(name, shipped)}")
        typer.echo(shipped[name].read_text(encoding="utf-8"), nl=False)
        return
    rows = [
        {"name": own, "verb": verb_of(read_toml(file)), "title": _first_sentence(file)} for own, file in shipped.items()
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("recipe", "for", "what", title="Recipes")
    for row in rows:
        table.add_row(row["name"], row["verb"], row["title"])
    print_table(table)


def _first_sentence(recipe: Path) -> str:
    """Return what a recipe says of itself in the comment it begins with."""
    lines = takewhile(lambda line: line.startswith("#"), recipe.read_text(encoding="utf-8").splitlines())
    text = " ".join(line.lstrip("# ").strip() for line in lines)
    return re.split(r"(?<=[a-z0-9)²])(?<!et al)[.:](?: |$)", text, maxsplit=1)[0]


@app.command()
@told_by(
    "knobs",
    "seed",
    system=SystemArgument,
    num_samples=TrainingSamples,
    num_points=Points,
    num_frames=Frames,
    save_interval=Interval,
)
def generate(
    out: Annotated[Path, typer.Option("--out", help="Folder of the new store.")],
    tree: dict[str, Any],
    workers: Workers = 1,
    scheduler: Scheduler = None,
    as_json: AsJson = False,
) -> None:
    """Sample a system and its solutions into a store on disk (HDF5, readable by The Well's tools).

    An interrupted generation goes on where it stopped when the same command is given again.
    """
    recipe = settings("generate", tree)
    with progress_bars(console) as progress:
        make = executor_maker(workers, scheduler)
        store = recipe.make(out, make_executor=make, progress=counting(progress, "sampling"))
    if as_json:
        about = {"system": store.card.system_name, "knobs": store.card.knobs}
        print_json({"path": str(store.path), "splits": store.splits, **about})
        return
    rows = [("samples", ", ".join(f"{n} {split}" for split, n in store.splits.items()))]
    rows += [("equation", store.card.equation), ("grid", store.grid.told)]
    if store.card.times is not None:
        rows.append(("frames", f"{len(store.card.times)}, times 0 to {store.card.times[-1]:g}"))
    names = store.signature.fields
    print_rows(f"Store {store.path}", rows + [(name, f"rms {store.statistics[name].rms:.4g}") for name in names])


@app.command()
def pretrain(
    recipe: Annotated[Path, typer.Argument(help="TOML file, or a name that 'scifm recipes' lists.")],
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

    how = PretrainRecipe.read(recipe, overrides=overrides or [])
    if not world_from().is_first:
        work(how, store=Store.open(store) if store else None, out=out)
        return
    with progress_bars(console) as progress:
        bar = ProgressBar(progress)
        bar.begin("pre-training", how.training.num_steps)
        run = work(how, store=Store.open(store) if store else None, out=out, observe=bar)
        bar.end()
    scores = [event["relative_l2"] for event in run.metrics() if event["event"] == "valid"]
    _print_run({"run": str(run.path), "validation_relative_l2": scores[-1] if scores else None}, as_json)


@app.command()
def pinn(
    system: Annotated[
        str,
        typer.Argument(help="A system that evolves; 'scifm systems' lists all.", autocompletion=complete_systems),
    ],
    knobs: Annotated[
        list[str] | None,
        typer.Option("--knob", metavar="NAME=VALUE", help="Value of a knob, e.g. speed=30; repeatable. Else drawn."),
    ] = None,
    curriculum: Annotated[
        str | None,
        typer.Option(
            metavar="[NAME=]FIRST:LAST:STEP",
            help="Easier problems first, by the knob that is given, e.g. 5:30:5; half of all steps are theirs.",
        ),
    ] = None,
    recipe: Annotated[
        Path, typer.Option(help="TOML file, or a name that 'scifm recipes' lists, such as pinn-published.")
    ] = Path("pinn"),
    seed: Annotated[int | None, typer.Option(help="Of the problem, the weights and the points; default: 0.")] = None,
    out: OutRuns = Path("runs"),
    overrides: Overrides = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Solve one problem of a system from its equation alone, by a network of coordinates (a PINN).

    No solution is looked at but to score the answer. It lasts as long as the system's trajectories do. 'scifm report'
    makes the page of the run; give the same command again to resume.
    """
    from scifm.training.pinn import problem_recipe, solve

    ranges = knob_ranges(knobs)
    how = problem_recipe(system, ranges, curriculum=curriculum, recipe=recipe, seed=seed, overrides=overrides or [])
    with progress_bars(console) as progress:
        bar = ProgressBar(progress)
        bar.begin("solving", how.training.num_steps)
        found = solve(how, out=out, observe=bar)
        bar.end()
    if as_json:
        print_json(found.to_dict())
        return
    rows = [("run", str(found.run.path)), ("problem", found.problem)]
    rows += [("curriculum", found.curriculum)] if found.curriculum else []
    rows.append(("relative error", f"{found.error:.3g} over all frames, {found.mean_error:.3g} a frame"))
    rows.append(("loss", f"{found.loss:.3g} at the points of training, {found.fresh_loss:.3g} at fresh ones"))
    print_rows("Solved from its equation", rows)
    if found.remark:
        say("beware:", "yellow", found.remark)


def _print_run(entries: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(entries)
        return
    texts = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in entries.items()}
    print_rows("Run", [(name.replace("_", " "), text) for name, text in texts.items()])


@app.command()
@told_by("system", "knobs", "store", "seed", num_samples=DownstreamSamples)
def finetune(
    parent: Annotated[Path, Model],
    tree: dict[str, Any],
    scratch: Annotated[bool, typer.Option("--from-scratch", help="Start from fresh weights, for comparison.")] = False,
    out: OutRuns = Path("runs"),
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Adapt a pre-trained operator to a shifted system, or to a store, with a few samples.

    How is a setting: --set training.num_steps=100, --set learning_rates=[1e-3], --set method.method=affine. Data with
    other fields or coefficients give the operator the channels it lacks; a table says which.
    """
    run = _adapt(parent, tree, out, scratch=scratch)
    channels = run.read_json("channels.json") if (run.path / "channels.json").is_file() else []
    outcome = {"run": str(run.path), **run.read_json("outcome.json")}
    if channels and not as_json:
        title = "Channels: what the pre-trained operator had and what it lacked"
        table = Table("channel", "name", "became", title=title)
        for row in channels:
            table.add_row(row["role"], row["name"], row["became"])
        print_table(table)
    _print_run({**outcome, "channels": channels} if as_json else outcome, as_json)


def _adapt(parent: Path, tree: dict[str, Any], out: Path, *, scratch: bool) -> Run:
    from scifm.config import build_config, refuse_idle
    from scifm.data.sample_recipe import SourceRecipe
    from scifm.training.choice import Candidate
    from scifm.training.finetune import finetune, from_scratch

    named: dict[str, Any] = {name: tree.pop(name) for name in ("system", "store") if name in tree}
    target = build_config(SourceRecipe, named, source="settings of finetune").source()
    recipe = settings("finetune", tree)
    if scratch:
        why = "--from-scratch trains all weights and fits all constants"
        refuse_idle(recipe, ("method", "refit_coefficients", "rename"), why)
    ways = tuple(map(Candidate, recipe.learning_rates)) if scratch else recipe.candidates(fits=True)
    work = from_scratch if scratch else finetune
    with progress_bars(console) as progress:
        bar = ProgressBar(progress)
        num_steps = recipe.training.num_steps + recipe.steps_of_trials(ways)
        bar.begin("from scratch" if scratch else "fine-tuning", num_steps)
        run = work(parent, target, recipe, out=out, observe=bar)
        bar.end()
    return run
