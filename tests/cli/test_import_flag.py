"""A network in a file of one's own: every verb takes it where its file is given, and refuses it elsewhere."""

from __future__ import annotations

import multiprocessing
import os
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


def give(words: list[str], folder: Path, said: Path) -> None:
    """Give a command in this process, which is a fresh one: the folder is its own, what it says goes into a file."""
    with said.open("w") as file:
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    sys.path.insert(0, str(folder / "nets"))
    sys.argv = ["scifm", *words]
    from scifm.cli import main

    main()


@pytest.fixture
def call(tmp_path):
    """Return a function that gives a command in a process of its own: what one has imported another has not.

    They are forks of one process that has loaded what every verb needs, which takes seconds.
    """
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "own_network.py").write_text(NETWORK)
    network = {"target": "own_network:Net", "file": "nets/own_network.py", "arguments": {"channels": "{in_channels}"}}
    (tmp_path / "own.toml").write_text(dump_toml(tiny.recipe(model={"kind": "module", "network": network})))
    processes = multiprocessing.get_context("forkserver")
    rooms = ["scifm.cli", "scifm.training.finetune", "scifm.training.pretrain"]
    processes.set_forkserver_preload([*rooms, "torch._dynamo"])  # torch's optimizers want the last

    def command(*words: object) -> tuple[int, str]:
        said = tmp_path / "said"
        process = processes.Process(target=give, args=([*map(str, words)], tmp_path, said))
        process.start()
        process.join(200)
        err = said.read_text()
        assert "Traceback" not in err
        assert process.exitcode is not None
        return process.exitcode, err

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
    few = ("--set", "training.num_steps=2", "--set", "learning_rates=[1e-3]")
    tuning = ("finetune", run, *target, "--num-samples", 4, *few)
    scoring = ("evaluate", run, *target, "--num-samples", 2, "--set", "num_points=16")
    for words in (tuning, scoring, ("export", run, "--to", "torch-export")):
        status, err = call(*words)
        assert (status, missing in err) == (2, True), err
        status, err = call(*words, *given)
        assert status == 0, err
