"""Which axis a dimension is, by its name or by what the climate and forecast conventions say about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["axis_of_attributes", "axis_of_name"]

_NAMES = {
    "time": ("time", "times", "t", "sim_time"),
    "x": ("x", "xx", "xs", "lon", "longitude"),
    "y": ("y", "yy", "ys", "lat", "latitude"),
    "z": ("z", "zz", "zs", "lev", "level", "depth", "height"),
    "trajectory": (
        *("trajectory", "trajectories", "sample", "samples", "ensemble", "member", "realization", "realisation"),
        *("run", "sim", "simulation", "batch", "n"),
    ),
    "channel": ("channel", "channels", "component", "components"),
}
_BY_NAME = {name: axis for axis, names in _NAMES.items() for name in names}
_STANDARD = {
    "longitude": "x",
    "grid_longitude": "x",
    "projection_x_coordinate": "x",
    "latitude": "y",
    "grid_latitude": "y",
    "projection_y_coordinate": "y",
    "altitude": "z",
    "height": "z",
    "depth": "z",
    "air_pressure": "z",
    "time": "time",
    "realization": "trajectory",
}
_FILLING = {"coordinate", "coordinates", "coord", "coords", "grid", "mesh", "axis", "points"}
_EAST = {"degrees_east", "degree_east", "degrees_e", "degree_e"}
_NORTH = {"degrees_north", "degree_north", "degrees_n", "degree_n"}


def axis_of_name(name: str) -> str | None:
    """Return the axis a dimension of this name is, or None; ``x-coordinate`` and ``grid_x`` are x."""
    name = name.lower()
    if name in _BY_NAME:
        return _BY_NAME[name]
    words = [word for word in re.split(r"[^a-z0-9]+", name) if word and word not in _FILLING]
    return _BY_NAME.get(words[0]) if len(words) == 1 and words[0] != name else None


def axis_of_attributes(attributes: Mapping[str, Any]) -> str | None:
    """Return the axis that the attributes of a coordinate tell (``axis``, ``standard_name``, ``units``), or None."""
    letter = str(attributes.get("axis", "")).lower()
    if letter in ("x", "y", "z", "t"):
        return "time" if letter == "t" else letter
    units = str(attributes.get("units", "")).lower()
    if units in _EAST | _NORTH:
        return "x" if units in _EAST else "y"
    if " since " in units:
        return "time"
    return _STANDARD.get(str(attributes.get("standard_name", "")).lower())
