"""The models that come with the package: small, whole, as good as they say, and taken wherever a model is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import scifm
from scifm.applications.playground.trained import Playground
from scifm.config import shipped_recipes
from scifm.data.run_origin import RunOrigin
from scifm.errors import RunError
from scifm.evaluation.evaluate import evaluate
from scifm.findings.provenance import Provenance
from scifm.models.folder import FILES, find_model
from scifm.models.registry import list_models, load_operator
from scifm.shipped import SHIPPED, shipped_models
from scifm.systems.poisson import Poisson
from scifm.training.finetune import finetune

NAMES = list(shipped_models())
MIB = 2**20


def test_there_are_those_that_the_recipes_make():
    assert NAMES
    assert set(NAMES) == {f"scifm/{name.removeprefix('zoo/')}" for name in shipped_recipes() if name.startswith("zoo/")}
    assert [own.name for own in list_models()] == NAMES


def test_they_are_small():
    sizes = {name: sum(file.stat().st_size for file in folder.iterdir()) for name, folder in shipped_models().items()}
    assert max(sizes.values()) < 1.5 * MIB
    assert sum(sizes.values()) < 5 * MIB
    assert {tuple(sorted(file.name for file in folder.iterdir())) for folder in shipped_models().values()} == {
        tuple(sorted(FILES))
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_is_as_good_as_it_says(name):
    """Other samples than those of its card: means of few differ, a wrong file or scale would miss by far more."""
    origin, told = RunOrigin.of_model(find_model(name)), Provenance.read(shipped_models()[name]).scores[0]
    assert origin is not None
    samples, about = origin.resolved().unseen(16, 3)
    found = evaluate(name, samples, origin=about)
    assert found.path is None  # nothing is written into the package
    assert told.errors["relative_l2"] / 2.5 < found.mean() < 2.5 * told.errors["relative_l2"]
    assert told.num_samples > 500


@pytest.mark.parametrize("name", NAMES)
def test_each_says_where_it_comes_from_and_its_example_runs(name):
    folder = shipped_models()[name]
    past = Provenance.read(folder)
    assert (past.made, past.recipe) == ("pretrain", f"zoo/{name.removeprefix('scifm/')}")
    assert past.equations
    text = (folder / "README.md").read_text()
    assert "license: mit" in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    made: dict[str, dict[str, np.ndarray]] = {}
    exec(code.replace("PATH", name), made)
    assert all(np.isfinite(values).all() for values in made["answers"].values())


def test_another_name_is_told_and_a_folder_that_is_here_wins(tmp_path, monkeypatch):
    with pytest.raises(RunError, match=r"Model 'scifm/poison-nano' is unknown. Did you mean 'scifm/poisson-nano'"):
        load_operator("scifm/poison-nano")
    monkeypatch.chdir(tmp_path)
    Path("scifm/poisson-nano").mkdir(parents=True)
    with pytest.raises(RunError, match="'scifm/poisson-nano' is not a run folder and holds no model"):
        load_operator("scifm/poisson-nano")


def test_one_is_fine_tuned(tmp_path):
    how = {"learning_rates": [1e-3], "training": {"num_steps": 2, "batch_size": 2, "accelerator": "cpu"}}
    tuned = finetune("scifm/poisson-nano", Poisson(anisotropy=[5, 10]), num_samples=2, out=tmp_path, **how)
    past = load_operator(tuned).provenance
    assert (past.made, past.parent) == ("finetune", "poisson-nano")
    assert tuned.parent == SHIPPED / "poisson-nano"


def test_its_page_says_what_it_says(tmp_path):
    text = scifm.page("scifm/poisson-nano", out=tmp_path / "page.html").read_text()
    told = Provenance.read(SHIPPED / "poisson-nano").scores[0]
    assert f"The model poisson-nano reaches a relative L2 error of {told.errors['relative_l2']:.2g}, as it says" in text
    assert "Where the model comes from, as it says itself." in text
    assert "zoo/poisson-nano" in text


def test_it_is_played_on_what_it_was_trained_on():
    pytest.importorskip("fastapi", reason="the extra 'play' is not installed")
    playground = Playground.open("scifm/poisson-nano")
    assert playground.told.startswith("Trained on samples of Poisson, anisotropy 1 to 5")
    assert playground.trained_points == 64
