"""Heads: several answers of one network, which differ in its last map.

Either each head has a last map of its own (`widened`), or all share one and each does not see some of the hidden
channels (`dropping`). The latter is Monte Carlo dropout (Gal and Ghahramani, arXiv:1506.02142) in front of the last map
alone, where it costs one network: while it trains every head draws its channels anew at each step, several draws for
one pass through the rest (Inoue, arXiv:1905.09788); asked, they are fixed, so that an answer is the same each time.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from scifm.errors import ConfigError
from scifm.fields.seeds import generator_for
from scifm.models.operator import Operator
from scifm.wording import plural

__all__ = ["dropping", "redraw_masks", "widened"]


def widened(operator: Operator, num_heads: int) -> Operator:
    """Give the last map of a fresh operator so many rows for each output; all of a head stand together.

    Raises:
        ConfigError: if the operator does not say which its last map is, or can follow one answer only.
    """
    if num_heads == 1:
        return operator
    last = _last_map(operator, num_heads)
    spread = last.in_features**-0.5
    weight, bias = last.weight, last.bias
    rows = weight.new_empty(num_heads * weight.shape[0], *weight.shape[1:])
    last.weight = nn.Parameter(nn.init.uniform_(rows, -spread, spread))
    last.bias = nn.Parameter(bias.detach().repeat(num_heads))
    if isinstance(last, nn.Linear):
        last.out_features = len(rows)
    return operator


def dropping(operator: Operator, num_heads: int, share: float) -> Operator:
    """Let so many heads share the last map of an operator, each without this share of the channels that it is given.

    Raises:
        ConfigError: as `widened`.
    """
    last = _last_map(operator, num_heads)
    parametrize.register_parametrization(last, "weight", _Masked(num_heads, last.in_features, share), unsafe=True)
    parametrize.register_parametrization(last, "bias", _Repeated(num_heads), unsafe=True)
    if isinstance(last, nn.Linear):
        last.out_features *= num_heads
    return operator


def redraw_masks(network: nn.Module, generator: torch.Generator) -> None:
    """Draw which channels each head does not see while it trains, until they are drawn again."""
    for module in network.modules():
        if isinstance(module, _Masked):
            module.redraw(generator)


class _Masked(nn.Module):
    """One map for every head, some columns left out and the others larger by as much, so that their mean is the map.

    Args:
        num_heads: of them.
        num_columns: channels that the map is given.
        share: of them that a head does not see.
    """

    mask: Tensor

    def __init__(self, num_heads: int, num_columns: int, share: float) -> None:
        super().__init__()
        self.share = share
        drawn = torch.rand(num_heads, num_columns, generator=generator_for(0, "dropout"), device="cpu") >= share
        self.register_buffer("mask", drawn.to(torch.get_default_dtype()))
        self._drawn: Tensor | None = None

    def redraw(self, generator: torch.Generator) -> None:
        # a new tensor: what is kept for a gradient of before stays as it was
        drawn = torch.rand(self.mask.shape, generator=generator, device=generator.device) >= self.share
        self._drawn = drawn.to(self.mask)

    def forward(self, weight: Float[Tensor, "out channel *taps"]) -> Float[Tensor, "heads_out channel *taps"]:
        mask = self._drawn if self.training and self._drawn is not None else self.mask
        scale = (mask / (1 - self.share)).to(weight)
        return (scale.reshape(len(mask), 1, -1, *(1,) * (weight.dim() - 2)) * weight).flatten(0, 1)


class _Repeated(nn.Module):
    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, bias: Tensor) -> Tensor:
        return bias.repeat(self.num_heads)


def _last_map(operator: Operator, num_heads: int) -> Any:
    ends = operator.outer_maps()
    if ends is None:
        raise ConfigError(
            f"An operator of kind '{operator.kind}' does not tell where its answers leave it, so it can be given no "
            f"heads. Give num_members = {plural(num_heads, 'network')} instead, or another kind of member."
        )
    if not operator.answers_at_once:
        raise ConfigError(
            f"An operator of kind '{operator.kind}' follows one answer on its way to the end of a step, so it can be "
            f"given no heads. Give num_members = {plural(num_heads, 'network')} instead, or another kind of member."
        )
    return ends.last
