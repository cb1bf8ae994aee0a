"""A convolutional network for periodic boxes in two dimensions, and an objective that also looks at differences."""

# --8<-- [start:operator]
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from scifm.models.operator import Operator, OperatorConfig


class ConvNetConfig(OperatorConfig):
    """Settings of a `ConvNet`."""

    kind: ClassVar[str] = "convnet"
    width: int = 16
    num_layers: int = 3


class ConvNet(Operator):
    """Convolutions of five points a side, GELU between them; coefficients are constant channels."""

    config_class = ConvNetConfig

    def __init__(self, signature, config, *, normalization=None):
        super().__init__(signature, config, normalization=normalization)
        channels = self.num_channels + len(signature.coefficients)
        widths = [channels, *[config.width] * (config.num_layers - 1), len(signature.outputs)]
        self.layers = nn.ModuleList(
            nn.Conv2d(*pair, 5, padding=2, padding_mode="circular") for pair in pairwise(widths)
        )

    def network(self, encoded):
        fields = encoded.inputs[:, 0]
        constants = encoded.coefficients[..., None, None].expand(-1, -1, *fields.shape[2:])
        hidden = torch.cat([fields, constants], dim=1)
        for layer in self.layers[:-1]:
            hidden = functional.gelu(self.through(layer, hidden))
        return self.layers[-1](hidden).unsqueeze(1)


# --8<-- [end:operator]

# --8<-- [start:objective]
from scifm.objectives.supervised import Supervised, mean_over_samples  # noqa: E402 - quoted apart from the operator


class WithDifferences(Supervised):
    """Squared error of the fields, and of what they change by from point to point."""

    name: ClassVar[str] = "with_differences"
    weight: float = 1.0

    def compare(self, prediction, truth):
        error = prediction.require_targets() - truth.require_targets()
        losses = error.square()
        for axis in range(3, error.dim()):
            losses = losses + self.weight * (error - error.roll(1, axis)).square()
        return mean_over_samples(losses, truth)


# --8<-- [end:objective]
