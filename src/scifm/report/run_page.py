"""The page of a single run, or of a model alone; histories of training and spread of errors as figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.findings.provenance import Provenance
from scifm.report.drawing import Drawn
from scifm.report.films import Film, SpaceTime, film_of, read_frames, series_of, space_time_of
from scifm.report.forecasts import (
    ForecastRecord,
    drift_figure,
    forecast_figure,
    forecast_table,
    read_forecasts,
    spectra_figure,
)
from scifm.report.parts import Cell, Numbered, Page, Table, Tile, environment_entries, render
from scifm.report.plates import Plate, plates_of_frames
from scifm.report.records import BEFORE, MODEL_ALONE, Curve, RunRecord, ScoreSet, read_run
from scifm.runs import Run
from scifm.wording import count_text, duration_text, number_text, plural

__all__ = [
    "STEP",
    "distribution_figure",
    "history",
    "render_run",
    "run_headline",
    "run_remarks",
    "score_table",
    "training_figure",
]

STEP = Axis(label="optimizer step", form="count", low=0.0)
_MOST_POINTS = 160  # of one line; more cannot be told apart and only make the page large


def render_run(folder: Path) -> Page:
    """Return the page of a run or of a model as HTML.

    Raises:
        RunError: if a file of it cannot be read.
    """
    record, numbered = read_run(folder), Numbered()
    many = len(record.score_sets) > 1
    errors = {
        f"{place}: {channel}" if many else channel: values
        for place, scores in enumerate(record.score_sets, start=1)
        for channel, values in scores.errors.items()
    }
    caption = "Share of the samples whose relative L2 error lies below a value, one line a channel"
    caption += " of each set of samples, numbered as in the table." if many else "."
    files = Run(folder).forecast_files
    forecasts = read_forecasts(files)
    plates = dict[str, Plate]()
    history = "Training loss and validation error against the optimizer step, both logarithmic."
    return render(
        "run.html",
        alone=record.status == MODEL_ALONE,
        title=folder.resolve().name,
        description=f"Fine-tuned from {record.parent.strip()}" if record.parent else None,
        headline=run_headline(record),
        remarks=run_remarks(record),
        tiles=_tiles(record),
        score_sets=record.score_sets,
        score_table=score_table(record.score_sets),
        score_figure=numbered("scores", distribution_figure(errors, caption)),
        forecast_parts=[
            _forecast(numbered, file, own, i, plates)
            for i, (file, own) in enumerate(zip(files, forecasts, strict=True))
        ],
        forecasts=forecast_table(forecasts),
        findings=numbered.findings(record.findings),
        training_figure=numbered("training", training_figure({"": record.curve}, history)),
        meanings=meaning_table(record.meanings),
        nothing_trained=record.kept is not None,
        environment=environment_entries(record.environment),
        recipe=record.recipe,
        past=past_table(record.past),
        past_scores=past_scores_table(record.past) if record.status == MODEL_ALONE else None,
        plates=plates,
    )


def _forecast(
    numbered: Numbered, file: Path, record: ForecastRecord, place: int, plates: dict[str, Plate]
) -> dict[str, Drawn | Film | SpaceTime | None]:
    """Return the figures of one forecast; frames are shown of the latest one, which keeps the page small."""
    drawn: dict[str, Drawn | Film | SpaceTime | None] = {
        "errors": numbered(f"forecast-{place}", forecast_figure(record))
    }
    frames = read_frames(file.with_suffix(".npz")) if place == 0 else None
    series = None if frames is None else series_of(frames, record.num_samples)
    drawn["series"] = numbered("series", series)
    frames = frames if series is None else None
    maps = None if frames is None else numbered.maps(space_time_of(frames, record.num_samples))
    drawn["space_time"] = maps
    film = None if frames is None else film_of(frames, record.num_samples)
    drawn["film"] = None if film is None else numbered.film(film)
    plates.update(plates_of_frames(frames, "" if film is None else film.caption, maps))
    drawn["spectra"] = numbered(f"spectra-{place}", spectra_figure(record))
    drawn["drifts"] = numbered(f"drift-{place}", drift_figure(record))
    return drawn


def _tiles(record: RunRecord) -> list[Tile]:
    curve = record.curve
    if record.status == MODEL_ALONE:
        return []
    status = Tile("Status", record.status.partition(":")[0])
    took = [] if record.seconds is None else [Tile("Wall time", duration_text(record.seconds), "over all sittings")]
    if record.kept is not None:
        return [status, Tile("Optimizer steps", "0", "the pre-trained weights were kept"), *took]
    last = max((*curve.train_steps, *curve.valid_steps), default=None)
    tiles = [status, Tile("Optimizer steps", count_text(last))]
    tiles.append(Tile("Last training loss", number_text(curve.losses[-1] if curve.losses else None)))
    errors = [own.means["relative_l2"] for own in record.score_sets if own.errors]
    if curve.errors or not errors:  # few samples are adapted on without validation
        tiles.append(
            Tile("Last validation error", number_text(curve.errors[-1] if curve.errors else None), "relative L2")
        )
    return [*tiles, *(Tile("Error when last scored", number_text(error), "relative L2") for error in errors[:1]), *took]


def run_headline(record: RunRecord) -> str:
    """Return what a single run reached, in one sentence."""
    name = f"The {'model' if record.status == MODEL_ALONE else 'run'} {record.path.resolve().name}"
    scored = next((scores for scores in record.score_sets if scores.errors), None)
    if scored is not None:
        means = {channel: sum(values) / len(values) for channel, values in scored.errors.items()}
        errors = ", ".join(f"{number_text(mean, digits=2)} ({channel})" for channel, mean in means.items())
        over = f"mean over {plural(scored.num_samples, 'sample')}"
        before = scored.beside.get(BEFORE)
        moved = "" if before is None else f" Before it was fine-tuned that was {number_text(before, digits=2)}."
        return f"{name} reaches a relative L2 error of {errors}, {over}: {scored.text}.{moved}"
    if record.curve.errors:
        step = count_text(record.curve.valid_steps[-1])
        error = number_text(record.curve.errors[-1], digits=2)
        return f"{name} has a validation relative L2 error of {error} at step {step}; it holds no test scores."
    if record.kept is not None:
        return f"{name} kept the pre-trained weights; it holds no test scores."
    told = next((own for own in record.past.scores if "relative_l2" in own.errors), None)
    if record.status == MODEL_ALONE and told is not None:
        error, over = number_text(told.errors["relative_l2"], digits=2), plural(told.num_samples, "sample")
        return f"{name} reaches a relative L2 error of {error}, as it says, mean over {over}: {told.samples}."
    if record.status == MODEL_ALONE:
        return f"{name} holds no scores: they stay with the run, or where 'scifm evaluate --out' put them."
    return f"{name} has recorded no error yet; 'scifm evaluate' records one."


def run_remarks(record: RunRecord) -> list[str]:
    """Return what must be said beside the headline of a run: that it is not complete, or that nothing was trained."""
    sentences = []
    if len(record.score_sets) > 1:
        sentences.append(f"It was scored on {len(record.score_sets)} sets of samples; the headline tells the latest.")
    if record.status not in ("complete", MODEL_ALONE):
        sentences.append(f"The run is not complete; its status: {record.status}.")
    if record.kept is not None:
        sentences.append(f"Nothing was trained. Fine-tuning kept {record.kept}.")
    return sentences


# --- figures and tables -----------------------------------------------------------------------------------------------


def history(
    steps: Sequence[int], values: Sequence[float], label: str, *, place: int | None = None, marked: bool = False
) -> Series:
    """Return a history, every so many points of it where it has many."""
    window = max(1, math.ceil(len(steps) / _MOST_POINTS))
    chosen = range(window // 2, len(steps), window)
    texts = tuple(f"step {count_text(steps[i])}: {number_text(values[i])}" for i in chosen) if marked else ()
    x, y = tuple(steps[i] for i in chosen), tuple(values[i] for i in chosen)
    return Series(label=label, x=x, y=y, told=texts, marked=marked, place=place)


def _smoothed(curve: Curve, label: str) -> list[Series]:
    """Return losses; many are told by their running median, before the logged ones where they stand alone."""
    steps, losses = curve.train_steps, curve.losses
    if len(losses) < 50:
        return [history(steps, losses, label, marked=len(losses) < 2)]
    window = max(3, len(losses) // 25) | 1  # odd: centered
    half, smooth = window // 2, []
    for i in range(len(losses)):
        finite = [loss for loss in losses[max(0, i - half) : i + half + 1] if math.isfinite(loss)]
        smooth.append(median(finite) if finite else math.nan)
    if label:
        return [history(steps, smooth, label)]
    logged = history(steps, losses, "as logged", place=0).model_copy(update={"line": "faint"})
    return [history(steps, smooth, f"running median of {window}", place=0), logged]


def _validation(curve: Curve, label: str, *, alone: bool) -> list[Series]:
    """Return the error on held-out samples, and of one run that of each of its systems."""
    if not curve.errors:
        return []
    if not (alone and curve.systems):
        return [history(curve.valid_steps, curve.errors, label, marked=alone)]
    of_all = history(
        curve.valid_steps, curve.errors, "all samples", place=0
    )  # in the color of the loss, which is theirs
    own = enumerate(curve.systems.items(), start=1)
    return [of_all, *(history(*points, name.replace("_", " "), place=place) for place, (name, points) in own)]


def training_figure(curves: Mapping[str, Curve], caption: str) -> Figure | None:
    """Return training loss and validation error against the optimizer step, a line a run; one run needs no name."""
    alone = len(curves) == 1
    losses: list[Series] = []
    errors: list[Series] = []
    for name, curve in curves.items():
        label = "" if alone else name
        losses += _smoothed(curve, label) if curve.losses else []
        errors += _validation(curve, label, alone=alone)
    if not losses and not errors:
        return None
    lowest = min((e for c in curves.values() for e in c.errors if math.isfinite(e)), default=None)
    title = "validation" if lowest is None else f"validation, lowest {number_text(lowest)}"
    panels = (
        Panel(x=STEP, y=Axis(label="loss", scale="log"), series=tuple(losses), title="training loss"),
        Panel(x=STEP, y=Axis(label="relative L2 error", scale="log"), series=tuple(errors), title=title),
    )
    return Figure(caption=caption, panels=panels)


def distribution_figure(errors: Mapping[str, Sequence[float]], caption: str) -> Figure | None:
    """Return, for each name, the share of samples whose relative L2 error lies below a value.

    Samples whose error is not finite count as never below.
    """
    series = []
    for name, values in errors.items():
        known = sorted(value for value in values if math.isfinite(value) and value > 0)
        corners = [(value, (i + after) / len(values)) for i, value in enumerate(known) for after in (0, 1)]
        if corners:
            thinned = [*corners[:: math.ceil(len(corners) / 1000)], corners[-1]]  # at most a thousand, and the last
            x, y = zip(*thinned, strict=True)
            series.append(Series(label=name, x=x, y=y, marked=False))
    panel = Panel(
        x=Axis(label="relative L2 error", scale="log"),
        y=Axis(label="share of samples below", low=0.0, high=1.02),
        series=tuple(series),
    )
    return Figure(caption=caption, panels=(panel,)) if series else None


def past_table(past: Provenance) -> Table:
    """Return where a model comes from, a row a thing that is known."""
    rows = tuple((Cell(name), Cell(text.strip("`"))) for name, text in past.told())
    headers = ("what", "as it says")
    return Table("provenance", "Where the model comes from, as it says itself.", headers, rows, wordy=headers)


def past_scores_table(past: Provenance) -> Table:
    """Return what a model alone was scored on before it came here, a row a set of samples."""
    metrics = list(dict.fromkeys(name for own in past.scores for name in own.errors))
    rows = []
    for own in past.scores:
        numbers = (number_text(own.errors[name]) if name in own.errors else "" for name in metrics)
        rows.append(tuple(map(Cell, (own.samples, count_text(own.num_samples), *numbers))))
    headers = ("scored on", "samples", *(name.replace("_", " ") for name in metrics))
    return Table("scores-it-says", "Mean errors, as the model says itself.", headers, tuple(rows), wordy=headers[:1])


def meaning_table(meanings: Mapping[str, str]) -> Table:
    """Return what files said the numbers are, a row a field, a coefficient or an axis."""
    rows = tuple((Cell(name), Cell(text)) for name, text in meanings.items())
    caption = "What the files said the numbers are; lengths and times are in these units."
    return Table("meanings", caption, ("name", "what it is"), rows, wordy=("what it is",))


def score_table(sets: Sequence[ScoreSet]) -> Table:
    """Return mean, median, 90th percentile and maximum of the relative L2 error, a row a set of samples and channel."""
    rows = []
    for place, scores in enumerate(sets, start=1):
        for channel, values in scores.errors.items():
            spread = np.quantile(values, (0.5, 0.9, 1.0)) if np.isfinite(values).all() else np.full(3, math.nan)
            numbers = (number_text(float(number)) for number in (sum(values) / len(values), *spread))
            rows.append(tuple(map(Cell, (f"{place}: {scores.text}", channel, count_text(len(values)), *numbers))))
        for what, mean in scores.beside.items():
            texts = (f"{place}: {what}", "all", count_text(scores.num_samples), number_text(mean), "", "", "")
            rows.append(tuple(map(Cell, texts)))
    caption = (
        "Relative L2 error by channel, over the samples of each set; the latest set comes first, and below each what "
        "other answers to it miss."
    )
    headers = ("scored on", "channel", "samples", "mean", "median", "90th percentile", "largest")
    return Table("scores-by-channel", caption, headers, tuple(rows), wordy=headers[:2])
