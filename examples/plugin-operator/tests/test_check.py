import torch

import scifm
from scifm.trust.contract import CheckContract
from scifm_learners import MeanIsZero


class Adding(torch.nn.Module):
    """Answers the forcing, and a constant more."""

    def __init__(self, constant):
        super().__init__()
        self.constant = torch.nn.Parameter(torch.tensor(constant))

    def forward(self, x):
        return x[:, :1] + self.constant


class TestMeanIsZero(CheckContract):
    check = MeanIsZero()

    def samples(self):
        return scifm.Poisson().sample(4, scifm.Grid.square(16), torch.Generator().manual_seed(0))

    def good(self):
        return scifm.ModuleOperator.wrap(Adding(0.0), scifm.Poisson.signature)

    def bad(self):
        return [scifm.ModuleOperator.wrap(Adding(own), scifm.Poisson.signature) for own in (1.0, -10.0)]
