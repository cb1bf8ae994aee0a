"""Memory that is used again must never be used twice at once."""

from __future__ import annotations

import copy
import pickle

import torch

import tiny
from scifm.fields.batch import Signature
from scifm.models.fno import FNO, FNOConfig
from scifm.models.parts.workspace import Workspace

LIKE = torch.zeros(1)
SHAPE = (256, 512)


def test_freed_memory_comes_back_and_living_memory_does_not():
    workspace = Workspace()
    first = workspace.empty(SHAPE, LIKE)
    address = first.data_ptr()
    view = first[3:]
    del first
    assert workspace.empty(SHAPE, LIKE).data_ptr() != address, "a view still uses it"
    del view
    held = [workspace.empty(SHAPE, LIKE) for _ in range(2)]
    assert address in [tensor.data_ptr() for tensor in held]


def test_tensors_have_the_shape_precision_and_device_of_the_request():
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        tensor = Workspace().empty(SHAPE, LIKE.to(dtype))
        assert (tuple(tensor.shape), tensor.dtype, tensor.is_contiguous()) == (SHAPE, dtype, True)


def test_released_memory_is_gone():
    workspace = Workspace()
    tensor = workspace.empty(SHAPE, LIKE)
    del tensor
    assert any(workspace.idle.values())
    workspace.release()
    assert not any(workspace.idle.values())


def test_two_forward_passes_before_a_backward_pass_do_not_disturb_each_other():
    torch.manual_seed(0)
    operator = FNO(Signature(("f",), (), ("u",)), FNOConfig(width=32, modes=4, latent_points=0))
    inputs = torch.randn(2, 4, 1, 1, 64, 64)
    none = torch.zeros(4, 0)

    def gradient(order):
        answers = [operator.network(tiny.encoded(x, none)) for x in inputs]
        operator.zero_grad()
        for index in order:
            answers[index].square().mean().backward()
        return operator.layers[0].spectral_weight.grad.clone()

    first = gradient([0, 1])
    torch.testing.assert_close(gradient([1, 0]), first, rtol=1e-5, atol=1e-9)
    operator.zero_grad()
    for x in inputs:
        operator.network(tiny.encoded(x, none)).square().mean().backward()
    torch.testing.assert_close(operator.layers[0].spectral_weight.grad, first, rtol=1e-5, atol=1e-9)


def test_a_copied_or_pickled_network_has_a_workspace_of_its_own():
    workspace = Workspace()
    assert copy.deepcopy(workspace) is not workspace
    assert isinstance(pickle.loads(pickle.dumps(workspace)), Workspace)
