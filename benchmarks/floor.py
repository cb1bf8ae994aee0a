"""What a training step and an answer must cost at least on this machine, part by part, beside what they cost.

Operations and bytes are counted from the shapes; the machine's rates are measured first: the product of two 2048²
float32 matrices (by torch and by our own kernel, the faster counts) and a copy of 256 MiB. The floor of a part is the
larger of operations / rate and bytes / bandwidth: no cache is assumed to keep an activation between two passes, and no
part to hide behind another. A part's time is what its kernels took inside whole steps, the optimizer's is taken apart;
the last line is the rest: lift, loss, autograd, Python. On one thread times are those of the process, on more they are
of the wall. Needs the compiled kernels (Linux, a C compiler).

``python benchmarks/floor.py --docs docs/performance.md`` also puts the tables into that page.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn

from counting import Case, Machine, Part, answer_parts_of, measure_machine, parts_of
from harness import Row, argument_parser, hardware, publish, put_into
from scifm.models.parts import native
from scifm.native import Library
from step import CASES, FULL_GRID, Ours

Clock = Callable[[], float]


@dataclass(frozen=True)
class Measured:
    """Medians, in seconds: of every kernel by its name, of the optimizer, and of the whole."""

    kernels: dict[str, float]
    update: float
    whole: float


def clock() -> Clock:
    """Return what tells seconds: on one thread those of this process, which others do not disturb."""
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def measure(forward: Callable[[], Tensor], network: nn.Module | None, repeats: int) -> Measured:
    """Time an answer, or where a network is given steps of it, forward, backward and Adam."""
    optimizer = None if network is None else torch.optim.Adam(network.parameters(), fused=True)
    turns: list[dict[str, float]] = []
    wholes, updates, now, original = [], [], clock(), Library.call

    def timed(self: Library, name: str, *arguments: object) -> None:
        start = now()
        original(self, name, *arguments)
        turns[-1][name] += now() - start

    with mock.patch.object(Library, "call", timed):
        for _ in range(repeats + 2):
            turns.append(defaultdict(float))
            start = now()
            if optimizer is None:
                with torch.inference_mode():
                    forward()
            else:
                optimizer.zero_grad()
                forward().square().mean().backward()
            before = now()
            if optimizer is not None:
                optimizer.step()
            updates.append(now() - before)
            wholes.append(now() - start)
    kernels = {name: statistics.median(turn[name] for turn in turns[2:]) for name in turns[-1]}
    return Measured(kernels, statistics.median(updates[2:]), statistics.median(wholes[2:]))


def table_of(name: str, parts: list[Part], machine: Machine, found: Measured) -> tuple[list[Row], str]:
    """Return one case as rows and as a table in Markdown; the last part is the rest."""
    taken, floor = 0.0, sum(part.floor(machine) for part in parts)
    rows, lines = (
        [],
        ["| part | GFLOP | MB | floor, ms | measured, ms | floor / measured |", "|---|---|---|---|---|---|"],
    )
    for part in parts:
        seconds = sum(found.kernels.get(kernel, 0.0) for kernel in part.kernels) if part.kernels else found.update
        if part is parts[-1]:
            seconds = found.whole - taken
        taken += seconds
        least = part.floor(machine)
        rows += [
            Row(name, f"{part.name}: {what}", value, unit)
            for what, value, unit in (
                ("operations", part.operations / 1e9, "GFLOP"),
                ("bytes", part.bytes / 1e6, "MB"),
                ("floor", 1e3 * least, "ms"),
                ("measured", 1e3 * seconds, "ms"),
            )
        ]
        lines.append(
            f"| {part.name} | {part.operations / 1e9:.2f} | {part.bytes / 1e6:,.0f} | {1e3 * least:.1f} | "
            f"{1e3 * seconds:.1f} | {least / seconds:.0%} |"
        )
    rows += [Row(name, "whole: floor", 1e3 * floor, "ms"), Row(name, "whole: measured", 1e3 * found.whole, "ms")]
    total = sum(part.operations for part in parts) / 1e9, sum(part.bytes for part in parts) / 1e6
    lines.append(
        f"| **whole** | {total[0]:.2f} | {total[1]:,.0f} | {1e3 * floor:.1f} | {1e3 * found.whole:.1f} | "
        f"{floor / found.whole:.0%} |"
    )
    return rows, f"**{name}**\n\n" + "\n".join(lines)


def tables_of(case: Case, machine: Machine, repeats: int) -> tuple[list[Row], list[str]]:
    """Return a step and an answer of a case."""
    space, modes, width, batch = case
    name = f"{'x'.join(map(str, space))}, {modes} modes, width {width}, batch {batch}"
    network, x = Ours(space, width=width, modes=modes, **FULL_GRID), torch.randn(batch, 4, *space)
    step = table_of(name, parts_of(*case), machine, measure(lambda: network(x), network, repeats))
    answer = table_of(f"{name}: an answer", answer_parts_of(*case), machine, measure(lambda: network(x), None, repeats))
    return step[0] + answer[0], [step[1], answer[1]]


def started(arguments: argparse.Namespace) -> tuple[Machine, list[Row], str]:
    """Return the machine's rates, as they are, as rows and in words."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if native.library() is None:
        sys.exit("This times the compiled kernels, which this machine cannot run: see `scifm.models.parts.native`.")
    machine, found = measure_machine(), hardware()
    rows = [
        Row("machine", "matrix product", machine.product / 1e9, "GFLOP/s"),
        Row("machine", "copy, read plus written", machine.copy / 1e9, "GB/s"),
    ]
    return (
        machine,
        rows,
        (
            f"Measured on {found['processor']} ({found['cpu_capability']}), {found['torch_threads']} threads, torch "
            f"{torch.__version__}: matrix product {machine.product / 1e9:.0f} GFLOP/s, copy "
            f"{machine.copy / 1e9:.0f} GB/s (read plus written)."
        ),
    )


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(6)), help="which rows, from 0")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the tables into this page")
    arguments = parser.parse_args()
    machine, rows, text = started(arguments)
    texts = [text]
    for index in arguments.cases:
        more, tables = tables_of(CASES[index], machine, arguments.repeats)
        rows += more
        texts += tables
    publish("The floor of a training step", rows, arguments.json)
    if arguments.docs:
        put_into(arguments.docs, "benchmarks/floor.py", "\n\n".join(texts))


if __name__ == "__main__":
    main()
