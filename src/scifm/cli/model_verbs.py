"""Verbs about models: ``models``, ``import-model``, ``export``, ``push``, ``play``."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from scifm.cli.app import AsJson, Imports, Model, app, print_json, print_rows, print_table, say
from scifm.cli.recipes import Knobs, SystemName, asked
from scifm.errors import ConfigError, RunError, suggest

if TYPE_CHECKING:
    from scifm.fields.grid import Grid
    from scifm.fields.normalization import Normalization
    from scifm.models.export import ExportedFile
    from scifm.models.folder import ModelPlace
    from scifm.models.operator import Operator

__all__ = ["export", "import_model", "models", "play", "push"]

_FORMATS = ("neuralop", "reference")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _normalization(path: Path | None) -> Normalization | None:
    from scifm.fields.normalization import Normalization

    if path is None:
        return None
    try:
        return Normalization.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"The normalization '{path}' cannot be read ({type(error).__name__}: {error}).") from error


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Print the page of this one, or of any other model.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the models that come with the package, ready to be asked and fine-tuned; or print the page of one."""
    from scifm.models.folder import find_model
    from scifm.models.registry import list_models

    if name is not None:
        page = find_model(name).folder / "README.md"
        try:
            typer.echo(page.read_text(encoding="utf-8"), nl=False)
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"'{name}' has no page that can be read: {page} ({error}).") from error
        return
    listings = list_models()
    if as_json:
        print_json([own.to_dict() for own in listings])
        return
    table = Table("model", "trained on", "points", "weights", "MiB", "relative L2", title="Models that come with SciFM")
    for own in listings:
        missed = "" if own.relative_l2 is None else f"{own.relative_l2:.3g}"
        size = f"{own.num_bytes / 2**20:.2f}"
        table.add_row(own.name, own.samples.replace("; ", "\n"), own.points, f"{own.num_params:,}", size, missed)
    table.columns[0].no_wrap = True
    print_table(table)


@app.command("import-model")
def import_model(
    file: Annotated[Path, typer.Argument(help="Weights: .safetensors, or what torch.save wrote (.pt, .tar).")],
    kind: Annotated[str, typer.Option(help="Whose: 'reference' (the paper's code) or 'neuralop' (its FNO).")],
    inputs: Annotated[str, typer.Option(help="Names of the input fields, in the order of the channels: a,b.")],
    outputs: Annotated[str, typer.Option(help="Names of the output fields.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new model.")],
    coefficients: Annotated[str, typer.Option(help="Names of the coefficients, channels behind the inputs.")] = "",
    normalization: Annotated[
        Path | None, typer.Option(help="A normalization.json of ours; numbers pass unchanged when left out.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of neuralop's FNO that its weights do not tell."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn someone else's weights into a model of ours, for finetune, evaluate and push."""
    from scifm.config import apply_overrides
    from scifm.fields.batch import Signature
    from scifm.models.folder import holds_operator
    from scifm.models.foreign_files import (
        import_neuralop_weights,
        import_reference_weights,
        neuralop_dims,
        read_state_dict,
    )
    from scifm.models.registry import save_operator

    if kind not in _FORMATS:
        raise ConfigError(f"--kind {suggest(kind, _FORMATS)}")
    if overrides and kind != "neuralop":
        raise ConfigError("--set is for --kind neuralop; the reference's weights tell everything.")
    if holds_operator(out):
        raise ConfigError(f"'{out}' holds a model already: give another folder with --out.")
    state = read_state_dict(file)
    dims = neuralop_dims(state) if kind == "neuralop" else 2
    signature = Signature(_names(inputs), _names(coefficients), _names(outputs), num_spatial_dims=dims)
    numbers = _normalization(normalization)
    operator: Operator
    if kind == "neuralop":
        given = apply_overrides({}, overrides or []).items()
        how = {name: None if value == "none" else value for name, value in given}
        operator = import_neuralop_weights(state, signature, normalization=numbers, **how)
    else:
        operator = import_reference_weights(state, signature, normalization=numbers)
    save_operator(operator, out)
    if as_json:
        print_json({"path": str(out), "num_params": operator.num_params, **operator.describe()})
    else:
        knows = f"{', '.join([*signature.inputs, *signature.coefficients])} → {', '.join(signature.outputs)}"
        print_rows(f"Model {out}", [("knows", knows), ("weights", f"{operator.num_params:,}")])


@app.command()
def push(
    model: Annotated[Path, Model],
    repo_id: Annotated[str, typer.Argument(help="NAME/MODEL on the Hugging Face hub; made when it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Hide a new repository from others.")] = False,
    branch: Annotated[str | None, typer.Option(help="Branch, instead of main.")] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the model card.")] = None,
    description: Annotated[str | None, typer.Option(help="What it was trained on and is good for.")] = None,
    license: Annotated[str | None, typer.Option(help="License of the weights, such as mit.")] = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Upload an operator to the Hugging Face hub. Log in first, with 'hf auth login'."""
    from scifm.models.registry import load_operator

    about = {"title": title, "description": description, "license": license}
    card = {name: value for name, value in about.items() if value is not None}
    address = load_operator(model).push_to_hub(repo_id, private=private, branch=branch, card=card)
    if as_json:
        print_json({"address": address})
    else:
        print_rows("Model", [("address", address)])


@app.command()
def export(
    run: Annotated[Path, Model],
    to: Annotated[str, typer.Option("--to", help="Format: onnx or torch-export.")],
    num_points: Annotated[
        list[int] | None,
        typer.Option(
            help="Points a side of a grid to check the file on; repeatable. Default: the run's, and 3/2 of it."
        ),
    ] = None,
    extent: Annotated[
        float | None, typer.Option(help="Length of a side of the box, where the run does not tell it.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the file; RUN/export when left out; MODEL-export here."),
    ] = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Write a model as a file that needs nothing of SciFM, and check the file by running it.

    Fields and coefficients go in and come out in physical units, for any batch size.
    """
    from scifm.models.export import TOLERANCE, export_operator, find_format
    from scifm.models.folder import find_model
    from scifm.models.registry import load_operator

    find_format(to)
    place = find_model(run)
    operator = load_operator(place.folder)
    dims = operator.signature.num_spatial_dims
    grid = _grid_of(place, operator, num_points or [], extent)
    finer = tuple(3 * n // 2 for n in grid.num_points)
    sizes = [(n,) * dims for n in num_points] if num_points else [grid.num_points, finer]
    folder = out or (place.run.path / "export" if place.run is not None else Path(f"{run.name}-export"))
    files = export_operator(operator, folder, to=to, grid=grid, num_points=sizes)
    if as_json:
        print_json({"folder": str(folder), "format": to, "files": [file.to_dict() for file in files]})
        return
    _tell_files(files)
    print_rows("Export", [("checked", f"all within {TOLERANCE:g}"), ("described", str(folder / "export.json"))])


def _grid_of(place: ModelPlace, operator: Operator, num_points: list[int], extent: float | None) -> Grid:
    """Return the grid a model was trained on; where its run does not tell, or is gone, the one that is given."""
    from scifm.data.run_origin import RunOrigin
    from scifm.fields.grid import Grid

    if any(n < 2 for n in num_points):
        raise ConfigError(f"--num-points must be at least 2; got {min(num_points)}.")
    origin = RunOrigin.of_model(place)
    if origin is not None:
        if extent is not None:
            raise ConfigError(f"'{place.path}' tells its box: leave out --extent.")
        return origin.grid
    if not num_points:
        raise ConfigError(f"'{place.path}' does not tell its grid: give --num-points, the points a side.")
    if extent is None and operator.normalization.depends_on_box:
        raise ConfigError(
            f"'{place.path}' does not tell its box, whose sides enter the normalization of its operator: give "
            "--extent, the length of a side."
        )
    dims = operator.signature.num_spatial_dims
    if extent is not None and not 0 < extent < float("inf"):
        raise ConfigError(f"--extent is a length, positive and finite; got {extent:g}.")
    return Grid.square(num_points[0], extent=1.0 if extent is None else extent, num_spatial_dims=dims)


def _tell_files(files: list[ExportedFile]) -> None:
    table = Table("file", "grid", "batch", "difference", "file, ms", "scifm, ms", title="Exported and compared")
    for file in files:
        for check in file.checks:
            grid = " × ".join(map(str, check.num_points))
            times = (f"{1000 * s:.2f}" for s in (check.seconds_exported, check.seconds_original))
            table.add_row(file.path.name, grid, str(check.batch_size), f"{check.difference:.1e}", *times)
    print_table(table)
    typer.echo("Times: median of three answers for the whole batch, both in this process with as many threads.")
    for file in files:
        takes = ", ".join("any" if n is None else str(n) for n in file.num_points)
        rows = [("size", f"{file.num_bytes / 2**20:.2f} MiB"), ("points an axis", takes), ("batch", "any")]
        if None in file.num_points:
            rows.append(("at least", ", ".join(map(str, file.min_points))))
        print_rows(str(file.path), rows)


@app.command()
def play(
    run: Annotated[Path, Model],
    system: SystemName = None,
    knob: Knobs = None,
    num_points: Annotated[int | None, typer.Option(min=2, help="Points a side, with --system; default: 64.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; the default is this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8017,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = False,
    imports: Imports = None,
) -> None:
    """Serve a local page where knobs are sliders and the forcing is painted: prediction, reference, error, time.

    What evolves is marched from an initial state that is drawn and painted on. 'scifm models' lists models to begin
    with. Where a model does not tell what it was trained on, give --system.

    Prints the page's address; Ctrl-C ends it. Needs pip install 'scifm[play]'; works without internet.
    """
    from scifm.applications.playground.serving import is_loopback, serve
    from scifm.fields.grid import Grid
    from scifm.systems.catalog import system_from_dict

    if system is None and (knob or num_points):
        raise ConfigError("--knob and --num-points are for --system, which was not given: the run tells its own.")
    named = asked(system=system, knobs=knob).get("system")
    chosen = None if named is None else system_from_dict(named)
    grid = None
    if chosen is not None and num_points is not None:
        grid = Grid.square(num_points, num_spatial_dims=chosen.signature.num_spatial_dims)

    if not is_loopback(host):
        open_to_all = f"others on the network can open the page on '{host}'; there is no password. The default, "
        say("warning:", "bold yellow", open_to_all + "127.0.0.1, is this machine only.")

    def announce(address: str) -> None:
        typer.echo(f"Playground of {run}: {address}  (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address)

    serve(run, system=chosen, grid=grid, host=host, port=port, announce=announce)
