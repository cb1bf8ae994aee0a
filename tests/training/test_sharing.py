from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import ranks
import tiny
from scifm.objectives.supervised import MeanSquaredError
from scifm.training.processes import ALONE, World
from scifm.training.sharing import SharedGradient

NAMES = ["ddp", "fsdp", "unequal_ddp", "unequal_fsdp", "kinds", "evolving", "stop_and_go_on", "dropout"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def two(folder) -> list[ranks.Result]:
    """What two processes found, by rank and case."""
    return ranks.together(NAMES, folder)


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> ranks.Result:
    """What one process finds in the cases that are compared."""
    place, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    found = {name: ranks.CASES[name](ALONE, place) for name in ("ddp", "unequal_ddp", "kinds", "evolving", "dropout")}
    assert torch.get_num_threads() == threads
    return found


def apart(first: dict, second: dict) -> float:
    """Return the largest relative distance of two sets of weights, tensor by tensor."""
    assert first.keys() == second.keys()
    distances = [(first[n] - second[n]).abs().max() / second[n].abs().max().clamp(min=1e-300) for n in first]
    return float(torch.stack([d.double() for d in distances]).max())


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_find_what_one_finds(one, two, strategy):
    """20 steps in float64, gradients clipped, weights averaged, validated every 4."""
    alone, shared = one["ddp"], two[0][strategy]
    assert apart(ranks.fresh().double().state_dict(), alone["weights"]) > 1e-2, "it did learn"
    assert 0 < apart(shared["weights"], alone["weights"]) < 1e-12
    assert shared["scores"] == pytest.approx(alone["scores"], rel=1e-12)
    assert shared["losses"] == pytest.approx(alone["losses"], rel=1e-12)
    assert len(shared["scores"]) == 5
    assert same(two[1][strategy]["weights"], shared["weights"]), "every process ends with the same"
    assert two[1][strategy]["scores"] == shared["scores"]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_unequal_shares_weights_of_samples_and_micro_batches(one, two, strategy):
    """7 samples in 4 pieces, of two systems that count 1 and 3."""
    alone, shared = one["unequal_ddp"], two[0][f"unequal_{strategy}"]
    assert apart(shared["weights"], alone["weights"]) < 1e-12
    assert shared["losses"] == pytest.approx(alone["losses"], rel=1e-12)


def test_micro_batches_of_one_process_are_the_batch():
    whole = ranks.trained(ALONE, source=ranks.mixture(7), batch_size=7, num_steps=10)
    pieces = ranks.trained(ALONE, source=ranks.mixture(7), batch_size=7, num_steps=10, micro_batches=3)
    assert 0 < apart(pieces["weights"], whole["weights"]) < 1e-12


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_what_evolves_is_shared_as_well(one, two, strategy):
    """A history of two frames, marched by two steps: 7 windows in 4 pieces."""
    alone, shared = one["evolving"]["ddp"], two[0]["evolving"][strategy]
    assert alone["losses"][-1] < 0.9 * alone["losses"][0], "it did learn"
    assert 0 < apart(shared["weights"], alone["weights"]) < 1e-12
    assert shared["losses"] == pytest.approx(alone["losses"], rel=1e-12)
    assert shared["scores"] == pytest.approx(alone["scores"], rel=1e-12)
    assert same(two[1]["evolving"][strategy]["weights"], shared["weights"])


@pytest.mark.parametrize("kind", ["neuralop_fno", "module", "idle"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_other_kinds_of_operators(one, two, kind, strategy):
    """The one called `idle` has weights that its answer does not hang on."""
    name = f"{kind} {strategy}"
    beginning = ranks.fresh(kind=kind).double().state_dict()
    assert apart(beginning, two[0]["kinds"][name]) > 1e-3
    assert apart(two[0]["kinds"][name], one["kinds"][name]) < 1e-12
    assert same(two[1]["kinds"][name], two[0]["kinds"][name])


def test_complex_weights_train_as_copies_and_are_refused_as_shares(one, two):
    name = "module.turn"
    alone = one["kinds"]["complex ddp"]
    assert apart({name: alone[name]}, {name: ranks.fresh(kind="complex").state_dict()[name]}) > 1e-3
    assert apart(two[0]["kinds"]["complex ddp"], alone) < 1e-12
    for found in two:
        assert "cannot share complex weights, such as 'module.turn'. Choose 'ddp'" in found["kinds"]["complex fsdp"]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_stopped_and_resumed_is_never_stopped(one, two, folder, strategy, tmp_path):
    """One of two processes is asked to stop at step 9; both save and go on, or one goes on alone."""
    for rank, found in enumerate(two):
        stopped = found["stop_and_go_on"][f"{strategy} stopped"]
        assert stopped["steps"] == list(range(1, 10))
        assert stopped["stopped"] == ("StopRequested('SIGTERM')" if rank else "StopRequested('another process')")
        resumed = found["stop_and_go_on"][f"{strategy} resumed"]
        assert resumed["steps"] == list(range(10, 21))
        assert same(resumed["weights"], found[strategy]["weights"])
        assert resumed["scores"] == found[strategy]["scores"][2:]
    left = shutil.copytree(folder / f"left-{strategy}", tmp_path / "left")
    alone = ranks.trained(ALONE, folder=left, **ranks.AVERAGED)
    assert alone["steps"] == list(range(10, 21))
    assert apart(alone["weights"], one["ddp"]["weights"]) < 1e-12


def test_only_the_first_process_writes_and_one_file_holds_it_all(two, folder):
    from safetensors.torch import load_file

    for strategy in ("ddp", "fsdp"):
        names = sorted(file.name for file in (folder / strategy).iterdir())
        assert all(name.startswith("step-") for name in names)
        state = load_file(folder / strategy / names[-1])
        averages = {n.removeprefix("average/"): t for n, t in state.items() if n.startswith("average/")}
        assert same(averages, two[0][strategy]["weights"])
        shapes = {n.removeprefix("weights/"): t.shape for n, t in state.items() if n.startswith("weights/")}
        assert shapes == {n: t.shape for n, t in averages.items()}
        assert len(state["generator/cpu"]) == 2


def test_every_process_draws_for_itself_and_goes_on_where_it_drew(one, two):
    first, second = (found["dropout"] for found in two)
    assert not torch.equal(first["straight"]["generator"], second["straight"]["generator"])
    for found in (first, second):
        assert torch.equal(found["resumed"]["generator"], found["straight"]["generator"])
        assert same(found["resumed"]["weights"], found["straight"]["weights"])
    assert same(first["straight"]["weights"], second["straight"]["weights"])
    assert apart(first["straight"]["weights"], one["dropout"]["straight"]["weights"]) > 1e-4, "other masks, as it must"


def test_layers_computed_again_give_the_same_gradient():
    def gradients(*, recompute: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        shared = SharedGradient(
            operator := ranks.fresh(), MeanSquaredError(), ranks.mixture(4), ALONE, recompute=recompute
        )
        operator.train()
        shared.loss.operator(tiny.batch()).require_targets().square().mean().backward()
        shared.give_back(operator)
        assert not operator.recompute
        return [parameter.grad for parameter in operator.parameters()]

    kept, again = gradients(recompute=False), gradients(recompute=True)
    assert all(torch.equal(first, second) for first, second in zip(kept, again, strict=True))


def test_layers_computed_again_in_training():
    kept, again = (ranks.trained(ALONE, num_steps=5, recompute=recompute) for recompute in (False, True))
    assert same(kept["weights"], again["weights"])
    theirs = (ranks.trained(ALONE, num_steps=5, recompute=again, kind="neuralop_fno") for again in (False, True))
    assert same(*(trained["weights"] for trained in theirs))


def test_one_process_shares_with_nobody():
    operator = ranks.fresh()
    shared = SharedGradient(operator, MeanSquaredError(), ranks.mixture(4), World(), strategy="fsdp")
    assert shared.trained is operator
    assert not shared.is_sharded
