"""Simple forms as teachers: are simulations of parts of an equation worth their cost, beside those of the whole?

    python benchmarks/simple_forms.py --folder build/simple-forms --csv benchmarks/results/simple-forms.csv

Four equations that evolve, and what is left of each where a term is taken out, which a solver does many times faster.
An operator is trained on N trajectories of the whole (``whole``); on three quarters of them and simple ones for what
the last quarter cost (``and simple``), as ordinary mixtures; and on the three quarters alone (``fewer``). Steps and
samples a step are the same. Errors are of one step and of ten, on unseen trajectories of the same physics and of a
shifted one. After arXiv:2602.15184. Runs and stores are folders: those that are there are not made again. ``--costs``
measures what a trajectory of each costs, from which the ratios of `CASES` are taken.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any
from zlib import crc32

from harness import alternate, put_into, told_row, write_rows
from scifm.data.generate import generate
from scifm.data.origin_config import SystemConfig
from scifm.data.origins import SystemOrigin
from scifm.evaluation.evaluate import evaluate
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.window import Window
from scifm.training.pretrain import PretrainRecipe, pretrain

OFF = dict.fromkeys(("speed", "steepening", "diffusivity", "dispersion", "hyperdiffusivity", "rate"), 0)
LINE = {"width": 16, "modes": 16, "num_layers": 3, "projection_width": 32, "latent_points": 64}
PLANE = {"width": 12, "modes": 8, "num_layers": 3, "projection_width": 24, "latent_points": 32}
WAYS = ("whole", "fewer", "and simple")
TRAJECTORIES = (8, 32)
ASKED = {"same": 1, "same, ten steps": 10, "shifted": 1, "shifted, ten steps": 10}
COLUMNS = ("equation", "trajectories", "way", "simple", "seed", *ASKED)


@dataclass(frozen=True)
class Case:
    """An equation, simple forms of it, how many of these cost as much as one of it, and where it is shifted."""

    system: str
    knobs: dict[str, Any]
    simple: dict[str, dict[str, Any]]
    ratio: int
    shifted: dict[str, Any]
    num_points: int = 64
    network: dict[str, Any] = field(default_factory=lambda: LINE)
    at_most: int = 1024  # simple trajectories


CASES = {
    "steepening, diffusion": Case(
        "scalar_evolution",
        {**OFF, "steepening": [0.5, 1], "diffusivity": [0.005, 0.02]},
        {"scalar_evolution": {**OFF, "diffusivity": [0.005, 0.02]}},
        6,
        {"diffusivity": [0.003, 0.005]},
    ),
    "reaction, diffusion": Case(
        "scalar_evolution",
        {**OFF, "rate": [1, 4], "diffusivity": [0.005, 0.02]},
        {"scalar_evolution": {**OFF, "diffusivity": [0.005, 0.02]}},
        6,
        {"rate": [4, 6]},
    ),
    "steepening, dispersion": Case(
        "scalar_evolution",
        {**OFF, "steepening": [0.5, 1], "dispersion": [0.0005, 0.001]},
        {"scalar_evolution": {**OFF, "dispersion": [0.0005, 0.001]}},
        6,
        {"dispersion": [0.0003, 0.0005]},
    ),
    "navier_stokes": Case(
        "navier_stokes",
        {"viscosity": [1e-3, 5e-3]},
        {"heat": {"diffusivity": [1e-3, 5e-3]}, "advection": {"speed": [0.2, 1]}},
        230,
        {"viscosity": [5e-4, 1e-3]},
        num_points=32,
        network=PLANE,
    ),
}


def stored(system: str, knobs: dict[str, Any], num: int, num_points: int, seed: int, folder: Path) -> str:
    """Return the folder of a store of so many trajectories."""
    built = SystemConfig(name=system, knobs=knobs).build()
    told = crc32(repr(SystemConfig.of(built).to_dict()).encode())  # tells ranges of knobs apart
    name = "-".join([system, f"{told:08x}", str(num), str(seed)])
    splits = {"train": num, "valid": 8}
    generate(built, num_samples=splits, path=folder / "stores" / name, num_points=num_points, seed=seed)
    return str(folder / "stores" / name)


def recipe_of(equation: str, num: int, way: str, seed: int, steps: int, folder: Path) -> tuple[PretrainRecipe, int]:
    """Return the recipe of one cell, and the number of its simple trajectories."""
    case, simple = CASES[equation], 0
    kept = num if way == "whole" else num * 3 // 4
    members = [{"store": stored(case.system, case.knobs, kept, case.num_points, seed, folder), "weight": 3.0}]
    if way == "and simple":
        simple = min((num - kept) * case.ratio, case.at_most)
        each = simple // len(case.simple)
        for name, knobs in case.simple.items():
            store = stored(name, knobs, each, case.num_points, seed, folder)
            members.append({"store": store, "weight": 1.0 / len(case.simple)})
    tree = {
        "name": "-".join([equation, str(num), way]).replace(",", "").replace(" ", "-"),
        "seed": seed,
        "data": {"num_validation_samples": 32, "num_normalization_samples": 128},
        "model": {"network": case.network},
        "training": {
            "num_steps": steps,
            "batch_size": 16,
            "learning_rate": 5e-3,
            "validate_every": steps,
            "checkpoint_every": steps,
        },
    }
    source = {"mixture": members} if way == "and simple" else {}
    if not source:
        tree["data"] = {**tree["data"], "store": members[0]["store"]}  # type: ignore[dict-item]
    return PretrainRecipe.read({**tree, **source}), simple


def errors_of(run: Any, case: Case) -> dict[str, float]:
    """Return relative L2 errors on unseen trajectories."""
    found = {}
    for asked, horizon in ASKED.items():
        knobs = case.knobs if asked.startswith("same") else {**case.knobs, **case.shifted}
        config = SystemConfig(name=case.system, knobs=knobs)
        grid = Grid((case.num_points,) * config.build().signature.num_spatial_dims)
        origin = SystemOrigin(config, grid, Window(1, horizon))
        found[asked] = evaluate(run, origin.test(16, "simple-forms"), record=False).mean()
    return found


def table_of(rows: list[dict[str, Any]]) -> str:
    """Return the errors as a table in Markdown, means over seeds."""
    lines = ["| | trajectories | | " + " | ".join(ASKED) + " |", "|---|---:|---|" + "---:|" * len(ASKED)]
    for equation in CASES:
        for num in TRAJECTORIES:
            for way in WAYS:
                here = [r for r in rows if (r["equation"], int(r["trajectories"]), r["way"]) == (equation, num, way)]
                if here:
                    told = [f"{mean(float(row[asked]) for row in here):.2g} ({len(here)})" for asked in ASKED]
                    also = f" (+ {here[0]['simple']})" if way == "and simple" else ""
                    kept = num if way == "whole" else num * 3 // 4
                    lines.append(f"| {equation} | {kept}{also} | {way} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def costs() -> None:
    """Print what a trajectory of each costs, the median of five, alternating."""
    for equation, case in CASES.items():
        systems = {"whole": (case.system, case.knobs), **{f"simple {n}": (n, k) for n, k in case.simple.items()}}
        made = {told: SystemConfig(name=name, knobs=knobs).build() for told, (name, knobs) in systems.items()}
        grid = Grid((case.num_points,) * made["whole"].signature.num_spatial_dims)
        tried = {told: lambda s=s, g=grid: s.sample(64, g, generator_for(0)) for told, s in made.items()}
        for told, seconds in alternate(tried, repeats=5).items():
            print(f"{equation}  {told}  {median(seconds) / 64 * 1e3:.3g} ms a trajectory", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the table into this page")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--equations", nargs="+", default=list(CASES))
    parser.add_argument("--costs", action="store_true")
    asked = parser.parse_args()
    if asked.costs:
        costs()
        return
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        for equation in asked.equations:
            for num in TRAJECTORIES:
                for way in WAYS:
                    recipe, simple = recipe_of(equation, num, way, seed, asked.steps, asked.folder)
                    run = pretrain(recipe, out=asked.folder)
                    row = {"equation": equation, "trajectories": num, "way": way, "simple": simple, "seed": seed}
                    rows.append({**row, **errors_of(run, CASES[equation])})
                    print(told_row(rows[-1]), flush=True)
                    if asked.csv is not None:
                        write_rows(asked.csv, rows, COLUMNS)
    if asked.docs is not None:
        put_into(asked.docs, "benchmarks/simple_forms.py", table_of(rows))


if __name__ == "__main__":
    main()
