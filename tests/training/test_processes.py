from __future__ import annotations

import socket

import pytest
import torch

import ranks
from scifm.errors import ConfigError
from scifm.training.finetune import finetune, from_scratch
from scifm.training.processes import ALONE, World, joined, require_alone, world_from

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
SLURM = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[ranks.Result]:
    """What two processes found that Slurm's variables tell of each other."""
    return ranks.together(["sums", "store", "too_few"], tmp_path_factory.mktemp("ranks"), variables=ranks.SLURM)


def test_sums_and_answers_of_all(two):
    for found in two:
        assert found["sums"]["total"] == 2.0
        assert found["sums"]["any"] == [False, True]
        assert found["sums"]["gather"].tolist() == [[0, 0], [1, 1], [1, 1]], "lengths may differ"
        assert found["sums"]["stop"] == ["None", "KeyboardInterrupt()"], "Ctrl-C in one is Ctrl-C in all"


def test_one_alone_needs_nobody():
    assert ALONE.is_first
    assert ALONE.total(1.5) == 1.5
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert ALONE.gather(torch.ones(2)).tolist() == [1, 1]
    assert ALONE.stop_of_all(None) is None
    with joined(ALONE, "cpu") as world:
        world.wait()


def test_of_a_store_each_reads_its_own_part(two, tmp_path):
    first, second = (found["store"] for found in two)
    assert {len(index) for index in first["read"]} == {4}, "before the first step too, when sizes are looked at"
    assert {len(index) for index in second["read"]} == {3}
    shown = [sample for found in (first, second) for index in found["read"][-3:] for sample in index]
    assert sorted(shown) == list(range(21)), "once round: none left out, none twice"
    alone = ranks.store(ALONE, tmp_path)
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(first["weights"][name], weight, rtol=1e-11, atol=1e-14)


def test_too_few_samples_for_all_are_told_to_all(two):
    for found in two:
        assert "divided among 2 processes in 2 pieces each, and has fewer samples" in found["too_few"]["told"]
    with pytest.raises(ConfigError, match="divided among 1 processes in 4 pieces each"):
        ranks.trained(ALONE, batch_size=3, micro_batches=4)


def test_launchers_are_understood():
    assert world_from({}) == ALONE
    assert world_from(TORCHRUN) == World(5, 8, 1)
    assert world_from({**SLURM, "MASTER_ADDR": "node1"}) == World(5, 8, 1)
    assert world_from(SLURM) == ALONE, "a shell inside an allocation"
    mixed = {**SLURM, "MASTER_ADDR": "node1", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    assert world_from(mixed) == World(0, 2, 0), "torchrun inside a Slurm job"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RANK": "0"}, "must all be numbers; KeyError.'WORLD_SIZE'"),
        ({**TORCHRUN, "LOCAL_RANK": "one"}, "RANK, WORLD_SIZE, LOCAL_RANK must all be numbers"),
        ({**TORCHRUN, "RANK": "8"}, "RANK = 8 and WORLD_SIZE = 8 do not fit"),
        ({**TORCHRUN, "RANK": "-1"}, "do not fit"),
        ({"SLURM_PROCID": "0", "MASTER_ADDR": "node1"}, "SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID must all"),
    ],
)
def test_half_a_launcher_is_refused(variables, words):
    with pytest.raises(ConfigError, match=words):
        world_from(variables)


def test_without_a_meeting_place_it_says_what_to_set(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"cannot find each other.*set MASTER_ADDR and a MASTER_PORT"):
        joined(World(0, 2, 0), "cpu").__enter__()


def test_a_meeting_place_that_is_taken_is_told(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(ConfigError, match=r"cannot find each other.*MASTER_PORT that is free"):
            joined(World(0, 2, 0), "cpu").__enter__()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"Process 1 of this machine has no GPU of its own: there are 1\."):
        joined(World(1, 2, 1), "cuda").__enter__()


def test_what_one_process_does_is_refused_to_several(monkeypatch, tmp_path):
    require_alone("A study")
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"Fine-tuning runs in one process, and a launcher started 8"):
        finetune(tmp_path, None)
    with pytest.raises(ConfigError, match="Training from scratch runs in one process"):
        from_scratch(tmp_path, None)


@pytest.mark.parametrize(
    "words",
    [
        ["finetune", "nowhere", "--system", "poisson"],
        ["demo", "--out", "{out}"],
        ["study", "{recipe}", "--out", "{out}"],
    ],
)
def test_verbs_of_one_process_say_so(scifm, monkeypatch, tmp_path, words):
    import tiny
    from scifm.config import dump_toml

    (tmp_path / "study.toml").write_text(dump_toml(tiny.graph_study()))
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    said = scifm(*(word.format(out=tmp_path / "out", recipe=tmp_path / "study.toml") for word in words))
    assert said.status == 2
    assert "runs in one process, and a launcher started 8" in said.told
    assert not (tmp_path / "out").exists()
