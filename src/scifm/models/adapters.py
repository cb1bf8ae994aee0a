"""Adapters: small trainable changes of frozen spectral weights, merged into plain weights when training is done.

An adapter is a parametrization (`torch.nn.utils.parametrize`) of the weight that a layer calls ``spectral_weight``,
``(2, *modes, in, out)``. The layer keeps its weight, frozen, and reads ``adapter(weight)`` instead. All adapters here

* are the identity when new, bit for bit: the adapted operator answers as the one it was made from;
* hold deviations, so that zero means "as pre-trained": weight decay and an `l2_sp` penalty then pull towards the
  pre-trained operator and not away from it;
* add channels' worth of weights and not modes' worth, which is what makes them small.

The whole adapted weight is made anew in every step, so an adapter saves gradients and optimizer state, not time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from scifm.errors import ConfigError

__all__ = ["AffineAdapter", "LowRankAdapter", "attach_adapters", "merge_adapters"]

_ADAPTED = "spectral_weight"


class AffineAdapter(nn.Module):
    """``R ↦ γ R + β``: each pair of channels is scaled and shifted, alike in all modes.

    γ is real, ``(in, out)``, kept as ``gain = γ − 1``; β is complex, ``(2, in, out)`` with its real and imaginary parts
    stacked, kept as ``shift``. Both are zero at first. 3·in·out weights a layer. A β that is alike in all modes is a
    pointwise map of the fields' low modes.

    NLT of arXiv:2512.17969, there for convolution kernels and here for spectral weights.

    Args:
        weight: the spectral weight to adapt, ``(2, *modes, in, out)``; gives sizes, device and precision.
    """

    def __init__(self, weight: Float[Tensor, "2 *modes c_in c_out"]) -> None:
        super().__init__()
        channels_in, channels_out = weight.shape[-2:]
        self.gain = nn.Parameter(weight.new_zeros(channels_in, channels_out))
        self.shift = nn.Parameter(weight.new_zeros(2, channels_in, channels_out))

    def forward(self, weight: Float[Tensor, "2 *modes c_in c_out"]) -> Float[Tensor, "2 *modes c_in c_out"]:
        """Return the adapted weight."""
        return weight * (1 + self.gain) + self.shift.view(2, *(1,) * (weight.dim() - 3), *self.shift.shape[1:])


class LowRankAdapter(nn.Module):
    """``R_k ↦ R_k + A diag(d_k) B``: a change of low rank, with factors shared by all modes.

    A is real, ``(in, rank)``, B is real, ``(rank, out)``, and each mode k has its own complex diagonal d_k, kept as
    ``(2, modes, rank)``. B is zero at first, so the change is; A is normal with variance 1/rank and d is one. The first
    step of Adam then moves a spectral weight by about as much as it would without an adapter, and the same learning
    rates serve. ``rank·(in + out + 2·modes)`` weights a layer.

    LoRA (Hu et al., arXiv:2106.09685), with the diagonal so that modes need not change alike.

    Args:
        weight: the spectral weight to adapt, ``(2, *modes, in, out)``; gives sizes, device and precision.
        rank: of the change, from 1 to the smaller number of channels.
        generator: of A's first numbers, on the CPU.

    Raises:
        ConfigError: if the rank does not fit the channels.
    """

    def __init__(self, weight: Float[Tensor, "2 *modes c_in c_out"], rank: int, *, generator: torch.Generator) -> None:
        super().__init__()
        channels_in, channels_out = weight.shape[-2:]
        most = min(channels_in, channels_out)
        if not 1 <= rank <= most:
            raise ConfigError(
                f"The rank of an adapter is from 1 to the channels of the layer, {most} here; got {rank}. Give a "
                "rank within, or fine-tune with another method."
            )
        drawn = torch.randn(channels_in, rank, generator=generator, dtype=torch.float64) / math.sqrt(rank)
        diagonal = weight.new_zeros(*weight.shape[:-2], rank)
        diagonal[0] = 1
        self.first = nn.Parameter(drawn.to(weight))
        self.diagonal = nn.Parameter(diagonal)
        self.last = nn.Parameter(weight.new_zeros(rank, channels_out))

    def forward(self, weight: Float[Tensor, "2 *modes c_in c_out"]) -> Float[Tensor, "2 *modes c_in c_out"]:
        """Return the adapted weight."""
        return weight + (self.first * self.diagonal.unsqueeze(-2)) @ self.last


def attach_adapters(operator: nn.Module, make: Callable[[Tensor], nn.Module]) -> None:
    """Put an adapter before every spectral weight of an operator and freeze these weights.

    Args:
        operator: changed in place.
        make: returns the adapter of a weight ``(2, *modes, in, out)``.

    Raises:
        ConfigError: if the operator has no such weight.
    """
    layers = [module for module in operator.modules() if isinstance(getattr(module, _ADAPTED, None), nn.Parameter)]
    if not layers:
        raise ConfigError(f"Adapters change spectral weights; a {type(operator).__name__} has none.")
    adapters = [make(layer.get_parameter(_ADAPTED)) for layer in layers]  # all or none are attached
    for layer, adapter in zip(layers, adapters, strict=True):
        layer.get_parameter(_ADAPTED).requires_grad_(False)
        parametrize.register_parametrization(layer, _ADAPTED, adapter)


def merge_adapters(operator: nn.Module) -> None:
    """Make adapted weights plain ones; the operator answers as before and is saved and loaded like any other."""
    for module in list(operator.modules()):
        if parametrize.is_parametrized(module, _ADAPTED):
            parametrize.remove_parametrizations(module, _ADAPTED, leave_parametrized=True)
