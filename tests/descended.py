"""Small networks on their way down the loss of the samples they are asked about: at its end, and stopped early."""

from __future__ import annotations

import copy
from functools import cache

import torch

import tiny
from scifm.models.operator import Operator

__all__ = ["ended", "stopped"]


@cache
def _trained(num_steps: int) -> Operator:
    batch, operator = tiny.batch(8), tiny.operator(width=6, modes=4, latent_points=10)
    truth = batch.require_targets()
    about = {"max_iter": num_steps, "history_size": 30, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS(operator.parameters(), **about)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        wrong = operator(batch).require_targets() - truth
        loss = (wrong.flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    optimizer.zero_grad()
    return operator


def ended() -> Operator:
    """Return a network that was trained on these samples until little changed."""
    return copy.deepcopy(_trained(150))


def stopped(num_steps: int) -> Operator:
    """Return one whose training was stopped after a few steps."""
    return copy.deepcopy(_trained(num_steps))
