from __future__ import annotations

import random
from pathlib import Path

import h5py
import numpy as np
import pytest

from scifm.data.formats.format import single_numbers
from scifm.data.formats.hdf5 import Hdf5Array, holds_numbers, open_hdf5, sniff_hdf5
from scifm.data.importing import find_format, open_data
from scifm.data.well import OpenFiles
from scifm.errors import SciFMError, StoreError


def test_an_array_is_read_when_it_is_asked_for_and_again_after_closing(tmp_path):
    path = tmp_path / "a.h5"
    values = np.arange(12.0).reshape(3, 4)
    with h5py.File(path, "w") as file:
        file["group/u"] = values
    opened = OpenFiles(open_hdf5)
    with open_hdf5(path) as file:
        array = Hdf5Array.of(opened, path, file["group/u"])
    assert (array.shape, array.dtype) == ((3, 4), np.dtype(float))
    for _ in range(2):
        np.testing.assert_array_equal(array[1:3, 2:3], values[1:3, 2:3])
        opened.close()
    path.unlink()
    with pytest.raises(StoreError, match="cannot be read as HDF5"):
        _ = array[0:1, 0:1]


def test_only_arrays_of_real_numbers_count(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["real"], file["lone"], file["words"], file["complex"] = np.ones(3), 1.0, [b"a"], np.ones(3) * 1j
        file.create_group("group")
        file["nowhere"] = h5py.SoftLink("/missing")
        assert [name for name in file if holds_numbers(file.get(name))] == ["real"]


def test_only_single_finite_numbers_are_told(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs.update({"nu": 0.1, "n": 3, "one": np.array([2.5]), "many": [1, 2], "word": "1.5", "bad": np.nan})
        assert single_numbers(file.attrs) == {"nu": 0.1, "n": 3.0, "one": 2.5}


def test_how_much_of_a_file_is_missing_is_told_in_bytes(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"] = np.ones(1000)
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[:5000])
    with pytest.raises(StoreError, match=rf"it has 5000 of {len(whole)} bytes"):
        open_hdf5(tmp_path / "a.h5")


def test_damage_is_told_and_other_files_pass(tmp_path):
    with h5py.File(tmp_path / "good.h5", "w") as file:
        file["u"] = np.ones(1000)
    (tmp_path / "words.txt").write_text("words")
    assert open_contents(tmp_path) == {"u"}
    (tmp_path / "half.h5").write_bytes((tmp_path / "good.h5").read_bytes()[:3000])
    with pytest.raises(StoreError, match=r"half\.h5' cannot be read as HDF5: it is truncated"):
        open_contents(tmp_path)


def open_contents(path: Path) -> set[str]:
    contents = find_format(path).read(path)
    contents.close()
    return set(contents.arrays)


def test_all_files_are_asked_and_one_that_is_unknown_or_damaged_is_enough(tmp_path):
    files = [tmp_path / name for name in ("a.h5", "b.h5")]
    for file, name in zip(files, ("u", "v"), strict=True):
        with h5py.File(file, "w") as opened:
            opened[name] = np.ones(1000)
    assert sniff_hdf5(files, lambda file: next(iter(file))) == {"u", "v"}
    assert sniff_hdf5(files, lambda file: "u" if "u" in file else None) is None
    assert sniff_hdf5([], lambda file: "u") is None
    files[1].write_bytes(files[1].read_bytes()[:3000])
    assert sniff_hdf5(files, lambda file: "u") is None


@pytest.mark.parametrize("layout", ["transfer", "pdebench"])
def test_whatever_bytes_are_damaged_no_error_is_a_foreign_one(layout, tmp_path):
    numbers = np.random.default_rng(0).standard_normal((5, 2, 8, 10))
    with h5py.File(tmp_path / "good.h5", "w") as file:
        if layout == "transfer":
            file["fields"], file["tensor"] = numbers, np.ones((5, 3))
        else:
            file["tensor"], file["x-coordinate"], file["t-coordinate"] = numbers[:, 0], np.arange(10.0), np.arange(9.0)
    good, dice = (tmp_path / "good.h5").read_bytes(), random.Random(1)
    told = []
    for number in range(100):
        damaged = bytearray(good)
        for _ in range(6):
            damaged[dice.randrange(2200)] = dice.randrange(256)
        path = tmp_path / f"{number}.h5"
        path.write_bytes(damaged)
        try:
            store = open_data(path)
            store.split("train").load()
        except SciFMError as error:
            told.append(str(error))
    assert len(told) > 33
    assert not [text for text in told if "\n" in text]
