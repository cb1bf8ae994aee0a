"""The page on models in and out: its Python runs, its recipes are read and trained."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import torch

import tiny
from reference_network import ReferenceModule, write_checkpoint
from scifm.training.pretrain import pretrain

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "models-in-and-out.md"


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_its_python_runs(tmp_path, monkeypatch):
    neuralop = pytest.importorskip("neuralop.models")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    write_checkpoint(ReferenceModule(channels=4), tmp_path / "ckpt.tar")
    network = neuralop.FNO(n_modes=(4, 4), in_channels=1, out_channels=1, hidden_channels=4)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    names: dict = {"__name__": "documentation"}
    exec(compile("\n".join(blocks("python")), PAGE.name, "exec"), names)
    assert names["answers"].shape == (4, 1, 1, 32, 32)
    assert names["imported"].kind == "fno"
    assert names["darcy"].kind == "neuralop_fno"
    batch = names["batch"]
    assert torch.equal(names["loaded"](batch).require_targets(), names["wrapped"](batch).require_targets())


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("index", range(2))
def test_its_recipes_train(index, tmp_path):
    pytest.importorskip("neuralop.models")
    tree = tomllib.loads(blocks("toml")[index])
    run = pretrain({**tiny.recipe(training={"num_steps": 2}), **tree}, out=tmp_path)
    assert run.is_complete
