"""Where tokens stand to each other along an axis, as a number that attention adds to what they say to each other.

Distances are put into buckets, near ones each into its own, far ones into ranges whose widths grow as their logarithm
does, those before and those behind apart (Raffel et al., "Exploring the limits of transfer learning with a unified
text-to-text transformer", arXiv:1910.10683): one table, a number for each bucket and head, serves axes of any length.

On an axis that wraps around the distance is the shorter way round, ((j − i + n // 2) mod n) − n // 2, which is a
function of j − i modulo n: attention then commutes with shifts. At walls it is j − i.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from scifm.models.parts.native import is_exporting

__all__ = ["NUM_BUCKETS", "axis_bias", "buckets", "lines_bias", "lines_buckets"]

NUM_BUCKETS = 32
_FARTHEST = 128  # a distance from which all share the last bucket


def _buckets(distance: Tensor) -> Tensor:
    half = NUM_BUCKETS // 2
    exact = half // 2
    away = distance.abs()
    logarithm = torch.log(away.clamp(min=1).double() / exact) / math.log(_FARTHEST / exact) * (half - exact)
    far = (exact + logarithm.clamp(min=0).long()).clamp(max=half - 1)
    return torch.where(away < exact, away, far) + half * (distance > 0)


def _between(num: int, device: torch.device, *, wraps: bool) -> Tensor:
    """Return the buckets of an axis, ``(num, num)``, of what is asked from where: row to column."""
    places = torch.arange(num, device=device)
    distance = places[None, :] - places[:, None]
    if wraps:
        half, whole = num // 2, places[-1] + 1  # a tensor: numbers of points may be symbols
        distance = torch.where(distance < -half, distance + whole, distance)
        distance = torch.where(distance >= whole - half, distance - whole, distance)
    return _buckets(distance)


@lru_cache(maxsize=128)
@torch.inference_mode(False)
def _kept(num: int, device: torch.device, wraps: bool) -> Tensor:
    return _between(num, device, wraps=wraps)


def buckets(num: int, device: torch.device, *, wraps: bool) -> Tensor:
    """Return which bucket each of `num` tokens of an axis finds each other in, ``(num, num)``, row to column."""
    return _between(num, device, wraps=wraps) if is_exporting() else _kept(num, device, wraps)


def axis_bias(table: Tensor, num: int, *, wraps: bool) -> Tensor:
    """Return what attention adds along an axis of `num` tokens, ``(head, num, num)``, of a table ``(bucket, head)``."""
    return table[buckets(num, table.device, wraps=wraps)].permute(2, 0, 1)


@lru_cache(maxsize=128)
@torch.inference_mode(False)
def _lines(space: tuple[int, ...], wraps: tuple[bool, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the buckets of all tokens by axis, ``(axis, token, token)``, and which pairs lie on no common line."""
    places = torch.stack(torch.meshgrid(*(torch.arange(n, device=device) for n in space), indexing="ij")).flatten(1)
    same = places[:, :, None] == places[:, None, :]
    found, apart = [], []
    for axis, (num, wrap) in enumerate(zip(space, wraps, strict=True)):
        here = places[axis]
        found.append(buckets(num, device, wraps=wrap)[here[:, None], here[None, :]])
        apart.append(~torch.cat([same[:axis], same[axis + 1 :]]).all(dim=0))
    return torch.stack(found), torch.stack(apart)


def lines_bias(table: Tensor, space: tuple[int, ...], wraps: tuple[bool, ...]) -> Tensor:
    """Return the same for all tokens of a box at once, ``(axis, head, token, token)``; −∞ off the axis's own lines."""
    found, apart = _lines(space, wraps, table.device)
    return table[found].permute(0, 3, 1, 2).masked_fill(apart[:, None], -torch.inf)


@lru_cache(maxsize=128)
@torch.inference_mode(False)
def lines_buckets(space: tuple[int, ...], wraps: tuple[bool, ...]) -> Tensor:
    """Return in which bucket each token of a box is found along each axis, ``(axis, of key, of query)``, as int32.

    −1: they lie on no common line of that axis.
    """
    found, apart = _lines(space, wraps, torch.device("cpu"))
    return found.masked_fill(apart, -1).transpose(1, 2).to(torch.int32).contiguous()
