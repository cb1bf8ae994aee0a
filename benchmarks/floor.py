"""What a training step must cost at least on this machine, part by part, beside what it costs.

Operations and bytes are counted from the shapes; the machine's rates are measured first: the product of two 2048²
float32 matrices (by torch and by our own kernel, the faster counts) and a copy of 256 MiB. The floor of a part is the
larger of operations / rate and bytes / bandwidth: no cache is assumed to keep an activation between two passes, and no
part to hide behind another. A part's time is what its kernels took inside whole steps, the optimizer's is taken apart;
the last line is the rest: lift, loss, autograd, Python. Needs the compiled kernels (Linux, a C compiler).

``python benchmarks/floor.py --docs docs/performance.md`` also puts the tables into that page.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from unittest import mock

import torch

from counting import Case, Machine, floor_seconds, measure_machine, parts_of
from harness import Row, argument_parser, hardware, publish, put_into
from scifm.models.parts import native
from scifm.native import Library
from step import CASES, FULL_GRID, Ours


def measured_parts(case: Case, repeats: int) -> tuple[dict[str, float], float, float]:
    """Return medians: seconds a step of every kernel by name, of the optimizer, and of a whole step."""
    space, modes, width, batch = case
    network = Ours(space, width=width, modes=modes, **FULL_GRID)
    x = torch.randn(batch, 4, *space)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    turns: list[dict[str, float]] = []
    wholes, updates = [], []
    original = Library.call

    def timed(self: Library, name: str, *arguments: object) -> None:
        start = time.perf_counter()
        original(self, name, *arguments)
        turns[-1][name] += time.perf_counter() - start

    with mock.patch.object(Library, "call", timed):
        for _ in range(repeats + 2):
            turns.append(defaultdict(float))
            start = time.perf_counter()
            optimizer.zero_grad()
            network(x).square().mean().backward()
            before = time.perf_counter()
            optimizer.step()
            updates.append(time.perf_counter() - before)
            wholes.append(time.perf_counter() - start)
    kernels = {name: statistics.median(turn[name] for turn in turns[2:]) for name in turns[-1]}
    return kernels, statistics.median(updates[2:]), statistics.median(wholes[2:])


def table_of(case: Case, machine: Machine, repeats: int) -> tuple[list[Row], str]:
    """Return one case as rows and as a table in Markdown."""
    space, modes, width, batch = case
    name = f"{'x'.join(map(str, space))}, {modes} modes, width {width}, batch {batch}"
    kernels, update, whole = measured_parts(case, repeats)
    taken = 0.0
    rows, lines = (
        [],
        ["| part | GFLOP | MB | floor, ms | measured, ms | floor / measured |", "|---|---|---|---|---|---|"],
    )
    parts = parts_of(*case)
    for part in parts:
        seconds = sum(kernels.get(kernel, 0.0) for kernel in part.kernels) if part.kernels else update
        if part is parts[-1]:
            seconds = whole - taken
        taken += seconds
        floor = part.floor(machine)
        rows += [
            Row(name, f"{part.name}: {what}", value, unit)
            for what, value, unit in (
                ("operations", part.operations / 1e9, "GFLOP"),
                ("bytes", part.bytes / 1e6, "MB"),
                ("floor", 1e3 * floor, "ms"),
                ("measured", 1e3 * seconds, "ms"),
            )
        ]
        lines.append(
            f"| {part.name} | {part.operations / 1e9:.2f} | {part.bytes / 1e6:,.0f} | {1e3 * floor:.1f} | "
            f"{1e3 * seconds:.1f} | {floor / seconds:.0%} |"
        )
    floor = floor_seconds(case, machine)
    rows += [Row(name, "whole step: floor", 1e3 * floor, "ms"), Row(name, "whole step: measured", 1e3 * whole, "ms")]
    total = sum(part.operations for part in parts) / 1e9, sum(part.bytes for part in parts) / 1e6
    lines.append(
        f"| **whole step** | {total[0]:.2f} | {total[1]:,.0f} | {1e3 * floor:.1f} | {1e3 * whole:.1f} | "
        f"{floor / whole:.0%} |"
    )
    return rows, f"**{name}**\n\n" + "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(6)), help="which rows, from 0")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the tables into this page")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if native.library() is None:
        sys.exit("floor.py times the compiled kernels, which this machine cannot run: see `scifm.models.parts.native`.")
    machine = measure_machine()
    rows = [
        Row("machine", "matrix product", machine.product / 1e9, "GFLOP/s"),
        Row("machine", "copy, read plus written", machine.copy / 1e9, "GB/s"),
    ]
    found = hardware()
    texts = [
        f"Measured on {found['processor']}, {found['torch_threads']} threads, torch {torch.__version__}: matrix "
        f"product {machine.product / 1e9:.0f} GFLOP/s, copy {machine.copy / 1e9:.0f} GB/s (read plus written)."
    ]
    for index in arguments.cases:
        more, text = table_of(CASES[index], machine, arguments.repeats)
        rows += more
        texts.append(text)
    publish("The floor of a training step", rows, arguments.json)
    if arguments.docs:
        put_into(arguments.docs, "benchmarks/floor.py", "\n\n".join(texts))


if __name__ == "__main__":
    main()
