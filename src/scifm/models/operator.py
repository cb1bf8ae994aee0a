"""`Operator`: the learned map ``Batch → Batch``.

An operator knows its own `Signature`, finds every channel by name, brings numbers to order one with its own
`Normalization`, and returns physical fields. A network inside it sees tensors only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from scifm.config import Config
from scifm.errors import RunError, SignatureError
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.normalization import Normalization
from scifm.models.parts.extension import extend_to_period, position_channels

if TYPE_CHECKING:
    from scifm.models.model_card import ModelCard

__all__ = ["Operator", "OperatorConfig"]

_SAME_TIME = 1e-3  # times of one lead differ by what files round


def _kind(signature: Signature) -> str:
    return f"{'evolving' if signature.evolves else 'steady'} problems in {signature.num_spatial_dims} dimensions"


def _span(low: float, high: float) -> str:
    return f"{low:g}" if high <= low * (1 + _SAME_TIME) else f"{low:g} to {high:g}"


class OperatorConfig(Config):
    """Base of the architecture settings that live beside each network."""

    def on(self, grid: Grid) -> Self:
        """Return these settings with what they left to the first data settled for data on `grid`."""
        return self

    def require_known(self) -> None:
        """Check that what these settings name is there, before anything is spent on them.

        Raises:
            ConfigError: if it is not.
        """


class Operator(nn.Module):
    """A network with names and units around it.

    Args:
        signature: the fields and coefficients it knows.
        config: architecture settings, kept so that the operator can be saved and rebuilt.
        normalization: numbers fitted on training data; the identity when left out.

    Subclasses implement `network`.

    Attributes:
        kind: its name in ``scifm.models.OPERATORS``.
        lead_times: the shortest and the longest physical time from input to target it was trained at; None for steady
            problems, and where nobody said. It answers no other.
        settings_class: the class of its architecture settings.
    """

    kind: str = ""
    needs_periodic: ClassVar[bool] = True
    """Whether `network` takes its axes as periodic; on a box with walls it is then given a periodic extension."""
    uses_global_generator: ClassVar[bool] = True
    """Whether its code may draw from torch's global generator by other means than constructors of layers."""
    settings_class: ClassVar[type[OperatorConfig]] = OperatorConfig

    def __init__(
        self, signature: Signature, config: OperatorConfig, *, normalization: Normalization | None = None
    ) -> None:
        super().__init__()
        self.signature = signature
        self.config = config
        self.lead_times: tuple[float, float] | None = None
        self.normalization = normalization or Normalization.identity(
            num_inputs=len(signature.inputs),
            num_coefficients=len(signature.coefficients),
            num_outputs=len(signature.outputs),
        )

    def network(self, inputs: Tensor, coefficients: Tensor) -> Tensor:
        """Map ``(batch, time, channel, *space)`` and ``(batch, coefficient)`` to ``(batch, time, output, *space)``.

        Channels are the input fields and `num_positions` positions. On a box with walls the axes are
        longer than the grid's where ``needs_periodic``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it maps fields.")

    def align(self, batch: Batch) -> Batch:
        """Return the batch in this operator's order of names; a coefficient the batch lacks becomes zero.

        Raises:
            SignatureError: if the batch holds a name this operator does not know, lacks an input field, or asks for a
                lead time this operator was not trained at.
        """
        ours, theirs = self.signature, batch.signature
        self.require_lead_times(batch.lead_times)
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

    def require_lead_times(self, asked: tuple[float, float] | None) -> None:
        """Check that the operator was trained at these lead times.

        Args:
            asked: the shortest and the longest; None asks for nothing but what it was trained at.

        Raises:
            SignatureError: if it was not.
        """
        if self.lead_times is None or asked is None:
            return
        (low, high), (shortest, longest) = self.lead_times, asked
        if shortest < low * (1 - _SAME_TIME) or longest > high * (1 + _SAME_TIME):
            raise SignatureError(
                f"The operator was trained at a lead time of {_span(low, high)}, and {_span(shortest, longest)} is "
                "asked for. Choose frames as far apart as those it was trained on (--stride, or data.stride of a "
                "recipe), or train an operator for this lead time."
            )

    def forward(self, batch: Batch) -> Batch:
        """Return the same problems with this operator's answers as targets."""
        batch = self.align(batch)
        encoded = self.normalization.encode(batch)
        inputs = encoded.inputs
        if self.num_positions:
            inputs = torch.cat([inputs, position_channels(batch.grid, inputs)], dim=2)
        if self.needs_periodic:
            inputs = extend_to_period(inputs, batch.grid)
        answer = self.network(inputs, encoded.coefficients)
        inside: tuple[Any, ...] = (..., *(slice(0, n) for n in batch.grid.num_points))
        return batch.with_targets(encoded.decode(answer[inside]))

    @torch.no_grad()  # not inference_mode: weights that lie in shares would be gathered into tensors of that mode
    def predict(self, batch: Batch, *, batch_size: int = 64) -> Batch:
        """Answer any number of samples, `batch_size` at a time, without gradients.

        The work is done on the device and in the precision of the weights; answers come back in those of the batch.
        """
        weight = next(p for p in self.parameters() if p.is_floating_point())
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
        return len(self.signature.inputs) + self.num_positions

    @property
    def num_positions(self) -> int:
        """How many of them tell where a point lies: one for each axis, or none."""
        return 0

    @property
    def num_params(self) -> int:
        """Numbers that train; a complex weight is two."""
        return sum(p.numel() * (2 if p.is_complex() else 1) for p in self.parameters())

    def describe(self) -> dict[str, Any]:
        """Return everything but the weights, ready for JSON."""
        return {
            "kind": self.kind,
            "signature": self.signature.to_dict(),
            **({"lead_times": list(self.lead_times)} if self.lead_times is not None else {}),
            "network": self.config.to_dict(),
            "normalization": self.normalization.to_dict(),
        }

    def save_pretrained(self, path: str | Path, *, card: ModelCard | dict[str, Any] | None = None) -> None:
        """Write the folder `path` in the layout of the Hugging Face hub; see `save_operator`."""
        from scifm.models.hub import save_operator

        save_operator(self, path, card=card)

    @classmethod
    def from_pretrained(
        cls, path_or_id: str | Path, *, revision: str | None = None, module: nn.Module | None = None
    ) -> Self:
        """Load a folder, or a model of the Hugging Face hub by its id.

        Args:
            path_or_id: a folder, or ``name/model``.
            revision: branch, tag or commit on the hub.
            module: the network itself, for one that was wrapped from an object.

        Raises:
            RunError: if there is no such model, the hub cannot be reached, or a file is missing or damaged.
        """
        from scifm.models.hub_remote import load_pretrained

        operator = load_pretrained(path_or_id, revision=revision, module=module)
        if not isinstance(operator, cls):
            raise RunError(f"'{path_or_id}' holds a {type(operator).__name__}, not a {cls.__name__}.")
        return operator

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        branch: str | None = None,
        token: str | None = None,
        card: ModelCard | dict[str, Any] | None = None,
    ) -> str:
        """Upload to the Hugging Face hub; see `scifm.models.hub_remote.push_to_hub`."""
        from scifm.models.hub_remote import push_to_hub

        return push_to_hub(self, repo_id, private=private, branch=branch, token=token, card=card)
