"""The example package as its user has it: installed, found by name, generated, learned, scored, its own tests run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from plugin import EXAMPLE, install_example
from scifm.config import dump_toml

ROOT = EXAMPLE.parents[1]
TUNING = ("--num-samples", "4", "--set", "training.num_steps=2", "--set", "learning_rates=[1e-3]")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return install_example(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def python(site, tmp_path_factory):
    """Return a function that runs Python in a process of its own, in which the package is installed."""
    folder = tmp_path_factory.mktemp("work")
    paths = [str(site), str(ROOT / "src")]

    def call(*words: object, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            capture_output=True, text=True, check=False, timeout=280, cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "300"},
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr

    return call


@pytest.fixture(scope="module")
def scifm_with_it(python):
    return lambda *words, status=0: python("-c", "from scifm.cli import main; main()", *words, status=status)


def test_the_code_is_some_twenty_lines():
    """What the guide quotes, without imports, blank lines and the check of its input."""
    code = (EXAMPLE / "src" / "scifm_plate.py").read_text().split("[start:code]")[1].split("# --8<--")[0]
    body = code[code.index("@dataclass") :]
    body = re.sub(r"    def __post_init__.*?\n\n", "", body, flags=re.DOTALL)
    assert len([line for line in body.splitlines() if line.strip()]) <= 20


def test_its_own_tests_pass(python):
    said = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, EXAMPLE / "tests")
    assert re.search(r"\d+ passed(, \d+ skipped)? in", said), said  # a GPU, and terms, which these do not declare


def test_it_is_listed_with_its_package(scifm_with_it):
    table = scifm_with_it("systems")
    row = next(line for line in table.splitlines() if "thin_plate" in line)
    for word in ("D lap lap u + k u = f", "rigidity 1e-06 to 0.0001", "scifm-example-systems 1.0"):
        assert word in row
    told = json.loads(scifm_with_it("systems", "--json"))
    assert told["thin_plate"]["distribution"] == "scifm-example-systems 1.0"
    assert told["thin_plate"]["options"]["bedding"] == 1.0
    assert told["poisson"]["distribution"] == "scifm"


@pytest.mark.slow
def test_from_samples_to_scores_by_name(scifm_with_it, tmp_path):
    store = tmp_path / "store"
    words = ("thin_plate", "--num-samples", 8, "--num-points", 16, "--knob", "rigidity=1e-5,1e-4", "--out", store)
    made = json.loads(scifm_with_it("generate", *words, "--json"))
    assert made["knobs"]["rigidity"] == {"low": 1e-5, "high": 1e-4, "scale": "log", "integer": False}
    recipe = tmp_path / "plate.toml"
    plate = {"name": "thin_plate", "options": {"bedding": 2.0}}
    recipe.write_text(dump_toml({**tiny.recipe(training={"num_steps": 2}), "system": plate}))
    run = json.loads(scifm_with_it("pretrain", recipe, "--out", tmp_path / "runs", "--json"))["run"]
    shift = ("--system", "thin_plate", "--knob", "rigidity=1e-4,1e-3")
    tuned = json.loads(scifm_with_it("finetune", run, *shift, *TUNING, "--out", tmp_path / "runs", "--json"))["run"]
    for data in (("--store", store), (*shift, "--set", "num_points=16", "--num-samples", 3)):
        scores = json.loads(scifm_with_it("evaluate", tuned, *data, "--json"))
        assert scores["relative_l2"]["mean"] > 0
    assert "cubic_reaction" in scifm_with_it(
        "generate", "cubic_reaction", "--num-samples", 2, "--num-points", 20, "--out", tmp_path / "cubic", "--json"
    )


@pytest.mark.slow
def test_a_study_of_it(scifm_with_it, tmp_path):
    """Both systems of the package; the second one does not measure its knobs, so their shift is not told."""
    data = {**tiny.RECIPE["data"], "num_points": 20}
    tree = tiny.graph_study(few_shot=[4], from_scratch=[4], seeds=[0], data=data)
    del tree["scaling"]
    tree["sources"] = [
        {"name": name, "systems": [{"name": name}], "targets": [f"{name}-far"]}
        for name in ("thin_plate", "cubic_reaction")
    ]
    knobs = {"thin_plate": {"rigidity": [1e-4, 1e-3]}, "cubic_reaction": {"length": [0.1, 0.2]}}
    tree["targets"] = [{"name": f"{name}-far", "system": {"name": name, "knobs": knobs[name]}} for name in knobs]
    recipe = tmp_path / "study.toml"
    recipe.write_text(dump_toml(tree))
    out = tmp_path / "study"
    scifm_with_it("study", recipe, "--out", out, "--workers", 1, "--json")
    text = (out / "analysis.json").read_text()
    assert "cubic_reaction-far" in text
    assert (out / "report.html").is_file()


def test_a_mistake_is_one_line(scifm_with_it, tmp_path):
    said = scifm_with_it("generate", "thin_plat", "--out", tmp_path / "s", status=2)
    assert "Did you mean 'thin_plate'" in said
    said = scifm_with_it("generate", "thin_plate", "--knob", "rigidity=-1,1", "--out", tmp_path / "s", status=2)
    assert "low > 0" in said
    assert "Traceback" not in said
