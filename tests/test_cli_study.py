"""`scifm study` as a user meets it: what it prints, what it refuses, and that killing it loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny
from scifm.config import dump_toml
from scifm.studies.recipe import StudyRecipe
from scifm.studies.study import study
from scifm.studies.table import read_table

COMMAND = [sys.executable, "-m", "scifm", "study"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "toy.toml"
    path.write_text(dump_toml(tiny.graph_study(keep_weights="pretrained")))
    return path


@pytest.fixture(scope="module")
def undisturbed(recipe, tmp_path_factory) -> Path:
    return study(StudyRecipe.read(recipe), out=tmp_path_factory.mktemp("undisturbed") / "study")


def numbers(folder: Path) -> list[dict]:
    return [{k: v for k, v in vars(row).items() if k != "seconds"} for row in read_table(folder / "table.parquet")]


def test_cost_first_then_progress_then_the_verdict(scifm, recipe, undisturbed, tmp_path):
    said = scifm("study", recipe, "--out", undisturbed)
    assert said.status == 0
    assert "of them done; the rest takes about 0 s" in said.err
    assert "page" in said.out
    assert "fine-tun" in said.out.lower()
    assert (undisturbed / "report.html").is_file()
    as_json = json.loads(scifm("study", recipe, "--out", undisturbed, "--json").out)
    assert as_json["verdict"]
    said = scifm("study", recipe, "--out", tmp_path / "new", "--dry-run")
    assert said.status == 0
    assert "0 of them done" in said.err
    assert not (tmp_path / "new").exists()


def test_a_dry_run_says_which_share_of_the_steps_takes_equal_time(scifm, tmp_path):
    models = {"toy": {"network": tiny.NETWORK}, "other": {"kind": "unet", "size": "tiny", "steps_factor": 0.5}}
    tree = tiny.graph_study(models=models, sizes=list(models))
    del tree["scaling"]  # it names other networks
    (tmp_path / "two.toml").write_text(dump_toml(tree))
    said = scifm("study", tmp_path / "two.toml", "--out", tmp_path / "new", "--dry-run")
    assert said.status == 0
    lines = {line.split()[1]: line.split()[3::2] for line in said.out.splitlines() if line.startswith("│")}
    (_, toy, now, equal), (_, other, share, other_equal) = lines["toy"], lines["other"]
    assert (now, equal, share) == ("1", "1", "0.5")
    assert float(other_equal) == pytest.approx(float(toy) / float(other), rel=0.06), "written with two digits"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["few_shot=[4, 64]"], "pool_size = 12 is smaller"),
        (['sizes=["toyy"]'], "Did you mean 'toy'"),
        (["sedes=[0]"], "Did you mean 'seeds'"),
        (['scaling.source="mixtur"'], "Did you mean 'mixture'"),
        (["adapt.learning_rates=[0.1]"], "as many scratch_learning_rates"),
    ],
)
def test_mistakes_are_told_in_one_line(scifm, recipe, tmp_path, overrides, words):
    settings = [part for override in overrides for part in ("--set", override)]
    said = scifm("study", recipe, "--out", tmp_path / "out", *settings)
    assert said.status == 2
    assert words in said.told
    assert not (tmp_path / "out").exists()


def test_the_folder_of_another_study_is_left_alone(scifm, recipe, undisturbed):
    before = (undisturbed / "table.parquet").read_bytes()
    said = scifm("study", recipe, "--out", undisturbed, "--set", "seeds=[7]")
    assert said.status == 2
    assert "another recipe" in said.told
    said = scifm("study", recipe, "--out", undisturbed, "--set", "seeds=[7]", "--dry-run")
    assert said.status == 2
    assert "another recipe" in said.told, "what the real run refuses, nothing is said about"
    assert (undisturbed / "table.parquet").read_bytes() == before


def start(recipe: Path, folder: Path) -> subprocess.Popen:
    command = [*COMMAND, str(recipe), "--out", str(folder), "--workers", "2"]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finished(folder: Path) -> set[str]:
    return {file.stem for file in (folder / "jobs").glob("*.json")} if (folder / "jobs").is_dir() else set()


def wait_for(folder: Path, count: int, process: subprocess.Popen) -> set[str]:
    while len(done := finished(folder)) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    return done


def workers_of(process: subprocess.Popen) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                spawned = b"spawn_main" in (entry / "cmdline").read_bytes()
            except (OSError, ValueError, IndexError):
                continue
            if parent == process.pid and spawned:
                found.append(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find worker processes")
@pytest.mark.slow
def test_killed_again_and_again_it_repeats_nothing_and_ends_in_the_same_table(recipe, undisturbed, tmp_path):
    folder = tmp_path / "killed"
    total = len(finished(undisturbed))

    process = start(recipe, folder)  # a worker dies: the study goes on by itself
    wait_for(folder, 2, process)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    first = wait_for(folder, 6, process)
    process.kill()  # now the whole study: no chance to say goodbye
    process.wait()
    stamps = {name: (folder / "jobs" / f"{name}.json").stat().st_mtime_ns for name in first}

    process = start(recipe, folder)
    wait_for(folder, 12, process)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "interrupted; give the same command again" in told
    assert "Traceback" not in told

    process = start(recipe, folder)
    wait_for(folder, min(14, total - 1), process)
    os.killpg(process.pid, signal.SIGUSR1)  # what Slurm does before the time is up
    _, told = process.communicate(timeout=120)
    assert process.returncode == 75, told
    assert "interrupted by SIGUSR1; give the same command again" in told
    assert "Traceback" not in told

    process = start(recipe, folder)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert len(finished(folder)) == total
    assert {name: (folder / "jobs" / f"{name}.json").stat().st_mtime_ns for name in first} == stamps
    assert numbers(folder) == numbers(undisturbed)


@pytest.mark.parametrize(
    ("verb", "name", "words"),
    [
        ("study", "poisson-tiny.toml", "is a pre-training recipe (it has 'model'): use 'scifm pretrain'"),
        ("pretrain", "transfer-tiny.toml", "is the recipe of a study (it has 'models'): use 'scifm study'"),
    ],
)
def test_a_recipe_of_another_kind_is_told_as_such(scifm, project_root, tmp_path, verb, name, words):
    said = scifm(verb, project_root / "recipes" / name, "--out", tmp_path / "out")
    assert said.status == 2
    assert words in said.told
    assert not (tmp_path / "out").exists()
