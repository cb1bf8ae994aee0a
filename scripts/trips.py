"""How an object goes through the house: the rooms it enters, the doors it takes, and those it goes back by.

    python scripts/trips.py [--against REV] [--list]    the working tree; beside it a revision of git; every door

Two small pieces of work are done, and each call watched that is handed an object of a class (its own methods count):
the `StudyRecipe` of a study of one pre-training, one fine-tuning and one training from scratch, until the study is
analyzed; the `Batch` of a march over three frames. A **room** is a file of the package. A **door** is a pair of rooms
in one of which a function is handed the object by a function in the other; each pair counts once, however often it is
gone through. A pair that is gone through in both directions is a **way back**.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

Door = tuple[str, str]
NETWORK = {"width": 4, "modes": 3, "num_layers": 2, "projection_width": 8, "latent_points": 8}
TRAINING = {"num_steps": 4, "batch_size": 4, "validate_every": 2, "log_every": 2, "checkpoint_every": 2}
POISSON = {"name": "poisson", "knobs": {"anisotropy": [1, 5]}}
STUDY: dict[str, Any] = {
    "title": "a trip",
    "seeds": [0],
    "few_shot": [4],
    "from_scratch": [4],
    "sizes": ["toy"],
    "models": {"toy": {"network": NETWORK}},
    "data": {"num_points": 16, "num_validation_samples": 4, "num_normalization_samples": 8},
    "training": {**TRAINING, "learning_rate": 1e-2, "accelerator": "cpu"},
    "adapt": {
        "learning_rates": [1e-3],
        "scratch_learning_rates": [1e-2],
        "refit_coefficients": "never",
        "training": {**TRAINING, "accelerator": "cpu"},
    },
    "sources": [{"name": "poisson", "systems": [POISSON]}],
    "targets": [{"name": "far", "system": {"name": "poisson", "knobs": {"anisotropy": [5, 10]}}}],
    "pool_size": 12,
    "num_test_samples": 6,
}


@contextmanager
def watched(kind: type, package: Path) -> Iterator[set[Door]]:
    """Collect the doors, by paths below the package, that objects of a class are handed through while this is open."""
    doors: set[Door] = set()

    def room(frame: FrameType | None) -> str:
        path = Path(frame.f_code.co_filename) if frame else package
        return str(path.relative_to(package)) if frame and path.is_relative_to(package) else ""

    def call(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not (entered := room(frame)):
            return
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(isinstance(frame.f_locals.get(name), kind) for name in names):
            giver = frame.f_back
            while giver is not None and not room(giver):  # through an executor, an iterator, torch
                giver = giver.f_back
            if (left := room(giver)) and left != entered:
                doors.add((left, entered))

    sys.setprofile(call)
    try:
        yield doors
    finally:
        sys.setprofile(None)


def of_a_study(package: Path) -> set[Door]:
    """Return the doors of a recipe."""
    from scifm.studies.recipe import StudyRecipe
    from scifm.studies.study import study

    with tempfile.TemporaryDirectory() as folder, watched(StudyRecipe, package) as doors:
        study(StudyRecipe.read(STUDY), out=Path(folder) / "study")
    return doors


def of_a_march(package: Path) -> set[Door]:
    """Return the doors of a batch."""
    import torch

    from scifm.fields.batch import Batch
    from scifm.fields.grid import Grid
    from scifm.models.fno import FNO, FNOConfig
    from scifm.models.rollout import rollout
    from scifm.systems.burgers import Burgers

    system = Burgers(num_frames=4)
    batch = system.sample(2, Grid.square(16, num_spatial_dims=1), torch.Generator().manual_seed(0))
    operator = FNO(system.signature, FNOConfig(**NETWORK))
    with watched(Batch, package) as doors:
        list(rollout(operator, batch, batch.num_frames))
    return doors


TRIPS: dict[str, Callable[[Path], set[Door]]] = {"StudyRecipe": of_a_study, "Batch in a rollout": of_a_march}


def walked(root: Path) -> dict[str, list[Door]]:
    """Return the doors of every trip through a checkout, which a process of its own walks."""
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--walk", str(root / "src" / "scifm")]
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return {name: [(left, entered) for left, entered in doors] for name, doors in json.loads(told).items()}


def table(trips: dict[str, list[Door]]) -> dict[str, int]:
    """Return the numbers, row by row."""
    rows = {}
    for name, doors in trips.items():
        both = {frozenset(door) for door in doors if door[::-1] in doors}
        rows[f"{name}: rooms entered"] = len({room for door in doors for room in door})
        rows[f"{name}: doors"] = len(doors)
        rows[f"{name}: ways back"] = len(both)
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="a checkout")
    parser.add_argument("--against", metavar="REV", help="a revision of git to set beside it")
    parser.add_argument("--list", action="store_true", help="print the doors as well")
    parser.add_argument("--walk", type=Path, metavar="PACKAGE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.walk:
        print(json.dumps({name: sorted(trip(options.walk)) for name, trip in TRIPS.items()}))
        return
    found = {"now": walked(options.root)}
    if options.against:
        packed = subprocess.run(["git", "archive", options.against], cwd=options.root, check=True, capture_output=True)
        with tempfile.TemporaryDirectory() as scratch, tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(scratch, filter="data")
            found = {options.against: walked(Path(scratch))} | found
    tables = {name: table(trips) for name, trips in found.items()}
    print(" " * 52 + "".join(f"{name:>14}" for name in tables))
    for row in dict.fromkeys(row for each in tables.values() for row in each):
        print(f"{row:52}" + "".join(f"{each.get(row, 0):>14}" for each in tables.values()))
    for name, doors in found["now"].items() if options.list else ():
        print(f"\n{name}", *(f"{left} → {entered}" for left, entered in sorted(doors)), sep="\n  ")


if __name__ == "__main__":
    main()
