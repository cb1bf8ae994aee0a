from __future__ import annotations

import pickle
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from hollow import sparse_array
from scifm.data.formats.arrays import Arrays
from scifm.data.formats.mapping import DataMapping
from scifm.data.importing import find_format, import_data, open_data
from scifm.data.inspection import inspect_data
from scifm.errors import ConfigError, DataError, StoreError

COUNT, FRAMES, NY, NX = 6, 4, 10, 12
SHAPE = (COUNT, FRAMES, NY, NX)


def numbers(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def arrays(**changes) -> dict[str, np.ndarray]:
    coordinates = {"t": np.arange(FRAMES) * 0.5, "x": np.arange(NX) / NX, "y": np.linspace(0, 2, NY)}
    return {"u": numbers(), "D": np.arange(COUNT) + 1.0, **coordinates, **changes}


def write_hdf5(path: Path, **changes) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays(**changes).items():
            file["run/" + name if name in "uD" else name] = values
        file.attrs["viscosity"] = 0.25


WRITERS = {
    ".npz": lambda path, **changes: np.savez(path, **arrays(**changes)),
    "-packed.npz": lambda path, **changes: np.savez_compressed(path, **arrays(**changes)),
    ".h5": write_hdf5,
}
MAP = {
    "format": "arrays",
    "fields": {"a": {"array": "a", "axes": ["trajectory", "y", "x"], "role": "input"}},
    "extent": {"x": 1.0, "y": 1.0},
    "boundary": {"x": "periodic", "y": "periodic"},
}


@pytest.fixture(params=WRITERS, ids=lambda ending: ending.strip(".-"))
def file(request, tmp_path) -> Path:
    path = tmp_path / f"data{request.param}"
    WRITERS[request.param](path)
    return path


def told(error: Exception) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def test_coordinates_tell_the_axes(file, tmp_path):
    store = open_data(file)
    assert store.splits == {"train": 4, "valid": 1, "test": 1}
    assert store.grid.num_points == (NY, NX)
    assert store.grid.extent[0] == 2.0
    assert store.card.times == (0.0, 0.5, 1.0, 1.5)
    assert store.signature.coefficients == ("D",)
    copy = import_data(file, tmp_path / "store")
    batch = copy.split("train").chosen([0]).load()
    row = int(batch.coefficients[0, 0]) - 1
    np.testing.assert_array_equal(batch.inputs[:, 0, 0].numpy(), numbers()[row, :-1])


def test_contents_can_be_handed_to_another_process(file):
    contents = pickle.loads(pickle.dumps(Arrays().read(file)))
    name = next(name for name in contents.arrays if name.endswith("u"))
    block = contents.arrays[name][slice(1, 2), slice(0, 2), slice(3, 4), slice(0, NX)]
    np.testing.assert_array_equal(block, numbers()[1:2, 0:2, 3:4])


def test_fortran_order_is_read_right(tmp_path):
    np.save(tmp_path / "u.npy", np.asfortranarray(numbers()))
    array = Arrays().read(tmp_path / "u.npy").arrays["u"]
    np.testing.assert_array_equal(array[slice(1, 3), slice(0, 4), slice(0, 10), slice(2, 5)], numbers()[1:3, :, :, 2:5])


def test_a_number_in_hdf5_is_an_attribute(tmp_path):
    write_hdf5(tmp_path / "a.h5")
    assert Arrays().read(tmp_path / "a.h5").attributes == {"viscosity": 0.25}


@pytest.mark.parametrize("keep", [0, 60, 0.5, -50])
def test_a_truncated_file_is_refused(file, keep):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(StoreError, match="truncated") as caught:
        Arrays().read(file)
    assert str(file) in told(caught.value)


@pytest.mark.parametrize("keep", [0, 20, 200, -4])
def test_a_truncated_npy_is_refused(tmp_path, keep):
    np.save(tmp_path / "u.npy", numbers())
    (tmp_path / "u.npy").write_bytes((tmp_path / "u.npy").read_bytes()[:keep])
    with pytest.raises(StoreError, match="truncated") as caught:
        Arrays().read(tmp_path / "u.npy")
    told(caught.value)


def test_a_file_that_is_something_else_is_refused(file):
    file.write_text("time,value\n1,2\n" * 30)
    with pytest.raises(StoreError, match="of another kind") as caught:
        open_data(file)
    told(caught.value)


def test_a_changed_byte_of_a_packed_array_is_noticed(tmp_path):
    path = tmp_path / "a.npz"
    WRITERS["-packed.npz"](path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("u.npy")
    content[member.header_offset + member.compress_size // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="truncated or damaged") as caught:
        open_data(path).split("train").batch([0])
    told(caught.value)


def test_not_a_number_is_refused_when_it_is_read(file, tmp_path):
    broken = numbers()
    broken[2, 1, 0, 0] = np.nan
    WRITERS[next(ending for ending in WRITERS if file.name == f"data{ending}")](file, u=broken)
    with pytest.raises(DataError, match="'u' holds NaN") as caught:
        import_data(file, tmp_path / "store")
    assert "sample" in told(caught.value)


def test_python_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match=r"'bad' of 'bad\.npy' holds pickled Python objects"):
        Arrays().read(tmp_path / "bad.npy")
    np.savez(tmp_path / "mixed.npz", meta=np.array([{"a": 1}], dtype=object), u=numbers())
    contents = Arrays().read(tmp_path / "mixed.npz")
    assert list(contents.arrays) == ["u"]
    assert "'meta'" in contents.remarks[0]
    assert "pickled" in contents.remarks[0]


def test_a_header_that_lies_is_refused_before_anything_is_allocated(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", u=np.zeros(4))
    header = (
        b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,), }".ljust(117)
    )
    with zipfile.ZipFile(tmp_path / "lies.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("u.npy", header + b"\n" + bytes(32))
    (tmp_path / "lies.npy").write_bytes(header + b"\n" + bytes(32))
    for name in ("lies.npz", "lies.npy"):
        with pytest.raises(StoreError, match="10000000000000"):
            Arrays().read(tmp_path / name)


def test_a_huge_file_is_opened_without_memory(tmp_path):
    with h5py.File(tmp_path / "huge.h5", "w") as file:  # 4 GiB that are there, and that the disk need not hold
        sparse_array(file, "u", (4096, 512, 512))
    np.lib.format.open_memmap(tmp_path / "huge.npy", mode="w+", dtype="f4", shape=(4096, 512, 512))[0, 0, 0] = 1
    tracemalloc.start()
    for name in ("huge.h5", "huge.npy"):
        array = next(iter(Arrays().read(tmp_path / name).arrays.values()))
        assert array[slice(0, 1), slice(0, 2), slice(0, 2)].shape == (1, 2, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_what_was_never_written_is_told_and_much_of_it_is_refused(tmp_path):
    with h5py.File(tmp_path / "few.h5", "w") as file:
        file.create_dataset("u", shape=(10, 16, 16), dtype="f4", chunks=(1, 16, 16))
    assert "never written" in Arrays().read(tmp_path / "few.h5").remarks[0]
    with h5py.File(tmp_path / "many.h5", "w") as file:
        file.create_dataset("u", shape=(10**6, 512, 512), dtype="f4", chunks=(1, 512, 512))
    with pytest.raises(StoreError, match=r"declares the shape \(1000000, 512, 512\), .* and only 0 are stored"):
        Arrays().read(tmp_path / "many.h5")


def test_axes_that_nothing_tells_have_to_be_told(tmp_path):
    np.savez(tmp_path / "a.npz", a=numbers()[:, 0], p=numbers(1)[:, 0])
    with pytest.raises(ConfigError, match="which axis of 'a'") as caught:
        open_data(tmp_path / "a.npz")
    assert "--write-map" in told(caught.value)
    both = {**MAP["fields"], "p": {"array": "p", "axes": ["trajectory", "y", "x"], "role": "output"}}
    store = open_data(tmp_path / "a.npz", DataMapping(**{**MAP, "fields": both}))
    assert store.split("test").batch([0]).inputs.shape == (1, 1, 1, NY, NX)
    wrong = {**both, "a": {**both["a"], "axes": ["y", "trajectory", "x"]}}
    with pytest.raises(ConfigError, match="axis of 'p' has length"):
        open_data(tmp_path / "a.npz", DataMapping(**{**MAP, "fields": wrong}))
    with pytest.raises(ConfigError, match="'q' is unknown"):
        open_data(tmp_path / "a.npz", DataMapping(**{**MAP, "fields": {"q": {**both["a"], "array": "q"}}}))


def test_every_file_of_a_folder_is_a_trajectory(tmp_path):
    for i in range(COUNT):
        rest = {name: values for name, values in arrays().items() if name not in "uD"}
        np.savez(tmp_path / f"run_{i}.npz", u=numbers()[i], D=np.float64(i), **rest)
    store = open_data(tmp_path)
    assert store.splits == {"train": 4, "valid": 1, "test": 1}
    batch = store.split("valid").batch([0])
    np.testing.assert_array_equal(batch.inputs[0, 0, 0].numpy(), numbers()[int(batch.coefficients[0, 0]), 0])
    np.savez(tmp_path / "run_9.npz", u=numbers()[0, :, 1:], D=np.float64(1), **rest)
    with pytest.raises(DataError, match=r"run_9\.npz"):
        open_data(tmp_path)


def test_names_of_npy_files_tell_arrays_trajectories_and_splits(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for i in range(count):
            np.save(tmp_path / f"{split}_u_{i:03d}.npy", numbers()[i, 0])
    contents = Arrays().read(tmp_path)
    assert {part: {k: v.shape for k, v in own.items()} for part, own in contents.parts.items()} == {
        "train": {"u": (3, NY, NX)},
        "test": {"u": (2, NY, NX)},
    }
    np.save(tmp_path / "u_007.npy", numbers()[0, 0])
    with pytest.raises(DataError, match=r"u_007.npy.*no split"):
        Arrays().read(tmp_path)


def test_what_lies_in_another_file_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(64))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"] = numbers()
        file.create_dataset("v", (8,), "f8", external=[(str(tmp_path / "secret"), 0, 64)])
    contents = Arrays().read(tmp_path / "a.h5")
    assert list(contents.arrays) == ["u"]
    assert "other files" in contents.remarks[0]


def test_a_file_that_went_is_not_called_damaged(tmp_path):
    write_hdf5(tmp_path / "a.h5")
    split = open_data(tmp_path / "a.h5").split("train")
    split.close()
    (tmp_path / "a.h5").unlink()
    with pytest.raises(StoreError, match="not there any more"):
        split.batch([0])


def test_it_knows_its_own(tmp_path, file):
    assert find_format(file).name == "arrays"
    (tmp_path / "notes.txt").write_text("hello")
    assert Arrays().sniff(tmp_path / "notes.txt") is None
    with pytest.raises(StoreError, match="no format"):
        find_format(tmp_path / "notes.txt")


def test_a_header_of_numpy_that_breaks_off_is_refused(tmp_path):
    np.save(tmp_path / "u.npy", numbers())
    content = (tmp_path / "u.npy").read_bytes()
    (tmp_path / "u.npy").write_bytes(content.replace(b")", b" ", 1))
    with pytest.raises(StoreError, match=r"u\.npy' cannot be read as a NumPy array"):
        open_data(tmp_path / "u.npy")


def test_a_format_of_another_name_is_refused(tmp_path):
    np.save(tmp_path / "u.npy", numbers())
    mapping = DataMapping(**{**MAP, "format": "nan"})
    for door in (open_data, inspect_data):
        with pytest.raises(ConfigError, match=r"Format: 'nan' is unknown\. Allowed: arrays"):
            door(tmp_path / "u.npy", mapping)


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (np.datetime64("2000-01-01", "h") + 6 * np.arange(FRAMES), 21600),
        ((np.datetime64("2000-01-01", "D") + np.arange(FRAMES)).astype(">M8[ns]"), 86400),
        (np.arange(FRAMES).astype("m8[30s]"), 30),
    ],
    ids=["hours", "nanoseconds", "lengths"],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_dates_of_numpy_are_times(tmp_path, times, seconds, save):
    save(tmp_path / "a.npz", **arrays(t=times))
    card = open_data(tmp_path / "a.npz").card
    assert card.times == tuple(float(seconds * step) for step in range(FRAMES))


def test_a_date_that_is_none_is_no_time(tmp_path):
    times = np.datetime64("2000-01-01", "h") + np.arange(FRAMES)
    times[1] = np.datetime64("NaT")
    np.savez(tmp_path / "a.npz", **arrays(t=times))
    with pytest.raises(DataError, match=r"must be finite and increase.*give time = \{ start"):
        open_data(tmp_path / "a.npz")


def test_complex_numbers_are_named_with_what_to_do(tmp_path):
    np.savez(tmp_path / "a.npz", u=numbers().astype(complex), x=np.arange(NX) / NX)
    with pytest.raises(
        StoreError, match=r"'u' of 'a\.npz' holds complex128.*real and its imaginary part as two arrays"
    ):
        open_data(tmp_path / "a.npz")


def test_an_empty_array_is_left_out(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays(log=np.zeros((0, 3))))
    store = open_data(tmp_path / "a.npz")
    assert store.signature.outputs == ("u",)
    assert "'log' of 'a.npz' is empty, of shape (0, 3); it is left out." in store.card.known_defects
