"""`rollout`: an operator that marches, frame after frame, in the memory of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.on_device import in_a_row
from scifm.models.architecture import evaluating
from scifm.models.operator import Operator
from scifm.wording import plural

__all__ = ["Rollout", "rollout"]

BOUND = 100.0
"""Times its size at the start that a state may have before it counts as lost."""


class Rollout:
    """The frames that an operator answers one after the other; go through it once.

    A sample whose numbers leave the bound, or are NaN, is lost: it is NaN from that step on, and the others go on. When
    all are lost the march ends.

    Attributes:
        lost_at: ``(batch,)`` int64, the step at which each sample was lost, counted from 1; 0: it was not.
    """

    def __init__(
        self, operator: Operator, batch: Batch, num_steps: int, *, bound: float = BOUND, differentiable: bool = False
    ) -> None:
        if num_steps < 1:
            raise ConfigError(f"A rollout has at least 1 step; got {num_steps}.")
        if not bound > 1:
            raise ConfigError(f"The bound is a multiple of the size at the start, above 1; got {bound:g}.")
        self._operator, self._num_steps, self._bound = operator, num_steps, bound
        self._batch, self._differentiable = operator.align(batch), differentiable
        self.lost_at = torch.zeros(batch.num_samples, dtype=torch.int64)

    def __repr__(self) -> str:
        return f"<Rollout: {plural(self._batch.num_samples, 'sample')}, {plural(self._num_steps, 'step')}>"

    def __iter__(self) -> Iterator[Batch]:
        """Yield the problems with one frame as their target, and the time from the last input frame to it.

        They lie on the device and in the precision of the batch that was given.
        """
        operator, batch = self._operator, self._batch
        start = batch.to(*operator.home)
        known, answered = start.valid_inputs, operator.domain.gaps.answered(start)
        known = None if known is None else known[:, -1:, in_a_row(self._state())]
        sizes = self._sizes(start.inputs[:, -1:, in_a_row(self._state())], known)
        if start.grid.is_place:  # a single number may be next to nothing, now and then
            usual = [operator.normalization.input_scale[place] for place in self._state()]
            sizes = torch.maximum(sizes, sizes.new_tensor(usual))
        largest = self._bound * sizes.clamp(min=1e-30)
        times = self._times(batch)
        alive = largest.new_ones(len(largest), dtype=torch.bool)
        with evaluating(operator), nullcontext() if self._differentiable else torch.no_grad():
            for step, frame in enumerate(operator.march(start, self._num_steps), start=1):
                alive = alive & (self._sizes(frame, answered) <= largest).all(dim=1)  # NaN is not
                lost = ~alive.cpu()  # what a GPU is waited for, once a frame
                self.lost_at[lost & (self.lost_at == 0)] = step
                shown = torch.where(alive.view(-1, *(1,) * (frame.dim() - 1)), frame, torch.nan).to(batch.inputs)
                lead_time = None if times is None else times[:, step - 1 : step]
                where = None if answered is None else answered.to(batch.inputs.device)
                yield replace(batch, targets=shown, lead_time=lead_time, valid_targets=where)
                if lost.all():
                    return

    def _state(self) -> list[int]:
        names = self._operator.signature
        return [names.inputs.index(name) if name in names.inputs else 0 for name in names.outputs]

    @staticmethod
    def _sizes(frames: Tensor, valid: Tensor | None) -> Tensor:
        """Return the root mean square of each sample and channel over the points that count, ``(batch, channel)``."""
        fields = frames[:, 0].flatten(2)
        if valid is None:
            return fields.square().mean(-1).sqrt()
        where = valid[:, 0].flatten(2)
        return (torch.where(where, fields, 0.0).square().sum(-1) / where.sum(-1).clamp(min=1)).sqrt()

    def _times(self, batch: Batch) -> Tensor | None:
        """Return the time of every frame, ``(batch, steps)``; behind the last known one the steps are as long as it."""
        steps, times = batch.lead_steps, batch.lead_time
        if steps is None or times is None:
            return None
        known, last = times[:, : self._num_steps].double(), steps[:, -1:].double()
        each = known[:, -1:] / known.shape[1]  # of equal steps, with less rounding than the last one
        each = torch.where(torch.isclose(each, last, rtol=1e-3), each, last)
        ahead = torch.arange(1, self._num_steps - known.shape[1] + 1, device=times.device)
        return torch.cat([known, known[:, -1:] + each * ahead], dim=1).to(times.dtype)


def rollout(
    operator: Operator, batch: Batch, num_steps: int, *, bound: float = BOUND, differentiable: bool = False
) -> Rollout:
    """Return the frames that an operator answers one after the other, each from those before it; nothing is kept.

    Args:
        operator: of an evolving problem all of whose outputs are states.
        batch: where it starts: inputs, coefficients and, for what comes first, lead times. Targets play no part.
        num_steps: frames.
        bound: a state that is so many times larger than at the start is lost.
        differentiable: keep the graph from each frame to those before it, which takes memory for all of them.

    Raises:
        ConfigError: if a number is not allowed.
        SignatureError: if the batch does not fit the operator, or the operator cannot march.

    Example::

        for frame in scifm.rollout(operator, batch, 200):
            frame.target("velocity"), frame.lead_time
    """
    return Rollout(operator, batch, num_steps, bound=bound, differentiable=differentiable)
