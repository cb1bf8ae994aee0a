"""What does a training step of our space–time transformer cost, beside the AViT of The Well's package at equal width?

Both have 16 by 16 points in a token, the same width and the same number of blocks, and take turns in one process:
forward, backward and AdamW on random fields at 64², a batch of 8 and a larger one; medians. Ours is told two
coefficients, which move its norms and have weights for that; theirs is given them as channels. The products of a step
are counted by torch, ours through the plain twin, where torch sees them; what a backward pass makes again is not among
them. Memory is the peak of a process that takes a few steps of one of them, above what it holds before the first.

`well_peers` says what the package needs and how to get it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness import Row, alternate, argument_parser, medians, publish, put_into
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models.axial_transformer import AxialTransformer, AxialTransformerConfig
from step import resident
from training_step import operations, step_of
from well_peers import make_network, make_ready

POINTS, PATCH = 64, 16  # theirs knows no other patch
SIGNATURE = Signature(("u", "v"), ("a", "b"), ("u", "v"), 2, evolves=True)
OURS, TORCH, THEIRS = "ours", "ours, through torch", "AViT"
NAMES = (OURS, TORCH, THEIRS)


def ours(width: int, blocks: int, batch: int, *, plain: bool) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return our operator and what makes it answer."""
    settings = {"width": width, "num_heads": width // 64, "num_blocks": blocks, "patch": PATCH, "plain": plain}
    operator = AxialTransformer(SIGNATURE, AxialTransformerConfig(**settings))
    fields, coefficients = torch.randn(batch, 1, 2, POINTS, POINTS), torch.randn(batch, 2)
    given = Batch(SIGNATURE, Grid.square(POINTS), fields, coefficients)
    return operator, lambda: operator(given).require_targets()


def theirs(width: int, blocks: int, batch: int) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return their network, with the coefficients as channels, and what makes it answer."""
    num_in = len(SIGNATURE.inputs) + len(SIGNATURE.coefficients)
    settings = {"hidden_dim": width, "num_heads": 12, "processor_blocks": blocks}  # heads: as their class has it
    network = make_network("avit", num_in, len(SIGNATURE.outputs), (POINTS, POINTS), settings)
    x = torch.randn(batch, num_in, POINTS, POINTS)
    return network, lambda: network(x)


def contestant(name: str, width: int, blocks: int, batch: int) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return a network by its name and what makes it answer."""
    if name == THEIRS:
        return theirs(width, blocks, batch)
    return ours(width, blocks, batch, plain=name == TORCH)


def memory(packages: Path | None, threads: int, *case: Any) -> float:
    """Return by how many MiB five steps raise the peak of this process, which has done nothing before."""
    torch.set_num_threads(threads)
    make_ready(packages, needs_fno=False)
    network, answer = contestant(*case)
    before = resident("VmRSS")
    step = step_of(network, answer)
    for _ in range(5):
        step()
    return (resident("VmHWM") - before) / 2**20


def measure(width: int, blocks: int, batch: int, repeats: int, packages: Path | None) -> list[Row]:
    """Return what is measured of one case."""
    case = f"width {width}, {blocks} blocks, {POINTS}², batch {batch}"
    networks = {name: contestant(name, width, blocks, batch) for name in NAMES}
    rows = [Row(case, f"{name}: weights", sum(p.numel() for p in network.parameters()), "1")
            for name, (network, _) in networks.items()]  # fmt: skip
    counted = {OURS: TORCH, TORCH: TORCH, THEIRS: THEIRS}
    rows += [Row(case, f"{name}: products of a step", operations(networks[by][1]) / 1e9, "GFLOP")
             for name, by in counted.items()]  # fmt: skip
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as alone:
        for name in NAMES:
            peak = alone.apply(memory, (packages, torch.get_num_threads(), name, width, blocks, batch))
            rows.append(Row(case, f"{name}: memory", peak, "MiB"))
    steps = {name: step_of(*made) for name, made in networks.items()}
    times = medians(alternate(steps, repeats=repeats, warmups=5))
    rows += [Row(case, f"{name}: step", 1e3 * seconds, "ms") for name, seconds in times.items()]
    rows += [Row(case, f"{THEIRS} over {name}", times[THEIRS] / times[name], "ratio") for name in (OURS, TORCH)]
    return rows


def table_of(rows: list[Row]) -> str:
    """Return what the documentation shows."""
    found = {(row.case, row.metric): row.value for row in rows}
    lines = ["| case | network | weights | GFLOP a step | MiB a step | ms a step | theirs over it |"]
    lines.append("|---|---|---|---|---|---|---|")
    for case in dict.fromkeys(row.case for row in rows):
        for name in NAMES:
            cells = [case, name, f"{found[case, f'{name}: weights']:,.0f}"]
            cells += [f"{found[case, f'{name}: {what}']:,.3g}" for what in ("products of a step", "memory", "step")]
            cells.append(f"{found[case, f'{THEIRS} over {name}']:.2f}" if name != THEIRS else "")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=192, help="of a token, in heads of 64")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--repeats", type=int, default=61)
    parser.add_argument("--packages", type=Path, metavar="PEERS", help="folder of packages to look into first")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the comparison into this page")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    make_ready(options.packages, needs_fno=False)
    cases = [(options.width, options.blocks, batch, options.repeats, options.packages) for batch in options.batches]
    rows = [row for case in cases for row in measure(*case)]
    if options.docs:
        put_into(options.docs, "benchmarks/axial_step.py", table_of(rows))
    publish("A training step of a space–time transformer", rows, options.json)


if __name__ == "__main__":
    main()
