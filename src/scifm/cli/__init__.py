"""The command line: one verb a room. Parses, calls, prints; no science.

A verb is a function in ``*_verbs`` and a line of `EXAMPLES` that works as it stands; its settings come from a file,
from options for what is asked every day, and from ``--set`` (`recipes`). A mistake of the user's gives one line and
exit status 2; Ctrl-C gives exit status 130 after the state is saved; SIGTERM and the signals of schedulers give 75, by
which a batch script knows to give the same command again. What may not live here: anything that Python could not do by
one call.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

# The verbs join the application when they are read.
from scifm.cli import (  # noqa: F401
    application_verbs,
    data_verbs,
    doctor,
    forecast_verbs,
    model_verbs,
    motion_verbs,
    run_verbs,
    score_verbs,
    study_verbs,
)
from scifm.cli.app import app, say
from scifm.errors import ConfigError, SciFMError, StopRequested

__all__ = ["app", "main"]


def _stop_on_signals() -> None:
    """Let a scheduler's first signal end the work as Ctrl-C does, wherever it is; a training saves its state first.

    What was ignored when we were started, as a shell does with Ctrl-C for what it puts in the background, stays so.
    """
    numbers = [n for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2) if signal.getsignal(n) is not signal.SIG_IGN]

    def stop(number: int, frame: Any) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)  # a second one must not cut off what the first one began
        raise StopRequested(signal.Signals(number).name)

    for each in numbers:
        signal.signal(each, stop)


def _replace_what_cannot_be_written() -> None:
    """Let characters that a terminal or log cannot show, such as × where it is not UTF-8, be replaced, not refused."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _require_readable(words: list[str]) -> None:
    """Raise ConfigError if a word is not UTF-8: no card, recipe or record could name such a file."""
    for word in words:
        if word != word.encode(errors="replace").decode():
            told = os.fsencode(word).decode(errors="backslashreplace")
            raise ConfigError(f"'{told}' is not UTF-8, and what is written about it must be: rename it with 'mv'.")


def _tell_own_warnings() -> None:
    """Print our warnings as a line, without the place in the source; those of others stay as they are."""
    others = warnings.showwarning

    def show(message: Any, category: Any, filename: str, *where: Any, **more: Any) -> None:
        if "scifm" in Path(filename).parts:
            say("scifm:", "yellow", str(message))
        else:
            others(message, category, filename, *where, **more)

    warnings.showwarning = show


def main() -> None:
    """Entry point of the command ``scifm``."""
    # Threads that sleep while they wait keep small steps quick on a shared machine; torch reads this when loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _replace_what_cannot_be_written()
    _stop_on_signals()
    _tell_own_warnings()
    try:
        _require_readable(sys.argv[1:])
        app(prog_name="scifm")  # however it was started: completion of shells goes by this name
    except SciFMError as error:
        say("scifm:", "bold red", " ".join(str(error).split()))
        sys.exit(2)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and error.filename is None:
            say("scifm:", "bold red", f"What was told could not be written: {error.strerror}. Free some space there.")
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # what is left would fail again at exit
        elif error.errno == errno.ENAMETOOLONG:
            say("scifm:", "bold red", f"No file can have so long a name: '{str(error.filename)[:60]}…'.")
        else:
            raise
        sys.exit(2)
