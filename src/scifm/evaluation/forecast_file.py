"""A forecast as a file for others: NetCDF 4, a variable a state, named axes, times; written as the operator marches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from scifm.data.labels import Labels
from scifm.data.new_file import written
from scifm.errors import ConfigError, RunError
from scifm.fields.samples import Samples
from scifm.models.operator import Operator
from scifm.models.rollout import BOUND, rollout
from scifm.runs import require_space

__all__ = ["decimal", "require_netcdf", "write_forecast"]


def require_netcdf() -> Any:
    """Return the package that writes NetCDF.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        import h5netcdf
    except ImportError as error:
        raise ConfigError("Writing NetCDF needs the package h5netcdf: pip install 'scifm[formats]'.") from error
    return h5netcdf


def write_forecast(
    path: str | Path,
    operator: Operator,
    starts: Samples,
    num_steps: int,
    *,
    bound: float = BOUND,
    batch_size: int = 64,
    attributes: dict[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    labels: Labels | None = None,
    start: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Let an operator march from each sample and write every frame as it comes: in the memory of one batch.

    Axes are trajectory, time and those of space; ``time`` counts from the last input frame. Frames of a forecast that
    left every bound are NaN, ``lost_at`` says from which step on, 0 for none; and so is, in every frame, what was
    missing in training, see `scifm.fields.gaps`. Coefficients stand beside the fields.

    Args:
        path: the new file; one that is there is replaced once the new one is whole.
        operator, num_steps, bound: see `scifm.models.rollout.rollout`.
        starts: where it starts; equal steps in all samples.
        batch_size: samples marched at a time.
        attributes: texts for the file.
        units: of a field, a coefficient, an axis, or ``time``, by name, where they are known.
        labels: what files say in words of the same, where their axes begin and when their first frame is.
        start: time of the last input frame, in seconds since that one; counts where `labels` have dates.
        progress: called with (frames done, frames in all).

    Returns:
        ``lost_at``, ``(sample,)``.

    Raises:
        ConfigError: if h5netcdf is not installed.
        RunError: if the file cannot be written, or the disk has no room for it.
        SignatureError: if the samples do not fit the operator.
    """
    import torch

    h5netcdf, path, labels = require_netcdf(), Path(path), labels or Labels()
    grid, names = starts.grid, operator.signature.common(starts.signature)
    count, lost = starts.num_samples, []
    require_space(path.parent, 4 * count * num_steps * len(names.outputs) * math.prod(grid.num_points))
    try:
        with written(path) as half, h5netcdf.File(half, "w") as file:
            file.attrs.update(labels.attributes("") | (attributes or {}))
            called = {axis: labels.name(axis) for axis in (*grid.axis_names, "time")}
            sizes = {called[axis]: own for axis, own in zip(grid.axis_names, grid.num_points, strict=True)}
            file.dimensions = {"trajectory": count, called["time"]: num_steps, **sizes}
            for axis, points in zip(grid.axis_names, grid.coordinates(), strict=True):
                told = labels.points(axis, len(points))
                line = file.create_variable(called[axis], (called[axis],), float)
                line[:] = points.numpy() if told is None else told
            time = file.create_variable(called["time"], (called["time"],), float)
            if labels.dates is None:
                time.attrs["long_name"] = "time since the last input frame"
            fields = {
                name: file.create_variable(
                    name, ("trajectory", called["time"], *sizes), np.float32, fillvalue=np.float32("nan")
                )
                for name in names.outputs
            }
            numbers = {name: file.create_variable(name, ("trajectory",), float) for name in names.coefficients}
            at = file.create_variable("lost_at", ("trajectory",), np.int64)
            at.attrs["long_name"] = "step at which the forecast left every bound; 0: it did not"
            for variable in fields.values():
                variable.attrs["ancillary_variables"] = "lost_at"  # no coefficient, to who reads it as data
            _say(file, units or {}, labels, called)
            for first in range(0, count, batch_size):
                batch = operator.align(starts.batch(slice(first, min(first + batch_size, count))))
                rows = slice(first, first + batch.num_samples)
                for name, variable in numbers.items():
                    variable[rows] = batch.coefficient(name).cpu().numpy()
                march = rollout(operator, batch, num_steps, bound=bound)
                for step, frame in enumerate(march):
                    for name, variable in fields.items():
                        values, valid = frame.target(name)[:, 0], frame.valid_target(name)
                        values = values if valid is None else torch.where(valid[:, 0], values, torch.nan)
                        variable[rows, step] = values.float().cpu().numpy()
                    ahead = step + 1.0 if frame.lead_time is None else decimal(float(frame.lead_time[0, 0]))
                    time[step] = ahead if labels.dates is None else labels.dates.of(np.array(start + ahead)).item()
                    half.check()
                    if progress is not None:
                        progress(first * num_steps + (step + 1) * batch.num_samples, count * num_steps)
                at[rows] = march.lost_at.numpy()
                lost.append(march.lost_at)
    except OSError as error:
        raise RunError(
            f"Cannot write the forecast '{path}': {error.strerror or error}. Free some space, or choose another place "
            "with --out; what was there before is untouched."
        ) from error
    return torch.cat(lost)


def _say(file: Any, units: Mapping[str, str], labels: Labels, called: Mapping[str, str]) -> None:
    """Write units, and what else is said, to the variables that are there."""
    for name in {**units, **labels.texts}:
        if (own := called.get(name, name)) in file.variables:
            said = ({"units": units[name]} if name in units else {}) | labels.attributes(name)
            file.variables[own].attrs.update(said)
    if labels.dates is not None:
        file.variables[called["time"]].attrs.update(labels.dates.attributes)


def decimal(time: float) -> float:
    """Return the number that single precision means: 0.1, not 0.10000000149; one it holds no better stays as it is."""
    short = float(f"{time:.7g}")
    return short if abs(short - time) <= np.finfo(np.float32).eps * abs(time) else time
