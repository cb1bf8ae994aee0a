"""Korteweg–de Vries: waves that steepen and disperse, and gather into solitons that pass through each other.

Equation
    ∂u/∂t + u ∂u/∂x + β ∂³u/∂x³ = 0

Sign convention
    Where u > 0 it moves towards larger x. With β > 0 short waves fall behind and solitons are humps, not dips.

Domain and boundary
    An interval of any length, periodic.

Fields
    velocity   u   [L/T]   (batch, time, nx)

Coefficients (constant in space, one number a sample)
    dispersion   β   [L³/T]

Knobs
    dispersion   [L³/T], 0.0005–0.005, drawn on a log scale

Dimensionless groups
    U L²/β, steepening over dispersion: 100–1000 for the default knobs. About √(U L²/12β) solitons come out of a wave of
    height U and length L.

Initial state
    Random waves (`systems.initial`), 1 to 3 along the side, root mean square 0.5.

Exact solution
    Solitons u = 3βk² sech²(½(k x − βk³ t)): of height A = 3βk² and speed A/3; any number of them as
    u = 12β ∂²ₓ log τ, for two with θᵢ = kᵢx − βkᵢ³t + δᵢ and
    τ = 1 + exp θ₁ + exp θ₂ + ((k₁ − k₂)/(k₁ + k₂))² exp(θ₁ + θ₂).

Conserved
    The mean of u (mass), of u² (momentum) and of u³/3 − β (∂u/∂x)² (energy), and infinitely many more.

Solver and order
    Exponential time differencing of order 4 with 2/3 dealiasing; spectral in space. Mass is kept to round-off, the
    other two to the error in time.

Good values
    128 points a side; trajectories of 41 frames, 0.025 apart.

Where it breaks
    Solitons narrower than four grid spacings: β below about 10 U dx². The step follows the grid: U·step/dx ≤ 1/2 with U
    four times the initial root mean square.

References:
    Korteweg and de Vries, Phil. Mag. 39 (1895) 422, doi:10.1080/14786449508620739; Zabusky and Kruskal, Phys. Rev.
    Lett. 15 (1965) 240, doi:10.1103/PhysRevLett.15.240 (this form, with β = 0.022² on an interval of length 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.spectral import gradient
from scifm.fields.term import Term
from scifm.systems.initial import RandomWaves
from scifm.systems.knobs import Knob
from scifm.systems.periodic_evolution import PeriodicEvolution, SpectralBox, carried_by_itself
from scifm.systems.solvers.etdrk import Nonlinear

__all__ = ["KortewegDeVries"]

_COURANT, _PEAK = (
    0.15,
    4.0,
)  # longest step, in crossings of a grid cell at the peak velocity; peak over root mean square


@dataclass(frozen=True)
class KortewegDeVries(PeriodicEvolution):
    """∂u/∂t + u ∂u/∂x + β ∂³u/∂x³ = 0 on a periodic interval; the module has the full description.

    Args:
        dispersion: knob, β [L³/T].
        initial_state: how u is drawn at time 0.
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.
        max_step: longest step of the solver [T]; a fine grid asks for shorter ones.

    Raises:
        ConfigError: if the dispersion can be zero or below, or an option is out of its range.
    """

    dispersion: Knob = Knob(0.0005, 0.005, scale="log")
    initial_state: RandomWaves = field(default_factory=lambda: RandomWaves(max_wave=3, amplitude=0.5))
    save_interval: float = 0.025
    num_frames: int = 41
    max_step: float = 0.005

    name: ClassVar[str] = "kdv"
    title: ClassVar[str] = "Korteweg–de Vries"
    equation: ClassVar[str] = "du/dt + u du/dx + dispersion * d3u/dx3 = 0 on a periodic interval"
    signature: ClassVar[Signature] = Signature(("velocity",), ("dispersion",), ("velocity",), 1, evolves=True)
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity((("velocity", 1.0), ("dispersion", 1.0), ("lead_time", -1.0)), ("velocity",), "rms"),
    )
    terms: ClassVar[tuple[Term, ...]] = (
        Term("advection", ("velocity", "velocity"), of="velocity", factor=-1.0),
        Term("derivative_xxx", ("velocity",), of="velocity", coefficient="dispersion", factor=-1.0),
    )

    def __post_init__(self) -> None:
        self.read_knobs(positive=("dispersion",))
        self.require_options()

    def longest_step(self, grid: Grid) -> float:
        return min(self.max_step, _COURANT * grid.spacing[0] / (_PEAK * self.initial_state.amplitude))

    def symbol(self, waves: tuple[Tensor, ...], odd: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
        return 1j * self.per_sample(coefficients, 0, 1) * odd[0] ** 3

    def nonlinear(self, box: SpectralBox, coefficients: Tensor, inputs: Tensor) -> Nonlinear:
        return carried_by_itself(box)

    def kept(self, grid: Grid) -> tuple[str, ...]:
        return self.signature.outputs

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        u = state[:, :, 0]
        (slope,) = gradient(u, grid)
        power = u[:, :1].square().mean(-1)
        terms = u**3 / 3, coefficients[:, :1, None] * slope.square()
        scale = sum(term[:, :1].abs().mean(-1) for term in terms)
        return {
            "mass": u.mean(-1) / power.sqrt(),
            "momentum": u.square().mean(-1) / power,
            "energy": (terms[0] - terms[1]).mean(-1) / scale,
        }
