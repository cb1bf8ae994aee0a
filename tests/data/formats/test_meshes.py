"""Coordinates of every grid point tell lines, extents and the order of axes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

from scifm.data.importing import open_data
from scifm.data.inspection import inspect_data
from scifm.errors import ConfigError

COUNT, FRAMES = 5, 4
T = np.arange(FRAMES) * 0.1


def fields(num_y: int, num_x: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = np.arange(num_x) * 2 / num_x, np.arange(num_y) / num_y
    c = np.arange(1, COUNT + 1)[:, None, None, None]
    return np.sin(np.pi * (x - 0.1 * c * T[:, None, None])) * np.cos(2 * np.pi * y)[:, None], x, y


def write(path: Path, **arrays: np.ndarray) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    return path


@pytest.mark.parametrize("ending", ["npz", "h5"])
@pytest.mark.parametrize("names", [("X", "Y"), ("xx", "yy"), ("grid_x", "grid_y"), ("x-coordinate", "y-coordinate")])
@pytest.mark.parametrize("indexing", ["xy", "ij"])
@pytest.mark.parametrize("num_y", [12, 16])
def test_a_mesh_tells_the_box_and_the_order_of_axes(tmp_path, ending, names, indexing, num_y):
    u, x, y = fields(num_y, 16)
    mesh = dict(zip(names, np.meshgrid(x, y, indexing=indexing), strict=True))
    stored = u if indexing == "xy" else u.swapaxes(-1, -2)
    store = open_data(write(tmp_path / f"a.{ending}", u=stored, t=T, **mesh))
    assert store.signature.outputs == ("u",)
    assert (store.grid.num_points, store.grid.extent, store.grid.periodic) == ((num_y, 16), (1.0, 2.0), (True, True))
    first = store.split("train").batch([0]).inputs[0, 0, 0]
    assert min(np.abs(first.numpy() - one[0]).max() for one in u) < 1e-6


def test_a_curved_grid_stays_and_the_field_is_drafted_first(tmp_path):
    u, x, y = fields(12, 16)
    bent_x, bent_y = np.meshgrid(x, y)
    bent_x = bent_x + 0.1 * bent_y**2
    told = inspect_data(write(tmp_path / "a.npz", u=u, t=T, X=bent_x, Y=bent_y), read=False).mapping
    assert "[fields.u]" in told


def test_dimensions_nobody_knows_are_told_by_a_mesh_or_asked_for(tmp_path):
    u, x, y = fields(12, 16)
    lon, lat = np.meshgrid(x, y)
    made = xarray.Dataset({"u": (("sample", "time", "j", "i"), u)}, {"time": T})
    made.assign(lon=(("j", "i"), lon), lat=(("j", "i"), lat)).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    assert open_data(tmp_path / "a.nc").grid.extent == (1.0, 2.0)
    made.to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    with pytest.raises(ConfigError, match=r"dimension 'j' of 'u', of length 12, .* dimension 'i' of 'u', of length 16"):
        open_data(tmp_path / "b.nc")
    mapping = inspect_data(tmp_path / "b.nc", read=False).mapping
    assert "[fields.u]" in mapping
    assert "for each axis of space" in mapping


def test_a_field_called_height_stays_a_field(tmp_path):
    u, x, y = fields(12, 16)
    height = 1 + (x > 0.5) * np.ones_like(y)[:, None]  # a dam: varies along one axis, and is no line of coordinates
    store = open_data(write(tmp_path / "a.npz", u=u, t=T, x=x, y=y, height=height))
    assert set(store.signature.inputs) == {"u", "height"}
