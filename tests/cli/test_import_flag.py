"""A network in a file of one's own: every verb takes it where its file is given, and refuses it elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from scifm.config import dump_toml

NETWORK = """
from torch import nn

class Net(nn.Conv2d):
    def __init__(self, channels):
        super().__init__(channels, 1, 3, padding=1, padding_mode="circular")
"""
SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def call(tmp_path):
    """Return a function that gives a command in a process of its own: what one has imported another has not."""
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "own_network.py").write_text(NETWORK)
    network = {"target": "own_network:Net", "file": "nets/own_network.py", "arguments": {"channels": "{in_channels}"}}
    (tmp_path / "own.toml").write_text(dump_toml(tiny.recipe(model={"kind": "module", "network": network})))

    def command(*words: object) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "scifm", *map(str, words)],
            capture_output=True, text=True, check=False, timeout=200, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(tmp_path / "nets")])},
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    return command


def test_every_verb_takes_it_and_says_what_is_missing(call, tmp_path):
    missing = "give --import nets/own_network.py"
    status, err = call("pretrain", "own.toml")
    assert (status, missing in err) == (2, True), err
    assert not (tmp_path / "runs").exists(), "said before anything is spent"
    given = ("--import", "nets/own_network.py")
    assert call("pretrain", "own.toml", *given)[0] == 0
    (run,) = (tmp_path / "runs").iterdir()
    target = ("--system", "poisson")
    tuning = (
        "finetune",
        run,
        *target,
        "--num-samples",
        4,
        "--set",
        "training.num_steps=2",
        "--set",
        "learning_rates=[1e-3]",
    )
    scoring = ("evaluate", run, *target, "--num-samples", 2, "--set", "num_points=16")
    for words in (tuning, scoring, ("export", run, "--to", "torch-export")):
        status, err = call(*words)
        assert (status, missing in err) == (2, True), err
        status, err = call(*words, *given)
        assert status == 0, err
