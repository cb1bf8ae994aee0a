"""What a file is: its bytes decide, its name only where they say nothing."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray

from scifm.data.formats.kinds import data_sets_under, kind_of, natural
from scifm.data.importing import find_format, open_data
from scifm.data.inspection import inspect_data
from scifm.errors import StoreError


def waves() -> xarray.Dataset:
    x, t = np.arange(16) / 16, np.arange(4.0)
    u = np.stack([np.sin(2 * np.pi * (x - 0.1 * c * t[:, None])) for c in range(1, 6)])
    return xarray.Dataset({"u": (("sample", "t", "x"), u)}, {"t": t, "x": x})


def write(kind: str, path: Path) -> None:
    made = waves()
    if kind == "hdf5":
        with h5py.File(path, "w", userblock_size=1024) as file:
            for name in ("u", "t", "x"):
                file[name] = made[name].values
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, **{name: made[name].values for name in ("u", "t", "x")})
    else:
        made.to_netcdf(path, engine=kind)


@pytest.mark.parametrize("kind", ["hdf5", "npz", "h5netcdf", "scipy"])
@pytest.mark.parametrize("name", ["DATA.H5", "DATA.NPZ", "DATA.NC", "data.netcdf", "output", "output.dat", "a.npy"])
def test_a_name_does_not_matter(tmp_path, kind, name):
    write(kind, tmp_path / name)
    for place in (tmp_path / name, tmp_path):
        assert find_format(place).name == ("xarray" if kind in ("h5netcdf", "scipy") else "arrays")
        store = open_data(place)
        assert store.splits == {"train": 3, "valid": 1, "test": 1}
        assert (store.grid.num_points, store.card.times) == ((16,), (0.0, 1.0, 2.0, 3.0))


@pytest.mark.parametrize(("name", "kind"), [("a.NPY", "npy"), ("a.Nc", "netcdf"), ("a.h5", "hdf5"), ("a.txt", None)])
def test_a_file_whose_bytes_say_nothing_is_what_it_is_called(tmp_path, name, kind):
    (tmp_path / name).write_bytes(b"time,value\n" * 100)
    assert kind_of(tmp_path / name) == kind
    assert (tmp_path / name in data_sets_under(tmp_path, ("npy", "netcdf", "hdf5"))) is (kind is not None)


def test_files_come_as_they_are_numbered_and_what_is_hidden_or_linked_is_passed_over(tmp_path):
    names = ["b/1.npy", "u_1.npy", "u_2.npy", "u_010.npy", "u_11.npy"]
    for name in [*names[::-1], ".hidden.npy", ".git/u_3.npy"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, np.ones(3))
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert [str(file.relative_to(tmp_path)) for file in data_sets_under(tmp_path, ("npy",))] == names
    assert sorted(["10", "9", "a", "1.5", "x10", "x9"], key=natural) == ["1.5", "9", "10", "a", "x9", "x10"]


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("words.txt", "words")


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(200)), "-v7.3"),
        (lambda path: path.write_bytes(b"GRIB" + bytes(100)), "cdo"),
        (lambda path: path.write_bytes(pickle.dumps({"u": [1.0]})), "never loaded"),
        (lambda path: torch.save({"u": torch.ones(3)}, path), r"torch\.save, which is never loaded"),
        (archive, "no format"),
    ],
    ids=["matlab", "grib", "pickle", "torch", "zip"],
)
@pytest.mark.parametrize("name", ["data.mat", "data.h5", "data"])
def test_a_known_kind_that_is_not_read_comes_with_its_remedy(tmp_path, write, told, name):
    if name != "data" and told == "no format":
        pytest.skip("then it is read as what it is called")
    write(tmp_path / name)
    for place in (tmp_path / name, tmp_path):
        with pytest.raises(StoreError, match=told):
            find_format(place)


def test_a_device_is_told_to_be_none_of_them():
    for look in (open_data, inspect_data):
        with pytest.raises(StoreError, match="'/dev/null' is neither a file nor a folder"):
            look("/dev/null")


def test_a_named_pipe_is_nothing(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.h5")
    assert kind_of(tmp_path / "a.h5") is None
    shutil.rmtree(tmp_path)
    assert data_sets_under(tmp_path, ("hdf5",)) == ()


def test_a_link_to_nothing_is_no_trajectory_less(tmp_path):
    for number in (1, 2):
        waves().to_netcdf(tmp_path / f"u_{number}.nc", engine="h5netcdf")
    (tmp_path / "notes.txt").symlink_to("gone.txt")
    assert len(data_sets_under(tmp_path, ("hdf5", "netcdf"))) == 2
    (tmp_path / "u_3.nc").symlink_to("archive/u_3.nc")
    with pytest.raises(StoreError, match=r"u_3\.nc' is a link to 'archive/u_3\.nc', where nothing is"):
        open_data(tmp_path)


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    waves().to_netcdf(folder / "plain.nc", engine="h5netcdf")
    (folder / "plain.nc").rename(os.fsdecode(os.fsencode(folder) + b"/w\xe4rme.nc"))
    with pytest.raises(StoreError, match=r"w\\xe4rme\.nc' is not UTF-8.*rename it"):
        open_data(folder)
