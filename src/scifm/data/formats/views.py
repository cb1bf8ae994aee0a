"""Lazy arrays seen in another shape: what a file leaves out is added, what it holds too much of is left out.

Each view takes a tuple of slices with step 1, as every lazy array does, and reads no more than was asked for.
"""

from __future__ import annotations

import numpy as np

from scifm.data.formats.contents import Index, LazyArray

__all__ = ["Clipped", "OneEntry", "Repeated", "Reversed"]


class Clipped:
    """An array of which only a range along one axis is seen.

    Args:
        array: the array.
        axis: which axis is shorter.
        start: first entry that is seen.
        length: how many are seen.
    """

    def __init__(self, array: LazyArray, axis: int, start: int, length: int) -> None:
        self.array, self.axis, self.start, self.dtype = array, axis, start, array.dtype
        self.shape = (*array.shape[:axis], length, *array.shape[axis + 1 :])

    def __getitem__(self, index: Index) -> np.ndarray:
        axis, start = self.axis, self.start
        first, stop, _ = index[axis].indices(self.shape[axis])
        return np.asarray(self.array[(*index[:axis], slice(first + start, stop + start), *index[axis + 1 :])])


class Repeated:
    """An array with a new axis along which it does not change.

    Args:
        array: the array.
        axis: place of the new axis.
        length: of the new axis.
    """

    def __init__(self, array: LazyArray, axis: int, length: int) -> None:
        self.array, self.axis, self.length, self.dtype = array, axis, length, array.dtype
        self.shape = (*array.shape[:axis], length, *array.shape[axis:])

    def __getitem__(self, index: Index) -> np.ndarray:
        axis = self.axis
        values = np.asarray(self.array[(*index[:axis], *index[axis + 1 :])])
        count = len(range(*index[axis].indices(self.length)))
        return np.broadcast_to(np.expand_dims(values, axis), (*values.shape[:axis], count, *values.shape[axis:]))


class OneEntry:
    """One entry along an axis, the axis left out.

    Args:
        array: the array.
        axis: the axis.
        place: the entry.
    """

    def __init__(self, array: LazyArray, axis: int, place: int) -> None:
        self.array, self.axis, self.place, self.dtype = array, axis, place, array.dtype
        self.shape = (*array.shape[:axis], *array.shape[axis + 1 :])

    def __getitem__(self, index: Index) -> np.ndarray:
        axis = self.axis
        entry = slice(self.place, self.place + 1)
        return np.asarray(self.array[(*index[:axis], entry, *index[axis:])]).squeeze(axis)


class Reversed:
    """An array with its axes in reverse order.

    Args:
        array: the array.
    """

    def __init__(self, array: LazyArray) -> None:
        self.array, self.dtype, self.shape = array, array.dtype, tuple(array.shape)[::-1]

    def __getitem__(self, index: Index) -> np.ndarray:
        return np.asarray(self.array[index[::-1]]).T
