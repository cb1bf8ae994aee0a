"""`MappedReader`: trajectories of a foreign file, in the house's order of axes; and what is to be believed of them.

Foreign data said to be of a known system are held against its names and its equation before that is believed. What is
believed brings the system's exact scalings, so imported data are normalized as generated ones are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scifm.data.formats.axes import are_even, same_points
from scifm.data.formats.format import NUMBERS, Contents, LazyArray, read_whole, reading
from scifm.data.formats.guess import MOST_LOST, loses_in_float32, lost_in_float32
from scifm.data.formats.mapping import DataMapping, FieldMapping, TimeAxis
from scifm.data.labels import Labels
from scifm.data.missing import interpolated, require_finite
from scifm.data.split import ChosenRows, StoreSplit
from scifm.data.well import Reader
from scifm.errors import ConfigError, DataError, suggest
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.catalog import find_system
from scifm.systems.system import System

__all__ = [
    "MappedReader",
    "check_mapping",
    "doubt",
    "frame_times",
    "grid_of",
    "known_system",
    "labels_along",
    "labels_of",
    "tell_precision",
    "trajectory_count",
]

_NUM_SAMPLES = 4
_SOLVES = 0.02  # residual over forcing; a wrong sign or scale leaves 0.5 and more
_FRAMES_AT_ONCE = 16  # looked through for missing points
_MOST_COUNTED = 500_000_000  # numbers read to say how many are missing
_ROUNDING = 10  # times what rounding the solution once leaves, which grows with resolution; solvers round often


def _array(arrays: Mapping[str, LazyArray], name: str, what: str) -> LazyArray:
    if name not in arrays:
        raise ConfigError(f"{what}: {suggest(name, arrays)}")
    array = arrays[name]
    if np.dtype(array.dtype).kind not in NUMBERS:
        raise ConfigError(f"The array '{name}' is of type {array.dtype}; only arrays of real numbers can be used.")
    return array


def _lengths(array: LazyArray, entry: FieldMapping, what: str) -> dict[str, int]:
    """Return the length of each named axis."""
    shape = tuple(array.shape)
    if len(shape) != len(entry.axes):
        raise ConfigError(
            f"{what}: the array '{entry.array}' has {len(shape)} axes of lengths {shape}, and the mapping names "
            f"{len(entry.axes)}: {list(entry.axes)}. Name each axis, in array order."
        )
    for axis, length in zip(entry.axes, shape, strict=True):
        if axis == "-" and length != 1:
            raise ConfigError(
                f"{what}: an axis of '{entry.array}' called '-' has length {length}, not 1. Shape: {shape}."
            )
        if axis == "channel" and entry.channel is not None and entry.channel >= length:
            raise ConfigError(f"{what}: channel {entry.channel} of {length} in '{entry.array}'; counted from 0.")
    return {axis: length for axis, length in zip(entry.axes, shape, strict=True) if axis != "-"}


def check_mapping(contents: Contents, mapping: DataMapping) -> None:
    """Check that every array is there, that axes fit and that fields agree in their lengths; reads no field.

    Raises:
        ConfigError: one line that says what does not fit.
        DataError: if something has no length.
    """
    for part, arrays in contents.parts.items():
        seen: dict[str, tuple[int, str]] = {}
        for name, entry in mapping.fields.items():
            lengths = _lengths(_array(arrays, entry.array, f"Array of field '{name}'"), entry, f"Field '{name}'")
            for axis in ("trajectory", "time", *mapping.space):
                if axis not in lengths:
                    continue
                length, other = seen.setdefault(axis, (lengths[axis], name))
                if length != lengths[axis]:
                    raise ConfigError(
                        f"The {axis} axis of '{name}' has length {lengths[axis]}, that of '{other}' {length} (part "
                        f"'{part}'). Look whether the axes are named in array order."
                    )
                if not length:
                    raise DataError(f"The {axis} axis of '{name}' is empty (part '{part}').")
        for name in mapping.coefficients:
            _coefficient(contents, arrays, mapping, name, trajectory_count(arrays, mapping))
    frame_times(contents, mapping)
    grid_of(contents, mapping)


def trajectory_count(arrays: Mapping[str, LazyArray], mapping: DataMapping) -> int:
    """Return how many trajectories a part holds; 1 where no field has a trajectory axis."""
    for entry in mapping.fields.values():
        if "trajectory" in entry.axes:
            return int(arrays[entry.array].shape[entry.axes.index("trajectory")])
    return 1


def _coefficient(
    contents: Contents, arrays: Mapping[str, LazyArray], mapping: DataMapping, name: str, count: int
) -> np.ndarray:
    """Return all values of one coefficient, ``(count,)``."""
    entry = mapping.coefficients[name]
    if entry.array is None:
        return np.full(count, entry.value, dtype=np.float64)
    if entry.array in contents.attributes:
        return np.full(count, contents.attributes[entry.array], dtype=np.float64)
    if entry.array not in arrays:
        raise ConfigError(f"Coefficient '{name}': {suggest(entry.array, [*arrays, *contents.attributes])}")
    array = _array(arrays, entry.array, f"Coefficient '{name}'")
    if int(np.prod(array.shape, dtype=np.int64)) > 64 * max(count, 1):  # a field, not a table of numbers
        raise ConfigError(
            f"Coefficient '{name}': '{entry.array}' has shape {tuple(array.shape)}, not one number a trajectory."
        )
    values = read_whole(array)
    if entry.channel is not None:
        if values.ndim != 2 or entry.channel >= values.shape[1]:
            raise ConfigError(
                f"Coefficient '{name}': no column {entry.channel} in '{entry.array}' of shape {values.shape}."
            )
        values = values[:, entry.channel]
    if values.size == 1:
        return np.full(count, values.item(), dtype=np.float64)
    if values.size != count:
        raise ConfigError(
            f"Coefficient '{name}': '{entry.array}' has shape {tuple(array.shape)} and there are {count} trajectories. "
            "Give one number a trajectory, one for all, or the column of a table with channel."
        )
    return values.ravel()


def frame_times(contents: Contents, mapping: DataMapping) -> tuple[float, ...] | None:
    """Return the physical times of the frames that are kept; None for steady problems.

    Raises:
        ConfigError: if the array of times does not fit, or fewer than two frames would be kept.
        DataError: if times do not increase.
    """
    if mapping.time is None:
        return None
    state = next(entry for entry in mapping.fields.values() if entry.role == "state")
    num_frames = int(contents.arrays[state.array].shape[state.axes.index("time")])
    if isinstance(mapping.time, TimeAxis):
        times = mapping.time.start + mapping.time.interval * np.arange(num_frames)
    else:
        array = _array(contents.arrays, mapping.time, "Array of times")
        if array.shape[-1:] != (num_frames,) and array.shape[-1:] != (num_frames + 1,):
            raise ConfigError(
                f"The times '{mapping.time}' have shape {tuple(array.shape)} and there are {num_frames} frames."
            )
        values = read_whole(array)
        values = values.reshape(-1, values.shape[-1])
        if not all(same_points(values[0], own, np.dtype(array.dtype)) for own in values):
            since = values - values[:, :1]
            if all(same_points(since[0], own, np.dtype(array.dtype)) for own in since):
                raise DataError(
                    f"The times '{mapping.time}' differ between trajectories in where they begin, not in their "
                    "intervals: give them since the first frame, or time = { start = 0.0, interval = … } in a map."
                )
            raise DataError(f"The times '{mapping.time}' differ between trajectories; resample them to common ones.")
        times = values[0, :num_frames]  # some writers store the end of the last interval too
    chosen = times[:: mapping.every]
    if len(chosen) < 2:
        raise ConfigError(f"At least 2 frames are needed; {num_frames} are there and every {mapping.every}. is kept.")
    if not (np.isfinite(chosen).all() and (np.diff(chosen) > 0).all()):
        raise DataError(
            f"The times of the frames must be finite and increase; the first are {chosen[:5].tolist()}. Mend them (in "
            "float32 times far from their date are one), or give time = { start = 0.0, interval = … } in a map."
        )
    return tuple(float(t) for t in chosen)


def units_of(contents: Contents, mapping: DataMapping) -> dict[str, str]:
    """Return the units that the file tells, by name of a field or a coefficient, of an axis of space, and of ``time``.

    That of an axis is left out where the map gives it another length than the points have.
    """
    arrays = {name: entry.array for name, entry in mapping.fields.items()}
    arrays |= {name: entry.array or "" for name, entry in mapping.coefficients.items()}
    arrays |= {"time": mapping.time} if isinstance(mapping.time, str) else {}
    for axis in mapping.space:
        name = contents.coordinates.get(axis, "")
        if name in contents.units:
            points = read_whole(contents.arrays[name])
            span, spacings = abs(float(points[-1] - points[0])), max(len(points) - 1, 1)
            lengths = span, span * (spacings + 1) / spacings  # between walls, and of a periodic axis
            if any(math.isclose(mapping.extent[axis], length, rel_tol=1e-3) for length in lengths):
                arrays[axis] = name
    return {name: contents.units[array] for name, array in arrays.items() if array in contents.units}


def labels_of(contents: Contents, mapping: DataMapping) -> Labels | None:
    """Return what the file says in words of what a mapping takes, and where its axes begin; None: nothing."""
    arrays = {name: entry.array for name, entry in mapping.fields.items()}
    arrays |= {name: entry.array for name, entry in mapping.coefficients.items() if entry.array is not None}
    arrays |= {"time": mapping.time} if isinstance(mapping.time, str) else {}
    labels = labels_along(contents, mapping.space, arrays)
    used = {*arrays.values(), *contents.coordinates.values()}
    labels = labels.model_copy(update={"left_out": tuple(name for name in contents.arrays if name not in used)})
    return labels if labels != Labels() else None


def labels_along(contents: Contents, space: Sequence[str], arrays: Mapping[str, str]) -> Labels:
    """Return what a file says of its axes, and of arrays by the names they shall have, ``time`` among them."""
    along = {axis: contents.coordinates[axis] for axis in space if axis in contents.coordinates}
    named = {"": "", **arrays}  # the file itself has no name
    texts = {name: dict(contents.texts[array]) for name, array in named.items() if array in contents.texts}
    lines, time = {}, arrays.get("time", "")
    for axis, array in along.items():
        if array in contents.arrays and are_even(points := read_whole(contents.arrays[array])):
            lines[axis] = float(points[0]), float(points[-1] - points[0]) / (len(points) - 1)
            unit = {"units": contents.units[array]} if array in contents.units else {}
            if told := {**contents.texts.get(array, {}), **unit}:
                texts[axis] = told
    called = {axis: array for axis, array in along.items() if axis in lines}
    called |= {"time": time}
    plain = {axis: name for axis, name in called.items() if name.isidentifier() and name not in (axis, *arrays)}
    return Labels(texts=texts, called=plain, lines=lines, dates=contents.dates.get(time))


def grid_of(contents: Contents, mapping: DataMapping) -> Grid:
    """Return the grid of the fields.

    Raises:
        SignatureError: if an axis is too short or an extent is not positive.
    """
    if not mapping.space:
        return Grid.place()
    entry = next(iter(mapping.fields.values()))
    lengths = _lengths(contents.arrays[entry.array], entry, "Fields")
    points = tuple(lengths[axis] - (axis in mapping.repeated_end) for axis in mapping.space)
    extent = tuple(float(mapping.extent[axis]) for axis in mapping.space)
    return Grid(points, extent, [mapping.boundary[axis] for axis in mapping.space])


class MappedReader(Reader):
    """Trajectories of one part of a foreign file; axes in the house's order, nothing kept in memory.

    Args:
        contents: the open file.
        part: which of its parts.
        mapping: what is what; see `check_mapping`.
    """

    def __init__(self, contents: Contents, part: str, mapping: DataMapping) -> None:
        self.contents, self.mapping = contents, mapping
        self.arrays = contents.parts[part]
        self.place = contents.path if len(contents.parts) == 1 else Path(contents.path, part)
        self._count = trajectory_count(self.arrays, mapping)
        self._coefficients = {
            name: _coefficient(contents, self.arrays, mapping, name, self._count) for name in mapping.coefficients
        }

    @property
    def num_trajectories(self) -> int:
        return self._count

    def read(self, name: str, rows: slice, frames: slice | None) -> np.ndarray:
        fixed = self._coefficients.get(name)
        values = fixed[rows] if fixed is not None else self._block(self.mapping.fields[name], rows, frames)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and that is refused
            values = values.astype(self.mapping.dtype, copy=False)
        place, first = f"'{self.place}'", None if frames is None else frames.start
        if fixed is not None:
            require_finite(values, name, place, range(rows.start, rows.stop), first)
            return values
        rule = self.mapping.gap_rule(name)
        gaps = bool(np.isnan(values).any())
        if gaps and rule.rule == "fill":
            values = self._filled(values, name, rows)
        remedy = self._remedy(name) if gaps and rule.rule in ("refuse", "exclude") else ""
        masked = rule.rule == "mask"
        require_finite(values, name, place, range(rows.start, rows.stop), first, gaps=masked, remedy=remedy)
        return values

    def _filled(self, values: np.ndarray, name: str, rows: slice) -> np.ndarray:
        fill = self.mapping.gap_rule(name).fill
        if fill != "interpolate":
            return np.where(np.isnan(values), values.dtype.type(fill), values)
        try:
            return interpolated(values, [self.mapping.boundary[axis] == "periodic" for axis in self.mapping.space])
        except DataError as error:
            raise DataError(
                f"'{name}' in trajectories {rows.start} to {rows.stop - 1} of '{self.place}': {error}. Say gaps = "
                '"mask", gaps = "exclude" or gaps = { fill = 0.0 } in the map.'
            ) from error

    def _remedy(self, name: str) -> str:
        """Return how many numbers of a field are missing, and what can be done."""
        entry, rows = self.mapping.fields[name], range(self._count)
        count = size = 0
        for row in rows:
            for block in self._blocks(name, row):
                count, size = count + int(np.isnan(block).sum()), size + block.size
                if size > _MOST_COUNTED:
                    break
        read = f"{size:,} numbers" if size <= _MOST_COUNTED else f"the first {size:,} numbers"
        return (
            f"Of {read} of the array '{entry.array}' {count:,} are missing: NaN, or what the file masks, declares to "
            'be none or never wrote. Say in the map, or by --set, what becomes of them: gaps = "mask" leaves those '
            'points out of every loss, score and statistic, gaps = "exclude" leaves out the trajectories that have '
            'some, gaps = { fill = 0.0 } or { fill = "interpolate" } fills them.'
        )

    def _blocks(self, name: str, row: int) -> Iterator[np.ndarray]:
        """Yield what the file holds of a field in one trajectory, few frames at a time; NaN where it holds nothing."""
        entry, where = self.mapping.fields[name], slice(row, row + 1)
        if "time" not in entry.axes:
            yield self._block(entry, where, None)
            return
        length = self.arrays[entry.array].shape[entry.axes.index("time")]
        count = -(-length // self.mapping.every)
        for first in range(0, count, _FRAMES_AT_ONCE):
            yield self._block(entry, where, slice(first, min(first + _FRAMES_AT_ONCE, count)))

    def is_whole(self, row: int) -> bool:
        """Return whether a trajectory has no missing point in the fields that exclude those that have some."""
        names = [name for name in self.mapping.fields if self.mapping.gap_rule(name).rule == "exclude"]
        return not any(np.isnan(block).any() for name in names for block in self._blocks(name, row))

    def _block(self, entry: FieldMapping, rows: slice, frames: slice | None) -> np.ndarray:
        array = self.arrays[entry.array]
        every = self.mapping.every
        index: list[slice] = []
        for axis, length in zip(entry.axes, array.shape, strict=True):
            if axis == "trajectory":
                index.append(rows)
            elif axis == "time" and frames is not None:
                index.append(slice(frames.start * every, (frames.stop - 1) * every + 1))
            elif axis == "channel":
                assert entry.channel is not None
                index.append(slice(entry.channel, entry.channel + 1))
            else:
                index.append(slice(0, length - (axis in self.mapping.repeated_end)))
        with reading(self.place, entry.array):
            values = np.asarray(array[tuple(index)])
        return self._ordered(values, entry, rows, frames)

    def _ordered(self, values: np.ndarray, entry: FieldMapping, rows: slice, frames: slice | None) -> np.ndarray:
        """Bring axes into the order trajectory, time, z, y, x; every kept frame is taken here."""
        wanted: list[Any] = ["trajectory", *(["time"] if frames is not None else []), *entry.space]
        names = list(entry.axes)
        for axis in [place for place, name in enumerate(names) if name not in wanted][::-1]:
            values = values.squeeze(axis)
            del names[axis]
        if "trajectory" not in names:
            names.insert(0, "trajectory")
            values = np.broadcast_to(values, (rows.stop - rows.start, *values.shape))
        values = values.transpose([names.index(name) for name in wanted])
        values = values if entry.space else values[..., None]  # one place
        return values[:, :: self.mapping.every] if frames is not None else values

    def close(self) -> None:
        self.contents.close()


# --- what is believed -------------------------------------------------------------------------------------------------


def tell_precision(contents: Contents, mapping: DataMapping) -> list[str]:
    """Return a sentence for each field or coefficient that is far from zero for how little it varies.

    Raises:
        StoreError: if the samples looked at cannot be read.
        DataError: if a coefficient is no finite number.
    """
    exact = mapping.model_copy(update={"dtype": "float64"})
    reader = MappedReader(contents, next(iter(contents.parts)), exact)
    lost = {name: loses_in_float32(contents, own.array, own.axes) for name, own in mapping.fields.items()}
    for name in mapping.coefficients:
        share = lost_in_float32(reader.read(name, slice(0, reader.num_trajectories), None)[None])
        lost[name] = share if share > MOST_LOST else 0.0
    remedy = "float64 keeps it here" if mapping.dtype == "float64" else 'dtype = "float64" would keep it in the store'
    return [
        f"'{name}' lies far from zero for how little it varies: rounding to float32, in which networks compute, is "
        f"{share:.2g} of its standard deviation; {remedy}. Subtract a constant from it, or train with "
        'training.precision = "64-true".'
        for name, share in lost.items()
        if share
    ]


def known_system(contents: Contents, mapping: DataMapping) -> System | None:
    """Return the system that a mapping names, with its default options, or None where it names none.

    Raises:
        ConfigError: if there is no such system, or its names are not those of the mapping.
        DataError: if the first samples do not solve its equation; says by how much.
    """
    if mapping.system is None:
        return None
    system = find_system(mapping.system)()
    if mapping.signature != system.signature:
        raise ConfigError(
            f"The mapping says system = '{system.name}', which has {_names(system.signature)}; the mapping has "
            f"{_names(mapping.signature)}. Use these names in this order, or leave out system."
        )
    reason = doubt(contents, mapping, system)
    if reason is not None:
        raise DataError(
            f"'{contents.path}' is said to be of system '{system.name}', but {reason}. Look at signs, units, the "
            "extent and the order of axes, or leave out system."
        )
    return system


def doubt(contents: Contents, mapping: DataMapping, system: System) -> str | None:
    """Return by how much the first samples miss the equation of a system, or None where they solve it.

    The mapping has the names of the system.

    Raises:
        SignatureError: if the system is not defined on such a grid.
        StoreError: if the samples cannot be read.
        DataError: if they hold something else than finite numbers.
    """
    part = next(iter(contents.parts))
    mapped = MappedReader(contents, part, mapping)
    rows = list(islice(filter(mapped.is_whole, range(mapped.num_trajectories)), _NUM_SAMPLES))
    if not rows:
        return "every trajectory has missing points"
    reader = ChosenRows(mapped, np.array(rows))
    dtype: torch.dtype = getattr(torch, mapping.dtype)
    split = StoreSplit(reader, mapping.signature, grid_of(contents, mapping), "", dtype, frame_times(contents, mapping))
    batch = split.some(_NUM_SAMPLES).to(dtype=torch.float64)
    solution = batch.require_targets()
    residual = system.residual(batch)
    forcing = _sizes(system.residual(batch.with_targets(torch.zeros_like(solution))))
    noise = 2 * torch.rand(solution.shape, generator=generator_for(0, "rounding"), dtype=torch.float64) - 1
    rounded = batch.with_targets(solution * (1 + _half_step(contents, mapping) * noise))
    rounding = _sizes(system.residual(rounded) - residual)
    missed = _sizes(residual)
    wrong = ~(missed <= _SOLVES * forcing + _ROUNDING * rounding)
    if not wrong.any():
        return None
    first = int(wrong.nonzero()[0])
    share = (missed[first] / forcing[first]).item()
    return f"its sample {first} does not solve {system.equation} (residual {share:.2g} of the forcing)"


def _half_step(contents: Contents, mapping: DataMapping) -> float:
    """Return by how much, of itself, a number of the solution may be off from rounding."""
    types = [np.dtype(contents.arrays[entry.array].dtype) for entry in mapping.fields.values() if entry.role != "input"]
    coarsest = min([np.dtype(mapping.dtype), *(own for own in types if own.kind == "f")], key=lambda own: own.itemsize)
    return float(np.finfo(coarsest).eps) / 2


def _sizes(values: torch.Tensor) -> torch.Tensor:
    return values.flatten(1).norm(dim=1)


def _names(signature: Signature) -> str:
    roles = ("inputs", "coefficients", "outputs")
    named = ", ".join(f"{role} {', '.join(getattr(signature, role)) or 'none'}" for role in roles)
    return f"{named} ({'evolving' if signature.evolves else 'steady'}, {signature.num_spatial_dims}D)"
