"""``scifm check`` and ``scifm compress``: question a trained operator, and make it smaller."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scifm.cli.app import AsJson, Imports, Knobs, Model, app, print_json, print_rows
from scifm.cli.run_verbs import Stride
from scifm.cli.score_verbs import asked_samples
from scifm.errors import ConfigError

if TYPE_CHECKING:
    from scifm.fields.samples import Samples
    from scifm.findings.finding import Finding

__all__ = ["check", "compress"]

_MARKS = {True: "good", False: "bad", None: "–"}

StoreOption = Annotated[Path | None, typer.Option("--store", help="Store to take samples from, instead.")]
Split = Annotated[str | None, typer.Option("--split", help="Split of the store; default: test.")]
SystemOption = Annotated[
    str | None, typer.Option("--system", help="System to sample; default: what the run was trained on.")
]
NumSamples = Annotated[int | None, typer.Option("--num-samples", help="Samples drawn of a system; default: 128.")]
NumPoints = Annotated[int | None, typer.Option("--num-points", help="Points a side, with --system; default: 64.")]
SamplesSeed = Annotated[int | None, typer.Option("--seed", help="Seed of the samples and the check; default: 0.")]


def _samples(
    model: Path, system: str | None, store: Path | None, of_system: dict[str, Any], of_store: dict[str, Any]
) -> tuple[Samples, dict[str, Any]]:
    """Return the samples that are asked for; where none are, unseen ones of what the run was trained on."""
    from scifm.data.run_origin import RunOrigin
    from scifm.models.hub import find_model

    count = of_system["--num-samples"]
    of_system = {**of_system, "--num-samples": count if count is not None or system is None else 128}
    if system is not None or store is not None:
        return asked_samples(system, store, of_system=of_system, of_store=of_store)
    given = {**of_store, "--knob": of_system["--knob"], "--num-points": of_system["--num-points"]}
    idle = [name for name, value in given.items() if value is not None]
    if idle:
        raise ConfigError(
            f"{', '.join(idle)} would have no effect without --system or --store: give one, or leave it out."
        )
    run = find_model(model).run
    if run is None:
        raise ConfigError(
            f"'{model}' is a model without its run, and does not say what it was trained on: give --system NAME (with "
            "--knob) or --store FOLDER."
        )
    if count is not None and count < 1:
        raise ConfigError(f"--num-samples must be at least 1; got {count}.")
    origin = RunOrigin.of(run)
    if origin is None:
        raise ConfigError(f"'{run.path}' does not say what it was trained on: give --system or --store.")
    return origin.resolved().unseen(count or 128, of_system["--seed"] or 0)


@app.command()
def check(
    run: Annotated[Path, Model],
    only: Annotated[list[str] | None, typer.Option(help="Name of a check; repeatable. Default: all of them.")] = None,
    store: StoreOption = None,
    split: Split = None,
    stride: Stride = None,
    system: SystemOption = None,
    knob: Knobs = None,
    num_samples: NumSamples = None,
    num_points: NumPoints = None,
    seed: SamplesSeed = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Question a trained operator: can it be right at all? What is found is kept in the run folder, if it is yours.

    Exit status 1 says that something found is bad.
    """
    from scifm.trust import CHECKS
    from scifm.trust.examine import check_named, check_operator

    checks = [check_named(name) for name in only or CHECKS]
    of_system = {"--knob": knob, "--num-samples": num_samples, "--num-points": num_points, "--seed": seed}
    samples, _ = _samples(run, system, store, of_system, {"--split": split, "--stride": stride})
    findings = check_operator(run, samples, checks, seed=seed or 0)
    _tell("Checks", findings, as_json)
    if any(found.good is False for found in findings):
        raise typer.Exit(1)


@app.command()
def compress(
    run: Annotated[Path, Model],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new, smaller model.")],
    to: Annotated[str, typer.Option("--to", help="How: int8.")] = "int8",
    store: StoreOption = None,
    split: Split = None,
    stride: Stride = None,
    system: SystemOption = None,
    knob: Knobs = None,
    num_samples: NumSamples = None,
    num_points: NumPoints = None,
    seed: SamplesSeed = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Make a model smaller, and measure what that changes; every verb that takes a model takes the new folder."""
    from scifm.distillation.compress import compress as work
    from scifm.distillation.compress import compression_named

    compression_named(to)
    of_system = {"--knob": knob, "--num-samples": num_samples, "--num-points": num_points, "--seed": seed}
    samples, origin = _samples(run, system, store, of_system, {"--split": split, "--stride": stride})
    record = work(run, samples, out, to=to, seed=seed or 0, origin=origin)
    if as_json:
        print_json({"path": str(out), **json.loads(record.model_dump_json())})
        return
    _tell(f"Compressed to {to}", record.findings, as_json)
    print_rows(f"Model {out}", [("measured", str(out / "compression.json"))])


def _tell(title: str, findings: Sequence[Finding], as_json: bool) -> None:
    if as_json:
        print_json([finding.model_dump(mode="json") for finding in findings])
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
