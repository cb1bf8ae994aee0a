from __future__ import annotations

import pytest
import torch
from torch import nn

import tiny
from scifm.errors import ConfigError
from scifm.fields.seeds import generator_for
from scifm.models.registry import load_operator, save_operator
from scifm.training.methods import AffineAdapter, LowRankAdapter, attach_adapters, finish


def low_rank(weight: torch.Tensor, rank: int = 2) -> LowRankAdapter:
    return LowRankAdapter(weight, rank, generator=generator_for(0, "test"))


every_adapter = pytest.mark.parametrize("make", [AffineAdapter, low_rank])


def stir(module: nn.Module) -> None:
    """Move every trainable weight, as training would."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("engine", ["gemm", "fft"])
@every_adapter
def test_a_new_adapter_changes_no_bit(make, engine):
    operator, batch = tiny.operator(engine=engine), tiny.batch()
    before = operator.predict(batch).require_targets()
    attach_adapters(operator, make)
    assert torch.equal(operator.predict(batch).require_targets(), before)
    stir(operator)
    assert not torch.equal(operator.predict(batch).require_targets(), before)


@every_adapter
def test_merged_it_is_a_plain_operator_that_answers_the_same_and_can_be_saved(make, tmp_path):
    operator, batch = tiny.operator(), tiny.batch()
    plain, kind = {name: t.shape for name, t in operator.state_dict().items()}, type(operator.layers[0])
    attach_adapters(operator, make)
    stir(operator)
    adapted = operator.predict(batch).require_targets()
    finish(operator)
    assert {name: t.shape for name, t in operator.state_dict().items()} == plain
    assert type(operator.layers[0]) is kind
    assert torch.equal(operator.predict(batch).require_targets(), adapted)
    save_operator(operator, tmp_path)
    assert torch.equal(load_operator(tmp_path).predict(batch).require_targets(), adapted)


def test_merging_what_has_no_adapter_changes_nothing():
    operator = tiny.operator()
    before = {name: tensor.clone() for name, tensor in operator.state_dict().items()}
    finish(operator)
    assert all(torch.equal(before[name], tensor) for name, tensor in operator.state_dict().items())


def test_the_affine_change_by_hand():
    weight = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]], [[[5.0, 6.0]], [[7.0, 8.0]]]])  # (2, 2 modes, 1 in, 2 out)
    adapter = AffineAdapter(weight)
    with torch.no_grad():
        adapter.gain.copy_(torch.tensor([[1.0, -0.5]]))  # gamma = 2 and 1/2
        adapter.shift.copy_(torch.tensor([[[10.0, 20.0]], [[-1.0, 0.0]]]))
    expected = torch.tensor([[[[12.0, 21.0]], [[16.0, 22.0]]], [[[9.0, 3.0]], [[13.0, 4.0]]]])
    assert torch.equal(adapter(weight), expected)
    assert sum(p.numel() for p in adapter.parameters()) == 3 * 1 * 2


def test_the_low_rank_change_is_a_complex_product_of_that_rank():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 5, 4, 3, generator=generator, dtype=torch.float64)
    adapter = low_rank(weight)
    assert sum(p.numel() for p in adapter.parameters()) == 2 * (4 + 3 + 2 * 5)
    assert all(p.dtype == torch.float64 for p in adapter.parameters())
    stir(adapter)
    change = adapter(weight) - weight
    change, diagonal = torch.complex(change[0], change[1]).detach(), torch.complex(*adapter.diagonal).detach()
    assert torch.linalg.matrix_rank(change, atol=1e-9).tolist() == [2] * 5
    for mode in range(5):
        expected = adapter.first.to(diagonal) @ torch.diag(diagonal[mode]) @ adapter.last.to(diagonal)
        torch.testing.assert_close(change[mode], expected.detach())
    assert float(diagonal.imag.abs().min()) > 0, "modes turn their phases too"


def test_the_first_step_moves_spectral_weights_by_about_the_learning_rate():
    """What makes one set of learning rates serve with an adapter and without."""
    weight = torch.randn(2, 6, 64, 64)
    for rank in (1, 4, 16):
        adapter = low_rank(weight, rank)
        assert torch.equal(torch.complex(*adapter.diagonal.detach()), torch.ones(6, rank, dtype=torch.complex64))
        with torch.no_grad():
            adapter.last += 1e-2 * torch.randn(adapter.last.shape).sign()
            change = (adapter(weight) - weight)[0]
        assert 0.5e-2 < float(change.square().mean().sqrt()) < 2e-2


@every_adapter
def test_the_weight_beneath_is_frozen_and_the_adapter_has_gradients(make):
    operator, batch = tiny.operator(), tiny.batch()
    attach_adapters(operator, make)
    stir(operator)
    operator(batch).require_targets().square().sum().backward()
    for layer in operator.layers:
        (adapter,) = layer.parametrizations["spectral_weight"]
        assert layer.parametrizations["spectral_weight"].original.grad is None
        assert all(float(p.grad.abs().max()) > 0 for p in adapter.parameters())


@pytest.mark.parametrize("rank", [0, 5, -1])
def test_a_rank_that_does_not_fit_is_refused_and_changes_nothing(rank):
    operator = tiny.operator()
    with pytest.raises(ConfigError, match=f"from 1 to the channels of the layer, 4 here; got {rank}"):
        attach_adapters(operator, lambda weight: low_rank(weight, rank))
    assert all(p.requires_grad for p in operator.parameters())
    attach_adapters(operator, lambda weight: low_rank(weight, 4))


def test_a_network_without_spectral_weights_is_refused():
    with pytest.raises(ConfigError, match="a Linear has none"):
        attach_adapters(nn.Linear(2, 2), AffineAdapter)
