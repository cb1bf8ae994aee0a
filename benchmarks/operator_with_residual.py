"""An operator with few solutions: does its equation beside them help, or hurt?

    python benchmarks/operator_with_residual.py --folder DIR --csv benchmarks/results/operator-with-residual.csv

Poisson on 32² and Burgers on 64 points, with 0, 16, 64 and 256 solved problems (of Burgers trajectories) among 1,024
(128), in as many steps of as many samples: by the solutions alone, or by them and the residual on all problems, solved
or not. Of Burgers with frames 4 and 16 times as close too, which true solutions miss less, and 16 solved. Scores are on
unseen samples. Runs are folders: those that are there are not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

from harness import put_into, told_row, write_rows
from scifm.evaluation.evaluate import evaluate
from scifm.training.pretrain import PretrainRecipe, pretrain

NETWORK = {"width": 12, "modes": 8, "num_layers": 3, "projection_width": 24, "latent_points": 16}
SYSTEMS: dict[str, dict[str, Any]] = {
    "poisson": {"knobs": {"anisotropy": [1, 5]}, "num_points": 32, "all": 1024, "network": NETWORK},
    "burgers": {
        "knobs": {"viscosity": [0.02, 0.05]},
        "num_points": 64,
        "all": 1024,
        "network": {**NETWORK, "modes": 16, "latent_points": 32},
    },
}
for part in (4, 16):
    finer = {"options": {"save_interval": 0.05 / part}, "solved": (16,)}
    SYSTEMS[f"burgers, 1/{part} of the step"] = {**SYSTEMS["burgers"], **finer}
WAYS: dict[str, tuple[bool, Any]] = {
    "solutions": (False, "relative_l2"),
    "with residual 0.1": (True, {"name": "relative_l2", "residual": 0.1}),
    "with residual 1": (True, {"name": "relative_l2", "residual": 1.0}),
}
COLUMNS = ("system", "solved", "way", "seed", "relative_l2", "steps")


def recipe_of(system: str, solved: int, way: str, seed: int, num_steps: int) -> PretrainRecipe:
    """Return the recipe of one cell of the table."""
    about, (unsolved_too, objective) = SYSTEMS[system], WAYS[way]
    data: dict[str, Any] = {"num_points": about["num_points"], "num_validation_samples": 64}
    data |= {"num_normalization_samples": 128, "num_samples": about["all"] if unsolved_too else solved}
    if unsolved_too:
        data["num_solved"] = solved
    if solved == 0:
        objective = "residual"
    tree = {
        "name": "-".join([system, str(solved), way]).replace(",", "").replace("/", "-").replace(" ", "-"),
        "seed": seed,
        "system": {"name": system.split(",")[0], "knobs": about["knobs"], "options": about.get("options", {})},
        "data": data,
        "model": {"network": about["network"]},
        "training": {
            "num_steps": num_steps,
            "batch_size": 16,
            "learning_rate": 5e-3,
            "objective": objective,
            "validate_every": num_steps,
            "checkpoint_every": num_steps,
        },
    }
    return PretrainRecipe.read(tree)


def table_of(rows: list[dict[str, Any]]) -> str:
    """Return the errors as a table in Markdown, means over seeds with their number."""
    lines = ["| | solved | " + " | ".join(WAYS) + " |", "|---|---:|" + "---:|" * len(WAYS)]
    for system in SYSTEMS:
        for solved in sorted({int(row["solved"]) for row in rows if row["system"] == system}):
            told = []
            for way in WAYS:
                here = [row for row in rows if (row["system"], int(row["solved"]), row["way"]) == (system, solved, way)]
                errors = [float(row["relative_l2"]) for row in here]
                told.append(f"{mean(errors):.2g} ({len(errors)})" if errors else "")
            lines.append(f"| {system} | {solved} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the table into this page")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--solved", type=int, nargs="+", default=[0, 16, 64, 256])
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        for system in SYSTEMS:
            for solved in SYSTEMS[system].get("solved", asked.solved):
                for way in WAYS:
                    if solved == 0 and way != "with residual 1":
                        continue  # nothing to learn from, or the same: without solutions the weight is of no account
                    run = pretrain(recipe_of(system, solved, way, seed, asked.steps), out=asked.folder)
                    origin = PretrainRecipe.read(run.path / "config.toml").origin
                    test = origin.test(256 if system == "poisson" else 32, "with residual")
                    row = {"system": system, "solved": solved, "way": way, "seed": seed}
                    row |= {"relative_l2": evaluate(run, test, record=False).mean(), "steps": asked.steps}
                    rows.append(row)
                    print(told_row(row), flush=True)
                    if asked.csv is not None:
                        write_rows(asked.csv, rows, COLUMNS)

    if asked.docs is not None:
        put_into(asked.docs, "benchmarks/operator_with_residual.py", table_of(rows))


if __name__ == "__main__":
    main()
