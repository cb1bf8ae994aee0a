"""Inverse problems: coefficients and sources from noisy receivers, through networks and through the solver.

Advection–diffusion at 64². Networks of three seeds learn it as it is drawn; then problems that nobody has seen are
recorded with 5 % of noise: 64 receivers of which diffusion and velocity are asked, 16 of which a source is asked. Every
problem is searched through the network, its own error at the receivers counted and not, from there on by the solver,
and by the solver alone. A network's answer with which it is content and the solver is not is an adversarial one.

``python benchmarks/inversion.py --folder DIR --seeds 3 --docs docs/guides/inversion.md``
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from harness import argument_parser, put_into, write_measured
from scifm.applications.inversion.asking import Inversion, InvertRecipe, inverted
from scifm.applications.inversion.making import ObserveRecipe, observe
from scifm.applications.inversion.observations import Observations
from scifm.applications.inversion.telling import intervals_of, truths_of
from scifm.config import build_config
from scifm.data.origins import SystemOrigin
from scifm.fields.grid import Grid
from scifm.models.operator import Operator
from scifm.models.registry import load_operator
from scifm.systems.advection_diffusion import AdvectionDiffusion
from scifm.training.pretrain import PretrainRecipe, pretrain

RESULTS = Path(__file__).parent / "results" / "inversion.csv"
POINTS, LEVEL = 64, 0.9
SYSTEM, GRID = AdvectionDiffusion(), Grid.square(POINTS)
CASES: dict[str, dict[str, Any]] = {
    "coefficients": {"num_receivers": 64, "unknown": ["coefficients"]},
    "source": {"num_receivers": 16, "unknown": ["inputs"], "num_sources": 1},
}
WAYS: dict[str, dict[str, Any]] = {
    "network": {"refine": False},
    "network, its error not counted": {"refine": False, "count_network_error": False},
    "network, then solver": {},
    "solver": {"through": "solver"},
}


def trained(seed: int, folder: Path, steps: int) -> Operator:
    """Return a network of advection–diffusion."""
    tree = {
        "name": f"inversion-{seed}", "seed": seed, "system": {"name": "advection_diffusion"},
        "model": {"network": {"width": 24, "modes": 12}},
        "training": {"num_steps": steps, "batch_size": 16, "learning_rate": 3e-3, "validate_every": steps},
    }  # fmt: skip
    return load_operator(pretrain(build_config(PretrainRecipe, tree, source="benchmark"), out=folder / "runs").path)


def recorded(case: str, number: int, folder: Path) -> Observations:
    """Return the recordings of one problem."""
    tree = {"system": {"name": "advection_diffusion"}, "num_points": POINTS, "noise": 0.05, **CASES[case]}
    recipe = build_config(ObserveRecipe, {**tree, "seed": 1000 + number}, source="benchmark")
    (folder / "recordings").mkdir(parents=True, exist_ok=True)
    return observe(recipe, folder / "recordings" / f"{case}-{number}.npz")


def measured(made: Inversion, how: InvertRecipe, case: str) -> dict[str, float]:
    """Return how far off an answer is, and how its intervals fared."""
    rows, truth = intervals_of(made, how), truths_of(made)
    names = [name for name in rows if name in truth]
    held = sum(rows[name][0] <= truth[name] <= rows[name][2] for name in names)
    found = {name: rows[name][1] for name in names}

    def off(parts: Sequence[str], *, twice: Sequence[str] = ()) -> float:
        """Return the distance of vectors over the size of the truth, off-diagonal parts counted twice."""
        weights = {name: 2.0 if name in twice else 1.0 for name in parts}
        distance = sum(w * (found[name] - truth[name]) ** 2 for name, w in weights.items())
        return math.sqrt(distance / sum(w * truth[name] ** 2 for name, w in weights.items()))

    if case == "source":
        away = math.hypot(*((found[f"source, {a}"] - truth[f"source, {a}"] + 0.5) % 1 - 0.5 for a in "xy"))
        errors = {"first": away * POINTS, "second": abs(found["source, height"] / truth["source, height"] - 1)}
    else:
        tensor = ("diffusion_xx", "diffusion_yy", "diffusion_xy")
        errors = {"first": off(tensor, twice=tensor[2:]), "second": off(("velocity_x", "velocity_y"))}
    asked = made.found.num_asked + (0 if made.refined is None else made.refined.num_asked)
    seconds = sum(made.seconds) if made.refined is not None else made.seconds[0]
    misfit = made.found.misfit if made.refined is None else made.refined.misfit
    solver = math.nan if made.solver_misfit is None else made.solver_misfit
    return {
        **errors, "held": held, "of": len(names), "misfit": misfit, "solver_misfit": solver, "content": made.content,
        "adversarial": float(made.adversarial), "asked": asked, "seconds": seconds, "agreeing": made.found.agreeing,
    }  # fmt: skip


def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Ask all."""
    rows: list[dict[str, Any]] = []
    origin = SystemOrigin.of(SYSTEM, GRID)
    for seed in range(given.seeds):
        operator = trained(seed, given.folder, given.steps)
        for case in CASES:
            for number in range(given.problems):
                seen = recorded(case, number, given.folder)
                for way, change in WAYS.items():
                    if way == "solver" and seed:
                        continue  # it knows no network
                    num_sources = CASES[case].get("num_sources", 0)
                    how = InvertRecipe(num_sources=num_sources, level=LEVEL, num_starts=6, **change)
                    found = measured(inverted(operator, origin, seen, how), how, case)
                    rows.append({"seed": seed, "case": case, "problem": number, "way": way, **found})
                write_measured(given.out, rows)
            print(f"seed {seed}, {case}", flush=True)
            print(table([row for row in rows if row["seed"] == seed], case), flush=True)
    return rows


def table(rows: Sequence[Mapping[str, Any]], case: str) -> str:
    """Return medians and largest values over problems and seeds as Markdown."""
    what = ("place off, grid spacings", "height off") if case == "source" else ("diffusion off", "velocity off")
    head = ("searched through", *what, "in their 90 % intervals", "adversarial", "problems answered", "seconds")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for way in WAYS:
        own = [row for row in rows if row["case"] == case and row["way"] == way]
        if not own:
            continue

        def told(name: str, percent: bool, own: Sequence[Mapping[str, Any]] = own) -> str:
            values = sorted(float(row[name]) for row in own)
            middle, high = median(values), values[-1]
            return f"{100 * middle:.1f} % ({100 * high:.1f} %)" if percent else f"{middle:.2f} ({high:.2f})"

        held = 100 * sum(int(row["held"]) for row in own) / sum(int(row["of"]) for row in own)
        checked = [row for row in own if float(row["solver_misfit"]) == float(row["solver_misfit"])]
        fooled = f"{sum(float(row['adversarial']) for row in checked):.0f} of {len(checked)}" if checked else "–"
        cells = [told("first", case != "source"), told("second", True), f"{held:.0f} %", fooled]
        cells += [
            f"{median(float(row['asked']) for row in own):.0f}",
            f"{median(float(row['seconds']) for row in own):.1f}",
        ]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked."""
    parser = argument_parser("Inverse problems through networks and solvers")
    parser.add_argument("--folder", type=Path, required=True, help="where runs and recordings are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--problems", type=int, default=12)
    parser.add_argument("--steps", type=int, default=1200, help="of each training")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, help="the page to put the tables into")
    given = parser.parse_args()
    torch.set_num_threads(given.threads or 1)
    rows = run(given)
    if given.docs is not None:
        for case in CASES:
            put_into(given.docs, f"inversion, {case}", table(rows, case))


if __name__ == "__main__":
    main()
