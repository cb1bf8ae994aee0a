"""Why did fine-tuning on 64 samples do worse than no fine-tuning, and what helps? One suspect at a time.

Takes the pre-trained operators of a finished study and moves them to one of its tasks with the samples the study used.
Every learning rate and number of steps is trained on all samples and scored on 256 that nothing else sees, so that no
choice comes between; and of every training also the operators whose weights lie between those before and after
(Wortsman et al. 2022, arXiv:2109.01903). With ``--choose`` it fine-tunes instead by the rules of the study, by held-out
samples, with all of the way and with the share of the way among what is chosen. Without a study there is nothing to do,
and it says so.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from harness import Row, argument_parser, publish
from scifm.config import build_config
from scifm.data.stream import Epochs
from scifm.data.subsets import nested_subsets
from scifm.models.registry import load_operator
from scifm.runs import Run
from scifm.studies.jobs import draw_test, pool_of
from scifm.studies.recipe import StudyRecipe
from scifm.training.finetune import finetune
from scifm.training.loop import TrainingConfig, train
from scifm.training.validation import sample_errors

RATES, STEPS, SHARES = (1e-3, 3e-3, 1e-2), (25, 75, 200), (0.25, 0.5, 0.75, 1.0)


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("study", type=Path, nargs="?", default=Path("runs/transfer-workstation"))
    parser.add_argument(
        "--move", nargs=2, action="append", metavar=("SOURCE", "TARGET"), help="may be given repeatedly"
    )
    parser.add_argument("--size", default="w16")
    parser.add_argument("--num-samples", type=int, default=64)
    parser.add_argument("--choose", action="store_true", help="fine-tune by the rules of the study")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if not (arguments.study / "table.parquet").is_file():
        print(f"Skipped: no finished study in '{arguments.study}'. Make one with 'scifm study' and give its folder.")
        return
    config = {name: value for name, value in Run.open(arguments.study).config.items() if name != "kind"}
    recipe = build_config(StudyRecipe, config, source="the study")
    rows: list[Row] = []
    part = choices if arguments.choose else ways
    for source, target in arguments.move or [("mixture", "advection-1-2")]:
        rows += part(arguments.study, recipe, source, target, arguments.size, arguments.num_samples)
    publish("Weights between pre-trained and fine-tuned", rows, arguments.json)


def choices(study: Path, recipe: StudyRecipe, source: str, target: str, size: str, num_samples: int) -> list[Row]:
    """Return test errors of the fine-tuned operators that held-out samples chose, by seed, and the medians."""
    task = next(one for one in recipe.targets if one.name == target)
    pool, test = pool_of(recipe, task), draw_test(recipe, target, recipe.origin(task))
    errors: dict[str, list[float]] = defaultdict(list)
    with TemporaryDirectory() as out:
        for seed in recipe.seeds:
            (folder,) = study.glob(f"runs/{source}-{size}-seed{seed}-????????")
            errors["zero-shot"].append(float(sample_errors(load_operator(folder / "model"), test).mean()))
            for way, shares in {"all of the way": (1.0,), "share chosen": SHARES}.items():
                adapt = recipe.adapt.recipe("few_shot", num_samples, seed).model_copy(update={"interpolation": shares})
                run = finetune(folder, pool, adapt, out=out)
                errors[way].append(float(sample_errors(load_operator(run.path / "model"), test).mean()))
                outcome = run.read_json("outcome.json")
                chosen = outcome["learning_rate"], outcome.get("interpolation")
                print(source, target, seed, way, errors[way][-1], *chosen, flush=True)
    return table(recipe, f"{source} to {target}, {size}, {num_samples} samples", errors)


def ways(study: Path, recipe: StudyRecipe, source: str, target: str, size: str, num_samples: int) -> list[Row]:
    """Return test errors of every way, by seed, and the medians of seeds."""
    task = next(one for one in recipe.targets if one.name == target)
    pool, test = pool_of(recipe, task), recipe.origin(task).test(256, "weights between")
    errors: dict[str, list[float]] = defaultdict(list)
    for seed in recipe.seeds:
        (folder,) = study.glob(f"runs/{source}-{size}-seed{seed}-????????")
        operator = load_operator(folder / "model")
        before = {name: value.clone() for name, value in operator.state_dict().items()}
        errors["zero-shot"].append(float(sample_errors(operator, test).mean()))
        index = nested_subsets(pool.num_problems, [num_samples], seed)[num_samples]
        samples = pool.samples.problems(index)
        for rate in RATES:
            for steps in STEPS:
                operator.load_state_dict(before)
                settings = {"num_steps": steps, "validate_every": steps, "checkpoint_every": steps, "log_every": steps}
                config = TrainingConfig(learning_rate=rate, **settings)
                train(operator, Epochs(samples, batch_size=32, seed=seed), config=config, seed=seed)
                after = {name: value.clone() for name, value in operator.state_dict().items()}
                for share in SHARES:
                    between = {name: torch.lerp(before[name], after[name], share) for name in before}
                    operator.load_state_dict(between)
                    way = f"rate {rate:g}, {steps} steps, {share:g} of the way"
                    errors[way].append(float(sample_errors(operator, test).mean()))
    return table(recipe, f"{source} to {target}, {size}, {num_samples} samples", errors)


def table(recipe: StudyRecipe, case: str, errors: dict[str, list[float]]) -> list[Row]:
    rows = [
        Row(case, f"median of seeds, {way}", statistics.median(found), "relative L2") for way, found in errors.items()
    ]
    for seed, number in enumerate(recipe.seeds):
        rows += [Row(case, f"seed {number}, {way}", found[seed], "relative L2") for way, found in errors.items()]
    return rows


if __name__ == "__main__":
    main()
