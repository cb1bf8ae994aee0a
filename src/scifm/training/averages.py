"""The exponential moving average of weights: what a training ends with, and is scored by, instead of the last ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from scifm.errors import RunError
from scifm.training.sharing import placed_like

__all__ = ["MovingAverage"]


class MovingAverage:
    """Follows weights: a ← d a + (1 − d) w after every step, with d = min(decay, (1 + n)/(10 + n)) at step n.

    The bound of the first steps lets go of the random weights a training begins with; it is that of TensorFlow's
    ``ExponentialMovingAverage``. Averages smooth what a constant learning rate leaves jittering; with a rate that falls
    to zero there is little to smooth. Shares of weights (FSDP) are averaged as shares.

    Args:
        weights: by name; with none there is nothing to follow, and nothing is done.
        decay: between 0 and 1; 1/(1 − decay) is about the number of steps it looks back.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float) -> None:
        self.weights, self.decay = dict(weights), decay
        self.values: dict[str, Tensor] = {name: weight.detach().clone() for name, weight in weights.items()}

    @classmethod
    def of(cls, module: nn.Module, trained: Iterable[nn.Parameter], decay: float | None) -> MovingAverage:
        """Return the average of those weights of a module that train; of none if there is no decay."""
        chosen = set(map(id, trained)) if decay is not None else set()
        return cls({name: weight for name, weight in module.named_parameters() if id(weight) in chosen}, decay or 0.0)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Take up the weights as they are after `step` steps."""
        if not self.weights:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.values.values()), list(self.weights.values()), 1 - decay)

    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Go on from averages that were saved, in whole tensors; nothing saved: from the weights as they are now.

        Raises:
            RunError: if they are of other weights.
        """
        if values and values.keys() != self.values.keys():
            raise RunError(
                f"The saved state holds the moving average of {len(values)} weights, and {len(self.values)} are to be "
                "averaged now. Set training.ema_decay as it was, or start a new run."
            )
        for name, weight in self.weights.items():
            self.values[name] = placed_like(values.get(name, weight.detach().clone()), weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the averages stand where the weights are, for as long as this lasts."""
        kept = [weight.detach().clone() for weight in self.weights.values()]
        self.put()
        try:
            yield
        finally:
            _copy(kept, self.weights.values())

    def put(self) -> None:
        """Put the averages where the weights are."""
        _copy(self.values.values(), self.weights.values())


@torch.no_grad()
def _copy(sources: Iterable[Tensor], targets: Iterable[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)
