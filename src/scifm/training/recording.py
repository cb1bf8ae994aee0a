"""What is written of a training while it goes: ``metrics.jsonl``, and the same to every logger that was asked for.

The file comes first. A logger that fails, or does not answer, is told nothing more, which is said once; the file is
complete all the same, so a logger that is new in a later sitting, or was away, is told from it what it lacks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import TimeoutError as NoAnswer
from multiprocessing.pool import ThreadPool
from typing import Any, TypeVar

from scifm.runs import Run
from scifm.training.loggers import Log, Logger, numbers_of
from scifm.training.loop import Observer

__all__ = ["recording"]

Answer = TypeVar("Answer")
_PATIENCE = 120.0  # seconds that training waits for a logger: W&B itself gives up on its server after 90


class _LoggerFailedError(Exception):
    """Whatever a logger raised."""


@contextmanager
def recording(run: Run, observe: Observer | None, loggers: Sequence[Logger] = ()) -> Iterator[Observer]:
    """Give an observer of a training that writes events to the run's log and to loggers, and passes them to `observe`.

    A resumed run first drops the log lines behind the state it resumes from, so that each occurs once; so do loggers.
    """
    logs = _Logs(run, observe, loggers)

    def note(**event: Any) -> None:
        if event["event"] == "resumed":
            run.rewind(event["step"])
            logs.open(event["step"])
        elif event["event"] == "saving":
            run.flush_log()
            run.note_time()
            logs.each(lambda log: log.flush())
        elif event["event"] != "step":
            run.log(**event)
            logs.tell(event)
        if observe is not None:
            observe(**event)

    try:
        yield note
    except BaseException:
        logs.close(complete=False)
        raise
    logs.close(complete=True)


class _Logs:
    """The loggers of a run that are open and well."""

    def __init__(self, run: Run, observe: Observer | None, loggers: Sequence[Logger]) -> None:
        self.run, self.observe, self.loggers = run, observe, loggers
        self.step = 0
        self.logs: dict[str, Log] = {}
        self.threads = {logger.name: ThreadPool(1) for logger in loggers}  # one that hangs is left hanging

    def open(self, step: int) -> None:
        """Open all where training goes on from `step`, and tell them what they lack of the steps before."""
        self.step = step
        for logger in self.loggers:
            with self._going_on_without(logger.name):
                self.logs[logger.name] = self._answer(logger.name, partial(logger.open, self.run, step=step))
        for event in self.run.metrics() if self.loggers else ():
            self.tell(event)

    def tell(self, event: Mapping[str, Any]) -> None:
        """Tell all the numbers of an event that they do not hold."""
        self.step, numbers = event["step"], numbers_of(event)

        def write(log: Log) -> None:
            if fresh := {name: number for name, number in numbers.items() if log.held(name) < self.step}:
                log.write(self.step, fresh)

        self.each(write)

    def each(self, act: Callable[[Log], None]) -> None:
        """Do the same to every logger; one that raises is told nothing more."""
        for name, log in list(self.logs.items()):
            with self._going_on_without(name):
                self._answer(name, partial(act, log))

    def close(self, *, complete: bool) -> None:
        """End the sitting of all."""
        self.each(lambda log: log.close(complete=complete))
        for thread in self.threads.values():
            thread.close()

    def _answer(self, name: str, ask: Callable[[], Answer]) -> Answer:
        return self.threads[name].apply_async(ask).get(timeout=_PATIENCE)

    @contextmanager
    def _going_on_without(self, name: str) -> Iterator[None]:
        try:
            with _blamed():
                yield
        except _LoggerFailedError as failure:
            self.logs.pop(name, None)
            event = {"event": "logger_failed", "step": self.step, "logger": name, "reason": str(failure)}
            self.run.log(**event)
            if self.observe is not None:
                self.observe(**event)
            else:
                warnings.warn(
                    f"The logger '{name}' failed at step {self.step} ({failure}) and is told nothing more; training "
                    f"goes on, and '{self.run.path / 'metrics.jsonl'}' is complete.",
                    stacklevel=2,
                )


@contextmanager
def _blamed() -> Iterator[None]:
    """Turn whatever the packages of loggers raise into one error, so that nothing of ours is caught along with it."""
    try:
        yield
    except NoAnswer as error:
        raise _LoggerFailedError(f"no answer within {_PATIENCE:g} seconds") from error
    except Exception as error:
        text = " ".join(str(error).split())
        raise _LoggerFailedError(f"{type(error).__name__}: {text[:300]}") from error
