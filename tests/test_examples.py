"""Every example runs, and one number of each is checked."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tiny
from scifm.data.formats import FORMATS
from scifm.data.importing import import_data, open_data
from scifm.errors import StoreError

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
        "05_format",
        "06_figure",
        "07_watch",
        "gallery",
    }


def test_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an observer is told is what the log holds; the recipe is a shorter one here."""
    module = load("07_watch")
    monkeypatch.setattr(module, "RECIPE", tiny.RECIPE)
    assert [step for step, _ in module.main(tmp_path)] == [4, 8, 12]


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
        "probe": None,  # nothing can be told of these knobs
        "shuffled_truths": True,
        "scales": True,
        "weight_spectra": True,
        "curvature": True,
        "landscape": True,
        "resolution": None,  # nobody says where the samples are from
        "waves": None,
        "extrapolation": None,
        "lead_times": None,  # nothing evolves
        "conservation": None,
        "continuity": None,
        "coverage": None,  # nobody calibrated it
        "spread": None,
        "abstention": None,
    }
    assert findings["persistence"].statistic < 0.1


@pytest.mark.slow
def test_compress(tmp_path: Path) -> None:
    numbers = load("04_compress").main(tmp_path)
    assert numbers["bytes"] < 0.3
    assert numbers["answers"] < 0.01
    assert abs(numbers["errors"] - 1) < 0.05


def test_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "lab", None)  # what the example puts there goes with the test
    pairs = np.random.default_rng(0).standard_normal((5, 2, 8, 12))
    file = tmp_path / "plates.lab"
    file.write_text("lab 8 12\n" + " ".join(f"{value:.17g}" for value in pairs.ravel()))
    load("05_format")
    store = import_data(file, tmp_path / "store")
    assert (store.signature.inputs, store.signature.outputs) == (("load",), ("deflection",))
    assert sum(store.card.splits.values()) == 5
    file.write_text("lab 8 12 1.0 2.0")
    with pytest.raises(StoreError, match="cannot be read as text of the laboratory"):
        open_data(file)


def test_figure(tmp_path: Path) -> None:
    recipe = tiny.recipe(training={"num_steps": 2})
    page = load("06_figure").main(tmp_path, recipe).read_text()
    assert "Figure 2. Error of each sample against how anisotropic its diffusion is." in page
    drawing = (tmp_path / "hardness.svg").read_text()
    for text in (page, drawing):
        assert text.count('class="point"') >= 64
        assert "relative L2 error" in text


STILL, TRAINED = ("transfer", "steady", "spacetime"), ("evolving", "strip", "spectrum", "prediction", "lead_time")


@pytest.mark.parametrize("name", [*STILL, *(pytest.param(name, marks=pytest.mark.slow) for name in TRAINED)])
def test_gallery(name: str, tmp_path: Path) -> None:
    gallery = load("gallery")
    assert set(gallery.FIGURES) == {*STILL, *TRAINED}
    (file,) = gallery.main(tmp_path, [name])
    assert file.name in {path.name for path in (EXAMPLES.parent / "docs/images/gallery").iterdir()}
    assert 2_000 < file.stat().st_size <= 60 * 1024
    if name == "transfer":
        drawing = file.read_text()
        assert drawing.count('class="mark"') >= 3 * 8  # three tasks, four counts each way
        assert "number of downstream samples" in drawing


def test_the_gallery_shows_every_figure_with_its_code_and_is_light() -> None:
    gallery, page = load("gallery"), (EXAMPLES.parent / "docs" / "gallery.md").read_text()
    pictures = sorted((EXAMPLES.parent / "docs/images/gallery").iterdir())
    assert {path.stem.replace("-", "_") for path in pictures} == set(gallery.FIGURES)
    assert all(f"(images/gallery/{path.name})" in page for path in pictures)
    assert all(f'"examples/gallery.py:{name}"' in page for name in gallery.FIGURES)
    assert sum(path.stat().st_size for path in pictures) <= 300 * 1024
