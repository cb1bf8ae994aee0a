from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

import study_table
import tiny
from scifm import cli
from scifm.data.generate import generate
from scifm.studies.table import write_table
from scifm.systems.kdv import KortewegDeVries
from scifm.systems.poisson import Poisson

QUICK = [
    *("--set", "num_repeats=1", "--set", "adapt.learning_rates=[1e-3]", "--set", "scratch_learning_rates=[1e-2]"),
    *("--set", "adapt.training.num_steps=3", "--set", "adapt.training.accelerator=cpu", "--workers", "1"),
]


@pytest.fixture
def scifm(monkeypatch, capsys):
    """Return a function that calls the command: exit status, output, errors."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scifm", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        streams = capsys.readouterr()
        return int(end.value.code or 0), streams.out, streams.err

    return call


@pytest.fixture(scope="module")
def parent(tmp_path_factory) -> Path:
    return tiny.finished_run(tmp_path_factory.mktemp("parents")).path


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "few"
    return generate(Poisson(), num_samples={"train": 6, "valid": 1, "test": 1}, num_points=16, path=path).path


def told(said: tuple[int, str, str]) -> str:
    """Return the one line of a refusal."""
    status, out, err = said
    lines = [line for line in err.splitlines() if line.startswith("scifm:")]
    assert status == 2, out + err
    assert "Traceback" not in out + err
    assert len(lines) == 1, err
    return lines[0]


def test_a_plan_is_told_and_kept(scifm, parent, few, tmp_path):
    words = ["plan", parent, "--data", few, "--target-error", 0.1, "--out", tmp_path / "plan", *QUICK]
    status, out, err = scifm(*words)
    assert status == 0, err
    assert "you have 8" in out
    assert "advice" in out
    status, out, _ = scifm(*words, "--json")
    assert status == 0
    assert json.loads(out)["points"] == json.loads((tmp_path / "plan" / "plan.json").read_text())["points"]


def test_an_earlier_study_may_say_what_to_expect(scifm, parent, few, tmp_path):
    steep = {n: [n**-1.2, 1.1 * n**-1.2] for n in (4, 16, 64, 256)}
    (tmp_path / "study").mkdir()
    rows = [*study_table.make_rows("from_scratch", steep), study_table.make_row("zero_shot", 0.5)]
    write_table(rows, tmp_path / "study" / "table.parquet")
    words = ["plan", parent, "--data", few, "--target-error", 0.1, "--out", tmp_path / "plan", *QUICK]
    assert scifm(*words, "--study", tmp_path / "study")[0] == 0
    priors = json.loads((tmp_path / "plan" / "plan.json").read_text())["priors"]
    assert priors["from_scratch"]["slope"][0] > 0.65
    assert "cannot be read" in told(scifm(*words, "--study", tmp_path))


@pytest.mark.parametrize("target", ["0", "-1", "nan", "1.5"])
def test_a_target_that_is_none(scifm, parent, few, target):
    assert "strictly between 0 and 1" in told(scifm("plan", parent, "--data", few, f"--target-error={target}"))


def test_data_that_are_none(scifm, parent, few, tmp_path):
    words = ["--target-error", 0.1, "--out", tmp_path / "plan", "--workers", 1]
    assert str(tmp_path / "no") in told(scifm("plan", parent, "--data", tmp_path / "no", *words))
    assert "is not a run folder" in told(scifm("plan", tmp_path, "--data", few, *words))
    counts = {"train": 2, "valid": 1, "test": 1}
    small = generate(Poisson(), num_samples=counts, num_points=16, path=tmp_path / "small").path
    assert "at least 6 samples" in told(scifm("plan", parent, "--data", small, *words))
    counts = {"train": 5, "valid": 1, "test": 1}
    other = generate(KortewegDeVries(num_frames=3), num_samples=counts, num_points=64, path=tmp_path / "other").path
    assert "answers problems in 2 dimensions, and the samples have 1" in told(
        scifm("plan", parent, "--data", other, *words)
    )
    assert "num_repeat" in told(scifm("plan", parent, "--data", few, *words, "--set", "num_repeat=1"))
    (tmp_path / "wall").write_text("mine")
    blocked = tmp_path / "wall" / "plan"
    assert str(tmp_path / "wall") in told(scifm("plan", parent, "--data", few, *words[:2], "--out", blocked, *QUICK))


def test_a_model_alone_is_planned_with(scifm, parent, few, tmp_path):
    shutil.copytree(parent / "model", tmp_path / "alone")
    words = ["plan", tmp_path / "alone", "--data", few, "--target-error", 0.1, "--out", tmp_path / "plan", *QUICK]
    status, _, err = scifm(*words, "--json")
    assert status == 0, err
    assert sorted((tmp_path / "alone").iterdir()) == sorted(
        tmp_path / "alone" / f.name for f in (parent / "model").iterdir()
    )
