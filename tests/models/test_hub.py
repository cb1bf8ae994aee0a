from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import load_file

import tiny
from scifm.data.normalize import fit_normalization
from scifm.errors import RunError
from scifm.models.fno import FNO, FNOConfig
from scifm.models.hub import load_operator, save_operator
from scifm.systems.poisson import Poisson


@pytest.fixture
def operator() -> FNO:
    normalization = fit_normalization(tiny.batch(8), Poisson.homogeneities)
    return FNO(Poisson.signature, FNOConfig(**tiny.NETWORK), normalization=normalization)


@pytest.fixture
def saved(operator, tmp_path):
    save_operator(operator, tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_operator_comes_back_bit_for_bit(operator, saved):
    again = load_operator(saved)
    batch = tiny.batch(3)
    assert torch.equal(again(batch).require_targets(), operator(batch).require_targets())
    assert again.describe() == operator.describe()
    assert {n: t.dtype for n, t in again.state_dict().items()} == {n: t.dtype for n, t in operator.state_dict().items()}
    save_operator(again, saved.parent / "again")
    for name in ("config.json", "model.safetensors"):
        assert (saved / name).read_bytes() == (saved.parent / "again" / name).read_bytes()


def test_double_precision_weights_are_not_rounded(operator, saved):
    operator = operator.double()
    with torch.no_grad():
        operator.lift.bias += 1e-12
    save_operator(operator, saved)
    batch = tiny.batch(2, dtype=torch.float64)
    assert torch.equal(load_operator(saved)(batch).require_targets(), operator(batch).require_targets())


def test_the_layout_is_that_of_the_hub(operator, saved):
    assert sorted(os.listdir(saved)) == ["config.json", "model.safetensors"]
    assert set(load_file(saved / "model.safetensors")) == set(operator.state_dict())
    assert set(json.loads((saved / "config.json").read_text())) == {"kind", "signature", "network", "normalization"}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(RunError, match=f"holds no model: .*{name} is missing"):
        load_operator(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_a_clear_error(saved, name, keep):
    content = (saved / name).read_bytes().rstrip()
    (saved / name).write_bytes(content[:keep])
    with pytest.raises(RunError, match="cannot be read"):
        load_operator(saved)


FOREIGN = [
    "[]",
    "{}",
    "null",
    '{"kind": "transformer"}',
    '{"architectures": ["BertModel"], "hidden_size": 768}',
]


@pytest.mark.parametrize("content", FOREIGN)
def test_a_config_of_another_program_is_a_clear_error(saved, content):
    (saved / "config.json").write_text(content)
    with pytest.raises(RunError, match="cannot be read"):
        load_operator(saved)


def test_a_config_that_is_no_text_is_a_clear_error(saved):
    (saved / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match="cannot be read"):
        load_operator(saved)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("network", "width", 5),
        ("network", "depth", 5),
        ("network", "width", "wide"),
        ("signature", "inputs", []),
        ("signature", "coefficients", ["a"]),
        ("signature", "num_spatial_dims", "two"),
        ("normalization", "input_scale", [0.0]),
        ("normalization", "gauge_sizes", []),
        ("normalization", "homogeneities", [{"exponents": [], "gauge": [], "measure": "rms"}]),
    ],
)
def test_a_config_that_does_not_fit_is_a_clear_error(saved, table, key, value):
    entries = json.loads((saved / "config.json").read_text())
    entries[table][key] = value
    (saved / "config.json").write_text(json.dumps(entries))
    with pytest.raises(RunError, match="cannot be read"):
        load_operator(saved)


def test_weights_of_another_network_are_a_clear_error(saved, tmp_path):
    save_operator(FNO(Poisson.signature, FNOConfig(**{**tiny.NETWORK, "width": 5})), tmp_path / "other")
    (saved / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(RunError, match="cannot be read"):
        load_operator(saved)


def test_a_failed_save_keeps_what_was_there(operator, saved, monkeypatch):
    before = (saved / "model.safetensors").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        save_operator(FNO(Poisson.signature, FNOConfig(**tiny.NETWORK)), saved)
    monkeypatch.undo()
    assert (saved / "model.safetensors").read_bytes() == before
    load_operator(saved)
