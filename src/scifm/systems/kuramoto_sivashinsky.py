"""Kuramoto–Sivashinsky: long waves grow, short ones are damped, and advection carries from one to the other: chaos.

Equation
    ∂u/∂t + u ∂u/∂x + μ ∂²u/∂x² + ν ∂⁴u/∂x⁴ = 0

Sign convention
    μ > 0 is a diffusion with the wrong sign: it makes waves grow. ν > 0 damps.

Domain and boundary
    An interval of any length, periodic.

Fields
    velocity   u   [L/T]   (batch, time, nx)

Coefficients (constant in space, one number a sample)
    antidiffusion   μ   [L²/T]
    viscosity       ν   [L⁴/T], of fourth order

Knobs
    antidiffusion   [L²/T], 0.0004–0.0006
    viscosity       [L⁴/T], 2.5e-7–6e-7, drawn on a log scale

Dimensionless groups
    ℓ √(μ/ν), the length ℓ of the box in the units in which μ = ν = 1, the form found in most papers: 26–49 on the unit
    box. Waves with n < ℓ √(μ/ν)/2π periods grow: 4–7 of them. Below about 12 nothing is chaotic. The unit of time is
    ν/μ², 0.7–3.8; fastest growth at the rate μ²/4ν.

Initial state
    Random waves (`systems.initial`), 1 to 5 along the side, root mean square 0.02, near the size on the attractor,
    which is 1.3 √(μ³/ν).

Exact solution
    None that is chaotic. Small waves grow or fall as exp((μk² − νk⁴) t); with u also c + u(x − ct, t) is a solution.

Conserved
    The mean of u.

Solver and order
    Exponential time differencing of order 4 with 2/3 dealiasing; spectral in space. The equation is stiff: at the
    default step halving divides the error, 1e-6 of the state after two frames, by 10, and by 16 at steps a tenth of it.

Good values
    128 points a side; 64 on the unit box are enough. Trajectories of 51 frames, 1 apart; about the first 50 units of
    time lead from the initial state to the attractor: option spin_up leaves them out.

Where it breaks
    Two solvers, precisions or grids part after some 100 units of time, as chaos has it: compare statistics then.
    Fewer than 1.4 points to the length √(ν/μ) leave out modes that matter.

References:
    Kuramoto and Tsuzuki, Prog. Theor. Phys. 55 (1976) 356, doi:10.1143/PTP.55.356; Sivashinsky, Acta Astronaut. 4
    (1977) 1177, doi:10.1016/0094-5765(77)90096-0; Kassam and Trefethen, SIAM J. Sci. Comput. 26 (2005) 1214,
    doi:10.1137/S1064827502410633 (solved as here).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.term import Term
from scifm.systems.initial import RandomWaves
from scifm.systems.knobs import Knob
from scifm.systems.periodic_evolution import PeriodicEvolution, SpectralBox, carried_by_itself
from scifm.systems.solvers.etdrk import Nonlinear

__all__ = ["KuramotoSivashinsky"]

_STEP = 0.1  # longest step in the shortest unit of time, ν/μ²


@dataclass(frozen=True)
class KuramotoSivashinsky(PeriodicEvolution):
    """∂u/∂t + u ∂u/∂x + μ ∂²u/∂x² + ν ∂⁴u/∂x⁴ = 0 on a periodic interval; the module has the full description.

    Args:
        antidiffusion: knob, μ [L²/T].
        viscosity: knob, ν [L⁴/T].
        initial_state: how u is drawn at time 0.
        spin_up: time marched before the first frame [T].
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.
        max_step: longest step of the solver [T]; a small viscosity asks for shorter ones.

    Raises:
        ConfigError: if a knob can be zero or below, or an option is out of its range.
    """

    antidiffusion: Knob = Knob(0.0004, 0.0006)
    viscosity: Knob = Knob(2.5e-7, 6e-7, scale="log")
    initial_state: RandomWaves = field(default_factory=lambda: RandomWaves(max_wave=5, amplitude=0.02))
    spin_up: float = 0.0
    save_interval: float = 1.0
    num_frames: int = 51
    max_step: float = 0.1

    name: ClassVar[str] = "kuramoto_sivashinsky"
    title: ClassVar[str] = "Kuramoto–Sivashinsky"
    equation: ClassVar[str] = (
        "du/dt + u du/dx + antidiffusion * d2u/dx2 + viscosity * d4u/dx4 = 0 on a periodic interval"
    )
    signature: ClassVar[Signature] = Signature(
        ("velocity",), ("antidiffusion", "viscosity"), ("velocity",), 1, evolves=True
    )
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        Homogeneity(
            (("velocity", 1.0), ("antidiffusion", 1.0), ("viscosity", 1.0), ("lead_time", -1.0)), ("velocity",), "rms"
        ),
    )
    terms: ClassVar[tuple[Term, ...]] = (
        Term("advection", ("velocity", "velocity"), of="velocity", factor=-1.0),
        Term("laplacian", ("velocity",), of="velocity", coefficient="antidiffusion", factor=-1.0),
        Term("bilaplacian", ("velocity",), of="velocity", coefficient="viscosity", factor=-1.0),
    )

    def __post_init__(self) -> None:
        self.read_knobs(positive=("antidiffusion", "viscosity"))
        self.require_options()

    def longest_step(self, grid: Grid) -> float:
        return min(self.max_step, _STEP * self.viscosity.low / self.antidiffusion.high**2)

    def symbol(self, waves: tuple[Tensor, ...], odd: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
        square = waves[0] ** 2
        return (self.per_sample(coefficients, 0, 1) - self.per_sample(coefficients, 1, 1) * square) * square

    def nonlinear(self, box: SpectralBox, coefficients: Tensor, inputs: Tensor) -> Nonlinear:
        return carried_by_itself(box)

    def kept(self, grid: Grid) -> tuple[str, ...]:
        return self.signature.outputs

    def quantities(self, state: Tensor, coefficients: Tensor, grid: Grid) -> dict[str, Tensor]:
        size = state[:, 0, 0].square().mean(-1).sqrt()
        return {"momentum": state[:, :, 0].mean(-1) / size[:, None]}
