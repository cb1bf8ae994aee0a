"""What does a training step of our U-Net cost, beside the UNetConvNext of The Well's package at equal width?

Both have ConvNeXt blocks, and take turns in one process: forward, backward and AdamW on random fields, batch 8 at 64²;
medians. Theirs once as it comes and once in channels-last memory, which suits a CPU better. Ours with as many levels
and blocks a level as theirs ("equal layers": theirs has none on the finest level on the way back, ours does), and as it
comes. The products of a step are counted by torch, ours through the plain twin, where torch sees them; what our
backward pass makes again is not among them.

`well_peers` says what the package needs and how to get it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness import Row, alternate, argument_parser, medians, publish, put_into
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models.unet import UNet, UNetConfig
from training_step import operations, step_of
from well_peers import make_network, make_ready

POINTS, BATCH = 64, 8
STAGES, BLOCKS = 4, 1  # of theirs, as it comes; it has a neck below these stages
SIGNATURE = Signature(("u", "v"), ("a", "b"), ("u", "v"), 2, evolves=True)
OURS = ("ours, equal layers", "ours, as it comes")
THEIRS = ("UNetConvNext", "UNetConvNext, channels last")


def ours(width: int, **settings: Any) -> tuple[UNet, Callable[[], Tensor]]:
    """Return our operator and what makes it answer."""
    operator = UNet(SIGNATURE, UNetConfig(width=width, **settings))
    batch = Batch(SIGNATURE, Grid.square(POINTS), torch.randn(BATCH, 1, 2, POINTS, POINTS), torch.randn(BATCH, 2))
    return operator, lambda: operator(batch).require_targets()


def theirs(width: int, *, channels_last: bool) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return their network, with the coefficients as channels, and what makes it answer."""
    num_in = len(SIGNATURE.inputs) + len(SIGNATURE.coefficients)
    settings = {"init_features": width, "stages": STAGES, "blocks_per_stage": BLOCKS}
    network = make_network("unet_convnext", num_in, len(SIGNATURE.outputs), (POINTS, POINTS), settings)
    x = torch.randn(BATCH, num_in, POINTS, POINTS)
    if channels_last:
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return network, lambda: network(x)


def contestants(width: int, *, plain: bool = False) -> dict[str, tuple[nn.Module, Callable[[], Tensor]]]:
    """Return every network and what makes it answer."""
    return {
        OURS[0]: ours(width, levels=STAGES + 1, blocks=BLOCKS, plain=plain),
        OURS[1]: ours(width, plain=plain),
        THEIRS[0]: theirs(width, channels_last=False),
        THEIRS[1]: theirs(width, channels_last=True),
    }


def measure(width: int, repeats: int) -> list[Row]:
    """Return what is measured at one width."""
    case = f"width {width}, {POINTS}², batch {BATCH}"
    networks = contestants(width)
    rows = [Row(case, f"{name}: weights", sum(p.numel() for p in network.parameters()), "1")
            for name, (network, _) in networks.items()]  # fmt: skip
    for name, (_, answer) in contestants(width, plain=True).items():
        rows.append(Row(case, f"{name}: products of a step", operations(answer) / 1e9, "GFLOP"))
    steps = {name: step_of(*made) for name, made in networks.items()}
    times = medians(alternate(steps, repeats=repeats, warmups=2))
    rows += [Row(case, f"{name}: step", 1e3 * seconds, "ms") for name, seconds in times.items()]
    rows += [Row(case, f"{peer} over {own}", times[peer] / times[own], "ratio") for own in OURS for peer in THEIRS]
    return rows


def table_of(rows: list[Row]) -> str:
    """Return what the documentation shows."""
    found = {(row.case, row.metric): row.value for row in rows}
    lines = [
        "| case | network | weights | GFLOP a step | ms a step | theirs over it | theirs, channels last, over it |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for case in dict.fromkeys(row.case for row in rows):
        for name in (*OURS, *THEIRS):
            cells = [case, name, f"{found[case, f'{name}: weights']:,.0f}"]
            cells += [f"{found[case, f'{name}: {what}']:,.4g}" for what in ("products of a step", "step")]
            cells += [f"{found[case, f'{peer} over {name}']:.2f}" if name in OURS else "" for peer in THEIRS]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[32])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--packages", type=Path, metavar="PEERS", help="folder of packages to look into first")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the comparison into this page")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    make_ready(options.packages, needs_fno=False)
    rows = [row for width in options.widths for row in measure(width, options.repeats)]
    if options.docs:
        put_into(options.docs, "benchmarks/unet_step.py", table_of(rows))
    publish("A training step of a U-Net of ConvNeXt blocks", rows, options.json)


if __name__ == "__main__":
    main()
