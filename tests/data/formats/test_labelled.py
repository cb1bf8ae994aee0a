from __future__ import annotations

import pickle
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

from hollow import sparse_array
from scifm.data.formats import arrays, zarr_files
from scifm.data.formats.arrays import Labelled
from scifm.data.formats.mapping import DataMapping
from scifm.data.importing import find_format, import_data, open_data
from scifm.errors import ConfigError, DataError, StoreError

COUNT, FRAMES, NY, NX = 6, 4, 16, 24


def numbers(seed: int = 0) -> np.ndarray:
    """Waves along x, which wraps around, between walls in y."""
    generator = np.random.default_rng(seed)
    x, y, t = np.arange(NX) / NX, np.linspace(0, 1, NY)[:, None], np.arange(FRAMES)[:, None, None]
    waves = [
        sum(
            generator.normal() * np.sin(2 * np.pi * k * (x - 0.1 * t) + generator.normal()) * np.cos(np.pi * k * y)
            for k in (1, 2)
        )
        for _ in range(COUNT)
    ]
    return np.stack(waves).astype(np.float32)


def dataset(**dims: str) -> xarray.Dataset:
    """Trajectories with a constant field, a coefficient and an attribute; `dims` renames dimensions."""
    made = xarray.Dataset(
        {
            "u": (("sample", "time", "y", "x"), numbers()),
            "mask": (("y", "x"), numbers(1)[0, 0]),
            "D": (("sample",), np.arange(COUNT) + 1.0),
        },
        {"x": np.arange(NX) / NX, "y": np.linspace(0, 1, NY), "time": np.arange(FRAMES) * 0.5},
        {"viscosity": 0.25, "title": "waves"},
    )
    return made.rename(dims)


def write(made: xarray.Dataset, path: Path) -> Path:
    if path.suffix == ".zarr":
        made.to_zarr(path, zarr_format=2)
    elif path.name.endswith(".zarr.zip"):
        from zarr.storage import ZipStore

        with ZipStore(path, mode="w") as store:
            made.to_zarr(store, zarr_format=3, consolidated=False)
    else:
        made.to_netcdf(path, engine="scipy" if path.name.startswith("classic") else "h5netcdf")
    return path


@pytest.fixture(params=["classic.nc", "four.nc", "two.zarr", "three.zarr.zip"])
def file(request, tmp_path) -> Path:
    return write(dataset(), tmp_path / request.param)


def told(error: Exception) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_names_tell_everything(file, tmp_path):
    assert find_format(file).name == "xarray"
    store = open_data(file)
    assert store.splits == {"train": 4, "valid": 1, "test": 1}
    assert set(store.signature.inputs) == {"u", "mask"}
    assert store.signature.outputs == ("u",)
    assert store.signature.coefficients == ("D",)
    assert store.card.times == (0.0, 0.5, 1.0, 1.5)
    assert store.grid.periodic == (False, True)
    assert store.grid.extent == (1.0, 1.0)
    copy = import_data(file, tmp_path / "store")
    batch = copy.split("train").chosen([1]).load()
    np.testing.assert_array_equal(batch.field("u")[:, 0].numpy(), numbers()[int(batch.coefficients[0, 0]) - 1, :-1])
    np.testing.assert_array_equal(batch.field("mask")[0, 0].numpy(), numbers(1)[0, 0])


def test_contents_can_be_handed_to_another_process(file):
    contents = pickle.loads(pickle.dumps(Labelled().read(file)))
    assert contents.attributes == {"viscosity": 0.25}
    block = contents.arrays["u"][slice(1, 2), slice(0, 2), slice(0, NY), slice(3, 5)]
    np.testing.assert_array_equal(block, numbers()[1:2, 0:2, :, 3:5])
    contents.close()


@pytest.mark.parametrize("name", ["classic.nc", "four.nc"])
@pytest.mark.parametrize("keep", [0, 3, 200, 0.5, -100])
def test_a_truncated_file_is_refused(tmp_path, name, keep):
    path = write(dataset(), tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(StoreError, match="truncated") as caught:
        open_data(path)
    assert name in told(caught.value)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("keep", [0, 8, 50, -10])
def test_a_truncated_chunk_of_zarr_is_noticed(tmp_path, version, keep):
    path = tmp_path / "a.zarr"
    blosc = {}
    if version == 3:
        from zarr.codecs import BloscCodec

        blosc = {"u": {"compressors": (BloscCodec(),)}}
    dataset().to_zarr(path, zarr_format=version, encoding=blosc, consolidated=False)
    chunk = path / "u" / ("0.0.0.0" if version == 2 else "c/0/0/0/0")
    chunk.write_bytes(chunk.read_bytes()[:keep])
    with pytest.raises(StoreError, match="should have") as caught:
        open_data(path)
    assert "truncated" in told(caught.value)


def test_a_damaged_chunk_of_zarr_is_noticed(tmp_path):
    path = tmp_path / "a.zarr"
    dataset().to_zarr(path, zarr_format=3, consolidated=False)
    chunk = path / "u" / "c/0/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:50])
    with pytest.raises(StoreError, match=r"'u'.* is truncated or damaged") as caught:
        open_data(path).split("train").batch([0])
    told(caught.value)


def test_fields_of_zarr_come_in_one_order(tmp_path):
    data = dataset()
    path = tmp_path / "a.zarr"
    data.assign(dict.fromkeys("zqbwmk", data["u"])).to_zarr(path, zarr_format=3, consolidated=False)
    for _ in range(4):
        outputs = open_data(path).signature.outputs
        assert list(outputs) == sorted(outputs)


def test_a_missing_chunk_of_zarr_is_not_a_number_or_told(tmp_path):
    path = write(dataset(), tmp_path / "a.zarr")
    (path / "u" / "0.0.0.0").unlink()
    with pytest.raises(DataError, match="'u' holds NaN"):
        open_data(path).split("train").batch([0])
    import zarr

    group = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=2)
    array = group.create_array("u", shape=(4, 8), chunks=(2, 8), dtype="f4", fill_value=0.0)
    array[:2] = 1
    array.attrs["_ARRAY_DIMENSIONS"] = ["sample", "x"]
    assert "1 of 2 chunks of 'u' are not in 'b.zarr' and read as 0.0." in Labelled().read(tmp_path / "b.zarr").remarks


def open_array(path: Path) -> np.ndarray:
    array = Labelled().read(path).arrays["u"]
    return array[tuple(slice(0, n) for n in array.shape)]


def test_a_file_that_is_something_else_is_refused(file):
    if file.is_dir():
        (file / ".zmetadata").write_text("time,value")
        (file / ".zgroup").write_text("time,value")
    else:
        file.write_text("time,value\n1,2\n" * 30)
    with pytest.raises(StoreError, match="of another kind") as caught:
        open_data(file)
    told(caught.value)


def test_classic_with_64_bit_sizes_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"CDF\x05" + bytes(100))
    with pytest.raises(StoreError, match="nccopy"):
        Labelled().read(tmp_path / "a.nc")


@pytest.mark.parametrize("name", ["classic.nc", "four.nc", "a.zarr"])
def test_masked_and_unwritten_values_are_not_numbers(tmp_path, name):
    made = dataset()
    made["u"][2, 1, 0, 0] = np.nan
    path = write(made, tmp_path / name)
    with pytest.raises(DataError, match="'u' holds NaN"):
        import_data(path, tmp_path / "store")
    unwritten = dataset()
    unwritten["u"][:] = 9.969209968386869e36
    unwritten["u"].encoding["_FillValue"] = None
    assert np.isnan(open_array(write(unwritten, tmp_path / f"unwritten-{name}"))).all()


@pytest.mark.parametrize("name", ["classic.nc", "four.nc", "two.zarr"])
def test_a_coefficient_that_is_written_as_a_text_is_told(tmp_path, name):
    made = dataset().assign_attrs(viscosity="0.01", history="1.5", case="B2", reynolds=100.0)
    if name.endswith(".zarr"):
        made.to_zarr(tmp_path / name, zarr_format=2)
    else:
        made.to_netcdf(tmp_path / name, engine="scipy" if name.startswith("classic") else "h5netcdf")
    contents = Labelled().read(tmp_path / name)
    told = [remark for remark in contents.remarks if "is the text" in remark]
    assert told == [
        "'viscosity' is the text '0.01', no number; it is left out. Write it as a number to have it as a coefficient."
    ]
    assert contents.attributes == {"reynolds": 100.0}
    contents.close()


def test_packed_values_are_unpacked(tmp_path):
    made = dataset()
    packing = {"u": {"dtype": "i2", "scale_factor": 1e-3, "add_offset": 0.5, "_FillValue": -32768}}
    made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf", encoding=packing)
    np.testing.assert_allclose(open_array(tmp_path / "a.nc"), numbers(), atol=1e-3)


def test_a_dimension_nobody_knows_is_asked_for(tmp_path):
    path = write(dataset(y="width"), tmp_path / "four.nc")
    with pytest.raises(ConfigError, match="dimension 'width' of 'u', of length 16") as caught:
        open_data(path)
    assert "--write-map" in told(caught.value)


@pytest.mark.parametrize(
    "attributes",
    [{"axis": "Y"}, {"standard_name": "latitude"}, {"units": "degrees_north"}],
    ids=str,
)
def test_conventions_tell_an_axis_that_its_name_does_not(tmp_path, attributes):
    made = dataset(y="width")
    made["width"].attrs.update(attributes)
    assert Labelled().read(write(made, tmp_path / "four.nc")).axes["u"] == ("trajectory", "time", "y", "x")


def test_degrees_around_the_globe_wrap(tmp_path):
    made = dataset(x="lon", y="lat").assign_coords(lon=np.arange(NX) * 360 / NX, lat=np.linspace(80, -80, NY))
    made["lon"].attrs["units"] = "degrees_east"
    contents = Labelled().read(write(made, tmp_path / "four.nc"))
    assert contents.boundary == {"x": "periodic"}
    assert any("lat runs downward" in remark for remark in contents.remarks)
    assert Labelled().propose(contents).extent == {"x": 360.0, "y": 160.0}


def test_points_that_are_not_equally_spaced_are_refused(tmp_path):
    path = write(dataset().assign_coords(y=np.linspace(0, 1, NY) ** 2), tmp_path / "four.nc")
    with pytest.raises(ConfigError, match="'y' are not equally spaced"):
        open_data(path)


def test_axes_in_another_order_are_brought_into_ours(tmp_path):
    path = write(dataset().transpose("x", "y", "time", "sample"), tmp_path / "four.nc")
    batch = open_data(path).split("train").batch([0])
    row = int(batch.coefficients[0, 0]) - 1
    np.testing.assert_array_equal(batch.field("u")[0, 0].numpy(), numbers()[row, 0])


def test_steady_problems_need_roles(tmp_path):
    made = dataset().isel(time=[0])
    path = write(made, tmp_path / "four.nc")
    with pytest.raises(ConfigError, match='role = "input" or role = "output"'):
        open_data(path)
    axes = ["trajectory", "-", "y", "x"]
    roles = {
        "fields": {
            "mask": {"array": "mask", "axes": ["y", "x"], "role": "input"},
            "u": {"array": "u", "axes": axes, "role": "output"},
        }
    }
    mapping = DataMapping(format="xarray", extent={"x": 1, "y": 1}, boundary={"x": "periodic", "y": "wall"}, **roles)
    assert open_data(path, mapping).split("test").num_samples == 1


@pytest.mark.parametrize(
    "times",
    [
        np.datetime64("2001-01-01", "ns") + np.arange(FRAMES) * np.timedelta64(6, "h"),
        np.arange(FRAMES) * np.timedelta64(6, "h"),
        xarray.date_range("2001-02-27", periods=FRAMES, freq="6h", calendar="noleap", use_cftime=True),
    ],
    ids=["datetime", "timedelta", "cftime"],
)
def test_dates_become_seconds_since_the_first_frame(tmp_path, times):
    store = open_data(write(dataset().assign_coords(time=times), tmp_path / "four.nc"))
    np.testing.assert_allclose(store.card.times, np.arange(FRAMES) * 21600.0)
    assert any("seconds since the first frame" in defect for defect in store.card.known_defects)


def test_every_file_of_a_folder_is_a_trajectory(tmp_path):
    for i in range(COUNT):
        made = dataset().isel(sample=i).drop_vars("D").assign_attrs(viscosity=0.5 * i)
        write(made, tmp_path / f"run_{i}.nc")
    store = open_data(tmp_path)
    assert store.signature.coefficients == ("viscosity",)
    batch = store.split("valid").batch([0])
    np.testing.assert_array_equal(batch.field("u")[0, 0].numpy(), numbers()[round(2 * float(batch.coefficients)), 0])
    write(made.assign_coords(x=np.arange(NX) / 10), tmp_path / "run_9.nc")
    with pytest.raises(DataError, match=r"coordinate 'x' differs.*run_9"):
        open_data(tmp_path)


def test_folders_tell_splits_and_files_of_many_trajectories_are_joined(tmp_path):
    for name in ("train/a.zarr", "train/b.zarr", "val/c.zarr"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(dataset().drop_vars("mask"), tmp_path / name)
    store = open_data(tmp_path)
    assert store.splits == {"train": 2 * COUNT, "valid": COUNT}
    batch = store.split("train").chosen([COUNT + 2]).load()
    np.testing.assert_array_equal(batch.field("u")[:, 0].numpy(), numbers()[2, :-1])


def test_a_huge_file_is_opened_without_memory(tmp_path):
    with h5py.File(tmp_path / "huge.nc", "w") as file:
        data = sparse_array(file, "u", (100, 64, 512, 512))  # 6.7 GB that are there, and that the disk need not hold
        for place, name in enumerate(("sample", "time", "y", "x")):
            scale = file.create_dataset(name, data=np.zeros(data.shape[place], "f4"))
            scale.make_scale(f"This is a netCDF dimension but not a netCDF variable.{data.shape[place]:10d}")
            data.dims[place].attach_scale(scale)
    Labelled().read(tmp_path / "huge.nc").close()  # what is imported for it is not counted
    tracemalloc.start()
    contents = Labelled().read(tmp_path / "huge.nc")
    assert contents.arrays["u"].shape == (100, 64, 512, 512)
    assert contents.arrays["u"][slice(5, 6), slice(0, 1), slice(0, 2), slice(0, 2)].shape == (1, 1, 2, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    path = write(dataset(), tmp_path / "a.zarr")
    for module in (arrays, zarr_files):
        monkeypatch.setattr(module, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=r"pip install 'scifm\[formats\]'"):
        open_data(path)


def test_netcdf_needs_no_package_of_its_own(tmp_path, monkeypatch):
    path = write(dataset(), tmp_path / "four.nc")
    for package in ("h5netcdf", "netCDF4"):
        monkeypatch.setitem(sys.modules, package, None)
    assert open_data(path).signature.outputs == ("u",)


def test_the_length_follows_from_points_of_float32(tmp_path):
    """They were told in float64, and the length of an axis was then that of their rounding: 0.69999998."""
    x = (np.arange(NX) * 0.1).astype(np.float32)
    made = dataset().assign_coords(x=x)
    assert open_data(write(made, tmp_path / "four.nc")).grid.extent == (1.0, 2.4)


@pytest.mark.parametrize("name", ["four.nc", "two.zarr"])
def test_groups_of_numbers_are_trajectories_and_others_are_named(tmp_path, name):
    for i in (0, 2, 10):
        made = dataset().isel(sample=i % COUNT).drop_vars("D").assign_attrs(viscosity=0.5 * i)
        write_group(made, tmp_path / f"many-{name}", f"run_{i}")
    store = open_data(tmp_path / f"many-{name}")
    assert store.signature.outputs == ("u",)
    assert store.signature.coefficients == ("viscosity",)
    assert store.splits == {"train": 1, "valid": 1, "test": 1}
    for split in store.splits:
        batch = store.split(split).batch([0])
        row = round(2 * float(batch.coefficients)) % COUNT
        np.testing.assert_array_equal(batch.field("u")[0, 0].numpy(), numbers()[row, 0])
    write_group(dataset(), tmp_path / f"one-{name}", "inner")
    assert set(Labelled().read(tmp_path / f"one-{name}").arrays) >= {"inner/u", "inner/D", "inner/x"}


def write_group(made: xarray.Dataset, path: Path, group: str) -> None:
    if path.suffix == ".zarr":
        made.to_zarr(path, group=group, zarr_format=2, mode="a", consolidated=False)
    else:
        made.to_netcdf(path, engine="h5netcdf", group=group, mode="a")


def globe(longitudes: np.ndarray) -> xarray.Dataset:
    latitudes, days = np.linspace(-60, 60, NY), np.arange(1.0, 4.0)
    u = np.cos(np.deg2rad(longitudes)) * np.cos(np.deg2rad(latitudes))[:, None] * days[:, None, None]
    made = xarray.Dataset({"u": (("time", "lat", "lon"), u)}, {"time": days, "lat": latitudes, "lon": longitudes})
    made["lon"].attrs["units"] = "degrees_east"
    return made


def test_a_meridian_told_at_both_ends_is_one(tmp_path):
    store = open_data(write(globe(np.arange(0, 361, 30.0)), tmp_path / "four.nc"))
    assert (store.grid.num_points, store.grid.extent[1], store.grid.boundary[1]) == ((NY, 12), 360.0, "periodic")
    batch = store.whole().some(1)
    np.testing.assert_allclose(batch.inputs[0, 0, 0], globe(np.arange(0, 360, 30.0))["u"][0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("first", "last", "least", "boundary", "extent"), [(180, 510, 0, "periodic", 360), (170, 192, -180, "bounded", 22)]
)
def test_longitudes_that_pass_the_end_of_the_circle_are_told_on(tmp_path, first, last, least, boundary, extent):
    longitudes = np.linspace(first, last, 12)
    store = open_data(write(globe((longitudes - least) % 360 + least), tmp_path / "four.nc"))
    assert (store.grid.boundary[1], store.grid.extent[1]) == (boundary, extent)
    assert any(f"it is told on, from {first} to {last}" in text for text in store.card.known_defects)


@pytest.mark.parametrize("version", [2, 3])
def test_dates_of_numpy_in_zarr_are_times(tmp_path, version):
    import zarr

    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    hours = np.datetime64("2000-01-01", "ns") + np.arange(FRAMES) * np.timedelta64(6, "h")
    made = dataset().isel(sample=0)
    for name, dims, values in (("time", ["time"], hours), ("u", ["time", "y", "x"], made["u"].values)):
        names = {"dimension_names": dims} if version == 3 else {}
        array = root.create_array(name, shape=values.shape, dtype=values.dtype, **names)
        array[...] = values
        array.attrs["_ARRAY_DIMENSIONS"] = dims
    card = open_data(tmp_path / "a.zarr").card
    assert card.times == tuple(21600.0 * step for step in range(FRAMES))
    assert card.units["time"] == "s"
