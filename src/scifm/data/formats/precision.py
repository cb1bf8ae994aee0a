"""Whether float32 holds what varies in an array: 101325.00 ± 0.02 has seven numbers left in it."""

from __future__ import annotations

import numpy as np

from scifm.data.formats.contents import Contents, LazyArray
from scifm.data.formats.format import reading
from scifm.data.formats.mapping import SPACE, DataMapping
from scifm.data.formats.reader import MappedReader

__all__ = ["loses_in_float32", "lost_in_float32", "sample_lines", "tell_precision"]

_SPREAD_SAMPLES = 3  # places looked at along trajectories and along time
_LINES = 64  # looked at in each of these
_MOST_LOST = 1e-3  # of the standard deviation


def sample_lines(array: LazyArray, axes: tuple[str, ...], axis: str) -> np.ndarray:
    """Return some lines along an axis, the axis last, from trajectories and frames far apart."""
    places: list[list[slice]] = []
    width = round(_LINES ** (1 / max(1, len(set(axes) & set(SPACE)) - 1)))  # of the block of lines, in its middle
    for name, length in zip(axes, array.shape, strict=True):
        if name == axis:
            places.append([slice(0, length)])
        elif name in SPACE:
            first = max(0, (length - width) // 2)
            places.append([slice(first, min(length, first + width))])
        else:
            chosen = sorted({round(i) for i in np.linspace(0, length - 1, _SPREAD_SAMPLES)})
            places.append([slice(i, i + 1) for i in chosen])
    blocks = []
    for number in range(int(np.prod([len(options) for options in places]))):
        index = []
        for options in places:
            number, place = divmod(number, len(options))
            index.append(options[place])
        block = np.moveaxis(np.asarray(array[tuple(index)], dtype=np.float64), axes.index(axis), -1)
        blocks.append(block.reshape(-1, block.shape[-1]))
    return np.concatenate(blocks)


def lost_in_float32(lines: np.ndarray) -> float:
    """Return how far float32 rounds numbers, as a part of how much they vary along a line; 0 where nothing varies.

    Args:
        lines: ``(lines, points)``; the one in the middle counts, by its standard deviation.
    """
    lines = np.asarray(lines, dtype=np.float64)
    lines = lines[np.isfinite(lines).all(axis=-1)]
    spread = lines.std(axis=-1)
    varying = spread > np.finfo(np.float64).eps * np.abs(lines).max(axis=-1, initial=0.0)
    if not varying.any():
        return 0.0
    rounding = float(np.finfo(np.float32).eps) / 2 * np.abs(lines).max(axis=-1)
    return float(np.median(rounding[varying] / spread[varying]))


def loses_in_float32(contents: Contents, name: str, axes: tuple[str, ...]) -> float:
    """Return the part that `lost_in_float32` tells of an array, along the axis where it varies most; 0 if it is small.

    Args:
        contents: the open file.
        name: of the array.
        axes: what each of its axes is.

    Raises:
        StoreError: if it cannot be read.
    """
    array = contents.arrays[name]
    if np.can_cast(array.dtype, np.float32) or 0 in array.shape:
        return 0.0
    with reading(contents.path, name):
        lost = [lost_in_float32(sample_lines(array, axes, axis)) for axis in axes if axis in SPACE]
    least = min((share for share in lost if share), default=0.0)
    return least if least > _MOST_LOST else 0.0


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
        lost[name] = share if share > _MOST_LOST else 0.0
    kept = "float64 keeps it here" if mapping.dtype == "float64" else 'dtype = "float64" would keep it in the store'
    return [
        f"'{name}' lies far from zero for how little it varies: rounding to float32, in which networks compute, is "
        f"{share:.2g} of its standard deviation; {kept}. Subtract a constant from it, or train with "
        'training.precision = "64-true".'
        for name, share in lost.items()
        if share
    ]
