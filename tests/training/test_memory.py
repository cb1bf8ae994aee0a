from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import tiny
from scifm.errors import RunError
from scifm.training.costs import MemoryNeed, _left_in_groups, available_memory, measure_need, require_memory

MB = 10**6


class Widening(nn.Module):
    """Keeps one known activation: 1000 numbers a sample, besides small ones."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1000))

    def forward(self, batch) -> torch.Tensor:
        return (batch.coefficients[:, :1] * self.weight).square().sum()


def need_of(num_samples: int, **changes: bool) -> MemoryNeed:
    module = Widening()
    given = {"keeps_best": False, "saves": False, **changes}
    return measure_need(module, Widening.forward, tiny.batch(num_samples), **given)


def test_it_grows_with_the_batch_as_the_activations_do():
    few, many = need_of(16), need_of(64)
    growth = (many.working - few.working) / 48
    assert 8_000 <= growth <= 20_000, "an activation of 4000 bytes, its gradient, and a temporary of either"
    assert many.weights == 4000
    assert many.optimizer == 8000


def test_the_extrapolated_peak_is_the_measured_one():
    """Four and eight samples foretell 32."""
    from scifm.training.costs import _step_peak

    operator = tiny.operator()

    def loss_of(module, batch):
        return module(batch).require_targets().square().sum()

    batch = tiny.batch(32)
    told = measure_need(operator, loss_of, batch, keeps_best=False, saves=False)
    assert told.working == pytest.approx(_step_peak(operator, loss_of, batch), rel=0.05)


def test_what_is_kept_besides_is_counted():
    assert need_of(2, keeps_best=True).best == 4000
    assert need_of(2, keeps_best=True, keeps_average=True).best == 8000
    assert need_of(2, saves=True).saving == 7 * 4000
    assert need_of(2, saves=True, keeps_best=True).saving == 9 * 4000
    need = MemoryNeed(weights=1, optimizer=10, best=5, working=100, saving=200)
    assert need.total == 215
    assert need.to_dict()["total"] == 215


def test_no_gradient_is_left_behind():
    operator = tiny.operator()
    measure_need(
        operator,
        lambda module, batch: module(batch).require_targets().square().sum(),
        tiny.batch(2),
        keeps_best=False,
        saves=False,
    )
    assert all(parameter.grad is None for parameter in operator.parameters())


def test_what_fits_passes_and_what_does_not_is_told_with_advice():
    need = MemoryNeed(weights=MB, optimizer=2 * MB, best=0, working=64 * MB, saving=4 * MB)
    require_memory(need, 66 * MB, batch_size=64)
    with pytest.raises(RunError, match=r"needs about 0\.07 GB more and 0\.03 GB are free: .*batch_size, to 32 for ex"):
        require_memory(need, 34 * MB, batch_size=64)
    with pytest.raises(RunError, match=r"Lower training\.batch_size, choose"):
        require_memory(need, 1 * MB, batch_size=64)
    with pytest.raises(RunError, match=r"\. Choose a smaller model\.size\.$"):
        require_memory(MemoryNeed(MB, 2 * MB, 0, working=MB, saving=64 * MB), 34 * MB, batch_size=64)


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_the_tightest_group_decides(tmp_path):
    write(tmp_path / "job", memory__max="1000\n", memory__current="600\n", memory__stat="anon 1\ninactive_file 100\n")
    write(tmp_path / "job" / "step", memory__max="max\n", memory__current="600\n")
    assert _left_in_groups(tmp_path, "0::/job/step\n") == [500]
    write(tmp_path / "memory" / "slurm", memory__limit_in_bytes="900", memory__usage_in_bytes="850")
    assert _left_in_groups(tmp_path, "4:memory:/slurm\n3:cpuset:/\n0::/\n") == [50]
    assert _left_in_groups(tmp_path, "0::/elsewhere\n") == []


def test_this_machine_has_some():
    assert available_memory(torch.device("cpu")) > 2**20
