"""Is anything lost when trainings and studies are killed? Kills, resumes, and compares with what was left alone.

Several copies of one tiny training ("lives") run beside each other as real commands, ``scifm pretrain``. Each is struck
again and again, by turns

* kill -9 at a random moment, from the start of Python to the last step,
* kill -9 the moment a state is being written (its ``.part`` file is there),
* kill -9, and a byte of the newest state turned over or its end cut off afterwards,
* SIGTERM and SIGUSR1, as schedulers send them,
* a disk that is full: a tmpfs of 8 MiB filled to the brim, where one may be mounted; and a limit on the size of
  files, which makes a write fail in its middle,

and given the same command again until it is complete. Then its weights must equal those of the training left alone, bit
for bit, and its log must have the same lines, each once (seconds aside; a line that tells of a damaged state is extra).

Then workers of studies on a Dask cluster are killed (see `study_faults`).

``python benchmarks/faults.py --json OUT``
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file

from harness import Row, argument_parser, publish, put_into
from study_faults import study_faults

RECIPE = """
name = "faults"
seed = 1
[system]
name = "poisson"
[data]
num_points = 16
num_validation_samples = 4
num_normalization_samples = 8
[model.network]
width = 20
modes = 5
num_layers = 2
projection_width = 8
latent_points = 12
[training]
num_steps = {num_steps}
batch_size = 4
learning_rate = 0.01
validate_every = 40
log_every = 5
checkpoint_every = 10
keep_every = 2000
accelerator = "cpu"
"""
DISK_BYTES = 8 * 2**20
FILE_LIMIT = 200_000  # bytes: a state is larger, everything else is smaller
LIBC = ctypes.CDLL(None)
IN_CREATE = 0x100
LONGEST = 300.0  # seconds a sitting may take before it counts as hung
KINDS = (
    "random",
    "in a write",
    "SIGTERM",
    "random",
    "in a write",
    "damaged",
    "full",
    "random",
    "SIGUSR1",
    "file limit",
)


@dataclass
class Life:
    """One training and what happened to it."""

    folder: Path
    command: list[str]
    strikes: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    half_written: int = 0
    sittings: int = 0

    found: Path | None = None

    @property
    def run(self) -> Path | None:
        if self.found is None:  # looked for once: a write lasts milliseconds, and is to be met
            self.found = next((self.folder / "runs").glob("faults-*"), None)
        return self.found

    def states(self) -> list[Path]:
        return sorted(self.run.glob("state/step-*.safetensors")) if self.run else []

    def start(self, *, file_limit: int | None = None) -> subprocess.Popen[bytes]:
        self.sittings += 1

        def limit() -> None:
            if file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        log = (self.folder.parent / f"{self.folder.name}.out").open("ab")
        with log:
            return subprocess.Popen(self.command, env=environment, stdout=log, stderr=log, preexec_fn=limit)


def wait_until(process: subprocess.Popen[bytes], happened: Callable[[], bool], *, pause: float) -> bool:
    """Wait until something happened; False if the process ended before."""
    end = time.monotonic() + LONGEST
    while process.poll() is None:
        if happened():
            return True
        if time.monotonic() > end:
            process.kill()
            raise TimeoutError("a sitting made no progress")
        time.sleep(pause)
    return False


def has_part(life: Life) -> bool:
    run = life.run
    return run is not None and any(name.endswith(".part") for name in _names(run / "state"))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def strike(life: Life, kind: str, generator: random.Random) -> bool:
    """Start a sitting and end it in one way; False if it was complete before that."""
    if kind == "file limit":
        process = life.start(file_limit=FILE_LIMIT)
        return _count(life, kind, process.wait(LONGEST) == 2)
    process = life.start()
    before = [state.name for state in life.states()]
    if kind == "in a write":
        reached = _let_it_begin(life, process, before) and _meet_a_write(life)
        time.sleep(generator.choice([0, 0, generator.uniform(0, 0.002)]))
    elif kind == "random" and generator.random() < 0.25:
        time.sleep(generator.uniform(0, 3))  # while Python starts, or soon after
        reached = True
    else:
        reached = _let_it_begin(life, process, before)
        time.sleep(generator.uniform(0, 0.7))
    if not reached or process.poll() is not None:
        return process.wait() != 0
    if kind == "full":
        filler = life.folder / "filler"
        _fill(filler)
        done = process.wait(LONGEST)
        filler.unlink()
        return _count(life, kind, done == 2)
    number = {"SIGTERM": signal.SIGTERM, "SIGUSR1": signal.SIGUSR1}.get(kind, signal.SIGKILL)
    process.send_signal(number)
    done = process.wait(LONGEST)
    life.half_written += has_part(life)
    if kind == "damaged" and len(life.states()) > 1:
        _damage(life.states()[-1], generator)
    return _count(life, kind, done == (-signal.SIGKILL if number == signal.SIGKILL else 75))


def _meet_a_write(life: Life) -> bool:
    """Wait until a file is begun in the folder of states: the kernel tells (inotify), polling would come too late."""
    assert life.run is not None
    watch = LIBC.inotify_init1(0)
    try:
        LIBC.inotify_add_watch(watch, os.fsencode(life.run / "state"), IN_CREATE)
        ready, _, _ = select.select([watch], [], [], LONGEST)
        return bool(ready)
    finally:
        os.close(watch)


def _let_it_begin(life: Life, process: subprocess.Popen[bytes], before: list[str]) -> bool:
    """Wait until this sitting saved a state of its own."""
    return wait_until(process, lambda: [s.name for s in life.states()] not in ([], before), pause=0.005)


def _count(life: Life, kind: str, as_expected: bool) -> bool:
    life.strikes[kind] += 1
    if not as_expected:
        life.surprises.append(f"{life.folder.name}: {kind} ended in an unexpected way")
    return True


def _fill(file: Path) -> None:
    """Write until the disk is full."""
    with file.open("wb", buffering=0) as handle:
        try:
            while True:
                handle.write(b"\0" * 4096)
        except OSError:
            return


def _damage(file: Path, generator: random.Random) -> None:
    content = bytearray(file.read_bytes())
    if generator.random() < 0.5:
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    else:
        del content[generator.randrange(len(content)) :]
    file.write_bytes(content)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small tmpfs on a folder; tells whether that was allowed."""
    folder.mkdir()
    size = f"size={DISK_BYTES}"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def live(folder: Path, recipe: Path, kinds: list[str], seed: int) -> Life:
    """Begin a training, strike it in these ways, and let it finish."""
    command = [sys.executable, "-m", "scifm", "pretrain", str(recipe), "--out", str(folder / "runs")]
    life, generator = Life(folder, command), random.Random(seed)
    for kind in kinds:
        if not strike(life, kind, generator):
            life.surprises.append(f"{folder.name}: complete before all strikes; give it more steps")
    if life.start().wait(LONGEST) != 0:
        life.surprises.append(f"{folder.name}: the last sitting failed")
    return life


def lines_of(run: Path) -> Counter[str]:
    """Return the lines of a log and how often each occurs, without what may differ."""
    found: Counter[str] = Counter()
    for text in (run / "metrics.jsonl").read_text().splitlines():
        event = {key: value for key, value in json.loads(text).items() if key != "seconds"}
        if event["event"] != "damaged":
            found[json.dumps(event, sort_keys=True)] += 1
    return found


def weights_differ(first: Path, second: Path) -> int:
    """Return how many tensors of two runs' models are not equal bit for bit."""
    one, other = (load_file(next((run / "model").glob("*.safetensors"))) for run in (first, second))
    assert one, "a model without weights"
    same = [name for name in one if name in other and torch.equal(_bits(one[name]), _bits(other[name]))]
    return len(one.keys() | other.keys()) - len(same)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def training_faults(folder: Path, *, num_lives: int, num_strikes: int, num_steps: int, in_flight: int) -> list[Row]:
    """Strike `num_lives` trainings `num_strikes` times each, and compare them with one left alone."""
    started = time.perf_counter()
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(num_steps=num_steps))
    (folder / "alone").mkdir()
    alone = live(folder / "alone", recipe, [], 0)
    assert alone.run is not None
    with small_disk(folder / "disk") as mounted, ThreadPoolExecutor(in_flight) as pool:
        futures = []
        for number in range(num_lives):
            kinds = [KINDS[(number + turn) % len(KINDS)] for turn in range(num_strikes)]
            on_disk = mounted and number == 0  # one training has the small disk to itself, and meets it full more often
            old, new = ("random", "full") if on_disk else ("full", "random")
            place = (folder / "disk" if on_disk else folder) / f"life-{number}"
            place.mkdir()
            futures.append(pool.submit(live, place, recipe, [new if k == old else k for k in kinds], number))
        lives = [future.result() for future in futures]
        rows = _rows(alone, lives, mounted)  # while the small disk is still there
    return [*rows, Row("training", "seconds", time.perf_counter() - started, "s")]


def _rows(alone: Life, lives: list[Life], mounted: bool) -> list[Row]:
    """Compare each with the one left alone."""
    strikes: Counter[str] = sum((life.strikes for life in lives), Counter())
    expected = lines_of(alone.run)
    missing = doubled = strange = tensors = incomplete = 0
    for life in lives:
        if life.run is None or (life.run / "STATUS").read_text().strip() != "complete":
            incomplete += 1
            continue
        found = lines_of(life.run)
        missing += len(expected - found)
        strange += len(set(found) - set(expected))
        doubled += sum(count > 1 for count in found.values())
        tensors += weights_differ(alone.run, life.run)
    surprises = [told for life in lives for told in life.surprises]
    for told in surprises:
        print(told, file=sys.stderr)
    names = {
        "random": "kill -9 at a random moment",
        "in a write": "kill -9 when a state was being written",
        "damaged": "kill -9, then the newest state damaged",
        "SIGTERM": "SIGTERM (exit status 75)",
        "SIGUSR1": "SIGUSR1 (exit status 75)",
        "full": "full disk, tmpfs of 8 MiB (exit status 2)",
        "file limit": "write cut by RLIMIT_FSIZE (exit status 2)",
    }
    rows = [Row("training", name, strikes[kind], "strikes") for kind, name in names.items()]
    return [
        *rows,
        Row("training", "strikes in all", sum(strikes.values()), "strikes"),
        Row("training", "kills that left a half-written file", sum(life.half_written for life in lives), "kills"),
        Row("training", "a tmpfs could be mounted", mounted, "yes = 1"),
        Row("training", "trainings struck", len(lives), "runs"),
        Row("training", "sittings", sum(life.sittings for life in lives), "sittings"),
        Row("training", "trainings not complete", incomplete, "runs"),
        Row("training", "tensors that differ from the training left alone", tensors, "tensors"),
        Row("training", "log lines expected of each", sum(expected.values()), "lines"),
        Row("training", "log lines missing", missing, "lines"),
        Row("training", "log lines twice", doubled, "lines"),
        Row("training", "log lines of other content", strange, "lines"),
        Row("training", "ends in another way than promised", len(surprises), "strikes"),
    ]


def table_of(rows: list[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [f"| {row.metric} | {row.value:,.0f} {row.unit} |" for row in rows if row.unit != "yes = 1"]
    return "\n".join(["| | |", "|---|--:|", *lines])


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--lives", type=int, default=7, help="trainings that are struck")
    parser.add_argument("--strikes", type=int, default=10, help="strikes on each")
    parser.add_argument("--steps", type=int, default=2500, help="steps of the training")
    parser.add_argument("--in-flight", type=int, default=3, help="trainings at the same time")
    parser.add_argument("--worker-kills", type=int, default=20, help="workers of studies to kill")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the table into this page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rows = training_faults(
            Path(place),
            num_lives=options.lives,
            num_strikes=options.strikes,
            num_steps=options.steps,
            in_flight=options.in_flight,
        )
        rows += study_faults(Path(place), num_kills=options.worker_kills, seed=0)
    publish("What is lost when trainings and studies are killed?", rows, options.json)
    if options.docs is not None:
        put_into(options.docs, "benchmarks/faults.py", table_of(rows))


if __name__ == "__main__":
    main()
