"""The unknowns that recordings speak for most, and how far they leave them open.

−log of what is believed after the recordings is half of the squared misfit in units of the noise and half of |z|². It
is made small by L-BFGS (SciPy's) from several starts; around the best place it is taken for a parabola (Laplace), whose
curvature is JᵀJ + 1, J the derivatives of what is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scifm.applications.inversion.forward import Forward
from scifm.fields.seeds import generator_for

__all__ = ["Found", "Place", "posterior", "searched"]

_DRAWS = 2000
_ALIKE = 2.0  # of −log: starts that end within it of the best one found the same


@dataclass(frozen=True)
class Place:
    """Where one search ended.

    Args:
        z: there.
        value: half of the squared misfit and of |z|².
        steps: that L-BFGS took.
        path: values on the way.
    """

    z: Tensor
    value: float
    steps: int
    path: tuple[float, ...] = ()


@dataclass(frozen=True)
class Found:
    """What several searches found.

    Args:
        places: the best one first.
        misfit: of the best one, mean squared difference in units of the noise.
        num_asked: problems that were answered for it.
    """

    places: tuple[Place, ...]
    misfit: float
    num_asked: int

    @property
    def best(self) -> Place:
        """The place that recordings speak for most."""
        return self.places[0]

    @property
    def agreeing(self) -> int:
        """How many starts ended about as low as the best one."""
        return sum(place.value <= self.best.value + _ALIKE for place in self.places)


def searched(
    forward: Forward,
    starts: Float[Tensor, "start size"],
    *,
    num_steps: int,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Return where searches from some starts end.

    Args:
        forward: what is recorded of unknowns.
        starts: where each begins.
        num_steps: of L-BFGS at most, each.
        progress: told how many of how many starts are done.
    """
    from scipy.optimize import minimize

    before, places = forward.num_asked, []
    for place, start in enumerate(starts, start=1):
        path: list[float] = []

        def told(z: np.ndarray, path: list[float] = path) -> tuple[float, np.ndarray]:
            value, slope = forward.value_and_slope(torch.from_numpy(z.copy()))
            path.append(value)
            return value, slope.numpy()

        ended = minimize(
            told, start.numpy(), jac=True, method="L-BFGS-B", options={"maxiter": num_steps, "ftol": 1e-10}
        )
        z = torch.from_numpy(np.array(ended.x))
        places.append(Place(z, float(ended.fun), int(ended.nit), tuple(np.minimum.accumulate(path))))
        if progress is not None:
            progress(place, len(starts))
    places.sort(key=lambda own: own.value if math.isfinite(own.value) else math.inf)
    return Found(tuple(places), forward.misfit(places[0].z), forward.num_asked - before)


def posterior(forward: Forward, place: Place, *, seed: int = 0) -> Float[Tensor, "draw size"]:
    """Return draws of the unknowns as they are believed after the recordings, near the best place."""
    jacobian = forward.jacobian(place.z)
    curvature = jacobian.T @ jacobian + torch.eye(len(place.z), dtype=torch.float64)
    factor = torch.linalg.cholesky(curvature)
    drawn = torch.randn(_DRAWS, len(place.z), generator=generator_for(seed, "posterior"), dtype=torch.float64)
    return place.z + torch.linalg.solve_triangular(factor.T, drawn.T, upper=True).T
