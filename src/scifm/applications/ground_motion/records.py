"""Real records, of any format that obspy reads (extra ``seismic``), and a table of their conditions.

The table is a CSV file with a line a record: ``file`` (a path beside the table), ``event`` (its name), ``magnitude``,
``distance`` [km], and whatever other columns are named as conditions; ``trace``, where a file holds several, is the
number of the one that is meant, ``onset``, where it is known, when the motion begins [s after the beginning of the
file]. Records are velocities in m/s: the response of the instrument is the user's to remove, who knows it.

A record is brought to `rate` by obspy's own resampling, its mean is taken off, and it is cut so that what comes before
the motion has one length in all.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from scifm.config import Config
from scifm.data.card import hash_file
from scifm.errors import ConfigError, DataError, StoreError

__all__ = ["RecordFiles", "Recorded", "require_obspy"]


@dataclass(frozen=True)
class Recorded:
    """Records as they were read.

    Args:
        velocity: ``(record, sample)`` [m/s].
        rate: samples a second [Hz].
        event: number of the event of each, in the order of the table.
        conditions: by name, a number a record.
        files: names and sizes in bytes of what was read.
        contents: SHA-256 of each.
    """

    velocity: Tensor
    rate: float
    event: Tensor
    conditions: Mapping[str, Tensor]
    files: dict[str, int]
    contents: dict[str, str]


class RecordFiles(Config):
    """Which files, and how records are cut.

    Args:
        table: CSV file of the records and their conditions; the module has its columns.
        conditions: columns that are conditions.
        rate: samples a second that all are brought to [Hz].
        num_samples: of a record.
        quiet: how long each is before its motion begins [s], where the table says when; else it is cut at its
            beginning.
    """

    table: str
    conditions: tuple[str, ...] = Field(("magnitude", "distance"), min_length=1)
    rate: float = Field(50.0, gt=0, allow_inf_nan=False)
    num_samples: int = Field(1024, ge=64)
    quiet: float = Field(2.0, gt=0, allow_inf_nan=False)

    def read(self) -> Recorded:
        """Return the records.

        Raises:
            ConfigError: if obspy is not installed.
            DataError: if a line of the table lacks something, or a record is too short or holds gaps.
            StoreError: if a file is missing or obspy cannot read it.
        """
        obspy, table = require_obspy(), Path(self.table).expanduser()
        lines = self._lines(table)
        velocity = np.stack([self._record(obspy, table, number, line) for number, line in lines])
        names = list(dict.fromkeys(line["event"] for _, line in lines))
        event = torch.tensor([names.index(line["event"]) for _, line in lines])
        conditions = {name: self._numbers(table, lines, name) for name in self.conditions}
        if "distance" in conditions and not bool((conditions["distance"] > 0).all()):
            raise DataError(f"'{table}': distances are positive, in km.")
        read = {table.name: table, **{line["file"]: table.parent / line["file"] for _, line in lines}}
        sizes = {name: file.stat().st_size for name, file in read.items()}
        hashes = {name: hash_file(file) for name, file in read.items()}
        return Recorded(torch.from_numpy(velocity), self.rate, event, conditions, sizes, hashes)

    def _lines(self, table: Path) -> list[tuple[int, dict[str, str]]]:
        try:
            with table.open(newline="", encoding="utf-8") as handle:
                lines = [(number, dict(line)) for number, line in enumerate(csv.DictReader(handle), start=2)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise StoreError(
                f"The table '{table}' cannot be read: {getattr(error, 'strerror', None) or error}."
            ) from error
        wanted = ("file", "event", *self.conditions)
        if not lines:
            raise DataError(f"The table '{table}' names no record: give a line for each, with {', '.join(wanted)}.")
        for number, line in lines:
            if missing := [name for name in wanted if not (line.get(name) or "").strip()]:
                raise DataError(
                    f"'{table}', line {number}: nothing stands under '{missing[0]}'. Every record has "
                    f"{', '.join(wanted)}."
                )
        return lines

    def _numbers(self, table: Path, lines: list[tuple[int, dict[str, str]]], name: str) -> Tensor:
        numbers = []
        for number, line in lines:
            try:
                numbers.append(float(line[name]))
            except ValueError:
                numbers.append(math.nan)
            if not math.isfinite(numbers[-1]):
                raise DataError(f"'{table}', line {number}: '{line[name]}' under '{name}' is no number.")
        return torch.tensor(numbers, dtype=torch.float64)

    def _record(self, obspy: Any, table: Path, number: int, line: dict[str, str]) -> NDArray[np.float64]:
        """Return one record, cut."""
        file, where = table.parent / line["file"], f"'{table}', line {number}: '{line['file']}'"
        try:
            stream = obspy.read(str(file))
        except Exception as error:  # each of its readers raises what it likes
            raise StoreError(f"{where} cannot be read by obspy: {' '.join(str(error).split())[:200]}.") from error
        traces, place = list(stream), int(line.get("trace") or 0)
        if len(traces) > 1 and not line.get("trace"):
            raise DataError(
                f"{where} holds {len(traces)} traces, several components or one with gaps: say which is meant in a "
                "column 'trace', counted from 0."
            )
        if not 0 <= place < len(traces):
            raise DataError(f"{where} holds {len(traces)} traces; trace {place} is asked for.")
        trace = traces[place].copy()
        trace.data = np.ma.filled(np.ma.asarray(trace.data, dtype=np.float64), np.nan)
        if not np.isfinite(trace.data).all():
            raise DataError(f"{where} has gaps: records are whole. Leave it out.")
        trace.data = trace.data - trace.data.mean()
        if not math.isclose(trace.stats.sampling_rate, self.rate, rel_tol=1e-6):
            trace.resample(self.rate)
        first = 0
        if line.get("onset"):
            first = round((float(line["onset"]) - self.quiet) * self.rate)
        record = np.asarray(trace.data[max(first, 0) : max(first, 0) + self.num_samples], dtype=np.float64)
        if first < 0 or len(record) < self.num_samples:
            raise DataError(
                f"{where} is too short: {self.num_samples} samples at {self.rate:g} Hz are asked for, beginning "
                f"{self.quiet:g} s before its onset where that is told, and it has {len(trace.data)}. Give fewer, or "
                "leave it out."
            )
        return record


def require_obspy() -> Any:
    """Return the package that reads records.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        import obspy
    except ImportError as error:
        raise ConfigError(
            "Records are read by the package obspy, which is not installed: give pip install 'scifm[seismic]'."
        ) from error
    return obspy
