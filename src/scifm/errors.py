"""The exceptions a user can meet.

Every message says three things: what was given, what is allowed, and what to do. The command line turns any
`SciFMError` into one line and exit status 2; a traceback therefore always means a defect of ours.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "DataError",
    "OutsideWarning",
    "RunError",
    "SciFMError",
    "SignatureError",
    "StopRequested",
    "StoreError",
    "cause_of",
    "suggest",
]

_NUMBER_IN_TEXT = re.compile(r"errno = (\d+)")  # HDF5 says it in words
_IN_USE = "another program has it open for writing"
_FILTERS = "pip install hdf5plugin brings the usual filters; or write the file anew with gzip: h5repack -f GZIP=4."
_BY_WORDS = {
    "file is already open for write": f"{_IN_USE}, or ended without closing it. Wait for it; if none runs: h5clear -s.",
    "flag values don't match": "this very process has it open in another way. Close it there first.",
    "can't open directory|can't find plugin|filter .*not registered|required filter": "it is compressed with an HDF5 "
    f"filter that is not installed here. {_FILTERS}",
    "codec not available|unknown codec": "it is compressed with a codec that is not installed here. Install the "
    "package that has it, or write the data anew with another one.",
}
_BY_NUMBER = {
    errno.EAGAIN: f"{_IN_USE}. Wait until it is done; where certainly nobody writes, or the disk cannot lock files, "
    "set HDF5_USE_FILE_LOCKING=FALSE.",
    errno.EMFILE: "this process has too many files open. Raise the limit (ulimit -n), or join files first.",
    errno.ENFILE: "this machine has too many files open. Close other programs, or join files first.",
    errno.EACCES: "you may not read it. Ask its owner, or change its permissions.",
    errno.EPERM: "you may not read it. Ask its owner, or change its permissions.",
    errno.ENOENT: "it is not there any more. Look what moved or removed it.",
    errno.ENOMEM: "there is not enough memory. Close other programs, or use a machine with more.",
    errno.ENOSPC: "the disk is full. Free some space, or set TMPDIR to a folder on another disk.",
    errno.EIO: "the disk, or the network to it, failed. Look at the disk, then try again.",
    errno.ESTALE: "the network file system lost it. Try again.",
    errno.ENOTCONN: "the network file system is not connected. Connect it, then try again.",
    errno.ETIMEDOUT: "the disk, or the network to it, did not answer. Try again.",
}


class SciFMError(Exception):
    """Base of every error caused by what a user gave us."""


class ConfigError(SciFMError, ValueError):
    """A recipe, an override or an argument is not valid."""


class OutsideWarning(UserWarning):
    """An operator is asked about samples that lie outside of what it was trained on."""


class SignatureError(SciFMError, ValueError):
    """Fields, coefficients or grids of two things that must fit together do not."""


class DataError(SciFMError, ValueError):
    """The numbers themselves are unusable: NaN, wrong shape, too few samples."""


class StoreError(SciFMError, OSError):
    """A store on disk is missing, truncated, foreign, or cannot be written."""


class RunError(SciFMError, RuntimeError):
    """A run folder is missing, incomplete, in use by another process, or cannot be written."""


class StopRequested(KeyboardInterrupt):
    """Somebody else than the keyboard asked the program to stop: a scheduler, by a signal; the message names it.

    What catches Ctrl-C catches this too. The command line ends with another exit status, `EXIT_STATUS`, by which a
    batch script tells that the same command should be given again.
    """

    EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: a temporary failure, to be tried again


def suggest(given: str, allowed: Iterable[str]) -> str:
    """Return ``"'given' is unknown; did you mean 'x'? Allowed: …"`` for an error message."""
    names = sorted(allowed)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"'{given}' is unknown.{hint} Allowed: {', '.join(names)}."


def cause_of(error: BaseException) -> str | None:
    """Return what else than damage kept a file from being read, with what to do about it; None where nothing is known.

    Args:
        error: what a package raised that reads files; the errors it followed from are looked at too.
    """
    seen: BaseException | None = error
    while seen is not None:
        cause = _own_cause(seen)
        if cause is not None:
            return cause
        seen = seen.__cause__
    return None


def _own_cause(error: BaseException) -> str | None:
    text = " ".join(str(error).split())
    if isinstance(error, ImportError):
        return f"a package that reads it is missing ({text}). pip install 'scifm[formats]' brings the usual ones."
    cause = next((cause for words, cause in _BY_WORDS.items() if re.search(words, text, re.IGNORECASE)), None)
    if cause is not None or not isinstance(error, OSError):
        return cause
    number = _NUMBER_IN_TEXT.search(text)
    code = int(number.group(1)) if number else error.errno
    return _BY_NUMBER.get(code) if code is not None else None
