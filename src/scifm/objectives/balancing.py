"""Weights of the parts of a sum of squares by their gradients, so that none is drowned by another.

Wang, Teng & Perdikaris (SIAM J. Sci. Comput. 43, 2021), "learning rate annealing": of a loss L₁ + Σ Lᵢ the other parts
are multiplied by ::

    λᵢ = max |∇L₁| / mean |∇Lᵢ|

over all weights of the network. A largest number over a mean is much above 1 by itself, and it grows as a condition is
met, since its gradient vanishes: conditions may drown the equation then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from scifm.errors import ConfigError
from scifm.objectives.squares import Rows

__all__ = ["balance_of"]


def balance_of(parts: Mapping[str, Sequence[Rows]], weights: Sequence[Tensor]) -> dict[str, float]:
    """Return λ of each part but the first, by its name; of one whose gradient, or the first's, vanishes it is 1.

    Args:
        parts: the terms of each, the one that others are measured by first; those without a term are passed over.
        weights: of the network.

    Raises:
        ConfigError: if there is no other part, or no weight trains.
    """
    (leading, first), *others = parts.items()
    others = [(name, rows) for name, rows in others if rows]
    if not others:
        raise ConfigError(
            f"balance = true weighs the parts of the loss, and there is none beside the {leading}: the network meets "
            "all others by construction. Leave it out."
        )
    trained = [weight for weight in weights if weight.requires_grad]
    if not trained:
        raise ConfigError("balance = true weighs the parts of the loss by their gradients, and no weight trains.")

    def gradient(rows: Sequence[Rows]) -> Tensor:
        loss = torch.stack([own.values.square().sum() for own in rows]).sum()
        found = torch.autograd.grad(loss, trained, retain_graph=True, materialize_grads=True)
        return torch.cat([own.flatten() for own in found]).abs().double()

    largest = float(gradient(first).max())
    means = {name: float(gradient(rows).mean()) for name, rows in others}
    found = {name: largest / mean if mean else 0.0 for name, mean in means.items()}
    return {name: number if math.isfinite(number) and number > 0 else 1.0 for name, number in found.items()}
