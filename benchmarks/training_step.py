"""What benchmarks of networks beside one another share: a step of training, and the products in it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["operations", "step_of"]


def step_of(network: nn.Module, answer: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a function that takes one training step."""
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        answer().square().mean().backward()
        optimizer.step()

    return step


def operations(answer: Callable[[], Tensor]) -> int:
    """Return the operations of the products of a step: a backward pass has two for each of the forward pass.

    torch counts those of grouped convolutions right in the forward pass only.
    """
    with FlopCounterMode(display=False) as counter:
        answer()
    return 3 * counter.get_total_flops()
