"""The line under the help of each verb works as it stands."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import xarray

from scifm.cli.app import EXAMPLES, _Verbs, app

ELSEWHERE = {"demo": "make demo", "play": "it serves until Ctrl-C", "study": "tests/test_cli_study.py, at other sizes"}
WANTS_FILES = {"import-model", "push", "transfer"}  # weights of somebody else, an account on the hub, a recipe
QUICK = {  # the lines as they stand, but for how long they take
    "generate": ["--num-samples", "16"],
    "pretrain": ["--set", "training.num_steps=2"],
    "finetune": ["--set", "training.num_steps=2", "--set", "learning_rates=[1e-3]"],
    "evaluate": ["--num-samples", "8"],
    "events": ["--num-events", "8", "--set", "num_frames=14"],
    "records": ["--num-events", "8", "--set", "motion.num_samples=512"],
    "imitate": ["--set", "training.num_steps=2"],
    "shake": ["--set", "iterations=2"],
    "assess": ["--num-records", "24", "--set", "iterations=2", "--set", "discriminator_steps=2"],
    "warn": ["--num-events", "1", "--set", "num_masks=1"],
    "plan": ["--set", "adapt.training.num_steps=2", "--set", "num_repeats=1", "--workers", "1"],
}


def words_of(line: str) -> list[str]:
    """Return the words as a shell gives them, patterns replaced by what is there."""
    words = shlex.split(line)[1:]
    found = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in words]
    assert all(len(names) == 1 for names in found), f"not one folder each: {found}"
    return [names[0] for names in found]


@pytest.mark.slow
def test_the_lines_work_one_after_the_other(scifm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert scifm("pretrain", "burgers-small", *QUICK["pretrain"]).status == 0  # what marches in the line of rollout
    assert scifm(*words_of(EXAMPLES["events"]), *QUICK["events"]).status == 0
    assert scifm("pretrain", "early-warning", *QUICK["pretrain"]).status == 0  # what is asked in the line of warn
    frames = np.random.default_rng(0).normal(size=(4, 8, 16, 16))
    xarray.Dataset({"height": (("sample", "time", "y", "x"), frames)}).to_netcdf("measured.nc", engine="h5netcdf")
    for verb, line in EXAMPLES.items():
        if verb not in ELSEWHERE:
            said = scifm(*words_of(line), *QUICK.get(verb, ()))
            untrained = verb == "check" and said.status == 1  # two steps leave nothing good to be found
            assert said.status == 0 or untrained, f"{line}\n{said.err}"


@pytest.mark.parametrize("verb", EXAMPLES)
def test_the_help_shows_it_in_one_piece(scifm, verb):
    said = scifm(verb, "--help")
    assert f" {EXAMPLES[verb]} " in said.out


def test_every_verb_has_one():
    import typer.main

    group = typer.main.get_command(app)
    assert isinstance(group, _Verbs)
    assert set(group.commands) == set(EXAMPLES) | WANTS_FILES
    assert list(group.list_commands(None))[: len(EXAMPLES)] == list(EXAMPLES)


def test_the_version_is_told_and_shells_can_complete(scifm, monkeypatch):
    assert scifm("--version").out.startswith("scifm 0.")
    monkeypatch.setenv("_SCIFM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "scifm gen")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert scifm().out.strip() == "generate"
