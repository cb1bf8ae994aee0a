"""NetCDF in its classic form, read by SciPy alone: other libraries read zeros where a file was cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scifm.data.declared import require_held, size_of
from scifm.data.formats.coding import Coding, netcdf_fill
from scifm.data.formats.format import LazyArray, MappedArray
from scifm.data.formats.listing import Dimension, Node, texts_of
from scifm.data.well import OpenFiles
from scifm.errors import StoreError

__all__ = ["OpenClassic", "classic_nodes"]

_WITH_64_BIT_SIZES = b"CDF\x05"


class OpenClassic:
    """A file that is open: the numbers of its variables, as they are written, by name."""

    def __init__(self, path: Path) -> None:
        from scipy.io import netcdf_file

        with path.open("rb") as handle:
            if handle.read(4) == _WITH_64_BIT_SIZES:
                raise StoreError(
                    f"'{path}' is NetCDF in the classic form with 64-bit sizes, which is not read here: nobody would "
                    "notice if it were cut off. Convert it with 'nccopy -k nc4 IN.nc OUT.nc'."
                )
        self.file = netcdf_file(path, "r", mmap=True)

    def __getitem__(self, name: str) -> np.ndarray:
        numbers: np.ndarray = self.file.variables[name].data
        return numbers

    def close(self) -> None:
        """Close it."""
        self.file.close()


def classic_nodes(path: Path, pool: OpenFiles) -> Iterator[Node]:
    """Yield what a file holds, nothing of its arrays read yet; `pool` opens it as `OpenClassic`.

    Raises:
        StoreError: if it declares more than it holds, or is in the form with 64-bit sizes.
        OSError, TypeError, ValueError: if it is truncated or no such file.
    """
    file, held = pool.get(path).file, size_of(path)
    yield Node.of_attributes("", file._attributes)
    for name, variable in file.variables.items():
        dtype, shape = np.dtype(variable.data.dtype), tuple(variable.data.shape)
        require_held(path, name, shape, dtype.itemsize, held)
        array: LazyArray = MappedArray(
            pool, path, name, shape, Coding.of(dtype, variable._attributes, default=netcdf_fill(dtype))
        )
        dimensions = tuple(
            Dimension((word,), (word,) if word in file.variables else ()) for word in variable.dimensions
        )
        yield Node(name, array, texts=texts_of(variable._attributes), dimensions=dimensions)
