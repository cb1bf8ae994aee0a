"""Who belongs to whom: files, groups and tables are paired by number and name, never by position alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

from scifm.data.importing import find_format, open_data
from scifm.errors import DataError, StoreError

FRAMES, NY, NX = 5, 12, 16
X, Y, T = np.arange(NX) / NX, np.arange(NY) / NY, np.arange(FRAMES) * 0.1
AXES = ("time", "y", "x")


def wave(speed: float) -> np.ndarray:
    """A wave whose first frame tells nothing of its speed and whose second one does."""
    return np.sin(2 * np.pi * (X - speed * T[:, None, None] / 10)) * np.cos(2 * np.pi * Y)[:, None]


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], speed: float | None) -> None:
    np.savez(path.with_suffix(".npz"), x=X, y=Y, t=T, **arrays, **({} if speed is None else {"speed": speed}))


def write_h5(path: Path, arrays: Mapping[str, np.ndarray], speed: float | None) -> None:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for name, values in {"x": X, "y": Y, "t": T, **arrays}.items():
            file[name] = values
        file.attrs.update({} if speed is None else {"speed": speed})


def write_nc(path: Path, arrays: Mapping[str, np.ndarray], speed: float | None) -> None:
    variables = {name: (AXES[-values.ndim :], values) for name, values in arrays.items()}
    attributes = {} if speed is None else {"speed": speed}
    made = xarray.Dataset(variables, {"x": X, "y": Y, "time": T}, attributes)
    made.to_netcdf(path.with_suffix(".nc"), engine="h5netcdf")


def write_zarr(path: Path, arrays: Mapping[str, np.ndarray], speed: float | None) -> None:
    import zarr

    group = zarr.open_group(path.with_suffix(".zarr"), mode="w")
    for name, values in {"x": X, "y": Y, "t": T, **arrays}.items():
        group.create_array(name, shape=values.shape, dtype=values.dtype)[...] = values
    group.attrs.update({} if speed is None else {"speed": speed})


Writer = Callable[[Path, Mapping[str, np.ndarray], float | None], None]
every_writer = pytest.mark.parametrize("write", [write_npz, write_h5, write_nc, write_zarr])


def speeds(store) -> dict[str, list[float]]:
    """Return the speed stored with each trajectory, after holding it against the field."""
    told = {}
    for split in store.splits:
        for row in range(store.splits[split]):
            batch = store.split(split).chosen([row]).load()
            speed = float(batch.coefficient("speed")[0])
            for name in store.signature.outputs:
                sign = -1.0 if name == "v" else 1.0
                np.testing.assert_allclose(batch.field(name)[0, 0], sign * wave(speed)[0], atol=1e-6)
                output = list(store.signature.outputs).index(name)
                np.testing.assert_allclose(batch.targets[:, 0, output], sign * wave(speed)[1:], atol=1e-5)
            told.setdefault(split, []).append(round(speed))
    return told


def all_speeds(store) -> list[float]:
    return sorted(speed for own in speeds(store).values() for speed in own)


@every_writer
def test_files_come_in_natural_order(tmp_path, write):
    for i in range(1, 13):
        write(tmp_path / f"run_{i}", {"u": wave(i)}, float(i))
    store = open_data(tmp_path)
    assert all_speeds(store) == list(range(1, 13))
    assert speeds(store)["train"] == sorted(speeds(store)["train"])  # splits keep the order of the files
    assert any("from" in told and "run_1." in told and "run_12." in told for told in store.card.known_defects)


@every_writer
def test_files_of_one_variable_each_are_paired_by_number(tmp_path, write):
    for i in range(1, 12):
        write(tmp_path / f"u_{i}", {"u": wave(i)}, float(i))
        write(tmp_path / f"v2_{i:03d}", {"v": -wave(i)}, None)
    store = open_data(tmp_path)
    assert store.signature.outputs == ("u", "v")
    assert all_speeds(store) == list(range(1, 12))
    next(tmp_path.glob("u_7.*")).rename(tmp_path / "u_13")
    with pytest.raises(DataError, match=r"(v2_007|u_13).* has no partner: files of u and of v"):
        open_data(tmp_path)


@every_writer
def test_files_of_one_variable_are_one_problem(tmp_path, write):
    write(tmp_path / "first", {"u": wave(1)}, 1.0)
    write(tmp_path / "second", {"v": -wave(1)}, None)
    assert (open_data(tmp_path).splits, open_data(tmp_path).signature.outputs) == ({"train": 1}, ("u", "v"))


@pytest.mark.parametrize("place", ["{v}_{i}.npy", "{v}/{i:03d}.npy", "run_{i}/{v}.npy", "{v}/{v}-{i}.npy"])
def test_npy_files_are_paired_wherever_their_number_stands(tmp_path, place):
    for i in range(1, 12):
        for name, values in (("u", wave(i)), ("v", -wave(i))):
            file = tmp_path / place.format(v=name, i=i)
            file.parent.mkdir(exist_ok=True)
            np.save(file, values)
    for name, values in (("t", T), ("x", X), ("y", Y), ("speed", np.arange(1.0, 12))):
        np.save(tmp_path / f"{name}.npy", values)
    store = open_data(tmp_path)
    assert store.signature.outputs == ("u", "v")
    assert all_speeds(store) == list(range(1, 12))


def test_two_files_of_one_number_cannot_be_paired(tmp_path):
    for name in ("u_1", "u_01", "v_1", "v_2"):
        np.save(tmp_path / f"{name}.npy", wave(1))
    with pytest.raises(DataError, match=r"u_0?1.npy' and .*u_0?1.npy' have the same number"):
        open_data(tmp_path)


def fill(file, number: int) -> None:
    file["u"] = wave(number)
    file.attrs["speed"] = float(number)


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("place", ["sim_{i}", "{i:04d}", "simulations/sim_{i}", "train/{i}"])
def test_groups_of_numbers_are_trajectories_and_attributes_their_coefficients(tmp_path, place, beside):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(1, 12):
            fill(file.create_group(place.format(i=i)), i)
        for name, values in (("x", X), ("y", Y), ("t", T)):
            for where in [file] if beside else [file[place.format(i=i)] for i in range(1, 12)]:
                where[name] = values
        file["table"] = np.arange(22.0).reshape(11, 2)
    if "train" in place:
        with h5py.File(tmp_path / "a.h5", "a") as file:
            del file["table"]
            file.move("train/11", "test/11")
            file.move("train/10", "test/10")
    store = open_data(tmp_path / "a.h5")
    assert store.signature.outputs == ("u",)
    assert all_speeds(store) == list(range(1, 12))
    if "train" in place:
        assert speeds(store)["test"] == [10, 11]
        return
    assert set(store.signature.coefficients) == {"table_0", "table_1", "speed"}
    batch = store.split("train").load()
    np.testing.assert_array_equal(batch.coefficient("table_0"), 2 * (batch.coefficient("speed") - 1))


def test_groups_of_numbers_keep_their_own_scales(tmp_path):
    """Those of all groups but the first were dropped, and the groups then were unlike."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(1, 5):
            group = file.create_group(f"sim_{i}")
            fill(group, i)
            for place, (name, values) in enumerate((("t", T), ("y", Y), ("x", X))):
                group[name] = values
                group[name].make_scale(name)
                group["u"].dims[place].attach_scale(group[name])
    store = open_data(tmp_path / "a.h5")
    assert (store.signature.outputs, store.card.times) == (("u",), tuple(T))
    assert all_speeds(store) == [1, 2, 3, 4]


def test_arrays_called_by_a_number_are_trajectories(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(1, 12):
            file[str(i)] = wave(i)
            file[str(i)].attrs["speed"] = float(i)
        file["x"], file["y"], file["t"] = X, Y, T
    store = open_data(tmp_path / "a.h5")
    assert store.signature.outputs == ("data",)
    assert all_speeds(store) == list(range(1, 12))


def test_groups_that_are_quantities_stay_fields(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("velocity/a", "velocity/b", "force/a", "force/b"):
            file[name] = np.stack([wave(i) for i in range(6)])
        file["x"], file["y"], file["t"] = X, Y, T
    assert open_data(tmp_path / "a.h5").signature.outputs == ("force_a", "force_b", "velocity_a", "velocity_b")


def test_a_simulation_that_is_unlike_is_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(3):
            fill(file.create_group(f"sim_{i}"), i)
        file["sim_1/p"] = wave(1)
        del file["sim_2/u"]
        file["sim_2/u"] = wave(2)[:3]
    with pytest.raises(DataError, match=r"'p' is in .*sim_1' and not in .*sim_0'|sim_2"):
        open_data(tmp_path / "a.h5")


def test_files_of_many_trajectories_take_their_numbers_and_constant_fields_along(tmp_path):
    for speed, count in ((2.0, 2), (10.0, 3)):
        u = (("sample", *AXES), np.stack([wave(speed)] * count))
        made = xarray.Dataset({"u": u, "mask": (("y", "x"), wave(speed)[0])}, {"x": X, "y": Y, "time": T})
        made.assign_attrs(speed=speed).to_netcdf(tmp_path / f"speed_{speed:.0f}.nc", engine="h5netcdf")
    store = open_data(tmp_path)
    assert set(store.signature.inputs) == {"u", "mask"}
    assert all_speeds(store) == [2, 2, 10, 10, 10]


def test_splits_of_other_points_are_refused(tmp_path):
    """The points and times of the first split were taken for those of all."""
    for split, scale in (("train", 1.0), ("valid", 1.0), ("test", 2.0)):
        for i in range(3):
            np.savez(tmp_path / f"{split}_{i}.npz", u=wave(i), x=X, y=Y, t=T * scale)
    with pytest.raises(DataError, match=r"coordinate 't' differs between .*train_0.* and .*test_0"):
        open_data(tmp_path)


def test_coordinates_alone_are_nothing(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, t=T, nu=0.1)
    with pytest.raises(StoreError, match="holds no arrays of numbers, but for coordinates"):
        find_format(tmp_path).read(tmp_path)


MANY = """
import resource, sys
from pathlib import Path
from scifm.data.formats import arrays
from scifm.data.importing import open_data
import torch, xarray, h5netcdf, scipy.io
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
for folder in sorted(Path(sys.argv[1]).iterdir()):
    print(open_data(folder).split("train").load().num_samples)
"""


def test_hundreds_of_files_need_few_open_ones(tmp_path):
    """More files than a process may open: what is read is opened, and what is not read any more is closed."""
    for kind in ("packed", "hdf5", "netcdf", "classic"):
        (tmp_path / kind).mkdir()
    for i in range(44):
        made = xarray.Dataset({"u": (("t", "x"), wave(i)[:, 0])}, {"t": T, "x": X})
        made.to_netcdf(tmp_path / f"netcdf/{i}.nc", engine="h5netcdf")
        made.to_netcdf(tmp_path / f"classic/{i}.nc", engine="scipy")
        np.savez_compressed(tmp_path / f"packed/{i}.npz", u=wave(i)[:, 0], t=T, x=X)
        with h5py.File(tmp_path / f"hdf5/{i}.h5", "w") as file:
            file["u"], file["t"], file["x"] = wave(i)[:, 0], T, X
    done = subprocess.run([sys.executable, "-c", MANY, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(36 * (FRAMES - 1))] * 4
