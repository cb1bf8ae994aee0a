"""How far things travel through the code: one adaptation of a study, a recipe through a study, a batch through a march.

Of the adaptation every call is watched, of the other two those that are handed the thing, its own methods among them:
which files it enters, which pairs of files hand it on, and in how many of these pairs it is handed in both directions.

Carries out a study of one pre-training and one fine-tuning at toy size in this process, first without looking, so that
what is done once (imports, compiled kernels) is done, then with a tracer on every call between files of the package
while the fine-tuning is carried out, from the recipe to its row in the table. Steps of training are the same calls over
and over, so a crossing counts once however often it is taken.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import scifm
from harness import Row, argument_parser, publish
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.models.fno import FNO, FNOConfig
from scifm.models.rollout import rollout
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import plan_jobs, study
from scifm.systems.burgers import Burgers

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
    """Counts calls between functions of different files of a package; of a class: those that are handed one of it."""

    def __init__(self, kind: type | None = None, package: Path = PACKAGE) -> None:
        self.kind, self.package = kind, package
        self.known: dict[str, str | None] = {}  # files by their paths: this is asked millions of times
        self.crossings: Counter[tuple[str, str, str]] = Counter()
        self.files: set[str] = set()

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """Who calls whom."""
        return {(caller, callee) for caller, callee, _ in self.crossings}

    @property
    def both_ways(self) -> int:
        """How many pairs of files call each other."""
        return len({frozenset(pair) for pair in self.pairs if pair[::-1] in self.pairs})

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call" or frame.f_back is None:
            return
        callee = self._file(frame)
        if callee is None or not self._is_handed(frame):
            return
        self.files.add(callee)
        caller, back = None, frame.f_back
        while back is not None and caller is None:  # through what other packages put in between
            caller, back = self._file(back), back.f_back
        if caller is not None and caller != callee:
            self.crossings[caller, callee, frame.f_code.co_qualname] += 1

    def _is_handed(self, frame: FrameType) -> bool:
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        return self.kind is None or any(isinstance(frame.f_locals.get(name), self.kind) for name in names)

    def _file(self, frame: FrameType) -> str | None:
        name = frame.f_code.co_filename
        if name not in self.known:
            path = Path(name)
            within = path.is_relative_to(self.package)
            self.known[name] = path.relative_to(self.package).as_posix() if within else None
        return self.known[name]


@contextmanager
def watching(tracer: Tracer) -> Iterator[Tracer]:
    """Let a tracer see every call."""
    sys.setprofile(tracer)
    try:
        yield tracer
    finally:
        sys.setprofile(None)


def room(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def travelled() -> Tracer:
    """Return what was seen of the fine-tuning; its pre-training is done before."""
    recipe = StudyRecipe.read(RECIPE)
    with tempfile.TemporaryDirectory() as folder:
        study(recipe, out=Path(folder) / "before")
        plan = plan_jobs(recipe, Path(folder) / "after")
        pretraining = next(task for task in plan.tasks.values() if not task.needs and "pretrain" in task.name)
        adaptation = next(task for task in plan.tasks.values() if task.needs)
        parent = pretraining.carry_out(recipe, plan.folder)
        with watching(Tracer()) as tracer:
            adaptation.carry_out(recipe, plan.folder, parent)
    return tracer


def through_a_study() -> Tracer:
    """Return where the recipe of a study goes until it is analyzed."""
    with tempfile.TemporaryDirectory() as folder, watching(Tracer(StudyRecipe)) as tracer:
        study(StudyRecipe.read(RECIPE), out=Path(folder) / "study")
    return tracer


def through_a_march() -> Tracer:
    """Return where batches go while an operator marches over three frames."""
    system = Burgers(num_frames=4)
    batch = system.sample(2, Grid.square(16, num_spatial_dims=1), torch.Generator().manual_seed(0))
    operator = FNO(system.signature, FNOConfig(**RECIPE["networks"]["small"]))
    with watching(Tracer(Batch)) as tracer:
        list(rollout(operator, batch, batch.num_frames))
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
        Row(case, "pairs of files that call", len(tracer.pairs), "pairs"),
    ]
    for case, tracer in (("a StudyRecipe in a study", through_a_study()), ("a Batch in a march", through_a_march())):
        rows += [
            Row(case, "files entered", len(tracer.files), "files"),
            Row(case, "rooms entered", len({room(file) for file in tracer.files}), "rooms"),
            Row(case, "pairs of files that hand it on", len(tracer.pairs), "pairs"),
            Row(case, "of these, in both directions", tracer.both_ways, "pairs"),
        ]
    publish("Trips through the code", rows, args.json)


if __name__ == "__main__":
    main()
