"""Answers that need no model: what any operator must beat."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from scifm.errors import SignatureError
from scifm.evaluation.evaluate import Scores, undefined_of
from scifm.evaluation.pointwise import METRICS
from scifm.fields.samples import Samples

__all__ = ["persistence"]


def persistence(samples: Samples, *, metrics: Iterable[str] = ("relative_l2",), batch_size: int = 64) -> Scores:
    """Score the answer that nothing changes: each state field stays what it was in the last input frame.

    Args:
        samples: of an evolving system whose outputs are all state.
        metrics: names in ``scifm.evaluation.METRICS``.
        batch_size: samples read at a time.

    Raises:
        SignatureError: if some output is not a state.
    """
    names = samples.signature
    if names.state != names.outputs:
        raise SignatureError(
            f"Persistence is for outputs that were inputs before; of {names.outputs} only {names.state} were."
        )
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in metrics}
    undefined: dict[str, list[torch.Tensor]] = {name: [] for name in parts}
    for piece in samples.pieces(batch_size):
        still = torch.stack([piece.field(name)[:, -1:] for name in names.outputs], dim=2)
        for name, found in parts.items():
            found.append(METRICS[name](still, piece.require_targets(), piece.grid))
            undefined[name].append(undefined_of(name, piece.require_targets()))
    return Scores(
        {name: torch.cat(found) for name, found in parts.items()},
        names.outputs,
        undefined={name: torch.cat(where) for name, where in undefined.items()},
    )
