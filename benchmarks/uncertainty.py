"""Which answers are wrong? What operators say of their own error, beside it, as the physics leaves the training range.

For Poisson, advection–diffusion and Helmholtz one network is trained, the same one with ten heads that are pushed apart
(DiverseNO), the same one with ten heads that share the last map and each lack a tenth of what it is given (Monte Carlo
dropout), and five of it. Questions are drawn from the training's range, and from bands of values beyond its ends.

* **distance** of a question from those of the training, inside the single network (`scifm.models.calibration`);
* **Laplace**: ten heads drawn from the posterior of its last map (`scifm.models.laplace`);
* **heads**, **dropout**, **members**: how much they differ, over the size of the answer;
* **equation**: what is left of the equation when the answer is put in, over the size of the forcing; it needs to know
  the equation, which the others do not.

Of each: Spearman's rank correlation with the relative L2 error over all questions, n-MeRCI, spread over error where
there is a spread, what training and answering cost beside the single network; and, of conformal bands with each as the
guess, how many hold, over 20 random choices of 256 samples to calibrate on.

Runs stay in ``--work``: started again, only what is missing is trained.
"""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import scifm
from harness import Row, alternate, argument_parser, medians, publish, put_into
from scifm.evaluation.uncertainty import n_merci, rank_correlation, spread_skill
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.bands import bands, calibrate
from scifm.models.calibration import Calibration, FeatureSpace
from scifm.models.features import features_of
from scifm.models.laplace import laplace
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.systems.knobs import Knob
from scifm.systems.system import System
from scifm.training.pretrain import pretrain

LEVEL = 0.9
NETWORK = {"width": 16, "projection_width": 32}
WAYS = ("distance", "equation", "Laplace", "dropout", "heads", "members")
SEVERAL: dict[str, dict[str, Any]] = {
    "members": {"num_members": 5},
    "heads": {"num_members": 1, "num_heads": 10},
    "dropout": {"num_members": 1, "num_heads": 10, "dropout": 0.1},
}


@dataclass(frozen=True)
class Physics:
    """A system, the range of the knob that leaves it, and where else questions come from."""

    system: System
    knob: str
    trained: Knob
    beyond: dict[str, Knob]


PHYSICS = {
    "poisson": Physics(
        scifm.Poisson(),
        "anisotropy",
        Knob(1, 5),
        {"5 to 6": Knob(5, 6), "6 to 8": Knob(6, 8), "8 to 12": Knob(8, 12), "12 to 20": Knob(12, 20)},
    ),
    "advection_diffusion": Physics(
        scifm.AdvectionDiffusion(),
        "advection_diffusion_ratio",
        Knob(0.2, 1),
        {
            "0.05 to 0.2": Knob(0.05, 0.2),
            "1 to 1.25": Knob(1, 1.25),
            "1.25 to 1.75": Knob(1.25, 1.75),
            "1.75 to 3": Knob(1.75, 3),
        },
    ),
    "helmholtz": Physics(
        scifm.Helmholtz(),
        "wavenumber_shift",
        Knob(1, 10, integer=True),
        {
            "between whole ones": Knob(1, 10),
            "10 to 10.5": Knob(10, 10.5),
            "10.5 to 11": Knob(10.5, 11),
            "11 to 12": Knob(11, 12),
        },
    ),
}


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where runs are kept")
    parser.add_argument("--systems", nargs="+", choices=PHYSICS, default=list(PHYSICS))
    parser.add_argument("--steps", type=int, default=1000, help="of each training")
    parser.add_argument("--num-points", type=int, default=32, help="a side")
    parser.add_argument("--questions", type=int, default=128, help="of each range; twice as many of the training's")
    parser.add_argument("--diversity", type=float, default=1e-3, help="how much heads are pushed apart")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of trainings; numbers are means over them")
    parser.add_argument("--docs", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows: list[Row] = []
    for name in options.systems:
        several = [of_system(name, options, seed) for seed in options.seeds]
        for place, first in enumerate(several[0]):
            values = [own[place].value for own in several]
            rows.append(Row(first.case, first.metric, statistics.fmean(values), first.unit))
            if len(values) > 1:
                rows.append(
                    Row(first.case, f"{first.metric}, standard deviation", statistics.stdev(values), first.unit)
                )
    publish("What operators say of their own error", rows, options.json)
    if options.docs:
        put_into(options.docs, "benchmarks/uncertainty.py", table_of(rows, options))


def of_system(name: str, options: Namespace, seed: int) -> list[Row]:
    """Return all numbers of one system."""
    physics, grid = PHYSICS[name], Grid.square(options.num_points)
    within = physics.system.where(**{physics.knob: physics.trained})
    seen = within.sample(512, grid, generator_for(seed, "uncertainty", "seen"))
    questions = {"within": within.sample(2 * options.questions, grid, generator_for(seed, "uncertainty", "within"))}
    for told, knob in physics.beyond.items():
        draw = generator_for(seed, "uncertainty", told)
        questions[told] = physics.system.where(**{physics.knob: knob}).sample(options.questions, grid, draw)
    many = within.sample(1536, grid, generator_for(seed, "uncertainty", "coverage"))

    operators = {way: trained(name, way, options, seed) for way in ("single", "heads", "dropout", "members")}
    operators["Laplace"] = laplace(operators["single"], seen, num_heads=10, seed=seed)
    space = FeatureSpace.of(features_of(operators["single"], seen))
    rows = costs(name, operators, questions["within"], options)
    for way in WAYS:
        operator = operators["single" if way in ("distance", "equation") else way]
        errors, scores, ratios = {}, {}, {}
        for told, batch in questions.items():
            errors[told] = errors_of(operator, batch)
            scores[told], ratios[told] = said_of(way, operator, batch, space, physics.system)
        case = f"{name}, {way}"
        rank, low, high = rank_correlation(torch.cat(list(scores.values())), torch.cat(list(errors.values())))
        rows += [Row(case, "rank correlation", rank, ""), Row(case, "rank correlation, low", low, "")]
        rows += [Row(case, "rank correlation, high", high, "")]
        rows.append(
            Row(case, "n-MeRCI", n_merci(torch.cat(list(errors.values())), torch.cat(list(scores.values()))), "")
        )
        for told in questions:
            rows.append(Row(case, f"relative L2, {told}", float(errors[told].mean()), ""))
            rows.append(Row(case, f"score, {told}", float(scores[told].mean()), ""))
            if ratios[told] is not None:
                rows.append(Row(case, f"spread over error, {told}", float(ratios[told]), ""))
        if way != "equation":
            rows += covered(case, operator, many, questions)
    return rows


def trained(name: str, way: str, options: Namespace, seed: int) -> Operator:
    """Return an operator of one way, trained or found in ``--work``."""
    physics = PHYSICS[name]
    model: dict[str, Any] = {"network": NETWORK}
    objective: Any = "relative_l2"
    if way != "single":
        model = {"kind": "ensemble", "network": {"member": NETWORK, **SEVERAL[way]}}
    if way == "heads" and options.diversity:
        objective = {"name": "relative_l2", "diversity": options.diversity}
    knobs = {physics.knob: physics.trained.to_dict()}
    tree = {
        "name": f"{name}-{way}",
        "seed": seed,
        "system": {"name": name, "knobs": knobs},
        "data": {"num_points": options.num_points},
        "model": model,
        "training": {
            "num_steps": options.steps, "batch_size": 32, "learning_rate": 1e-2, "objective": objective,
            "weight_decay": 1e-2 if way == "heads" else 0.0, "validate_every": options.steps, "checkpoint_every": 500,
        },
    }  # fmt: skip
    started = time.perf_counter()
    run = pretrain(tree, out=options.work)
    print(f"{run.path.name}: {time.perf_counter() - started:.0f} s", flush=True)
    return load_operator(run)


def errors_of(operator: Operator, batch: Batch) -> Tensor:
    """Return the relative L2 error of each sample."""
    answer, truth = operator.answers(batch).require_targets(), batch.require_targets()
    return (answer - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)


def said_of(
    way: str, operator: Operator, batch: Batch, space: FeatureSpace, system: System
) -> tuple[Tensor, float | None]:
    """Return what is said of each sample, and spread over error where there is a spread."""
    if way == "distance":
        return space.distances(features_of(operator, batch)), None
    if way == "equation":
        left = system.residual(operator.answers(batch))
        return left.flatten(1).norm(dim=1) / batch.inputs.flatten(1).norm(dim=1), None
    members, truth = operator.spread(batch), batch.require_targets()
    size = truth.flatten(1).norm(dim=1).view(-1, *(1,) * (truth.dim() - 1)) / truth[0].numel() ** 0.5
    ratio = spread_skill(members / size, truth / size)
    return members.std(0).flatten(1).norm(dim=1) / members.mean(0).flatten(1).norm(dim=1), ratio


def covered(case: str, operator: Operator, many: Batch, questions: dict[str, Batch]) -> list[Row]:
    """Return how often bands hold: within the training's range, and as it is left."""
    scores = {told: calibrate(operator, batch).scores for told, batch in {**questions, "within": many}.items()}
    order, held = torch.Generator().manual_seed(0), dict[str, list[float]]()
    for _ in range(20):
        chosen = torch.randperm(many.num_samples, generator=order)
        own = scores["within"][chosen[:256]]
        width = Calibration(own, own).widths(LEVEL)
        for told, others in {**scores, "within": scores["within"][chosen[256:]]}.items():
            held.setdefault(told, []).append(float((others <= width).double().mean()))
    return [Row(case, f"coverage, {told}", statistics.fmean(own), "") for told, own in held.items()]


def costs(name: str, operators: dict[str, Operator], batch: Batch, options: Namespace) -> list[Row]:
    """Return what a step of training and answering cost, over those of the single network."""
    few = batch.select(slice(0, 32))
    objective = scifm.objectives.RelativeL2()

    def step(operator: Operator) -> None:
        operator.train()
        loss = objective(operator, few, step=0, generator=generator_for(0, "cost"))
        loss.backward()
        operator.zero_grad()

    rows: list[Row] = []
    steps = medians(alternate({way: lambda o=o: step(o) for way, o in operators.items()}, repeats=9, warmups=2))
    asked = {way: lambda o=o: o.spread(few) for way, o in operators.items()}
    calibrate(operators["single"], batch)
    asked["distance"] = lambda: bands(operators["single"], few)  # with a band and the warning
    answers = medians(alternate(asked, repeats=25, warmups=2))
    rows.append(
        Row(f"{name}, distance", "answering", answers["distance"] / answers["single"], "times the single network")
    )
    for way in operators:
        rows.append(Row(f"{name}, {way}", "answering", answers[way] / answers["single"], "times the single network"))
        if way != "Laplace":
            rows.append(Row(f"{name}, {way}", "a step", steps[way] / steps["single"], "times the single network"))
    return rows


def table_of(rows: list[Row], options: Namespace) -> str:
    """Return the page's table."""
    found = {(row.case, row.metric): row.value for row in rows}
    lines = [
        "| system | way | error within, far | rank correlation (95 %) | n-MeRCI | spread over error within, far | "
        "bands of 90 % that hold within, far | answering costs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in options.systems:
        far = list(PHYSICS[name].beyond)[-1]
        for way in WAYS:
            case = f"{name}, {way}"
            cost = found.get((case, "answering"))

            def pair(metric: str, form: str, case: str = case, far: str = far) -> str:
                own = [found.get((case, f"{metric}, {told}")) for told in ("within", far)]
                return "" if None in own else ", ".join(format(value, form) for value in own)

            rank, low, high = (found[case, f"rank correlation{end}"] for end in ("", ", low", ", high"))
            lines.append(
                f"| {name} | {way} | {pair('relative L2', '.3g')} | {rank:.2f} ({low:.2f} to {high:.2f}) | "
                f"{found[case, 'n-MeRCI']:.2f} | {pair('spread over error', '.2f')} | {pair('coverage', '.3f')} | "
                f"{'' if cost is None else format(cost, '.2f')} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
