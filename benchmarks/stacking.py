"""A training step of five networks: one after the other, or stacked by torch.func and vectorized.

Our kernels cannot be vectorized over networks, so what is stacked are networks in torch's own operations
(`Operator.differentiable`); these are looped over too, to tell what stacking itself gives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from harness import Row, alternate, argument_parser, medians, publish
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.ensemble import Ensemble, EnsembleConfig
from scifm.models.fno import FNOConfig
from scifm.models.operator import Operator, OperatorConfig
from scifm.models.unet import UNetConfig
from scifm.objectives.supervised import RelativeL2
from scifm.systems.poisson import Poisson

CASES: dict[str, tuple[OperatorConfig, int, int]] = {
    "FNO, 12 channels, 16², batch 4": (FNOConfig(width=12, modes=8, latent_points=16, projection_width=24), 16, 4),
    "FNO, 16 channels, 32², batch 32": (FNOConfig(width=16, projection_width=32), 32, 32),
    "FNO, 16 channels, 64², batch 32": (FNOConfig(width=16, projection_width=32), 64, 32),
    "U-Net, 8 channels, 32², batch 32": (UNetConfig(width=8), 32, 32),
}


class Inside(nn.Module):
    """The network of an operator, called with what is encoded."""

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, encoded: Any) -> Tensor:
        return self.operator.network(encoded)


def steps_of(member: OperatorConfig, batch: Batch) -> dict[str, Callable[[], None]]:
    """Return the ways of taking a step, forward and backward."""
    whole = Ensemble(batch.signature, EnsembleConfig(member=member)).train()
    plain = [network.differentiable().train() for network in whole.networks]
    weights, buffers = stack_module_state([Inside(network) for network in plain])
    empty, objective, truth = copy.deepcopy(Inside(plain[0])).to("meta"), RelativeL2(), batch.require_targets()

    def looped() -> None:
        objective(whole, batch, step=0, generator=generator_for(0, "cost")).backward()
        whole.zero_grad()

    def in_torch() -> None:
        losses = [objective.compare(network(batch), batch) for network in plain]
        torch.stack(losses).mean().backward()

    def stacked() -> None:
        encoded = plain[0].encoded(batch)
        answers = vmap(lambda w, b: functional_call(empty, (w, b), (encoded,)))(weights, buffers)
        errors = (encoded.decode(answers) - truth).flatten(2).norm(dim=2) / truth.flatten(1).norm(dim=1)
        errors.mean().backward()

    return {"our kernels, looped": looped, "torch's operations, looped": in_torch, "torch.func, stacked": stacked}


def main() -> None:
    """Run the benchmark."""
    options = argument_parser(__doc__.splitlines()[0]).parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = []
    for case, (member, points, count) in CASES.items():
        batch = Poisson().sample(count, Grid.square(points), generator_for(0, "stacking"))
        times = medians(alternate(steps_of(member, batch), repeats=5))
        first = times["our kernels, looped"]
        rows += [Row(case, way, seconds / first, "times our kernels, looped") for way, seconds in times.items()]
    publish("A step of five networks", rows, options.json)


if __name__ == "__main__":
    main()
