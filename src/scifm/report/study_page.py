"""The page of a transfer study: verdict, figures that answer to pointer and keyboard, tables; whole without scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from markupsafe import Markup

from scifm.report import study_tables
from scifm.report.drawing import Drawing, Key
from scifm.report.error_figure import error_drawings, error_keys, undrawn_points
from scifm.report.mixing_figure import mixing_drawing, mixing_keys
from scifm.report.scaling_figure import scaling_drawings, scaling_keys
from scifm.report.shift_figure import best_measure, correlation_words, drawn_tasks, shift_drawing, shift_keys
from scifm.report.size_figure import size_drawings, size_keys
from scifm.report.study_records import TransferRecord
from scifm.report.study_tables import table_or_none
from scifm.report.study_view import StudyView, short_count
from scifm.report.tables import count_text
from scifm.report.template import environment_entries, stored_text, template

__all__ = ["FigurePart", "render_transfer_study"]


@dataclass(frozen=True)
class FigurePart:
    """A figure of one or more drawings under one legend."""

    name: str
    drawings: tuple[Drawing, ...]
    keys: tuple[Key, ...]
    caption: str
    small: bool = False


@cache
def _script() -> tuple[Markup, str]:
    """Return the script and the hash under which the page admits it, and no other."""
    text = stored_text("study.js")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"sha256-{digest}"


def _counted(count: int, one: str, many: str) -> str:
    return f"{count_text(count)} {one if count == 1 else many}"


def _facts(view: StudyView) -> list[str]:
    analysis = view.analysis
    systems = {target.system for target in analysis.targets}
    facts = [_counted(len(systems), "system", "systems"), _counted(len(analysis.targets), "task", "tasks")]
    if analysis.sizes:
        facts.append(_counted(len(analysis.sizes), "size", "sizes"))
    if analysis.num_seeds is not None:
        facts.append(_counted(analysis.num_seeds, "seed", "seeds"))
    if analysis.num_test_samples is not None:
        facts.append(f"{_counted(analysis.num_test_samples, 'test sample', 'test samples')} a task")
    return [*facts, f"intervals of {_level(view)}"] if analysis.level else facts


def _level(view: StudyView) -> str:
    return "" if view.analysis.level is None else f"{100 * view.analysis.level:g}\N{NO-BREAK SPACE}%"


def _main_size_words(view: StudyView) -> str:
    size = next((size for size in view.sizes if size.name == view.main_size), None)
    return "" if size is None else f" Size: {size.name}, {short_count(size.num_params)} parameters."


def _has_intervals(view: StudyView) -> bool:
    return any(point.low is not None for curve in view.curves(("few_shot", "from_scratch")) for point in curve.points)


def _error_caption(view: StudyView) -> str:
    spread = (
        f"bands are intervals of {_level(view)} over seeds"
        if _has_intervals(view) and view.analysis.level
        else ("bands are intervals over seeds" if _has_intervals(view) else "no interval over seeds was recorded")
    )
    return (
        "Mean relative L2 error on unseen samples against the number of samples of the task trained on, both axes "
        "logarithmic; in each row one system, from the mildest shift to the strongest, on one vertical axis. Points "
        f"are medians over seeds, {spread}.{_main_size_words(view)}"
    )


def _error_remarks(view: StudyView) -> list[str]:
    remarks = []
    if not view.curves(("from_scratch",)):
        remarks.append("No model was trained from scratch, so nothing here says what pre-training is worth.")
    foreign = [
        f"{view.target_label(target.name)} from {view.source_label(name)}"
        for target in view.analysis.targets
        if (name := view.main_source(target)) is not None and view.source(name).systems != (target.system,)
    ]
    if foreign:
        remarks.append(
            f"Without a pre-training on their own system alone, these tasks are shown otherwise: {'; '.join(foreign)}."
        )
    lost = undrawn_points(view)
    if lost:
        remarks.append(f"{_counted(lost, 'point has', 'points have')} no finite error; a line breaks there.")
    return remarks


def _shift_sentence(view: StudyView) -> str:
    measure = best_measure(view)
    if measure is None:
        return ""
    counted = f" over {_counted(measure.num_tasks, 'task', 'tasks')}" if measure.num_tasks is not None else ""
    name, words = measure.label or measure.name, correlation_words(measure)
    if measure.rank_correlation is None:
        return f"Shown is {name}; {words}."
    said = f"By {name} and by zero-shot error the tasks stand in {words}{counted}"
    others = len(view.analysis.shift.measures) > 1
    return f"{said}; of the measures tried it orders them best." if others else f"{said}."


def _shift_caption(view: StudyView) -> str:
    measure = best_measure(view)
    drawn = drawn_tasks(view, measure) if measure else []
    sizes = ", ".join(dict.fromkeys(task.size for task in drawn))
    return (
        "Zero-shot error against the measure of the shift, one point a task and source; numbers count a system's "
        f"shifts from 1, the mildest, and faint lines join them. Size: {sizes}."
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


def _figures(view: StudyView) -> dict[str, FigurePart | None]:
    """Return the figures, numbered in their order, None for one that has nothing to show."""
    made: dict[str, tuple[Sequence[Drawing | None], list[Key], str]] = {
        "error": (error_drawings(view), error_keys(view), _error_caption(view)),
        "size": (size_drawings(view), size_keys(view), _SIZE_CAPTION),
        "shift": ([shift_drawing(view)], shift_keys(view), _shift_caption(view)),
        "mixing": ([mixing_drawing(view)], mixing_keys(view), _MIXING_CAPTION),
        "scaling": (scaling_drawings(view), scaling_keys(view), _SCALING_CAPTION),
    }
    found: dict[str, FigurePart | None] = dict.fromkeys(made)
    number = 0
    for name, (drawings, keys, caption) in made.items():
        drawn = tuple(drawing for drawing in drawings if drawing is not None)
        if drawn:
            number += 1
            told = f"Figure {number}. {caption}"
            found[name] = FigurePart(f"figure-{name}", drawn, tuple(keys), told, small=name == "scaling")
    return found


def _tables(view: StudyView, record: TransferRecord) -> dict[str, Any]:
    makers = {
        "errors": study_tables.error_table,
        "gains": study_tables.gain_table,
        "other_gains": study_tables.gain_list,
        "needs": study_tables.need_table,
        "converged": study_tables.converged_table,
        "crossovers": study_tables.crossover_table,
        "shift_measures": study_tables.shift_table,
        "mixing": study_tables.mixing_table,
        "laws": study_tables.scaling_table,
        "frontier": study_tables.frontier_table,
    }
    tables = {name: table_or_none(make(view)) for name, make in makers.items()}
    return tables | {"runs": study_tables.run_table(record.rows) if record.rows else None}


def _audit_sentence(view: StudyView) -> str:
    audits = view.analysis.audits
    failed = sum(not audit.good for audit in audits)
    if failed:
        return (
            f"{failed} of {_counted(len(audits), 'audit', 'audits')} did not pass: read the results with that in mind."
        )
    return f"All {len(audits)} audits passed." if len(audits) > 1 else "The audit passed."


def render_transfer_study(record: TransferRecord) -> str:
    """Return the page of a transfer study as HTML."""
    view = StudyView(record.analysis)
    script, script_hash = _script()
    return template("study.html").render(
        title=record.analysis.title or record.path.resolve().name,
        facts=_facts(view),
        verdict=record.analysis.verdict,
        error_remarks=_error_remarks(view),
        shift_sentence=_shift_sentence(view),
        audits=sorted(record.analysis.audits, key=lambda audit: audit.good),
        audit_sentence=_audit_sentence(view),
        joint=record.analysis.scaling.joint,
        level=_level(view),
        num_seeds=record.analysis.num_seeds,
        environment=environment_entries(record.environment),
        recipe=record.recipe,
        script=script,
        script_hash=script_hash,
        figures=_figures(view),
        **_tables(view, record),
    )
