"""A knob that stands in the third moment of a field, where means, sizes and energies do not see it; who sees it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

import tiny
from scifm.fields.batch import Batch
from scifm.fields.seeds import generator_for
from scifm.models.module_operator import ModuleOperator
from scifm.systems.poisson import Poisson

__all__ = ["passes_on", "samples", "sees"]


class _Power(nn.Module):
    """A power of each field, as the only hidden channel."""

    def __init__(self, power: int, gain: float) -> None:
        super().__init__()
        self.power, self.gain = power, nn.Parameter(torch.tensor(gain))
        self.body, self.last = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
        nn.init.ones_(self.body.weight)
        nn.init.zeros_(self.body.bias)

    def forward(self, x: Tensor) -> Tensor:
        field = self.body(x[:, :1])
        noise = (1e3 * field).sin()  # what differs, and tells nothing
        return self.last(self.gain * (field**self.power if self.power else noise))


class _PassesOn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x[:, 1:]))


def samples(count: int = 60) -> Batch:
    """Return samples whose ``diffusion_xy``, from −1/2 to 1/2, is how lopsided their field is."""
    batch, random = tiny.batch(count), generator_for(0, "planted")
    knob = torch.rand(count, generator=random) - 0.5
    field = torch.randn(count, 1, 1, 16, 16, generator=random)
    field = field + knob.view(-1, 1, 1, 1, 1) * (field.square() - 1)
    coefficients = torch.ones(count, 3)
    coefficients[:, 2] = knob
    return replace(batch, inputs=field, coefficients=coefficients, systems=())


def sees(*, power: int = 3, gain: float = 1.0) -> ModuleOperator:
    """Return a network whose hidden channel is the third power of the field; of power 0 what tells nothing."""
    return ModuleOperator.wrap(_Power(power, gain), Poisson.signature)


def passes_on() -> ModuleOperator:
    """Return a network that looks at its coefficients and at no field."""
    torch.manual_seed(0)
    return ModuleOperator.wrap(_PassesOn(), Poisson.signature)
