"""The sliced projection is the plain one, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from scifm.models.parts import pointwise
from scifm.models.parts.pointwise import Projection


@pytest.fixture(params=[1 << 18, 35, 1], ids=["one slice", "uneven slices", "a point at a time"])
def layer(request, monkeypatch) -> Projection:
    monkeypatch.setattr(pointwise, "_SLICE_ELEMENTS", request.param)
    torch.manual_seed(0)
    return Projection(3, 7, 2).double()


def test_it_equals_the_plain_maps_in_values_and_gradients(layer):
    x = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    first, last = layer
    plain = last(functional.gelu(first(x)))
    sliced = layer(x)
    torch.testing.assert_close(sliced, plain, rtol=1e-12, atol=1e-14)
    weight = torch.randn_like(plain)
    wanted = torch.autograd.grad((plain * weight).sum(), [x, *layer.parameters()])
    found = torch.autograd.grad((sliced * weight).sum(), [x, *layer.parameters()])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_gradients_pass_gradcheck(layer):
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


def test_parameters_keep_the_names_of_saved_models():
    assert list(Projection(2, 3, 1).state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert isinstance(Projection(2, 3, 1)[0], nn.Linear)
