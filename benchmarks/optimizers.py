"""Which optimizer, by name, after the same number of steps: Poisson, the smallest network, fresh samples.

Every candidate is tried with several learning rates and seeds; steps are counted and not seconds, so that a machine
that does other things beside gives the same numbers. RAdam is not in the library: it was the other
candidate for the third.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import ClassVar

import torch

from harness import Row, argument_parser, publish
from scifm.data.normalize import fit_normalization
from scifm.data.stream import Stream
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNOConfig
from scifm.systems.poisson import Poisson
from scifm.training.loop import TrainingConfig, train
from scifm.training.optimizers import AdamW, NAdam, OptimizerConfig
from scifm.training.pretrain import build_operator
from scifm.training.validation import sample_errors
from scifm.training.weights import ParameterGroup

SYSTEM, GRID = Poisson(), Grid.square(32)
RATES = (1e-3, 3e-3, 1e-2)


class RAdam(OptimizerConfig):
    name: ClassVar[str] = "radam"

    def build(
        self, groups: Sequence[ParameterGroup], *, learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        entries = [{"params": list(g.parameters), "learning_rate_factor": g.learning_rate_factor} for g in groups]
        return torch.optim.RAdam(entries, lr=learning_rate, weight_decay=weight_decay, decoupled_weight_decay=True)


def score(optimizer: OptimizerConfig, rate: float, num_steps: int, seed: int) -> float:
    """Train once; return the error on samples never seen."""
    few, test = (SYSTEM.sample(256, GRID, generator_for(0, "optimizers", purpose)) for purpose in ("fit", "test"))
    normalization = fit_normalization(few, SYSTEM.homogeneities)
    operator = build_operator(SYSTEM.signature, FNOConfig.of_size("tiny"), normalization, seed=seed)
    config = TrainingConfig(num_steps=num_steps, batch_size=16, learning_rate=rate, optimizer=optimizer)
    train(operator, Stream(SYSTEM, GRID, batch_size=16, seed=seed), config=config, seed=seed)
    return float(sample_errors(operator, test).mean())


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads or 1)
    rows: list[Row] = []
    for optimizer in (AdamW(), NAdam(), RAdam()):
        for rate in RATES:
            scores = [score(optimizer, rate, arguments.steps, seed) for seed in range(arguments.seeds)]
            name = f"learning rate {rate:g}"
            rows.append(Row(optimizer.name, f"{name}: mean over seeds", statistics.mean(scores), "relative L2"))
            rows.append(Row(optimizer.name, f"{name}: range over seeds", max(scores) - min(scores), "relative L2"))
    publish(f"Optimizers, {arguments.steps} steps", rows, arguments.json)


if __name__ == "__main__":
    main()
