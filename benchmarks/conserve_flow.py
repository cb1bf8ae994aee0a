"""A velocity without divergence: what an operator that learned it loses, and what taking the divergence is worth.

A small FNO learns one step of an incompressible flow told by its velocity, 0.25 ahead. From unseen first frames it
marches to the end of the trajectories, as it is and with the divergence taken from every frame
(`scifm.models.conserved`, ``solenoidal``; the mean velocity is held too). Told are the relative error and ‖∇·v‖ over
‖∇v‖, of the first frame and of the last. Runs stay in ``--work``: started again it trains nothing twice.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import torch

from harness import Row, argument_parser, publish
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
from scifm.training.pretrain import pretrain


def main() -> None:
    """Run the benchmark."""
    options = parsed()
    torch.set_num_threads(options.threads or 1)
    system = IncompressibleFlow(num_frames=options.frames)
    operator = trained(options)
    drawn = system.sample(options.tested, Grid.square(options.points), generator_for(0, "tested flows"))
    ways = {
        "as answered": operator,
        "mean velocity held": Conserved(operator, system.budgets),
        "and divergence taken": Conserved(operator, system.budgets, solenoidal=system.solenoidal),
    }
    rows = scored("solver", system, drawn.require_targets(), drawn)
    for way, asked in ways.items():
        frames = torch.cat([frame.require_targets() for frame in rollout(asked, drawn, drawn.num_frames)], dim=1)
        rows += scored(way, system, frames, drawn)
    publish("What the divergence of a flow is, and what taking it is worth", rows, options.json)


def parsed() -> Namespace:
    """Return the options."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--work", type=Path, default=Path("work/conserve-flow"), help="folder of runs")
    parser.add_argument("--points", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--frames", type=int, default=21)
    parser.add_argument("--tested", type=int, default=16, help="trajectories")
    return parser.parse_args()


def trained(options: Namespace) -> Operator:
    """Return the operator."""
    recipe = {
        "name": "flow",
        "system": {"name": "incompressible_flow", "options": {"num_frames": options.frames}},
        "data": {"num_points": options.points, "num_samples": 32 * (options.frames - 1), "num_validation_samples": 16},
        "model": {"network": {"width": 20, "modes": 8, "num_layers": 3, "projection_width": 40}},
        "training": {
            "num_steps": options.steps, "batch_size": 16, "learning_rate": 3e-3,
            "validate_every": options.steps, "checkpoint_every": options.steps, "accelerator": "cpu",
        },
    }  # fmt: skip
    return load_operator(pretrain(recipe, out=options.work))


def scored(case: str, system: IncompressibleFlow, frames: torch.Tensor, drawn: Batch) -> list[Row]:
    """Return what frames of a march come to."""
    frames, grid = frames.double(), drawn.grid
    off = relative_l2(frames, drawn.require_targets().double(), grid).mean((0, 2))
    names = drawn.signature.outputs
    spread = spread_of([frames[:, :, names.index(name)] for name in system.solenoidal], grid).mean(0)
    rows = []
    for frame, told in ((0, "first frame"), (-1, "last frame")):
        rows.append(Row(f"{case}, {told}", "relative error", float(off[frame]), "1"))
        rows.append(Row(f"{case}, {told}", "divergence over gradient", float(spread[frame]), "1"))
    return rows


if __name__ == "__main__":
    main()
