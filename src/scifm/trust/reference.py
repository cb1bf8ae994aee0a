"""What the equation itself answers, where the samples say which it is."""

from __future__ import annotations

import torch
from torch import Tensor

from scifm.errors import SciFMError
from scifm.fields.batch import Batch
from scifm.systems.catalog import find_system

__all__ = ["solved"]


def solved(samples: Batch) -> Tensor | None:
    """Return solutions of steady samples in float64, ``(batch, 1, output, *space)``, by the solver of their system.

    None where they do not all say the same system, no package that is installed has it, or it does not solve them, as
    on a grid it is not defined on: nobody is asked to know the equation of foreign data.
    """
    names = set(samples.systems)
    if len(names) != 1 or samples.signature.evolves:
        return None
    try:
        answer = find_system(names.pop())().solve(samples.with_targets(None).to(dtype=torch.float64))
    except SciFMError:
        return None
    return answer.aligned(samples.signature).require_targets()
