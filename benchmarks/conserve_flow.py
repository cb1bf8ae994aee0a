"""A velocity without divergence: what an operator that learned it loses, and what taking the divergence is worth.

A small FNO learns one step of an incompressible flow told by its velocity, 0.25 ahead. From unseen first frames it
marches to the end of the trajectories, as it is and with the divergence taken from every frame
(`scifm.models.conserved`, ``solenoidal``; the mean velocity is held too). The last way is another network, trained with
the divergence taken from its answers from the first step on (``hold`` of `scifm.fields.holding`). Told are the relative
error and ‖∇·v‖ over ‖∇v‖, of the first frame and of the last, means over ``--seeds`` trainings of each, and their
standard errors; and the time of a step of training. Runs stay in ``--work``: started again it trains nothing twice.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness import Row, alternate, argument_parser, medians, publish
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.norms import relative_l2
from scifm.fields.seeds import generator_for
from scifm.fields.spectral import spread_of
from scifm.models.conserved import Conserved
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.models.rollout import rollout
from scifm.systems.incompressible_flow import IncompressibleFlow
from scifm.training.pretrain import PretrainRecipe, pretrain, training_source


def main() -> None:
    """Run the benchmark."""
    options = parsed()
    torch.set_num_threads(options.threads or 1)
    system = IncompressibleFlow(num_frames=options.frames)
    drawn = system.sample(options.tested, Grid.square(options.points), generator_for(0, "tested flows"))
    hold = {"mean": dict.fromkeys(system.solenoidal, "kept"), "solenoidal": list(system.solenoidal)}
    found: dict[str, list[torch.Tensor]] = {}
    for seed in range(options.seeds):
        operator = trained(options, seed)
        ways = {
            "as answered": operator,
            "mean velocity held": Conserved(operator, system.budgets),
            "and divergence taken": Conserved(operator, system.budgets, solenoidal=system.solenoidal),
            "trained through it": trained(options, seed, hold=hold),
        }
        for way, asked in ways.items():
            frames = torch.cat([frame.require_targets() for frame in rollout(asked, drawn, drawn.num_frames)], dim=1)
            found.setdefault(way, []).append(scores(system, frames, drawn))
    found = {"solver": [scores(system, drawn.require_targets(), drawn)], **found}
    rows = [row for way, each in found.items() for row in told(way, torch.stack(each))]
    steps = {"as answered": step_of(options), "trained through it": step_of(options, hold=hold)}
    for way, seconds in medians(alternate(steps, repeats=21)).items():
        rows.append(Row(f"{way}, one step of training", "time", seconds, "s"))
    publish("What the divergence of a flow is, and what taking it is worth", rows, options.json)


def parsed() -> Namespace:
    """Return the options."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--work", type=Path, default=Path("work/conserve-flow"), help="folder of runs")
    parser.add_argument("--points", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--frames", type=int, default=21)
    parser.add_argument("--tested", type=int, default=16, help="trajectories")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each")
    return parser.parse_args()


def recipe(options: Namespace, seed: int, **model: Any) -> dict[str, Any]:
    """Return a recipe, with settings of the model beside its network."""
    return {
        "name": "flow",
        "seed": seed,
        "system": {"name": "incompressible_flow", "options": {"num_frames": options.frames}},
        "data": {"num_points": options.points, "num_samples": 32 * (options.frames - 1), "num_validation_samples": 16},
        "model": {"network": {"width": 20, "modes": 8, "num_layers": 3, "projection_width": 40}, **model},
        "training": {
            "num_steps": options.steps, "batch_size": 16, "learning_rate": 3e-3,
            "validate_every": options.steps, "checkpoint_every": options.steps, "accelerator": "cpu",
        },
    }  # fmt: skip


def trained(options: Namespace, seed: int, **model: Any) -> Operator:
    """Return an operator."""
    return load_operator(pretrain(recipe(options, seed, **model), out=options.work))


def step_of(options: Namespace, **model: Any) -> Callable[[], None]:
    """Return a forward and a backward pass over a batch."""
    operator = trained(options, 0, **model).train()
    batch = training_source(PretrainRecipe.read(recipe(options, 0, **model))).batch(0)

    def step() -> None:
        operator.zero_grad()
        relative_l2(operator(batch).require_targets(), batch.require_targets()).mean().backward()

    return step


def scores(system: IncompressibleFlow, frames: torch.Tensor, drawn: Batch) -> torch.Tensor:
    """Return error and divergence over gradient of the first frame and the last of a march, ``(frame, score)``."""
    frames, grid = frames.double(), drawn.grid
    off = relative_l2(frames, drawn.require_targets().double(), grid).mean((0, 2))
    names = drawn.signature.outputs
    spread = spread_of([frames[:, :, names.index(name)] for name in system.solenoidal], grid).mean(0)
    return torch.stack([off, spread], dim=1)[[0, -1]].detach()


def told(case: str, found: torch.Tensor) -> list[Row]:
    """Return rows of scores ``(seed, frame, score)``."""
    rows = []
    for frame, where in enumerate(("first frame", "last frame")):
        for score, name in enumerate(("relative error", "divergence over gradient")):
            own = found[:, frame, score]
            rows.append(Row(f"{case}, {where}", name, float(own.mean()), "1"))
            if len(own) > 1:
                rows.append(Row(f"{case}, {where}", f"{name}, standard error", float(own.std() / len(own) ** 0.5), "1"))
    return rows


if __name__ == "__main__":
    main()
