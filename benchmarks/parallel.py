"""Do several processes find what one finds, and how much sooner?

Correctness: 50 steps in float64 on 4 processes, as copies (DDP) and as shares (FSDP2), against 1 process; the largest
difference of any weight tensor relative to its largest entry.

Speed: steps a second of whole steps (sampling, gradient, optimizer) with 1 process of 1 thread, 2 of 1 and 1 of 2;
contestants take turns. The limit of 2 processes is what this machine leaves them: 2 trainings that know nothing of each
other, each on half the batch, and the exchange of as many numbers as there are weights, timed alone.

Generation: samples a second of `generate` with 1 and 2 workers that have started already; their start is told apart.
The load average is among the rows: other work on the machine shows there.

``python benchmarks/parallel.py --json OUT``
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, wait
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from harness import Row, argument_parser, publish
from scifm.data.generate import generate
from scifm.data.stream import Stream
from scifm.execution.workers import worker_pool
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNO, FNOConfig
from scifm.systems.poisson import Poisson
from scifm.training.loop import TrainingConfig, train
from scifm.training.processes import World, joined, world_from

SIZES = {"small": "small, 64 × 64, batch 32", "large": "large, 64 × 64, batch 32"}
STEPS = {"small": 12, "large": 6}
BATCH = 32
WAYS = {"1 process, 1 thread": (1, 1), "2 processes, 1 thread": (2, 1), "1 process, 2 threads": (1, 2)}
APART = "2 trainings apart, half a batch"
FNO_OF_CHECK = FNOConfig(width=8, modes=6, num_layers=4, projection_width=16)


def _check(world: World, strategy: str) -> dict[str, Any]:
    torch.manual_seed(0)
    operator = FNO(Poisson.signature, FNO_OF_CHECK)
    source = Stream(Poisson(), Grid.square(32), batch_size=16, seed=0, dtype=torch.float64)
    config = TrainingConfig(num_steps=50, precision="64-true", accelerator="cpu", strategy=strategy)
    train(operator, source, config=config, world=world)
    return dict(operator.state_dict())


def _time(world: World, size: str, batch_size: int = BATCH) -> dict[str, Any]:
    """Return the seconds of each step; the first two are left out."""
    torch.manual_seed(0)
    operator = FNO(Poisson.signature, FNOConfig.of_size(size))
    source = Stream(Poisson(), Grid.square(64), batch_size=batch_size, seed=0, blocks=2)
    moments: list[float] = []

    def note(**event: Any) -> None:
        if event["event"] == "step":
            moments.append(time.perf_counter())

    config = TrainingConfig(num_steps=STEPS[size] + 2, accelerator="cpu")
    train(operator, source, config=config, world=world, observe=note)
    return {"seconds": [later - earlier for earlier, later in pairwise(moments[1:])]}


def _exchange(world: World, size: str) -> dict[str, Any]:
    """Return the seconds it takes to add up a gradient over the processes."""
    gradient = torch.ones(sum(p.numel() for p in FNO(Poisson.signature, FNOConfig.of_size(size)).parameters()))
    seconds = []
    for _ in range(12):
        world.wait()
        start = time.perf_counter()
        torch.distributed.all_reduce(gradient)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds[2:]}


def _together(size: int, threads: int, task: str, folder: Path, *, apart: bool = False) -> Any:
    """Have processes do a task, connected or apart; return what the first one found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    meeting |= {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--task", task, "--out", str(folder / "found.pt")],
            env={**os.environ, **meeting, **_place(0 if apart else rank, 1 if apart else size)},
        )
        for rank in range(size)
    ]
    if any(process.wait() for process in started):
        raise SystemExit(f"'{task}' failed in {size} processes.")
    return torch.load(folder / "found.pt", weights_only=True)


def _place(rank: int, size: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}


def _difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    return max(float((found[name] - e).abs().max() / e.abs().max().clamp(min=1e-300)) for name, e in expected.items())


def _correctness(folder: Path) -> list[Row]:
    alone = _together(1, 1, "check:ddp", folder)
    rows = []
    for strategy in ("ddp", "fsdp"):
        shared = _together(4, 1, f"check:{strategy}", folder)
        case = f"{strategy}, 4 processes, 50 steps in float64"
        rows.append(Row(case, "largest difference from 1 process", _difference(shared, alone), "relative"))
    return rows


def _speed(folder: Path, turns: int) -> list[Row]:
    rows = []
    for size, case in SIZES.items():
        seconds: dict[str, list[float]] = {way: [] for way in [*WAYS, APART, "exchange"]}
        for _ in range(turns):
            for way, (processes, threads) in WAYS.items():
                seconds[way] += _together(processes, threads, f"time:{size}", folder)["seconds"]
            seconds[APART] += _together(2, 1, f"half:{size}", folder, apart=True)["seconds"]
            seconds["exchange"] += _together(2, 1, f"exchange:{size}", folder)["seconds"]
        took = {way: statistics.median(found) for way, found in seconds.items()}
        rows += [Row(case, way, 1 / took[way], "steps/s") for way in [*WAYS, APART]]
        one, two, threads_too = (took[way] for way in WAYS)
        rows += [
            Row(case, "exchange of a gradient", 1e3 * took["exchange"], "ms"),
            Row(case, "efficiency of 2 processes", one / (2 * two), "1"),
            Row(case, "limit of it", one / (2 * (took[APART] + took["exchange"])), "1"),
            Row(case, "efficiency of 2 threads", one / (2 * threads_too), "1"),
        ]
    return rows


@contextmanager
def _started(pool: Executor) -> Iterator[Executor]:
    """Lend a pool to `generate` that goes on living."""
    yield pool


def _generation(folder: Path, turns: int) -> list[Row]:
    count, rates, starts = 4096, {1: [], 2: []}, {1: [], 2: []}  # type: dict[int, list[float]], dict[int, list[float]]
    for turn in range(turns):
        for workers in rates:
            start = time.perf_counter()
            with worker_pool(workers) as pool:
                wait([pool.submit(_import_generate) for _ in range(workers)])
                starts[workers].append(time.perf_counter() - start)
                start = time.perf_counter()
                generate(
                    Poisson(),
                    num_samples={"train": count},
                    num_points=128,
                    path=folder / f"store-{workers}-{turn}",
                    chunk_size=256,
                    make_executor=lambda pool=pool: _started(pool),
                )
                rates[workers].append(count / (time.perf_counter() - start))
            shutil.rmtree(folder / f"store-{workers}-{turn}")
    case = f"generate, {count} of Poisson 128²"
    found = {workers: statistics.median(values) for workers, values in rates.items()}
    names = {1: "1 worker", 2: "2 workers"}
    return [
        *(Row(case, name, found[workers], "samples/s") for workers, name in names.items()),
        *(Row(case, f"start of {name}", statistics.median(starts[w]), "s") for w, name in names.items()),
        Row(case, "efficiency of 2 workers", found[2] / (2 * found[1]), "1"),
    ]


def _import_generate() -> None:
    """Make a worker ready: it waits a little, so that every worker gets one of these."""
    generator_for(0, "warm")
    time.sleep(0.5)


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--task", help="used by this script for the processes it starts")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.task is not None:
        _work(options.task, options.out)
        return
    torch.set_num_threads(options.threads or 1)
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [*_correctness(folder), *_speed(folder, options.turns), *_generation(folder, options.turns)]
    rows += [
        Row("machine", "load average before", before, "1"),
        Row("machine", "load average after", os.getloadavg()[0], "1"),
    ]
    publish("Do several processes find what one finds, and how much sooner?", rows, options.json)


def _work(task: str, out: Path) -> None:
    kind, _, argument = task.partition(":")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with joined(world_from(), "cpu") as world:
        tasks = {"check": _check, "time": _time, "half": partial(_time, batch_size=BATCH // 2), "exchange": _exchange}
        found = tasks[kind](world, argument)
        if world.is_first:
            torch.save(found, out)


if __name__ == "__main__":
    main()
