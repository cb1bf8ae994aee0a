from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tiny
from scifm.data.normalize import fit_normalization
from scifm.errors import ConfigError, RunError
from scifm.models.fno import FNO, FNOConfig
from scifm.models.folder import FILES, ModelPlace, digest, find_model, holds_operator
from scifm.models.operator import Operator
from scifm.models.registry import load_operator, save_operator
from scifm.systems.advection_diffusion import AdvectionDiffusion
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
    for name in FILES:
        assert (saved / name).read_bytes() == (saved.parent / "again" / name).read_bytes()


@pytest.mark.parametrize("measured", ["now", "before"])
def test_an_operator_keeps_the_measure_it_was_saved_with(measured, tmp_path):
    """Before, advection–diffusion was measured by its diffusion alone."""
    forcing, scaling = AdvectionDiffusion.homogeneities
    if measured == "before":
        scaling = replace(scaling.parts[0], exponents=scaling.exponents)
    batch = AdvectionDiffusion().sample(4, tiny.GRID, torch.Generator().manual_seed(0))
    normalization = fit_normalization(batch, (forcing, scaling))
    operator = FNO(batch.signature, FNOConfig(**tiny.NETWORK), normalization=normalization)
    save_operator(operator, tmp_path)
    told = json.loads((tmp_path / "normalization.json").read_text())["homogeneities"][1]
    assert told["measure"] == {"now": "sum", "before": "geometric_mean"}[measured]
    again = load_operator(tmp_path)
    assert again.normalization == normalization
    assert torch.equal(again(batch).require_targets(), operator(batch).require_targets())


def test_double_precision_weights_are_not_rounded(operator, saved):
    operator = operator.double()
    with torch.no_grad():
        operator.lift.bias += 1e-12
    save_operator(operator, saved)
    batch = tiny.batch(2, dtype=torch.float64)
    assert torch.equal(load_operator(saved)(batch).require_targets(), operator(batch).require_targets())


def test_the_layout_is_that_of_the_hub(operator, saved):
    assert set(os.listdir(saved)) == set(FILES)
    assert set(load_file(saved / "model.safetensors")) == set(operator.state_dict())
    assert set(json.loads((saved / "config.json").read_text())) == {"kind", "signature", "domain", "network"}
    assert json.loads((saved / "normalization.json").read_text()) == operator.normalization.to_dict()


@pytest.mark.parametrize("name", FILES[:3])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(RunError, match=f"holds no model: .*{name} is missing"):
        load_operator(saved)


@pytest.mark.parametrize("name", FILES[:3])
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
        ("normalization", "homogeneities", [{"exponents": {"f": 1}, "gauge": ["f"], "measure": "loudness"}] * 2),
    ],
)
def test_a_config_that_does_not_fit_is_a_clear_error(saved, table, key, value):
    file = saved / ("normalization.json" if table == "normalization" else "config.json")
    entries = json.loads(file.read_text())
    (entries if table == "normalization" else entries[table])[key] = value
    file.write_text(json.dumps(entries))
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


def peak_growth(work) -> int:
    """Return by how many bytes the largest memory of this process grew."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


ABSURD = [
    {"width": 4096, "modes": 4096, "latent_points": 0},
    {"width": 4096, "projection_width": 8192},
    {"num_layers": 64, "width": 4096},
    {"num_layers": 10**9},
    {"width": 10**400},
]


@pytest.mark.parametrize("network", ABSURD)
def test_absurd_numbers_take_no_memory(saved, network):
    entries = json.loads((saved / "config.json").read_text())
    entries["network"] |= network
    (saved / "config.json").write_text(json.dumps(entries))

    def refused() -> None:
        with pytest.raises(RunError, match="cannot be read") as caught:
            load_operator(saved)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1200

    assert peak_growth(refused) < 64 * 2**20


def test_weights_that_declare_more_than_the_file_holds_are_refused_before_they_are_read(saved):
    header = json.dumps({"lift.weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}})
    (saved / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode())

    def refused() -> None:
        with pytest.raises(RunError, match="cannot be read"):
            load_operator(saved)

    assert peak_growth(refused) < 64 * 2**20


def test_the_weight_that_does_not_fit_is_named(saved, tmp_path):
    save_operator(FNO(Poisson.signature, FNOConfig(**{**tiny.NETWORK, "width": 5})), tmp_path / "other")
    (saved / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(RunError, match=r"'layers.0.skip.bias' is \(5,\) in .* and \(4,\) in config"):
        load_operator(saved)


def test_a_config_beyond_all_measure_is_not_read(saved):
    with (saved / "config.json").open("wb") as handle:
        handle.truncate(2**30)
    with pytest.raises(RunError, match=r"config\.json is larger than"):
        load_operator(saved)


def test_the_methods_do_what_the_functions_do(operator, saved):
    operator.save_pretrained(saved.parent / "again", card={"title": "Again", "license": "mit"})
    for kind in (Operator, FNO):
        again = kind.from_pretrained(str(saved.parent / "again"))
        assert torch.equal(again(tiny.batch(2)).require_targets(), operator(tiny.batch(2)).require_targets())

    class Other(Operator):
        pass

    with pytest.raises(RunError, match="of kind 'fno', and no Other"):
        Other.from_pretrained(saved)
    with pytest.raises(ConfigError, match="Did you mean 'license'"):
        operator.save_pretrained(saved, card={"licence": "mit"})


def test_a_model_is_told_from_a_run_and_from_another_model(operator, saved, tmp_path):
    assert holds_operator(saved)
    assert not holds_operator(saved.parent)
    before = digest(saved)
    save_operator(operator, tmp_path / "again", card={"title": "the same"})
    assert digest(tmp_path / "again") == before
    with torch.no_grad():
        operator.lift.bias += 1
    save_operator(operator, tmp_path / "again")
    assert digest(tmp_path / "again") != before


def test_a_network_object_is_for_modules_only(saved):
    with pytest.raises(RunError, match="module= is for operators of kind 'module'; this one is of kind 'fno'"):
        load_operator(saved, module=torch.nn.Linear(1, 1))


def test_loading_a_larger_one_works_and_draws_no_random_number(tmp_path):
    operator = FNO(Poisson.signature, FNOConfig.of_size("tiny"))
    save_operator(operator, tmp_path)
    state = torch.get_rng_state()
    load_operator(tmp_path)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("entry", ["input_shift", "coefficient_scale", "output_scale"])
def test_a_normalization_of_other_fields_is_refused(entry, tmp_path):
    save_operator(tiny.operator(), tmp_path)
    file = tmp_path / "normalization.json"
    numbers = json.loads(file.read_text())
    file.write_text(json.dumps({**numbers, entry: [*numbers[entry], 1.0]}))
    with pytest.raises(RunError, match=f"'{entry}' in normalization.json has"):
        load_operator(tmp_path)


def test_every_way_to_name_a_model_finds_it(tmp_path, monkeypatch):
    run = tiny.finished_run(tmp_path)
    weights = load_operator(run.path / "model").state_dict()
    for source in (run, run.path, str(run.path), run.path / "model"):
        place = find_model(source)
        assert (place.run.path, place.path) == (run.path, run.path)
        assert all(torch.equal(tensor, weights[name]) for name, tensor in load_operator(source).state_dict().items())
    alone = shutil.copytree(run.path / "model", tmp_path / "alone")
    assert find_model(alone) == ModelPlace(alone, None)
    fetched = []

    def snapshot_download(repo_id, **asked):
        fetched.append((repo_id, asked["revision"]))
        return str(alone)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    for source in ("hf:name/model", "hf://name/model", Path("hf://name/model"), "hf:name/model@v1"):
        assert find_model(source) == ModelPlace(alone, None)
    assert fetched == [("name/model", None)] * 3 + [("name/model", "v1")]


def test_what_holds_no_model_is_told_so_and_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(RunError, match="There is no folder 'runs/gone'"):
        load_operator("runs/gone")
    run = tiny.finished_run(tmp_path)
    run.set_status("running")
    with pytest.raises(RunError, match="is not complete"):
        load_operator(run)
