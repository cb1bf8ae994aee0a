"""``scifm inspect``, ``scifm import`` and ``scifm verify``: from foreign files to a store, and whether it is whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scifm.cli.app import AsJson, app, console, print_json, print_rows
from scifm.cli.progress import counting, progress_bars
from scifm.cli.recipes import Overrides
from scifm.errors import ConfigError
from scifm.wording import box_text

if TYPE_CHECKING:
    from scifm.data.inspection import ArrayReport, Inspection, Outcome
    from scifm.data.store import Store

__all__ = ["import_files", "inspect", "verify"]

_WHOLE_NAME = 20  # letters of an array that stay on one line in a narrow terminal

Data = Annotated[Path, typer.Argument(help="A file, or a folder of files that belong together.")]
MapFile = Annotated[
    Path | None, typer.Option("--map", help="TOML file that says which array is which field; else as proposed.")
]


@app.command()
def inspect(
    path: Data,
    map_file: MapFile = None,
    write_map: Annotated[
        Path | None, typer.Option(help="Write the mapping to this new file, to be completed and given to --map.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Read headers and a few samples only: no ranges.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a file or folder is, what it holds, what a store made of it would be, and what is missing for that."""
    from scifm.data.inspection import choose_mapping, inspect_data

    if write_map is not None and write_map.exists():
        raise ConfigError(f"'{write_map}' exists and is not overwritten; remove it or give --write-map another name.")
    mapping = choose_mapping(path, map_file, [])
    with nullcontext() if quick else progress_bars(console) as progress:
        bar = counting(progress, "reading") if progress is not None else None
        inspection = inspect_data(path, mapping, read=not quick, progress=bar)
    if write_map is not None:
        _write(write_map, inspection)
    if as_json:
        print_json(inspection.to_dict())
        return
    _print(inspection)
    if write_map is not None:
        typer.echo(f"\nThe mapping was written to {write_map}; to import by it, add --map {write_map}.")
    elif inspection.mapping:
        typer.echo(f"\nThe mapping, for --map:\n\n{inspection.mapping}", nl=False)


def _write(file: Path, inspection: Inspection) -> None:
    if not inspection.mapping:
        raise ConfigError(f"'{inspection.path}' is {inspection.told} and needs no mapping; leave out --write-map.")
    try:
        file.write_text(inspection.mapping, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot write the mapping '{file}': {error.strerror or error}.") from error


def _print(inspection: Inspection) -> None:
    screen = Console(highlight=False, markup=False, emoji=False)
    typer.echo(str(inspection.path))
    rows = [("is", inspection.told)]
    rows += [("also", f"{name}: {reason}") for name, reason in inspection.others.items()]
    _print_rows(screen, rows)
    parts = dict.fromkeys(report.part for report in inspection.arrays)
    for part in parts:
        arrays = [report for report in inspection.arrays if report.part == part]
        screen.print(_array_table(arrays, part if len(parts) > 1 else None, screen.width))
    rows = [(name, f"{value:g}") for name, value in (inspection.attributes or {}).items()]
    if rows:
        screen.print("Single numbers", style="bold")
        _print_rows(screen, rows)
    if inspection.outcome is not None:
        screen.print("Store" if inspection.kind == "store" else "A store of it would have", style="bold")
        _print_rows(screen, _outcome_rows(inspection.outcome))
    lists = {"Boundaries": inspection.boundary, "Missing": inspection.missing, "Beware": inspection.remarks}
    for title, sentences in lists.items():
        if sentences:
            screen.print(title, style="bold red" if title == "Missing" else "bold")
            _print_rows(screen, [("-", sentence) for sentence in sentences])
    typer.echo(inspection.advice)


def _print_rows(screen: Console, rows: list[tuple[str, str]]) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in rows:
        grid.add_row(Text(f"  {name}"), Text(value))
    screen.print(grid)


def _array_table(arrays: list[ArrayReport], title: str | None, width: int) -> Table:
    read = any(report.num_nan is not None for report in arrays)
    table = Table(title=title)
    for head in ("array", "axes", "type", *(("range", "mean", "NaN, inf") if read else ())):
        table.add_column(head, overflow="fold")  # a name that is cut off cannot be copied
    for report in arrays:
        cells = [report.name, _shape(report), report.dtype]
        if report.mean is not None:
            cells += [f"{report.minimum:.3g} to {report.maximum:.3g}", f"{report.mean:.3g}"]
        elif read:
            cells += ["", ""]
        if read:
            gaps = bool(report.num_nan or report.num_infinite)
            cells.append(f"{report.num_nan}, {report.num_infinite}" if gaps else "0")
        table.add_row(*map(Text, cells))
    _fit(table, width)
    return table


def _fit(table: Table, width: int) -> None:
    """Where a table is too wide, break axes between words, and names not at all if they leave room for the rest."""
    cells = [[str(cell) for cell in (column.header, *column.cells)] for column in table.columns]
    longest = [max(map(len, own)) for own in cells]
    if sum(longest) + 3 * len(longest) + 1 <= width or longest[0] > _WHOLE_NAME:
        return
    table.columns[0].no_wrap = True
    table.columns[1].width = max(len(word) for cell in cells[1] for word in cell.split(" "))


def _shape(report: ArrayReport) -> str:
    if report.axes is None:
        return " × ".join(map(str, report.shape))
    return ", ".join(f"{axis}={length}" for axis, length in zip(report.axes, report.shape, strict=True))


def _outcome_rows(outcome: Outcome) -> list[tuple[str, str]]:
    rows = [("system", outcome.system)] if outcome.system is not None else []
    grid = outcome.grid
    sides = [] if list(grid["num_points"]) == [1] else zip(outcome.axes, *(grid[k] for k in grid), strict=True)
    rows += [] if sides else [("grid", box_text(grid["num_points"]))]
    for axis, points, extent, boundary in sides:
        length = _with_unit(f"{extent:g}", outcome.units.get(axis))
        rows.append((axis, f"{points} points over {length}, {boundary}"))
    if outcome.times is not None:
        rows.append(("frames", _frames_text(outcome.times, outcome.units)))
    for role in ("state", "input", "output"):
        names = [name for name, own in outcome.fields.items() if own == role]
        rows += [(f"{role}s", _names_text(names, outcome.units))] if names else []
    rows += [("coefficients", _names_text(outcome.coefficients, outcome.units))] if outcome.coefficients else []
    rows.append(("trajectories", ", ".join(f"{count} {split}" for split, count in outcome.splits.items())))
    return rows + _said_rows(outcome.labels or {})


def _said_rows(labels: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a file says in words of its axes and times, and what of it is used for nothing."""
    rows = []
    for axis, (first, spacing) in labels.get("lines", {}).items():
        name = labels.get("called", {}).get(axis, axis)
        rows.append((f"{axis} in the file", f"{name}, from {first:g} by {spacing:g}"))
    if dates := labels.get("dates"):
        calendar = f", calendar {dates['calendar']}" if dates["calendar"] else ""
        rows.append(("first frame", f"{dates['first']:g} {dates['units']}{calendar}"))
    return rows + ([("left out", ", ".join(labels["left_out"]))] if labels.get("left_out") else [])


def _with_unit(text: str, unit: str | None) -> str:
    return f"{text} {unit}" if unit else text


def _names_text(names: Sequence[str], units: Mapping[str, str]) -> str:
    return ", ".join(f"{name} [{units[name]}]" if name in units else name for name in names)


def _frames_text(times: Sequence[float], units: Mapping[str, str]) -> str:
    return _with_unit(f"{len(times)}, times {times[0]:g} to {times[-1]:g}", units.get("time"))


@app.command("import")
def import_files(
    path: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder of the new store.")],
    map_file: MapFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Copy foreign data into a store. 'scifm inspect' says beforehand what would become of them.

    An interrupted import goes on where it stopped when the same command is given again.
    """
    from scifm.data.importing import import_data
    from scifm.data.inspection import choose_mapping

    mapping = choose_mapping(path, map_file, overrides or [])
    with progress_bars(console) as progress:
        store = import_data(path, out, mapping, progress=counting(progress, "copying trajectories"))
    if as_json:
        print_json(_summary(store))
        return
    rows = [("trajectories", ", ".join(f"{count} {split}" for split, count in store.splits.items()))]
    if store.card.times is not None:
        rows.append(("frames", _frames_text(store.card.times, store.card.units)))
    rows.append(("grid", store.grid.told))
    rows += _said_rows(store.card.labels.to_dict() if store.card.labels is not None else {})
    fields = store.statistics.fields.items()
    rows += [(name, f"rms {own.rms:.4g}, from {own.min:.4g} to {own.max:.4g}") for name, own in fields]
    print_rows(f"Store {store.path}", rows + [("beware", defect) for defect in store.card.known_defects])


@app.command()
def verify(
    store: Annotated[Path, typer.Argument(help="Folder of a store.")],
    as_json: AsJson = False,
) -> None:
    """Read a whole store and compare the content of every file with its card: scifm verify stores/poisson."""
    from scifm.data.store import Store

    opened = Store.open(store)
    opened.verify()
    if as_json:
        print_json({"path": str(store), "content": opened.content, "num_files": len(opened.card.files)})
    else:
        typer.echo(f"'{store}' is whole: all {len(opened.card.files)} files hold what its card says.")


def _summary(store: Store) -> dict[str, Any]:
    return {
        "path": str(store.path),
        "splits": store.splits,
        "signature": store.signature.to_dict(),
        "grid": store.grid.to_dict(),
        "times": store.card.times,
        "known_defects": store.card.known_defects,
    }
