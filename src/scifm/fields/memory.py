"""`Memory`: what operators remember on a march, from one frame to the next."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["Memory"]


class Memory:
    """What those who answer frame after frame remember, each for itself; it travels with the question.

    Whoever wraps an operator hands the question on, and so the memory. Asked several times about one frame, an operator
    begins each time with what it remembered before that frame; what it made of it when it was asked first is what it
    remembers then.
    """

    def __init__(self) -> None:
        self._now: dict[int, Any] = {}
        self._next: dict[int, Any] = {}

    def of(self, owner: object) -> Any:
        """Return what `owner` remembers of the frames before; None at the first one."""
        return self._now.get(id(owner))

    def keep(self, owner: object, remembered: Any) -> None:
        """Let `owner` remember tensors, numbers, or tuples of them, at the next frame."""
        self._next.setdefault(id(owner), remembered)

    def turn(self, *, detached: bool = False) -> None:
        """Go on to the next frame; gradients end there where it is `detached`."""
        self._now = {owner: _detached(kept) if detached else kept for owner, kept in self._next.items()}
        self._next = {}


def _detached(kept: Any) -> Any:
    if isinstance(kept, torch.Tensor):
        return kept.detach()
    return tuple(map(_detached, kept)) if isinstance(kept, tuple) else kept
