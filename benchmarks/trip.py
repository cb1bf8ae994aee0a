"""How far one adaptation of a study travels through the code: files and rooms it enters, calls that go between them.

Carries out a study of one pre-training and one fine-tuning at toy size in this process, first without looking, so that
what is done once (imports, compiled kernels) is done, then with a tracer on every call between files of the package
while the fine-tuning is carried out, from the recipe to its row in the table. Steps of training are the same calls over
and over, so a crossing counts once however often it is taken.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import scifm
from harness import Row, argument_parser, publish
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import plan_jobs, study

PACKAGE = Path(scifm.__file__).parent
RECIPE: dict[str, Any] = {
    "title": "A trip",
    "few_shot": [4],
    "from_scratch": [4],
    "seeds": [0],
    "sizes": ["small"],
    "pool_size": 8,
    "num_test_samples": 4,
    "networks": {"small": {"width": 4, "modes": 3, "num_layers": 2, "projection_width": 4, "latent_points": 8}},
    "data": {"num_points": 16, "num_validation_samples": 4, "num_normalization_samples": 8},
    "training": {"num_steps": 2, "batch_size": 4, "validate_every": 2, "checkpoint_every": 2},
    "adapt": {
        "learning_rates": [1e-3, 3e-3],
        "scratch_learning_rates": [1e-3, 3e-3],
        "training": {"num_steps": 2, "validate_every": 2, "checkpoint_every": 2},
    },
    "sources": [{"name": "poisson", "systems": [{"name": "poisson", "knobs": {"anisotropy": [1, 5]}}]}],
    "targets": [{"name": "far", "system": {"name": "poisson", "knobs": {"anisotropy": [5, 10]}}}],
}


class Tracer:
    """Counts calls between functions of different files of the package."""

    def __init__(self) -> None:
        self.crossings: Counter[tuple[str, str, str]] = Counter()
        self.files: set[str] = set()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call" or frame.f_back is None:
            return
        callee = self._file(frame)
        if callee is None:
            return
        self.files.add(callee)
        caller, back = None, frame.f_back
        while back is not None and caller is None:  # through what other packages put in between
            caller, back = self._file(back), back.f_back
        if caller is not None and caller != callee:
            self.crossings[caller, callee, frame.f_code.co_qualname] += 1

    @staticmethod
    def _file(frame: FrameType) -> str | None:
        path = Path(frame.f_code.co_filename)
        return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else None


def room(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def travelled() -> Tracer:
    """Return what was seen of the fine-tuning; its pre-training is done before."""
    recipe = StudyRecipe.read(RECIPE)
    tracer = Tracer()
    with tempfile.TemporaryDirectory() as folder:
        study(recipe, out=Path(folder) / "before")
        plan = plan_jobs(recipe, Path(folder) / "after")
        pretraining = next(task for task in plan.tasks.values() if not task.needs and "pretrain" in task.name)
        adaptation = next(task for task in plan.tasks.values() if task.needs)
        parent = pretraining.carry_out(recipe, plan.folder)
        sys.setprofile(tracer)
        try:
            adaptation.carry_out(recipe, plan.folder, parent)
        finally:
            sys.setprofile(None)
    return tracer


def main() -> None:
    args = argument_parser(__doc__).parse_args()
    tracer = travelled()
    between = {(room(a), room(b), name) for a, b, name in tracer.crossings if room(a) != room(b)}
    case = "one fine-tuning of a study"
    rows = [
        Row(case, "files entered", len(tracer.files), "files"),
        Row(case, "rooms entered", len({room(file) for file in tracer.files}), "rooms"),
        Row(case, "different calls from file to file", len(tracer.crossings), "calls"),
        Row(case, "different calls from room to room", len(between), "calls"),
        Row(case, "pairs of files that call", len({(a, b) for a, b, _ in tracer.crossings}), "pairs"),
    ]
    publish("The trip of an adaptation through the code", rows, args.json)


if __name__ == "__main__":
    main()
