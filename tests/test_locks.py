from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from scifm import locks
from scifm.errors import RunError
from scifm.locks import Owner, exclusive, locks_reach_other_machines

HERE = socket.gethostname()


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left_by(folder: Path, process: int, host: str = HERE, since: str | None = None) -> None:
    owner = Owner(process, host, since or time.strftime("%Y-%m-%d %H:%M:%S"))
    (folder / "LOCK").write_text(f"{owner}\n")


def no_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.fixture(params=["shared", "local", "none"])
def kind(request, monkeypatch) -> str:
    """A file system whose locks are seen everywhere, on this machine only, or do not exist."""
    if request.param == "local":
        monkeypatch.setattr(locks, "locks_reach_other_machines", lambda path: False)
    if request.param == "none":
        monkeypatch.setattr(fcntl, "flock", no_locks)
    return request.param


def test_a_name_is_written_and_wiped(tmp_path, kind):
    with exclusive(tmp_path):
        owner = Owner.read((tmp_path / "LOCK").read_text())
        assert owner is not None
        assert (owner.process, owner.host, owner.is_alive) == (os.getpid(), HERE, True)
    assert (tmp_path / "LOCK").read_text() == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with exclusive(tmp_path):
            pass


def test_a_dead_owner_of_this_machine_is_told_and_replaced(tmp_path, kind):
    dead = dead_process()
    left_by(tmp_path, dead)
    with pytest.warns(UserWarning, match=f"left by process {dead} on .*killed or crashed"), exclusive(tmp_path):
        assert f"process {os.getpid()}" in (tmp_path / "LOCK").read_text()


def test_a_number_given_to_another_process_is_no_owner(tmp_path, kind):
    left_by(tmp_path, os.getppid(), since="2001-01-01 00:00:00")
    with pytest.warns(UserWarning, match="left by"), exclusive(tmp_path):
        pass


def test_a_live_owner_is_believed_where_locks_do_not_exist(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    left_by(tmp_path, os.getppid())
    with pytest.raises(RunError, match=rf"in use by another process \(process {os.getppid()} on"), exclusive(tmp_path):
        raise AssertionError("not reached")


def test_an_owner_on_another_machine(tmp_path, kind):
    """Where locks reach other machines, having the lock proves that the other is gone; elsewhere a person must say."""
    left_by(tmp_path, 123, host="node-7")
    if kind == "shared":
        with pytest.warns(UserWarning, match="left by process 123 on node-7"), exclusive(tmp_path):
            return
    with pytest.raises(RunError, match=r"names process 123 on node-7 .*cannot be seen from here.*delete .*LOCK"):
        exclusive(tmp_path).__enter__()
    assert "node-7" in (tmp_path / "LOCK").read_text(), "who is refused leaves no trace"
    (tmp_path / "LOCK").unlink()
    with exclusive(tmp_path):
        pass


def test_a_lock_held_by_a_child_of_the_dead_owner_is_told(tmp_path):
    left_by(tmp_path, dead_process())
    with (tmp_path / "LOCK").open("a+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(RunError, match=r"That process is gone, but one it started .*fuser"):
            exclusive(tmp_path).__enter__()


@pytest.mark.parametrize(
    "text", ["", "\n", "nobody", "process x on y since z", "process 1 on h since 2026-01-01", "\0" * 9]
)
def test_what_names_nobody_names_nobody(text):
    assert Owner.read(text) is None


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("ext4", "rw,relatime", True),
        ("nfs4", "rw,vers=4.2,local_lock=none", True),
        ("nfs", "rw,vers=3,local_lock=all", False),
        ("nfs", "rw,nolock,vers=3", False),
        ("lustre", "rw,flock", True),
        ("lustre", "rw,localflock", False),
    ],
)
def test_mounts_say_how_far_locks_reach(monkeypatch, kind, options, expected):
    mounts = [("/", "ext4", "rw"), ("/data", kind, options), ("/database", "nfs", "rw,nolock")]
    table = [SimpleNamespace(mountpoint=place, fstype=form, opts=told) for place, form, told in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: table)
    assert locks_reach_other_machines(Path("/data/runs/a")) is expected
    assert locks_reach_other_machines(Path("/home")) is True
