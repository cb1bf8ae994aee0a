"""What is written and what is meant by it, in every convention and on every route."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from scifm.data.formats.arrays import Arrays, Labelled
from scifm.data.formats.coding import Coding, netcdf_fill, text_of
from scifm.data.formats.hdf5 import open_hdf5, unwritten
from scifm.errors import DataError

NAN = np.nan
I2, I4, F4, F8, U1, I1 = (np.dtype(kind) for kind in ("i2", "i4", "f4", "f8", "u1", "i1"))


def whole(array):
    return array[tuple(slice(0, n) for n in array.shape)]


@pytest.mark.parametrize(
    ("dtype", "attributes", "written", "meant"),
    [
        (F4, {}, [1, 2], [1, 2]),
        (I2, {"scale_factor": 0.5, "add_offset": 10.0}, [0, 3], [10, 11.5]),
        (I2, {"scale_factor": np.array([0.5]), "_FillValue": np.int16(-9)}, [-9, 2], [NAN, 1]),
        (F4, {"_FillValue": 1e20}, [1e20, 2], [NAN, 2]),  # 1e20 as a float32 holds it
        (F4, {"missing_value": np.array([-1.0, -2.0])}, [-1, -2, 3], [NAN, NAN, 3]),
        (F4, {"missing_value": b"-999"}, [-999, 3], [NAN, 3]),
        (F4, {"missing_value": "none"}, [-999, 3], [-999, 3]),
        (I4, {"missing_value": -999.0}, [-999, 3], [NAN, 3]),
        (I2, {"missing_value": 99999}, [5, 3], [5, 3]),  # no int16 is that number
        (I2, {"valid_range": np.array([0, 4], "i2"), "scale_factor": 0.5}, [-1, 0, 4, 5], [NAN, 0, 2, NAN]),
        (I2, {"valid_max": 2.0, "scale_factor": 0.5}, [0, 4, 5], [0, 2, NAN]),  # floating, so of the unpacked
        (F8, {"valid_min": 0.0}, [-1, 0, 5], [NAN, 0, 5]),
        (I1, {"_Unsigned": "true", "_FillValue": np.int8(-1)}, [-2, -1, 3], [254, NAN, 3]),
        (U1, {"_Unsigned": "false"}, [255, 3], [-1, 3]),
    ],
    ids=str,
)
def test_what_attributes_tell_is_what_is_meant(dtype, attributes, written, meant):
    coding = Coding.of(dtype, attributes)
    got = coding.decode(np.array(written, dtype=dtype))
    np.testing.assert_array_equal(got, meant)
    assert got.dtype == coding.dtype


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8"])
def test_what_netcdf_puts_where_nothing_was_written_is_none(dtype):
    netcdf4 = pytest.importorskip("netCDF4")
    dtype = np.dtype(dtype)
    fill = netcdf4.default_fillvals[dtype.str[1:]]
    assert dtype.type(netcdf_fill(dtype)) == dtype.type(fill)
    coding = Coding.of(dtype, {}, default=netcdf_fill(dtype))
    np.testing.assert_array_equal(coding.decode(np.array([fill, 1], dtype)), [NAN, 1])


def test_bytes_have_nothing_to_spare():
    assert netcdf_fill(U1) is None
    assert Coding.of(U1, {}, default=netcdf_fill(U1)).is_plain


def test_a_declared_zero_is_a_number_unless_numbers_are_packed():
    np.testing.assert_array_equal(Coding.of(F4, {}, declared=0.0).decode(np.zeros(2, "f4")), [0, 0])
    packed = Coding.of(I2, {"scale_factor": 0.1}, declared=0)
    np.testing.assert_array_equal(packed.decode(np.array([0, 10], "i2")), [NAN, 1.0])
    np.testing.assert_array_equal(Coding.of(F4, {}, declared=-9.0).decode(np.array([-9, 1], "f4")), [NAN, 1])


def test_bytes_in_the_other_order_mean_the_same():
    coding = Coding.of(np.dtype(">i2"), {"_FillValue": -5, "_Unsigned": "true"})
    np.testing.assert_array_equal(coding.decode(np.array([-5, 7], ">i2")), [NAN, 7])


def test_packing_nobody_understands_is_refused():
    with pytest.raises(DataError, match="scale_factor is 'a lot'"):
        Coding.of(I2, {"scale_factor": "a lot"})
    assert text_of(np.array([b"hours"])) == "hours"


def packed_netcdf(path):
    netcdf4 = pytest.importorskip("netCDF4")
    with netcdf4.Dataset(path, "w") as file:
        file.createDimension("time", 3)
        file.createDimension("x", 4)
        time = file.createVariable("time", "i4", ("time",))
        time.units = "hours since 2000-01-01"
        time[:] = [0, 1, 2]
        u = file.createVariable("u", "i2", ("time", "x"))
        u.scale_factor, u.add_offset = 0.5, 10.0
        u.set_auto_maskandscale(False)
        u[:2] = [[0, 1, 2, 3], [4, 5, 6, 7]]
    return path


@pytest.mark.parametrize(("form", "name"), [(Labelled(), "a.nc"), (Arrays(), "a.h5")])
def test_one_file_means_the_same_on_every_route(tmp_path, form, name):
    path = shutil.copy(packed_netcdf(tmp_path / "made.nc"), tmp_path / name)
    arrays = form.read(path).arrays
    meant = [[10, 10.5, 11, 11.5], [12, 12.5, 13, 13.5], [NAN] * 4]  # the last frame was never written
    np.testing.assert_array_equal(whole(arrays["u"]), meant)
    np.testing.assert_array_equal(whole(arrays["time"]), [0, 3600, 7200])


def test_hdf5_declares_and_tells_what_was_never_written(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("marked", shape=(4, 2), chunks=(2, 2), dtype="f4", fillvalue=-9999)[:2] = 1
        file.create_dataset("plain", shape=(4, 2), chunks=(2, 2), dtype="f4")[:2] = 1
        file.create_dataset("whole", data=np.zeros((4, 2)))
    contents = Arrays().read(tmp_path / "a.h5")
    np.testing.assert_array_equal(whole(contents.arrays["marked"])[:, 0], [1, 1, NAN, NAN])
    np.testing.assert_array_equal(whole(contents.arrays["plain"])[:, 0], [1, 1, 0, 0])
    told = " ".join(contents.remarks)
    assert "'plain' of 'a.h5' lacks 1 of its 2 chunks, which were never written and read as 0.0" in told
    assert "'marked' of 'a.h5' lacks 1 of its 2 chunks, which were never written and read as nan" in told
    with open_hdf5(tmp_path / "a.h5") as file:
        assert unwritten(file["whole"]) is None


@pytest.mark.parametrize(("version", "fill", "meant"), [(2, 0.0, 0.0), (2, -9.0, NAN), (3, 0.0, 0.0), (3, -9.0, -9.0)])
def test_what_zarr_declares(tmp_path, version, fill, meant):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    names = {"dimension_names": ["sample", "x"]} if version == 3 else {}
    array = group.create_array("u", shape=(2, 3), chunks=(1, 3), dtype="f4", fill_value=fill, **names)
    array.attrs["_ARRAY_DIMENSIONS"] = ["sample", "x"]
    array[:1] = [[1, fill, 3]]
    got = whole(Labelled().read(tmp_path / "a.zarr").arrays["u"])
    np.testing.assert_array_equal(got, [[1, meant, 3], [meant] * 3])


@pytest.mark.parametrize(("version", "fill", "meant"), [(2, 0, NAN), (2, -9, NAN), (3, 0, 10.0), (3, -9, 5.5)])
def test_plain_zarr_means_the_same(tmp_path, version, fill, meant):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    packing = {"scale_factor": 0.5, "add_offset": 10.0}
    for name, shape, chunks in (("u", (2, 3), (1, 3)), ("nu", (), ())):
        array = group.create_array(name, shape=shape, chunks=chunks, dtype="i2", fill_value=fill)
        array.attrs.update(packing)
    group["u"][:1] = [[1, fill, 3]]
    group["nu"][...] = 4
    contents = Arrays().read(tmp_path / "a.zarr")
    array = contents.arrays["u"]
    np.testing.assert_array_equal(whole(array), [[10.5, meant, 11.5], [meant] * 3])
    assert array.dtype == whole(array).dtype == np.float64
    assert contents.attributes["nu"] == 12.0
    told = "1 of 2 chunks of 'u' are not in 'a.zarr' and read as"
    assert any(told in remark for remark in contents.remarks) == (version == 3)


def test_groups_of_plain_hdf5_count_their_times_from_their_dates(tmp_path):
    """Their times were read as they stand; told in seconds since the first frame each, all began at once."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for year, day in ((0, 0), (1, 2)):
            group = file.create_group(f"part_{year}")
            group["time"] = np.array([0.0, 1.0])
            group["time"].attrs["units"] = f"days since 2000-01-0{day + 1}"
            group["u"] = np.full((2, 5), float(year))
    contents = Arrays().read(tmp_path / "a.h5")
    np.testing.assert_array_equal(whole(contents.arrays["time"]), np.arange(4) * 86400.0)
    np.testing.assert_array_equal(whole(contents.arrays["u"])[:, 0], [0, 0, 1, 1])


def test_marks_in_float32_are_those_of_numbers_in_float64_too():
    coding = Coding.of(np.dtype("f8"), {"missing_value": np.float32(-999.9)})
    written = np.array([-999.9, np.float64(np.float32(-999.9)), -999.8])
    np.testing.assert_array_equal(np.isnan(coding.decode(written)), [True, True, False])


@pytest.mark.parametrize(
    ("attributes", "meant"),
    [
        ({"valid_range": np.array([0, 255], "i2")}, [0, 127, 128, 255]),
        ({"valid_min": 0, "valid_max": 254}, [0, 127, 128, NAN]),
        ({"valid_range": np.array([0, 100], "i1")}, [0, NAN, NAN, NAN]),
        ({"valid_range": np.array([0, 255], "i2"), "_Unsigned": "false"}, [0, 127, NAN, NAN]),
    ],
)
def test_bounds_that_only_bytes_without_a_sign_reach_say_so(attributes, meant):
    written = np.array([0, 127, -128, -1], "i1")
    np.testing.assert_array_equal(Coding.of(written.dtype, attributes).decode(written), meant)


def test_whole_numbers_that_float64_cannot_hold_stay_whole():
    coding = Coding.of(np.dtype("i8"), {"_FillValue": np.int64(-1)})
    written = 1_700_000_000_000_000_001 + np.arange(3)
    np.testing.assert_array_equal(coding.decode(written), written)
    assert np.isnan(coding.decode(np.array([written[0], -1]))).tolist() == [False, True]
    assert coding.decode(np.array([1, 2])).dtype == np.float64
