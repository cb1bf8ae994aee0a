"""Operators that are the solver itself, as far as they are asked to be; and where what they are asked comes from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import networks
import tiny
from scifm.data.origins import Origin, SystemOrigin
from scifm.data.split import windows_of
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.normalization import Encoded
from scifm.fields.seeds import generator_for
from scifm.fields.window import Window
from scifm.models.bands import calibrate
from scifm.models.ensemble import Ensemble
from scifm.models.fno import FNOConfig
from scifm.models.module_operator import ModuleOperator
from scifm.models.operator import Operator
from scifm.models.parts.ode import SCHEMES, solve
from scifm.systems.burgers import Burgers
from scifm.systems.poisson import Poisson
from scifm.trust.convergence import learned_generator

__all__ = [
    "BURGERS", "Turning", "calibrated", "doubting", "forecaster", "in_stairs", "of_burgers", "of_poisson", "poisson",
    "turning", "turns", "windows",
]  # fmt: skip

BURGERS = Burgers(num_frames=6, save_interval=0.125)
LINE = Grid.square(32, num_spatial_dims=1)


class _Kept(networks.ExactPoisson):
    """The exact answer up to a number of points, or to an anisotropy; beyond them nothing."""

    def __init__(self, most_points: float, most_anisotropy: float) -> None:
        super().__init__()
        self.most_points, self.most_anisotropy = most_points, most_anisotropy

    def forward(self, x: Tensor) -> Tensor:
        xx, yy, xy = (x[:, place, 0, 0] for place in (1, 2, 3))
        middle, apart = (xx + yy) / 2, (((xx - yy) / 2).square() + xy.square()).sqrt()
        kept = (middle + apart) / (middle - apart) <= self.most_anisotropy * (1 + 1e-4)
        if x.shape[-1] > self.most_points:
            kept = torch.zeros_like(kept)
        return super().forward(x) * kept.view(-1, 1, 1, 1).to(x)


class _Doubting(networks.ExactPoisson):
    """The exact answer times a gain that grows with the anisotropy; members differ by another that may, or may not."""

    def __init__(self, gain: float, apart: float, knows: float) -> None:
        super().__init__()
        self.off, self.apart, self.knows = gain - 1, apart, knows

    def forward(self, x: Tensor) -> Tensor:
        xx, yy, xy = (x[:, place, 0, 0] for place in (1, 2, 3))
        middle, part = (xx + yy) / 2, (((xx - yy) / 2).square() + xy.square()).sqrt()
        anisotropy = (middle + part) / (middle - part)
        gain = 1 + self.off * anisotropy + self.apart * anisotropy**self.knows
        return super().forward(x) * gain.view(-1, 1, 1, 1)


class _Claims(ModuleOperator):
    """A wrapped network that says that it answers on any grid."""

    any_resolution = True


def poisson(*, points: float = torch.inf, anisotropy: float = torch.inf, claims: bool = True) -> Operator:
    """Return the solution of Poisson's equation as an operator, right up to so many points and so much anisotropy."""
    return (_Claims if claims else ModuleOperator).wrap(_Kept(points, anisotropy), Poisson.signature)


def doubting(*, gain: float = 1.1, apart: float = 0.1, knows: float = 1.0) -> Operator:
    """Return three members that err by a share that grows with the anisotropy, and differ by one that grows with it.

    Args:
        gain: how wrong their mean is, one and a share.
        apart: how far they lie from it, as such a share.
        knows: power of the anisotropy by which they differ: 1 where they know how wrong they are.
    """
    members = [_Doubting(gain, place * apart, knows) for place in (-1, 0, 1)]
    return Ensemble.of([ModuleOperator.wrap(member, Poisson.signature) for member in members])


def calibrated(*, gain: float = 1.05) -> Operator:
    """Return Poisson's solution times a gain, which says of itself that it was found to be 1.05."""
    operator = ModuleOperator.wrap(networks.ExactPoisson(gain=1.05), Poisson.signature)
    calibrate(operator, Poisson().sample(64, Grid.square(16), generator_for(0, "calibrated")))
    other = ModuleOperator.wrap(networks.ExactPoisson(gain=gain), Poisson.signature)
    other.calibration = operator.calibration
    return other


class _Solver(Operator):
    needs_periodic = False

    def __init__(self, factor: float, kick: float) -> None:
        super().__init__(BURGERS.signature, FNOConfig(**tiny.NETWORK))
        self.factor, self.kick = nn.Parameter(torch.tensor(factor)), nn.Parameter(torch.tensor(kick))

    def network(self, encoded: Encoded) -> Tensor:
        now = encoded.inputs[:, 0]
        later = BURGERS.advance(now, encoded.coefficients, encoded.grid, interval=0.125, num_frames=1)
        return self.factor * later - now.unsqueeze(1) + self.kick


OSCILLATORS = Signature(("place", "speed"), (), ("place", "speed"), 1, evolves=True)
_TURN = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)


class Turning(Operator):
    """An oscillator at every point, followed by a scheme: its equation, or what fits a step of the samples exactly."""

    any_lead_time, needs_periodic = True, False

    def __init__(self, scheme: str, generator: Tensor, num_steps: int = 1) -> None:
        super().__init__(OSCILLATORS, FNOConfig(**tiny.NETWORK))
        self.generator, self.scheme, self.num_steps = nn.Parameter(generator), scheme, num_steps

    def stepped(self, *, scheme: str | None = None, num_steps: int | None = None) -> Turning:
        return Turning(scheme or self.scheme, self.generator.data, num_steps or self.num_steps)

    def _next_frame(self, batch: Batch) -> Tensor:
        width = batch.lead_time[:, :1, None, None].to(batch.inputs)
        about = {"scheme": SCHEMES[self.scheme], "num_steps": self.num_steps}
        turn = self.generator.to(batch.inputs)
        return solve(lambda u, _: torch.einsum("ij,btjx->btix", turn, u), batch.inputs, width, **about)


def turning(scheme: str, *, time: float = 0.3, learned: bool = True) -> Turning:
    """Return oscillators by a scheme, as one learns them that fits every step of a time, or as they are."""
    return Turning(scheme, learned_generator(_TURN, time, scheme) if learned else _TURN)


def turns(count: int = 8, time: float = 0.3) -> Batch:
    """Return states of oscillators and those a time later."""
    inputs = torch.randn(count, 1, 2, 4, generator=generator_for(0, "turns"), dtype=torch.float64)
    later = torch.einsum("ij,btjx->btix", torch.linalg.matrix_exp(_TURN * time), inputs)
    times = torch.full((count, 1), time, dtype=torch.float64)
    empty, grid = inputs.new_zeros(count, 0), Grid.square(4, num_spatial_dims=1)
    return Batch(OSCILLATORS, grid, inputs, empty, later, lead_time=times)


class _Stairs(networks.ExactPoisson):
    """The exact answer on every second point, said of the point behind it too."""

    def forward(self, x: Tensor) -> Tensor:
        coarse = super().forward(x[..., ::2, ::2])
        return coarse.repeat_interleave(2, -1).repeat_interleave(2, -2)


def in_stairs() -> Operator:
    """Return the solution of Poisson's equation where waves are made up that its own grid does not hold."""
    return _Claims.wrap(_Stairs(), Poisson.signature)


def forecaster(factor: float = 1.0, *, kick: float = 0.0) -> Operator:
    """Return the solver of Burgers' equation as an operator: its answer times a factor, and something added to it."""
    return _Solver(factor, kick)


def windows(count: int = 8) -> Batch:
    """Return pairs of frames of Burgers' equation, one of each trajectory."""
    drawn = BURGERS.sample(count, LINE, generator_for(0, "exact"))
    return windows_of(drawn, Window()).batch(torch.arange(0, 5 * count, 5))


def of_poisson(**knobs: Any) -> Origin:
    """Return where samples of `tiny.batch` come from."""
    return SystemOrigin.of(Poisson().where(**knobs), tiny.GRID)


def of_burgers() -> Origin:
    """Return where `windows` come from."""
    return SystemOrigin.of(BURGERS, LINE)
