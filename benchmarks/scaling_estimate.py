"""What would the reference paper's largest run, and one of a billion weights, need? Arithmetic, not a measurement.

Counted here: weights, operations of a step (`training_flops`) and the memory that a sample's activations take
(`measure_need`), at small widths, from which both follow exactly for large ones: operations are a polynomial of degree
2 in the width, activations one of degree 1. Measured on our machine: the share of the processor's matrix-product rate
that a step reaches (benchmarks/results/step-2-cores.csv). Published by manufacturers: rates of GPUs and links. Assumed:
that a step reaches the same share of a GPU's float32 rate (its bandwidth makes the truth lower), or a quarter of it.

``python benchmarks/scaling_estimate.py [--page docs/scaling.md]``
"""

from __future__ import annotations

import argparse
import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import put_into
from scifm.data.stream import Stream
from scifm.fields.grid import Grid
from scifm.models.fno import FNO, FNOConfig
from scifm.objectives.supervised import SummedSquaredError
from scifm.systems.poisson import Poisson
from scifm.training.costs import measure_need, training_flops

STEP_TIMES = Path(__file__).parent / "results" / "step-2-cores.csv"
ANCHOR, ANCHOR_WIDTH, ANCHOR_BATCH = "128x128, 32 modes, width 64, batch 4", 64, 4
NUM_STEPS = 128_000  # 500 epochs of 32,768 samples in batches of 128
GIB, FLOAT = 2**30, 4

# NVIDIA's data sheet of the H100 SXM: float32 without tensor cores; NVLink counts both directions. InfiniBand NDR.
PEAK_FLOPS, NVLINK, INFINIBAND = 67e12, 900e9 / 2, 400e9 / 8
GPU_MEMORY, GPUS_OF_A_MACHINE = 80e9, 8


@dataclass(frozen=True)
class Plan:
    """A run to estimate."""

    name: str
    width: int
    batch_size: int
    num_gpus: int


PLANS = [
    Plan("paper's largest, 1 GPU", 128, 128, 1),
    Plan("paper's largest, 8 GPUs", 128, 128, 8),
    Plan("a billion weights, 64 GPUs", 256, 1024, 64),
]


def network(width: int) -> FNO:
    """Return the paper's network, 128² points and 32 modes, of a width; see recipes/paper/sizes.toml."""
    config = FNOConfig(
        width=width, modes=32, num_layers=4, projection_width=128, latent_points=0, residual=False, spectral_init=0.0
    )
    return FNO(Poisson.signature, config)


def polynomial(widths: list[int], values: list[float]) -> np.poly1d:
    """Return the polynomial through as many points as are given."""
    return np.poly1d(np.polyfit(widths, values, len(widths) - 1))


def counts() -> tuple[np.poly1d, np.poly1d, np.poly1d]:
    """Return weights, operations of a sample and bytes of its activations as functions of the width."""
    widths, samples = [4, 8, 16], Stream(Poisson(), Grid.square(128), batch_size=16, seed=0).batch(0)
    objective = SummedSquaredError()
    weights, flops, activations = [], [], []
    for width in widths:
        operator = network(width)
        weights.append(sum(parameter.numel() for parameter in operator.parameters()))
        flops.append(training_flops(operator, samples) or math.nan)
        needs = [
            measure_need(
                operator,
                lambda o, b: objective.compare(o(b), b),
                samples.select(slice(0, n)),
                keeps_best=False,
                saves=False,
            ).working
            for n in (8, 16)
        ]  # fmt: skip
        activations.append((needs[1] - needs[0]) / 8)
    return polynomial(widths, weights), polynomial(widths, flops), polynomial(widths[1:], activations[1:])


def reached_share(flops: np.poly1d) -> float:
    """Return the share of the matrix-product rate that a measured step reached."""
    with STEP_TIMES.open(encoding="utf-8") as file:
        rows = {(row["case"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)}
    rate = flops(ANCHOR_WIDTH) * ANCHOR_BATCH / (rows[ANCHOR, "step: ours"] / 1e3)
    return float(rate / (rows["machine", "matrix product"] * 1e9))


def estimate(plan: Plan, functions: tuple[np.poly1d, np.poly1d, np.poly1d], share: float) -> dict[str, str]:
    """Return the lines of one plan's column."""
    num, flops, activations = (float(function(plan.width)) for function in functions)
    gpus, own = plan.num_gpus, plan.batch_size / plan.num_gpus
    weights, state = FLOAT * num, 3 * FLOAT * num  # gradients and two moments beside the weights
    step_activations = own * activations
    ddp = weights + state + weights + step_activations  # DDP keeps its buckets, as large as the gradients
    layer = weights / 4
    fsdp = weights + (weights + state) / gpus + 2 * layer + step_activations  # and one whole copy; see the page
    ring = 2 * weights * (gpus - 1) / gpus
    link, name = (NVLINK, "NVLink") if gpus <= GPUS_OF_A_MACHINE else (INFINIBAND, "InfiniBand")
    compute = own * flops / (PEAK_FLOPS * share)
    steps = NUM_STEPS * 128 / plan.batch_size  # as many samples seen
    fast, slow = compute + ring / link, 4 * compute + 1.5 * ring / link
    operations = f"{plan.batch_size} × {flops / 1e9:.1f} GFLOP = {plan.batch_size * flops / 1e12:.2f} TFLOP"
    sending = f"{1e3 * ring / link:.0f} and {1.5e3 * ring / link:.0f} ms"
    return {
        "weights": f"{num / 1e6:,.1f} M",
        "batch, samples of each GPU": f"{plan.batch_size}, {own:g}",
        "weights, gradients + moments": f"{weights / GIB:.2f} + {state / GIB:.2f} GiB",
        "activations of a GPU's samples": f"{own:g} × {activations / GIB:.3f} = {step_activations / GIB:.1f} GiB",
        "a GPU's memory with DDP": _memory(ddp),
        "a GPU's memory with FSDP": _memory(fsdp) if gpus > 1 else "the same",
        "operations of a step": operations,
        "sent by a GPU a step, DDP": f"{ring / 1e9:.2f} GB" if gpus > 1 else "nothing",
        "sent by a GPU a step, FSDP": f"{1.5 * ring / 1e9:.2f} GB" if gpus > 1 else "nothing",
        "link": f"{name}, {link / 1e9:.0f} GB/s" if gpus > 1 else "none",
        "time to send, DDP and FSDP": sending if gpus > 1 else "none",
        "time to compute, best and a quarter of it": f"{1e3 * compute:.0f} and {4e3 * compute:.0f} ms",
        "steps": f"{steps:,.0f}",
        "hours in all, nothing overlapped": f"{steps * fast / 3600:.0f} to {steps * slow / 3600:.0f}",
        "GPU hours": f"{gpus * steps * fast / 3600:,.0f} to {gpus * steps * slow / 3600:,.0f}",
    }


def _memory(num_bytes: float) -> str:
    return f"{num_bytes / GIB:.1f} GiB" + ("" if num_bytes < GPU_MEMORY else ": too much")


def table() -> str:
    """Return all estimates as a table in Markdown."""
    functions = counts()
    share = reached_share(functions[1])
    columns = [estimate(plan, functions, share) for plan in PLANS]
    head = ["", *(plan.name for plan in PLANS)]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    rows.append(["share of the rate that is taken for best", *[f"{100 * share:.0f} %"] * len(PLANS)])
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="for `make bench`; nothing is measured, so nothing is written")
    parser.add_argument("--page", type=Path, help="page to put the table into")
    options = parser.parse_args()
    told = table()
    print(told)
    if options.page is not None:
        put_into(options.page, "benchmarks/scaling_estimate.py", told)


if __name__ == "__main__":
    main()
