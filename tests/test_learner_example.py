"""The example package of an operator and an objective as its user has it: installed, found by name, trained."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tiny
from plugin import LEARNERS, install_example
from scifm.config import dump_toml
from scifm.errors import ConfigError
from scifm.models.registry import load_operator, operator_class
from scifm.objectives.named import find_objective
from scifm.plugins import installed_plugins

ROOT = LEARNERS.parents[1]
TRAINING = {"num_steps": 3, "objective": {"name": "with_differences", "weight": 0.5}, "recompute": False}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return install_example(tmp_path_factory.mktemp("learners"), LEARNERS)


@pytest.fixture
def installed(site, monkeypatch):
    """The package on this process's search path, forgotten afterwards."""
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("scifm_learners", None)
    monkeypatch.undo()
    for group in ("scifm.operators", "scifm.objectives", "scifm.checks"):
        installed_plugins(group, again=True)


def test_the_code_is_some_twenty_lines():
    code = (LEARNERS / "src" / "scifm_learners.py").read_text()
    for part, most in (("operator", 24), ("objective", 11), ("check", 16)):
        body = code.split(f"[start:{part}]")[1].split("# --8<--")[0]
        body = re.sub(r'""".*?"""\n', "", body[body.index("class ") :], flags=re.DOTALL)
        assert len([line for line in body.splitlines() if line.strip()]) <= most


def run_python(site: Path, folder: Path, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, check=False, timeout=280, cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT / "src")]), "COLUMNS": "300"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass(site, tmp_path):
    said = run_python(
        site, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, LEARNERS / "tests"
    )
    assert re.search(r"\d+ passed, [12] skipped in", said), (
        said
    )  # one asks for a GPU, one for an objective without solutions


def test_a_recipe_trains_it_by_name(site, installed, tmp_path):
    recipe = tmp_path / "convnet.toml"
    model = {"kind": "convnet", "network": {"width": 4}}
    recipe.write_text(dump_toml({**tiny.recipe(training=TRAINING), "model": model}))
    scifm = ("-c", "from scifm.cli import main; main()")
    run = json.loads(run_python(site, tmp_path, *scifm, "pretrain", recipe, "--out", "runs", "--json"))["run"]
    operator = load_operator(tmp_path / run)
    assert operator.kind == "convnet"
    assert type(operator).__module__ == "scifm_learners"
    assert operator(tiny.batch(2)).require_targets().shape == (2, 1, 1, 16, 16)
    assert len(operator.stages()) == 3


def test_classes_are_found_and_faults_told(installed, monkeypatch):
    assert operator_class("convnet").__name__ == "ConvNet"
    assert find_objective("with_differences")().weight == 1.0
    with pytest.raises(ConfigError, match="Did you mean 'convnet'"):
        operator_class("convnett")
    learners = importlib.import_module("scifm_learners")
    monkeypatch.setattr(learners.ConvNetConfig, "kind", "other")
    with pytest.raises(ConfigError, match="its config_class is 'other'"):
        operator_class("convnet")
    monkeypatch.setattr(learners, "WithDifferences", torch.nn.Linear)
    with pytest.raises(ConfigError, match=r"no subclass of scifm\.objectives\.objective\.Objective"):
        find_objective("with_differences")
