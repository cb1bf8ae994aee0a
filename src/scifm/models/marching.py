"""How operators go through time: from their own answers, or from frames that are observed on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.batch import Batch
from scifm.fields.memory import Memory
from scifm.fields.observed import one_step_samples, seen_frames
from scifm.fields.on_device import in_a_row
from scifm.models.parts.channels import following_validity

if TYPE_CHECKING:
    from scifm.models.operator import Operator

__all__ = ["followed", "marched", "one_by_one"]


def marched(operator: Operator, batch: Batch, num_steps: int, *, through: int | None) -> Iterator[Tensor]:
    """Yield frame after frame; see `Operator.march`."""
    names = operator.signature
    if num_steps > 1 and names.state != names.outputs:
        raise SignatureError(
            f"Only what is input and output can be marched; of the outputs {names.outputs} the states are "
            f"{names.state or 'none'}."
        )
    steps, known = batch.lead_steps, batch.num_frames
    state, memory = in_a_row(names.state_places), Memory()
    first, answered = None if steps is None else steps[:, :1], operator.domain.gaps.answered(batch)
    question = replace(batch, targets=None, valid_targets=None, lead_time=first, memory=memory)
    for step in range(num_steps):
        if steps is not None and 0 < step < known:
            question = replace(question, lead_time=steps[:, step : step + 1])
        answer = operator.next_frame(question)
        yield answer
        if step + 1 < num_steps:
            following = question.inputs[:, -1:].clone()
            following[:, :, state] = answer
            inputs = torch.cat([question.inputs[:, 1:], following], dim=1)
            stops = through is not None and (step + 1) % through == 0
            memory.turn(detached=stops)
            valid = following_validity(question, state, answered)
            question = replace(question, inputs=inputs.detach() if stops else inputs, valid_inputs=valid)


def one_by_one(operator: Operator, batch: Batch) -> Tensor:
    """Return the answer to every frame of observed windows, each from its own history alone, all at once."""
    answers = operator.next_frame(one_step_samples(batch).with_targets(None))
    return answers.view(batch.num_samples, batch.num_frames, *answers.shape[2:])


def followed(operator: Operator, batch: Batch) -> Tensor:
    """Return the answer to every frame of observed windows; see `Operator.follow`."""
    if not operator.remembers:
        return one_by_one(operator, batch)
    (frames, valid), steps, history = seen_frames(batch), batch.lead_steps, batch.inputs.shape[1]
    memory, answered = Memory(), []
    for step in range(batch.num_frames):
        seen = slice(step, step + history)
        about: dict[str, Any] = {"inputs": frames[:, seen], "valid_inputs": None if valid is None else valid[:, seen]}
        about |= {"targets": None, "valid_targets": None, "memory": memory}
        about["lead_time"] = None if steps is None else steps[:, step : step + 1]
        answered.append(operator.next_frame(replace(batch, **about)))
        memory.turn()
    return torch.cat(answered, dim=1)
