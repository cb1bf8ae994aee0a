"""The loss around its weights: on the plane of two directions, as data, with a number for its roughness.

Directions are the two eigenvectors of largest curvature, as Krishnapriyan, Gholami, Zhe, Kirby & Mahoney draw losses of
physics-informed networks (arXiv:2109.01050), random ones brought to the size of each filter (Li, Xu, Taylor, Studer &
Goldstein, arXiv:1712.09913), or any others. Two directions of many are no map of a loss; they show what lies in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import numpy as np
from contourpy import contour_generator
from pydantic import Field
from torch import Tensor

from scifm.errors import ConfigError, DataError
from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.findings.finding import Finding
from scifm.objectives.supervised import RelativeL2
from scifm.trust.case import Case
from scifm.trust.check import Check
from scifm.trust.curvature import objective_of
from scifm.trust.eigenvalues import ends_of
from scifm.trust.hessian import Hessian, hessian_of
from scifm.wording import plural

__all__ = ["Landscape", "LossLandscape", "Ways", "landscape_of", "panel_of"]

Ways = Literal["curvature", "random"] | Sequence[np.ndarray]
"""Two directions: those of largest curvature, random ones by filter, or two vectors, ``(P,)`` each."""

_NUM_LEVELS = 6
_FAR = 2.0  # times the threshold, beyond which it is bad news


@dataclass(frozen=True)
class Landscape:
    """A loss on a plane, ``L(θ + a v₁ + b v₂)``.

    Args:
        a: places along the first direction, rising, ``(columns,)``.
        b: places along the second, ``(rows,)``.
        losses: ``(rows, columns)``; not finite where the loss is not.
        loss: in the middle, at the weights.
        directions: v₁ and v₂, ``(2, P)``.
        curvatures: vᵀHv/vᵀv along each.
        unit: of a and b.
    """

    a: np.ndarray
    b: np.ndarray
    losses: np.ndarray
    loss: float
    directions: np.ndarray
    curvatures: tuple[float, float]
    unit: str

    @property
    def logarithms(self) -> np.ndarray:
        """The logarithm of the loss, base 10.

        Raises:
            DataError: if the loss is not positive everywhere.
        """
        if (self.losses <= 0).any():
            raise DataError("A loss that is not positive has no logarithm: ask for its roughness with log=False.")
        return np.log10(self.losses)

    def roughness(self, *, log: bool = True) -> float:
        """Return what share of the way up and down is more than one valley needs, over all lines along a and b.

        A line that falls to its lowest point and rises behind it goes up and down as far as its two ends lie above
        that point; one that goes Σ|Lᵢ₊₁ − Lᵢ| may go further. What lines go further, over all that they go: 0 where
        each has one valley, as those of a convex loss have; 1/2 where ups and downs on the way are as long as the
        valley; near 1 where there is little else. Lines with a loss that is not finite are left out.

        Args:
            log: of the logarithm of the loss, which is drawn, or of the loss.

        Raises:
            DataError: if the loss is nowhere finite along a line, or has no logarithm.
        """
        values = self.logarithms if log else self.losses
        gone = needed = 0.0
        lines = [line for line in (*values, *values.T) if np.isfinite(line).all()]
        if not lines:
            raise DataError("There is no line along which the loss is finite: give a smaller extent.")
        for line in lines:
            gone += float(np.abs(np.diff(line)).sum())
            needed += float(line[0] + line[-1] - 2 * line.min())
        return max(0.0, 1 - needed / gone) if gone > 0 else 0.0


def landscape_of(
    hessian: Hessian, ways: Ways = "curvature", *, extent: float | tuple[float, float] = 1.0, num_points: int = 21,
    seed: int = 0,
) -> Landscape:  # fmt: skip
    """Return a loss on a plane through its weights.

    Args:
        hessian: of the loss, which says what the weights are.
        ways: the directions. Eigenvectors and vectors of your own are brought to length one; a and b are Euclidean
            distances of weights, and the loss rises by λa²/2 as long as it is of second order. Of random directions
            each slice of a weight along its first axis has the norm of that slice of the weights; weights of one axis,
            such as biases, stand still; a = 1 is as far as the weights are large.
        extent: a and b run from −extent to extent; one for each direction, or for both.
        num_points: along each; an odd number has the weights in the middle.
        seed: of random directions.

    Raises:
        ConfigError: if a number is not allowed, or the directions are no two different ones.
        DataError: if the loss or a derivative at the weights is not finite.
    """
    extents = (extent, extent) if isinstance(extent, int | float) else extent
    if not min(extents) > 0 or num_points < 3:
        raise ConfigError(f"A plane has a positive extent and at least 3 points a side; got {extent} and {num_points}.")
    first, second, unit = _directions(hessian, ways, seed)
    a, b = (np.linspace(-far, far, num_points) for far in extents)
    losses = np.array([[_loss_at(hessian, x * first + y * second) for x in a] for y in b])
    curved = [float(v @ hessian.matvec(v) / (v @ v)) for v in (first, second)]
    return Landscape(a, b, losses, hessian.loss(), np.stack([first, second]), (curved[0], curved[1]), unit)


def _loss_at(hessian: Hessian, away: np.ndarray) -> float:
    moved = hessian.tensors(away)
    return hessian.loss({name: weight + moved[name] for name, weight in hessian.weights.items()})


def _directions(hessian: Hessian, ways: Ways, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    if hessian.shape[0] < 2:
        raise ConfigError("A plane needs at least two weights; there is one.")
    if ways == "random":
        random = np.random.default_rng(seed)
        first, second = (_by_filter(hessian, random.standard_normal(hessian.shape[0])) for _ in range(2))
        if not (first.any() and second.any()):
            raise ConfigError("No weight has two axes or more, and none of them is not zero: give directions.")
        return first, second, "the size of each filter"
    if ways == "curvature":
        ways = list(ends_of(hessian, num_top=2, num_bottom=0, seed=seed).top_vectors)
    elif isinstance(ways, str):
        raise ConfigError(f"ways is 'curvature', 'random', or two vectors; got '{ways}'.")
    found = [np.asarray(way, dtype=np.float64) for way in ways]
    if len(found) != 2 or any(way.shape != hessian.shape[:1] for way in found):
        raise ConfigError(f"Directions are two vectors of shape {hessian.shape[:1]}; got {[w.shape for w in found]}.")
    lengths = [float(np.linalg.norm(way)) for way in found]
    if not all(0 < length < np.inf for length in lengths):
        raise ConfigError("A direction is a finite vector that is not zero.")
    first, second = (way / length for way, length in zip(found, lengths, strict=True))
    if 1 - abs(float(first @ second)) < 1e-9:
        raise ConfigError("The two directions are the same one: they span a line, no plane.")
    return first, second, "distance of weights"


def _by_filter(hessian: Hessian, drawn: np.ndarray) -> np.ndarray:
    """Return a direction whose filters are as large as those of the weights."""
    return hessian.vector({n: _sized(way, hessian.weights[n]) for n, way in hessian.tensors(drawn).items()})


def _sized(way: Tensor, weight: Tensor) -> Tensor:
    if weight.dim() < 2:
        return way * 0
    axes = tuple(range(1, weight.dim()))
    sizes = [(part.abs() ** 2).sum(axes, keepdim=True).sqrt() for part in (weight, way)]
    return way * (sizes[0] / sizes[1].clamp(min=1e-300))


def panel_of(
    landscape: Landscape, *, levels: Sequence[float] = (), title: str = "", names: tuple[str, str] = ("v₁", "v₂")
) -> Panel:
    """Return lines of equal loss on the plane, and the weights.

    In a figure of such panels alone say ``ordered=True``, so that levels are told by shades.

    Args:
        levels: losses, positive and rising; six with evenly spaced logarithms when left out. Give them to compare.
        title: stands above.
        names: of the directions.

    Raises:
        DataError: if the loss is nowhere finite, or not positive.
    """
    logs = landscape.logarithms
    finite = logs[np.isfinite(logs)]
    if not finite.size or not all(level > 0 for level in levels):
        raise DataError("The loss is nowhere finite on this plane, or a level is not positive: there are no lines.")
    own = np.linspace(float(finite.min()), float(finite.max()), _NUM_LEVELS + 2)[1:-1]
    heights = np.log10(levels) if len(levels) else own
    lines = contour_generator(landscape.a, landscape.b, np.ma.masked_invalid(logs), line_type="Separate")
    series = [_line(cast(list[np.ndarray], lines.lines(level)), _told(10**level)) for level in heights]
    at = Series(x=(0.0,), y=(0.0,), joined=False, told=(f"the weights\nloss {landscape.loss:.3g}",), hollow=True)
    axes = [Axis(label=f"along {name}, {landscape.unit}") for name in names]
    return Panel(x=axes[0], y=axes[1], series=(*series, at), title=title)


def _told(level: float) -> str:
    value = float(f"{level:.2g}")
    return f"{value:,g}" if value < 1e6 else f"{value:g}"


def _line(pieces: Sequence[np.ndarray], label: str) -> Series:
    x, y = list[float | None](), list[float | None]()
    for piece in pieces:
        x += [*map(float, piece[:, 0]), None]
        y += [*map(float, piece[:, 1]), None]
    return Series(label=label, x=tuple(x), y=tuple(y), marked=False)


class LossLandscape(Check):
    """A picture of the training loss around the weights, on the plane of its two directions of largest curvature.

    Where training by an equation fails, Krishnapriyan et al. (arXiv:2109.01050) find this plane rugged; where it
    succeeds, one smooth valley. It is asked on request alone: it draws more than it judges.

    Statistic: the roughness of the logarithm of the loss, see `Landscape.roughness`: what share of all ups and downs
    along the lines of the picture one valley a line would not need.

    Threshold: `most_rough`, 0.1; bad news beyond twice that, between the two it is told without a verdict. Of networks
    that solve convection from its equation, one seed each: the published recipe has 0.24 at speed 30, where it fails
    (relative error 0.78), and 0.08 at speed 1 (0.001); the recipe ``pinn`` has 0 at speeds 30 (0.01) and 50 (0.003).

    What it cannot tell: what lies outside of two directions of thousands, or beyond its extent; that one valley leads
    to a small loss, or that a small loss is a small error.

    Args:
        extent: distance of weights from the middle of the picture to its sides.
        num_points: along each side; the loss is computed at all pairs.
        most_rough: threshold.
    """

    name: ClassVar[str] = "landscape"
    question: ClassVar[str] = "Is the loss one smooth valley around the weights, in the directions it curves most?"
    leaves_out_gaps: ClassVar[bool] = True
    on_request: ClassVar[bool] = True
    advice: ClassVar[str] = (
        "Make the loss easier: a curriculum from an easier problem, conditions that hold by construction, time in "
        "slabs; or steps of second order (the recipe pinn)."
    )

    num_samples: int | None = Field(8, ge=1)
    extent: float = Field(1.0, gt=0, allow_inf_nan=False)
    num_points: int = Field(31, ge=5)
    most_rough: float = Field(0.1, gt=0, lt=1)

    def ask(self, case: Case) -> Finding:
        case.samples.require_targets()
        seed = case.draw_seed()
        objective = objective_of(case.place) or RelativeL2()
        try:
            hessian = hessian_of(case.operator, case.samples, objective, seed=seed)
            found = landscape_of(hessian, extent=self.extent, num_points=self.num_points, seed=seed)
            rough, panel = found.roughness(), panel_of(found)
        except (ConfigError, DataError) as reason:
            return Finding(said="The loss of this operator cannot be drawn around its weights.", evidence=str(reason))
        good = True if rough <= self.most_rough else False if rough > _FAR * self.most_rough else None
        said = {
            True: "The loss is one smooth valley around the weights, in the two directions it curves most.",
            False: "The loss is rugged around the weights, in the two directions it curves most.",
            None: "The loss is uneven around the weights, in the two directions it curves most.",
        }[good]
        low, high = (float(end) for end in (np.nanmin(found.losses), np.nanmax(found.losses)))
        return Finding(
            said=said,
            evidence=f"{objective.name} of {plural(case.samples.num_samples, 'sample')} is {found.loss:.3g} at the "
            f"weights and {low:.3g} to {high:.3g} up to {self.extent:g} away along each of two eigenvectors of its "
            f"Hessian, with eigenvalues {found.curvatures[0]:.4g} and {found.curvatures[1]:.4g}.",
            good=good,
            statistic=rough,
            threshold=self.most_rough,
            unit="of all ups and downs are more than one valley a line needs",
            figure=Figure(
                caption=f"The loss on a plane through the weights (circle), spanned by the two eigenvectors of its "
                f"Hessian with the largest eigenvalues, each of length one: lines of equal loss, computed at "
                f"{self.num_points} × {self.num_points} points.",
                panels=(panel,),
                ordered=True,
            ),
        )
