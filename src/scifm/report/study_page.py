"""The page of a study: verdict, figures that answer to pointer and keyboard, tables; whole without scripts."""

from __future__ import annotations

from pathlib import Path

from scifm.report.fields import Examples, field_drawing
from scifm.report.parts import Numbered, Picture, environment_entries, render
from scifm.report.study import read_study
from scifm.report.study_figures import STUDY_FIGURES
from scifm.report.study_tables import STUDY_TABLES, run_table, settings_table
from scifm.report.study_words import study_words
from scifm.wording import number_text

__all__ = ["render_study"]

_MOST_EXAMPLES = 3


def render_study(folder: Path) -> str:
    """Return the page of a study as HTML.

    Raises:
        RunError: if a file of it cannot be read.
    """
    study, numbered = read_study(folder), Numbered()
    analysis = study.analysis
    tables = {name: made if made.rows else None for name, make in STUDY_TABLES.items() for made in [make(study)]}
    return render(
        "study.html",
        title=analysis.title or folder.resolve().name,
        verdict=analysis.verdict,
        audits=sorted(analysis.audits, key=lambda audit: bool(audit.good)),
        joint=analysis.scaling.joint,
        num_seeds=analysis.num_seeds,
        num_params={size.name: size.num_params for size in study.sizes},
        seconds=analysis.seconds,
        settings=settings_table(study.settings),
        environment=environment_entries(study.environment),
        recipe=study.recipe,
        fields=_field_pictures(study.examples),
        figures={name: numbered(name, make(study)) for name, make in STUDY_FIGURES.items()},
        runs=run_table(study.rows) if study.rows else None,
        **study_words(study),
        **tables,
    )


def _field_pictures(examples: Examples | None) -> list[Picture]:
    if examples is None:
        return []
    pictures = []
    for i in range(min(_MOST_EXAMPLES, examples.num_examples)):
        errors = ", ".join(f"{examples.label(k)} {number_text(examples.error(k, i))}" for k in examples.predictions)
        maps = f"Example {i + 1}: maps of forcing, truth, predictions and their errors. Relative L2 errors: {errors}."
        pictures.append(Picture(field_drawing(examples, i, maps), f"Example {i + 1}. Relative L2 error: {errors}."))
    return pictures
