"""Large HDF5 arrays that are there as far as the file says, and that take no room on the disk."""

from __future__ import annotations

import h5py

__all__ = ["sparse_array"]


def sparse_array(file: h5py.File, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """Make a float32 array that is allocated and never filled; its zeros are a hole of the file system."""
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple(shape), settings)
    return file[name]
