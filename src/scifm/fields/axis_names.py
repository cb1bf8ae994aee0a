"""Which axis a name is: as people write them, in files and as dimensions of arrays that have names."""

from __future__ import annotations

import re

__all__ = ["axis_of_name"]

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
_FILLING = {"coordinate", "coordinates", "coord", "coords", "grid", "mesh", "axis", "points"}


def axis_of_name(name: str) -> str | None:
    """Return the axis of a name, whatever groups it lies in, or None; ``x-coordinate`` and ``grid_x`` are x."""
    name = name.rpartition("/")[2].lower()
    if name in _BY_NAME:
        return _BY_NAME[name]
    words = [word for word in re.split(r"[^a-z0-9]+", name) if word and word not in _FILLING]
    return _BY_NAME.get(words[0]) if len(words) == 1 and words[0] != name else None
