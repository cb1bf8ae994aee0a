"""Windows whose frames are observed one after the other, as samples of one step each."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.batch import Batch
from scifm.fields.on_device import in_a_row

__all__ = ["one_step_samples", "seen_frames"]


def seen_frames(batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Return all frames that are known when the last one is asked for, ``(batch, history + time − 1, input, *space)``.

    The first are those of the history; of the others states are the true targets, and what is no state is as it was.
    Beside them where their points count; None: everywhere.

    Raises:
        SignatureError: if there are no targets, or an output that is no state.
    """
    names = batch.signature
    if names.state != names.outputs:
        raise SignatureError(
            f"Only what is input and output can be observed on the way; of the outputs {names.outputs} the states are "
            f"{names.state or 'none'}. Leave observed out."
        )
    targets = batch.require_targets()[:, :-1]
    later = batch.inputs[:, -1:].expand(-1, targets.shape[1], *(-1,) * (targets.dim() - 2)).clone()
    later[:, :, in_a_row(names.state_places)] = targets
    frames = torch.cat([batch.inputs, later], dim=1)
    if batch.valid_inputs is None and batch.valid_targets is None:
        return frames, None
    known = torch.ones_like(batch.inputs, dtype=torch.bool) if batch.valid_inputs is None else batch.valid_inputs
    where = known[:, -1:].expand_as(later).clone()
    where[:, :, in_a_row(names.state_places)] = True if batch.valid_targets is None else batch.valid_targets[:, :-1]
    return frames, torch.cat([known, where], dim=1)


def one_step_samples(batch: Batch) -> Batch:
    """Return every frame of windows as a sample of its own, with as many true frames before it as windows begin with.

    Samples of a window lie one behind the other. Of a batch of one step each it is the batch itself.
    """
    steps, history = batch.num_frames, batch.inputs.shape[1]
    if steps == 1:
        return replace(batch, observed=False)
    frames, valid = seen_frames(batch)

    def windows(of: Tensor) -> Tensor:
        return of.unfold(1, history, 1).movedim(-1, 2).flatten(0, 1)

    def each(of: Tensor | None) -> Tensor | None:
        return None if of is None else of.repeat_interleave(steps, dim=0)

    def single(of: Tensor | None) -> Tensor | None:
        return None if of is None else of.flatten(0, 1).unsqueeze(1)

    coefficients = each(batch.coefficients)
    assert coefficients is not None
    return replace(
        batch,
        inputs=windows(frames),
        valid_inputs=None if valid is None else windows(valid),
        coefficients=coefficients,
        targets=single(batch.targets),
        valid_targets=single(batch.valid_targets),
        lead_time=single(batch.lead_steps),
        loss_weights=each(batch.loss_weights),
        present=each(batch.present),
        group=each(batch.group),
        systems=tuple(name for name in batch.systems for _ in range(steps)),
        observed=False,
    )
