"""``scifm evaluate`` and ``scifm scores``: score a model, and list what it was scored on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from scifm.cli.app import AsJson, Imports, Knobs, Model, app, print_json, print_rows, print_table, say
from scifm.cli.run_verbs import Renamed, Stride, named_system, renamings, require_one_origin
from scifm.errors import ConfigError
from scifm.wording import plural

if TYPE_CHECKING:
    from torch import Tensor

    from scifm.evaluation.evaluate import Scores
    from scifm.fields.samples import Samples
    from scifm.report.records import ScoreSet

__all__ = ["asked_samples", "evaluate", "scores"]

_MOST_NAMED = 8  # samples in a message


@app.command()
def evaluate(
    run: Annotated[Path, Model],
    store: Annotated[Path | None, typer.Option(help="Store to score on.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the store; default: test.")] = None,
    rename: Renamed = None,
    stride: Stride = None,
    system: Annotated[
        str | None, typer.Option(help="System to sample fresh test problems of, instead of a store.")
    ] = None,
    knob: Knobs = None,
    num_samples: Annotated[int | None, typer.Option(help="Test problems, with --system; default: 512.")] = None,
    num_points: Annotated[int | None, typer.Option(help="Points a side, with --system; default: 64.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the test problems, with --system; default: 0.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Parquet file for every sample's errors; default: in RUN/scores if it is yours."),
    ] = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on unseen samples; every sample's errors are kept in the run folder, with what they were scored on.

    Scores on other samples stand beside them. A model alone, or a run of somebody else's, is left as it is.
    """
    from scifm.evaluation.evaluate import evaluate as work
    from scifm.evaluation.evaluate import persistence

    of_system = {"--knob": knob, "--num-samples": num_samples, "--num-points": num_points, "--seed": seed}
    samples, origin = asked_samples(system, store, of_system=of_system, of_store={"--split": split, "--stride": stride})
    result = work(run, samples, rename=renamings(rename), record=True if out is None else out, origin=origin)
    still = persistence(samples).defined() if samples.signature.state == samples.signature.outputs else None
    _tell(run, result, still, as_json)


def asked_samples(
    system: str | None, store: Path | None, *, of_system: dict[str, Any], of_store: dict[str, Any]
) -> tuple[Samples, dict[str, Any]]:
    """Return the samples that --system or --store say, with the options that belong to each, and their origin.

    Args:
        system: name of a system, or None.
        store: folder of a store, or None.
        of_system: what was given for ``--knob``, ``--num-samples``, ``--num-points`` and ``--seed``.
        of_store: what was given for ``--split`` and ``--stride``.

    Raises:
        ConfigError: if not exactly one is given, or an option that only the other one reads.
    """
    from scifm.data.origins import StoreOrigin, SystemOrigin
    from scifm.data.store import Store
    from scifm.evaluation.evaluate import origin_of
    from scifm.fields.grid import Grid

    require_one_origin(system, store, of_system=of_system, of_store=of_store)
    if system is not None:
        count = of_system["--num-samples"]
        if count is not None and count < 1:
            raise ConfigError(f"--num-samples must be at least 1; got {count}.")
        chosen = named_system(system, of_system["--knob"])
        grid = Grid.square(of_system["--num-points"] or 64, num_spatial_dims=chosen.signature.num_spatial_dims)
        return SystemOrigin.of(chosen, grid).unseen(count or 512, of_system["--seed"] or 0)
    samples = StoreOrigin(Store.open(str(store)), of_store["--stride"] or 1).split(of_store["--split"] or "test")
    return samples, origin_of(samples)


def _summary(errors: Tensor) -> dict[str, float | None]:
    """Return mean, median and 90th percentile; None where there is no finite one."""
    if not errors.numel():
        return dict.fromkeys(("mean", "median", "p90"))
    errors = errors.double()
    found = {"mean": errors.mean(), "median": errors.quantile(0.5), "p90": errors.quantile(0.9)}
    return {name: float(value) if value.isfinite() else None for name, value in found.items()}


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _tell_undefined(result: Scores) -> None:
    """Say of which samples the truth leaves relative errors undefined, and what that means for the table."""
    by_samples: dict[tuple[int, ...], list[str]] = {}
    for name in result.values:
        by_samples.setdefault(tuple(result.undefined_samples(name)), []).append(name)
    for samples, names in by_samples.items():
        if samples:
            some = ", ".join(map(str, samples[:_MOST_NAMED])) + (", …" if len(samples) > _MOST_NAMED else "")
            say(
                "note:",
                "yellow",
                f"In {len(samples)} of {plural(result.num_samples, 'sample')} ({some}) the truth is zero or does not "
                f"vary, so {' and '.join(names)} cannot be told there: left out of the numbers shown, kept as infinite "
                "or NaN in the scores. rmse and max_error count all samples.",
            )


def _tell(run: Path, result: Scores, still: Tensor | None, as_json: bool) -> None:
    from scifm.report.records import origin_text

    numbers = {name: _summary(result.defined(name)) for name in result.values}
    unchanged = None if still is None else _summary(still)["mean"]
    _tell_undefined(result)
    if as_json:
        baseline = {} if still is None else {"persistence": unchanged}
        undefined = {name: found for name in result.values if (found := result.undefined_samples(name))}
        about = {"origin": result.origin, "file": None if result.path is None else str(result.path)}
        print_json({"num_samples": result.num_samples, **numbers, **baseline, "undefined": undefined, **about})
        return
    table = Table("metric", "mean", "median", "90 %", title=plural(result.num_samples, "sample"))
    for name, own in numbers.items():
        table.add_row(name, *map(_number, own.values()))
    if still is not None:
        table.add_row("relative_l2, if nothing changed", _number(unchanged), "", "")
    print_table(table)
    print_rows("Scored on", [("samples", origin_text(result.origin)), ("scores", str(result.path or "not recorded"))])
    if result.path is None:
        say(
            "note:",
            "yellow",
            f"'{run}' is no run folder of yours: nothing was written there; --out keeps the scores.",
        )


@app.command()
def scores(
    run: Annotated[Path, typer.Argument(help="Folder of a run or of a model.")],
    as_json: AsJson = False,
) -> None:
    """List what a run was scored on, and how well it did, the latest first."""
    from scifm.report.records import read_run

    sets = read_run(run).score_sets
    if as_json:
        print_json([own.to_dict() for own in sets])
    elif not sets:
        typer.echo(f"'{run}' holds no scores yet: 'scifm evaluate' records them.")
    else:
        _list(sets)


def _list(sets: tuple[ScoreSet, ...]) -> None:
    table = Table("scored on", "samples", "relative L2", "file", title="Scores, the latest first")
    for own in sets:
        mean = f"{own.means['relative_l2']:.4g}" if "relative_l2" in own.means else ""
        table.add_row(own.text, f"{own.num_samples:,}", mean, own.file.name)
    print_table(table)
