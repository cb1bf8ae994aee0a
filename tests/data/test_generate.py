from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
from collections import namedtuple
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import h5py
import pytest
import torch

import tiny
from scifm.data.generate import generate
from scifm.data.store import Store
from scifm.errors import ConfigError, DataError, SignatureError, StoreError
from scifm.fields.grid import Grid
from scifm.systems.burgers import Burgers
from scifm.systems.poisson import Poisson


class Stopped(BaseException):
    """What a Ctrl-C looks like from inside."""


def stop_after(num_samples):
    def progress(done, total):
        if done >= num_samples:
            raise Stopped

    return progress


# --- what is made -----------------------------------------------------------------------------------------------------


def test_a_number_means_training_samples_and_an_eighth_held_out(tmp_path, toy):
    store = toy.make(tmp_path / "store", num_samples=17, chunk_size=100)
    assert store.splits == {"train": 17, "valid": 2, "test": 2}
    assert toy.make(tmp_path / "few", num_samples=3).splits == {"train": 3, "valid": 1, "test": 1}


def test_num_points_means_the_periodic_unit_box(tmp_path, toy):
    assert toy.make(tmp_path / "store", grid=None, num_points=5).grid == Grid.square(5)


def test_progress_counts_samples(tmp_path, toy):
    calls = []
    toy.make(tmp_path / "store", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 19), (4, 19), (8, 19), (11, 19), (14, 19), (18, 19), (19, 19)]


def test_content_depends_on_the_seed_and_not_on_the_place(tmp_path, toy, toy_store):
    again = toy.make(tmp_path / "toy")
    assert toy.content(again.path) == toy.content(toy_store.path)
    other = toy.make(tmp_path / "other" / "toy", seed=8)
    assert not torch.equal(other.split("train").load().inputs, again.split("train").load().inputs)


def test_a_larger_store_begins_with_the_same_samples(tmp_path, toy, toy_store):
    larger = toy.make(tmp_path / "larger", num_samples={"train": 20})
    assert toy.same(larger.split("train").batch(slice(8)), toy_store.split("train").batch(slice(8)))


@pytest.mark.parametrize("name", sorted(tiny.STEADY))
def test_every_system_makes_a_store_that_solves_its_equation(tmp_path, name):
    system = tiny.STEADY[name]()
    settings = {"num_samples": {"train": 6, "test": 2}, "num_points": 16, "dtype": torch.float64, "chunk_size": 4}
    store = generate(system, path=tmp_path / name, **settings)
    batch = store.split("train").load()
    assert batch.systems == (name,) * 6
    assert system.residual(batch).abs().max() < 1e-9 * batch.inputs.abs().max()
    assert store.card.generation.system == system.to_dict()
    assert store.homogeneities == system.homogeneities
    assert store.card.generation.num_drawn >= 8 + store.card.generation.num_rejected
    assert generate(system, path=tmp_path / name, **settings).card == store.card


# --- interruption -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_done", [0, 4, 11, 18, 19])
def test_an_interrupted_store_is_finished_to_the_same_bytes(tmp_path, toy, toy_store, num_done):
    path = tmp_path / "toy"
    with pytest.raises(Stopped):
        toy.make(path, progress=stop_after(num_done))
    with pytest.raises(StoreError, match="not a finished store"):
        Store.open(path)
    kept = {name: (path / name).stat().st_mtime_ns for name in toy.content(path, "data/*/*.hdf5")}
    assert len(kept) == {0: 0, 4: 1, 11: 3, 18: 5, 19: 6}[num_done]
    (path / "data" / "train").mkdir(parents=True, exist_ok=True)
    (path / "data/train/.chunk-00002.hdf5.123.part").write_bytes(b"half a file")  # what kill -9 leaves
    calls = []
    store = toy.make(path, progress=lambda done, total: calls.append(done))
    assert toy.content(path) == toy.content(toy_store.path)
    assert calls[0] == num_done
    assert store.card.generation.num_generated == 19 - num_done
    assert (store.card.generation.num_drawn, store.card.generation.num_rejected) == (22, 3)
    assert store.statistics == toy_store.statistics
    for name, time in kept.items():
        assert (path / name).stat().st_mtime_ns == time, "a finished file was made again"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_threads_make_the_same_store(tmp_path, toy, toy_store):
    made = toy.make(tmp_path / "toy", make_executor=partial(ThreadPoolExecutor, 2))
    assert toy.content(made.path) == toy.content(toy_store.path)


def test_processes_make_the_same_store(tmp_path, toy):
    settings = {"num_samples": 6, "num_points": 8, "chunk_size": 2, "seed": 3}
    alone = generate(Poisson(), path=tmp_path / "alone" / "same", **settings)
    # As a study's pool, whose workers load the whole house: spawned, one thread each.
    make = partial(ProcessPoolExecutor, 2, get_context("spawn"), torch.set_num_threads, (1,))
    together = generate(Poisson(), path=tmp_path / "together" / "same", make_executor=make, **settings)
    assert toy.content(alone.path) == toy.content(together.path)


class Dying(ThreadPoolExecutor):
    """Its second worker dies."""

    def submit(self, fn, /, *args, **kwargs):
        if args[0].number == 1:
            future = Future()
            future.set_exception(BrokenExecutor())
            return future
        return super().submit(fn, *args, **kwargs)


def test_a_process_that_dies_is_told_and_nothing_is_lost(tmp_path, toy, toy_store):
    with pytest.raises(StoreError, match=r"died; is there enough memory for chunks of 4"):
        toy.make(tmp_path / "toy", make_executor=Dying)
    assert list((tmp_path / "toy" / "data").glob("*/chunk-00000.hdf5"))
    assert toy.content(toy.make(tmp_path / "toy").path) == toy.content(toy_store.path)


def test_a_killed_process_loses_nothing_that_was_finished(tmp_path, toy, toy_store):
    path = tmp_path / "toy"
    child = os.fork()
    if child == 0:
        try:
            toy.make(path, progress=lambda done, total: done >= 8 and os.kill(os.getpid(), signal.SIGKILL))
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len(toy.content(path, "data/*/*.hdf5")) == 2
    toy.make(path)
    assert toy.content(path) == toy.content(toy_store.path)


def test_a_finished_store_is_returned_as_it_is(copied, toy, toy_store):
    before = (copied / "card.json").read_bytes()
    store = toy.make(copied, progress=lambda done, total: pytest.fail("nothing is to do"))
    assert (copied / "card.json").read_bytes() == before
    assert store.card == toy_store.card


@pytest.mark.parametrize(
    "name", ["data/train/chunk-00001.hdf5", "data/test/chunk-00001.hdf5", "stats.yaml", "toy.yaml"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_store_is_repaired(copied, toy, toy_store, name, damage):
    if damage == "missing":
        (copied / name).unlink()
    else:
        (copied / name).write_bytes((copied / name).read_bytes()[:-7])
    toy.make(copied).verify()
    assert toy.content(copied) == toy.content(toy_store.path)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": 8}, "seed is 7 there and 8 here"),
        ({"grid": Grid.square(6)}, "grid is"),
        ({"num_samples": 11}, "splits is"),
        ({"dtype": torch.float64}, "dtype is 'float32' there and 'float64' here"),
        ({"chunk_size": 5}, "chunk_size is 4 there and 5 here"),
        ({"system": (5, 10)}, "system is"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_store_is_not_overwritten(copied, toy, toy_store, changes, key, finished):
    if not finished:
        (copied / "card.json").unlink()
    if "system" in changes:
        changes = {"system": toy.System().where(stiffness=changes["system"])}
    with pytest.raises(StoreError, match=f"other settings: .*{key}.*Nothing was overwritten"):
        toy.make(copied, **changes)
    assert toy.content(copied) == toy.content(toy_store.path)


def test_foreign_data_is_not_overwritten(tmp_path, toy):
    (tmp_path / "data/train").mkdir(parents=True)
    foreign = tmp_path / "data/train/chunk-00000.hdf5"
    with h5py.File(foreign, "w") as file:
        file["numbers"] = [1, 2]
    before = foreign.read_bytes()
    with pytest.raises(StoreError, match="not made by SciFM"):
        toy.make(tmp_path)
    foreign.rename(foreign.with_name("theirs.hdf5"))
    with pytest.raises(StoreError, match=r"theirs\.hdf5' is not part"):
        toy.make(tmp_path)
    assert foreign.with_name("theirs.hdf5").read_bytes() == before
    assert len(list(tmp_path.rglob("*.hdf5"))) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_samples": 0}, "at least 1 training sample"),
        ({"num_samples": {"test": 4}}, "at least 1 training sample"),
        ({"num_samples": {"train": 4, "test": -1}}, "no negative"),
        ({"num_samples": {"train": 4, "validation": 1}}, "Did you mean 'valid'"),
        ({"chunk_size": 0}, "chunk_size must be at least 1"),
        ({"dtype": torch.float16}, "float32 or torch.float64"),
        ({"grid": None}, "either grid= or num_points="),
        ({"num_points": 8}, "either grid= or num_points="),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_arguments(tmp_path, toy, changes, message):
    with pytest.raises(ConfigError, match=message):
        toy.make(tmp_path / "store", **changes)


def test_a_system_that_evolves_must_say_how(tmp_path, toy):
    with pytest.raises(SignatureError, match=r"subclass of scifm\.systems\.evolving\.Evolving"):
        toy.make(tmp_path / "store", toy.Evolving())


def test_a_system_that_makes_nan_is_caught_before_anything_is_stored(tmp_path, toy):
    with pytest.raises(DataError, match="'solution' holds NaN"):
        toy.make(tmp_path / "store", toy.System(broken_sample=1))
    assert not list((tmp_path / "store").rglob("*.hdf5"))


def test_a_folder_in_use(tmp_path, toy):
    (tmp_path / "store").mkdir()
    with (tmp_path / "store/LOCK").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another process"):
            toy.make(tmp_path / "store")
    toy.make(tmp_path / "store")


def test_a_folder_that_cannot_be_written(tmp_path, toy):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="Cannot write a store into"):
        toy.make(tmp_path / "file" / "store")
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        toy.make(tmp_path / "closed" / "store")


# --- full disks -------------------------------------------------------------------------------------------------------


def test_too_small_a_disk_is_noticed_before_starting(tmp_path, toy, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(StoreError, match=r"needs 1 MB more and 0 MB are free.*Nothing was started"):
        toy.make(tmp_path / "store")
    assert not list((tmp_path / "store").rglob("*.hdf5"))


def expect_refusal_then_finish(path: Path, toy, toy_store) -> int:
    """Generate into a disk that fills up; check what is left."""
    with pytest.raises(StoreError, match=r"Cannot write.*No space left.*again: what is finished is kept"):
        toy.make(path)
    assert not list(path.rglob("*.part")), "half a file was left"
    finished = toy.content(path, "data/*/*.hdf5")
    expected = toy.content(toy_store.path)
    assert all(expected[name] == content for name, content in finished.items())
    return len(finished)


@pytest.mark.parametrize("num_written", [0, 2, 6, 7, 8])
def test_a_disk_that_fills_up_keeps_what_is_finished(tmp_path, toy, toy_store, monkeypatch, num_written):
    """Six data files, statistics, description, card: each may be the one that does not fit."""
    path, calls, sync = tmp_path / "toy", [], os.fsync

    def fsync(handle):
        calls.append(handle)
        if len(calls) > num_written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr("os.fsync", fsync)
    assert expect_refusal_then_finish(path, toy, toy_store) == min(num_written, 6)
    monkeypatch.undo()
    toy.make(path)
    assert toy.content(path) == toy.content(toy_store.path)


def test_a_disk_that_fills_up_among_trajectories_keeps_what_is_finished(tmp_path, monkeypatch):
    def make(path: Path) -> Store:
        return generate(Burgers(num_frames=3), num_samples=9, num_points=16, chunk_size=3, path=path)

    calls, sync = [], os.fsync

    def fsync(handle):
        calls.append(handle)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fsync)
        with pytest.raises(StoreError, match=r"Cannot write.*No space left.*again: what is finished is kept"):
            make(tmp_path / "burgers")
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "burgers" / "data").rglob("*.hdf5")}
    assert len(kept) == 2
    assert not list((tmp_path / "burgers").rglob("*.part"))
    whole, never = make(tmp_path / "burgers"), make(tmp_path / "never" / "burgers")
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, "what was stored is not made again"
    for name in never.splits:
        assert torch.equal(whole.split(name).load().require_targets(), never.split(name).load().require_targets())


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="needs the right to mount")
def test_a_disk_that_is_really_full(tmp_path, toy, toy_store, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "scifm-test", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(StoreError, match="Nothing was started"):
            toy.make(disk / "toy")
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 0, 10**9))  # another program is faster
        num_finished = expect_refusal_then_finish(disk / "toy", toy, toy_store)
        assert 1 <= num_finished <= 3
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True, capture_output=True)
        toy.make(disk / "toy")
        assert toy.content(disk / "toy") == toy.content(toy_store.path)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
