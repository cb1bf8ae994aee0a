"""A convolutional network for periodic boxes in two dimensions, an objective that looks at differences, a check."""

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
from scifm.objectives.supervised import Supervised, mean_over_samples


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

# --8<-- [start:check]
from scifm.findings.finding import Finding
from scifm.trust.check import Check


class MeanIsZero(Check):
    """The largest |mean of an answer| over its root mean square; on a periodic box Poisson's equation has none."""

    name: ClassVar[str] = "mean_is_zero"
    question: ClassVar[str] = "Does the answer have the mean that the equation gives it?"
    advice: ClassVar[str] = "Take the mean off the answer, or train with an objective that counts it."
    most: float = 0.05

    def ask(self, case):
        answers = case.operator.answers(case.samples).require_targets().flatten(1).double()
        off = float((answers.mean(1).abs() / answers.square().mean(1).sqrt()).max())
        good = off <= self.most
        return Finding(
            said="The mean of the answer is zero." if good else "The answer has a mean that it should not have.",
            evidence=f"The largest mean of {case.samples.num_samples} answers is {off:.2g} of the answer's size.",
            good=good,
            statistic=off,
            threshold=self.most,
        )


# --8<-- [end:check]
