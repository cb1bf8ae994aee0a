"""Elastic waves of earthquakes, by deepwave's kept solver: compression and shear, each at a speed of its own.

    ρ v_t = ∇·σ + f,    σ_t = λ (∇·v) I + μ (∇v + ∇vᵀ)

in a plane that is seen from above, ρ = 1 and λ = μ = c², c the speed of shear; compression is √3 times as fast. Every
pulse of a source is a double couple along the strike of its fault (of a point: along x),

    fᵢ = −∂ⱼ(Mᵢⱼ δ) g(t),    M = height · (−sin 2φ, cos 2φ; cos 2φ, sin 2φ),

its moment rate g a normal density in time of standard deviation pulse_width / c, which begins three of these before its
middle. The box goes on behind its ends, in layers that absorb. deepwave's grid is staggered: velocities are brought to
the points as means of two neighbours, forces stand half a cell beside them along their own axis.

References:
    Richardson, Deepwave (https://github.com/ar4/deepwave); Aki and Richards, Quantitative Seismology, chapter 3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from scifm.errors import ConfigError
from scifm.fields.grid import Grid

if TYPE_CHECKING:
    from scifm.applications.early_warning.events import Events, Source

__all__ = ["elastic_waves", "require_deepwave"]

_AT_ONCE = 8  # events that are marched together
_LAYER = 20  # points behind each end of the box
_POINTS_A_WIDTH = 12  # samples of a source in time, a standard deviation of its moment rate


def require_deepwave() -> Any:
    """Return the package that marches elastic waves.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        import deepwave
    except ImportError as error:
        raise ConfigError(
            "Elastic waves are marched by the package deepwave, which is not installed: give "
            "pip install 'scifm[waves]', or take physics = \"acoustic\"."
        ) from error
    return deepwave


def elastic_waves(events: Events, speed: Tensor, sources: list[Source], grid: Grid) -> Tensor:
    """Return ground velocities of some earthquakes, ``(batch, frame, direction, *space)`` float32, x before y.

    Args:
        events: of which region.
        speed: of shear waves, ``(*space)`` [km/s].
        sources: the earthquakes.
        grid: of square cells.

    Raises:
        ConfigError: if deepwave is not installed, or the cells are not square.
    """
    deepwave = require_deepwave()
    if not math.isclose(*grid.spacing, rel_tol=1e-6):
        raise ConfigError(f"Elastic waves are marched on square cells; these have sides {grid.spacing}.")
    width = events.pulse_width / events.mean_speed
    substeps = max(1, math.ceil(_POINTS_A_WIDTH * events.save_interval / width))
    medium = functional.pad(speed.float().square()[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    parts = []
    for start in range(0, len(sources), _AT_ONCE):
        own = sources[start : start + _AT_ONCE]
        receivers = {name: _between(grid, axis).expand(len(own), -1, -1) for axis, name in enumerate("yx")}
        made = deepwave.elastic(
            medium, medium, torch.ones_like(medium), grid.spacing[0], events.save_interval / substeps,
            sources=_forces(events, own, grid, substeps, width), receivers=receivers,
            accuracy=4, pml_width=_LAYER, pml_freq=1 / (2 * math.pi * width),
        )  # fmt: skip
        recorded = (made.receiver_amplitudes_x, made.receiver_amplitudes_y)
        parts.append(torch.stack([_at_points(r[..., ::substeps], grid, 1 - k) for k, r in enumerate(recorded)], dim=2))
    return torch.cat(parts)[:, : events.num_frames]


def _between(grid: Grid, axis: int) -> Tensor:
    """Return the cells whose velocity along an axis lies on either side of the points, ``(place, 2)``."""
    lines = [torch.arange(0 if own == axis else 1, points + 1) for own, points in enumerate(grid.num_points)]
    return torch.cartesian_prod(*lines)


def _at_points(recorded: Tensor, grid: Grid, axis: int) -> Tensor:
    """Return what was recorded between the points ``(event, place, frame)`` at them, ``(event, frame, *space)``."""
    points = [n + (own == axis) for own, n in enumerate(grid.num_points)]
    fields = recorded.movedim(-1, 1).unflatten(-1, points)
    n, space = grid.num_points[axis], 2 + axis
    return 0.5 * (fields.narrow(space, 0, n) + fields.narrow(space, 1, n))


def _forces(
    events: Events, sources: list[Source], grid: Grid, substeps: int, width: float
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return of each direction amplitudes ``(event, force, time)`` and places ``(event, force, 2)``, points (y, x)."""
    steps = torch.arange((events.num_frames - 1) * substeps + 1) * (events.save_interval / substeps)
    most = max(len(source.places) for source in sources)
    amplitudes = {name: torch.zeros(len(sources), 4 * most, len(steps)) for name in "yx"}
    # a force of no size may stand anywhere, but no two of one event at one point
    where = torch.zeros(len(sources), 4 * most, 2, dtype=torch.int64)
    for row, source in enumerate(sources):
        moments = _moments(source)
        taken: dict[tuple[int, int], int] = {}
        for place, frame in zip(source.places, source.frames, strict=True):
            late = (steps - frame * events.save_interval) / width - 3.0
            rate = source.height * torch.exp(-0.5 * late.square()) / (width * math.sqrt(2 * math.pi))
            middle = tuple(round(at / side) for at, side in zip(place, grid.spacing, strict=True))
            for axis in (0, 1):
                for side in (1, -1):
                    point = (1 + middle[0] + side * (axis == 0), 1 + middle[1] + side * (axis == 1))
                    column = taken.setdefault(point, len(taken))
                    # −∂ⱼδ by the difference of its neighbours
                    amplitudes["y"][row, column] += side * moments[0][axis] * rate
                    amplitudes["x"][row, column] += side * moments[1][axis] * rate
        free = [p for p in _points(grid, 4 * most + len(taken)) if p not in taken]
        named = [*taken, *free][: 4 * most]
        where[row] = torch.tensor(named)
    return {name: (amplitudes[name], where) for name in "yx"}


def _points(grid: Grid, count: int) -> list[tuple[int, int]]:
    """Return the first points of a grid."""
    return [(k // grid.num_points[1], k % grid.num_points[1]) for k in range(count)]


def _moments(source: Source) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the double couple along a source's strike, rows and columns (y, x), over its height."""
    (y0, x0), (y1, x1) = source.places[0], source.places[-1]
    strike = math.atan2(y1 - y0, x1 - x0) if len(source.places) > 1 else 0.0
    sine, cosine = math.sin(2 * strike), math.cos(2 * strike)
    return (sine, cosine), (cosine, -sine)
