"""How many trajectories a second do finite volumes make, compiled and through torch, and how near is the limit?

Both march the same problems in float32, in turns in one process; times are of the processor where one thread works (so
that whoever else runs there disturbs less) and of the clock where more do. The limit counts the divisions and roots of
one step, which one unit of a processor makes, and its other operations, which others make beside; whichever takes
longer at the speed measured here, on numbers that stay in the first cache, is the least that a step can take.

    python benchmarks/volumes.py --threads 1 --json OUT
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from harness import Row, argument_parser, publish
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.native import Code, load, vector_flags, width
from scifm.systems import finite_volume_system
from scifm.systems.compressible_navier_stokes import CompressibleNavierStokes
from scifm.systems.euler import Euler
from scifm.systems.finite_volume_system import FiniteVolumeSystem
from scifm.systems.shallow_water import ShallowWater

NUM_POINTS = 64
STAGES = 3
AXES = 2

# In two dimensions, of a cell and axis in one stage, counted in volumes_faces.h and volumes.c: divisions, roots, others
# (a fused product and sum is one, and so is a choice of two). Values at faces of four fields with the squares of their
# differences; the flux; what flows in and out; half of the stage's update, which serves two axes; friction.
OPERATIONS: dict[type[FiniteVolumeSystem], tuple[float, int, int]] = {
    ShallowWater: (4 + 2 + 0.5, 3, 4 * 16 + 8 + 56 + 11 + 4),
    Euler: (4 + 5 + 0.5, 5, 4 * 17 + 18 + 8 + 59 + 8 + 8),
    CompressibleNavierStokes: (4 + 5 + 0.5, 5, 4 * 17 + 18 + 8 + 59 + 8 + 8 + 26),
}

PEAK = """
typedef long long i64;
#include <math.h>
#define RUN(name, expression) void scifm_##name(int threads, i64 turns, float *x) { (void)threads; \\
    for (i64 t = 0; t < turns; t++) { \\
        _Pragma("omp simd") for (int i = 0; i < 2048; i++) { const float v = x[i]; x[i] = expression; } \\
        __asm__ volatile("" : : "r"(x) : "memory"); } }
/*
void scifm_divide(int threads, i64 turns, float *x)
void scifm_root(int threads, i64 turns, float *x)
void scifm_fused(int threads, i64 turns, float *x)
*/
RUN(divide, 1.5f / v)
RUN(root, sqrtf(v))
#define F(e) ((e) * v + 0.25f)
RUN(fused, F(F(F(F(F(F(F(F(F(F(F(F(F(F(F(F(v * 0.5f)))))))))))))))) * 0.001f + 0.5f)
"""
CHAIN = 18  # operations of the last


def peaks() -> tuple[float, ...]:
    """Return seconds of a division, a root and another operation at best, one thread."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "peak.c"
        source.write_text(PEAK)
        library = load(Code((source,), vector_flags(width())))
    if library is None:
        raise SystemExit("This benchmark times compiled kernels, which cannot be had here: see `scifm.native`.")
    seconds = []
    for name, operations in (("divide", 1), ("root", 1), ("fused", CHAIN)):
        numbers, best = torch.rand(2048) + 0.5, float("inf")
        for _ in range(30):
            start = time.perf_counter()
            library.call(name, 200, numbers)
            best = min(best, time.perf_counter() - start)
        seconds.append(best / (200 * 2048 * operations))
    return tuple(seconds)


def in_turns(contestants: dict[str, Callable[[], Any]], repeats: int, clock: Callable[[], float]) -> dict[str, list]:
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, run in contestants.items():
            start = clock()
            run()
            if turn:
                seconds[name].append(clock() - start)
    return seconds


def measure(kind: type[FiniteVolumeSystem], repeats: int, num_samples: int, best: tuple[float, ...]) -> list[Row]:
    system, grid = kind(), Grid.square(NUM_POINTS)
    inputs, numbers = system.initial(num_samples, grid, generator_for(0, "benchmark"), torch.device("cpu"))
    inputs, numbers = inputs.float(), numbers.float()
    made: dict[str, torch.Tensor] = {}
    steps: list[int] = []
    threads = torch.get_num_threads()

    def run(name: str) -> None:
        march = mock.patch.object(finite_volume_system, "volumes_for", return_value=None)
        with nullcontext() if name == "compiled" else march:
            made[name] = system.advance(
                inputs, numbers, grid, interval=system.save_interval, num_frames=system.num_frames - 1
            )

    original = finite_volume_system.march

    def counted(*arguments: Any) -> torch.Tensor:
        steps.extend(arguments[7])
        return original(*arguments)

    with mock.patch.object(finite_volume_system, "march", counted):
        run("compiled")
    names = ("compiled", "torch")
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds = in_turns({name: lambda name=name: run(name) for name in names}, repeats, clock)
    apart = float((made["compiled"] - made["torch"]).abs().max() / made["torch"].abs().max())
    if not apart < 1e-3:
        raise SystemExit(f"{system.name}: the two marches part by {apart:.2g}, so their speed says nothing.")
    case = f"{system.name} {NUM_POINTS} × {NUM_POINTS}, {num_samples} samples"
    rows = [Row(case, "steps of a trajectory", sum(steps) / num_samples, "1")]
    for name in names:
        rows += [
            Row(case, f"{name}, median", num_samples / statistics.median(seconds[name]), "trajectories/s"),
            Row(case, f"{name}, best", num_samples / min(seconds[name]), "trajectories/s"),
            Row(case, f"{name}, best", min(seconds[name]) / sum(steps) * 1e6, "µs a step and sample"),
        ]
    ratios = [slow / quick for slow, quick in zip(seconds["torch"], seconds["compiled"], strict=True)]
    rows += [Row(case, f"torch / compiled, {name}", how(ratios), "1") for name, how in
             (("median", statistics.median), ("least", min), ("most", max))]  # fmt: skip
    (divisions, roots, others), (division, root, other) = OPERATIONS[kind], best
    limit = STAGES * AXES * NUM_POINTS**2 * max(divisions * division + roots * root, others * other)
    rows += [
        Row(case, "limit of one thread", limit * 1e6, "µs a step and sample"),
        Row(case, "share of the limit, best", limit / threads / (min(seconds["compiled"]) / sum(steps)), "1"),
        Row(case, "apart in the end", apart, "relative"),
    ]
    return rows


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=8)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    best = peaks()
    rows = [row for kind in OPERATIONS for row in measure(kind, options.repeats, options.samples, best)]
    rows += [Row("this processor", f"of a {what}", each * 1e9, "ns a number, one thread") for what, each in
             zip(("division", "root", "fused product and sum"), best, strict=True)]  # fmt: skip
    publish("Finite volumes: trajectories a second", rows, options.json)


if __name__ == "__main__":
    main()
