# --8<-- [start:docstring]
"""Thin plate: the bending of an elastic plate on an elastic bed, on a periodic box.

Equation
    D Δ²u + k u = f,    Kirchhoff's plate on Winkler's bed.

Sign convention
    f > 0 pushes in the direction in which u counts: where f is large, u is large.

Domain and boundary
    Rectangle [0, L_x) × [0, L_y), periodic. Since k > 0 every f has exactly one solution.

Fields (x runs along the last axis)
    forcing    f   [F/L²]   (batch, 1, ny, nx)   the load; also called source
    solution   u   [L]      (batch, 1, ny, nx)   the deflection

Coefficients (constant in space, one number a sample)
    rigidity   D   [F L]    above 0
    bedding    k   [F/L³]   the option, 1 unless said otherwise; above 0

Knobs
    rigidity   1e-6–1e-4 on the logarithmic scale

Dimensionless groups
    (D/k)^¼ / L, the length over which the load at a point is spread over the side L: 0.03–0.1 for these knobs.

Exact solution
    f = (D (p² + q²)² + k) cos(p x + q y) gives u = cos(p x + q y), p and q multiples of 2π over a side.

Solver and order
    û = f̂ / (D |k|⁴ + k): spectral, exact for every field the grid can hold.

Good values
    64² points resolve the forcing to 3e-9.

Where it breaks
    k = 0, where a load with a mean has no solution, and negative D or k, where the plate buckles: both are refused.

References:
    Timoshenko and Woinowsky-Krieger, "Theory of Plates and Shells", 2nd edition, McGraw-Hill 1959, chapter 8.
"""
# --8<-- [end:docstring]

# --8<-- [start:code]
from dataclasses import dataclass, field

import torch

from scifm.errors import ConfigError
from scifm.fields.batch import Signature
from scifm.fields.homogeneity import Homogeneity
from scifm.systems.forcing import GaussianForcing
from scifm.systems.knobs import Knob
from scifm.systems.periodic_elliptic import PeriodicElliptic


@dataclass(frozen=True)
class ThinPlate(PeriodicElliptic):
    """D Δ²u + k u = f."""

    rigidity: Knob = Knob(1e-6, 1e-4, scale="log")
    bedding: float = 1.0
    forcing: GaussianForcing = field(default_factory=GaussianForcing)

    name = "thin_plate"
    equation = "D lap lap u + k u = f on a periodic box"
    zero_mean = False  # every f is allowed, whatever its mean
    signature = Signature(inputs=("forcing",), coefficients=("rigidity", "bedding"), outputs=("solution",))
    homogeneities = (Homogeneity((("forcing", 1), ("solution", 1)), gauge=("forcing",), measure="rms"),)

    def __post_init__(self):
        if not min(self.rigidity.low, self.bedding) > 0:
            raise ConfigError(f"'thin_plate' needs rigidity and bedding > 0; got {self.rigidity} and {self.bedding}.")

    def symbol_basis(self, wave_y, wave_x):  # what D and k are multiplied by: residual and solver follow from it
        square = wave_x**2 + wave_y**2
        return torch.stack([square**2, torch.ones_like(square)]), None

    def coefficients_for(self, drawn, spectrum, grid):
        return torch.stack([drawn["rigidity"], torch.full_like(drawn["rigidity"], self.bedding)], 1)

    def measured_knobs(self, batch):  # for the shift of a study; may be left out
        return {"rigidity": batch.coefficient("rigidity")}


# --8<-- [end:code]
