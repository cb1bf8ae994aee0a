"""Is anything lost when workers of a study die? Kills Dask workers again and again and compares the tables.

A small study runs once in this process, undisturbed, and then on a Dask cluster of two processes here, whose workers
are killed (``kill -9``) at random moments; dead workers are replaced, their jobs go on from what they saved. Studies
are repeated until enough workers were killed. The table of each, seconds aside, must equal the undisturbed one.
`faults.py` runs this after the trainings.
"""

from __future__ import annotations

import random
import threading
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

from harness import Row
from scifm.execution.cluster import cluster_executor
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import study
from scifm.studies.table import read_table

__all__ = ["study_faults"]

TRAINING = {
    "num_steps": 1500,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "validate_every": 500,
    "checkpoint_every": 100,
    "accelerator": "cpu",
}
POISSON = {"name": "poisson", "knobs": {"anisotropy": [1, 5]}}
RECIPE: dict[str, Any] = {
    "title": "a study to be disturbed",
    "seeds": [0, 1],
    "few_shot": [4, 8],
    "from_scratch": [4, 8],
    "sizes": ["toy"],
    "networks": {"toy": {"width": 12, "modes": 4, "num_layers": 2, "projection_width": 16, "latent_points": 12}},
    "data": {"num_points": 16, "num_validation_samples": 8, "num_normalization_samples": 16},
    "training": TRAINING,
    "adapt": {"training": {name: v for name, v in TRAINING.items() if name != "learning_rate"} | {"num_steps": 600}},
    "sources": [{"name": "poisson", "systems": [POISSON]}],
    "targets": [{"name": "near", "system": {"name": "poisson", "knobs": {"anisotropy": [5, 10]}}}],
    "pool_size": 16,
    "num_test_samples": 16,
}


class Killer(threading.Thread):
    """Kills a worker now and then, until it is told to stop."""

    def __init__(self, seed: int) -> None:
        super().__init__(daemon=True)
        self.random, self.kills, self.over = random.Random(seed), 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(self.random.uniform(5.0, 15.0)):
            workers = [p for p in psutil.Process().children(recursive=True) if _is_worker(p)]
            if workers:
                self.random.choice(workers).kill()
                self.kills += 1


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "dask_worker" in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def table_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a study, seconds aside."""
    rows = read_table(folder / "table.parquet")
    return [{name: value for name, value in vars(row).items() if name != "seconds"} for row in rows]


def study_faults(folder: Path, *, num_kills: int, seed: int) -> list[Row]:
    """Disturb studies until `num_kills` workers were killed; return what came of it."""
    torch.set_num_threads(1)  # as in the workers: another number takes sums in another order
    recipe = StudyRecipe.read(RECIPE)
    alone = table_of(study(recipe, out=folder / "alone"))
    kills = studies = differing = failed = 0
    while kills < num_kills:
        killer = Killer(seed + studies)
        disturbed = folder / f"disturbed-{studies}"
        killer.start()
        try:
            make = partial(cluster_executor, "local", num_workers=2, num_threads=1)
            differing += table_of(study(recipe, out=disturbed, make_executor=make)) != alone
        except RuntimeError as error:  # a study that ends without its table is the failure looked for
            print(f"study {studies}: {error}")
            failed += 1
        finally:
            killer.over.set()
            killer.join()
        kills, studies = kills + killer.kills, studies + 1
    return [
        Row("study", "kill -9 of a worker of a Dask cluster", kills, "kills"),
        Row("study", "studies struck", studies, "studies"),
        Row("study", "studies that failed", failed, "studies"),
        Row("study", "tables that differ from the study left alone", differing, "tables"),
    ]
