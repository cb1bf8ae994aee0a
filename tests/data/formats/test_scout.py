from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from scifm.data.formats import scout
from scifm.data.formats.hdf5 import open_hdf5
from scifm.data.importing import open_data
from scifm.data.inspection import inspect_data
from scifm.errors import StoreError


@pytest.fixture
def own_scout(monkeypatch):
    own = scout._Scout()
    monkeypatch.setattr(scout, "_scout", own)
    yield own
    own.dismiss()


@pytest.fixture
def sound(tmp_path) -> Path:
    path = tmp_path / "sound.h5"
    with h5py.File(path, "w") as file:
        file.attrs["words"] = ["some", "texts"]
        file["text"] = "a text"
        file["group/u"] = [1.0, 2.0]
        file["again"] = file["group"]  # a second way to the same
        file["group/loop"] = file["/"]
    return path


@pytest.fixture
def endless(sound) -> Path:
    """A file whose heap says that an object in it has no length: HDF5 looks for the next one for ever."""
    content = bytearray(sound.read_bytes())
    content[content.index(b"GCOL") + 24] = 0
    path = sound.with_name("endless.h5")
    path.write_bytes(content)
    return path


def test_one_scout_walks_sound_files_each_once(own_scout, sound, monkeypatch):
    scout.require_sound(sound)
    first = own_scout.process.pid
    other = sound.with_name("other.h5")
    other.write_bytes(sound.read_bytes())
    scout.require_sound(other)
    assert own_scout.process.pid == first
    monkeypatch.setattr(own_scout, "_ask", lambda name: "asked again")
    scout.require_sound(sound)
    other.write_bytes(sound.read_bytes() + b" ")
    with pytest.raises(StoreError, match="asked again"):
        scout.require_sound(other)


@pytest.mark.parametrize("door", [open_hdf5, open_data, inspect_data])
def test_a_file_that_hangs_the_library_is_refused_at_every_door(own_scout, endless, sound, door, monkeypatch):
    monkeypatch.setattr(scout, "LONGEST", 1.0)
    with pytest.raises(StoreError, match=r"endless.h5' cannot be read as HDF5.*does not come to an end"):
        door(endless)
    scout.require_sound(sound)  # by a new one


def test_a_scout_that_is_killed_by_somebody_else_is_no_fault_of_the_file(own_scout, sound):
    own_scout._running()
    os.kill(own_scout.process.pid, signal.SIGKILL)
    own_scout.process.wait()
    scout.require_sound(sound)


def test_a_file_that_ends_the_process_is_refused(own_scout, sound, monkeypatch):
    told = iter([b""])
    monkeypatch.setattr(own_scout, "_answer", lambda name: next(told))
    with pytest.raises(StoreError, match="reading it ends the process"):
        scout.require_sound(sound)


def test_memory_is_told_and_a_worn_scout_is_replaced(own_scout, sound, monkeypatch):
    own_scout._running()
    worn = own_scout.process.pid
    monkeypatch.setattr(own_scout, "_answer", lambda name: b"%d %d\n" % (2**20, 2**26))
    scout.require_sound(sound)
    monkeypatch.undo()
    monkeypatch.setattr(scout, "_scout", own_scout)
    assert own_scout.process is None
    monkeypatch.setattr(own_scout, "_answer", lambda name: b"%d %d\n" % (2**27, 2**27))
    sound.write_bytes(sound.read_bytes() + b" ")
    with pytest.raises(StoreError, match="takes 128 MiB"):
        scout.require_sound(sound)
    assert worn != own_scout._running().pid


def test_what_is_no_hdf5_passes_for_others_to_tell(own_scout, tmp_path):
    (tmp_path / "words.h5").write_text("no such file")
    scout.require_sound(tmp_path / "words.h5")
    with pytest.raises(FileNotFoundError):
        scout.require_sound(tmp_path / "missing.h5")


def test_where_no_process_starts_that_is_said(own_scout, sound, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(StoreError, match="No process could be started"):
        scout.require_sound(sound)


def test_it_ends_with_its_process(sound):
    code = f"from scifm.data.formats import scout; from pathlib import Path; scout.require_sound(Path({str(sound)!r}))"
    code += "; print(scout._scout.process.pid)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not Path(f"/proc/{int(told.stdout)}").exists()


def test_it_ends_though_it_hangs_and_its_process_is_gone(endless):
    """The process that asked is killed while it waits; an alarm ends the scout."""
    code = f"""
import os, signal, threading
from pathlib import Path
from scifm.data.formats import scout
scout.LONGEST = 1.0
print(scout._scout._running().pid, flush=True)
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
scout.require_sound(Path({str(endless)!r}))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert told.returncode == -signal.SIGKILL
    process = Path(f"/proc/{int(told.stdout)}")
    assert process.exists(), "it is still in the library"
    deadline = time.monotonic() + 20
    while process.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
