"""`Node`: one array or group as it stands in a file, of whatever kind; and what all nodes of a file tell together.

Which axis is what, names of dimensions say, else labels and scales, else what the climate and forecast conventions say
about a coordinate. Points along an axis are a dimension's own array, a scale, or, where nothing names dimensions, a
line that is called like an axis. Times are told in seconds where the file tells their unit.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scifm.data.formats.axes import (
    CIRCLE,
    Times,
    are_even,
    axis_of_attributes,
    is_closed,
    is_on_globe,
)
from scifm.data.formats.coding import text_of
from scifm.data.formats.format import MOST_NUMBERS, NUMBERS, LazyArray, read_whole, single_numbers
from scifm.data.formats.mapping import SPACE
from scifm.data.formats.pieces import Piece, lines_of_meshes
from scifm.fields.axis_names import axis_of_name

__all__ = ["Dimension", "Node", "no_numbers", "piece_of", "texts_of"]

_ABOUT_AXES = ("ancillary_variables", "axis", "bounds", "calendar", "coordinates", "grid_mapping", "units")
_KEPT = (  # of arrays, and of the file: what a reader of the numbers may want to know
    *("long_name", "standard_name", "cell_methods", "comment", "positive"),
    *("title", "institution", "source", "history", "references", "license", "Conventions"),
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DATES = ("m", "M")  # kinds of NumPy's types
_DATES_IN = {
    "Y": "years",
    "M": "months",
    "W": "weeks",
    "D": "days",
    "h": "hours",
    "m": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}
_LINED = (*SPACE, "time")  # axes whose points matter


class Dimension(NamedTuple):
    """What an axis of an array is called, the surest word first, and names of the arrays that are points along it."""

    words: tuple[str, ...]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Node:
    """One array, or a group of them.

    Args:
        name: with the groups it lies in, ``group/u``; empty for the file itself.
        array: its numbers; None of a group, and of what cannot be used.
        numbers: single numbers that its attributes tell.
        texts: what its attributes say in words, see `texts_of`.
        dimensions: of its axes, in array order; None where nothing tells them.
        remarks: what a user should know of it.
    """

    name: str
    array: LazyArray | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    dimensions: tuple[Dimension, ...] | None = None
    remarks: tuple[str, ...] = ()

    @classmethod
    def of_attributes(cls, name: str, attributes: Mapping[str, Any]) -> Node:
        """Return what the attributes of a file or a group say; a number written as a text is told, not taken."""
        where = f" of '{name}'" if name else ""
        remarks = tuple(
            f"'{key}'{where} is the text '{text}', no number; it is left out. Write it as a number to have it as a "
            "coefficient."
            for key, text in _numbers_in_words(attributes).items()
        )
        return cls(name, numbers=single_numbers(attributes), texts=texts_of(attributes), remarks=remarks)


def _numbers_in_words(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes that are texts of one finite number, such as ``"0.01"``."""
    words = {str(key): np.asarray(value) for key, value in attributes.items() if key not in (*_ABOUT_AXES, *_KEPT)}
    texts = {key: text_of(value).strip() for key, value in words.items() if value.dtype.kind in "OSU"}
    return {key: text for key, text in texts.items() if words[key].size == 1 and _NUMBER.fullmatch(text)}


def texts_of(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return what attributes say in words, about axes and about what the numbers are."""
    return {key: text_of(attributes[key]) for key in (*_ABOUT_AXES, *_KEPT) if key in attributes}


def piece_of(path: Path, nodes: Iterable[Node]) -> Piece:
    """Return what a file holds; nothing is read of its arrays but coordinates.

    Raises:
        StoreError: if these cannot be read.
    """
    piece, by_name = Piece(path), {node.name: node for node in nodes}
    by_name |= {name: _in_numbers(node) for name, node in by_name.items() if _kind(node) in _DATES}
    corners = {node.texts["bounds"] for node in by_name.values() if "bounds" in node.texts}
    projections = {word for node in by_name.values() for word in node.texts.get("grid_mapping", "").split()}
    aside = {word for node in by_name.values() for word in node.texts.get("ancillary_variables", "").split()}
    for name, node in by_name.items():
        piece.numbers.update({f"{name}/{key}".lstrip("/"): value for key, value in node.numbers.items()})
        piece.remarks.extend(node.remarks)
        if kept := {key: node.texts[key] for key in _KEPT if node.texts.get(key)}:
            piece.texts[name] = kept
        if node.array is None:
            continue
        if (why := _aside(_base(name), corners, projections)) is not None:
            piece.remarks.append(f"'{name}' {why}; it is left out.")
            continue
        if _base(name) in aside:
            piece.remarks.append(f"'{name}' of '{path.name}' says how good other variables are; it is left out.")
            continue
        if node.array.dtype.kind not in NUMBERS:
            piece.remarks.append(f"'{name}' of '{path.name}' {no_numbers(node.array.dtype)}")
        elif 0 in node.array.shape and node.dimensions is None:
            piece.remarks.append(f"'{name}' of '{path.name}' is empty, of shape {node.array.shape}; it is left out.")
        elif node.array.shape == ():
            number = node.array[()]
            piece.numbers.update(single_numbers({name: number}))
            if name not in piece.numbers:
                piece.remarks.append(f"'{name}' of '{path.name}' is {number}, no finite number; it is left out.")
        else:
            piece.arrays[name] = node.array
        if node.texts.get("units"):
            piece.units[name] = node.texts["units"]
    for name, axis in _find_axes(piece, by_name).items():
        _read_line(piece, by_name[name], axis)
    _drop_curves(piece, by_name)
    return piece


def no_numbers(dtype: np.dtype) -> str:
    """Return what is said of an array that holds no real numbers."""
    remedy = " Save its real and its imaginary part as two arrays." if dtype.kind == "c" else ""
    return f"holds {dtype}, not real numbers; it is left out.{remedy}"


def _kind(node: Node) -> str:
    return "" if node.array is None else node.array.dtype.kind


@dataclass(frozen=True)
class _Moments:
    """NumPy's dates or lengths of time, as whole numbers of their unit; NaN where one is none."""

    array: LazyArray
    dtype = np.dtype(np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        moments = np.asarray(self.array[index])
        _, count = np.datetime_data(moments.dtype)
        whole = moments.astype(moments.dtype.newbyteorder("=")).view(np.int64) * count
        return np.where(np.isnat(moments), np.nan, whole) if np.isnat(moments).any() else whole


def _in_numbers(node: Node) -> Node:
    """Return a node of NumPy's dates, or lengths of time, as one of numbers with a unit."""
    assert node.array is not None
    unit, _ = np.datetime_data(node.array.dtype)
    since = " since 1970-01-01" if node.array.dtype.kind == "M" else ""
    told = {"units": _DATES_IN[unit] + since} if unit in _DATES_IN else {}
    return replace(node, array=_Moments(node.array), texts={**node.texts, **told})


def _aside(name: str, corners: Collection[str], projections: Collection[str]) -> str | None:
    """Return what an array says about the grid that points do not, or None."""
    if name in corners:
        return "tells the ends of intervals"
    return "tells how the grid lies on the globe" if name in projections else None


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _find_axes(piece: Piece, nodes: Mapping[str, Node]) -> dict[str, str]:
    """Fill in axes and coordinates; return the axis of each array that is a line of points."""
    along: dict[str, str] = {}  # as dimensions say
    called: dict[str, str] = {}  # by name alone
    unknown = []  # a dimension's own array, and nobody knows what axis that is
    for name, array in piece.arrays.items():
        axes, dimensions = [], nodes[name].dimensions
        for dimension, length in zip(dimensions or (), array.shape, strict=dimensions is not None):
            lines = [line for line in dimension.lines if line in piece.arrays]
            axis = next(filter(None, map(axis_of_name, dimension.words)), None)
            axis = axis or next(filter(None, (axis_of_attributes(nodes[line].texts) for line in lines)), None)
            axes.append(axis or ("-" if length == 1 else next(iter(dimension.words), "")))
            if axis in _LINED:
                along |= {line: axis for line in lines if piece.arrays[line].shape == (length,)}
            elif name in lines:
                unknown.append(name)
        if all(axes) and any(dimension.words for dimension in dimensions or ()):
            piece.axes[name] = tuple(axes)
        elif dimensions is None and len(array.shape) == 1 and (axis := axis_of_name(name)) in _LINED:
            called[name] = axis
    piece.coordinates.update({axis: name for name, axis in called.items()})
    piece.coordinates.update({axis: name for name, axis in reversed(along.items())})  # the first is the surest
    lost = [name for name, axis in along.items() if _base(name) != _base(piece.coordinates[axis])]
    for name in (*unknown, *lost):
        del piece.arrays[name]
    for name in (*unknown, *along):
        piece.axes.pop(name, None)
    return {name: axis for name, axis in (called | along).items() if name in piece.arrays}


def _read_line(piece: Piece, node: Node, axis: str) -> None:
    """Tell times in seconds, and what else the points along an axis say."""
    name, array, units = node.name, piece.arrays[node.name], node.texts.get("units", "")
    if (node.dimensions is None and not units) or not 0 < array.shape[0] <= MOST_NUMBERS:
        return
    if axis == "time":
        if units:
            times = Times.of(read_whole(array, exact=True), units, node.texts.get("calendar", ""), array.dtype)
            piece.arrays[name], piece.origins[name], piece.units[name] = times.values, times.origin, times.unit
            piece.dates.update({name: times.dates} if times.dates is not None else {})
            piece.remarks.extend(times.remarks)
        return
    points, turns = read_whole(array), axis == "x" and units.lower().startswith("degree")
    if turns and not are_even(points, array.dtype) and are_even(whole := np.unwrap(points, period=CIRCLE), array.dtype):
        piece.remarks.append(f"{name} passes the end of the circle: it is told on, from {whole[0]:g} to {whole[-1]:g}.")
        piece.arrays[name] = points = whole
    step = (points[-1] - points[0]) / max(len(points) - 1, 1)
    if step < 0:
        piece.remarks.append(f"{name} runs downward, from {points[0]:g} to {points[-1]:g}; the order is kept.")
    if turns and (np.isclose(abs(step) * len(points), CIRCLE) or is_closed(points, units)):
        piece.boundary["x"] = "periodic"
    elif is_on_globe(units):  # a part of a circle wraps no more than a meridian does
        piece.boundary[axis] = "bounded"


def _drop_curves(piece: Piece, nodes: Mapping[str, Node]) -> None:
    """Drop what is said to be a coordinate, varies along several axes and is no line of a rectangular grid."""
    named = {
        f"{name.rpartition('/')[0] if node.array is not None else name}/{word}".lstrip("/")
        for name, node in nodes.items()
        for word in node.texts.get("coordinates", "").split()
    }
    candidates = [name for name in piece.arrays if name in named and len(piece.arrays[name].shape) > 1]
    lines = lines_of_meshes(piece) if candidates else {}
    for name in candidates:
        if name not in lines:
            remark = f"The coordinate '{name}' varies along several axes; the grid is taken as rectangular."
            piece.remarks.append(remark)
            del piece.arrays[name]
            piece.axes.pop(name, None)
