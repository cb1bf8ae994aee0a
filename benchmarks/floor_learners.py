"""What the other learners must cost at least on this machine, beside what they cost: `floor.py` for them.

A step of the space–time transformer, of the U-Net of ConvNeXt blocks and of the loss of a network of coordinates, at
the sizes that `axial_step.py`, `unet_step.py` and `pinn_step.py` time beside others' networks, and ten frames of a
Fourier neural operator that answers one from the other. Counted as there: products from shapes, what a part must read
and write if no cache keeps an activation between two passes, weights and optimizer. Operations of what is not told
apart (ways in and out, wide levels) are torch's count of the plain twin, less those that are.

``python benchmarks/floor_learners.py --docs docs/performance.md`` also puts the tables into that page.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

import axial_step
import pinn_step
import unet_step
from counting import Part, answer_parts_of
from floor import measure, started, table_of
from harness import argument_parser, publish, put_into
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.models.fno import FNO, FNOConfig
from scifm.models.rollout import rollout
from training_step import operations

FRAMES = 10


@dataclass(frozen=True)
class Learner:
    """What is timed, and what it must cost; without a network nothing is learned."""

    name: str
    forward: Callable[[], Tensor]
    network: nn.Module | None
    parts: list[Part]


def weights_of(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def ends_of(network: nn.Module, rest: str, total: float, told: list[Part], weights: int) -> list[Part]:
    """Return the optimizer, and what is left of `total` operations and of the weights after the parts that are told."""
    left = max(0.0, total - sum(part.operations for part in told))
    return [
        *told,
        Part("optimizer", 0, 4 * 7 * weights_of(network), ()),
        Part(rest, left, 4 * 3 * (weights_of(network) - weights), ()),
    ]


def transformer(width: int = 192, blocks: int = 8, batch: int = 8) -> Learner:
    network, answer = axial_step.ours(width, blocks, batch, plain=False)
    total = operations(axial_step.ours(width, blocks, batch, plain=True)[1])
    line = axial_step.POINTS // axial_step.PATCH
    tokens = batch * line**2
    # queries, keys and values, what goes out, a middle of four widths; each token with those on its two lines, twice
    products = 3 * blocks * tokens * (2 * 12 * width**2 + 2 * 2 * 2 * line * width)
    weights = 12 * blocks * width**2
    moved = blocks * tokens * width * (2 * 11 + 5)  # what is kept, written and read; in, out, both gradients, in again
    told = Part("blocks", products, 4 * (moved + 3 * weights), ("axial_block", "axial_block_gradients"))
    name = f"Space–time transformer, width {width}, {blocks} blocks, 64², batch {batch}"
    return Learner(name, answer, network, ends_of(network, "patches, autograd, Python", total, [told], weights))


def unet(width: int = 32) -> Learner:
    network, answer = unet_step.ours(width)
    total = operations(unet_step.ours(width, plain=True)[1])
    config = network.config
    taps, around, inside, activation, weights = config.kernel_size**2, 0, 0, 0, 0
    for level in range(config.levels):
        channels, blocks = width * 2**level, config.blocks * (2 if level < config.levels - 1 else 1)
        if channels > 128:  # whose pointwise networks torch does
            continue
        points = unet_step.BATCH * unet_step.POINTS**2 // 4**level
        around += blocks * points * channels * taps
        activation += blocks * points * channels
        weights += blocks * 8 * channels**2
        inside += blocks * points * 8 * channels**2
    told = [
        Part("convolutions of each channel", 3 * 2 * around, 4 * 5 * activation, ("depthwise", "depthwise_gradient")),
        Part(
            "pointwise networks",
            3 * 2 * inside,
            4 * (6 * activation + 3 * weights),
            ("pointwise_block", "pointwise_block_gradients"),
        ),
    ]
    name = f"U-Net of ConvNeXt blocks, width {width}, 64², batch {unet_step.BATCH}"
    rest = "wide level, levels between, projection, autograd, Python"
    return Learner(name, answer, network, ends_of(network, rest, total, told, weights))


def coordinates() -> Learner:
    problem = pinn_step.Problem()
    products = sum(a * b for a, b in pairwise(pinn_step.WIDTHS))
    planes = 2 * 1000 + 456  # u and its derivative along a line; at the start and the seam u alone
    hidden = sum(pinn_step.WIDTHS[1:])
    told = Part(
        "networks and derivatives", 3 * 2 * planes * products, 4 * 2 * planes * hidden, ("jets", "jets_gradients")
    )
    name = "Network of coordinates, convection, 1,000 points, 4 layers of 50"
    parts = ends_of(problem.operator, "terms of the loss, autograd, Python", told.operations, [told], products)
    return Learner(name, problem.ours, problem.operator, parts)


def march() -> Learner:
    space, modes, width, batch = (64, 64), 16, 32, 8
    signature = Signature(("u",), ("a", "b", "c"), ("u",), 2, evolves=True)
    settings = {"latent_points": 0, "residual": False, "projection_width": 128, "engine": "gemm"}
    operator = FNO(signature, FNOConfig(width=width, modes=modes, **settings))
    given = Batch(signature, Grid.square(64), torch.randn(batch, 1, 1, *space), torch.randn(batch, 3))

    def forward() -> Tensor:
        return list(rollout(operator, given, FRAMES, bound=math.inf))[-1].require_targets()

    parts = [
        Part(part.name, FRAMES * part.operations, FRAMES * part.bytes, part.kernels)
        for part in answer_parts_of(space, modes, width, batch)
    ]
    return Learner(
        f"{FRAMES} frames of an FNO, full grid 64², {modes} modes, width {width}, batch {batch}", forward, None, parts
    )


LEARNERS = {"transformer": transformer, "unet": unet, "coordinates": coordinates, "march": march}


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--learners", choices=sorted(LEARNERS), nargs="+", default=list(LEARNERS))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the tables into this page")
    arguments = parser.parse_args()
    machine, rows, text = started(arguments)
    texts = [text]
    for name in arguments.learners:
        learner = LEARNERS[name]()
        found = measure(learner.forward, learner.network, arguments.repeats)
        more, table = table_of(learner.name, learner.parts, machine, found)
        rows += more
        texts.append(table)
    publish("The floor of other learners", rows, arguments.json)
    if arguments.docs:
        put_into(arguments.docs, "benchmarks/floor_learners.py", "\n\n".join(texts))


if __name__ == "__main__":
    main()
