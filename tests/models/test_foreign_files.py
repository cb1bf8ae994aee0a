from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from scifm.errors import RunError
from scifm.models.foreign_files import read_state_dict

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


class Evil:
    """Runs a command when unpickled; the command leaves a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("protocol", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("beside", [False, True])
def test_a_malicious_pickle_runs_nothing(protocol, beside, tmp_path):
    file, trace = tmp_path / "weights.tar", tmp_path / "ran"
    content = {"model_state": WEIGHTS, "optimizer_state_dict": Evil(trace)} if beside else Evil(trace)
    if protocol == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=protocol == "zip")
    with pytest.raises(RunError, match=r"cannot be read as weights .*Nothing in it was run") as caught:
        read_state_dict(file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    assert not trace.exists()
    torch.load(file, weights_only=False) if protocol != "pickle" else pickle.loads(file.read_bytes())
    assert trace.exists(), "the file was not as malicious as this test believes"


def test_what_poses_as_neuraloperator_is_not_called_either(tmp_path, monkeypatch):
    """Names that are let through stand for nothing: to call one is refused."""
    import types

    module = types.ModuleType("neuralop.layers.evil")

    def act(*_: object) -> None:
        raise AssertionError("it was called")

    act.__module__, act.__qualname__ = "neuralop.layers.evil", "act"
    module.act = act
    monkeypatch.setitem(sys.modules, "neuralop.layers.evil", module)

    class Caller:
        def __reduce__(self):
            return act, ("x",)

    torch.save({"w": torch.ones(2), "_metadata": Caller()}, tmp_path / "weights.pt")
    with pytest.raises(RunError, match="Nothing in it was run"):
        read_state_dict(tmp_path / "weights.pt")


@pytest.mark.parametrize("name", ["model_state", "model_state_dict", "state_dict", None])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_found_in_plain_files_and_in_checkpoints(name, zipped, tmp_path):
    content = {"iters": 3, "epoch": 1, name: WEIGHTS, "optimizer_state_dict": {"state": {}}} if name else WEIGHTS
    torch.save(content, tmp_path / "ckpt.tar", _use_new_zipfile_serialization=zipped)
    found = read_state_dict(tmp_path / "ckpt.tar")
    assert set(found) == set(WEIGHTS)
    assert all(torch.equal(found[key], WEIGHTS[key]) for key in WEIGHTS)


def test_safetensors_are_read(tmp_path):
    save_file(WEIGHTS, tmp_path / "w.safetensors")
    assert torch.equal(read_state_dict(tmp_path / "w.safetensors")["a.weight"], WEIGHTS["a.weight"])


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"no weights at all", b"\x80\x02."])
def test_what_is_no_weights_is_told(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match="cannot be read as") as caught:
        read_state_dict(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_other_content_and_missing_files_are_told(tmp_path):
    with pytest.raises(RunError, match="There is no file"):
        read_state_dict(tmp_path / "nothing.pt")
    with pytest.raises(RunError, match="There is no file"):
        read_state_dict(tmp_path)
    for content in ([torch.ones(2)], {"a": 1}, {"model_state": {}}, torch.ones(2)):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(RunError, match="holds no weights"):
            read_state_dict(tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_neuraloperators_own_files_are_read_with_their_record(tmp_path):
    """Their state_dict names a class and a function, which torch refuses; stand-ins let the rest in."""
    neuralop = pytest.importorskip("neuralop.models")
    network = neuralop.FNO(n_modes=(4, 4), in_channels=1, out_channels=1, hidden_channels=4, fno_skip="identity")
    torch.save(network.state_dict(), tmp_path / "w.pt")
    found = read_state_dict(tmp_path / "w.pt")
    assert found["_metadata"]["fno_skip"] == "identity"
    assert torch.equal(found["lifting.fcs.0.weight"], network.lifting.fcs[0].weight)
