"""Docs, *Beside other tools*: its Python and its commands do what they say, as far as the other tools are here."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

import scifm as library
from foreign_well import write_well_file
from scifm.systems.poisson import Poisson

PAGE = Path(__file__).parents[1] / "docs" / "compare.md"


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def blocks(title: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)


def follow(title: str, **given: object) -> dict:
    """Run the Python of a section, in one go."""
    names: dict = {**given}
    exec(compile("\n".join(blocks(title, "python")), f"{PAGE.name}: {title}", "exec"), names)
    return names


@pytest.fixture
def stores(tmp_path, monkeypatch):
    """Where the page's commands are given, with the store that it speaks of."""
    monkeypatch.chdir(tmp_path)
    library.generate(Poisson(), num_samples=40, num_points=32, seed=0, path="stores/poisson")
    return tmp_path


def commands(title: str) -> list[list[str]]:
    lines = "".join(blocks(title, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines]


def test_neuraloperator(stores, scifm):
    names = follow("neuraloperator")
    own, wrapped = (names[name].answers(names["batch"]).require_targets() for name in ("operator", "wrapped"))
    torch.testing.assert_close(own, wrapped, rtol=0, atol=1e-5)
    shapes = [tuple(names["pairs"][0][key].shape) for key in "xy"]
    assert shapes == [(4, 32, 32), (1, 32, 32)]
    x = names["pairs"][0]["x"][None]
    assert torch.equal(names["again"](x), names["network"](x))
    importing, finetuning = commands("neuraloperator")
    said = scifm(*importing[:-1], "models/by-command")
    assert said.status == 0, said.err
    assert finetuning[1] == importing[-1]
    few = ("--num-samples", 4, "--set", "training.num_steps=2", "--set", "learning_rates=[1e-3]")
    said = scifm("finetune", "models/by-command", *finetuning[2:-2], *few)
    assert said.status == 0, said.err


def test_the_well(stores, scifm):
    rng = np.random.default_rng(0)
    line = np.arange(8) / 8
    for split in ("train", "valid", "test"):
        field = rng.random((2, 4, 8, 8)).astype(np.float32)
        write_well_file(
            stores / f"datasets/active_matter/data/{split}/a.h5",
            dims={"x": line, "y": line},
            times=np.arange(4) * 0.5,
            num_trajectories=2,
            fields={"concentration": (0, field, "st")},
            scalars={"alpha": (rng.random(2), "s")},
            boundaries={"x": "PERIODIC", "y": "PERIODIC"},
        )
    for words in commands("The Well"):
        said = scifm(*words)
        assert said.status == 0, said.err
    names = follow("The Well")
    assert names["there"].split("train").num_samples == 6  # pairs of neighbouring frames
    assert library.Store.open("stores/active_matter").signature == names["there"].signature
    assert tuple(names["sample"]["output_fields"].shape) == (1, 32, 32, 1)
    assert tuple(names["sample"]["constant_fields"].shape) == (32, 32, 1)


class PhysicsNemoModel(nn.Conv2d):
    """Stands for a model of theirs: a module that can be saved and read by its file."""

    def save(self, file: str) -> None:
        torch.save(self.state_dict(), file)


def test_physicsnemo(tmp_path, monkeypatch):
    """The door is that of any module; their package, which is not here, is stood for by what its pages tell."""
    monkeypatch.chdir(tmp_path)
    theirs = ModuleType("physicsnemo")
    channels = len(Poisson.signature.inputs) + len(Poisson.signature.coefficients)
    theirs.Module = type("Module", (), {"from_checkpoint": staticmethod(lambda _: PhysicsNemoModel(channels, 1, 1))})
    monkeypatch.setitem(sys.modules, "physicsnemo", theirs)
    batch = Poisson().sample(4, library.Grid.square(16))
    names = follow("PhysicsNeMo", scifm=library, batch=batch)
    assert names["operator"].module is names["network"]
    assert Path("back.mdlus").is_file()
    loaded = library.load_operator("models/from-physicsnemo", module=PhysicsNemoModel(channels, 1, 1))
    assert torch.equal(loaded.module.weight, names["network"].weight)


class _Module(nn.Module):
    def log(self, name: str, value: torch.Tensor, *, batch_size: int) -> None:
        assert name == "loss"
        assert value.ndim == 0
        assert batch_size == 8


class _Trainer:
    def __init__(self, *, max_epochs: int, accelerator: str, logger: bool) -> None:
        assert (max_epochs, accelerator, logger) == (1, "cpu", False)

    def fit(self, module: _Module, loader) -> None:
        self.module, optimizer = module, module.configure_optimizers()
        for place, batch in enumerate(loader):
            optimizer.zero_grad()
            module.training_step(batch.to("cpu"), place).backward()
            optimizer.step()

    def save_checkpoint(self, file: str) -> None:
        torch.save({"epoch": 1, "state_dict": self.module.state_dict(), "hyper_parameters": {}}, file)


def test_lightning(stores, scifm, monkeypatch):
    """With Lightning where it is installed, else with the little of it that the page uses."""
    if importlib.util.find_spec("lightning") is None:
        stand_in = ModuleType("lightning")
        stand_in.LightningModule, stand_in.Trainer = _Module, _Trainer
        monkeypatch.setitem(sys.modules, "lightning", stand_in)
    names = follow("Lightning", scifm=library, torch=torch)
    operator = names["operator"]
    untrained = library.FNO(names["store"].signature, names["config"], normalization=names["normalization"])
    assert not torch.equal(untrained.lift.weight, operator.lift.weight)
    saved = library.load_operator("models/from-lightning")
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in operator.state_dict().items())
    assert set(names["weights"]) == {f"operator.{name}" for name in operator.state_dict()}
    finetuning, checking = commands("Lightning")
    said = scifm(*finetuning, "--set", "training.num_steps=2", "--set", "learning_rates=[1e-3]")
    assert said.status == 0, said.err
    said = scifm(*checking, "--only", "persistence")
    assert said.status in (0, 1), said.err  # hardly trained: bad news, told in a finding
    assert "persistence" in said.out
