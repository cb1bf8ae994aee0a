"""Recurrent networks along time, at every place by itself: for series, and as a baseline for fields.

``cells → read-out``. A cell takes what is known of a frame at one place and what it remembers of the frames before;
after the last frame of the history the read-out answers. Weights are the same everywhere and places do not see each
other, so that any grid is answered; where there is no space (`Grid.place`) it is a network for series. On a march it
goes on with what it remembers, from its own answers or, of observed windows, from the frames themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from scifm.fields.batch import Batch, Signature
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.normalization import Encoded, Normalization
from scifm.fields.observed import seen_frames
from scifm.models.architecture import Hidden
from scifm.models.operator import Operator, OperatorConfig, OuterMaps, Role
from scifm.models.parts.recurrence import LEM

__all__ = ["Recurrent", "RecurrentConfig"]

_SIZES: dict[str, int] = {"tiny": 16, "small": 64, "base": 128, "large": 256, "huge": 512}


class RecurrentConfig(OperatorConfig):
    """Architecture of a `Recurrent`.

    Args:
        cell: ``lem`` (Long Expressive Memory, see `scifm.models.parts.recurrence`), ``lstm`` or ``gru``.
        width: numbers of a state.
        num_layers: cells, each fed by the one below.
        time_step: of ``lem``, the longest step Δt: before anything is learned about 2/Δt frames are remembered; absent:
            1.
        position: tell the network where a place lies, a number for each axis; when left out, it is settled by the first
            data: told where they have walls.
        mask_channels: give the network, for each of its fields, one more number that is 1 where it is known and 0 where
            it is missing.
        history: input frames of an evolving problem; when left out, as many as the first data have.
        lead_time: tell the network how far ahead the answer lies; when left out, it is where the first data have
            several lead times.
        plain: let torch's own operations do it all: derivatives of every order, at a lower speed.
    """

    kind: ClassVar[str] = "recurrent"
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {name: {"width": width} for name, width in _SIZES.items()}
    sized_by: ClassVar[tuple[str, ...] | None] = ("width", "num_layers", "plain")

    cell: Literal["lem", "lstm", "gru"] = "lem"
    width: int = Field(64, ge=1, le=8192)
    num_layers: int = Field(1, ge=1, le=64)
    time_step: float | None = Field(None, gt=0, le=1)
    position: bool | None = None
    mask_channels: bool | None = None
    history: int | None = Field(None, ge=1, le=65536)
    lead_time: bool | None = None
    plain: bool = False

    @model_validator(mode="after")
    def _every_setting_counts(self) -> RecurrentConfig:
        if self.time_step is not None and self.cell != "lem":
            raise ValueError(f"time_step is of cell = 'lem'; '{self.cell}' has none: leave it out")
        return self

    def scalings(self, declared: tuple[Homogeneity, ...]) -> tuple[Homogeneity, ...]:
        """Return none: what is remembered would be in units of another frame."""
        return ()


class Recurrent(Operator):
    """A recurrent network at every place of boxes of one to three dimensions, or of series."""

    config: RecurrentConfig
    config_class = RecurrentConfig
    parts = {"cells": "inner", "readout": "projection"}  # noqa: RUF012
    needs_periodic = False
    sees_frames = True
    uses_global_generator = False
    any_resolution = True
    counted_in = torch.float64  # the compiled kernels know float32 only

    def __init__(
        self,
        signature: Signature,
        config: RecurrentConfig | None = None,
        *,
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__(signature, config or RecurrentConfig(), normalization=normalization)
        c = self.config
        widths = [self.num_channels + self.num_coefficients, *(c.width,) * (c.num_layers - 1)]
        self.cells = nn.ModuleList(_cell(c, num_inputs) for num_inputs in widths)
        self.readout = nn.Linear(c.width, len(signature.outputs))
        nn.init.kaiming_normal_(self.readout.weight)

    @property
    def remembers(self) -> bool:
        return True

    @property
    def any_history(self) -> bool:
        return True

    def outer_maps(self) -> OuterMaps | None:
        first = self.cells[0]
        if not isinstance(first, LEM):
            return None
        masks: tuple[Role, ...] = ("mask",) if self.num_masks else ()
        positions: tuple[Role, ...] = ("position",) if self.num_positions else ()
        time: tuple[Role, ...] = ("lead_time",) if self.sees_lead_time else ()
        roles: tuple[Role, ...] = ("input", *masks, *positions, "coefficient", *time)
        return OuterMaps(first.inputs, roles, self.readout, spread=self.config.width**-0.5)

    def hidden(self) -> Hidden:
        """As of any operator: what the last cell remembers of the last frame, which goes into the read-out."""
        return Hidden((self.readout,), ("batch", "time", "space", "channel"), before=True)

    def plain_config(self) -> RecurrentConfig:
        return self.config.model_copy(update={"plain": True})

    def encoded(self, batch: Batch) -> Encoded:
        """As of any operator; of frames that are remembered the last one alone."""
        known = None if batch.memory is None else batch.memory.of(self)
        return super().encoded(batch if known is None else _last_of(batch))

    def network(self, encoded: Encoded) -> Float[Tensor, "batch 1 output *space"]:
        """Map encoded frames, behind what is remembered, to the encoded answer; shapes as in `Operator.network`."""
        memory = encoded.memory
        known = None if memory is None else memory.of(self)
        frames = encoded.inputs if known is None else encoded.inputs[:, -1:]
        constants = encoded.coefficients.unsqueeze(1).expand(-1, frames.shape[1], -1)
        answer, states = self._read(frames, constants, known, num_answers=1)
        if memory is not None:
            memory.keep(self, states)
        return answer

    def follow(self, batch: Batch) -> Tensor:
        """As of any operator, in one pass over all frames."""
        frames, valid = seen_frames(batch)
        count, before = batch.num_frames, frames.shape[1] - batch.num_frames
        question = _frame_by_frame(batch, frames, valid)
        encoded = self.encoded(question)
        inputs = encoded.inputs.view(batch.num_samples, -1, *encoded.inputs.shape[2:])
        constants = encoded.coefficients.view(batch.num_samples, before + count, -1)
        read, _ = self._read(inputs, constants, None, num_answers=before + count)
        answers = self.held(encoded.decode(read.flatten(0, 1).unsqueeze(1)), question)
        return answers.view(batch.num_samples, -1, *answers.shape[2:])[:, before:]

    def _read(
        self,
        frames: Float[Tensor, "batch time channel *space"],
        constants: Float[Tensor, "batch time constant"],
        known: Any,
        *,
        num_answers: int,
    ) -> tuple[Float[Tensor, "batch answer output *space"], Any]:
        """Return what is read after each of the last frames, and what is remembered after the last one."""
        batch, space = frames.shape[0], frames.shape[3:]
        fields = frames.movedim(2, -1)
        told = constants.view(*constants.shape[:2], *(1,) * len(space), -1).expand(*fields.shape[:-1], -1)
        hidden = torch.cat([fields, told], dim=-1).transpose(0, 1).flatten(1, -2)
        states = []
        for place, cell in enumerate(self.cells):
            hidden, state = cell(hidden, None if known is None else known[place])
            states.append(state)
        last = hidden[-num_answers:].view(num_answers, batch, *space, -1).transpose(0, 1)
        return self.readout(last).movedim(-1, 2), tuple(states)


def _cell(config: RecurrentConfig, num_inputs: int) -> nn.Module:
    if config.cell == "lem":
        return LEM(num_inputs, config.width, time_step=config.time_step or 1.0, plain=config.plain)
    return {"lstm": nn.LSTM, "gru": nn.GRU}[config.cell](num_inputs, config.width)


def _last_of(batch: Batch) -> Batch:
    """Return the question with its last frame alone."""
    valid = batch.valid_inputs
    return replace(batch, inputs=batch.inputs[:, -1:], valid_inputs=None if valid is None else valid[:, -1:])


def _frame_by_frame(batch: Batch, frames: Tensor, valid: Tensor | None) -> Batch:
    """Return every frame as a question of its own, those of a sample one behind the other.

    Before the targets frames are as far apart as the first of them is from the last input.
    """
    count, steps = frames.shape[1], batch.lead_steps
    first = count - batch.num_frames

    def each(of: Tensor) -> Tensor:
        return of.repeat_interleave(count, dim=0)

    times = None if steps is None else torch.cat([steps[:, :1].expand(-1, first), steps], dim=1).flatten()[:, None]
    return replace(
        batch,
        inputs=frames.flatten(0, 1).unsqueeze(1),
        valid_inputs=None if valid is None else valid.flatten(0, 1).unsqueeze(1),
        coefficients=each(batch.coefficients),
        targets=None,
        valid_targets=None,
        lead_time=times,
        loss_weights=None,
        group=None,
        present=None if batch.present is None else each(batch.present),
        systems=tuple(name for name in batch.systems for _ in range(count)),
        observed=False,
    )
