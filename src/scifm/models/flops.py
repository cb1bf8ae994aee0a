"""Operations of training, counted by running it once."""

from __future__ import annotations

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from scifm.fields.batch import Batch
from scifm.models.operator import Operator

__all__ = ["product_counter", "training_flops"]


def training_flops(operator: Operator, batch: Batch) -> float | None:
    """Return the floating-point operations of one sample's forward and backward pass.

    Matrix products as torch does them, an addition and a multiplication counted as two; element-wise steps and Fourier
    transforms are left out. On a CPU whose kernels fold pairs of points fewer are done; the count is the same on every
    machine, which is what comparisons need. A product of complex matrices counts as one of real matrices.

    Args:
        operator: any; it is left as it is.
        batch: at least one sample with targets, on the grid in question.

    Returns:
        The count; None where torch sees no matrix product, as in a network that does all its work another way.
    """
    one, network = batch.select(slice(0, 1)), copy.deepcopy(operator)
    dtype = operator.counted_in or next(p.dtype for p in network.parameters() if p.is_floating_point())
    if operator.counted_in is not None:
        network = network.to(dtype)
    one = one.to(dtype=dtype)
    counter = product_counter()
    with torch.inference_mode(False), torch.enable_grad(), counter:
        network(one).require_targets().square().sum().backward()
    return float(counter.get_total_flops()) or None


def product_counter() -> FlopCounterMode:
    """Return a context that counts the matrix products torch does inside it, those added in place included."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: _product})


def _product(
    onto: torch.Size,
    first: torch.Size,
    second: torch.Size,
    *others: object,
    out_shape: object = None,
    **settings: object,
) -> int:
    batch, rows, depth = first
    return 2 * batch * rows * depth * second[2]
