"""What a network is given for fields: the inputs, earlier states behind them, where points are missing, positions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from scifm.fields.batch import Batch
from scifm.fields.on_device import in_a_row
from scifm.models.parts.grids import position_channels

__all__ = ["following_validity", "network_channels"]


def network_channels(encoded: Tensor, batch: Batch, *, masks: bool, positions: bool, frames: bool = False) -> Tensor:
    """Return ``(batch, 1, channel, *space)`` of encoded inputs ``(batch, time, input, *space)``.

    Args:
        encoded: inputs of a history, the latest last.
        batch: what they are of.
        masks: put as many channels behind them, 1 where a point counts and 0 where it is missing.
        positions: put where a point lies behind these, a channel for each axis.
        frames: leave every frame one, ``(batch, time, channel, *space)``.
    """
    names, valid = batch.signature, batch.valid_inputs
    state = in_a_row(names.state_places)
    put_together: Callable[[Tensor], Tensor] = (
        (lambda fields: fields) if frames else partial(_with_history, state=state)
    )
    channels = [put_together(encoded)]
    if masks:
        known = torch.ones_like(encoded) if valid is None else valid.to(encoded)
        channels.append(put_together(known))
    if positions:
        channels.append(position_channels(batch.grid, channels[0]))
    return channels[0] if len(channels) == 1 else torch.cat(channels, dim=2)


def _with_history(fields: Tensor, state: slice | list[int]) -> Tensor:
    """Return the latest frame, and behind its channels the states of the frames before it, the latest first."""
    if fields.shape[1] == 1:
        return fields
    before = fields[:, :-1, state].flip(1).flatten(1, 2)
    return torch.cat([fields[:, -1:], before.unsqueeze(1)], dim=2)


def following_validity(batch: Batch, state: slice | list[int], answered: Tensor | None) -> Tensor | None:
    """Return `valid_inputs` of a batch one frame on, whose states are answers that count where `answered` says."""
    valid = batch.valid_inputs
    if valid is None and answered is None:
        return None
    valid = torch.ones_like(batch.inputs, dtype=torch.bool) if valid is None else valid
    following = valid[:, -1:].clone()
    following[:, :, state] = True if answered is None else answered
    return torch.cat([valid[:, 1:], following], dim=1)
