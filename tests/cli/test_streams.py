"""What stands around a command: where its output goes, and how it was called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")


def said(*words: str | bytes, out: int | None = None) -> tuple[int, str]:
    """Give a command in a process of its own; return its exit status and what it wrote on standard error."""
    command = [sys.executable, "-m", "scifm", *words]
    stdout = subprocess.DEVNULL if out is None else out
    run = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, timeout=300, check=False)
    return run.returncode, " ".join(run.stderr.decode().split())


@pytest.mark.skipif(not FULL.exists(), reason="the system has no device that is always full")
def test_a_full_disk_behind_the_output_is_told_in_a_line():
    out = os.open(FULL, os.O_WRONLY)
    try:
        status, told = said("systems", out=out)
    finally:
        os.close(out)
    assert status == 2
    assert told == "scifm: What was told could not be written: No space left on device. Free some space there."


def test_a_name_that_is_not_utf8_is_refused_before_anything_is_written(tmp_path):
    status, told = said("import", b"w\xe4rme.npz", "--out", str(tmp_path / "store"))
    assert status == 2
    assert told == r"scifm: 'w\xe4rme.npz' is not UTF-8, and what is written about it must be: rename it with 'mv'."
    assert not list(tmp_path.iterdir())
