"""A file that cannot be read is not called damaged where something else is the matter."""

from __future__ import annotations

import errno
import fcntl

import h5py
import numpy as np
import pytest

from scifm.data.formats.format import reading
from scifm.data.formats.hdf5 import open_hdf5
from scifm.errors import StoreError, cause_of


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("unable to lock file, errno = 11, error message = 'Resource temporarily unavailable'"), "has it open"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "HDF5_USE_FILE_LOCKING"),
        (OSError("file is already open for write or SWMR write"), "h5clear"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.EACCES, "Permission denied"), "may not read"),
        (OSError(errno.ENOSPC, "No space left on device"), "TMPDIR"),
        (OSError("Can't synchronously read data (can't open directory (/usr/local/lib/plugin))"), "hdf5plugin"),
        (ValueError("codec not available: 'zfpy'"), "codec"),
        (ModuleNotFoundError("No module named 'zarr'"), r"scifm\[formats\]"),
    ],
    ids=str,
)
def test_causes_have_sentences_of_their_own(error, words):
    with pytest.raises(StoreError, match=words) as caught, reading("file", "u"):
        raise RuntimeError("reading failed") from error
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("error", [OSError("truncated file: eof = 3"), ValueError("bad magic"), EOFError()], ids=repr)
def test_what_is_left_is_damage(error):
    assert cause_of(error) is None


def test_a_file_that_is_being_written_is_in_use(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["u"] = np.zeros(3)
    with path.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)  # as HDF5 does in the program that writes
        with pytest.raises(StoreError, match="another program has it open for writing"):
            open_hdf5(path)
    open_hdf5(path).close()
