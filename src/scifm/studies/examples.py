"""Fields to look at: the first test samples of a study's first task, answered by every kind of operator.

The pictures show the number of samples in the middle of those fine-tuned on, beside training from scratch on as many.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from scifm.evaluation.evaluate import evaluate
from scifm.models.folder import holds_operator
from scifm.models.hub import load_operator
from scifm.runs import write_atomically
from scifm.studies.jobs import Adaptation, Pretraining, draw_test, example_jobs
from scifm.studies.recipe import StudyRecipe

__all__ = ["write_examples"]


def write_examples(recipe: StudyRecipe, folder: Path, results: dict[str, Any]) -> None:
    """Write ``examples.npz`` into a study's folder, where it is not there yet, and drop weights kept for it alone.

    Args:
        recipe: of the study.
        folder: of the study.
        results: of its jobs, by name.

    Raises:
        RunError: if an operator cannot be read or the file cannot be written.
    """
    jobs = example_jobs(recipe)
    models = {kind: folder / results[job.name]["run"] / "model" for kind, job in jobs.items()}
    file = folder / "examples.npz"
    if jobs and not file.is_file():
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **_arrays(recipe, jobs, models))
        write_atomically(file, buffer.getvalue())
    if recipe.keep_weights == "pretrained":
        for kind in models.keys() - {"zero_shot"}:
            shutil.rmtree(models[kind], ignore_errors=True)


def _arrays(recipe: StudyRecipe, jobs: dict[str, Pretraining | Adaptation], models: dict[str, Path]) -> dict[str, Any]:
    target = recipe.targets[0]
    some = draw_test(recipe, target.name, recipe.origin(target)).select(slice(0, recipe.num_examples))
    count = max((job.num_samples for job in jobs.values() if isinstance(job, Adaptation)), default=0)
    arrays: dict[str, Any] = {
        "forcing": some.field("forcing")[:, 0].numpy(),
        "truth": some.require_targets()[:, 0, 0].numpy(),
        "coefficients": some.coefficients.numpy(),
        "coefficient_names": np.array(some.signature.coefficients),
        "few_shot_label": np.array(f"fine-tuned on {count}"),
        "from_scratch_label": np.array(f"from scratch on {count}"),
        "extent": np.array(some.grid.extent),
    }
    for kind, model in models.items():
        if holds_operator(model):  # of a study made before there were examples, weights may be gone
            operator = load_operator(model)
            arrays[kind] = operator.predict(some).require_targets()[:, 0, 0].numpy()
            arrays[f"sample_error_{kind}"] = evaluate(operator, some).values["relative_l2"][:, 0, 0].numpy()
    return arrays
