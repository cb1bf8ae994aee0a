"""``scifm check`` and ``scifm compress``: question a trained operator, and make it smaller."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scifm.cli.app import AsJson, Imports, Model, app, print_json, print_rows
from scifm.cli.recipes import Knobs, NumSamples, Overrides, RecipeFile, StoreFolder, SystemName, asked, settings

if TYPE_CHECKING:
    from scifm.findings.finding import Finding

__all__ = ["check", "compress"]

_MARKS = {True: "good", False: "bad", None: "–"}


@app.command()
def check(
    run: Annotated[Path, Model],
    only: Annotated[list[str] | None, typer.Option(help="Name of a check; repeatable. Default: all of them.")] = None,
    system: SystemName = None,
    knob: Knobs = None,
    store: StoreFolder = None,
    num_samples: NumSamples = None,
    recipe: RecipeFile = None,
    overrides: Overrides = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Question a trained operator: can it be right at all? What is found is kept in the run folder, if it is yours.

    It is asked about what it was trained on, unless a system or a store is given. Exit status 1: something is bad.
    """
    from scifm.trust.examine import check_operator

    options = {"store": store, "num_samples": num_samples, "checks": only}
    how = settings("check", asked(recipe, overrides, system, knob, **options))
    findings = check_operator(run, how.samples_for(run)[0], how.checks, seed=how.seed)
    _tell("Checks", findings, as_json)
    if any(found.good is False for found in findings):
        raise typer.Exit(1)


@app.command()
def compress(
    run: Annotated[Path, Model],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new, smaller model.")],
    to: Annotated[str | None, typer.Option("--to", help="How; default: int8.")] = None,
    system: SystemName = None,
    knob: Knobs = None,
    store: StoreFolder = None,
    num_samples: NumSamples = None,
    recipe: RecipeFile = None,
    overrides: Overrides = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Make a model smaller, and measure what that changes; every verb that takes a model takes the new folder."""
    from scifm.distillation.compress import compress as work

    options = {"store": store, "num_samples": num_samples, "to": to}
    how = settings("compress", asked(recipe, overrides, system, knob, **options))
    samples, origin = how.samples_for(run)
    record = work(run, samples, out, to=how.to, seed=how.seed, origin=origin)
    if as_json:
        print_json({"path": str(out), **json.loads(record.model_dump_json())})
        return
    _tell(f"Compressed to {how.to.name}", record.findings, as_json)
    print_rows(f"Model {out}", [("measured", str(out / "compression.json"))])


def _tell(title: str, findings: Sequence[Finding], as_json: bool) -> None:
    from scifm.findings.files import as_plain

    if as_json:
        print_json(as_plain(findings))
        return
    width = max(len(found.name) for found in findings)
    typer.echo(title)
    for found in findings:
        numbers = f"{_number(found.statistic)} {found.unit}" if found.statistic is not None else ""
        if found.low is not None and found.high is not None:
            numbers += f", 95 % interval {_number(found.low)} to {_number(found.high)}"
        numbers += f"; threshold {_number(found.threshold)}" if found.threshold is not None else ""
        first, *rest = (part for part in (found.said, found.evidence, numbers) if part)
        typer.echo(f"  {_MARKS[found.good]:4}  {found.name:{width}}  {first}")
        typer.echo("".join(f"  {'':4}  {'':{width}}  {part}\n" for part in rest), nl=False)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
