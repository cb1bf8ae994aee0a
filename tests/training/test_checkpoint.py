from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from scifm.errors import RunError
from scifm.fields.seeds import generator_for
from scifm.training.checkpoint import Checkpoint, Position, Restored


def trained(num_steps: int, *, module: nn.Module | None = None, optimizer=None, generator=None):
    """Take some steps that draw numbers, as dropout would."""
    if module is None:
        torch.manual_seed(1)
        module = nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, fused=True)
    for _ in range(num_steps):
        optimizer.zero_grad()
        module(torch.randn(4, 3, generator=generator)).square().sum().backward()
        optimizer.step()
    return module, optimizer


def test_what_was_saved_comes_back_and_training_goes_on_bit_for_bit(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state")
    generator = generator_for(0, "test")
    module, optimizer = trained(3, generator=generator)
    position = Position(
        step=3, best_score=0.25, best_step=2, seconds=1.5, loss_sum=1 / 3, recent_losses=[0.1, 1 / 3], spiking=True
    )
    best = {"weight": torch.full((2, 3), 1 / 7)}
    checkpoint.save(module, optimizer, position, best, generators=[generator])
    trained(4, module=module, optimizer=optimizer, generator=generator)

    other = nn.Linear(3, 2)
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.1, fused=True)
    generator = generator_for(99, "another")
    found = Checkpoint(tmp_path / "state").load(other, other_optimizer, [generator])
    assert found.position == position
    assert found.damaged == {}
    assert torch.equal(found.best["weight"], best["weight"])
    trained(4, module=other, optimizer=other_optimizer, generator=generator)
    for a, b in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_infinity_survives(tmp_path):
    module, optimizer = trained(1)
    Checkpoint(tmp_path).save(module, optimizer, Position(step=1), {})
    assert Checkpoint(tmp_path).load(module, optimizer).position == Position(step=1, best_score=float("inf"))


def test_nothing_saved_is_a_fresh_start(tmp_path):
    module, optimizer = trained(0)
    before = module.weight.detach().clone()
    assert Checkpoint(tmp_path / "nowhere").load(module, optimizer) == Restored(Position(), {})
    assert torch.equal(module.weight, before)


def saved(folder, *steps: int, keep_every: int | None = None, best_step: int = 0) -> Checkpoint:
    """Save states of these steps, each of one step more training."""
    checkpoint, (module, optimizer) = Checkpoint(folder), trained(0)
    for step in steps:
        trained(1, module=module, optimizer=optimizer)
        checkpoint.save(module, optimizer, Position(step=step, best_step=best_step), {}, keep_every=keep_every)
    return checkpoint


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 7, 60, 200, -1])
def test_a_truncated_state_gives_way_to_the_one_before(tmp_path, keep):
    checkpoint = saved(tmp_path, 10, 20)
    newest = checkpoint.files()[20]
    newest.write_bytes(newest.read_bytes()[:keep])
    found = checkpoint.load(*trained(0))
    assert found.position.step == 10
    assert list(found.damaged) == ["step-00000020.safetensors"]
    assert found.damaged["step-00000020.safetensors"]
    assert list(checkpoint.files()) == [10], "set aside, so that it is not met again"
    assert (tmp_path / "damaged-step-00000020.safetensors").is_file()


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    """Each byte in turn: what is restored is right, or the state before it is."""
    checkpoint = saved(tmp_path, 10, 20)
    file = checkpoint.files()[20]
    whole = file.read_bytes()
    expected = trained(2)[0].weight
    noticed = 0
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        file.write_bytes(content)
        module, optimizer = trained(0)
        found = checkpoint.load(module, optimizer)
        if found.damaged:
            noticed += 1
            assert found.position.step == 10
        else:  # a blank of the header
            assert torch.equal(module.weight, expected)
            assert found.position == Position(step=20)
    assert noticed > 0.9 * len(range(0, len(whole), 7))


def test_another_file_of_the_same_kind_counts_as_damaged(tmp_path):
    from safetensors.torch import save_file

    checkpoint = saved(tmp_path, 10)
    save_file({"x": torch.zeros(1)}, tmp_path / "step-00000020.safetensors")
    (tmp_path / "step-00000030.safetensors").write_bytes(checkpoint.files()[10].read_bytes())
    found = checkpoint.load(*trained(0))
    assert found.position.step == 10
    assert "state of step 10" in found.damaged["step-00000030.safetensors"]
    assert "step-00000020.safetensors" in found.damaged


def test_when_no_state_is_whole_nothing_is_touched_and_it_says_so(tmp_path):
    checkpoint = saved(tmp_path, 10, 20)
    for file in checkpoint.files().values():
        file.write_bytes(b"")
    for _ in range(2):  # not a fresh start the second time
        with pytest.raises(RunError, match=r"No training state in .* is whole .*Delete that folder"):
            checkpoint.load(*trained(0))
    assert list(checkpoint.files()) == [20, 10]


def test_a_damaged_state_is_removed_once_training_has_passed_it(tmp_path):
    checkpoint = saved(tmp_path, 10, 20)
    checkpoint.files()[20].write_bytes(b"")
    module, optimizer = trained(0)
    checkpoint.load(module, optimizer)
    checkpoint.save(module, optimizer, Position(step=15), {})
    assert (tmp_path / "damaged-step-00000020.safetensors").is_file()
    checkpoint.save(module, optimizer, Position(step=20), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000015.safetensors", "step-00000020.safetensors"]


def test_the_state_of_another_network_is_a_clear_error(tmp_path):
    checkpoint = saved(tmp_path, 1)
    other = nn.Linear(3, 4)
    with pytest.raises(RunError, match="belongs to another network"):
        checkpoint.load(other, torch.optim.AdamW(other.parameters(), fused=True))
    assert list(checkpoint.files()) == [1]


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_the_newest_two_the_best_and_every_kth_are_kept(tmp_path):
    assert list(saved(tmp_path / "a", 10, 20, 30, 40).files()) == [40, 30]
    assert list(saved(tmp_path / "b", 10, 20, 30, 40, 50, keep_every=20).files()) == [50, 40, 20]
    assert list(saved(tmp_path / "c", 10, 20, 30, 40, best_step=10).files()) == [40, 30, 10]


@pytest.mark.parametrize("where", ["fsync", "replace", "space"])
def test_a_failed_save_keeps_the_states_before(tmp_path, monkeypatch, where):
    checkpoint = saved(tmp_path, 1, 2)
    module, optimizer = trained(3)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    if where == "space":
        monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    else:
        monkeypatch.setattr(*((os, "fsync", full) if where == "fsync" else (Path, "replace", full)))
    with pytest.raises(RunError, match=r"No space left|is full"):
        checkpoint.save(module, optimizer, Position(step=3), {})
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001.safetensors", "step-00000002.safetensors"]
    assert checkpoint.load(module, optimizer).position.step == 2


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    checkpoint = saved(tmp_path, 1)
    (tmp_path / ".step-00000002.safetensors.123.part").write_bytes(b"half")
    assert checkpoint.load(*trained(0)).position.step == 1
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001.safetensors"]


def test_killed_after_the_new_state_and_before_the_old_ones_went(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint, "_prune", lambda self, position, keep_every: None)
    saved(tmp_path, 1, 2, 3, 4)
    monkeypatch.undo()
    checkpoint, (module, optimizer) = Checkpoint(tmp_path), trained(0)
    assert checkpoint.load(module, optimizer).position.step == 4
    checkpoint.save(module, optimizer, Position(step=5), {})
    assert list(checkpoint.files()) == [5, 4]
