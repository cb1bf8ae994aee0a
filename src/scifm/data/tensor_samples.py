"""Samples as a plain PyTorch data set of dictionaries.

loader = DataLoader(TensorSamples(store.split("train")), batch_size=16, shuffle=True, num_workers=2)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from scifm.errors import ConfigError
from scifm.fields.gaps import require_whole
from scifm.fields.samples import Samples

__all__ = ["TensorSamples"]

_FORMS = ("named", "xy")


class TensorSamples(Dataset[dict[str, Tensor]]):
    """Samples as dictionaries of tensors.

    ``named`` gives ``inputs`` (channel, *space), ``coefficients`` (coefficient,), ``targets`` (channel, *space) and,
    for evolving systems, ``lead_time`` (). ``xy`` gives what neuraloperator's networks and losses take: ``x``, the
    inputs and behind them each coefficient as a channel that is constant in space, and ``y``, the targets; the lead
    time is not in it. Numbers are as stored, not normalized. Where points may be missing, ``named`` has beside them, of
    their shapes, ``valid_inputs`` and ``valid_targets``, bool; ``xy`` has no place for these.

    Args:
        samples: a split of a store, whose files each worker process opens for itself, or a batch in memory.
        form: ``named`` or ``xy``.

    Raises:
        ConfigError: if the form is unknown, or cannot say which points are missing.
    """

    def __init__(self, samples: Samples, *, form: Literal["named", "xy"] = "named") -> None:
        if form not in _FORMS:
            raise ConfigError(f"The form of items is one of {', '.join(_FORMS)}; got {form!r}.")
        if form == "xy":
            require_whole(samples.gaps, "The form 'xy' has no masks", "Take form='named'.")
        self.samples = samples
        self.form = form

    @property
    def input_channels(self) -> tuple[str, ...]:
        """Names of the channels of ``inputs``, or of ``x``."""
        names = self.samples.signature
        return names.inputs if self.form == "named" else (*names.inputs, *names.coefficients)

    @property
    def target_channels(self) -> tuple[str, ...]:
        """Names of the channels of ``targets``, or of ``y``."""
        return self.samples.signature.outputs

    def __len__(self) -> int:
        return self.samples.num_samples

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Sample {index} of {len(self)} was asked for.")
        return self.__getitems__([int(index)])[0]

    def __getitems__(self, index: Sequence[int]) -> list[dict[str, Tensor]]:
        """Return several samples, read together: what torch's loaders call."""
        batch = self.samples.batch(list(index))
        inputs, targets = batch.inputs[:, 0], batch.require_targets()[:, 0]
        if self.form == "xy":
            space = inputs.shape[2:]
            constant = batch.coefficients.reshape(*batch.coefficients.shape, *(1 for _ in space)).expand(-1, -1, *space)
            columns = {"x": torch.cat([inputs, constant], dim=1), "y": targets}
        else:
            columns = {"inputs": inputs, "coefficients": batch.coefficients, "targets": targets}
            if batch.lead_time is not None:
                columns["lead_time"] = batch.lead_time[:, 0]
            if self.samples.gaps:  # the same keys in every item, as loaders need
                for role, valid in (("inputs", batch.valid_inputs), ("targets", batch.valid_targets)):
                    whole = torch.ones_like(columns[role], dtype=torch.bool)
                    columns[f"valid_{role}"] = whole if valid is None else valid[:, 0]
        return [{name: tensor[place] for name, tensor in columns.items()} for place in range(len(batch))]
