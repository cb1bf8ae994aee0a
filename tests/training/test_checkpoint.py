from __future__ import annotations

import pytest
import torch
from torch import nn

from scifm.errors import RunError
from scifm.training.checkpoint import Checkpoint, Position


def trained(num_steps: int, *, module: nn.Module | None = None, optimizer=None):
    """Take some steps that use the global generator, as dropout would."""
    if module is None:
        torch.manual_seed(1)
        module = nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, fused=True)
    for _ in range(num_steps):
        optimizer.zero_grad()
        module(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    return module, optimizer


def test_what_was_saved_comes_back_and_training_goes_on_bit_for_bit(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state")
    module, optimizer = trained(3)
    position = Position(step=3, best_score=0.25, best_step=2, seconds=1.5, loss_sum=1 / 3)
    best = {"weight": torch.full((2, 3), 1 / 7)}
    checkpoint.save(module, optimizer, position, best)
    trained(4, module=module, optimizer=optimizer)

    other = nn.Linear(3, 2)
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.1, fused=True)
    torch.manual_seed(99)
    loaded, loaded_best = Checkpoint(tmp_path / "state").load(other, other_optimizer)
    assert loaded == position
    assert torch.equal(loaded_best["weight"], best["weight"])
    trained(4, module=other, optimizer=other_optimizer)
    for a, b in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_infinity_survives(tmp_path):
    module, optimizer = trained(1)
    Checkpoint(tmp_path).save(module, optimizer, Position(step=1), {})
    assert Checkpoint(tmp_path).load(module, optimizer) == (Position(step=1, best_score=float("inf")), {})


def test_nothing_saved_is_a_fresh_start(tmp_path):
    module, optimizer = trained(0)
    before = module.weight.detach().clone()
    assert Checkpoint(tmp_path / "nowhere").load(module, optimizer) == (Position(), {})
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize("keep", [0, 7, 60, 200, -1])
def test_a_truncated_state_is_a_clear_error(tmp_path, keep):
    module, optimizer = trained(1)
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(module, optimizer, Position(step=1), {})
    checkpoint.file.write_bytes(checkpoint.file.read_bytes()[:keep])
    with pytest.raises(RunError, match=r"training state .* cannot be read .*Delete the folder"):
        checkpoint.load(module, optimizer)


def test_another_file_of_the_same_kind_is_a_clear_error(tmp_path):
    from safetensors.torch import save_file

    module, optimizer = trained(1)
    checkpoint = Checkpoint(tmp_path)
    save_file({"x": torch.zeros(1)}, checkpoint.file)
    with pytest.raises(RunError, match="cannot be read"):
        checkpoint.load(module, optimizer)


def test_the_state_of_another_network_is_a_clear_error(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(*trained(1), Position(step=1), {})
    other = nn.Linear(3, 4)
    with pytest.raises(RunError, match="cannot be read"):
        checkpoint.load(other, torch.optim.AdamW(other.parameters(), fused=True))


def test_a_failed_save_keeps_the_state_before(tmp_path, monkeypatch):
    import os

    checkpoint = Checkpoint(tmp_path)
    module, optimizer = trained(1)
    checkpoint.save(module, optimizer, Position(step=1), {})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        checkpoint.save(module, optimizer, Position(step=2), {})
    monkeypatch.undo()
    assert checkpoint.load(module, optimizer)[0].step == 1
