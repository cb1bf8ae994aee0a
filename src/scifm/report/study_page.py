"""The page of a study: verdict, figures that answer to pointer and keyboard, tables; whole without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scifm.findings.figure import Figure
from scifm.report.examples import Examples
from scifm.report.field_figure import field_drawing, sample_error
from scifm.report.gain_figures import error_figure, size_figure
from scifm.report.records import Curve
from scifm.report.run_figures import adaptation_figure, training_figure
from scifm.report.study_figures import best_measure, drawn_tasks, mixing_figure, scaling_figure, shift_figure
from scifm.report.study_records import StudyRecord, read_study
from scifm.report.study_tables import STUDY_TABLES, correlation_words, run_table
from scifm.report.study_view import KIND_NAMES, StudyView
from scifm.report.study_words import (
    TaskErrors,
    budget_sentence,
    error_remarks,
    facts,
    headline,
    level_text,
    remarks,
    study_tiles,
)
from scifm.report.tables import Table, parts_table, settings_table
from scifm.report.template import FigurePart, Numbered, Picture, environment_entries, render
from scifm.wording import number_text, plural, short_count

__all__ = ["render_study"]

_MOST_EXAMPLES = 3
_MOST_HISTORIES = 4  # tasks, and pre-trainings, whose histories are drawn: more only make the page long


def render_study(folder: Path) -> str:
    """Return the page of a study as HTML.

    Raises:
        RunError: if a file of it cannot be read.
    """
    record = read_study(folder)
    analysis, view = record.analysis, StudyView(record.analysis)
    alone = TaskErrors.of(view, analysis.targets[0]) if len(analysis.targets) == 1 else None
    tables = {name: made if made.rows else None for name, make in STUDY_TABLES.items() for made in [make(view)]}
    adapt = _table(record.settings.get("adapt"))
    return render(
        "study.html",
        title=analysis.title or folder.resolve().name,
        facts=facts(view),
        headline=headline(alone) if alone else None,
        remarks=remarks(alone) if alone else [],
        tiles=study_tiles(view, alone) if alone else [],
        verdict=analysis.verdict,
        error_remarks=error_remarks(view),
        shift_sentence=_shift_sentence(view),
        audits=sorted(analysis.audits, key=lambda audit: bool(audit.good)),
        audit_sentence=_audit_sentence(view),
        joint=analysis.scaling.joint,
        level=level_text(view),
        num_seeds=analysis.num_seeds,
        num_params={size.name: size.num_params for size in view.sizes},
        seconds=analysis.seconds,
        budget=budget_sentence(record.rows or (), tried_zero_shot=adapt.get("try_zero_shot") is True),
        learning_rates=adapt.get("learning_rates") or [],
        scratch_learning_rates=adapt.get("scratch_learning_rates") or [],
        settings=_settings_table(record),
        parts=parts_table(analysis.seconds_by_part) if analysis.seconds_by_part else None,
        environment=environment_entries(record.environment),
        recipe=record.recipe,
        fields=_field_pictures(record.examples),
        figures=_figures(view, record),
        runs=run_table(record.rows) if record.rows else None,
        **tables,
    )


# --- figures ----------------------------------------------------------------------------------------------------------


def _figures(view: StudyView, record: StudyRecord) -> dict[str, FigurePart | None]:
    """Return the figures, numbered in their order, None for one that has nothing to show."""
    numbered = Numbered()
    made: dict[str, Figure | None] = {
        "error": error_figure(view, _error_caption(view)),
        "size": size_figure(view, _SIZE_CAPTION),
        "shift": shift_figure(view, _shift_caption(view)),
        "mixing": mixing_figure(view, _MIXING_CAPTION),
        "scaling": scaling_figure(view, _SCALING_CAPTION),
        "pretraining": _pretraining(view, record),
        "adaptations": _adaptations(view, record),
    }  # fmt: skip
    return {name: numbered(name, figure) for name, figure in made.items()}


def _error_caption(view: StudyView) -> str:
    has_intervals = any(p.low is not None for c in view.curves(("few_shot", "from_scratch")) for p in c.points)
    of_level = f" of {level_text(view)}" if view.analysis.level else ""
    spread = f"bands are intervals{of_level} over seeds" if has_intervals else "no interval over seeds was recorded"
    size = next((size for size in view.sizes if size.name == view.main_size), None)
    words = "" if size is None else f" Size: {size.name}, {short_count(size.num_params)} parameters."
    gains = (
        " The factor above a count is the gain, error from scratch over error fine-tuned."
        if view.analysis.gains
        else ""
    )
    rows = "; in each row one system, from the mildest shift to the strongest, on one vertical axis"
    return (
        "Mean relative L2 error on unseen samples against the number of samples of the task trained on, both axes "
        f"logarithmic{rows if len(view.analysis.targets) > 1 else ''}. Points are medians over seeds, small dots "
        f"single seeds, {spread}.{gains}{words}"
    )


_SIZE_CAPTION = (
    "Error (above) and gain (beneath) against the number of parameters, all axes logarithmic, at fixed numbers of "
    "downstream samples. At a gain of 1, the horizontal line, pre-training makes no difference. Bars are intervals."
)
_MIXING_CAPTION = (
    "Error fine-tuned from a mixture over error fine-tuned from the specialist of the task's system, logarithmic, one "
    "panel a number of samples. Right of the line at 1 the specialist is better; the dashed line is at 1.5. Bars are "
    "intervals."
)


_SCALING_CAPTION = "Error against an axis of scale, both logarithmic: every seed, and the law fitted to them."


def _shift_caption(view: StudyView) -> str:
    measure = best_measure(view)
    drawn = drawn_tasks(view, measure) if measure else []
    sizes = ", ".join(dict.fromkeys(task.size for task in drawn))
    return (
        "Zero-shot error against the measure of the shift, one point a task and source; numbers count a system's "
        f"shifts from 1, the mildest, and faint lines join them. Size: {sizes}."
    )


def _shift_sentence(view: StudyView) -> str:
    measure = best_measure(view)
    if measure is None:
        return ""
    counted = f" over {plural(measure.num_tasks, 'task')}" if measure.num_tasks is not None else ""
    name, words = measure.label or measure.name, correlation_words(measure)
    if measure.rank_correlation is None:
        return f"Shown is {name}; {words}."
    said = f"By {name} and by zero-shot error the tasks stand in {words}{counted}"
    others = len(view.analysis.shift.measures) > 1
    return f"{said}; of the measures tried it orders them best." if others else f"{said}."


def _runs(record: StudyRecord, **wanted: Any) -> list[Mapping[str, Any]]:
    """Return the rows of the table with some values, each run once."""
    rows = [row for row in record.rows or () if row["run"] and all(row.get(k) in v for k, v in wanted.items())]
    return list({row["run"]: row for row in rows}.values())


def _pretraining(view: StudyView, record: StudyRecord) -> Figure | None:
    """Return the histories of the pre-trainings of the main size, the first seed of each source."""
    found: dict[str, Curve] = {}
    for row in _runs(record, kind=("zero_shot", "in_distribution"), size=(view.main_size,)):
        label = view.source(row["source"]).label or row["source"]
        if label not in found and len(found) < _MOST_HISTORIES:
            found[label] = record.curve(row["run"])
    told = "; ".join(found) if len(found) == 1 else f"the first seed of {plural(len(found), 'source')}"
    caption = f"Pre-training ({told}): loss and validation error against the optimizer step, both logarithmic."
    return training_figure(found, caption)


def _adaptations(view: StudyView, record: StudyRecord) -> Figure | None:
    """Return the histories of adaptations from the main source in the main size, of the first tasks."""
    tasks: dict[str, dict[str, Sequence[tuple[int, Curve]]]] = {}
    for target in view.analysis.targets[:_MOST_HISTORIES]:
        wanted = {"target": (target.name,), "size": (view.main_size,)}
        tuned = _runs(record, kind=("few_shot",), source=(view.main_source(target),), **wanted)
        scratch = _runs(record, kind=("from_scratch",), **wanted)
        ways = {KIND_NAMES["few_shot"]: tuned, KIND_NAMES["from_scratch"]: scratch}
        tasks[view.target_label(target.name)] = {
            way: [(int(row["num_samples"]), record.curve(row["run"])) for row in rows] for way, rows in ways.items()
        }
    histories = [curve for ways in tasks.values() for runs in ways.values() for _, curve in runs]
    validated = bool(histories) and all(len(curve.errors) > 1 for curve in histories)
    what = (
        "Validation error against the optimizer step. Few downstream samples also mean few validation samples, so the "
        "level seen here is noisier than the test error."
        if validated
        else "Training loss against the optimizer step; on few samples a low value means memorizing, not accuracy on "
        "unseen ones."
    )
    left_out = len(view.analysis.targets) - len(tasks)
    more = f" Of {plural(left_out, 'further task')} the histories stand in the folders of the runs." if left_out else ""
    return adaptation_figure(tasks, f"{plural(len(histories), 'adaptation')}, a line each. {what}{more}")


def _field_pictures(examples: Examples | None) -> list[Picture]:
    pictures = []
    for index in range(min(_MOST_EXAMPLES, examples.num_examples) if examples is not None else 0):
        assert examples is not None
        errors = {kind: sample_error(examples, kind, index) for kind in examples.predictions}
        told = ", ".join(f"{examples.labels.get(k, KIND_NAMES[k])} {number_text(e)}" for k, e in errors.items())
        label = (
            f"Example {index + 1}: maps of forcing, truth, predictions and their errors. Relative L2 errors: {told}."
        )
        caption = f"Example {index + 1}. Relative L2 error: {told}."
        pictures.append(Picture(field_drawing(examples, index, label), caption))
    return pictures


# --- words and tables -------------------------------------------------------------------------------------------------


def _audit_sentence(view: StudyView) -> str:
    audits = view.analysis.audits
    failed = sum(not audit.good for audit in audits)
    if failed:
        return f"{failed} of {plural(len(audits), 'audit')} did not pass: read the results with that in mind."
    return f"All {len(audits)} audits passed." if len(audits) > 1 else "The audit passed."


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _settings_table(record: StudyRecord) -> Table | None:
    """Return the two systems side by side, where the recipe moves one system to one task."""
    sources, targets = (record.settings.get(name) for name in ("sources", "targets"))
    if not (isinstance(sources, list) and isinstance(targets, list) and len(sources) == len(targets) == 1):
        return None
    systems, after = _table(sources[0]).get("systems"), _table(_table(targets[0]).get("system"))
    before = _table(systems[0]) if isinstance(systems, list) and len(systems) == 1 else {}
    return settings_table({k: v for k, v in before.items() if k != "weight"}, after) if before and after else None
