"""Weights beside the optimizer: which train alike, what holds them back, their average, where and how they lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from scifm.errors import RunError

__all__ = [
    "Anchors", "MovingAverage", "ParameterGroup", "Precision", "bytes_of", "bytes_of_gradients", "bytes_of_optimizer",
    "dtype_of", "in_precision", "place", "placed_like", "whole",
]  # fmt: skip


Precision = Literal["32-true", "64-true", "bf16-mixed"]


def dtype_of(precision: Precision) -> torch.dtype:
    """Return what weights and batches are held in; ``bf16-mixed`` rounds only the arithmetic."""
    return torch.float64 if precision == "64-true" else torch.float32


@contextmanager
def in_precision(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute in a precision: what a network makes without a word on its dtype is of it too."""
    if precision == "bf16-mixed":
        with torch.autocast(device.type, dtype=torch.bfloat16):
            yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if precision == "64-true" else before)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor whose shares lie in several processes in one piece; all of them must ask."""
    join = getattr(tensor, "full_tensor", None)  # a DTensor's, whose package costs half a second to import
    return tensor if join is None else join()


def placed_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor, which every process has, laid out and placed as `like` is."""
    tensor = tensor.to(like.device)
    mesh = getattr(like, "device_mesh", None)
    if mesh is None or not tensor.dim():
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]


def place(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move a network to a device and into a precision; complex weights stay complex."""
    module.to(device)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point() or tensor.is_complex():
            tensor.data = tensor.data.to(dtype.to_complex() if tensor.is_complex() else dtype)


@dataclass(frozen=True)
class ParameterGroup:
    """Weights that train alike.

    Args:
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
        self.held = [(group, [p.detach().clone() for p in group.parameters]) for group in groups if group.l2_sp]

    @torch.no_grad()
    def pull(self, learning_rate: float) -> None:
        """Take the step; `learning_rate` is the loop's, before the factors of groups."""
        for group, starts in self.held:
            strength = 2 * learning_rate * group.learning_rate_factor * group.l2_sp
            for parameter, start in zip(group.parameters, starts, strict=True):
                parameter.lerp_(start, strength / (1 + strength))


class MovingAverage:
    """Follows weights: a ← d a + (1 − d) w after every step, with d = min(decay, (1 + n)/(10 + n)) at step n.

    What a training ends with, and is scored by, instead of the last weights. The bound of the first steps lets go of
    the random weights a training begins with; it is that of TensorFlow's ``ExponentialMovingAverage``. Averages smooth
    what a constant learning rate leaves jittering; with a rate that falls to zero there is little to smooth. Shares of
    weights (FSDP) are averaged as shares.

    Args:
        decay: between 0 and 1; 1/(1 − decay) is about the number of steps it looks back. None: nothing is followed.
    """

    def __init__(self, module: nn.Module, trained: Iterable[nn.Parameter], decay: float | None) -> None:
        chosen = set(map(id, trained)) if decay is not None else set()
        self.decay = decay or 0.0
        self.weights = {name: weight for name, weight in module.named_parameters() if id(weight) in chosen}
        self.values: dict[str, Tensor] = {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Take up the weights as they are after `step` steps."""
        if self.weights:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.values.values()), list(self.weights.values()), 1 - decay)

    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Go on from averages that were saved, in whole tensors; nothing saved: from the weights as they are now.

        Raises:
            RunError: if they are of other weights.
        """
        if values and values.keys() != self.values.keys():
            raise RunError(
                f"The saved state holds the moving average of {len(values)} weights, and {len(self.values)} are to be "
                "averaged now. Set training.ema_decay as it was, or start a new run."
            )
        for name, weight in self.weights.items():
            self.values[name] = placed_like(values.get(name, weight.detach().clone()), weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the averages stand where the weights are, for as long as this lasts."""
        before = [weight.detach().clone() for weight in self.weights.values()]
        self.put()
        try:
            yield
        finally:
            self._put(before)

    def put(self) -> None:
        """Put the averages where the weights are."""
        self._put(self.values.values())

    @torch.no_grad()
    def _put(self, values: Iterable[Tensor]) -> None:
        for value, weight in zip(values, self.weights.values(), strict=True):
            weight.copy_(value)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the memory that tensors take together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def bytes_of_gradients(module: nn.Module) -> int:
    """Return the bytes of all gradients that are there, frozen weights' included if they had any."""
    return bytes_of(parameter.grad for parameter in module.parameters() if parameter.grad is not None)


def bytes_of_optimizer(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of all tensors in the state of an optimizer: moments and step counters."""
    return bytes_of(part for part in tree_leaves([*optimizer.state.values()]) if isinstance(part, Tensor))
