"""Verbs that put a model to samples: ``evaluate``, ``calibrate``, ``predict``, ``embed``, ``check``, ``compress``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from scifm.cli.app import AsJson, Imports, Model, app, print_json, print_rows, print_table, say
from scifm.cli.recipes import SAMPLES, settings, told_by
from scifm.wording import duration_text, plural

if TYPE_CHECKING:
    from torch import Tensor

    from scifm.evaluation.evaluate import Scores
    from scifm.findings.finding import Finding

__all__ = ["calibrate", "check", "compress", "embed", "evaluate", "predict", "scores"]

_MARKS = {"green": "good", "red": "bad", "amber": "look", "none": "–"}
_MOST_NAMED = 8  # samples in a message

OnlyChecks = Annotated[
    list[str] | None, typer.Option("--only", help="Name of a check; repeatable. Default: all of them.")
]
Budget = Annotated[
    float | None, typer.Option("--budget", help="Seconds that all checks together may take; default: 180.")
]
Steps = Annotated[int | None, typer.Option("--steps", help="Of what evolves, steps to march; default: 1.")]
Level = Annotated[
    float | None, typer.Option("--level", help="Probability that a band holds the truth, of a calibrated model: 0.9.")
]
Beside = Annotated[
    list[str] | None,
    typer.Option("--beside", help="A further system, by name, or store, by folder, to compare with; repeatable."),
]
Split = Annotated[str | None, typer.Option("--split", help="Split of the store; default: test.")]
Stage = Annotated[int | None, typer.Option("--stage", help="Stage of the network, from 0; default: its kind's own.")]
Demonstrations = Annotated[
    int | None, typer.Option("--demonstrations", help="Solved examples that help to answer; default: none.")
]
To = Annotated[str | None, typer.Option("--to", help="How; default: int8.")]


@app.command()
@told_by(*SAMPLES, demonstrations=Demonstrations)
def evaluate(
    run: Annotated[Path, Model],
    tree: dict[str, Any],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Parquet file for every sample's errors; default: in RUN/scores if it is yours."),
    ] = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on unseen samples; every sample's errors are kept in the run folder, with what they were scored on.

    They are like those it was trained on unless a system or a store is given. Which ones are settings: --set
    split=valid or --set stride=4 of a store, --set num_points=128 of a system. Scores on other samples stand beside
    them, and beside both what answers miss that cost nothing: that nothing changes, that all is zero, the run as it was
    before it was fine-tuned. A model alone, or a run of somebody else's, is left as it is.

    --demonstrations 16 corrects its answers by so many solved examples, without training: of the training split of the
    store, or drawn of the system. --set correction.way=checked does so only as far as they say it helps. A model of
    kind in_context is shown them instead, which it learned to use.
    """
    from scifm.evaluation.evaluate import evaluate as work

    how = settings("evaluate", tree)
    samples, origin = how.samples_for(run)
    where = True if out is None else out
    shown = how.demonstrations_for(run)
    by = {} if shown is None else {"demonstrations": shown, "correction": how.correction}
    result = work(run, samples, rename=how.rename, record=where, origin=origin, beside=True, **by)
    _print_scores(run, result, as_json)


def _summary(errors: Tensor) -> dict[str, float | None]:
    """Return mean, median and 90th percentile; None where there is no finite one."""
    if not errors.numel():
        return dict.fromkeys(("mean", "median", "p90"))
    errors = errors.double()
    numbers = {"mean": errors.mean(), "median": errors.quantile(0.5), "p90": errors.quantile(0.9)}
    return {name: float(value) if value.isfinite() else None for name, value in numbers.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(widths: Tensor) -> list[list[float | None]]:
    """Return widths by step and field; None of a field that nothing was found of."""
    return [[_finite(width) for width in step] for step in widths.tolist()]


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


def _why(result: Scores) -> str:
    """Say why demonstrations do not help."""
    if result.corrected is not None:
        return "the operator does not err everywhere alike"
    return "they are not of the physics that is asked about, or of none that the operator has learned to tell"


def _print_scores(run: Path, result: Scores, as_json: bool) -> None:
    from scifm.report.records import NOTHING_CHANGES, WITHOUT_DEMONSTRATIONS, origin_text

    numbers = {name: _summary(result.defined(name)) for name in result.values}
    beside = {name: _finite(mean) for name, mean in result.beside.items()}
    _tell_undefined(result)
    if as_json:
        baseline: dict[str, Any] = {"beside": beside}
        baseline |= {"persistence": beside[NOTHING_CHANGES]} if NOTHING_CHANGES in beside else {}
        undefined = {name: samples for name in result.values if (samples := result.undefined_samples(name))}
        about = {"origin": result.origin, "file": None if result.path is None else str(result.path)}
        share = {} if result.corrected is None else {"corrected": _finite(result.corrected)}
        print_json({"num_samples": result.num_samples, **numbers, **baseline, **share, "undefined": undefined, **about})
        return
    table = Table("metric", "mean", "median", "90 %", title=plural(result.num_samples, "sample"))
    for name, own in numbers.items():
        table.add_row(name, *map(_number, own.values()))
    for other, mean in beside.items():
        table.add_row(f"relative_l2, {other}", _number(mean), "", "")
    print_table(table)
    rows = [("samples", origin_text(result.origin)), ("scores", str(result.path or "not recorded"))]
    rows += [] if result.corrected is None else [("corrected", f"{result.corrected:.1%} of all points")]
    print_rows("Scored on", rows)
    before, after = beside.get(WITHOUT_DEMONSTRATIONS), numbers["relative_l2"]["mean"]
    if before is not None and after is not None and after > before:
        say(
            "note:",
            "yellow",
            f"The demonstrations made answers worse, {_number(after)} instead of {_number(before)}: {_why(result)}. "
            "Fine-tune on such examples (scifm finetune), or leave them out.",
        )
    if result.path is None:
        nowhere = f"'{run}' is no run folder of yours: nothing was written there; --out keeps the scores."
        say("note:", "yellow", nowhere)


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
        table = Table("scored on", "samples", "relative L2", "file", title="Scores, the latest first")
        for own in sets:
            mean = f"{own.means['relative_l2']:.4g}" if "relative_l2" in own.means else ""
            table.add_row(own.text, f"{own.num_samples:,}", mean, own.file.name)
        print_table(table)


@app.command()
@told_by(*SAMPLES, level=Level)
def calibrate(
    run: Annotated[Path, Model], tree: dict[str, Any], imports: Imports = None, as_json: AsJson = False
) -> None:
    """Find how wide bands around a model's answers have to be to hold the truth, on samples it was not trained on.

    They are like those it was trained on unless a system or a store is given (its validation split). What is found lies
    beside the weights; 'scifm predict --level 0.9' then answers with bands, and tells which questions are unlike those
    that it was calibrated on. Of what evolves, --set horizon=10 calibrates forecasts of ten steps, each for itself.
    """
    from scifm.evaluation.calibrate import calibrate_model
    from scifm.models.folder import find_model
    from scifm.models.registry import load_operator

    made = calibrate_model(run, settings("calibrate", tree))
    names, found = load_operator(find_model(run).folder).signature.outputs, made.calibration
    if as_json:
        about = {
            "path": str(made.path),
            "num_samples": found.num_samples,
            "samples": found.samples,
            "level": made.level,
        }
        about |= {"share": found.share, "fields": names, "half_widths": _plain(made.widths)}
        print_json({**about, "relative_half_widths": _plain(made.relative_widths)})
        return
    part = "the whole field" if found.share == 1 else f"at least {found.share:.4g} of the field"
    rows = [
        ("samples", f"{found.num_samples:,}: {found.samples}"),
        ("promise", f"{made.level:.4g} of bands hold {part}"),
    ]
    for step in sorted({0, found.num_frames - 1}):
        title = f"step {step + 1}" if found.num_frames > 1 else "half width"
        widths = zip(names, made.relative_widths[step].tolist(), strict=True)
        told = (f"{name} ± {100 * width:.3g} %" for name, width in widths if not math.isnan(width))
        rows.append((title, ", ".join(told) + " of the size of the answer"))
    print_rows("Calibrated", [*rows, ("kept", str(made.path))])


@app.command()
@told_by(steps=Steps, level=Level)
def predict(
    model: Annotated[Path, Model],
    source: Annotated[Path, typer.Option("--input", help="File of arrays (NetCDF, Zarr, NumPy, HDF5), or a store.")],
    out: Annotated[Path, typer.Option("--out", help="New file: NetCDF (.nc) or NumPy (.npz).")],
    tree: dict[str, Any],
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Answer the problems of a file of arrays, whose names are those of the model's inputs and coefficients.

    What evolves is marched from its last frames. With --level 0.9, of a model that was calibrated, a band stands around
    each answer, and what is unlike the samples of the calibration is told.

    --set values.NAME=NUMBER gives what the file does not hold, and
    --set rename.NAME=OTHER says what it is called there. What lies outside of the training is told; --set strict=true
    refuses it.
    """
    from scifm.evaluation.predict_file import predict_file

    made = predict_file(model, source, out, settings("predict", tree))
    if as_json:
        about = {"sizes": made.sizes, "fields": made.names, "outside": made.outside, "unlike": made.unlike}
        print_json({"path": str(made.path), **about})
        return
    sizes = ", ".join(f"{axis} {length}" for axis, length in made.sizes.items())
    print_rows(f"Prediction {made.path}", [("fields", ", ".join(made.names)), ("sizes", sizes)])
    if made.unlike:
        say("beware:", "yellow", made.unlike)
    if made.outside:
        say("beware:", "yellow", f"outside of what the model was trained on: {'; '.join(made.outside)}.")


@app.command()
@told_by(*SAMPLES, split=Split, beside=Beside, stage=Stage)
def embed(
    model: Annotated[Path, Model],
    out: Annotated[Path, typer.Option("--out", help="New file: Parquet (.parquet), text (.csv) or NumPy (.npz).")],
    tree: dict[str, Any],
    figure: Annotated[
        Path | None, typer.Option("--figure", help="SVG file that shows how alike the systems are to the model.")
    ] = None,
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Write the features of samples: what the network makes of each inside, as numbers, beside what is known of it.

    Samples are like those it was trained on unless a system or a store is given; --beside adds others. Of several
    systems it says how alike they are to the model; that is kept in the run folder, if it is yours, and on its page.
    --set blind=true hides the coefficients from the network.
    """
    from scifm.evaluation.embedding import require_kind
    from scifm.evaluation.similarity import compare

    how = settings("embed", tree)
    require_kind(out)
    made = how.embedding(model)
    found = compare(made, model, figure=figure)
    made.write(out)
    counts = ", ".join(f"{name} {count:,}" for name, count in made.counts.items())
    if as_json:
        about = {"path": str(out), "counts": made.counts, "features": list(made.names), "known": list(made.numbers)}
        print_json({**about, "similarity": None if found is None else found.model_dump(mode="json")})
        return
    known = ", ".join(made.numbers) or "nothing"
    rows = [("samples", counts), ("features", f"{len(made.names)} a sample, at stage {made.about['stage']}")]
    print_rows(f"Features {out}", [*rows, ("known beside", known), *([("figure", str(figure))] if figure else [])])
    if found is not None:
        _print_findings("Systems", [found], as_json)


@app.command()
@told_by(*SAMPLES, checks=OnlyChecks, budget=Budget)
def check(run: Annotated[Path, Model], tree: dict[str, Any], imports: Imports = None, as_json: AsJson = False) -> None:
    """Question a trained operator: can it be right at all? What is found is kept in the run folder, if it is yours.

    It is asked about what it was trained on, unless a system or a store is given. Exit status 1: something is bad.
    """
    from scifm.models.folder import find_model
    from scifm.trust.examine import check_operator

    how = settings("check", tree)
    about = {"origin": how.origin_for(find_model(run)), "budget": how.budget}
    findings = check_operator(run, how.samples_for(run)[0], how.checks, seed=how.seed, **about)
    _print_findings("Checks", findings, as_json)
    if any(finding.good is False for finding in findings):
        raise typer.Exit(1)


@app.command()
@told_by(*SAMPLES, to=To)
def compress(
    run: Annotated[Path, Model],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new, smaller model.")],
    tree: dict[str, Any],
    imports: Imports = None,
    as_json: AsJson = False,
) -> None:
    """Make a model smaller, and measure what that changes; every verb that takes a model takes the new folder."""
    from scifm.distillation.compress import compress as work

    how = settings("compress", tree)
    samples, origin = how.samples_for(run)
    record = work(run, samples, out, to=how.to, seed=how.seed, origin=origin)
    if as_json:
        print_json({"path": str(out), **json.loads(record.model_dump_json())})
        return
    _print_findings(f"Compressed to {how.to.name}", record.findings, as_json)
    print_rows(f"Model {out}", [("measured", str(out / "compression.json"))])


def _print_findings(title: str, findings: Sequence[Finding], as_json: bool) -> None:
    if as_json:
        print_json([finding.model_dump(mode="json") for finding in findings])
        return
    width = max(len(finding.name) for finding in findings)
    typer.echo(title)
    for finding in findings:
        numbers = f"{finding.statistic:.3g} {finding.unit}" if finding.statistic is not None else ""
        if finding.low is not None and finding.high is not None:
            numbers += f", 95 % interval {finding.low:.3g} to {finding.high:.3g}"
        numbers += f"; threshold {finding.threshold:.3g}" if finding.threshold is not None else ""
        advice = f"→ {finding.advice}" if finding.advice else ""
        first, *rest = (part for part in (finding.said, finding.evidence, numbers, advice) if part)
        cost = f"  ({duration_text(finding.seconds)})" if finding.seconds is not None else ""
        typer.echo(f"  {_MARKS[finding.light]:5}  {finding.name:{width}}  {first}{cost}")
        typer.echo("".join(f"  {'':5}  {'':{width}}  {part}\n" for part in rest), nl=False)
