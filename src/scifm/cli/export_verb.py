"""``scifm export``: a run as a file that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from scifm.cli.app import AsJson, Imports, Model, app, print_json, print_rows, print_table
from scifm.errors import ConfigError

if TYPE_CHECKING:
    from scifm.fields.grid import Grid
    from scifm.models.export import ExportedFile
    from scifm.models.hub import ModelPlace
    from scifm.models.operator import Operator

__all__ = ["export"]


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
    from scifm.models.hub import find_model, load_operator

    find_format(to)
    place = find_model(run)
    operator = load_operator(place.folder)
    dims = operator.signature.num_spatial_dims
    grid = _grid_of(place, operator, num_points or [], extent)
    asked = [(n,) * dims for n in num_points] if num_points else [grid.num_points, _finer(grid.num_points)]
    folder = out or (place.run.path / "export" if place.run is not None else Path(f"{run.name}-export"))
    files = export_operator(operator, folder, to=to, grid=grid, num_points=asked)
    if as_json:
        print_json({"folder": str(folder), "format": to, "files": [file.to_dict() for file in files]})
        return
    _tell(files)
    print_rows("Export", [("checked", f"all within {TOLERANCE:g}"), ("described", str(folder / "export.json"))])


def _finer(num_points: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(3 * n // 2 for n in num_points)


def _grid_of(place: ModelPlace, operator: Operator, num_points: list[int], extent: float | None) -> Grid:
    """Return the grid a model was trained on; where its run does not tell, or is gone, the one that is given."""
    from scifm.data.run_origin import RunOrigin
    from scifm.fields.grid import Grid

    if any(n < 2 for n in num_points):
        raise ConfigError(f"--num-points must be at least 2; got {min(num_points)}.")
    origin = RunOrigin.of(place.run) if place.run is not None else None
    if origin is not None:
        if extent is not None:
            raise ConfigError(f"The run '{origin.run.path}' tells its box: leave out --extent.")
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


def _tell(files: list[ExportedFile]) -> None:
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
        told = [("size", f"{file.num_bytes / 2**20:.2f} MiB"), ("points an axis", takes), ("batch", "any")]
        if None in file.num_points:
            told.append(("at least", ", ".join(map(str, file.min_points))))
        print_rows(str(file.path), told)
