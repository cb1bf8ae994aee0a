from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from scifm.data.formats import probe
from scifm.data.formats.hdf5 import open_hdf5
from scifm.data.importing import open_data
from scifm.data.inspection import inspect_data
from scifm.errors import StoreError


@pytest.fixture
def own_probe(monkeypatch):
    own = probe._Probe()
    monkeypatch.setattr(probe, "_probe", own)
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


def test_one_probe_walks_sound_files_each_once(own_probe, sound, monkeypatch):
    probe.require_sound(sound)
    first = own_probe.process.pid
    other = sound.with_name("other.h5")
    other.write_bytes(sound.read_bytes())
    probe.require_sound(other)
    assert own_probe.process.pid == first
    monkeypatch.setattr(own_probe, "_ask", lambda name: "asked again")
    probe.require_sound(sound)
    other.write_bytes(sound.read_bytes() + b" ")
    with pytest.raises(StoreError, match="asked again"):
        probe.require_sound(other)


@pytest.mark.parametrize("door", [open_hdf5, open_data, inspect_data])
def test_a_file_that_hangs_the_library_is_refused_at_every_door(own_probe, endless, sound, door, monkeypatch):
    monkeypatch.setattr(probe, "LONGEST", 1.0)
    with pytest.raises(StoreError, match=r"endless.h5' cannot be read as HDF5.*does not come to an end"):
        door(endless)
    probe.require_sound(sound)  # by a new one


def test_a_probe_that_is_killed_by_somebody_else_is_no_fault_of_the_file(own_probe, sound):
    own_probe._running()
    os.kill(own_probe.process.pid, signal.SIGKILL)
    own_probe.process.wait()
    probe.require_sound(sound)


def test_a_file_that_ends_the_process_is_refused(own_probe, sound, monkeypatch):
    told = iter([b""])
    monkeypatch.setattr(own_probe, "_answer", lambda name: next(told))
    with pytest.raises(StoreError, match="reading it ends the process"):
        probe.require_sound(sound)


def test_memory_is_told_and_a_worn_probe_is_replaced(own_probe, sound, monkeypatch):
    own_probe._running()
    worn = own_probe.process.pid
    monkeypatch.setattr(own_probe, "_answer", lambda name: b"%d %d\n" % (2**20, 2**26))
    probe.require_sound(sound)
    monkeypatch.undo()
    monkeypatch.setattr(probe, "_probe", own_probe)
    assert own_probe.process is None
    monkeypatch.setattr(own_probe, "_answer", lambda name: b"%d %d\n" % (2**27, 2**27))
    sound.write_bytes(sound.read_bytes() + b" ")
    with pytest.raises(StoreError, match="takes 128 MiB"):
        probe.require_sound(sound)
    assert worn != own_probe._running().pid


def test_what_is_no_hdf5_passes_for_others_to_tell(own_probe, tmp_path):
    (tmp_path / "words.h5").write_text("no such file")
    probe.require_sound(tmp_path / "words.h5")
    with pytest.raises(FileNotFoundError):
        probe.require_sound(tmp_path / "missing.h5")


def test_where_no_process_starts_that_is_said(own_probe, sound, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(StoreError, match="No process could be started"):
        probe.require_sound(sound)


def test_it_ends_with_its_process(sound):
    code = f"from scifm.data.formats import probe; from pathlib import Path; probe.require_sound(Path({str(sound)!r}))"
    code += "; print(probe._probe.process.pid)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not Path(f"/proc/{int(told.stdout)}").exists()


def test_it_ends_though_it_hangs_and_its_process_is_gone(endless):
    """The process that asked is killed while it waits; an alarm ends the probe."""
    code = f"""
import os, signal, threading
from pathlib import Path
from scifm.data.formats import probe
probe.LONGEST = 1.0
print(probe._probe._running().pid, flush=True)
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
probe.require_sound(Path({str(endless)!r}))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert told.returncode == -signal.SIGKILL
    process = Path(f"/proc/{int(told.stdout)}")
    assert process.exists(), "it is still in the library"
    deadline = time.monotonic() + 20
    while process.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
