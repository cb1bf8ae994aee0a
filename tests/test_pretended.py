"""The GPU that is none: it refuses what a GPU refuses, notes what one does silently, and computes what a CPU does."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pretended import GPU, pretended_gpu


@pytest.fixture
def gpu():
    with pretended_gpu() as found:
        yield found


def test_what_is_moved_or_made_there_lies_there_and_so_does_what_comes_of_it(gpu):
    here = torch.arange(6.0).view(2, 3)
    there = here.to(GPU)
    for tensor in (
        there, there.T, there[0], there @ there.T, there.new_tensor([1.0]), torch.zeros(3, device="cuda"),
        torch.zeros_like(there), there.new_zeros(2), copy.deepcopy(there), there.double(), there.sum(), there + 1,
        torch.tensor([1.0], device=GPU), torch.as_tensor([1.0], device="cuda:0"), there.to(here.dtype), there.data,
        torch.view_as_complex(torch.zeros(2, 2, device=GPU)), torch.fft.rfft2(there), there * torch.tensor(2.0),
    ):  # fmt: skip
        assert tensor.device == GPU
        assert tensor.is_cuda
        assert not tensor.is_cpu
    for tensor in (here, there.cpu(), there.to("cpu"), there.to(here), torch.zeros_like(there, device="cpu")):
        assert tensor.device.type == "cpu"
        assert not tensor.is_cuda


def test_weights_move_and_stay_the_same_objects(gpu):
    network = nn.Linear(3, 2)
    before = list(network.parameters())
    network.to(GPU)
    assert [id(weight) for weight in network.parameters()] == [id(weight) for weight in before]
    network(torch.ones(1, 3, device=GPU)).sum().backward()
    assert {str(p.device) for w in before for p in (w, w.grad)} == {"cuda:0"}
    assert network.cpu().weight.device.type == "cpu"


@pytest.mark.parametrize("mixed", [
    lambda here, there: here + there,
    lambda here, there: here @ there,
    lambda here, there: torch.cat([here, there]),
    lambda here, there: torch.where(here > 0, there, here),
    lambda here, there: here[there.long()],
    lambda here, there: torch.stack([there.sum(), here.sum()]),
])  # fmt: skip
def test_two_devices_do_not_meet(gpu, mixed):
    here = torch.ones(2, 2)
    with pytest.raises(RuntimeError, match="expected all tensors on the same device"):
        mixed(here, here.to(GPU))


def test_nor_in_a_backward_pass(gpu):
    class Forgets(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * torch.full(grad.shape, 2.0)

    x = torch.ones(3, device=GPU, requires_grad=True)
    with pytest.raises(RuntimeError, match="expected all tensors on the same device"):
        Forgets.apply(x).sum().backward()


@pytest.mark.parametrize("way", [lambda y, x: y.backward(), lambda y, x: torch.autograd.grad(y, x)])
def test_a_backward_pass_is_told_where_its_tensors_lie(gpu, way):
    seen = []

    class Asks(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            seen.append(grad.device)
            return grad

    x = torch.ones(3, device=GPU, requires_grad=True)
    way(Asks.apply(x).sum(), x)
    assert seen == [GPU]


def test_generators_fill_what_lies_where_they_do(gpu):
    there = torch.Generator(device=GPU).manual_seed(3)
    assert (there.device, there.clone_state().device) == (GPU, GPU)
    drawn = torch.rand(4, generator=there, device=GPU)
    assert torch.equal(drawn.cpu(), torch.rand(4, generator=torch.Generator().manual_seed(3)))
    for refused in (
        lambda: torch.rand(4, generator=there),
        lambda: torch.rand(4, generator=torch.Generator(), device=GPU),
        lambda: torch.zeros(4, device=GPU).normal_(generator=torch.Generator()),
    ):
        with pytest.raises(RuntimeError, match="the generator lies on another device"):
            refused()


def test_numpy_cannot_look(gpu):
    there = torch.ones(2, device=GPU)
    for look in (lambda: there.numpy(), lambda: np.asarray(there)):
        with pytest.raises(TypeError, match="can't convert a tensor on cuda:0 to numpy"):
            look()


def test_copies_and_waiting_are_written_down(gpu):
    here = torch.ones(2, 2)
    with gpu.watching() as events:
        there = here.to(GPU)
        assert events == [("to the GPU", "")]
        there.cpu(), there[torch.tensor([0])], here.copy_(there)
        float(there.sum()), bool((there > 0).all()), there[there > 0], there.nonzero(), there.tolist()
    assert [what for what, _ in events[1:]] == [
        "to the host", "silent copy: aten::index", "silent copy: aten::copy_", "waits: aten::_local_scalar_dense",
        "waits: aten::_local_scalar_dense", "waits: aten::index", "waits: aten::nonzero", "waits: tolist",
    ]  # fmt: skip
    with gpu.watching() as events:
        (there @ there).relu().sum()
    assert events == []


def test_a_gradient_comes_back_to_where_it_is_from(gpu):
    here = torch.ones(2, requires_grad=True)
    (3 * here.to(GPU)).sum().backward()
    assert here.grad.tolist() == [3.0, 3.0]
    assert here.grad.device.type == "cpu"


def test_afterwards_torch_is_as_before():
    before = (torch.Generator, torch.autocast, torch.cuda.is_available)
    with pretended_gpu() as gpu:
        there = torch.ones(2, device=GPU)
        assert gpu.has(there)
    assert (torch.Generator, torch.autocast, torch.cuda.is_available) == before
    assert there.device.type == "cpu"
