"""Every example runs, and one number of each is checked."""

import importlib.util
from pathlib import Path
from types import ModuleType

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
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"01_transfer"}


@pytest.mark.slow
def test_transfer(tmp_path: Path) -> None:
    errors = load("01_transfer").main(tmp_path)
    assert errors["few_shot"] < errors["zero_shot"]
    assert errors["few_shot"] < 0.5 * errors["from_scratch"]
