"""Tensors written smaller: how far off they may be, and that what is damaged is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import networks
import tiny
from scifm.errors import DataError, RunError
from scifm.models.codecs import CODECS, Int8Codec
from scifm.models.module_operator import ModuleConfig, ModuleOperator
from scifm.models.registry import load_operator, save_operator
from scifm.systems.poisson import Poisson

INT8 = Int8Codec()
every_codec = pytest.mark.parametrize("name", CODECS)


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, dtype: torch.dtype = torch.float32, size: float = 1.0) -> torch.Tensor:
        return size * torch.randn(*shape, generator=generator, dtype=dtype)

    spread = draw(6, 40, 8) * torch.logspace(-6, 3, 40).view(1, -1, 1)
    empty_row = draw(5, 7)
    empty_row[2] = 0
    return {
        "weight": draw(16, 9),
        "spread": spread,
        "empty_row": empty_row,
        "all_zero": torch.zeros(3, 4),
        "tiny": draw(4, 4, size=1e-40),
        "huge": draw(4, 4, size=1e36),
        "double": draw(4, 6, dtype=torch.float64, size=1e-200),
        "complex": draw(3, 4, dtype=torch.complex64),
        "complex_double": draw(3, 4, 2, dtype=torch.complex128),
        "half": draw(4, 4).to(torch.bfloat16),
        "bias": draw(9),
        "number": torch.tensor(3.0),
        "count": torch.tensor(7),
        "none": torch.zeros(0, 4),
    }


@every_codec
def test_names_shapes_and_precision_come_back(name):
    given = tensors()
    stored, entry = CODECS[name].encode(given)
    json.dumps(entry, allow_nan=False)
    assert CODECS[name].shapes({n: tuple(t.shape) for n, t in stored.items()}, entry) == {
        n: tuple(t.shape) for n, t in given.items()
    }
    again = CODECS[entry["name"]].decode(stored, entry)
    assert {n: (t.shape, t.dtype) for n, t in again.items()} == {n: (t.shape, t.dtype) for n, t in given.items()}
    assert all(tensor.isfinite().all() for tensor in again.values())


@every_codec
def test_it_is_idempotent_and_zero_stays_zero(name):
    for seed in range(20):
        given = tensors(seed)
        again = CODECS[name].decode(*CODECS[name].encode(given))
        twice = CODECS[name].decode(*CODECS[name].encode(again))
        for key, tensor in again.items():
            assert torch.equal(tensor, twice[key]), key
            assert (tensor[given[key] == 0] == 0).all(), key


@every_codec
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["weight", "bias"])
def test_what_is_not_finite_is_refused(name, bad, where):
    given = tensors()
    given[where].view(-1)[1] = bad
    with pytest.raises(DataError, match=f"'{where}'"):
        CODECS[name].encode(given)


def test_no_weight_is_off_by_more_than_half_a_step_of_its_scale():
    for seed in range(20):
        given = tensors(seed)
        stored, entry = INT8.encode(given)
        again = CODECS[entry["name"]].decode(stored, entry)
        assert set(entry["weights"]) == {
            "weight", "spread", "empty_row", "all_zero", "tiny", "huge", "double", "complex", "complex_double"
        }  # fmt: skip
        for key in entry["weights"]:
            old, new = (torch.view_as_real(t) if t.is_complex() else t for t in (given[key], again[key]))
            assert ((new.double() - old.double()).abs() <= stored[f"{key}.scale"].double() / 2).all(), key
            assert stored[key].dtype == torch.int8
        for key in set(given) - set(entry["weights"]):
            assert torch.equal(again[key], given[key])


def test_scales_run_along_the_axis_that_suits_the_weight():
    stored, entry = INT8.encode(tensors())
    assert entry["weights"]["spread"]["axis"] == 1
    assert stored["spread.scale"].shape == (1, 40, 1)
    assert stored["complex.scale"].dtype == torch.float32


@pytest.fixture
def saved(tmp_path):
    save_operator(tiny.operator(), tmp_path, codec="int8")
    return tmp_path


def test_a_model_is_saved_by_a_codec_and_loaded_without_being_told(saved):
    operator, again = tiny.operator(), load_operator(saved)
    given = {name: tensor.contiguous() for name, tensor in operator.state_dict().items()}
    expected = INT8.decode(*INT8.encode(given))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.state_dict().items())
    assert again.describe() == operator.describe()
    save_operator(again, saved / "again", codec="int8")
    assert (saved / "again" / "model.safetensors").read_bytes() == (saved / "model.safetensors").read_bytes()


def test_complex_and_tied_weights_of_anyones_network(tmp_path):
    operator = ModuleOperator(Poisson.signature, ModuleConfig(target=f"{networks.__name__}:Tied"))
    save_operator(operator, tmp_path, codec="int8")
    again = load_operator(tmp_path)
    assert again.module.first.weight is again.module.second.weight
    assert torch.equal(again.module.turn, operator.module.turn) or again.module.turn.is_complex()


@pytest.mark.parametrize("damage", ["codec", "scale gone", "scale zero", "scale shape", "wide", "notes", "no table"])
def test_what_is_damaged_is_refused_in_one_sentence(saved, damage):
    config, file = json.loads((saved / "config.json").read_text()), saved / "model.safetensors"
    stored = load_file(file)
    name = next(iter(config["codec"]["weights"]))
    if damage == "codec":
        config["codec"]["name"] = "int9"
    elif damage == "notes":
        config["codec"]["weights"][name]["dtype"] = "object"
    elif damage == "no table":
        config["codec"] = "int8"
    elif damage == "scale gone":
        del stored[f"{name}.scale"]
    elif damage == "scale zero":
        stored[f"{name}.scale"].zero_()
    elif damage == "scale shape":
        stored[f"{name}.scale"] = torch.ones(1)
    else:
        stored[name] = stored[name].float()
    (saved / "config.json").write_text(json.dumps(config))
    save_file(stored, file)
    with pytest.raises(RunError) as refusal:
        load_operator(saved)
    told = str(refusal.value)
    assert "\n" not in told
    if damage == "codec":
        assert "'int9' is unknown. Did you mean 'int8'?" in told


def test_the_registry_names_codecs_as_they_name_themselves():
    assert {name: codec.name for name, codec in CODECS.items()} == {"int8": Int8Codec.name}


def test_the_smallest_weights_stay_wide():
    """They hold next to no bytes, and every answer passes them."""
    given = {
        "large": torch.randn(20, 100),
        "lift": torch.randn(2, 5),
        "skip": torch.randn(2, 5),
        "more": torch.randn(3, 5),
    }
    stored, entry = INT8.encode(given)
    assert set(entry["weights"]) == {"large", "more"}, "20 of 2,035 numbers are the smallest hundredth"
    assert torch.equal(stored["lift"], given["lift"])
