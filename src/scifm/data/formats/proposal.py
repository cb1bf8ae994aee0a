"""The mapping that arrays, their axes and their coordinates suggest, and what has to be told to complete it.

Roles follow from axes where something evolves: what has a time axis is a state, what has none is given. In a steady
problem nothing says what is given and what is asked for, so that has to be told.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

import numpy as np

from scifm.config import build_config
from scifm.data.formats.axes import are_even, axis_length
from scifm.data.formats.format import Contents, read_whole, reading
from scifm.data.formats.guess import Guess, loses_in_float32, periodicity
from scifm.data.formats.mapping import AXES, SPACE, DataMapping
from scifm.errors import ConfigError

__all__ = ["Proposal", "guess_axes", "mapping_toml"]

_MAX_CHANNELS = 32
_MAX_STEADY_AXES = 3  # more axes than that are guessed to be trajectories in time
_MIN_TO_PART = 3  # trajectories: one for each split
_LONG = 100  # letters of a list, above which it is broken into lines
_TRAILING = 60  # letters of a remark that stands behind its key, not above it


def mapping_toml(entries: Mapping[str, Any], notes: Mapping[str, str], missing: Sequence[str] = ()) -> str:
    """Return a mapping as TOML, with each remark beside its key, and what is missing on top."""

    def line(key: str, value: Any, place: str) -> str:
        remarks, text = notes.get(place, "").splitlines(), f"{_key(key)} = {_value(value)}"
        if isinstance(value, list | tuple) and len(_value(value)) > _LONG:
            text = f"{_key(key)} = [\n" + "".join(f"    {_value(entry)},\n" for entry in value) + "]"
        if len(remarks) == 1 and len(remarks[0]) < _TRAILING:
            return f"{text}  # {remarks[0]}"
        return "\n".join([*(f"# {remark}" for remark in remarks), text])

    lines = [f"# TO DO: {text}" for text in missing]
    lines += [line(key, value, key) for key, value in entries.items() if key not in ("fields", "coefficients")]
    for name, entry in entries["fields"].items():
        lines += ["", f"[fields.{_key(name)}]"]
        lines += [line(key, value, f"fields.{name}.{key}") for key, value in entry.items()]
    if entries.get("coefficients"):
        lines += ["", "[coefficients]"]
        lines += [line(name, value, f"coefficients.{name}") for name, value in entries["coefficients"].items()]
    return "\n".join(lines) + "\n"


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else json.dumps(text, ensure_ascii=False)


def _value(value: Any) -> str:
    """Return a value as TOML writes it, which but for tables and infinity is as JSON does."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    return repr(float(value)) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def guess_axes(shape: tuple[int, ...], lengths: Mapping[str, int]) -> tuple[tuple[str, ...], bool]:
    """Return the axes of an array nothing is said about, and whether they follow from the lengths of coordinates.

    They follow if every axis has the length of exactly one coordinate, but for at most one, which is the trajectories.
    """
    fitting = [[axis for axis, length in lengths.items() if length == n] for n in shape]
    names = [own[0] if len(own) == 1 else None for own in fitting]
    if None in names and "trajectory" not in names and names.count(None) == 1 and not fitting[names.index(None)]:
        names[names.index(None)] = "trajectory"
    known = {*SPACE, *(() if set(lengths) & set(SPACE) else ("time",))}  # where there is no space there are series
    if None not in names and len(set(names)) == len(names) and set(names) & known:
        return tuple(name for name in names if name is not None), True
    in_time = "time" in lengths or len(shape) > _MAX_STEADY_AXES
    leading: tuple[str, ...] = ("trajectory", "time") if in_time else ("trajectory",)
    num_space = min(max(len(shape) - len(leading), 1), len(SPACE))
    axes = (*leading, *SPACE[-num_space:])
    return ("-",) * (len(shape) - len(axes)) + axes[max(0, len(axes) - len(shape)) :], False


class Proposal:
    """A mapping that may still lack something.

    Args:
        contents: the open file.
        form: key of its format in ``FORMATS``.

    Attributes:
        entries: what `DataMapping` is built from.
        axes: of each array that is no line of coordinates.
        missing: what has to be told by a user, a sentence each; empty where the mapping is complete.
        notes: a remark by dotted key, for the TOML text.

    Raises:
        StoreError: if samples, looked at to see which axes wrap around, cannot be read.
    """

    def __init__(self, contents: Contents, form: str) -> None:
        self.contents, self.arrays = contents, contents.arrays
        self.missing: list[str] = []
        self.notes: dict[str, str] = {}
        self._defects: list[str] = []
        self._odd_axes: dict[str, str] = {}  # by array, what a user should do about its axes
        self.axes = self._named_axes()
        fields = self._fields()
        self.entries: dict[str, Any] = {"format": form}
        if not fields:
            self.missing.append(f"No array has an axis of space; there are {', '.join(self.arrays) or 'none at all'}.")
        space = fields[next(iter(fields))]["axes"] if fields else ()
        self.entries |= self._time(fields) | self._box(fields, [axis for axis in SPACE if axis in space])
        self.entries |= self._precision(fields)
        if self._defects:
            self.entries["known_defects"] = self._defects
        coefficients = self._coefficients()
        if "train" not in contents.parts:
            self.entries["splits"] = self._shares(fields)
        self.entries |= {"fields": fields} | ({"coefficients": coefficients} if coefficients else {})

    def complete(self) -> DataMapping:
        """Return the mapping.

        Raises:
            ConfigError: if something is missing; says what, and how to tell it.
        """
        path = self.contents.path
        if self.missing:
            raise ConfigError(
                f"'{path}' does not say enough: {' '.join(self.missing)} Let 'scifm inspect {quote(str(path))} "
                "--write-map map.toml' write what is known, complete it, and give it with --map map.toml."
            )
        return build_config(DataMapping, self.entries, source=f"the mapping of '{path}'")

    @property
    def toml(self) -> str:
        """The mapping as TOML, with remarks."""
        return mapping_toml(self.entries, self.notes, self.missing)

    def _named_axes(self) -> dict[str, tuple[str, ...]]:
        """Return the axes of the arrays that are no coordinates, as the file tells them or as guessed from lengths."""
        lines = self.contents.coordinates
        axes: dict[str, tuple[str, ...]] = {}
        lengths = {axis: int(self.arrays[name].shape[0]) for axis, name in lines.items() if name in self.arrays}
        others = {name: tuple(array.shape) for name, array in self.arrays.items() if name not in lines.values()}
        for name, shape in others.items():
            if name in self.contents.axes:
                named = zip(self.contents.axes[name], shape, strict=True)
                axes[name] = tuple("-" if (axis, n) == ("time", 1) else axis for axis, n in named)
            elif len(shape) > 1:
                axes[name], follows = guess_axes(shape, lengths)
                if not follows:
                    self.missing.append(f"Nothing says which axis of '{name}', of shape {shape}, is what.")
                    self._odd_axes[name] = f"guessed, in the order of the shape {shape}; check"
        counts = [others[name][own.index("trajectory")] for name, own in axes.items() if "trajectory" in own]
        for name, shape in others.items():  # one number a trajectory
            if name not in axes and shape == ((counts or [0])[0],):
                axes[name] = ("trajectory",)
        return axes

    def _length(self, name: str, axis: str) -> int:
        return int(self.arrays[name].shape[self.axes[name].index(axis)])

    def _fields(self) -> dict[str, dict[str, Any]]:
        """Return entries of the arrays with axes of space, else of series; ask for roles where nothing evolves."""
        wanted: tuple[str, ...] = SPACE
        if not any(set(axes) & set(SPACE) for axes in self.axes.values()):  # then what nobody knows may be space
            wanted = tuple(dict.fromkeys(axis for axes in self.axes.values() for axis in axes if axis not in AXES))
        spaces = {n: tuple(a for a in wanted if a in axes) for n, axes in self.axes.items() if set(axes) & set(wanted)}
        spaces = spaces or {name: () for name, axes in self.axes.items() if "time" in axes}  # series
        if not spaces:
            return {}
        evolving = [name for name in spaces if "time" in self.axes[name]]
        common = Counter(spaces[name] for name in evolving or spaces).most_common(1)[0][0]
        left_out = [name for name, space in spaces.items() if space != common]
        if left_out:
            self._defects.append(f"Left out, because their axes of space are others: {', '.join(left_out)}.")
        chosen = [name for name in spaces if name not in left_out]
        fields: dict[str, dict[str, Any]] = {}
        for array in chosen:
            self._refuse_unknown(array)
            role = ("state" if array in evolving else "input") if evolving else "output"
            entry = {"array": array, "axes": list(self.axes[array]), "role": role}
            for name, channel in self._names(array):
                fields[name] = entry | channel
                if array in self._odd_axes:
                    self.notes[f"fields.{name}.axes"] = self._odd_axes[array]
        if not evolving:
            self._ask_roles(fields)
        return fields

    def _refuse_unknown(self, array: str) -> None:
        axes = self.axes[array]
        for axis, length in zip(axes, self.arrays[array].shape, strict=True):
            if axis not in AXES or (axis != "-" and axes.count(axis) > 1):
                self.missing.append(
                    f"The dimension '{axis}' of '{array}', of length {length}, is none that is known by its name: say "
                    f"which of {', '.join(AXES[:-1])} it is."
                )
                self._odd_axes[array] = f"write an axis instead of '{axis}'"

    def short(self, array: str) -> str:
        """Return the name without groups, or, where another array is called so too, with them."""
        short = array.rpartition("/")[2]
        is_unique = [other.rpartition("/")[2] for other in self.axes].count(short) <= 1
        return short if is_unique else array.replace("/", "_").strip("_")

    def _names(self, array: str) -> list[tuple[str, dict[str, int]]]:
        """Return the name or, along a channel axis, the names of the fields in an array."""
        short = self.short(array)
        if "channel" not in self.axes[array]:
            return [(short, {})]
        count = self._length(array, "channel")
        if count > _MAX_CHANNELS:
            self.missing.append(f"'{array}' has {count} channels; name the ones that are wanted.")
        return [(f"{short}_{i}", {"channel": i}) for i in range(min(count, _MAX_CHANNELS))]

    def _ask_roles(self, fields: dict[str, dict[str, Any]]) -> None:
        self.missing.append(
            f"Nothing evolves, so which of {', '.join(fields)} are given and which are asked for? Write role = "
            '"input" or role = "output" for each.'
        )
        for name in fields:
            self.notes[f"fields.{name}.role"] = '"input" if it is given, "output" if it is asked for'

    def _time(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        if all(entry["role"] != "state" for entry in fields.values()):
            return {}
        if "time" in self.contents.coordinates:
            return {"time": self.contents.coordinates["time"]}
        self.notes["time"] = "not told by the file"
        self._defects.append("The times of the frames are not known; an interval of 1 was assumed.")
        return {"time": {"start": 0.0, "interval": 1.0}}

    def _box(self, fields: Mapping[str, Any], space: list[str]) -> dict[str, Any]:
        extent, boundary, repeated, reasons = {}, {}, [], []
        for axis in space[::-1]:
            arrays = [e["array"] for e in fields.values() if set(e["axes"]) <= set(AXES)]
            arrays = [array for array in dict.fromkeys(arrays) if self.axes[array].count(axis) == 1]
            guess = Guess("bounded", "unsure: the axes are not known yet", sure=False)
            for array in arrays:  # the first that tells
                guess = periodicity(self.contents, array, self.axes[array], axis)
                if guess.sure:
                    break
            boundary[axis] = guess.boundary
            if guess.repeated_end:
                repeated.append(axis)
            if not guess.sure:
                self._defects.append(f"Whether {axis} wraps around is not known; it counts as bounded.")
            reasons.append(f"{axis} {guess.reason}")
            extent[axis] = self._extent(axis, guess)
        if reasons:
            self.notes["boundary"] = "\n".join(reasons)
        if not space and any("time" not in e["axes"] or not set(e["axes"]) <= set(AXES) for e in fields.values()):
            self.notes["extent"] = "for each axis of space, such as x = 1.0, y = 1.0"
            self.notes["boundary"] = 'for each axis of space, such as x = "periodic", y = "wall"'
        entries: dict[str, Any] = {"extent": extent, "boundary": boundary}
        return entries | ({"repeated_end": repeated} if repeated else {})

    def _precision(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return float64 where float32 would lose what varies."""
        axes = {entry["array"]: self.axes[entry["array"]] for entry in fields.values()}
        known = {name: own for name, own in axes.items() if set(own) <= set(AXES)}
        lost = [name for name, own in known.items() if loses_in_float32(self.contents, name, own)]
        if lost:
            self.notes["dtype"] = f"{', '.join(lost)}: far from zero, with little that varies"
        return {"dtype": "float64"} if lost else {}

    def _extent(self, axis: str, guess: Guess) -> float:
        name = self.contents.coordinates.get(axis)
        if name is None:
            self.notes["extent"] = "not told by the file for all axes; 1 assumed"
            self._defects.append(f"The length of {axis} is not known; 1 was assumed.")
            return 1.0
        with reading(self.contents.path, name):
            points = read_whole(self.arrays[name])
        steps = np.diff(points)
        if not len(steps) or not np.isfinite(points).all() or points[-1] == points[0]:
            self.missing.append(f"The coordinate '{name}' does not tell the length of {axis}: write it under extent.")
            return 1.0
        if not are_even(points, self.arrays[name].dtype):
            self.missing.append(
                f"The points of '{name}' are not equally spaced ({steps.min():g} to {steps.max():g}), and grids here "
                "are: resample the data, or give a map to have the points taken as equally spaced."
            )
        wraps = guess.periodic and not guess.repeated_end
        return axis_length(points, len(points), self.arrays[name].dtype, wraps=wraps)

    def _coefficients(self) -> dict[str, Any]:
        coefficients: dict[str, Any] = {}
        for name, axes in self.axes.items():
            short = self.short(name)
            if axes == ("trajectory",):
                coefficients[short] = name
            elif axes == ("trajectory", "channel") and (count := self._length(name, "channel")) <= _MAX_CHANNELS:
                coefficients |= {f"{short}_{i}": {"array": name, "channel": i} for i in range(count)}
        return coefficients

    def _shares(self, fields: Mapping[str, Any]) -> dict[str, float]:
        """Return the usual shares, or all for training where there are too few trajectories to part."""
        counts = [self._length(e["array"], "trajectory") for e in fields.values() if "trajectory" in e["axes"]]
        if (counts or [1])[0] >= _MIN_TO_PART:
            return {"train": 0.8, "valid": 0.1, "test": 0.1}
        self.notes["splits"] = "too few trajectories for more"
        return {"train": 1.0}
