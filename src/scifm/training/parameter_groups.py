"""Which weights an optimizer moves, how fast, how they are held back, and what they cost in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Anchors", "ParameterGroup", "bytes_of_gradients", "bytes_of_optimizer"]


@dataclass(frozen=True)
class ParameterGroup:
    """Weights that train alike.

    Args:
        parameters: the weights.
        learning_rate_factor: times the learning rate of the loop, at every step.
        l2_sp: weight λ of a penalty λ‖w − w₀‖² on the distance from where they started; see `Anchors`. 0: none.
    """

    parameters: tuple[nn.Parameter, ...]
    learning_rate_factor: float = 1.0
    l2_sp: float = 0.0

    @property
    def num_params(self) -> int:
        """How many weights it holds; a complex one is two."""
        return sum(p.numel() * (2 if p.is_complex() else 1) for p in self.parameters)


class Anchors:
    """Holds weights back by λ‖w − w₀‖², as a step of its own after each of the optimizer's.

    The step is the exact minimizer of ‖v − w‖²/2η + λ‖v − w₀‖², v = w₀ + (w − w₀)/(1 + 2ηλ), with η the learning rate
    of the moment. It is decoupled, as AdamW's weight decay is: Adam divides each gradient by its usual size, and a
    penalty inside the gradient would hold back least where gradients are large. Being implicit, it never overshoots.

    Where it starts, w₀, is what the weights are when this is made. It keeps a copy of them.

    Penalty: L2-SP of Li et al. (arXiv:1802.01483); the step is ours.

    Args:
        groups: the weights; groups without ``l2_sp`` are left alone.
    """

    def __init__(self, groups: Sequence[ParameterGroup]) -> None:
        self.held = [
            (group, [parameter.detach().clone() for parameter in group.parameters]) for group in groups if group.l2_sp
        ]

    @torch.no_grad()
    def pull(self, learning_rate: float) -> None:
        """Take the step; `learning_rate` is the loop's, before the factors of groups."""
        for group, starts in self.held:
            strength = 2 * learning_rate * group.learning_rate_factor * group.l2_sp
            for parameter, start in zip(group.parameters, starts, strict=True):
                parameter.lerp_(start, strength / (1 + strength))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def bytes_of_gradients(module: nn.Module) -> int:
    """Return the bytes of all gradients that are there, frozen weights' included if they had any."""
    return _bytes(parameter.grad for parameter in module.parameters() if parameter.grad is not None)


def bytes_of_optimizer(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of all tensors in the state of an optimizer: moments and step counters."""
    every = (value for state in optimizer.state.values() for value in state.values())
    parts = (part for value in every for part in (value if isinstance(value, list) else [value]))
    return _bytes(part for part in parts if isinstance(part, Tensor))
