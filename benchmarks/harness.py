"""The shared shape of all benchmarks.

``python benchmarks/NAME.py --json OUT`` writes

    {"hardware": {...}, "versions": {...}, "rows": [{"case": ..., "metric": ..., "value": ..., "unit": ...}]}

and prints the same as a table. Comparisons alternate in one process and quote medians (`alternate`), so that a noisy
machine disturbs all contestants alike.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

__all__ = [
    "Row",
    "alternate",
    "argument_parser",
    "hardware",
    "medians",
    "publish",
    "put_into",
    "read_rows",
    "told_row",
    "versions",
    "write_measured",
    "write_rows",
]

_PACKAGES = ("scifm", "torch", "numpy")


@dataclass(frozen=True)
class Row:
    """One number: what was run, what was measured, the value and its unit."""

    case: str
    metric: str
    value: float
    unit: str


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments every benchmark has: ``--json OUT`` and ``--threads N``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--json",
        type=Path,
        metavar="OUT",
        help="write hardware, versions and rows to this file; a name in .csv gives one table",
    )
    parser.add_argument("--threads", type=int, default=None, help="CPU threads torch may use (default: torch's own)")
    return parser


def alternate(
    contestants: Mapping[str, Callable[[], Any]],
    *,
    repeats: int = 7,
    warmups: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Run each contestant in turn, `repeats` times around, and return the seconds of every run by name.

    The caller quotes ``statistics.median`` of them (`medians`); the first `warmups` rounds are not timed. On one thread
    of a machine that others use, ``time.process_time`` as `clock` leaves out what they took.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(warmups + repeats):
        for name, run in contestants.items():
            _synchronize()
            start = clock()
            run()
            _synchronize()
            if turn >= warmups:
                seconds[name].append(clock() - start)
    return seconds


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each contestant's runs."""
    return {name: statistics.median(runs) for name, runs in seconds.items()}


def hardware() -> dict[str, Any]:
    """Describe the machine: processor, cores this process may use, threads torch uses, accelerator."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": cores,
        "torch_threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter to a timing."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def publish(title: str, rows: Sequence[Row], out: Path | None) -> None:
    """Print the rows as a table and, when asked, write them with hardware and versions as JSON.

    Args:
        title: what the benchmark asks.
        rows: its answers.
        out: file to write, its folder made if missing; None prints only.
    """
    document = {"hardware": hardware(), "versions": versions(), "rows": [asdict(row) for row in rows]}
    table = Table(title=title)
    for column in ("case", "metric", "value", "unit"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for row in rows:
        table.add_row(row.case, row.metric, f"{row.value:,.4g}", row.unit)
    console = Console(file=sys.stdout)
    console.print(table)
    parts = [f"{key}: {value}" for part in ("hardware", "versions") for key, value in document[part].items()]
    console.print(" · ".join(parts), style="dim")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=2) + "\n" if out.suffix != ".csv" else _as_csv(document)
        out.write_text(text, encoding="utf-8")


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a table in .csv that `publish` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Row(row["case"], row["metric"], float(row["value"]), row["unit"]) for row in csv.DictReader(file)]


def put_into(page: Path, name: str, text: str) -> None:
    """Replace what stands between the two comments ``begin: name`` and ``end: name`` of a page."""
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    head, rest = page.read_text("utf-8").split(begin)
    page.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}", "utf-8")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write a table of results as CSV, numbers with four digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{v:.4g}" if isinstance(v, float) else v for name, v in row.items()} for row in rows)


def write_measured(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of one form as `write_rows` does, with the processor and torch named in each."""
    machine = {"processor": hardware()["processor"], "torch": versions()["torch"]}
    write_rows(path, [{**row, **machine} for row in rows], [*rows[0], *machine])


def told_row(row: Mapping[str, Any]) -> str:
    """Return a row of results in a line."""
    return "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{value}" for name, value in row.items())


def _as_csv(document: Mapping[str, Any]) -> str:
    """Return the rows with the machine named in each, for results that are kept beside the code."""
    machine = {"processor": document["hardware"]["processor"], "cores": document["hardware"]["cores"]}
    machine |= {"threads": document["hardware"]["torch_threads"], "torch": document["versions"]["torch"]}
    if document["hardware"]["accelerator"] is not None:
        machine["accelerator"] = document["hardware"]["accelerator"]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["case", "metric", "value", "unit", *machine], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "value": f"{row['value']:.6g}", **machine} for row in document["rows"])
    return text.getvalue()


def _processor() -> str:
    if shutil.which("lscpu"):
        lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout.splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model name")]
        if names:
            return names[0]
    return platform.processor() or "unknown"


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
