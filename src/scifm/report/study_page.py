"""The page of a study: verdict, figures that answer to pointer and keyboard, tables; whole without scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scifm.findings.figure import Figure
from scifm.report.fields import Examples, field_drawing
from scifm.report.parts import Numbered, Picture, environment_entries, render
from scifm.report.records import Curve
from scifm.report.run_page import training_figure
from scifm.report.study import Study, read_study
from scifm.report.study_figures import (
    adaptation_figure,
    error_figure,
    mixing_figure,
    scaling_figure,
    shift_figure,
    size_figure,
)
from scifm.report.study_tables import STUDY_TABLES, run_table, settings_table
from scifm.report.study_words import (
    TaskErrors,
    audit_sentence,
    budget_sentence,
    error_remarks,
    facts,
    headline,
    level_text,
    remarks,
    shift_sentence,
    study_tiles,
)
from scifm.wording import KIND_NAMES, number_text, plural

__all__ = ["render_study"]

_MOST_EXAMPLES = 3
_MOST_HISTORIES = 4  # tasks, and pre-trainings, whose histories are drawn: more only make the page long


def render_study(folder: Path) -> str:
    """Return the page of a study as HTML.

    Raises:
        RunError: if a file of it cannot be read.
    """
    study, numbered = read_study(folder), Numbered()
    analysis = study.analysis
    alone = TaskErrors.of(study, analysis.targets[0]) if len(analysis.targets) == 1 else None
    tables = {name: made if made.rows else None for name, make in STUDY_TABLES.items() for made in [make(study)]}
    adapt = study.settings.get("adapt")
    adapt = adapt if isinstance(adapt, Mapping) else {}
    return render(
        "study.html",
        title=analysis.title or folder.resolve().name,
        facts=facts(study),
        headline=headline(alone) if alone else None,
        remarks=remarks(alone) if alone else [],
        tiles=study_tiles(study, alone) if alone else [],
        verdict=analysis.verdict,
        error_remarks=error_remarks(study),
        shift_sentence=shift_sentence(study),
        audits=sorted(analysis.audits, key=lambda audit: bool(audit.good)),
        audit_sentence=audit_sentence(study),
        joint=analysis.scaling.joint,
        level=level_text(study),
        num_seeds=analysis.num_seeds,
        num_params={size.name: size.num_params for size in study.sizes},
        seconds=analysis.seconds,
        budget=budget_sentence(study.rows or (), tried_zero_shot=adapt.get("try_zero_shot") is True),
        learning_rates=adapt.get("learning_rates") or [],
        scratch_learning_rates=adapt.get("scratch_learning_rates") or [],
        settings=settings_table(study.settings),
        environment=environment_entries(study.environment),
        recipe=study.recipe,
        fields=_field_pictures(study.examples),
        figures={name: numbered(name, make(study)) for name, make in _FIGURES.items()},
        runs=run_table(study.rows) if study.rows else None,
        **tables,
    )


def _runs(study: Study, **wanted: Any) -> list[Mapping[str, Any]]:
    """Return the rows of the table with some values, each run once."""
    rows = [row for row in study.rows or () if row["run"] and all(row.get(k) in v for k, v in wanted.items())]
    return list({row["run"]: row for row in rows}.values())


def _pretraining(study: Study) -> Figure | None:
    """Return the histories of the pre-trainings of the main size, the first seed of each source."""
    found: dict[str, Curve] = {}
    for row in _runs(study, kind=("zero_shot", "in_distribution"), size=(study.main_size,)):
        label = study.source(row["source"]).label or row["source"]
        if label not in found and len(found) < _MOST_HISTORIES:
            found[label] = study.curve(row["run"])
    which = "; ".join(found) if len(found) == 1 else f"the first seed of {plural(len(found), 'source')}"
    caption = f"Pre-training ({which}): loss and validation error against the optimizer step, both logarithmic."
    return training_figure(found, caption)


def _adaptations(study: Study) -> Figure | None:
    """Return the histories of adaptations from the main source in the main size, of the first tasks."""
    tasks: dict[str, dict[str, Sequence[tuple[int, Curve]]]] = {}
    for target in study.analysis.targets[:_MOST_HISTORIES]:
        wanted = {"target": (target.name,), "size": (study.main_size,)}
        tuned = _runs(study, kind=("few_shot",), source=(study.main_source(target),), **wanted)
        ways = {"few_shot": tuned, "from_scratch": _runs(study, kind=("from_scratch",), **wanted)}
        tasks[study.target_label(target.name)] = {
            KIND_NAMES[way]: [(int(row["num_samples"]), study.curve(row["run"])) for row in rows]
            for way, rows in ways.items()
        }
    return adaptation_figure(tasks, num_left_out=len(study.analysis.targets) - len(tasks))


_FIGURES: Mapping[str, Callable[[Study], Figure | None]] = {
    "error": error_figure,
    "size": size_figure,
    "shift": shift_figure,
    "mixing": mixing_figure,
    "scaling": scaling_figure,
    "pretraining": _pretraining,
    "adaptations": _adaptations,
}
"""In the order of their numbers, by the name the page gives them; None has nothing to show."""


def _field_pictures(examples: Examples | None) -> list[Picture]:
    if examples is None:
        return []
    pictures = []
    for i in range(min(_MOST_EXAMPLES, examples.num_examples)):
        errors = ", ".join(f"{examples.label(k)} {number_text(examples.error(k, i))}" for k in examples.predictions)
        maps = f"Example {i + 1}: maps of forcing, truth, predictions and their errors. Relative L2 errors: {errors}."
        pictures.append(Picture(field_drawing(examples, i, maps), f"Example {i + 1}. Relative L2 error: {errors}."))
    return pictures
