from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import tiny
from scifm.cli.launch import without_devices
from scifm.config import dump_toml
from scifm.models.registry import load_operator
from scifm.runs import Run

TRAINING = {"num_steps": 600, "batch_size": 5, "precision": "64-true", "checkpoint_every": 100, "validate_every": 200}


class Launched:
    """A command that runs in several processes."""

    def __init__(self, *words: object, launcher: tuple[str, ...] = (), **variables: str) -> None:
        command = [sys.executable, "-m", *launcher, "scifm", *map(str, words)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, **variables},
        )  # fmt: skip

    def ended(self) -> tuple[int, str, str]:
        try:
            out, err = self.process.communicate(timeout=270)  # of a hang; busy cores need minutes to load torch twice
        finally:
            self.process.kill()
        return self.process.returncode, out, err

    def children(self) -> dict[int, int]:
        """Return the process number of every rank."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(self.process.pid)
                variables = (folder / "environ").read_text().split("\0") if is_ours else []
            except OSError:
                continue  # it ended meanwhile
            found |= {int(v.removeprefix("RANK=")): int(folder.name) for v in variables if v.startswith("RANK=")}
        return found


@pytest.fixture
def recipe(tmp_path) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(dump_toml(tiny.recipe(training=TRAINING)))
    return file


def the_run(out: Path) -> Run:
    (folder,) = out.iterdir()
    return Run.open(folder)


def wait_for_step(out: Path, step: int) -> Run:
    """Wait until a run's log tells of a step."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        runs = [file.parent for file in out.glob("*/config.toml")]  # the folder is there a moment earlier
        if runs and (steps := tiny.steps_of(Run.open(runs[0]).metrics(), "train")) and steps[-1] >= step:
            return Run.open(runs[0])
        time.sleep(0.02)
    raise AssertionError(f"step {step} was never reached")


def same_weights(first: Run, second: Run) -> bool:
    one, other = (load_operator(run.path / "model").state_dict() for run in (first, second))
    return all(torch.equal(one[name], other[name]) for name in other)


def test_the_command_line_without_its_devices():
    assert without_devices(["pretrain", "a.toml", "--devices", "4", "--json"]) == ["pretrain", "a.toml", "--json"]
    assert without_devices(["pretrain", "--devices=4", "a.toml"]) == ["pretrain", "a.toml"]
    assert without_devices(["pretrain", "a.toml"]) == ["pretrain", "a.toml"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc")
def test_every_way_to_be_stopped_ends_where_one_never_stopped_ends(recipe, tmp_path):
    """SIGTERM, then Ctrl-C, then one of the processes killed, each time the same command; then to the end."""
    straight = Launched("pretrain", recipe, "--out", tmp_path / "straight", "--devices", 2, "--json")
    status, printed, err = straight.ended()
    assert status == 0, err
    assert json.loads(printed)["run"] == str(the_run(tmp_path / "straight").path), "told once"
    out, command = tmp_path / "runs", ("pretrain", recipe, "--out", tmp_path / "runs", "--devices", 2)

    asked = Launched(*command)
    wait_for_step(out, 50)
    asked.process.send_signal(signal.SIGTERM)
    status, _, err = asked.ended()
    assert status == 75, err
    assert err.count("scifm: interrupted by SIGTERM; give the same command again to go on.") == 1
    run = the_run(out)
    assert run.status == "interrupted: SIGTERM; run the same command again to resume"
    stopped = tiny.steps_of(run.metrics(), "train")[-1]

    asked = Launched(*command)
    wait_for_step(out, stopped + 50)
    os.killpg(asked.process.pid, signal.SIGINT)  # as a terminal does
    status, _, err = asked.ended()
    assert status == 130, err
    assert err.count("scifm: interrupted; give the same command again to go on.") == 1
    stopped = tiny.steps_of(run.metrics(), "train")[-1]

    asked = Launched(*command)
    wait_for_step(out, stopped + 50)
    children = asked.children()
    assert sorted(children) == [0, 1]
    os.kill(children[1], signal.SIGKILL)
    status, _, err = asked.ended()
    assert status == 1, err
    assert "scifm: process 1 of 2 was killed by signal 9; give the same command again to go on" in err
    assert "Traceback" not in err
    assert not asked.children()

    status, _, err = Launched(*command).ended()
    assert status == 0, err
    assert run.is_complete
    assert same_weights(run, the_run(tmp_path / "straight"))
    logs = [
        [{k: v for k, v in event.items() if k != "seconds"} for event in r.metrics()]
        for r in (run, the_run(tmp_path / "straight"))
    ]
    assert logs[0] == logs[1], "each line once"


def test_a_mistake_is_told_once(recipe, tmp_path):
    status, _, err = Launched(
        "pretrain", recipe, "--out", tmp_path / "runs", "--devices", 2, "--set", "training.batch_size=1"
    ).ended()
    assert status == 2, err
    (line,) = [line for line in err.splitlines() if "scifm:" in line]
    assert "divided among 2 processes in 1 pieces each, and has fewer samples" in line
    assert "Traceback" not in err


def test_two_launchers_are_one_too_many(scifm, recipe, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "use one of the two" in scifm("pretrain", recipe, "--devices", 2).told


def test_more_processes_than_a_machine_can_bear_are_refused(scifm, recipe):
    assert "at most 64; got 1000000" in scifm("pretrain", recipe, "--devices", 1000000).told


@pytest.mark.slow
def test_torchrun_launches_it_unchanged(recipe, tmp_path):
    changes = ("--set", "training.num_steps=20", "--set", "training.strategy=fsdp")
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    status, _, err = Launched("pretrain", recipe, "--out", tmp_path / "two", *changes, launcher=torchrun).ended()
    assert status == 0, err
    status, _, err = Launched("pretrain", recipe, "--out", tmp_path / "one", *changes).ended()
    assert status == 0, err
    one, two = (load_operator(the_run(tmp_path / n).path / "model").state_dict() for n in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-11, atol=1e-14)
