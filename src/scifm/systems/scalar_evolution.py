"""Scalar evolution: terms of well-known equations in one, each as strong as its knob says, and absent where that is 0.

Equation
    ∂u/∂t = −c ∂u/∂x − b u ∂u/∂x + ν ∂²u/∂x² − δ ∂³u/∂x³ − κ ∂⁴u/∂x⁴ + r (u − u³)

Sign convention
    Where c + b u > 0 what is there moves towards larger x. ν > 0 and κ > 0 smooth; δ > 0 lets short waves fall behind;
    r > 0 drives u away from 0, towards −1 and 1. ν < 0 feeds waves and needs κ > 0, which damps the short ones.

Domain and boundary
    An interval of any length, periodic.

Fields (x runs along the last axis)
    amplitude   u   [–]   (batch, time, nx)

Coefficients (constant in space, one number a sample)
    speed              c   [L/T]
    steepening         b   [L/T]
    diffusivity        ν   [L²/T]
    dispersion         δ   [L³/T]
    hyperdiffusivity   κ   [L⁴/T]
    rate               r   [1/T]

Knobs
    speed, 0–1; steepening, 0–1; diffusivity, 0.002–0.02; dispersion, 0–0.001; hyperdiffusivity, 0–1e-5; rate, 0–2.
    Each may be 0, and then the term is not there: ``ScalarEvolution(speed=0, dispersion=0, …)``.

Dimensionless groups
    What a term does in the time t to a wave of wavenumber k and height U: c k t, b U k t, ν k² t, δ k³ t, κ k⁴ t, r t.

Initial state
    Random waves (`systems.initial`), 1 to 3 along the side, root mean square 0.5.

Exact solution
    Those of its parts: c alone is `advection`, ν alone `heat`, b and ν are `burgers`, b and δ with b = 1 `kdv`, b and κ
    with ν < 0 `kuramoto_sivashinsky`, ν and r `allen_cahn`. Without b and r each Fourier mode goes its own way.

Conserved
    The mean of u, where there is no reaction: ``mean`` of d/dt u − r (u − u³) is zero. So nothing is that holds for all
    knobs.

Solver and order
    Exponential time differencing of order 4; products are dealiased as a cubic term needs it, so that the upper half of
    the wavenumbers is zero. Spectral in space.

Good values
    64 to 128 points a side; trajectories of 21 frames, 0.05 apart. Some smoothing or dispersion where there is
    steepening.

Where it breaks
    Steepening alone makes shocks, which ring. Fronts and solitons thinner than six grid spacings: half the waves of the
    grid are not used. The step follows the grid: b U·step/dx ≤ 0.15 with U four times the initial root mean square.

References:
    Whitham, Linear and Nonlinear Waves (1974), ch. 1 and 4; those of `burgers`, `kdv`, `kuramoto_sivashinsky` and
    `allen_cahn`. Families of one-dimensional equations with strengths that are drawn train multi-operator models as in
    arXiv:2309.16816 (PROSE) and arXiv:2402.12652 (PDEformer).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.term import Term
from scifm.systems.initial import RandomWaves
from scifm.systems.knobs import Knob
from scifm.systems.periodic_evolution import PeriodicEvolution, SpectralBox
from scifm.systems.solvers.etdrk import Nonlinear

__all__ = ["ScalarEvolution"]

# longest step: in crossings of a grid cell at the peak, which is so many root mean squares; in units of what reacts, of
# what is fed
_COURANT, _PEAK, _REACTED, _FED = 0.15, 4.0, 0.1, 0.1

_U = ("amplitude",)


@dataclass(frozen=True)
class ScalarEvolution(PeriodicEvolution):
    """∂u/∂t = −c uₓ − b u uₓ + ν uₓₓ − δ uₓₓₓ − κ uₓₓₓₓ + r (u − u³) on a periodic interval; the module says more.

    Args:
        speed: knob, c [L/T].
        steepening: knob, b [L/T].
        diffusivity: knob, ν [L²/T].
        dispersion: knob, δ [L³/T].
        hyperdiffusivity: knob, κ [L⁴/T].
        rate: knob, r [1/T].
        initial_state: how u is drawn at time 0.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.
        max_step: longest step of the solver [T]; a fine grid asks for shorter ones.

    Raises:
        ConfigError: if a damping can be below zero without what holds that back, or an option is out of its range.
    """

    speed: Knob = Knob(0.0, 1.0)
    steepening: Knob = Knob(0.0, 1.0)
    diffusivity: Knob = Knob(0.002, 0.02)
    dispersion: Knob = Knob(0.0, 0.001)
    hyperdiffusivity: Knob = Knob(0.0, 1e-5)
    rate: Knob = Knob(0.0, 2.0)
    initial_state: RandomWaves = field(default_factory=lambda: RandomWaves(max_wave=3, amplitude=0.5))
    save_interval: float = 0.05
    num_frames: int = 21
    max_step: float = 0.01

    name: ClassVar[str] = "scalar_evolution"
    equation: ClassVar[str] = (
        "du/dt = - speed du/dx - steepening u du/dx + diffusivity d2u/dx2 - dispersion d3u/dx3 - hyperdiffusivity "
        "d4u/dx4 + rate (u - u^3) on a periodic interval"
    )
    signature: ClassVar[Signature] = Signature(
        _U, ("speed", "steepening", "diffusivity", "dispersion", "hyperdiffusivity", "rate"), _U, 1, evolves=True
    )
    keeps: ClassVar[float] = 1 / 2
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = ()
    terms: ClassVar[tuple[Term, ...]] = (
        Term("derivative_x", _U, of="amplitude", coefficient="speed", factor=-1.0),
        Term("advection", _U * 2, of="amplitude", coefficient="steepening", factor=-1.0),
        Term("laplacian", _U, of="amplitude", coefficient="diffusivity"),
        Term("derivative_xxx", _U, of="amplitude", coefficient="dispersion", factor=-1.0),
        Term("bilaplacian", _U, of="amplitude", coefficient="hyperdiffusivity", factor=-1.0),
        Term("value", _U, of="amplitude", coefficient="rate"),
        Term("cube", _U, of="amplitude", coefficient="rate", factor=-1.0),
    )

    def __post_init__(self) -> None:
        self.read_knobs(not_negative=("hyperdiffusivity", "rate"))
        self.require_options()
        if self.diffusivity.low < 0 and self.hyperdiffusivity.low <= 0:
            raise ConfigError(
                "A diffusivity below 0 feeds short waves most, and needs a hyperdiffusivity above 0 to hold them back; "
                f"got diffusivity low={self.diffusivity.low:g}, hyperdiffusivity low={self.hyperdiffusivity.low:g}."
            )

    def longest_step(self, grid: Grid) -> float:
        fastest = _PEAK * self.initial_state.amplitude * max(abs(self.steepening.low), abs(self.steepening.high))
        carried = _COURANT * grid.spacing[0] / fastest if fastest else math.inf
        reacted = _REACTED / self.rate.high if self.rate.high else math.inf
        fed = _FED * self.hyperdiffusivity.low / self.diffusivity.low**2 if self.diffusivity.low < 0 else math.inf
        return min(self.max_step, carried, reacted, fed)

    def symbol(self, waves: tuple[Tensor, ...], odd: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
        speed, _, diffusivity, dispersion, damping, rate = (self.per_sample(coefficients, i, 1) for i in range(6))
        square, wave = waves[0] ** 2, odd[0]
        real = rate - (diffusivity + damping * square) * square
        return torch.complex(real, (dispersion * wave**2 - speed) * wave)

    def nonlinear(self, box: SpectralBox, coefficients: Tensor, inputs: Tensor) -> Nonlinear:
        steepening, rate = (self.per_sample(coefficients, i, 1) for i in (1, 5))
        carried, reacted = -0.5 * steepening * box.derivative[0] * box.kept, -rate * box.kept

        def rest(spectrum: Tensor) -> Tensor:
            u = box.to_grid(spectrum)
            square = u.square()
            return box.to_modes(square) * carried + box.to_modes(square * u) * reacted

        return rest
