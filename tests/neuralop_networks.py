"""Networks of neuraloperator and questions for them: what the tests of our copy of its FNO share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scifm.fields.batch import Signature

__all__ = ["answer_of", "distance", "neuralop", "question", "signature", "theirs"]

neuralop = pytest.importorskip("neuralop.models")


def signature(dims: int) -> Signature:
    return Signature(("f",), ("a", "b"), ("u", "v"), num_spatial_dims=dims)


def theirs(modes: tuple[int, ...], **settings: Any) -> torch.nn.Module:
    """Return a network of neuraloperator whose every weight, biases and gates too, is a number of its own."""
    torch.manual_seed(sum(modes))
    network = neuralop.FNO(
        n_modes=modes, in_channels=3, out_channels=2, **{"hidden_channels": 5, "n_layers": 3, **settings}
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 0.2 * torch.rand(parameter.shape)).add_(0.05 * torch.randn(parameter.shape))
    return network.eval()


def question(space: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 1, 1, *space, requires_grad=True), torch.randn(2, 2, requires_grad=True)


def answer_of(network: torch.nn.Module, fields: Tensor, coefficients: Tensor) -> Tensor:
    space = fields.shape[3:]
    constants = coefficients.view(2, 2, *(1,) * len(space)).expand(2, 2, *space)
    return network(torch.cat([fields[:, 0], constants], dim=1))


def distance(one: Tensor, other: Tensor) -> float:
    return float(((one - other).norm() / other.norm()).detach())
