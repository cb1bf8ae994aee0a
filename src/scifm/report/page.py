"""One self-contained HTML page about a study or a run: readable offline, printable, without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scifm.errors import RunError
from scifm.report import figures, tables
from scifm.report.field_figure import fields_side_by_side, sample_error
from scifm.report.records import (
    MODEL_ALONE,
    Curve,
    Examples,
    RunRecord,
    StudyRecord,
    holds_model,
    read_run,
    read_study,
)
from scifm.report.sentences import budget_sentence, headline, headline_count, remarks, run_headline, run_remarks
from scifm.report.study_page import render_transfer_study
from scifm.report.study_records import read_transfer_study
from scifm.report.style import data_uri, to_svg
from scifm.report.tables import KIND_NAMES, Group, count_text, duration_text, number_text
from scifm.report.template import environment_entries, template
from scifm.runs import write_atomically
from scifm.wording import plural

__all__ = ["Picture", "Tile", "page", "render_run", "render_study"]

_MOST_EXAMPLES = 3


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its address (the data itself), the text instead of it, and what stands under it."""

    address: str
    alt: str
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Tile:
    """A key figure."""

    label: str
    value: str
    note: str = ""


def page(path: str | Path, *, out: str | Path | None = None) -> Path:
    """Write the report of a study folder or a single run folder.

    Args:
        path: a folder with ``analysis.json`` (a transfer study), ``summary.json`` (a demo), ``config.toml`` (a run) or
            the files of a model; ``model`` inside a run is that run.
        out: the file to write, or an existing folder to write ``report.html`` into; by default ``path/report.html``,
            for a model alone, in whose folder nothing is added, a file called like it where you are.

    Returns:
        The file written.

    Raises:
        RunError: if `path` is neither, a file in it cannot be read, or the page cannot be written.
    """
    folder = Path(path)
    if holds_model(folder) and (folder.absolute().parent / "config.toml").is_file():
        folder = folder.parent if folder.name == "model" else folder.absolute().parent
    target = Path(out) if out is not None else _default_file(folder)
    if target.is_dir():
        target = target / "report.html"
    if (folder / "analysis.json").is_file():
        text = render_transfer_study(read_transfer_study(folder))
    elif (folder / "summary.json").is_file():
        text = render_study(read_study(folder))
    elif holds_model(folder) or ((folder / "config.toml").is_file() and not (folder / "runs").is_dir()):
        text = render_run(read_run(folder))
    else:
        raise _refusal(folder)
    write_atomically(target, text.encode())
    return target


def _default_file(folder: Path) -> Path:
    return Path(f"{folder.resolve().name}.html") if holds_model(folder) else folder / "report.html"


def _refusal(folder: Path) -> RunError:
    if not folder.is_dir():
        return RunError(
            f"There is no folder '{folder}'. Give the folder that 'scifm demo' or 'scifm pretrain' printed."
        )
    if (folder / "plan.json").is_file():
        return RunError(
            f"'{folder}' is a plan of 'scifm plan', for which there is no page: its answer and all numbers stand in "
            f"'{folder / 'plan.json'}'. The command that made it prints them again at no cost."
        )
    if (folder / "runs").is_dir():
        return RunError(
            f"The study '{folder}' is not finished: it has runs and neither summary.json nor analysis.json. Run the "
            "command that made it again to complete it, or report on one of the folders in its runs/."
        )
    return RunError(
        f"'{folder}' is neither a study (it has no summary.json or analysis.json) nor a run (it has no "
        "config.toml) nor a model. Give the folder that 'scifm demo' or 'scifm pretrain' printed."
    )


def _candidates(details: Mapping[str, Any], name: str) -> list[Any] | None:
    rates = details.get(name)
    return rates if isinstance(rates, list) else None


def render_study(record: StudyRecord) -> str:
    """Return the page of a study as HTML."""
    summary = record.summary
    details = summary.details
    groups = tables.group_rows(record.rows) if record.rows else tables.groups_from_summary(summary)
    return template("template.html").render(
        kind="study",
        alone=False,
        title=str(details.get("title") or record.path.resolve().name),
        description=details.get("description"),
        headline=headline(summary),
        remarks=remarks(summary, groups),
        warnings=tables.disagreements(summary, groups),
        tiles=_study_tiles(record, groups),
        error_figure=_error_picture(groups, details.get("num_seeds")),
        field_figures=_field_pictures(record.examples),
        training_figures=_training_pictures(record),
        nothing_trained=False,
        groups=groups,
        gains=tables.gains(groups),
        rows=record.rows,
        kind_names=KIND_NAMES,
        budget=budget_sentence(groups, tried_zero_shot=details.get("tried_zero_shot") is True),
        tried_zero_shot=details.get("tried_zero_shot") is True,
        learning_rates=_candidates(details, "learning_rates"),
        scratch_learning_rates=_candidates(details, "scratch_learning_rates"),
        num_test_samples=details.get("num_test_samples"),
        num_seeds=details.get("num_seeds"),
        settings=tables.compare_settings(details.get("pretrain_system"), details.get("downstream_system")),
        parts=_parts(details.get("seconds_by_part")),
        seconds=summary.seconds,
        num_params=details.get("num_params"),
        environment=environment_entries(record.environment),
        recipe=record.recipe,
    )


def render_run(record: RunRecord) -> str:
    """Return the page of a single run as HTML."""
    return template("template.html").render(
        kind="run",
        alone=record.status == MODEL_ALONE,
        title=record.path.resolve().name,
        description=f"Fine-tuned from {record.parent.strip()}" if record.parent else None,
        headline=run_headline(record),
        remarks=run_remarks(record),
        warnings=[],
        tiles=_run_tiles(record),
        score_sets=[(scores, tables.summarize_scores(scores)) for scores in record.score_sets],
        score_figure=_score_picture(record),
        training_figures=_curve_pictures(record),
        nothing_trained=record.kept is not None,
        environment=environment_entries(record.environment),
        recipe=record.recipe,
    )


def _study_tiles(record: StudyRecord, groups: Sequence[Group]) -> list[Tile]:
    summary, count = record.summary, headline_count(record.summary)
    tested = record.summary.details.get("num_test_samples")
    on_test = f"mean over {count_text(tested)} unseen samples" if isinstance(tested, int) else "mean over test samples"
    tiles = [
        Tile("In distribution", number_text(summary.in_distribution), "on the pre-training system"),
        Tile("Zero-shot", number_text(summary.zero_shot), "shifted system, no sample"),
    ]
    if count is not None:
        gain = tables.gains(tables.groups_from_summary(summary)).get(count)
        tiles += [
            Tile(f"Fine-tuned on {count_text(count)}", number_text(summary.few_shot[count]), on_test),
            Tile(
                f"From scratch on {count_text(count)}",
                number_text(summary.from_scratch[count]),
                "same samples, same test",
            ),
            Tile(
                f"Gain on {count_text(count)}", f"{gain:.1f}×" if gain else tables.MISSING, "scratch error ÷ fine-tuned"
            ),
        ]
    models = f"{plural(len(record.rows), 'model')} evaluated" if record.rows else plural(len(groups), "result")
    return [*tiles, Tile("Whole study", duration_text(summary.seconds), models)]


def _run_tiles(record: RunRecord) -> list[Tile]:
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


def _error_picture(groups: Sequence[Group], num_seeds: Any) -> Picture | None:
    try:
        figure = figures.error_against_samples(groups)
    except ValueError:
        return None
    told = [
        f"{KIND_NAMES[g.kind]}{f' on {count_text(g.num_samples)}' if g.num_samples else ''}: {number_text(g.mean)}"
        for g in groups
    ]
    most = max((len(group.errors) for group in groups), default=1)
    band = (
        "; lines join means over seeds, bands reach from the lowest to the highest seed (they are not confidence "
        "intervals), small marks are single seeds"
        if most > 1
        else "; one model a point, so no spread over seeds is shown"
    )
    caption = (
        "Relative L2 error on unseen samples of the shifted system against the number of samples trained on, both axes "
        f"logarithmic{band}. The gain above each count is the error from scratch over the error fine-tuned."
    )
    alt = "Error against number of downstream samples. " + "; ".join(told) + "."
    return Picture(data_uri(to_svg(figure)), alt, caption)


def _field_pictures(examples: Examples | None) -> list[Picture]:
    if examples is None:
        return []
    pictures = []
    for index in range(min(_MOST_EXAMPLES, examples.num_examples)):
        errors = {kind: sample_error(examples, kind, index) for kind in examples.predictions}
        told = ", ".join(
            f"{examples.labels.get(kind, KIND_NAMES[kind])} {number_text(e)}" for kind, e in errors.items()
        )
        alt = f"Example {index + 1}: maps of forcing, truth, predictions and their errors. Relative L2 errors: {told}."
        svg = to_svg(fields_side_by_side(examples, index))
        pictures.append(Picture(data_uri(svg), alt, f"Example {index + 1}. Relative L2 error: {told}.", wide=True))
    return pictures


def _training_pictures(record: StudyRecord) -> list[Picture]:
    pictures = []
    for curve in record.curves:
        if curve.kind == "pretrain" and (curve.losses or curve.errors):
            caption = f"Pre-training ({curve.name}): loss and validation error against the optimizer step, logarithmic."
            pictures.append(Picture(data_uri(to_svg(figures.training_curves(curve))), caption, caption))
    adapted = [curve for curve in record.curves if curve.kind in ("few_shot", "from_scratch")]
    if any(curve.losses or curve.errors for curve in adapted):
        caption = (
            f"{plural(len(adapted), 'adaptation')}, one logarithmic scale for both panels. {_history_caption(adapted)}"
        )
        alt = f"Histories of {plural(len(adapted), 'adaptation')}, fine-tuned left, from scratch right."
        pictures.append(Picture(data_uri(to_svg(figures.adaptation_curves(adapted))), alt, caption))
    return pictures


def _history_caption(adapted: Sequence[Curve]) -> str:
    validated = sum(len(curve.errors) > 1 for curve in adapted)
    if not validated:
        return (
            "No validation was logged, so what is shown is the training loss; on few samples a low value means "
            "memorizing, not accuracy on unseen ones."
        )
    dashed = " (dashed: training loss of runs that logged no validation)" if validated < len(adapted) else ""
    return (
        f"Validation error against the optimizer step{dashed}. Few downstream samples also mean few validation "
        "samples, so the level seen here is noisier than the test error."
    )


def _curve_pictures(record: RunRecord) -> list[Picture]:
    if not (record.curve.losses or record.curve.errors):
        return []
    caption = "Training loss and validation error against the optimizer step, logarithmic."
    return [Picture(data_uri(to_svg(figures.training_curves(record.curve))), caption, caption)]


def _score_picture(record: RunRecord) -> Picture | None:
    many = len(record.score_sets) > 1
    errors = {
        f"{place}: {channel}" if many else channel: values
        for place, scores in enumerate(record.score_sets, start=1)
        for channel, values in scores.errors.items()
    }
    try:
        figure = figures.error_distribution(errors)
    except ValueError:
        return None
    caption = "Share of the samples whose relative L2 error lies below a value, one line a channel"
    caption += " of each set of samples, numbered as in the table." if many else "."
    return Picture(data_uri(to_svg(figure)), caption, caption)


@dataclass(frozen=True)
class _Part:
    name: str
    seconds: float
    share: float
    """Percent of the sum of all parts."""


def _parts(seconds_by_part: Any) -> list[_Part]:
    if not isinstance(seconds_by_part, Mapping):
        return []
    known = {str(name): float(value) for name, value in seconds_by_part.items() if isinstance(value, int | float)}
    total = sum(known.values())
    return [
        _Part(KIND_NAMES.get(name, name.replace("_", " ")), value, 100 * value / total if total > 0 else 0.0)
        for name, value in known.items()
    ]
