"""Which cure helps which failure of networks that are trained by an equation alone: one table, by one command.

    python benchmarks/pinn_cures.py --folder build/pinn-cures --csv benchmarks/results/pinn-cures.csv

Problems and the plain way are those of Krishnapriyan et al. (arXiv:2109.01050); each other way changes it in what its
name says. A run is a folder of `scifm pretrain`: those that are there are read and not trained again. The error is
‖û − u‖₂/‖u‖₂ over all frames behind the first, against the exact solution.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from harness import put_into, told_row, write_rows
from scifm.config import apply_overrides, read_toml
from scifm.data.run_origin import RunOrigin
from scifm.models.folder import find_model
from scifm.models.registry import load_operator
from scifm.runs import Run
from scifm.training.pretrain import PretrainRecipe, pretrain
from scifm.trust.curvature import objective_of
from scifm.trust.hessian import hessian_of
from scifm.trust.landscape import landscape_of

PLAIN = read_toml("pinn-published")
RESAMPLED = ["training.objective.points=uniform"]
EXACT = ["model.network.periodic=true", "model.network.scaled=true", "model.network.initial=exact"]
MARCHING = [
    "model.network.slabs=10",
    "training.objective.slab_steps=10",
    "training.objective.num_points=100",
    "training.num_steps=100",
]
NATURAL = [
    "training.optimizer=levenberg_marquardt",
    "training.num_steps=300",
    "training.precision=64-true",
    "training.objective.num_points=600",
    "training.validate_every=50",
    "model.network.width=30",
]
SMALL = ["model.network.width=30", "training.objective.num_points=600"]
WAVES = ["model.network.frequencies=8", "model.network.bandwidth=5.0"]
FIRST_PLATEAU = [
    "training.num_steps=1",
    "training.optimizer={name='lbfgs', iterations=20000, history=50, tolerance_change=1e-7}",
    "training.validate_every=1",
]
WAYS: dict[str, list[str]] = {
    "as published": FIRST_PLATEAU,  # which ends where the loss changes by less than 1e-7
    "plain": [],  # goes on for 30 times 100 iterations
    "points drawn anew": RESAMPLED,
    "conditions by construction": EXACT,
    "curriculum": [],  # its stages hang on the problem
    "marching": MARCHING,
    "both, L-BFGS": [*SMALL, *RESAMPLED, *EXACT],
    "second order": NATURAL,
    "second order, points drawn anew": [*NATURAL, *RESAMPLED],
    "second order, conditions by construction": [*NATURAL, *EXACT],
    "second order, both": [*NATURAL, *RESAMPLED, *EXACT],
    "second order, both, curriculum": [*NATURAL, *RESAMPLED, *EXACT],
    "second order, both, waves": [*NATURAL, *RESAMPLED, *EXACT, *WAVES],
}
PROBLEMS: dict[str, tuple[str, dict[str, float]]] = {
    **{f"convection {speed}": ("convection", {"speed": speed}) for speed in (1, 10, 30, 40, 50)},
    "reaction 5": ("reaction", {"rate": 5}),
    **{f"reaction-diffusion {nu}": ("reaction_diffusion", {"diffusivity": nu, "rate": 5}) for nu in (2, 3, 4, 5, 6)},
}
EASY = ("convection 1", "convection 10")
PUBLISHED = {
    ("convection 1", "as published"): 7.84e-3, ("convection 10", "as published"): 1.08e-2,
    ("convection 30", "as published"): 8.97e-1, ("convection 40", "as published"): 9.61e-1,
    ("convection 30", "curriculum"): 2.02e-2, ("convection 40", "curriculum"): 5.33e-2,
    ("convection 30", "marching"): 1.05e-1, ("convection 40", "marching"): 2.41e-1,
    ("reaction 5", "as published"): 9.79e-1, ("reaction 5", "marching"): 7.09e-2,
    **{
        (f"reaction-diffusion {nu}", way): value
        for way, values in (
            ("as published", (5.07e-1, 7.98e-1, 8.84e-1, 9.35e-1, 9.60e-1)),
            ("marching", (1.18e-2, 1.56e-2, 1.59e-2, 2.39e-2, 2.69e-2)),
        )
        for nu, value in zip((2, 3, 4, 5, 6), values, strict=True)
    },
}  # fmt: skip
"""Relative errors of the paper, tables 1, 2, E.1, E.2 and figure 3; best learning rate by seed, mean of ten."""
STAGES = {
    "convection": ("speed", [5, 10, 15, 20, 25, 30, 35, 40, 45]),
    "reaction": ("rate", [1, 2, 3, 4]),
    "reaction_diffusion": ("rate", [1, 2, 3, 4]),
}
COLUMNS = ("problem", "way", "seed", "relative_error", "loss", "steps", "seconds", "published")


def cells(ways: list[str], problems: list[str]) -> Iterator[tuple[str, str]]:
    """Yield what is worth a run: of problems that are easy the plain way alone."""
    for problem in problems:
        for way in ways:
            if problem in EASY and way not in ("as published", "plain", "second order, both"):
                continue
            if way.endswith("waves") and not problem.startswith("convection"):
                continue
            if problem.startswith("reaction-diffusion") and problem[-1] != "5" and way not in (
                "as published", "plain", "marching", "second order, both",
            ):  # fmt: skip
                continue
            yield problem, way


def recipe_of(problem: str, way: str, seed: int) -> PretrainRecipe:
    """Return the recipe of one cell of the table."""
    system, knobs = PROBLEMS[problem]
    overrides = list(WAYS[way])
    if "curriculum" in way:
        knob, values = STAGES[system]
        steps = 40 if way.startswith("second") else 15
        easier = [value for value in values if value < knobs[knob]]
        overrides.append(f'data.curriculum={{knob="{knob}", values={easier}, steps={steps}}}')
        last = 600 if way.startswith("second") else 30
        overrides.append(f"training.num_steps={len(easier) * steps + last}")
    name = "-".join([problem, way]).replace(" ", "-").replace(",", "")
    tree = {**PLAIN, "name": name, "seed": seed, "system": {"name": system, "knobs": knobs}}
    return PretrainRecipe.read(apply_overrides(tree, overrides))


def problem_of(run: Run) -> RunOrigin:
    """Return where the one problem of a run comes from."""
    origin = RunOrigin.of_model(find_model(run.path))
    assert origin is not None
    return origin


@torch.no_grad()
def error_of(run: Run) -> float:
    """Return the relative error over all frames."""
    operator = load_operator(run.path)
    batch = problem_of(run).resolved().draw(1).to(dtype=torch.float64)
    answer, truth = operator.double()(batch).require_targets(), batch.require_targets()
    return float((answer - truth).norm() / truth.norm())


def table_of(rows: list[dict[str, Any]]) -> str:
    """Return the errors as a table in Markdown, medians over seeds: a line a way, a column a problem."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        found.setdefault((row["way"], row["problem"]), []).append(float(row["relative_error"]))
    problems = [problem for problem in PROBLEMS if any(key[1] == problem for key in found)]
    lines = ["| | " + " | ".join(problems) + " |", "|---|" + "---:|" * len(problems)]
    published = [PUBLISHED.get((problem, "as published")) for problem in problems]
    lines.append("| *published* | " + " | ".join("" if p is None else f"*{p:.2g}*" for p in published) + " |")
    for way in WAYS:
        errors = [found.get((way, problem)) for problem in problems]
        if any(errors):
            told = ["" if not e else f"{median(e):.2g}" + (f" ({len(e)})" if len(e) > 1 else "") for e in errors]
            lines.append(f"| {way} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table that was written before; none where there is none."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows in the order of seeds, problems and ways."""
    problems, ways = list(PROBLEMS), list(WAYS)
    return sorted(rows, key=lambda r: (int(r["seed"]), problems.index(r["problem"]), ways.index(r["way"])))


def landscapes(folder: Path, path: Path) -> None:
    """Draw the loss around the weights of the plain way as surfaces, where it succeeds and where it fails."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for place, problem in enumerate(("convection 1", "convection 30"), 1):
        run = pretrain(recipe_of(problem, "plain", 0), out=folder)
        batch = problem_of(run).resolved().draw(1).to(dtype=torch.float64)
        hessian = hessian_of(load_operator(run.path).double(), batch, objective_of(find_model(run.path)), seed=0)
        plane = landscape_of(hessian, num_points=61)
        axes = figure.add_subplot(1, 2, place, projection="3d")
        a, b = np.meshgrid(plane.a, plane.b)
        axes.plot_surface(a, b, plane.logarithms, cmap="viridis", vmin=-2, vmax=4, rcount=61, ccount=61, linewidth=0)
        axes.set(xlabel="along v₁", ylabel="along v₂", zlabel="log₁₀ loss", zlim=(-6, 4), title=problem)
        axes.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1), zticks=(-6, -4, -2, 0, 2, 4))
        print(problem, "roughness", plane.roughness(), "curvatures", plane.curvatures, "loss", plane.loss, flush=True)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--csv", type=Path, help="rows that are there stay, and are made anew where they are asked for")
    parser.add_argument("--docs", type=Path, help="page to put the table of the CSV into, between its marks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS))
    parser.add_argument("--landscape", type=Path, metavar="PNG", help="draw the loss around the weights, at 1 and 30")
    asked = parser.parse_args()
    if asked.landscape is not None:
        landscapes(asked.folder, asked.landscape)
        return
    rows = [] if asked.csv is None else read(asked.csv)
    for seed in asked.seeds:
        for problem, way in cells(asked.ways, asked.problems):
            run = pretrain(recipe_of(problem, way, seed), out=asked.folder)
            last = [event for event in run.metrics() if event["event"] == "train"][-1]
            row: dict[str, Any] = {"problem": problem, "way": way, "seed": seed, "relative_error": error_of(run)}
            # a loss is written as it was before the step: of a single one it says nothing of the end
            row |= {"loss": last["loss"] if last["step"] > 1 else "", "steps": last["step"], "seconds": last["seconds"]}
            row["published"] = PUBLISHED.get((problem, way), "")
            rows = [r for r in rows if (r["problem"], r["way"], str(r["seed"])) != (problem, way, str(seed))] + [row]
            print(told_row(row), flush=True)
            if asked.csv is not None:
                write_rows(asked.csv, ordered(rows), COLUMNS)
    if asked.docs is not None:
        put_into(asked.docs, "benchmarks/pinn_cures.py", table_of(rows))


if __name__ == "__main__":
    main()
