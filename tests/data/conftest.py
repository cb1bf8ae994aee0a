from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scifm.data.generate import generate
from scifm.data.store import Store
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.systems.knobs import Knob
from scifm.systems.system import System

RANGE = Knob(1, 5)


@dataclass(frozen=True)
class Toy(System):
    """c·u = f, a system whose every number can be checked by hand; it pretends to reject one draw in five."""

    stiffness: Knob = RANGE
    broken_sample: int = -1

    name = "toy"
    equation = "stiffness · solution = forcing"
    signature = Signature(("forcing",), ("stiffness", "offset"), ("solution",))
    homogeneities = (Homogeneity((("forcing", 1), ("solution", 1)), ("forcing",), "rms"),)

    def sample(self, num_samples, grid, generator=None, *, dtype=torch.float32, device=None, record=None):
        shape = (num_samples, 1, 1, *grid.num_points)
        forcing = torch.rand(shape, generator=generator, dtype=torch.float64)
        low, high = self.stiffness.low, self.stiffness.high
        stiffness = low + (high - low) * torch.rand(num_samples, generator=generator, dtype=torch.float64)
        coefficients = torch.stack([stiffness, -torch.ones_like(stiffness)], dim=1)
        solution = forcing / stiffness.view(-1, 1, 1, *(1 for _ in grid.num_points))
        if 0 <= self.broken_sample < num_samples:
            solution[self.broken_sample, ..., 0] = float("nan")
        if record is not None:
            record.drawn += num_samples + num_samples // 4
            record.rejected += num_samples // 4
        names = (self.name,) * num_samples
        return Batch(self.signature, grid, forcing, coefficients, solution, names).to(dtype=dtype)

    def solve(self, batch):
        return batch

    def residual(self, batch):
        return batch.coefficient("stiffness").view(-1, 1, 1, 1, 1) * batch.require_targets() - batch.inputs

    def invariants(self, batch):
        return {}


@dataclass(frozen=True)
class Evolving(Toy):
    signature = replace(Toy.signature, evolves=True)


GRID = Grid((6, 4), (1.0, 0.5), (True, True))
COUNTS = {"train": 11, "valid": 3, "test": 5}


def make(path: Path, system: System | None = None, **changes) -> Store:
    """Make the small store that most tests look at: three training files of 4, 4 and 3 samples."""
    settings = {"num_samples": COUNTS, "grid": GRID, "seed": 7, "chunk_size": 4, **changes}
    return generate(system or Toy(), path=path, **settings)


def content(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """Return every file's bytes by name, but the card's, which tells the time."""
    files = (f for f in folder.glob(pattern) if f.is_file() and f.name != "card.json")
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}


def same(first: Batch, second: Batch) -> bool:
    return (
        first.signature == second.signature
        and first.grid == second.grid
        and first.systems == second.systems
        and torch.equal(first.inputs, second.inputs)
        and torch.equal(first.coefficients, second.coefficients)
        and torch.equal(first.require_targets(), second.require_targets())
    )


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """The system above and what one does with it."""
    return SimpleNamespace(
        System=Toy, Evolving=Evolving, grid=GRID, counts=COUNTS, make=make, content=content, same=same
    )


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A finished store; tests that change files work on a copy."""
    return make(tmp_path_factory.mktemp("stores") / "toy")


@pytest.fixture
def copied(toy_store: Store, tmp_path: Path) -> Path:
    """The folder of a copy that may be damaged."""
    return Path(shutil.copytree(toy_store.path, tmp_path / "toy"))
