"""The page of a single run, or of a model alone."""

from __future__ import annotations

from pathlib import Path

from scifm.report.records import MODEL_ALONE, RunRecord, read_run
from scifm.report.run_figures import distribution_figure, training_figure
from scifm.report.tables import score_table
from scifm.report.template import Numbered, Tile, environment_entries, render
from scifm.wording import count_text, duration_text, number_text, plural

__all__ = ["render_run", "run_headline", "run_remarks"]


def render_run(folder: Path) -> str:
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
        findings=[(finding, numbered(f"finding-{i}", finding.figure)) for i, finding in enumerate(record.findings)],
        training_figure=numbered("training", training_figure({"": record.curve}, history)),
        nothing_trained=record.kept is not None,
        environment=environment_entries(record.environment),
        recipe=record.recipe,
    )


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
        told = ", ".join(f"{number_text(mean, digits=2)} ({channel})" for channel, mean in means.items())
        over = f"mean over {plural(scored.num_samples, 'sample')}"
        return f"{name} reaches a relative L2 error of {told}, {over}: {scored.text}."
    if record.curve.errors:
        step = count_text(record.curve.valid_steps[-1])
        error = number_text(record.curve.errors[-1], digits=2)
        return f"{name} has a validation relative L2 error of {error} at step {step}; it holds no test scores."
    if record.kept is not None:
        return f"{name} kept the pre-trained weights; it holds no test scores."
    if record.status == MODEL_ALONE:
        return f"{name} holds no scores: they stay with the run, or where 'scifm evaluate --out' put them."
    return f"{name} has recorded no error yet; 'scifm evaluate' records one."


def run_remarks(record: RunRecord) -> list[str]:
    """Return what must be said beside the headline of a run: that it is not complete, or that nothing was trained."""
    said = []
    if len(record.score_sets) > 1:
        said.append(f"It was scored on {len(record.score_sets)} sets of samples; the headline tells the latest.")
    if record.status not in ("complete", MODEL_ALONE):
        said.append(f"The run is not complete; its status: {record.status}.")
    if record.kept is not None:
        said.append(f"Nothing was trained. Fine-tuning kept {record.kept}.")
    return said
