"""What do the guard rails of training cost? Their time beside a step of the default network.

The guards of a step are the norm of the gradient, its check with the loss, and the look for a spike. Every other step
is taken without them, and the time from the end of the backward pass to the end of the update is compared: reading the
gradient for its norm brings it into the cache for the optimizer, so their own time would count too much. Lower
quartiles are compared, since others disturb a machine in one direction only. The network is the default FNO (``small``)
on 64 × 64 points, batches of 32, on one thread.

``python benchmarks/guards.py --json OUT``
"""

from __future__ import annotations

import statistics
import time

import torch
from torch.nn.utils import get_total_norm

from harness import Row, argument_parser, publish
from scifm.data.stream import Epochs
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNO, FNOConfig
from scifm.objectives.supervised import RelativeL2
from scifm.systems.poisson import Poisson
from scifm.training.checkpoint import Position, require_finite
from scifm.training.optimizers import AdamW
from scifm.training.weights import ParameterGroup

BATCH = 32


def quartile(seconds: list[float]) -> float:
    """Return the lower quartile."""
    return statistics.quantiles(seconds, n=4)[0]


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=101)
    options = parser.parse_args()
    torch.set_num_threads(options.threads or 1)
    torch.manual_seed(0)
    operator = FNO(Poisson.signature, FNOConfig.of_size("small"))
    samples = Poisson().sample(BATCH, Grid.square(64), generator_for(0, "guards"))
    source = Epochs(samples, batch_size=BATCH, seed=0)
    objective = RelativeL2()
    optimizer = AdamW().build([ParameterGroup(tuple(operator.parameters()))], learning_rate=1e-3, weight_decay=0)
    trained = list(operator.parameters())
    position = Position(recent_losses=[1.0 + 0.01 * step for step in range(50)])

    wholes: list[float] = []
    ends: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(2 * options.repeats + 4):
        guarded = turn % 2 == 0
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = objective.compare(operator(source.batch(turn)), samples)
        loss.backward()
        value = float(loss.detach())
        before = time.perf_counter()
        if guarded:
            norm = float(get_total_norm([p.grad for p in trained if p.grad is not None]))
            require_finite(value, norm, step=turn, learning_rate=1e-3, batch=samples, source=source, checkpoint=None)
            position.note_loss(value)
        optimizer.step()
        after = time.perf_counter()
        if turn >= 4:
            ends[guarded].append(after - before)
            wholes.append(after - start)
    step, guards = quartile(wholes), quartile(ends[True]) - quartile(ends[False])
    case = "small, 64 × 64, batch 32"
    rows = [
        Row(case, "step", 1e3 * step, "ms"),
        Row(case, "update with guards", 1e3 * quartile(ends[True]), "ms"),
        Row(case, "update without", 1e3 * quartile(ends[False]), "ms"),
        Row(case, "guards, share of a step", 100 * guards / step, "%"),
    ]
    publish("What do the guard rails cost?", rows, options.json)


if __name__ == "__main__":
    main()
