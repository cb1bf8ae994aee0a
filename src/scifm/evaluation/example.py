"""One forecast to look at: the frames of a typical trajectory, truth and prediction, small enough for a page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scifm.data.labels import Labels
from scifm.evaluation.forecast import Forecast
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.findings.frames import ForecastFrames
from scifm.models.operator import Operator
from scifm.models.rollout import BOUND, rollout

__all__ = ["forecast_example", "typical_sample"]

_MOST_FRAMES = {1: 240, 2: 24}  # on a line they make a map over space and time, on a plane they are looked at singly
_FEWEST_FRAMES = 6
_MOST_POINTS = {1: 256, 2: 96}  # a side of what is kept; finer fields are averaged over blocks
_MOST_CHANNELS = 3
_MOST_NUMBERS = 1_000_000  # of truth, prediction and error together: what a page can carry


def typical_sample(found: Forecast) -> int:
    """Return the trajectory whose error, mean over times and channels, is the median; lost ones count as the worst."""
    errors = found.sample_errors()
    order = torch.where(errors.isnan(), torch.inf, errors).argsort(stable=True)
    return int(order[(len(order) - 1) // 2])


def forecast_example(
    operator: Operator, found: Forecast, samples: Batch, *, bound: float = BOUND, labels: Labels | None = None
) -> ForecastFrames:
    """Return frames of the typical trajectory of a forecast, marched once more.

    Args:
        operator, samples, bound: those that were judged.
        found: what was found.
        labels: what the file they came from says of its axes. Of a plane, one whose points run downward
            is turned, so that north is up.

    Raises:
        SignatureError: if the samples do not fit the operator.
    """
    place, signature = typical_sample(found), operator.signature.common(samples.signature)
    start = operator.align(samples.select(slice(place, place + 1))).without_absent(signature)
    names, grid = signature.outputs, start.grid
    channels = range(min(len(names), _MOST_CHANNELS))
    cut: tuple[int, ...] = ()
    plane = ""
    if grid.num_spatial_dims == 3:
        middle = grid.num_points[0] // 2
        cut, plane = (middle,), f"z = {float(grid.coordinates()[0][middle]):.3g}"
    axes = range(len(cut), grid.num_spatial_dims)

    def kept(frame: Tensor, valid: Tensor | None) -> NDArray[np.float32]:
        """Return ``(channel, *space)`` of ``(1, 1, channel, *space)``, NaN where points are missing."""
        field = (frame if valid is None else torch.where(valid, frame, torch.nan))[0, 0, list(channels)].double()
        return _averaged(field[:, cut[0]] if cut else field, _MOST_POINTS[len(axes)])

    truth, known = start.require_targets(), start.valid_targets
    each = math.prod(kept(truth[:, :1], None).shape)
    most = min(_MOST_FRAMES[len(axes)], max(_FEWEST_FRAMES, _MOST_NUMBERS // (3 * each)))
    steps = sorted({int(step) for step in np.linspace(1, found.num_steps, min(most, found.num_steps)).round()})
    made = {
        step: kept(truth[:, step - 1 : step], None if known is None else known[:, step - 1 : step]) for step in steps
    }
    answers = {step: np.full_like(own, np.nan) for step, own in made.items()}
    for step, frame in enumerate(rollout(operator, start, found.num_steps, bound=bound), start=1):
        if step in answers:
            own = frame.without_absent(signature)
            answers[step] = kept(own.require_targets(), own.valid_targets)
    called, ends = _own_axes(labels, grid, axes)
    truths, predictions = (np.stack([kind[step] for step in steps]) for kind in (made, answers))
    turned = tuple(2 + side for side, (first, last) in enumerate(ends) if first > last)
    truths, predictions = (np.flip(fields, turned) for fields in (truths, predictions))
    return ForecastFrames(
        truth=truths,
        prediction=predictions,
        steps=tuple(steps),
        times=tuple(found.times[step - 1] for step in steps),
        errors=tuple(found.frame_errors()[place][[step - 1 for step in steps]].tolist()),
        channels=tuple(names[i] for i in channels),
        extent=tuple(grid.extent[axis] for axis in axes),
        x=tuple(_averaged(grid.coordinates()[-1][None], _MOST_POINTS[len(axes)])[0].tolist()),
        num_points=grid.num_points,
        sample=place,
        num_steps=found.num_steps,
        plane=plane,
        left_out=names[len(channels) :],
        axes=called,
        ends=tuple((min(own), max(own)) for own in ends),
    )


def _own_axes(
    labels: Labels | None, grid: Grid, axes: Sequence[int]
) -> tuple[tuple[str, ...], tuple[tuple[float, float], ...]]:
    """Return what a file calls the axes of a plane, and its first and last point along each; none if it says less."""
    if labels is None or len(axes) != 2:
        return (), ()
    names = [grid.axis_names[axis] for axis in axes]
    lines = [labels.points(name, grid.num_points[axis]) for name, axis in zip(names, axes, strict=True)]
    if any(line is None for line in lines):
        return (), ()
    ends = tuple((float(line[0]), float(line[-1])) for line in lines if line is not None)
    return tuple(map(labels.name, names)), ends


def _averaged(field: Tensor, most: int) -> NDArray[np.float32]:
    """Return fields ``(channel, *space)`` averaged over blocks until no side has more than `most` points.

    Of a block with missing points, NaN, the others count; it is missing where all are.
    """
    known = (~field.isnan()).to(field.dtype)
    whole = bool(known.all())
    field = field if whole else torch.where(known > 0, field, 0.0)
    for axis in range(1, field.dim()):
        field, known = (_over_blocks(part, axis, most) for part in (field, known))
    kept: NDArray[np.float32] = (field if whole else field / known).float().cpu().numpy()  # 0 / 0 is NaN
    return kept


def _over_blocks(field: Tensor, axis: int, most: int) -> Tensor:
    block = math.ceil(field.shape[axis] / most)
    count = field.shape[axis] // block
    return field.narrow(axis, 0, count * block).unflatten(axis, (count, block)).mean(axis + 1)
