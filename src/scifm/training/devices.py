"""Where and how exactly a network computes: device, precision of its weights, precision of matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from scifm.models.operator import Operator
from scifm.training.processes import World

__all__ = ["own_device", "place", "product_precision"]


def own_device(accelerator: str, world: World) -> int | list[int]:
    """Return Fabric's word for the one device of this process."""
    on_gpu = accelerator != "cpu" and torch.cuda.is_available() and world.size > 1
    return [world.local_rank] if on_gpu else 1


def place(operator: Operator, device: torch.device, dtype: torch.dtype) -> None:
    """Move an operator to a device and into a precision; complex weights stay complex."""
    operator.to(device)
    for tensor in (*operator.parameters(), *operator.buffers()):
        if tensor.is_floating_point() or tensor.is_complex():
            tensor.data = tensor.data.to(dtype.to_complex() if tensor.is_complex() else dtype)


@contextmanager
def product_precision(tf32: bool) -> Iterator[None]:
    """Let GPUs multiply float32 matrices in TensorFloat-32, and put torch's global setting back afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
