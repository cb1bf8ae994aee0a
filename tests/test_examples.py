"""Every example runs, and one number of each is checked."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_test() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "01_transfer",
        "02_reaction_diffusion",
        "03_check",
        "04_compress",
    }


def test_reaction_diffusion() -> None:
    """A trajectory does not depend on the grid it is solved on; the files are made in test_tutorial.py."""
    module, smooth = load("02_reaction_diffusion"), SmoothNoise()
    coarse, fine = (module.trajectory(n, 3e-3, 0.1, smooth) for n in (32, 64))
    assert coarse.shape == (2, 21, 32, 32)
    assert abs(fine[:, :, ::2, ::2] - coarse).max() < 2e-3


class SmoothNoise:
    """Stands for a random generator: one long wave, the same on every grid."""

    def standard_normal(self, shape: tuple[int, int, int]) -> np.ndarray:
        _, rows, columns = shape
        y, x = np.arange(rows)[:, None] / rows, np.arange(columns) / columns
        return np.stack([np.cos(2 * np.pi * (x + y)), np.sin(2 * np.pi * x) + 0 * y])


@pytest.mark.slow
def test_transfer(tmp_path: Path) -> None:
    errors = load("01_transfer").main(tmp_path)
    assert errors["few_shot"] < errors["zero_shot"]
    assert errors["few_shot"] < 0.5 * errors["from_scratch"]


@pytest.mark.slow
def test_check(tmp_path: Path) -> None:
    findings = load("03_check").main(tmp_path)
    assert {name: found.good for name, found in findings.items()} == {
        "receptive_field": True,
        "overfit_one_batch": True,
        "persistence": True,
        "shift_equivariance": True,
        "mean_is_zero": True,
    }
    assert findings["persistence"].statistic < 0.1


@pytest.mark.slow
def test_compress(tmp_path: Path) -> None:
    numbers = load("04_compress").main(tmp_path)
    assert numbers["bytes"] < 0.3
    assert numbers["answers"] < 0.01
    assert abs(numbers["errors"] - 1) < 0.05
