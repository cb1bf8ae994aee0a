"""What do the guard rails of training cost? Their time beside a step of the default network.

The guards of a step are the norm of the gradient, its check with the loss, and the look for a spike. The network is the
default FNO (``small``) on 64 × 64 points, batches of 32, on one thread.

``python benchmarks/guards.py --json OUT``
"""

from __future__ import annotations

import torch

from harness import Row, alternate, argument_parser, medians, publish
from scifm.data.stream import Epochs
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNO
from scifm.models.sizes import fno_of_size
from scifm.objectives.supervised import objective_named
from scifm.systems.poisson import Poisson
from scifm.training.checkpoint import Position
from scifm.training.guards import gradient_norm, note_loss, require_finite
from scifm.training.parameter_groups import ParameterGroup, optimizer_for

BATCH = 32


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads or 1)
    torch.manual_seed(0)
    operator = FNO(Poisson.signature, fno_of_size("small"))
    samples = Poisson().sample(BATCH, Grid.square(64), generator_for(0, "guards"))
    source = Epochs(samples, batch_size=BATCH, seed=0)
    objective = objective_named("relative_l2")
    optimizer = optimizer_for([ParameterGroup(tuple(operator.parameters()))], learning_rate=1e-3, weight_decay=0)
    position = Position(recent_losses=[1.0 + 0.01 * step for step in range(50)])

    def step() -> None:
        optimizer.zero_grad()
        loss = objective(operator(source.batch(0)), samples)
        loss.backward()
        optimizer.step()

    def guards() -> None:
        norm = float(gradient_norm(operator.parameters()))
        require_finite(1.0, norm, step=0, learning_rate=1e-3, batch=samples, source=source, checkpoint=None)
        note_loss(position, 1.0)

    # the guards come right after a step, as in training: the gradient is in the cache as it would be there
    found = medians(alternate({"step": step, "guards": guards}, repeats=options.repeats))
    rows = [Row("small, 64 × 64, batch 32", name, 1e3 * seconds, "ms") for name, seconds in found.items()]
    share = 100 * found["guards"] / found["step"]
    publish(
        "What do the guard rails cost?", [*rows, Row("small, 64 × 64, batch 32", "share", share, "%")], options.json
    )


if __name__ == "__main__":
    main()
