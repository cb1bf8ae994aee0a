"""Places and numbers that a device is told once: a GPU that is told at every step is waited for at every step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["in_a_row", "numbers_for"]


def in_a_row(places: Sequence[int]) -> slice | list[int]:
    """Return places as a slice where they follow each other, else as a list.

    A list becomes a tensor of them, which has to be copied to a GPU every time; a slice is only a view.
    """
    first = places[0] if places else 0
    if list(places) == list(range(first, first + len(places))):
        return slice(first, first + len(places))
    return list(places)


def numbers_for(values: Sequence[float], like: Tensor) -> Tensor:
    """Return numbers as a tensor ``(value,)`` in the precision and on the device of another; nobody may write into it.

    On the host it is made anew, which costs less than to look it up; elsewhere it is kept.
    """
    if like.device.type == "cpu" or torch.compiler.is_compiling():
        return like.new_tensor(values)
    return _kept(tuple(values), like.dtype, like.device)


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # what is first asked for by an answer must still serve training
def _kept(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)
