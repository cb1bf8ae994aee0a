"""`Format`: what every import route offers."""

from __future__ import annotations

import abc
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scifm.data.formats.contents import Contents
from scifm.data.formats.mapping import DataMapping
from scifm.errors import SciFMError, StoreError, cause_of

__all__ = ["FOREIGN_ERRORS", "Format", "opening", "reading", "unreadable", "unreadable_array"]

FOREIGN_ERRORS = (
    OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, EOFError,
    SystemError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError, SyntaxError,
)  # fmt: skip
"""What the packages that read files raise when a file is damaged."""

_SIZES_IN_HDF5 = re.compile(r"truncated file: eof = (\d+),.* stored_eof = (\d+)")


class Format(abc.ABC):
    """One kind of file that can be imported. Adding an instance to ``FORMATS`` buys the contract tests.

    Class variables:
        name: key in ``FORMATS``.
        title: what it is, in a few words.
        needs_map: whether a user has to write the mapping, because the files do not say enough.
    """

    name: str
    title: str
    needs_map: bool = False

    @abc.abstractmethod
    def sniff(self, path: Path) -> str | None:
        """Return why `path` looks like one of ours, in a few words, or None. Never raises; reads names and shapes."""

    @abc.abstractmethod
    def read(self, path: Path) -> Contents:
        """Return the arrays of `path`, nothing of them read yet.

        Raises:
            StoreError: if the file is truncated, damaged or of another kind; says which and what to do.
        """

    @abc.abstractmethod
    def propose(self, contents: Contents) -> DataMapping:
        """Return the mapping that would be used if nobody gave another.

        Raises:
            ConfigError: if the contents do not say enough; says what has to be told.
        """


@contextmanager
def reading(path: Path, name: str) -> Iterator[None]:
    """Turn what goes wrong while the array `name` is read into StoreError, which says so in one line."""
    try:
        yield
    except SciFMError:
        raise
    except FOREIGN_ERRORS as error:
        raise unreadable_array(path, name, error) from error


@contextmanager
def opening(path: Path, title: str) -> Iterator[None]:
    """Turn what goes wrong while a file is opened as what it seems to be into StoreError, which says so in one line."""
    try:
        yield
    except SciFMError:
        raise
    except FOREIGN_ERRORS as error:
        raise unreadable(path, title, error) from error


def unreadable_array(path: Path, name: str, error: Exception) -> StoreError:
    """Return the error for an array of a file that cannot be read."""
    cause = cause_of(error) or f"it is truncated or damaged ({error}). Copy the file again."
    return StoreError(f"'{name}' of '{path}' cannot be read: {cause}")


def unreadable(path: Path, title: str, error: Exception) -> StoreError:
    """Return the error for a file that cannot be read as what it seemed to be."""
    cause = cause_of(error)
    if cause is not None:
        return StoreError(f"'{path}' cannot be read as {title}: {cause}")
    told = " ".join(str(error).split()) or type(error).__name__
    sizes = _SIZES_IN_HDF5.search(told)
    reason = "it has {} of {} bytes".format(*sizes.groups()) if sizes else told
    return StoreError(
        f"'{path}' cannot be read as {title}: it is truncated, damaged or of another kind ({reason}). Copy it again, "
        "or see whether it is what its name says."
    )
