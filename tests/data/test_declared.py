from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from scifm.data.declared import check_hdf5, open_checked, require_held, size_of, walk_hdf5
from scifm.data.importing import open_data
from scifm.errors import StoreError


def test_an_array_may_be_larger_than_its_file_by_what_compression_saves(tmp_path):
    require_held(tmp_path, "u", (1000, 1000), 4, 100_000)
    require_held(tmp_path, "u", (1024, 1024, 4), 4, 0)
    with pytest.raises(StoreError, match=r"'u' of .* declares the shape \(1099511627776, 8\), .* only 5 are stored"):
        require_held(tmp_path, "u", (2**40, 8), 8, 5)
    with h5py.File(tmp_path / "zeros.h5", "w") as file:
        file.create_dataset("u", data=np.zeros((64, 1024, 1024), "f4"), compression="gzip", chunks=(1, 1024, 1024))
    with open_checked(tmp_path / "zeros.h5") as file:  # as well compressed as can be
        assert file["u"].id.get_storage_size() * 500 < file["u"].nbytes


@pytest.mark.parametrize("what", ["shape", "chunk", "chunks", "small", "link", "virtual", "external"])
def test_what_an_hdf5_file_must_not_say_is_refused_and_it_is_closed(what, tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["u"] = np.ones(3)
    with h5py.File(path, "w") as file:
        group = file.create_group("deep/er")
        if what == "shape":
            group.create_dataset("u", (2**40,), "f4", chunks=(1,))
        elif what == "chunk":
            group.create_dataset("u", (10**8,), "f4", chunks=(10**8,), maxshape=(None,))
        elif what == "chunks":
            group.create_dataset("u", (10**6,), "f4", chunks=(1,))
        elif what == "small":
            group.create_dataset("u", data=np.ones(110_000, "f4"), chunks=(1,))
        elif what == "link":
            group["u"] = h5py.ExternalLink("secret.h5", "/u")
        elif what == "virtual":
            layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
            layout[...] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "u", shape=(3,))
            group.create_virtual_dataset("u", layout)
        else:
            group.create_dataset("u", (3,), "f8", external=[(str(tmp_path / "secret.h5"), 0, 24)])
    told = {"small": "is cut into 110000 chunks of 4 bytes", "chunks": "is cut into 1000000 chunks of 4 bytes, 0 bytes"}
    told |= dict.fromkeys(("link", "virtual", "external"), "lies in another file")
    expected = told.get(what, "declares the shape")
    with pytest.raises(StoreError, match=expected) as caught:
        open_checked(path)
    assert "\n" not in str(caught.value)
    with h5py.File(path, "r+") as file:  # it is not open any more
        if what in ("virtual", "external"):
            check_hdf5(path, file, linked=False)
    with pytest.raises(StoreError):
        open_data(path)


def test_links_in_a_circle_end(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/u"] = np.ones(3)
        file["g/again"], file["g/soft"] = file["g"], h5py.SoftLink("/g")
        file["twice"] = file["g/u"]
        found = [name for name, _ in walk_hdf5(tmp_path / "a.h5", file)]
    assert sorted(found) in (["g", "g/u"], ["g", "twice"])


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("key", ["shape", "chunks"])
def test_a_zarr_store_that_declares_too_much_is_refused(zarr_format, key, tmp_path):
    import xarray

    path = tmp_path / "a.zarr"
    u = (("sample", "time", "y", "x"), np.ones((5, 3, 8, 10), "f4"))
    xarray.Dataset({"u": u}).to_zarr(path, zarr_format=zarr_format, consolidated=False)
    file = path / "u" / (".zarray" if zarr_format == 2 else "zarr.json")
    entries = json.loads(file.read_text())
    huge = [10**9, 3, 8, 10]
    if zarr_format == 3 and key == "chunks":
        entries["chunk_grid"]["configuration"]["chunk_shape"] = huge
    else:
        entries[key] = huge
    file.write_text(json.dumps(entries))
    with pytest.raises(StoreError, match=r"declares the shape \(1000000000, 3, 8, 10\)"):
        open_data(path)


def test_a_folder_is_as_large_as_its_files(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "deep" / "b").write_bytes(b"345")
    assert (size_of(tmp_path), size_of(tmp_path / "a")) == (5, 2)
