"""Conservation as a soft penalty: what answers hold of an output beside what their equation says that they hold.

The equation is found by the name that samples carry (`Batch.systems`), and says it of their first frame
(`Evolving.budgets`): of what it keeps the integral there, of what flows in or out a closed form. Nothing is solved.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.norms import integral, rms
from scifm.systems.catalog import evolving_of

__all__ = ["budgeted_sizes", "missed_budgets"]


def missed_budgets(answer: Batch, truth: Batch, sizes: dict[str, Tensor]) -> Tensor:
    """Return the mean square of what answers miss of their budgets, ``(batch, 1)``; zero of samples that have none.

    Over frames, and outputs that have a budget: the difference of the means over space, in units of `sizes`.

    Args:
        answer: of an operator, differentiable.
        truth: the same samples; their first frame and lead times say what is known.
        sizes: of outputs, as `budgeted_sizes` finds them; 1 for those it does not name.
    """
    total = answer.require_targets().new_zeros(truth.num_samples, 1)
    for rows, known in _budgets(truth):
        own = answer.select(rows)
        volume = integral(torch.ones_like(own.require_targets()[:1, 0, 0]), own.grid)
        parts = []
        for name, values in known.items():
            off = (integral(own.target(name), own.grid) - values.to(total)) / volume
            parts.append((off / sizes.get(name, total.new_ones(()))).square().mean(1))
        total = total.index_add(0, rows, torch.stack(parts).mean(0).unsqueeze(1))
    return total


def budgeted_sizes(samples: Batch) -> dict[str, Tensor]:
    """Return the root mean square, over samples, frames and space, of every output with a budget; 1 of zero.

    Raises:
        ConfigError: if nobody says of any of these samples what they hold.
    """
    squares: dict[str, list[Tensor]] = {}
    for rows, known in _budgets(samples):
        own = samples.select(rows)
        for name in known:
            squares.setdefault(name, []).append(rms(own.target(name).double(), own.grid).square().flatten())
    if not squares:
        systems = ", ".join(sorted(set(samples.systems))) or "of no system that is known"
        raise ConfigError(
            f"conserve of the objective asks what the equation keeps, and of these samples ({systems}) nobody says so. "
            "They have to be of an evolving system that is installed and has budgets, without missing points. Leave "
            "conserve out."
        )
    sizes = {name: torch.cat(parts).mean().sqrt() for name, parts in squares.items()}
    return {name: torch.where(size > 0, size, 1.0) for name, size in sizes.items()}


def _budgets(samples: Batch) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Return which samples have budgets and what these are, a system each."""
    found = []
    for name in sorted(set(samples.systems)):
        rows = torch.tensor([place for place, own in enumerate(samples.systems) if own == name])
        rows = rows.to(samples.inputs.device)
        own = samples.select(rows)
        system = evolving_of(own)
        if system is None or own.gaps:
            continue
        known = system.budgets(own.without_absent(system.signature).with_targets(None))
        if known:
            found.append((rows, known))
    return found
