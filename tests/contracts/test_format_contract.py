"""What every import route promises; joining `FORMATS` and adding an example here earns these tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from foreign_well import write_well_file
from scifm.data.formats import FORMATS
from scifm.data.formats.mapping import DataMapping, FieldMapping, TimeAxis
from scifm.data.importing import find_format, import_data, open_data
from scifm.data.store import Store
from scifm.errors import ConfigError, DataError, StoreError

BROKEN = 2
"""Trajectory that holds a NaN in the first field of the mapping, where one is asked for."""

NUM = 5


def _numbers(broken: bool, *shape: int) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal(shape).astype("f4")
    if broken:
        values[BROKEN, ..., 1, 1] = np.nan
    return values


def make_pdebench(folder: Path, broken: bool) -> tuple[Path, DataMapping | None]:
    path = folder / "2D_CFD_Rand_periodic_Train.hdf5"
    with h5py.File(path, "w") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            file[name] = _numbers(broken and name == "density", NUM, 3, 8, 10)
        file["x-coordinate"], file["y-coordinate"] = (np.arange(8) + 0.5) / 8, (np.arange(10) + 0.5) / 10
        file["t-coordinate"] = np.arange(4) * 0.1
        file.attrs["eta"] = 0.01
    return path, None


def make_well(folder: Path, broken: bool) -> tuple[Path, DataMapping | None]:
    path = folder / "set"
    for split, count in (("train", NUM), ("valid", 1), ("test", 1)):
        write_well_file(
            path / f"data/{split}/flow.hdf5",
            dims={"x": np.arange(8) / 8, "y": np.linspace(0, 1, 10)},
            times=np.arange(3) * 0.1,
            num_trajectories=count,
            fields={"density": (0, _numbers(broken and split == "train", NUM, 3, 8, 10)[:count], "st")},
            scalars={"drag": (np.arange(count) + 1.0, "s")},
            boundaries={"x": "PERIODIC", "y": "WALL"},
        )
    return path, None


def make_transfer(folder: Path, broken: bool) -> tuple[Path, DataMapping | None]:
    path = folder / "_train_k1_5.h5"
    with h5py.File(path, "w") as file:
        file["fields"] = _numbers(broken, NUM, 2, 8, 10)
        file["tensor"] = np.abs(_numbers(False, NUM, 3))
    return path, None


def make_xarray(folder: Path, broken: bool) -> tuple[Path, DataMapping | None]:
    import xarray

    path = folder / "flow.nc"
    u = (("sample", "time", "y", "x"), _numbers(broken, NUM, 3, 8, 10))
    axes = {"time": np.arange(3.0), "y": np.arange(8) / 8, "x": np.arange(10) / 10}
    xarray.Dataset({"speed": u}, axes).to_netcdf(path, engine="h5netcdf")
    return path, None


def make_arrays(folder: Path, broken: bool) -> tuple[Path, DataMapping | None]:
    path = folder / "flow.npz"
    np.savez(path, speed=_numbers(broken, NUM, 3, 8, 10))
    field = FieldMapping(array="speed", axes=("trajectory", "time", "y", "x"))
    box = {"extent": {"x": 1.0, "y": 1.0}, "boundary": {"x": "periodic", "y": "periodic"}}
    return path, DataMapping(format="arrays", fields={"u": field}, time=TimeAxis(), **box)


MAKERS: dict[str, Callable[[Path, bool], tuple[Path, DataMapping | None]]] = {
    # Return the example's file or folder, of at least 5 trajectories, and its mapping where one has to be written.
    "well": make_well,
    "transfer": make_transfer,
    "pdebench": make_pdebench,
    "xarray": make_xarray,
    "arrays": make_arrays,
}

HDF5 = {"well", "transfer", "pdebench", "xarray"}
"""Formats of files that are HDF5."""

every_format = pytest.mark.parametrize("name", MAKERS)


def example(name: str, folder: Path, *, broken: bool = False) -> tuple[Path, DataMapping]:
    """Make the example and return the mapping that is used for it."""
    folder.mkdir()
    path, mapping = MAKERS[name](folder, broken)
    form = FORMATS[name]
    if mapping is None:
        contents = form.read(path)
        mapping = form.propose(contents)
        contents.close()
    return path, mapping


def load_all(store: Store) -> None:
    for split in store.splits:
        store.split(split).load()


def cut_largest(path: Path) -> None:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    largest = max(files, key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def test_every_format_has_an_example():
    assert set(MAKERS) == set(FORMATS)
    assert all(form.name == name and form.title for name, form in FORMATS.items())


@every_format
def test_it_knows_its_own_files_and_no_others(name, tmp_path):
    path, _ = example(name, tmp_path / name)
    assert find_format(path).name == name
    assert FORMATS[name].sniff(path)
    (tmp_path / "words.txt").write_text("nothing of the kind")
    (tmp_path / "empty").mkdir()
    for foreign in (tmp_path / "words.txt", tmp_path / "empty", tmp_path / "missing"):
        assert FORMATS[name].sniff(foreign) is None
    for other in set(MAKERS) - {name}:
        theirs, _ = example(other, tmp_path / other)
        plain = name == "arrays" and other in HDF5  # what is HDF5 can always be read as plain arrays too
        assert (FORMATS[name].sniff(theirs) is not None) is plain, other


def hdf5_4(path: Path) -> None:
    import xarray

    u = (("sample", "time", "x"), _numbers(False, NUM, 3, 8))
    xarray.Dataset({"tensor": u, "nu": u, "data": u}).to_netcdf(path, engine="h5netcdf", format="NETCDF4")


def plain_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["u"], file["dimensions/x"] = _numbers(False, NUM, 3, 8, 10), np.arange(8.0)


def numbers_in_npy(path: Path) -> None:
    np.save(path, _numbers(False, NUM, 3, 8))


@pytest.mark.parametrize(
    ("make", "file", "known"),
    [
        (hdf5_4, "a.nc", {"xarray", "arrays"}),  # HDF5 underneath, with names of arrays that PDEBench has
        (plain_hdf5, "a.h5", {"arrays"}),
        (plain_hdf5, "a.hdf5", {"arrays"}),
        (numbers_in_npy, "a.npy", {"arrays"}),
    ],
)
def test_each_kind_of_file_is_known_to_its_own(make, file, known, tmp_path):
    make(tmp_path / file)
    for place in (tmp_path / file, tmp_path):
        assert {name for name, form in FORMATS.items() if form.sniff(place)} == known
        assert find_format(place).name == next(name for name in FORMATS if name in known)


def test_a_store_of_ours_is_of_the_wells_schema_and_needs_no_import(tmp_path):
    path, mapping = example("arrays", tmp_path / "arrays")
    store = import_data(path, tmp_path / "store", mapping)
    assert {name for name, form in FORMATS.items() if form.sniff(store.path)} == {"well", "arrays"}
    assert find_format(store.path).name == "well"
    with pytest.raises(StoreError, match="needs no import"):
        open_data(store.path)


@every_format
def test_what_is_imported_is_what_was_there(name, tmp_path):
    path, mapping = example(name, tmp_path / name)
    there, copied = open_data(path, mapping), import_data(path, tmp_path / "store", mapping)
    assert there.signature == copied.signature == mapping.signature
    assert (there.grid, there.splits) == (copied.grid, copied.splits)
    assert copied.card.source.format == name
    for split in there.splits:
        ours, theirs = there.split(split).load(), copied.split(split).load()
        np.testing.assert_array_equal(ours.inputs, theirs.inputs)
        np.testing.assert_array_equal(ours.targets, theirs.targets)
        np.testing.assert_array_equal(ours.coefficients, theirs.coefficients)
    for field in there.statistics.to_dict():
        assert there.statistics.to_dict()[field] == copied.statistics.to_dict()[field]
    copied.verify()


@every_format
def test_truncated_files_are_refused_in_one_line(name, tmp_path):
    path, mapping = example(name, tmp_path / name)
    cut_largest(path)
    for given in (mapping, None):
        with pytest.raises(StoreError) as told:
            load_all(open_data(path, given))
        assert "\n" not in str(told.value)


@every_format
def test_foreign_files_are_refused(name, tmp_path):
    path, mapping = example(name, tmp_path / name)
    foreign = tmp_path / f"foreign{path.suffix}"
    foreign.write_bytes(b"nothing of the kind" * 100)
    for given in (mapping, None):
        with pytest.raises(StoreError) as told:
            open_data(foreign, given)
        assert "\n" not in str(told.value)


@every_format
def test_numbers_that_are_none_are_refused_with_their_place(name, tmp_path):
    path, mapping = example(name, tmp_path / name, broken=True)
    field = next(iter(mapping.fields))
    with pytest.raises(DataError, match=rf"'{field}' holds NaN or infinity in sample {BROKEN}(, frame 0,)? of "):
        import_data(path, tmp_path / "store", mapping)
    with pytest.raises(DataError, match=rf"'{field}' holds NaN or infinity in sample {BROKEN}(, frame 0,)? of "):
        load_all(open_data(path, mapping))


@every_format
def test_a_missing_array_is_told_with_the_nearest_name(name, tmp_path):
    path, mapping = example(name, tmp_path / name)
    field, entry = next(iter(mapping.fields.items()))
    changed = entry.model_copy(update={"array": entry.array + "x"})
    wrong = mapping.model_copy(update={"fields": {**mapping.fields, field: changed}})
    with pytest.raises(
        ConfigError, match=rf"field '{field}': '{entry.array}x' is unknown. Did you mean '{entry.array}'"
    ):
        open_data(path, wrong)
