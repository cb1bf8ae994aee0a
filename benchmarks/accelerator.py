"""What a GPU can do, measured in the process that is timed: rates of a product and a copy, memory that a step takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from counting import Machine
from harness import alternate, medians

__all__ = ["measure_device", "peak_of", "require_device"]

_TYPES = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


def require_device(name: str) -> torch.device:
    """Return a device that torch can use; end with a sentence where it cannot."""
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            f"torch {torch.__version__} sees no CUDA device here, so nothing was measured. Start this on a machine "
            "with an NVIDIA GPU and the build of torch for it, or try the script without one: --device cpu --cases 7."
        )
    return device


def measure_device(device: torch.device, precision: str, *, size: int = 8192) -> Machine:
    """Measure operations a second of a matrix product in a precision, and bytes a second of a copy.

    Args:
        precision: ``float32``, ``tf32`` (which the caller has allowed) or ``bf16``.
        size: rows and columns of what is multiplied; a copy is of four times as many numbers.
    """
    like: Any = {"device": device, "dtype": _TYPES[precision]}
    a, b, c = (torch.ones(size, size, **like) for _ in range(3))
    source = torch.ones(4, size, size, device=device)
    target = torch.empty_like(source)
    tried = {"product": lambda: torch.mm(a, b, out=c), "copy": lambda: target.copy_(source)}
    seconds = medians(alternate(tried, repeats=15, warmups=3))
    return Machine(2 * size**3 / seconds["product"], 2 * 4 * source.numel() / seconds["copy"])


def peak_of(step: Callable[[], None], device: torch.device, held: int) -> int:
    """Return what three steps add at most to what the GPU held before the network was made, in bytes."""
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(3):
        step()
    return torch.cuda.max_memory_allocated(device) - held
