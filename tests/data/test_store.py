from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scifm.data.store import Store, require_signature
from scifm.errors import ConfigError, DataError, SciFMError, SignatureError, StoreError
from scifm.fields.batch import Batch

# --- reading ----------------------------------------------------------------------------------------------------------


def test_store_tells_what_it_holds(toy_store, toy):
    assert toy_store.name == "toy"
    assert toy_store.splits == toy.counts
    assert toy_store.num_samples == 19
    assert toy_store.signature == toy.System.signature
    assert toy_store.grid == toy.grid
    assert toy_store.homogeneities == toy.System.homogeneities
    assert toy_store.statistics.num_samples == 11


def test_whole_split_is_what_the_system_made(toy_store, toy):
    batch = toy_store.split("train").load()
    assert batch.num_samples == 11
    assert batch.systems == ("toy",) * 11
    assert batch.inputs.dtype == torch.float32
    assert toy.System().residual(batch).abs().max() < 1e-6
    assert len(torch.unique(batch.coefficient("stiffness"))) == 11


def test_splits_share_no_sample(toy_store):
    firsts = [toy_store.split(name).load().inputs[:, 0, 0, 0, 0] for name in toy_store.splits]
    assert len(torch.unique(torch.cat(firsts))) == 19


@pytest.fixture(scope="module")
def train(toy_store):
    """A split, opened once, and all of it in memory."""
    split = toy_store.split("train")
    yield split, split.load()
    split.close()


@given(index=st.lists(st.integers(-11, 10), max_size=20))
@example(index=[])
@example(index=[10, 0, 10, 3, 4, -1])
@example(index=list(range(3, 9)))
def test_any_index_gives_the_samples_in_that_order(train, toy, index):
    split, whole = train
    expected = whole.select([i % 11 for i in index])
    assert toy.same(split.batch(index), expected)
    assert toy.same(split.batch(torch.tensor(index, dtype=torch.long)), expected)


@given(index=st.slices(11))
def test_any_slice_gives_what_it_gives_of_a_list(train, toy, index):
    split, whole = train
    assert toy.same(split.batch(index), whole.select(list(range(11))[index]))


def test_batches_go_through_everything_once(toy_store, toy):
    split = toy_store.split("train")
    parts = list(split.batches(5))
    assert [part.num_samples for part in parts] == [5, 5, 1]
    assert toy.same(Batch.concatenate(parts), split.load())
    with pytest.raises(ConfigError, match="at least 1"):
        next(split.batches(0))


def test_split_is_a_plain_dataset(toy_store, toy):
    split = toy_store.split("valid")
    assert len(split) == 3
    assert toy.same(Batch.concatenate(split), split.load())
    assert toy.same(split[-1], split.batch([2]))
    with pytest.raises(IndexError):
        split[3]
    loader = torch.utils.data.DataLoader(split, batch_size=2, collate_fn=Batch.concatenate)
    assert toy.same(Batch.concatenate(loader), split.load())


def test_worker_processes_read_what_we_read(toy_store, toy):
    split = toy_store.split("train")
    here = split.load()  # files are open now, and must not be shared
    loader = torch.utils.data.DataLoader(
        split, batch_size=3, num_workers=2, collate_fn=Batch.concatenate, multiprocessing_context="fork"
    )
    assert toy.same(Batch.concatenate(loader), here)
    assert toy.same(pickle.loads(pickle.dumps(split)).load(), here)


def test_closing_leaves_no_file_open(toy, tmp_path):
    store = toy.make(tmp_path / "store")  # its own: files that another test left to the garbage collector count too

    def num_open():
        places = (os.path.join("/proc/self/fd", n) for n in os.listdir("/proc/self/fd"))
        return sum(os.path.realpath(place).startswith(str(store.path)) for place in places)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc")
    split = store.split("train")
    before = num_open()
    split.load()
    assert num_open() == before + 3
    split.close()
    assert num_open() == before
    assert split.load().num_samples == 11


def test_few_files_are_open_at_a_time(toy_store, monkeypatch, toy):
    monkeypatch.setattr("scifm.data.well._MOST_OPEN_FILES", 1)
    split = toy_store.split("train")
    assert toy.same(split.batch([10, 0, 5]), split.load().select([10, 0, 5]))
    assert len(split.reader.readers[0]._files._files) == 1


def test_float64_stays_float64(tmp_path, toy):
    store = toy.make(tmp_path / "store", dtype=torch.float64)
    batch = store.split("train").load()
    assert batch.inputs.dtype == batch.coefficients.dtype == batch.require_targets().dtype == torch.float64
    assert toy.System().residual(batch).abs().max() < 1e-15


# --- what a user can get wrong ----------------------------------------------------------------------------------------


def test_unknown_split_names_the_nearest(toy_store):
    with pytest.raises(ConfigError, match="Did you mean 'valid'"):
        toy_store.split("validation")


@pytest.mark.parametrize("index", [[11], [-12], [0.5], [[0]], [True]])
def test_wrong_index_is_refused(toy_store, index):
    with pytest.raises(DataError, match="Samples"):
        toy_store.split("train").batch(index)


def test_no_folder(tmp_path):
    with pytest.raises(StoreError, match="no such folder"):
        Store.open(tmp_path / "nowhere")


def test_folder_without_card(tmp_path):
    with pytest.raises(StoreError, match=r"holds no card\.json"):
        Store.open(tmp_path)


def test_foreign_folder_of_hdf5_files(tmp_path):
    (tmp_path / "data/train").mkdir(parents=True)
    with h5py.File(tmp_path / "data/train/foreign.hdf5", "w") as file:
        file["numbers"] = [1, 2]
    with pytest.raises(StoreError, match=r"holds no card\.json"):
        Store.open(tmp_path)


def test_missing_file_is_named(copied):
    (copied / "data/valid/chunk-00000.hdf5").unlink()
    with pytest.raises(StoreError, match=r"lacks its file 'data/valid/chunk-00000\.hdf5'"):
        Store.open(copied)


def names_in(folder):
    return sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file() and f.name != "LOCK")


def message_of(action) -> str | None:
    """Return what the error says to the user, or None if there was none; any other exception is our defect."""
    try:
        action()
    except SciFMError as error:
        return str(error)
    return None


@settings(max_examples=150)
@given(place=st.tuples(st.integers(0, 8), st.floats(0, 1, exclude_max=True)))
def test_a_file_cut_at_any_byte_is_a_clear_error_or_harmless(toy_store, tmp_path_factory, toy, place):
    """Only the newline that ends the card can go unnoticed, and it carries nothing."""
    which, where = place
    name = names_in(toy_store.path)[which]
    folder = tmp_path_factory.mktemp("cut") / "toy"
    shutil.copytree(toy_store.path, folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(where * len(content))])
    problem = message_of(lambda: Store.open(folder))
    if problem is None:
        assert name == "card.json"
        assert Store.open(folder).card == toy_store.card
    else:
        assert str(folder) in problem
        assert "generate" in problem
    shutil.rmtree(folder)


@settings(max_examples=100)
@given(seed=st.integers(0, 10**6))
def test_a_truncated_file_that_the_card_agrees_with_is_still_found(toy_store, tmp_path_factory, toy, seed):
    """A store copied by hand, card adapted: reading itself must notice."""
    draw = random.Random(seed)
    folder = tmp_path_factory.mktemp("cut") / "toy"
    shutil.copytree(toy_store.path, folder)
    file = folder / "data/train/chunk-00001.hdf5"
    file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])
    card = json.loads((folder / "card.json").read_text())
    card["files"]["data/train/chunk-00001.hdf5"]["num_bytes"] = file.stat().st_size
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(StoreError, match=r"chunk-00001\.hdf5' is truncated"):
        Store.open(folder).split("train").load()
    shutil.rmtree(folder)


@settings(max_examples=150)
@given(seed=st.integers(0, 10**6))
def test_a_changed_byte_never_ends_in_a_traceback(toy_store, tmp_path_factory, toy, seed):
    draw = random.Random(seed)
    folder = tmp_path_factory.mktemp("flip") / "toy"
    shutil.copytree(toy_store.path, folder)
    file = folder / "data/train/chunk-00001.hdf5"
    content = bytearray(file.read_bytes())
    place = draw.randrange(len(content))
    content[place] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    store = Store.open(folder)
    with pytest.raises(StoreError, match=r"content of data/train/chunk-00001\.hdf5"):
        store.verify()
    assert "chunk-00001" in (message_of(lambda: store.split("train").load()) or "chunk-00001")
    shutil.rmtree(folder)


def test_damage_inside_a_field_is_found_by_its_checksum(copied):
    file = copied / "data/train/chunk-00001.hdf5"
    with h5py.File(file) as handle:
        place = handle["t0_fields/solution"].id.get_chunk_info(2).byte_offset
    content = bytearray(file.read_bytes())
    content[place + 5] ^= 1
    file.write_bytes(content)
    split = Store.open(copied).split("train")
    with pytest.raises(StoreError, match="chunk-00001"):
        split.load()
    assert split.batch([0, 10]).num_samples == 2  # what is sound can still be read


def test_a_good_store_verifies(toy_store):
    toy_store.verify()


@pytest.mark.parametrize(
    ("name", "group"), [("solution", "t0_fields"), ("forcing", "t0_fields"), ("offset", "scalars")]
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_in_a_store_names_file_field_and_sample(copied, name, group, value):
    with h5py.File(copied / "data/train/chunk-00001.hdf5", "r+") as file:
        place = (2, 1) if name == "solution" else 2
        file[group][name][place] = value
    split = Store.open(copied).split("train")
    with pytest.raises(DataError, match=rf"'{name}' holds NaN or infinity in sample 2 of .*chunk-00001\.hdf5'"):
        split.batch([6])
    assert split.batch([5, 7]).num_samples == 2


def test_an_exchanged_file_of_the_same_size_is_found(copied):
    shutil.copy(copied / "data/train/chunk-00000.hdf5", copied / "data/train/chunk-00001.hdf5")
    with pytest.raises(StoreError, match="content of data/train/chunk-00001"):
        Store.open(copied).verify()


def test_a_foreign_file_of_the_same_size_is_found(copied):
    file = copied / "data/train/chunk-00001.hdf5"
    size = file.stat().st_size
    with h5py.File(file, "w") as handle:
        handle["numbers"] = [1, 2]
    file.write_bytes(file.read_bytes().ljust(size, b"\0"))
    with pytest.raises(StoreError, match="chunk-00001"):
        Store.open(copied).split("train").load()


@pytest.mark.parametrize("text", ["[]", "{}", '{"name": "toy"}', "nonsense", ""])
def test_a_card_that_is_none(copied, text):
    (copied / "card.json").write_text(text)
    with pytest.raises(StoreError, match="not a card"):
        Store.open(copied)


# --- signatures -------------------------------------------------------------------------------------------------------


def test_a_fitting_signature_passes(toy_store):
    require_signature(toy_store.signature, toy_store.signature)
    require_signature(toy_store.signature, replace(toy_store.signature, coefficients=("offset",)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coefficients": ("stiffness", "wavenumber")}, "missing are coefficient 'wavenumber'"),
        ({"inputs": ("forcing", "mask"), "outputs": ("pressure",)}, "input 'mask', output 'pressure'"),
        ({"inputs": ("offset",), "coefficients": ()}, "input 'offset'"),  # there, but in another role
        ({"evolves": True}, "evolves = True"),
        ({"num_spatial_dims": 3}, "num_spatial_dims = 3"),
    ],
)
def test_what_is_missing_is_listed(toy_store, changes, message):
    with pytest.raises(SignatureError, match=message):
        require_signature(toy_store.signature, replace(toy_store.signature, **changes))
