"""Files that follow each other in time are one trajectory; those that do not are refused or are trajectories."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

from scifm.data.importing import open_data
from scifm.errors import DataError

NY, NX = 8, 16
X, Y = np.arange(NX) / NX, np.arange(NY) / NY
DAY = 86400.0


def wave(times) -> np.ndarray:
    t = np.asarray(times, dtype=np.float64)[:, None, None]
    return np.sin(2 * np.pi * (X - 0.013 * t)) * np.cos(2 * np.pi * Y)[:, None] + 0.01 * t


def write_year(folder: Path, year: int, start: int, *, calendar: str = "standard", name: str = "u") -> int:
    """Write the days of a year, counted from its first day; return how many there are."""
    days = 366 if year % 4 == 0 and calendar == "standard" else 365
    units = {"units": f"days since {year}-01-01", "calendar": calendar}
    u = (("time", "y", "x"), wave(np.arange(start, start + days)))
    made = xarray.Dataset({name: u}, {"time": ("time", np.arange(days), units), "x": X, "y": Y})
    made.to_netcdf(folder / f"{name}_{year}.nc", engine="h5netcdf")
    return days


def frames(store) -> np.ndarray:
    """Return all frames of the only trajectory."""
    batch = store.split("train").load()
    return np.concatenate([batch.inputs[:, 0, 0], batch.targets[-1:, 0, 0]])


@pytest.mark.parametrize("calendar", ["standard", "noleap"])
def test_years_of_unequal_length_are_one_record(tmp_path, calendar):
    days = 0
    for year in (2003, 2004, 2005):
        days += write_year(tmp_path, year, days, calendar=calendar)
    store = open_data(tmp_path)
    assert days == (1096 if calendar == "standard" else 1095)
    assert store.splits == {"train": 1}
    np.testing.assert_allclose(store.card.times, DAY * np.arange(days))
    np.testing.assert_allclose(frames(store), wave(np.arange(days)), atol=1e-5)
    assert any("3 pieces that follow each other in time" in told for told in store.card.known_defects)


def test_one_variable_a_file_and_year(tmp_path):
    for name in ("t2m", "u10"):
        days = write_year(tmp_path, 2003, 0, name=name)
        days += write_year(tmp_path, 2004, days, name=name)
    store = open_data(tmp_path)
    assert (store.signature.outputs, len(store.card.times)) == (("t2m", "u10"), days)


def test_a_year_that_is_missing_is_told(tmp_path):
    for year in (2003, 2004, 2006):
        write_year(tmp_path, year, 0)
    with pytest.raises(DataError, match=r"365 frames that begins with .*u_2006.*731 that begins with .*u_2003"):
        open_data(tmp_path)


def write_npz(path: Path, times, **others) -> None:
    path.parent.mkdir(exist_ok=True)
    np.savez(path, u=wave(times), t=np.asarray(times), x=X, y=Y, **others)


def test_months_called_by_name_follow_their_times(tmp_path):
    for name, first, last in (("jan", 0, 31), ("feb", 31, 59), ("mar", 59, 90)):
        write_npz(tmp_path / f"{name}.npz", np.arange(first, last) * 1.0)
    store = open_data(tmp_path)
    np.testing.assert_array_equal(store.card.times, np.arange(90.0))
    np.testing.assert_allclose(frames(store), wave(np.arange(90)), atol=1e-5)


def test_a_frame_that_is_told_twice_is_read_once(tmp_path):
    for i in range(12):
        write_npz(tmp_path / f"part{i}.npz", np.arange(10 * i, 10 * i + 11) * 0.1, step=float(i))
    store = open_data(tmp_path)
    np.testing.assert_allclose(store.card.times, np.arange(121) * 0.1)
    np.testing.assert_allclose(frames(store), wave(np.arange(121) * 0.1), atol=1e-5)
    assert any("read once" in told for told in store.card.known_defects)
    assert any("Left out" in told and "step" in told for told in store.card.known_defects)


def test_many_trajectories_in_pieces(tmp_path):
    for run in (1, 2, 10):
        write_npz(tmp_path / f"run{run}/a.npz", np.arange(5) * 0.1, nu=run * 1.0)
        write_npz(tmp_path / f"run{run}/b.npz", np.arange(5, 12) * 0.1, nu=run * 1.0)
    store = open_data(tmp_path)
    assert store.splits == {"train": 1, "valid": 1, "test": 1}
    assert {float(store.split(s).batch([0]).coefficient("nu")[0]) for s in store.splits} == {1.0, 2.0, 10.0}
    np.testing.assert_allclose(store.card.times, np.arange(12) * 0.1)


@pytest.mark.parametrize("told_as", ["attribute", "number", "array"])
def test_snapshots_are_frames(tmp_path, told_as):
    for i in range(12):
        with h5py.File(tmp_path / f"out_{i}.h5", "w") as file:
            file["u"], file["x"], file["y"] = wave([0.5 * i])[0], X, Y
            if told_as == "attribute":
                file.attrs["time"] = 0.5 * i
            else:
                file["t"] = 0.5 * i if told_as == "number" else np.array([0.5 * i])
    store = open_data(tmp_path)
    np.testing.assert_allclose(store.card.times, 0.5 * np.arange(12))
    np.testing.assert_allclose(frames(store), wave(0.5 * np.arange(12)), atol=1e-5)


def test_runs_of_the_same_times_are_trajectories_and_of_unequal_length_are_refused(tmp_path):
    for i in range(3):
        write_npz(tmp_path / f"run{i}.npz", np.arange(5) * 0.1)
    assert open_data(tmp_path).splits == {"train": 1, "valid": 1, "test": 1}
    write_npz(tmp_path / "run1.npz", np.arange(7) * 0.1)
    with pytest.raises(DataError, match=r"'t' differs between .*run0\S+ \(5 points\) .*run1\S+ \(7\).*cut or resample"):
        open_data(tmp_path)


def test_pieces_of_other_grids_are_refused(tmp_path):
    write_npz(tmp_path / "a.npz", np.arange(5) * 0.1)
    np.savez(tmp_path / "b.npz", u=wave(np.arange(4))[..., :-1], t=0.5 + np.arange(4) * 0.1, x=X, y=Y)
    with pytest.raises(DataError, match=r"differ in the number of frames only"):
        open_data(tmp_path)


def test_where_time_cannot_be_told_it_is_said(tmp_path):
    for i in range(2):
        np.savez(tmp_path / f"{i}.npz", u=np.ones((8, 8, 8)), t=np.arange(8) + 8.0 * i)
    with pytest.raises(DataError, match=r"which axis of 'u'.* is time cannot be told"):
        open_data(tmp_path)
