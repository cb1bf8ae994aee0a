"""Gray–Scott: a catalyst that feeds on a substrate and makes more of itself: spots that divide, worms, mazes, waves.

Equation
    ∂u/∂t = D_u Δu − u v² + F (1 − u)
    ∂v/∂t = D_v Δv + u v² − (F + K) v

Sign convention
    F > 0 brings substrate and washes both out; K > 0 removes catalyst. With u v² substrate becomes catalyst at rate 1,
    which fixes the unit of time.

Domain and boundary
    A box with any sides, periodic, in one to three dimensions (option num_spatial_dims).

Fields (x runs along the last axis)
    substrate   u   [–]   (batch, time, [[nz,] ny,] nx)
    catalyst    v   [–]   (batch, time, [[nz,] ny,] nx)

Coefficients (constant in space, one number a sample)
    feed                    F     [1/T]
    kill                    K     [1/T]
    substrate_diffusivity   D_u   [L²/T]
    catalyst_diffusivity    D_v   [L²/T]

Knobs
    feed                    [1/T], 0.03–0.05
    kill                    [1/T], 0.06–0.0625
    substrate_diffusivity   [L²/T], 2.4e-4–3.2e-4
    catalyst_diffusivity    [L²/T], 1.2e-4–1.6e-4

Dimensionless groups
    F, K (in units of the reaction's rate), D_u/D_v and √D_v/L. For K < √F/2 − F there is a uniform state with
    catalyst. Patterns live around the line K = √F/2 − F and somewhat beyond it, as these knobs do.

Initial state
    v = w², u = 1 − w² of random waves w (`systems.initial`), 1 to 3 along a side, root mean square 0.22: patches
    of catalyst up to about 0.5, which every grid holds exactly.

Exact solution
    Without catalyst u − 1 spreads like heat and falls as exp(−Ft). With D_u = D_v and K = 0 the same is true of
    u + v − 1, whatever the reaction.

Conserved
    Nothing; u and v stay positive.

Solver and order
    Exponential time differencing of order 4, of the modes below half of the highest, so that u v² does not alias;
    spectral in space. Three transforms a right-hand side: two there and one back.

Good values
    64 points a side; trajectories of 101 frames, 10 apart. Patterns are there after some 500 units of time and go on
    changing for thousands.

Where it breaks
    In one to four of a hundred trajectories the catalyst dies out, to nothing that can be told from zero: errors
    relative to it mean little.
    Spots of three grid spacings ring: √D_v below about 0.7 of a grid spacing. The diffusivities usual on grids of 256,
    D_u = 2e-5, D_v = 1e-5, need these 256 points a unit of length.

References:
    Gray and Scott, Chem. Eng. Sci. 39 (1984) 1087, doi:10.1016/0009-2509(84)87017-7; Pearson, Science 261 (1993) 189,
    doi:10.1126/science.261.5118.189 (patterns by F and K, with D_u = 2e-5, D_v = 1e-5 on a box of side 2.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.term import Term
from scifm.systems.initial import RandomWaves
from scifm.systems.knobs import Knob
from scifm.systems.periodic_evolution import PeriodicEvolution, SpectralBox, squared
from scifm.systems.solvers.etdrk import Nonlinear

__all__ = ["GrayScott"]


@dataclass(frozen=True)
class GrayScott(PeriodicEvolution):
    """∂u/∂t = D_u Δu − u v² + F (1 − u), ∂v/∂t = D_v Δv + u v² − (F + K) v; the module has the full description.

    Args:
        feed: knob, F [1/T].
        kill: knob, K [1/T].
        substrate_diffusivity: knob, D_u [L²/T].
        catalyst_diffusivity: knob, D_v [L²/T].
        initial_state: the waves from which u and v are made at time 0.
        num_spatial_dims: 1, 2 or 3.
        spin_up: time marched before the first frame [T].
        save_interval: time between frames [T].
        num_frames: frames of a trajectory, the first at time 0.
        max_step: longest step of the solver [T].

    Raises:
        ConfigError: if a knob can go below its bound, or an option is out of its range.
    """

    feed: Knob = Knob(0.03, 0.05)
    kill: Knob = Knob(0.06, 0.0625)
    substrate_diffusivity: Knob = Knob(2.4e-4, 3.2e-4)
    catalyst_diffusivity: Knob = Knob(1.2e-4, 1.6e-4)
    initial_state: RandomWaves = field(default_factory=lambda: RandomWaves(max_wave=3, amplitude=0.22))
    num_spatial_dims: int = 2
    spin_up: float = 0.0
    save_interval: float = 10.0
    num_frames: int = 101
    max_step: float = 1.25

    name: ClassVar[str] = "gray_scott"
    title: ClassVar[str] = "Gray–Scott"
    equation: ClassVar[str] = (
        "du/dt = D_u laplace(u) - u v^2 + feed (1 - u), dv/dt = D_v laplace(v) + u v^2 - (feed + kill) v, periodic box"
    )
    keeps: ClassVar[float] = 1 / 2
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = ()
    terms: ClassVar[tuple[Term, ...]] = (
        Term("laplacian", ("substrate",), of="substrate", coefficient="substrate_diffusivity"),
        Term("product", ("substrate", "catalyst", "catalyst"), of="substrate", factor=-1.0),
        Term("one", (), of="substrate", coefficient="feed"),
        Term("value", ("substrate",), of="substrate", coefficient="feed", factor=-1.0),
        Term("laplacian", ("catalyst",), of="catalyst", coefficient="catalyst_diffusivity"),
        Term("product", ("substrate", "catalyst", "catalyst"), of="catalyst"),
        Term("value", ("catalyst",), of="catalyst", coefficient="feed", factor=-1.0),
        Term("value", ("catalyst",), of="catalyst", coefficient="kill", factor=-1.0),
    )

    def __post_init__(self) -> None:
        self.read_knobs(positive=("substrate_diffusivity", "catalyst_diffusivity"), not_negative=("feed", "kill"))
        self.require_options()

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """The names, of as many dimensions as the option says."""
        fields = ("substrate", "catalyst")
        return Signature(fields, tuple(self.knobs), fields, self.num_spatial_dims, evolves=True)

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        drawn = self.draw_knobs(num_samples, generator, device)
        waves = self.initial_state.draw(num_samples, 1, grid, generator, device=device)
        catalyst = waves.square_()
        return torch.cat([1 - catalyst, catalyst], dim=1), drawn

    def symbol(self, waves: tuple[Tensor, ...], odd: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
        feed, kill, of_u, of_v = (self.per_sample(coefficients, i, len(waves)) for i in range(4))
        square = squared(waves)
        return -torch.cat([of_u * square + feed, of_v * square + feed + kill], dim=1)

    def nonlinear(self, box: SpectralBox, coefficients: Tensor, inputs: Tensor) -> Nonlinear:
        feed = coefficients[:, 0] * math.prod(box.grid.num_points)
        mean: tuple[Any, ...] = (slice(None), 0, *(0,) * self.num_spatial_dims)

        def rest(spectrum: Tensor) -> Tensor:
            substrate, catalyst = box.to_grid(spectrum).unbind(1)
            reacted = box.to_modes(substrate.mul_(catalyst.square_())).mul_(box.kept)
            made = torch.stack([-reacted, reacted], dim=1)
            made[mean] += feed
            return made

        return rest
