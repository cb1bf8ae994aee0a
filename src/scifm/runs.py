"""What a run is on disk.

::

    runs/<name>-<hash8>/
      config.toml      resolved and complete        environment.json  versions, hardware, git commit, command
      metrics.jsonl    one line an event            model/            weights and how to rebuild the operator
      state/           what resume needs            scores/           errors of each sample, a file for each origin
      parent           path of the run it was fine-tuned from         forecasts/  how far ahead it could be trusted
      failure.json     step and batch whose loss or gradient was not finite (failure.safetensors: the batch)
      sittings.json    when it was worked on, for how long       findings.json   what checks of `trust` found
  STATUS           running | complete | interrupted: … | failed: reason            LOCK   who writes here now

Every file is written aside, flushed to disk and renamed, so a reader never meets half a file and a crash loses
nothing that was stored before. The lock is held by the operating system: it goes when its owner dies, however it dies.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from scifm.config import config_hash, dump_toml, kind_of_record, other_record, read_toml
from scifm.errors import ConfigError, RunError, StopRequested, cause_of
from scifm.locks import exclusive, unwritable
from scifm.prompt import Shown
from scifm.wording import duration

__all__ = ["Run", "describe_environment", "require_space", "write_atomically", "write_json"]

_SPARE_BYTES = 64 * 1024  # what a log line and STATUS may take beside a large file
_PACKAGES = ("scifm", "torch", "numpy", "scipy", "h5py", "pydantic", "safetensors")


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        RunError: if the disk is full or the folder cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        aside.replace(path)
    except BaseException as error:  # a signal that stops the program too, wherever it is
        with suppress(OSError):  # the folder itself is out of reach: the error on its way up says so
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise


def require_space(folder: Path, num_bytes: int) -> None:
    """Check that the disk under `folder`, which need not be there yet, has room for `num_bytes`.

    Raises:
        RunError: if it has not; says how much is missing.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    needed, free = num_bytes + _SPARE_BYTES, shutil.disk_usage(place).free
    if needed > free:
        raise RunError(
            f"The disk under '{folder}' is full: {needed / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free. Free "
            "some space and give the same command again; what was stored before is untouched."
        )


def write_json(path: Path, entries: Any) -> None:
    """Write `entries` as indented JSON; NaN is refused, since JSON has none."""
    write_atomically(path, (json.dumps(entries, indent=2, allow_nan=False) + "\n").encode())


@cache
def _git_commit() -> str | None:
    """Return the commit of the code that was loaded: whatever is checked out later does not run."""
    here = Path(__file__).resolve().parent
    try:
        command = ["git", "rev-parse", "HEAD"]
        return subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def describe_environment() -> dict[str, Any]:
    """Return versions, hardware, git commit and command line: enough to know where a number came from."""
    return {
        "python": platform.python_version(),
        "versions": dict(_versions()),
        "processor": _processor(),
        "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "git_commit": _git_commit(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _text(file: Path) -> str:
    """Return what a small text file of a run says; RunError if it is none."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(file, error, "Restore it, or run the same command in a new folder.") from error


def _unreadable(file: Path, error: Exception, remedy: str) -> RunError:
    return RunError(f"'{file}' cannot be read: {cause_of(error) or f'it is damaged ({error}). {remedy}'}")


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """A run folder. Open one with `Run.open`, make or reopen one for writing with `Run.prepare`."""

    path: Path

    def _shown(self) -> tuple[str, list[tuple[str, str]]]:
        head = f"Run '{self.path}'"
        try:
            errors = [event["relative_l2"] for event in self.metrics() if "relative_l2" in event]
            rows = [("kind", self.kind), ("status", self.status), ("wall time", duration(self.seconds))]
            return head, [*rows, ("validation error", f"{errors[-1]:.4g}" if errors else "")]
        except (RunError, ConfigError) as error:  # a prompt shows what it can
            return head, [("unreadable", str(error))]

    @classmethod
    def prepare(cls, root: str | Path, name: str, config: Mapping[str, Any], *, parent: Path | None = None) -> Run:
        """Return the folder for this configuration under `root`, made if it is not there yet.

        The same name and configuration always give the same folder, which is how an interrupted run is found again.
        """
        run = cls.find(root, name, config)
        if not (run.path / "config.toml").exists():
            if parent is not None:
                relative = os.path.relpath(parent, run.path)
                write_atomically(run.path / "parent", (relative + "\n").encode())
            write_json(run.path / "environment.json", describe_environment())
            write_atomically(run.path / "config.toml", dump_toml(config).encode())
        return run

    @classmethod
    def find(cls, root: str | Path, name: str, config: Mapping[str, Any]) -> Run:
        """Return the folder that `prepare` makes for this configuration, whether it is there or not."""
        return cls(Path(root) / f"{name}-{config_hash(config)}")

    @classmethod
    def claim(cls, path: str | Path, config: Mapping[str, Any], **how: Any) -> Run:
        """Return the folder `path`, a new one or one that was claimed with this configuration; see `is_claimed`."""
        run = cls(Path(path))
        if not run.is_claimed(config, **how):
            write_json(run.path / "environment.json", describe_environment())
            write_atomically(run.path / "config.toml", dump_toml(config).encode())
        return run

    def is_claimed(
        self, config: Mapping[str, Any], *, completed: Callable[[dict[str, Any]], dict[str, Any]] = dict
    ) -> bool:
        """Return whether this folder was claimed with this configuration; False: it was not claimed at all.

        Args:
            config: of a study or a plan.
            completed: adds to what the folder says the settings that came later, where they have one value for it.

        Raises:
            RunError: if it was claimed with another; says how they differ.
        """
        if not (self.path / "config.toml").is_file():
            return False
        if other := other_record(completed(self.config), config):
            raise RunError(f"'{self.path}' holds {other}. Choose another folder with --out, or delete this one first.")
        return True

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Return an existing run.

        Raises:
            RunError: if there is no run at `path`.
        """
        path = Path(path)
        if not os.path.isfile(path / "config.toml"):
            raise RunError(
                f"'{path}' is not a run folder: it holds no config.toml. Give the folder that 'scifm pretrain' printed."
            )
        return cls(path)

    @property
    def config(self) -> dict[str, Any]:
        """The settings it was prepared with, complete."""
        return read_toml(self.path / "config.toml")

    @property
    def kind(self) -> str:
        """``pretrain``, ``finetune``, ``from_scratch``, ``study``, ``plan``, …; empty where nothing tells."""
        return kind_of_record(self.config)

    @property
    def parent(self) -> Path | None:
        """The run this one was fine-tuned from, if any."""
        link = self.path / "parent"
        if not link.is_file():
            return None
        try:
            return (self.path / _text(link).strip()).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # no path of this system, or links in a circle
            raise RunError(f"'{link}' tells no path ({error}). Remove it to go on without a parent.") from error

    @property
    def status(self) -> str:
        """``new``, ``running``, ``complete``, ``interrupted: …`` or ``failed: …``."""
        file = self.path / "STATUS"
        return _text(file).strip() if file.is_file() else "new"

    @property
    def is_complete(self) -> bool:
        """Whether everything that was to be done is done and stored."""
        return self.status == "complete"

    def set_status(self, status: str) -> None:
        """Replace the content of STATUS."""
        write_atomically(self.path / "STATUS", (status + "\n").encode())

    def require_complete(self) -> None:
        """Check that the run is complete.

        Raises:
            RunError: if it is not; says how far it is.
        """
        if not self.is_complete:
            raise RunError(
                f"The run '{self.path}' is not complete (status: {self.status}). Run the same command again to resume "
                "it."
            )

    def read_json(self, name: str) -> Any:
        """Return the content of one of the run's JSON files.

        Raises:
            RunError: if it is missing or damaged.
        """
        file = self.path / name
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise _unreadable(file, error, f"Delete the folder '{self.path}' to make it anew.") from error

    @property
    def is_own(self) -> bool:
        """Whether the folder belongs to this user, who may write in it: nothing is added to anybody else's."""
        try:
            owner = self.path.stat().st_uid
        except OSError:
            return False
        return os.access(self.path, os.W_OK) and (not hasattr(os, "geteuid") or owner == os.geteuid())

    def scores_file(self, name: str, origin: Mapping[str, Any] | None = None) -> Path:
        """Return where scores are kept; those on other samples, another `origin`, lie in another file.

        Args:
            name: what they were scored on, in a word; of an origin a readable beginning, else the whole name.
            origin: all that tells which samples they were; hashed.
        """
        if origin is not None:
            name = f"{re.sub(r'[^A-Za-z0-9_.+-]+', '-', name)[:60]}-{config_hash(origin)}"
        return self.path / "scores" / f"{name}.parquet"

    def forecast_file(self, about: Mapping[str, Any]) -> Path:
        """Return where a forecast is kept; one from elsewhere or of another length lies in another file."""
        return self.path / "forecasts" / f"forecast-{config_hash(about)}.json"

    @property
    def forecast_files(self) -> list[Path]:
        """Every file of forecasts, the latest first."""
        return sorted(self.path.glob("forecasts/*.json"), key=lambda file: file.stat().st_mtime, reverse=True)

    @property
    def score_files(self) -> list[Path]:
        """Every file of scores; those that lay in the folder itself, before they told their origin, come last."""
        return [*sorted(self.path.glob("scores/*.parquet")), *sorted(self.path.glob("scores*.parquet"))]

    def log(self, **event: Any) -> None:
        """Append one event to metrics.jsonl.

        Raises:
            RunError: if it cannot be written.
        """
        with self._log() as handle:
            handle.write(json.dumps(event) + "\n")

    def flush_log(self) -> None:
        """Force metrics.jsonl to the disk: a state must never be more durable than the lines that led to it.

        Raises:
            RunError: if it cannot be written.
        """
        with self._log() as handle:
            os.fsync(handle.fileno())

    @contextmanager
    def _log(self) -> Iterator[TextIO]:
        file = self.path / "metrics.jsonl"
        try:
            with file.open("a", encoding="utf-8") as handle:
                yield handle
        except OSError as error:
            raise unwritable(file, error) from error

    def metrics(self) -> list[dict[str, Any]]:
        """Return every complete event of metrics.jsonl; a last line cut by a crash is left out.

        Raises:
            RunError: if a line is damaged.
        """
        file = self.path / "metrics.jsonl"
        if not file.is_file():
            return []
        try:
            lines = file.read_text(encoding="utf-8").split("\n")[:-1]
            return [json.loads(line) for line in lines if line.endswith("}")]
        except (OSError, ValueError, RecursionError) as error:
            raise _unreadable(file, error, "Remove the line that is no JSON, and go on.") from error

    def rewind(self, step: int) -> None:
        """Drop events after `step`, so that each appears once when the steps are taken again; 0 drops all of them."""
        before = [event for event in self.metrics() if step and event.get("step", 0) <= step]
        text = "".join(json.dumps(event) + "\n" for event in before)
        write_atomically(self.path / "metrics.jsonl", text.encode())

    def _sittings(self) -> list[dict[str, Any]]:
        return self.read_json("sittings.json") if (self.path / "sittings.json").is_file() else []

    @property
    def seconds(self) -> float:
        """Wall time spent here over all sittings; of one that was killed, up to what it noted last.

        Raises:
            RunError: if the record is damaged.
        """
        try:
            return float(sum(sitting["seconds"] for sitting in self._sittings()))
        except (TypeError, KeyError) as error:
            raise RunError(f"'{self.path / 'sittings.json'}' is damaged ({error!r}). Remove it to go on.") from error

    def note_time(self, *, ends: bool = False) -> None:
        """Write down how long the sitting that holds this folder has taken so far; nothing where there is none.

        Raises:
            RunError: if it cannot be written.
        """
        sittings = self._sittings()
        if sittings and not sittings[-1]["over"]:
            sittings[-1] |= {"seconds": time.monotonic() - sittings[-1]["clock"], "over": ends}
            write_json(self.path / "sittings.json", sittings)

    def _sit_down(self) -> None:
        before = self._sittings()
        sittings = [{**sitting, "over": True} for sitting in before]  # a killed one ended with what it noted last
        if not self.is_complete:  # else nothing is left to do that takes time
            now = {"began": time.time(), "clock": time.monotonic()}  # the one on the wall may be set back meanwhile
            sittings.append({**now, "seconds": 0.0, "over": False})
        if sittings != before:
            write_json(self.path / "sittings.json", sittings)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this folder for writing; STATUS tells afterwards how it ended, and `seconds` counts this sitting too.

        Raises:
            RunError: if another process holds it; see `scifm.locks`.
        """
        with exclusive(self.path):
            self._sit_down()
            try:
                yield
            except KeyboardInterrupt as stop:
                who = f"{stop}; " if isinstance(stop, StopRequested) else ""
                self._note_end(f"interrupted: {who}run the same command again to resume")
                raise
            except Exception as error:
                self._note_end(f"failed: {error}".replace("\n", " "))
                raise
            self.note_time(ends=True)

    def _note_end(self, status: str) -> None:
        with suppress(RunError):  # the disk that caused the end also refuses the note; the error on its way up tells it
            self.set_status(status)
            self.note_time(ends=True)
