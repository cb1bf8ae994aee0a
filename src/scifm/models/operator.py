"""`Operator`: the learned map ``Batch → Batch``.

An operator knows its own `Signature`, finds every channel by name, brings numbers to order one with its own
`Normalization`, and returns physical fields. A network inside it sees tensors only.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from scifm.config import Config
from scifm.errors import SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.normalization import Normalization
from scifm.models.parts.extension import extend_to_period, position_channels

__all__ = ["Operator", "OperatorConfig"]


def _kind(signature: Signature) -> str:
    return f"{'evolving' if signature.evolves else 'steady'} problems in {signature.num_spatial_dims} dimensions"


class OperatorConfig(Config):
    """Base of the architecture settings that live beside each network.

    Args:
        position: give the network one more input channel for each axis: where between its ends a point lies, −1 to 1,
            and 0 on an axis that wraps around. A network on a box with walls cannot see them otherwise. When left out,
            it is settled by the first data: given where they have walls.
    """

    position: bool | None = None

    def on(self, grid: Grid) -> Self:
        """Return these settings with `position` settled for data on `grid`."""
        if self.position is not None or all(grid.periodic):
            return self
        return self.model_copy(update={"position": True})


class Operator(nn.Module):
    """A network with names and units around it.

    Args:
        signature: the fields and coefficients it knows.
        config: architecture settings, kept so that the operator can be saved and rebuilt.
        normalization: numbers fitted on training data; the identity when left out.

    Subclasses implement `network`.
    """

    kind: str = ""
    needs_periodic: ClassVar[bool] = True
    """Whether `network` takes its axes as periodic; on a box with walls it is then given a periodic extension."""

    def __init__(
        self, signature: Signature, config: OperatorConfig, *, normalization: Normalization | None = None
    ) -> None:
        super().__init__()
        self.signature = signature
        self.config = config
        self.normalization = normalization or Normalization.identity(
            num_inputs=len(signature.inputs),
            num_coefficients=len(signature.coefficients),
            num_outputs=len(signature.outputs),
        )

    def network(self, inputs: Tensor, coefficients: Tensor) -> Tensor:
        """Map ``(batch, time, channel, *space)`` and ``(batch, coefficient)`` to ``(batch, time, output, *space)``.

        Channels are the input fields and, with ``config.position``, one for each axis. On a box with walls the axes are
        longer than the grid's where ``needs_periodic``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it maps fields.")

    def align(self, batch: Batch) -> Batch:
        """Return the batch in this operator's order of names; a coefficient the batch lacks becomes zero.

        Raises:
            SignatureError: if the batch holds a name this operator does not know, or lacks an input field.
        """
        ours, theirs = self.signature, batch.signature
        if theirs == ours:
            return batch
        if (ours.num_spatial_dims, ours.evolves) != (theirs.num_spatial_dims, theirs.evolves):
            raise SignatureError(
                f"The operator answers {_kind(ours)} and the data are of {_kind(theirs)}. Use data of a matching "
                "system, or fine-tune on some of them."
            )
        unknown = ours.missing_from(theirs)
        absent = tuple(name for name in ours.inputs if name not in theirs.inputs)
        if unknown or absent:
            raise SignatureError(
                f"The operator knows inputs {ours.inputs}, coefficients {ours.coefficients}, outputs {ours.outputs}; "
                + (f"the data also hold {unknown}" if unknown else f"the data lack {absent}")
                + ". Without an example it cannot be asked about those: fine-tune on some samples, which gives the "
                "operator the channels it lacks, or rename what is only called otherwise (--rename NEW=OLD)."
            )
        if batch.targets is not None and set(theirs.outputs) != set(ours.outputs):
            raise SignatureError(f"The operator answers {ours.outputs}; the data hold {theirs.outputs}.")
        return batch.aligned(ours)

    def forward(self, batch: Batch) -> Batch:
        """Return the same problems with this operator's answers as targets."""
        batch = self.align(batch)
        encoded = self.normalization.encode(batch)
        inputs = encoded.inputs
        if self.config.position:
            inputs = torch.cat([inputs, position_channels(batch.grid, inputs)], dim=2)
        if self.needs_periodic:
            inputs = extend_to_period(inputs, batch.grid)
        answer = self.network(inputs, encoded.coefficients)
        inside: tuple[Any, ...] = (..., *(slice(0, n) for n in batch.grid.num_points))
        return batch.with_targets(encoded.decode(answer[inside]))

    @torch.inference_mode()
    def predict(self, batch: Batch, *, batch_size: int = 64) -> Batch:
        """Answer any number of samples, `batch_size` at a time, without gradients.

        The work is done on the device and in the precision of the weights; answers come back in those of the batch.
        """
        weight = next(self.parameters())
        was_training = self.training
        self.eval()
        batch, parts = self.align(batch), []
        for start in range(0, batch.num_samples, batch_size):
            part = batch.select(slice(start, start + batch_size))
            answer = self(part.to(weight.device, weight.dtype)).require_targets()
            parts.append(part.with_targets(answer.to(part.inputs)))
        self.train(was_training)
        return Batch.concatenate(parts)

    @property
    def num_channels(self) -> int:
        """Channels of fields that `network` is given."""
        return len(self.signature.inputs) + (self.signature.num_spatial_dims if self.config.position else 0)

    @property
    def num_params(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def describe(self) -> dict[str, Any]:
        """Return everything but the weights, ready for JSON."""
        return {
            "kind": self.kind,
            "signature": self.signature.to_dict(),
            "network": self.config.to_dict(),
            "normalization": self.normalization.to_dict(),
        }
