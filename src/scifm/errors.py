"""The exceptions a user can meet.

Every message says three things: what was given, what is allowed, and what to do. The command line turns any
`SciFMError` into one line and exit status 2; a traceback therefore always means a defect of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "DataError",
    "RunError",
    "SciFMError",
    "SignatureError",
    "StopRequested",
    "StoreError",
    "suggest",
]


class SciFMError(Exception):
    """Base of every error caused by what a user gave us."""


class ConfigError(SciFMError, ValueError):
    """A recipe, an override or an argument is not valid."""


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
