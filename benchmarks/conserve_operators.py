"""Conservation as a hard constraint on an ensemble of operators that march, within the training's range and beyond.

Five small FNOs learn one step of Stefan's problem, from other weights and samples each, for thresholds of 0.55 to 0.7.
From unseen first frames they march together to the end of the trajectories, each frame as `scifm.models.conserved`
makes it:

* **mean**: what they say on average;
* **alike**: all points moved alike, so that the interval holds what the system says (HardC);
* **variance**: moved by their variance at each point (Operator-ProbConserv);
* **members**: moved by their whole covariance;
* **variance, not negative**, **falling**: by their variance, and nowhere below zero, or nowhere rising along x;
* **members, falling**: by their whole covariance, and nowhere rising;
* **soft penalty**: five others, trained alike but for the objective's `conserve`, on average.

Told are the mean squared error over frames, that of the last one, and the mean over frames of the heat that is missed,
over thresholds within the training and beyond it. Runs stay in ``--work``: started again it trains nothing twice.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from harness import Row, argument_parser, publish
from scifm.fields.batch import Batch
from scifm.fields.bounded import AtLeast, Monotone
from scifm.fields.grid import Grid
from scifm.fields.norms import integral
from scifm.fields.seeds import generator_for
from scifm.models.conserved import Conserved
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.models.rollout import rollout
from scifm.systems.stefan import Stefan
from scifm.training.pretrain import pretrain

WITHIN, BEYOND = (0.55, 0.7), (0.45, 0.55)
RANGES = {"within": WITHIN, "beyond": BEYOND}
WAYS: dict[str, dict[str, Any]] = {
    "alike": {"weigh": "alike"},
    "variance": {"weigh": "variance"},
    "members": {"weigh": "members"},
    "variance, not negative": {"weigh": "variance", "bounds": {"temperature": AtLeast(0.0)}},
    "variance, falling": {"weigh": "variance", "bounds": {"temperature": Monotone(rising=False)}},
    "members, falling": {"weigh": "members", "bounds": {"temperature": Monotone(rising=False)}},
}


def main() -> None:
    """Run the benchmark."""
    options = parsed()
    torch.set_num_threads(options.threads or 1)
    members = [trained(seed, options) for seed in range(options.members)]
    soft = {weight: [trained(seed, options, weight) for seed in range(options.members)] for weight in options.soft}
    rows = []
    for name, (low, high) in RANGES.items():
        system = Stefan(threshold=[low, high])
        drawn = system.sample(options.tested, Grid((options.points,), 1.0, "open"), generator_for(0, "tested", name))
        ways: dict[str, Operator] = {"mean": Conserved(members, lambda _: {})}
        ways |= {way: Conserved(members, system.budgets, **how) for way, how in WAYS.items()}
        ways |= {f"soft penalty {weight:g}": Conserved(those, lambda _: {}) for weight, those in soft.items()}
        rows += [row for way, operator in ways.items() for row in scored(f"{name}, {way}", system, operator, drawn)]
        singles = [scored("", system, member, drawn) for member in members]
        for place, row in enumerate(singles[0]):
            values = [each[place].value for each in singles]
            rows.append(Row(f"{name}, one alone (mean of all)", row.metric, sum(values) / len(values), row.unit))
    publish("What hard conservation does to an ensemble that marches", rows, options.json)


def parsed() -> Namespace:
    """Return the options."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--work", type=Path, default=Path("work/conserve-operators"), help="folder of runs")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--points", type=int, default=65)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--soft", type=float, nargs="*", default=[1.0], help="weights of the soft penalty")
    parser.add_argument("--tested", type=int, default=32, help="trajectories")
    return parser.parse_args()


def trained(seed: int, options: Namespace, soft: float = 0.0) -> Operator:
    """Return one member, trained with a soft penalty on what it holds or without."""
    recipe = {
        "name": f"stefan-{seed}-soft-{soft:g}" if soft else f"stefan-{seed}",
        "seed": seed,
        "system": {"name": "stefan", "knobs": {"threshold": list(WITHIN)}},
        "data": {"num_points": options.points, "boundary": "open", "num_validation_samples": 32},
        "model": {"network": {"width": 24, "modes": 16, "num_layers": 3, "projection_width": 48, "latent_points": 0}},
        "training": {
            "num_steps": options.steps, "batch_size": 32, "learning_rate": 3e-3,
            "validate_every": options.steps, "checkpoint_every": options.steps, "accelerator": "cpu",
            "objective": {"name": "relative_l2", "conserve": soft},
        },
    }  # fmt: skip
    return load_operator(pretrain(recipe, out=options.work))


def scored(case: str, system: Stefan, operator: Operator, drawn: Batch) -> list[Row]:
    """Return what a march over whole trajectories comes to."""
    frames = torch.cat([f.require_targets() for f in rollout(operator, drawn, drawn.num_frames)], dim=1).double()
    off = (frames - drawn.require_targets().double()).square().flatten(2).mean(2)
    missed = (integral(frames[:, :, 0], drawn.grid) - system.budgets(drawn)["temperature"]).abs()
    return [
        Row(case, "mean squared error", float(off.mean()), "1"),
        Row(case, "of the last frame", float(off[:, -1].mean()), "1"),
        Row(case, "of the last frame, standard error", float(off[:, -1].std()) / len(off) ** 0.5, "1"),
        Row(case, "heat missed", float(missed.mean()), "1"),
        Row(case, "least value", float(frames.min()), "1"),
    ]


if __name__ == "__main__":
    main()
