"""Being asked to stop: by Ctrl-C, by SIGTERM, or by the signal a scheduler sends before the time is up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from scifm.errors import StopRequested

__all__ = ["STOP_SIGNALS", "stop_requests"]

# SIGUSR1 and SIGUSR2 are what `#SBATCH --signal` is commonly told to send; by default either would kill the process.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def stop_requests() -> Iterator[Callable[[], KeyboardInterrupt | None]]:
    """Turn the first signal to stop into a question asked between steps; a second Ctrl-C interrupts at once.

    The question is answered with what to raise once everything is saved, None while nobody asked. A signal that is
    ignored stays so: whoever put us in the background or behind nohup does not want it heard.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    def answer() -> KeyboardInterrupt | None:
        if not asked:
            return None
        first = asked[0]
        return KeyboardInterrupt() if first == signal.SIGINT else StopRequested(signal.Signals(first).name)

    heard = [n for n in (signal.SIGINT, *STOP_SIGNALS) if signal.getsignal(n) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in heard}
    try:
        yield answer
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
