"""Foreign data as stores: opened where they lie and copied, through a format that lives in this file."""

from __future__ import annotations

import os
from collections import namedtuple

import numpy as np
import pytest

from scifm.data import importing
from scifm.data.card import hash_file
from scifm.data.formats import FORMATS
from scifm.data.formats.format import Contents, Format
from scifm.data.formats.kinds import WHOLE
from scifm.data.formats.mapping import DataMapping, FieldMapping
from scifm.data.importing import import_data, open_data
from scifm.data.store import Store
from scifm.errors import ConfigError, DataError, StoreError

NUM, FRAMES, Y, X = 10, 4, 3, 5
AXES = ("trajectory", "time", "x", "y")


class Memory(Format):
    """Arrays of this test, told to lie in a file."""

    name = "memory"
    title = "arrays of a test"

    def __init__(self):
        self.parts = {WHOLE: {"u": np.arange(NUM * FRAMES * X * Y, dtype=float).reshape(NUM, FRAMES, X, Y)}}

    def sniff(self, path):
        return "a test's own" if path.suffix == ".memory" else None

    def read(self, path):
        return Contents(path, (path,), self.parts, attributes={"Nu": 0.1}, remarks=("a remark",))

    def propose(self, contents):
        return DataMapping(
            format=self.name,
            fields={"u": FieldMapping(array="u", axes=AXES)},
            coefficients={"viscosity": "Nu"},
            time={"interval": 0.5},
            extent={"x": 2.0, "y": 1.0},
            boundary={"x": "periodic", "y": "wall"},
            equation="u_t = 0",
            known_defects=("a defect",),
        )


@pytest.fixture
def memory(monkeypatch):
    form = Memory()
    monkeypatch.setitem(FORMATS, "memory", form)
    return form


@pytest.fixture
def path(memory, tmp_path):
    file = tmp_path / "a.memory"
    file.write_bytes(b"1234")
    return file


@pytest.fixture
def small_chunks(monkeypatch):
    """Files of three trajectories, written in blocks of two frames."""
    monkeypatch.setattr(importing, "_CHUNK_BYTES", 3 * FRAMES * X * Y * 4)
    monkeypatch.setattr(importing, "_BLOCK_BYTES", 2 * X * Y * 4)


def proposed(memory, path, **changes):
    return memory.propose(memory.read(path)).model_copy(update=changes)


def equal(first, second):
    one, two = first.load(), second.load()
    assert one.signature == two.signature
    assert one.grid == two.grid
    for part in ("inputs", "coefficients", "targets", "lead_time"):
        np.testing.assert_array_equal(getattr(one, part), getattr(two, part))


def test_opened_data_are_a_store(memory, path):
    store = open_data(path)
    assert store.splits == {"train": 8, "valid": 1, "test": 1}
    assert store.grid.num_points == (Y, X)
    assert store.grid.extent == (1.0, 2.0)
    assert store.grid.periodic == (False, True)
    assert store.card.times == (0.0, 0.5, 1.0, 1.5)
    assert store.card.equation == "u_t = 0"
    assert store.card.known_defects == ["a remark", "a defect"]
    assert store.card.source.files == {"a.memory": 4}
    assert store.homogeneities == ()
    batch = store.split("train", stride=2).load()
    assert batch.num_samples == 8 * 2
    assert (batch.lead_time == 1.0).all()
    assert (batch.targets - batch.inputs == 2 * X * Y).all()
    assert batch.coefficient("viscosity").unique().tolist() == [np.float32(0.1)]


def first_numbers(store, split):
    """Return which trajectories a split holds, told by their first number."""
    per = store.split(split).windows_per_trajectory
    return {int(value) // (FRAMES * X * Y) for value in store.split(split).load().inputs[::per, 0, 0, 0, 0].tolist()}


def test_splits_are_dealt_by_the_seed_and_never_share_a_trajectory(memory, path):
    shares = {"train": 0.5, "valid": 0.2, "test": 0.3}
    stores = [open_data(path, proposed(memory, path, splits=shares, seed=seed)) for seed in (0, 0, 1)]
    dealt = [{split: first_numbers(store, split) for split in store.splits} for store in stores]
    assert dealt[0] == dealt[1] != dealt[2]
    for one in dealt:
        assert {split: len(rows) for split, rows in one.items()} == {"train": 5, "valid": 2, "test": 3}
        assert set().union(*one.values()) == set(range(NUM))
    assert dealt[0]["train"] != set(range(5))  # not in the order of the file


def test_a_small_share_is_never_nothing_and_no_share_is_no_split(memory, path):
    shares = {"train": 0.99, "valid": 0.01, "test": 0.0}
    assert open_data(path, proposed(memory, path, splits=shares)).splits == {"train": 9, "valid": 1}
    memory.parts = {WHOLE: {"u": memory.parts[WHOLE]["u"][:2]}}
    with pytest.raises(DataError, match="2 trajectories are too few"):
        open_data(path)
    assert open_data(path, proposed(memory, path, splits={"train": 1.0})).splits == {"train": 2}


def test_data_that_are_split_stay_so(memory, path):
    u = memory.parts[WHOLE]["u"]
    memory.parts = {"train": {"u": u[:6]}, "test": {"u": u[6:]}}
    store = open_data(path)
    assert store.splits == {"train": 6, "test": 4}
    assert first_numbers(store, "test") == {6, 7, 8, 9}


def test_unequal_steps_are_told(memory, path):
    memory.parts[WHOLE]["t"] = np.array([0.0, 1, 2, 5])
    store = open_data(path, proposed(memory, path, time="t"))
    assert any("from 1 to 3" in line for line in store.card.known_defects)


@pytest.mark.usefixtures("small_chunks")
def test_a_copy_is_the_same_data(path, tmp_path):
    seen = []
    copied = import_data(path, tmp_path / "store", progress=lambda done, total: seen.append((done, total)))
    there = open_data(path)
    assert copied.name == "store"
    assert seen == [(3, 10), (6, 10), (8, 10), (9, 10), (10, 10)]
    assert len([name for name in copied.card.files if name.startswith("data/train/")]) == 3
    for split in there.splits:
        equal(there.split(split), copied.split(split))
    assert there.statistics == copied.statistics
    copied.verify()
    equal(Store.open(tmp_path / "store").split("train"), import_data(path, tmp_path / "store").split("train"))


def test_a_copy_keeps_float64_where_it_is_asked_for(memory, path, tmp_path):
    memory.parts[WHOLE]["u"] += 1e-9
    copied = import_data(path, tmp_path / "store", proposed(memory, path, dtype="float64"))
    batch = copied.split("train").load()
    assert str(batch.inputs.dtype) == "torch.float64"
    equal(open_data(path, proposed(memory, path, dtype="float64")).split("train"), copied.split("train"))


@pytest.mark.usefixtures("small_chunks")
def test_an_interrupted_import_goes_on_where_it_stopped(path, tmp_path, monkeypatch):
    class StoppedError(Exception):
        pass

    def stop(done, total):
        if done == 6:
            raise StoppedError

    with pytest.raises(StoppedError):
        import_data(path, tmp_path / "store", progress=stop)
    files = sorted((tmp_path / "store" / "data" / "train").iterdir())
    assert [file.name for file in files] == ["chunk-00000.hdf5", "chunk-00001.hdf5"]
    times = [file.stat().st_mtime_ns for file in files]
    with pytest.raises(StoreError, match="not a finished store"):
        Store.open(tmp_path / "store")
    (tmp_path / "store/data/train/.chunk-00002.hdf5.7.part").write_bytes(b"half")
    seen = []
    copied = import_data(path, tmp_path / "store", progress=lambda done, total: seen.append(done))
    assert seen == [8, 9, 10]
    assert [file.stat().st_mtime_ns for file in files] == times
    assert not list((tmp_path / "store").rglob("*.part"))
    equal(open_data(path).split("train"), copied.split("train"))


@pytest.mark.usefixtures("small_chunks")
def test_a_damaged_copy_is_mended(path, tmp_path):
    damaged = import_data(path, tmp_path / "store").path / "data/train/chunk-00001.hdf5"
    damaged.write_bytes(damaged.read_bytes()[:-7])
    seen = []
    copied = import_data(path, tmp_path / "store", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(10, 10)]  # one file, of three trajectories, was missing
    copied.verify()
    equal(open_data(path).split("train"), copied.split("train"))


@pytest.mark.usefixtures("small_chunks")
def test_another_store_is_never_overwritten(memory, path, tmp_path):
    import_data(path, tmp_path / "store")
    with pytest.raises(StoreError, match=r"made with other settings: .*mapping"):
        import_data(path, tmp_path / "store", proposed(memory, path, every=2))
    path.write_bytes(b"12345")  # another file of the same name
    with pytest.raises(StoreError, match=r"held something else.*1 of 1 files differ"):
        import_data(path, tmp_path / "store")
    (tmp_path / "store" / "card.json").unlink()  # unfinished, and of the other file
    with pytest.raises(StoreError, match="held something else"):
        import_data(path, tmp_path / "store")


def test_content_decides_whether_a_store_is_of_these_files(path, tmp_path):
    import_data(path, tmp_path / "store")
    path.write_bytes(b"1243")  # as long as before
    with pytest.raises(StoreError, match=r"'a\.memory' held something else.*Remove the store"):
        import_data(path, tmp_path / "store")
    path.write_bytes(b"1234")  # written again, with the same in it
    assert import_data(path, tmp_path / "store").splits == {"train": 8, "valid": 1, "test": 1}


def test_a_folder_is_known_by_all_that_lies_in_it(tmp_path):
    (tmp_path / "a.zarr/u").mkdir(parents=True)
    (tmp_path / "a.zarr/zarr.json").write_text("{}")
    seen = set()
    for name, content in (("0", b"12"), ("0", b"21"), ("1", b"21")):
        (tmp_path / "a.zarr/u" / name).write_bytes(content)
        seen.add(hash_file(tmp_path / "a.zarr"))
    assert len(seen) == 3


def test_a_full_disk_is_noticed_before_and_while_writing(path, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: usage(1, 1, 100))
        with pytest.raises(StoreError, match="Nothing was started"):
            import_data(path, tmp_path / "store")
    assert not list((tmp_path / "store").rglob("*.hdf5"))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"Cannot write .*No space left on device.* what is finished is kept"):
            import_data(path, tmp_path / "store")
    assert not list((tmp_path / "store").rglob("*.part"))
    import_data(path, tmp_path / "store")


def test_numbers_that_float32_cannot_hold_are_refused(memory, path, tmp_path):
    memory.parts[WHOLE]["u"][3, 1, 0, 0] = 1e100
    with pytest.raises(DataError, match=r"'u' holds NaN or infinity in sample 3, frame [0-9], of "):
        import_data(path, tmp_path / "store")
    there = open_data(path, proposed(memory, path, splits={"train": 1.0})).split("train")
    with pytest.raises(DataError, match=r"holds NaN or infinity in sample 3, frame [0-9], of "):
        there.load()
    copied = import_data(path, tmp_path / "double", proposed(memory, path, dtype="float64", splits={"train": 1.0}))
    assert copied.split("train").load().inputs.max().item() == 1e100


def test_numbers_whose_squares_overflow_are_refused(memory, path, tmp_path):
    memory.parts[WHOLE]["u"][3, 1, 0, 0] = 1e300
    with pytest.raises(DataError, match=r"'u' reaches 1e\+300; .* cannot be squared"):
        import_data(path, tmp_path / "store", proposed(memory, path, dtype="float64", splits={"train": 1.0}))


def test_what_cannot_be_opened_is_refused(memory, path, tmp_path):
    with pytest.raises(StoreError, match="There is nothing at"):
        open_data(tmp_path / "missing")
    (tmp_path / "words.txt").write_text("words")
    with pytest.raises(StoreError, match=r"of no format that can be imported\. Known are"):
        open_data(tmp_path / "words.txt")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "run_0.csv").write_text("1,2\n")
    for place in (tmp_path / "tables", tmp_path / "tables" / "run_0.csv"):
        with pytest.raises(StoreError, match=r"run_0\.csv' is a table, .* save its numbers with numpy\.save"):
            open_data(place)
    (tmp_path / "half.bin").write_bytes(b"\x89HDF\r\n\x1a\nand then nothing")
    with pytest.raises(StoreError, match=r"cannot be read as HDF5: it is truncated"):
        open_data(tmp_path / "half.bin")
    with pytest.raises(ConfigError, match=r"'memry' is unknown\. Did you mean 'memory'"):
        open_data(path, proposed(memory, path, format="memry"))


def test_a_folder_that_cannot_be_written_is_refused(path, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="Cannot write a store into"):
        import_data(path, tmp_path / "file" / "store")


def test_a_single_trajectory_is_told_to_hold_none_out(tmp_path):
    x, t = np.arange(16) / 16, np.arange(8) * 0.1
    np.savez(tmp_path / "one.npz", u=np.sin(2 * np.pi * (x - t[:, None])), x=x, t=t)
    store = open_data(tmp_path / "one.npz")
    assert any("The only trajectory is for training" in defect for defect in store.card.known_defects)
    with pytest.raises(ConfigError, match=r"no split 'valid'; it holds 1 trajectory in train\..* cut it along time"):
        store.split("valid")
