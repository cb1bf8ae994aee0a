from __future__ import annotations

import json
import os
from pathlib import Path

import huggingface_hub
import pytest
import torch

import tiny
from reference_network import ReferenceModule, write_checkpoint
from scifm.data.generate import generate
from scifm.models.folder import FILES
from scifm.models.registry import load_operator
from scifm.systems.poisson import Poisson

NAMES = ("--inputs", "forcing", "--coefficients", "k11, k22,k12", "--outputs", "solution")


@pytest.fixture
def checkpoint(tmp_path) -> tuple[ReferenceModule, Path]:
    torch.manual_seed(0)
    network = ReferenceModule(channels=1 + len(Poisson.signature.coefficients))
    write_checkpoint(network, tmp_path / "ckpt.tar")
    return network, tmp_path / "ckpt.tar"


def poisson_names() -> tuple[str, ...]:
    s = Poisson.signature
    joined = [",".join(part) for part in (s.inputs, s.coefficients, s.outputs)]
    return ("--inputs", joined[0], "--coefficients", joined[1], "--outputs", joined[2])


def test_a_reference_checkpoint_is_imported_scored_and_tuned(scifm, checkpoint, tmp_path):
    network, file = checkpoint
    said = scifm("import-model", file, "--kind", "reference", *poisson_names(), "--out", tmp_path / "model")
    assert said.status == 0, said.err
    assert "forcing" in said.out
    assert set(os.listdir(tmp_path / "model")) == set(FILES)
    batch = tiny.batch(2)
    images = batch.coefficients[..., None, None].expand(-1, -1, 16, 16)
    with torch.no_grad():
        expected = network(torch.cat([batch.inputs[:, 0], images], dim=1))
    answer = load_operator(tmp_path / "model").predict(batch).require_targets()[:, 0]
    assert float((answer - expected).norm() / expected.norm()) < 1e-5

    sizes = {"train": 10, "valid": 2, "test": 3}
    store = generate(Poisson(), num_samples=sizes, num_points=16, path=tmp_path / "store").path
    scored = scifm("evaluate", tmp_path / "model", "--store", store, "--json")
    assert scored.status == 0, scored.err
    assert json.loads(scored.out)["num_samples"] == 3
    words = (
        "--store",
        store,
        "--num-samples",
        "8",
        "--set",
        "training.num_steps=2",
        "--set",
        "learning_rates=[1e-3]",
        "--out",
        tmp_path,
    )
    tuned = scifm("finetune", tmp_path / "model", *words, "--json")
    assert tuned.status == 0, tuned.err
    assert Path(json.loads(tuned.out)["run"]).is_dir()
    grid = scifm("finetune", tmp_path / "model", "--system", "poisson", "--num-samples", "8")
    assert grid.status == 2
    assert "on which grid" in grid.told


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_neuraloperators_weights_are_imported_with_what_they_do_not_tell(scifm, tmp_path):
    neuralop = pytest.importorskip("neuralop.models")
    network = neuralop.FNO(n_modes=(4, 5, 4), in_channels=4, out_channels=1, hidden_channels=4, fno_skip=None)
    state = {name: value for name, value in network.state_dict().items() if name != "_metadata"}
    torch.save(state, tmp_path / "w.pt")
    words = ("import-model", tmp_path / "w.pt", "--kind", "neuralop", *NAMES, "--out", tmp_path / "model")
    refused = scifm(*words)
    assert refused.status == 2
    assert "say fno_skip" in refused.told
    assert not (tmp_path / "model").exists()
    said = scifm(*words, "--set", "fno_skip=none", "--json")
    assert said.status == 0, said.err
    told = json.loads(said.out)
    assert told["network"]["fno_skip"] == "none"
    assert told["signature"]["num_spatial_dims"] == 3
    again = scifm(*words, "--set", "fno_skip=none")
    assert again.status == 2
    assert "holds a model already" in again.told


def test_a_normalization_of_ours_goes_with_it(scifm, checkpoint, tmp_path):
    run = tiny.finished_run(tmp_path / "runs")
    numbers = run.path / "model" / "normalization.json"
    words = ("import-model", checkpoint[1], "--kind", "reference", *poisson_names(), "--normalization", numbers)
    assert scifm(*words, "--out", tmp_path / "model").status == 0
    assert load_operator(tmp_path / "model").normalization == load_operator(run.path / "model").normalization


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"--kind": "refrence"}, "Did you mean 'reference'"),
        ({"--kind": "neuralop"}, "No key 'fno_blocks.convs.0.weight.tensor'"),
        ({"--coefficients": "k11"}, "take 4 channels; the signature names 2"),
        ({"--inputs": " , "}, "at least one input"),
        ({"--outputs": "forcing"}, "must differ"),
        ({"FILE": "nothing.tar"}, "There is no file"),
        ({"--normalization": "nothing.json"}, "normalization 'nothing.json' cannot be read"),
        ({"--set": "norm=group_norm"}, "--set is for --kind neuralop"),
    ],
)
def test_what_does_not_fit_is_one_line(scifm, checkpoint, tmp_path, changes, told):
    given = {"FILE": str(checkpoint[1]), "--kind": "reference", "--inputs": "forcing", "--coefficients": "a,b,c"}
    given |= {"--outputs": "solution", "--out": str(tmp_path / "model"), **changes}
    said = scifm("import-model", given.pop("FILE"), *(word for pair in given.items() for word in pair))
    assert said.status == 2
    assert told in said.told
    assert not (tmp_path / "model").exists()


def test_a_run_and_a_model_are_pushed(scifm, tmp_path, monkeypatch):
    seen = []

    class Api:
        def __init__(self, **_: object) -> None: ...

        def create_repo(self, repo_id: str, **settings: object) -> str:
            return f"https://hub.example/{repo_id}"

        def upload_folder(self, *, folder_path: str, **_: object) -> None:
            seen.append((Path(folder_path) / "README.md").read_text())

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    run = tiny.finished_run(tmp_path)
    said = scifm("push", run.path, "someone/poisson", "--license", "mit", "--title", "Mine")
    assert said.status == 0, said.err
    assert "https://hub.example/someone/poisson" in said.out
    assert scifm("push", run.path / "model", "someone/poisson", "--json").status == 0
    assert "license: mit" in seen[0]
    assert "# Mine" in seen[0]
    assert "license: unknown" in seen[1]
    nothing = scifm("push", tmp_path / "nowhere", "someone/poisson")
    assert nothing.status == 2
    assert nothing.told
