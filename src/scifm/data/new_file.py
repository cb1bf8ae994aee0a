"""`written`: a new file for libraries that cannot bear a disk which fills up, as HDF5 cannot.

HDF5 keeps a part of a file in memory and writes it as the file is closed. Where that fails the file stays open, every
later attempt fails as well, and the process may crash as it ends. Here the first write that fails is noted, what
follows is kept in memory, so that the file can be closed, and then the failure is told.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["NewFile", "written"]


class NewFile(io.RawIOBase):
    """A new file, to be read and written, that tells later what could not be written.

    Args:
        path: where it is; what is there is overwritten.

    Raises:
        OSError: if it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("w+b", buffering=0)
        self._failure: OSError | None = None
        self._left: list[tuple[int, bytes]] = []  # what the disk did not take, in the order in which it came
        self._place = self._size = 0

    def check(self) -> None:
        """Raise what went wrong with an earlier write; to be asked now and then, for what follows is in memory.

        Raises:
            OSError: that of the write.
        """
        if self._failure is not None:
            raise OSError(self._failure.errno, self._failure.strerror)

    def finish(self) -> None:
        """Have the disk take all of it.

        Raises:
            OSError: if it does not, or did not.
        """
        self.check()
        os.fsync(self._file.fileno())

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Write all of `data`, or keep it."""
        content = memoryview(data).cast("B")
        start, done = self._place, 0
        while self._failure is None and done < len(content):
            try:
                done += os.pwrite(self._file.fileno(), content[done:], start + done)
            except OSError as error:
                self._failure = error
        if done < len(content):
            self._left.append((start + done, bytes(content[done:])))
        self._place = start + len(content)
        self._size = max(self._size, self._place)
        return len(content)

    def readinto(self, buffer: Any) -> int:
        """Read what was written, wherever it is; what never was is zero."""
        target = memoryview(buffer).cast("B")
        start, count = self._place, max(0, min(len(target), self._size - self._place))
        found = os.pread(self._file.fileno(), count, start)
        target[:count] = found + bytes(count - len(found))
        for place, content in self._left:
            first, end = max(start, place), min(start + count, place + len(content))
            if first < end:
                target[first - start : end - start] = content[first - place : end - place]
        self._place += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def truncate(self, size: int | None = None) -> int:
        """Set the length, or note that the disk cannot."""
        size = self._place if size is None else size
        if self._failure is None:
            try:
                self._file.truncate(size)
            except OSError as error:
                self._failure = error
        self._size = size
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def written(path: Path) -> Iterator[NewFile]:
    """Lend a file that takes its name, `path`, once it is whole and on disk; else what was there stays.

    Raises:
        OSError: if it could not be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with NewFile(aside) as file:
            yield file
            file.finish()
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
