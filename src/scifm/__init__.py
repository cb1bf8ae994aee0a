"""SciFM: foundation models for scientific machine learning.

Pre-train one operator on simulated physical systems, move it to a shifted one with no example or a few, compare with
training from scratch, and see by how much it helped::

    import scifm

    poisson = scifm.Poisson(anisotropy=scifm.Knob(1, 5))
    store = scifm.generate(poisson, num_samples=4096, num_points=64, seed=0, path="stores/poisson-1-5")
    run = scifm.pretrain("poisson-small", store=store)
    tuned = scifm.finetune(run, poisson.where(anisotropy=[5, 10]), num_samples=64)
    scores = scifm.evaluate(tuned, store.split("test"))
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Names load on first use, so that importing scifm costs no more than what is used of it.
_HOMES = {
    "AdaptRecipe": "scifm.training.finetune",
    "AdvectionDiffusion": "scifm.systems.advection_diffusion",
    "Batch": "scifm.fields.batch",
    "Burgers": "scifm.systems.burgers",
    "Ensemble": "scifm.models.ensemble",
    "FNO": "scifm.models.fno",
    "FNOConfig": "scifm.models.fno",
    "Grid": "scifm.fields.grid",
    "Helmholtz": "scifm.systems.helmholtz",
    "Knob": "scifm.systems.knobs",
    "ModuleOperator": "scifm.models.module_operator",
    "Operator": "scifm.models.operator",
    "Poisson": "scifm.systems.poisson",
    "PretrainRecipe": "scifm.training.pretrain",
    "Run": "scifm.runs",
    "SciFMError": "scifm.errors",
    "Signature": "scifm.fields.batch",
    "Store": "scifm.data.store",
    "Stream": "scifm.data.stream",
    "StudyRecipe": "scifm.studies.recipe",
    "System": "scifm.systems.system",
    "Window": "scifm.fields.window",
    "bands": "scifm.models.bands",
    "calibrate": "scifm.models.bands",
    "check_operator": "scifm.trust.examine",
    "compress": "scifm.distillation.compress",
    "corrected": "scifm.models.neighbours",
    "embed": "scifm.evaluation.embedding",
    "evaluate": "scifm.evaluation.evaluate",
    "finetune": "scifm.training.finetune",
    "from_scratch": "scifm.training.finetune",
    "generate": "scifm.data.generate",
    "laplace": "scifm.models.laplace",
    "list_models": "scifm.models.registry",
    "load_operator": "scifm.models.registry",
    "page": "scifm.report.page",
    "pretrain": "scifm.training.pretrain",
    "rollout": "scifm.models.rollout",
    "shown": "scifm.models.in_context",
    "study": "scifm.studies.study",
}
_ROOMS = (
    "applications",
    "data",
    "distillation",
    "evaluation",
    "fields",
    "models",
    "objectives",
    "report",
    "studies",
    "systems",
    "training",
    "trust",
)

__all__ = sorted([*_HOMES, *_ROOMS])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"scifm.{name}")
    raise AttributeError(f"module 'scifm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
