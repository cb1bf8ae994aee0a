"""Which axis a dimension is, by its name or by what the climate and forecast conventions say about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["axis_of_attributes", "axis_of_name"]

_NAMES = {
    "time": ("time", "times", "t"),
    "x": ("x", "lon", "longitude"),
    "y": ("y", "lat", "latitude"),
    "z": ("z", "lev", "level", "depth", "height"),
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
_EAST = {"degrees_east", "degree_east", "degrees_e", "degree_e"}
_NORTH = {"degrees_north", "degree_north", "degrees_n", "degree_n"}


def axis_of_name(name: str) -> str | None:
    """Return the axis a dimension of this name is, or None."""
    return _BY_NAME.get(name.lower())


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
