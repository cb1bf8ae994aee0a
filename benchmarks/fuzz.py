"""Does anything from outside bring the library down? Thousands of bad inputs through its public doors.

Doors: recipes and overrides, command lines, stores, training states, run folders, model folders, other people's
checkpoints (malicious pickles among them), and files of every import format. Each input has to end in one of the
library's own errors (on the command line: exit status 2), or in a right answer. Anything else is a failure: another
error, more than 20 seconds, more than 512 MB of memory above what the process had, the end of the process, damage that
a checksum should have told.

Inputs follow from the seed, their kind and their number, so a failure can be made again:

``python benchmarks/fuzz.py --json OUT [--inputs 5000] [--seed 0]``
``python benchmarks/fuzz.py --only KIND:NUMBER [--seed 0]``
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from fuzz_inputs import KINDS, Examples, go_through, make_examples
from harness import Row, argument_parser, publish
from scifm.errors import SciFMError

__all__ = ["Outcome", "fuzz", "inputs_of"]

LONGEST = 20.0  # seconds an input may take
START = 120.0  # seconds a process may take to start on a busy machine
MOST_GROWTH = 512 * 2**20  # bytes above the baseline
ADDRESS_SPACE = 16 * 2**30  # so that a defect does not take the machine with it
BATCH = 200


@dataclass(frozen=True)
class Outcome:
    """How one input ended.

    Args:
        kind: which door.
        number: of the input.
        end: ``answered``, ``refused``, or what went wrong.
        told: the error.
        seconds: it took.
        growth: bytes of memory above the baseline at the peak.
    """

    kind: str
    number: int
    end: str
    told: str = ""
    seconds: float = 0.0
    growth: int = 0

    @property
    def is_failure(self) -> bool:
        return self.end not in ("answered", "refused")


def inputs_of(total: int) -> list[tuple[str, int]]:
    """Return kind and number of each input, by the shares of the kinds."""
    shares = sum(share for share, _ in KINDS.values())
    return [(kind, n) for kind, (share, _) in KINDS.items() for n in range(max(1, -int(-total * share // shares)))]


def _memory(entry: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(entry + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {entry}")


def _try(kind: str, number: int, seed: int, examples: Examples, baseline: int) -> Outcome:
    folder = Path(tempfile.mkdtemp(dir=examples.root.parent))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured anew
    start, end, told = time.perf_counter(), "answered", ""
    try:
        go_through(kind, number, seed, examples, folder)
    except SciFMError as error:
        end, told = "refused", f"{type(error).__name__}: {error}"
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what we look for
        last = traceback.extract_tb(error.__traceback__)[-1]
        end, told = type(error).__name__, f"{error} ({Path(last.filename).name}:{last.lineno})"
    seconds, growth = time.perf_counter() - start, max(0, _memory("VmHWM") - baseline)
    shutil.rmtree(folder, ignore_errors=True)
    if growth > MOST_GROWTH and end in ("answered", "refused"):
        end, told = "memory", f"{growth / 2**20:.0f} MB more; {told}"
    return Outcome(kind, number, end, told[:400], seconds, growth)


def _work(pipe: Connection, batch: list[tuple[str, int]], seed: int, root: str) -> None:
    """Do a batch in a process of its own, telling each input before it is tried."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)
    place = Path(root, f"cwd-{os.getpid()}")
    place.mkdir()
    os.chdir(place)
    examples = Examples(Path(root, "examples"))
    _load_packages(examples)
    baseline = _memory("VmRSS")
    for kind, number in batch:
        pipe.send((kind, number))
        outcome = _try(kind, number, seed, examples, baseline)
        pipe.send(outcome)
        if outcome.growth > MOST_GROWTH:
            return  # what it took may not be given back, and would be told of the inputs after it
    pipe.send(None)


def _load_packages(examples: Examples) -> None:
    """Load what is loaded on use, so that it does not count as memory that an input took."""
    from scifm import cli  # noqa: F401
    from scifm.data.inspection import inspect_data
    from scifm.report.page import page  # noqa: F401

    for path in sorted((examples.formats / "xarray").iterdir()):
        inspect_data(path)


def _supervise(batch: list[tuple[str, int]], seed: int, root: str) -> Iterator[Outcome]:
    """Do a batch; a process that ends or hangs is told by the input it ended with, and another one goes on."""
    context = multiprocessing.get_context("spawn")
    rest = list(batch)
    while rest:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, rest, seed, root))
        process.start()
        theirs.close()
        current: tuple[str, int] | None = None
        before = len(rest)
        try:
            while True:
                if not ours.poll(LONGEST if current else START):
                    end, told = "hang", f"more than {LONGEST:g} s"
                    break
                message = ours.recv()
                if message is None:
                    return
                if isinstance(message, Outcome):
                    rest.pop(0)
                    current = None
                    yield message
                else:
                    current = message
        except EOFError:
            process.join()
            end, told = "crash", f"exit code {process.exitcode}"
        finally:
            process.kill()
            process.join()
        if current is None and len(rest) < before:
            continue
        if current is None:
            raise RuntimeError(f"a process of the benchmark itself failed: {told}")
        rest.pop(0)
        yield Outcome(*current, end, told, LONGEST if end == "hang" else 0.0)


def fuzz(total: int, *, seed: int = 0, in_flight: int = 2, only: list[tuple[str, int]] | None = None) -> list[Outcome]:
    """Try inputs in processes of their own and return how each ended.

    Args:
        total: how many.
        seed: of all of them.
        in_flight: processes at the same time.
        only: these inputs instead.
    """
    wanted = only or inputs_of(total)
    batches = [wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH)]
    with tempfile.TemporaryDirectory() as root, ThreadPoolExecutor(in_flight) as pool:
        make_examples(Path(root, "examples"))
        return [
            outcome
            for found in pool.map(lambda batch: list(_supervise(batch, seed, root)), batches)
            for outcome in found
        ]


def _rows(outcomes: list[Outcome], seconds: float) -> list[Row]:
    rows = []
    for kind in KINDS:
        ends = Counter(
            "failures" if outcome.is_failure else outcome.end for outcome in outcomes if outcome.kind == kind
        )
        rows += [Row(kind, end, ends[end], "inputs") for end in ("answered", "refused", "failures")]
    ends = Counter(outcome.end for outcome in outcomes)
    rows += [Row("all", end, ends[end], "inputs") for end in ("answered", "refused", "hang", "crash", "memory")]
    other = sum(outcome.is_failure and outcome.end not in ("hang", "crash", "memory") for outcome in outcomes)
    rows += [
        Row("all", "other errors", other, "inputs"),
        Row("all", "longest", max(outcome.seconds for outcome in outcomes), "s"),
        Row("all", "most memory above baseline", max(outcome.growth for outcome in outcomes) / 2**20, "MB"),
        Row("all", "time", seconds, "s"),
    ]
    return rows


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--in-flight", type=int, default=2, help="processes at the same time")
    parser.add_argument("--only", action="append", metavar="KIND:NUMBER", help="try these inputs and show how they end")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or 1)
    only = [(kind, int(number)) for kind, number in (text.split(":") for text in options.only or ())]
    start = time.perf_counter()
    outcomes = fuzz(options.inputs, seed=options.seed, in_flight=options.in_flight, only=only or None)
    for outcome in outcomes:
        if only or outcome.is_failure:
            print(f"{outcome.kind}:{outcome.number} {outcome.end}: {outcome.told}", file=sys.stderr)
    publish("Does anything from outside bring it down?", _rows(outcomes, time.perf_counter() - start), options.json)


if __name__ == "__main__":
    main()
