"""Pre-training by solutions, by the equation alone, or by both; then moved: what does the constraint buy, and where?

    python benchmarks/constraint_aware.py --folder build/constraint-aware --csv benchmarks/results/constraint-aware.csv

Six systems. Each is pre-trained three ways on the same problems in as many steps: by their solutions (``data``), by
their equation without a solution (``residual``), by both (``hybrid``). Then it is fine-tuned on a few solved samples of
shifted coefficients, clean and with noise of 5 % and 20 % of the fields' root mean square in all that it is shown, and
of a new system. Scores are on clean unseen samples; each way has the step size and the constants of coefficients that
are best for it, in the mean over seeds, on other clean samples. After constraint-aware pre-training as in
arXiv:2503.19081. Runs are folders: those that are there are not made again.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from harness import put_into, told_row, write_rows
from scifm.data.origin_config import SystemConfig
from scifm.data.origins import DownstreamPool, SystemOrigin
from scifm.data.split import windows_of
from scifm.evaluation.evaluate import evaluate
from scifm.fields.batch import Batch
from scifm.fields.samples import Samples
from scifm.fields.seeds import generator_for
from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.report.drawing import write_figure
from scifm.runs import Run
from scifm.training.choice import AdaptRecipe
from scifm.training.finetune import finetune, from_scratch
from scifm.training.pretrain import PretrainRecipe, pretrain

NETWORK = {"width": 12, "modes": 8, "num_layers": 3, "projection_width": 24, "latent_points": 16}
LINE = {**NETWORK, "modes": 16, "latent_points": 32}
WAYS: dict[str, Any] = {
    "data": "relative_l2",
    "residual": "residual",
    "hybrid": {"name": "relative_l2", "residual": 1.0},
}
NOISES = (0.0, 0.05, 0.2)
KEPT, REFITTED = "pretrained", "refitted"
HOW = ((1e-3, KEPT), (3e-3, KEPT), (1e-2, KEPT), (3e-3, REFITTED), (1e-2, REFITTED))
"""Step sizes, and whether shift and scale of coefficients are those of pre-training or fitted on the few samples."""
COLUMNS = ("system", "way", "moved_to", "noise", "rate", "constants", "seed", "tuning", "error")


@dataclass(frozen=True)
class Move:
    """A system, what it is shifted to, another system, and what that calls its fields."""

    name: str
    knobs: dict[str, Any]
    shifted: dict[str, Any]
    new: str
    new_knobs: dict[str, Any]
    rename: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    new_options: dict[str, Any] = field(default_factory=dict)
    num_points: int = 32
    num_problems: int = 512
    few: int = 16


MOVES = (
    Move("poisson", {"anisotropy": [1, 5]}, {"anisotropy": [10, 15]}, "advection_diffusion", {"anisotropy": [1, 5]}),
    Move(
        "advection_diffusion",
        {"advection_diffusion_ratio": [0.2, 1]},
        {"advection_diffusion_ratio": [1.5, 3]},
        "poisson",
        {"anisotropy": [1, 5]},
    ),
    Move("helmholtz", {"wavenumber_shift": [1, 3]}, {"wavenumber_shift": [5, 7]}, "poisson", {"anisotropy": [1, 5]}),
    Move(
        "heat",
        {"diffusivity": [1e-3, 5e-3]},
        {"diffusivity": [1e-2, 2e-2]},
        "advection",
        {"speed": [0.2, 1]},
        rename={"tracer": "temperature"},
        num_problems=64,
        few=4,
    ),
    Move(
        "burgers",
        {"viscosity": [0.02, 0.05]},
        {"viscosity": [0.008, 0.012]},
        "kdv",
        {"dispersion": [0.0005, 0.001]},
        num_points=64,
        num_problems=64,
        few=4,
    ),
    Move(
        "navier_stokes",
        {"viscosity": [1e-3, 5e-3]},
        {"viscosity": [2e-4, 5e-4]},
        "heat",
        {"diffusivity": [1e-3, 5e-3]},
        rename={"temperature": "vorticity"},
        num_problems=64,
        few=4,
    ),
)


def recipe_of(move: Move, way: str, seed: int) -> PretrainRecipe:
    """Return how a system is pre-trained one way."""
    evolves = SystemConfig(name=move.name).build().signature.evolves
    tree = {
        "name": f"{move.name}-{way}",
        "seed": seed,
        "system": {"name": move.name, "knobs": move.knobs, "options": move.options},
        "data": {
            "num_points": move.num_points,
            "num_samples": move.num_problems,
            "num_validation_samples": 64,
            "num_normalization_samples": 128,
        },
        "model": {"network": LINE if move.num_points == 64 else NETWORK},
        "training": {
            "num_steps": 1200 if evolves else 800,
            "batch_size": 16,
            "learning_rate": 5e-3,
            "objective": WAYS[way],
            "validate_every": 400,
            "checkpoint_every": 400,
        },
    }
    return PretrainRecipe.read(tree)


def noisy(batch: Batch, share: float, seed: int) -> Batch:
    """Return samples with normal noise on what evolves, or on the solutions, in parts of its root mean square."""
    if not share:
        return batch
    generator = generator_for(seed, "noise")

    def with_noise(fields: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        return fields + share * size * torch.randn(fields.shape, generator=generator, dtype=fields.dtype)

    targets = batch.require_targets()
    size = targets.square().flatten(3).mean((1, 3)).sqrt()[:, None, :, *(None,) * batch.grid.num_spatial_dims]
    inputs, names = batch.inputs.clone(), batch.signature
    state = [names.inputs.index(name) for name in names.state]
    if state:
        order = [names.outputs.index(name) for name in names.state]
        inputs[:, :, state] = with_noise(inputs[:, :, state], size[:, :, order])
    return replace(batch, inputs=inputs).with_targets(with_noise(targets, size))


def pool_of(origin: SystemOrigin, count: int, noise: float, seed: int) -> DownstreamPool:
    """Return a pool of noisy problems."""
    drawn = origin.system.sample(max(count, 64), origin.grid, generator_for(seed, "downstream", "pool"))
    drawn = noisy(drawn, noise, seed)
    samples = windows_of(drawn, origin.window) if origin.signature.evolves else drawn
    about = {**origin.describe(), "num_samples": max(count, 64), "seed": seed, "noise": noise}
    return DownstreamPool(samples, about, origin.homogeneities)


def cell(rows: list[dict[str, Any]], system: str, way: str, moved_to: str, noise: float | str) -> list[float]:
    """Return the errors of a cell, one a seed, trained in the way that does best on the samples for tuning."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        same = row["noise"] == noise if "" in (row["noise"], noise) else float(row["noise"]) == float(noise)
        if same and (row["system"], row["way"], row["moved_to"]) == (system, way, moved_to):
            found.setdefault((str(row["rate"]), row["constants"]), []).append(row)
    if not found:
        return []
    best = min(found.values(), key=lambda own: mean(float(row["tuning"] or 0) for row in own))
    return [float(row["error"]) for row in best]


def table_of(rows: list[dict[str, Any]]) -> str:
    """Return the errors as a table in Markdown, means over seeds."""
    asked: list[tuple[str, float | str]] = [("shifted", ""), *(("shifted", noise) for noise in NOISES), ("new", 0.0)]
    heads = ["as it is", "few, clean", *(f"few, {noise:.0%} noise" for noise in NOISES[1:]), "another system"]
    lines = ["| | pre-trained by | " + " | ".join(heads) + " |", "|---|---|" + "---:|" * len(heads)]
    for move in MOVES:
        for way in (*WAYS, "scratch"):
            cells = [cell(rows, move.name, way, *where) for where in asked]
            if any(cells):
                told = [f"{mean(errors):.2g}" if errors else "" for errors in cells]
                lines.append(f"| {move.name} | {way} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def figure_of(rows: list[dict[str, Any]]) -> Figure:
    """Return errors after fine-tuning by the noise in what is shown, a panel a system: means and ranges over seeds."""
    panels = []
    for move in MOVES:
        series = []
        for way in (*WAYS, "scratch"):
            errors = [cell(rows, move.name, way, "shifted", noise) for noise in NOISES]
            if all(errors):
                low, high = tuple(map(min, errors)), tuple(map(max, errors))
                at = tuple(100 * noise for noise in NOISES)
                looks: dict[str, Any] = {"low": low, "high": high, "interval": "bar"}
                series.append(Series(label=way, x=at, y=tuple(map(mean, errors)), **looks))
        if series:
            x = Axis(label="noise in the samples shown, %")
            panels.append(
                Panel(
                    x=x,
                    y=Axis(label="relative L² error", scale="log"),
                    series=tuple(series),
                    title=move.name.replace("_", " "),
                )
            )
    caption = "Error on shifted physics after fine-tuning on a few samples, by how it was pre-trained: mean and range "
    return Figure(caption=caption + "of three seeds.", panels=tuple(panels), columns=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--systems", nargs="+", default=[move.name for move in MOVES])
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the table into this page")
    parser.add_argument("--figure", type=Path, metavar="SVG", help="draw errors by noise")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        for move in MOVES:
            if move.name in asked.systems:
                for way in (*WAYS, "scratch"):
                    rows += moved(move, way, seed, asked.folder)
                    if asked.csv is not None:
                        write_rows(asked.csv, rows, COLUMNS)
    if asked.docs is not None:
        put_into(asked.docs, "benchmarks/constraint_aware.py", table_of(rows))
    if asked.figure is not None:
        write_figure(figure_of(rows), asked.figure)


def moved(move: Move, way: str, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Return the rows of one pre-training, moved everywhere."""
    parent = None if way == "scratch" else pretrain(recipe_of(move, way, seed), out=folder)
    model = recipe_of(move, "data", seed).model
    made = SystemConfig(name=move.name, options=move.options).build()
    grid = recipe_of(move, "data", seed).data.grid(made.signature.num_spatial_dims)
    shifted = SystemOrigin(SystemConfig(name=move.name, knobs=move.shifted, options=move.options), grid)
    new = SystemOrigin(SystemConfig(name=move.new, knobs=move.new_knobs, options=move.new_options), grid)
    rows = []
    for told, origin, noises, names in (("shifted", shifted, NOISES, {}), ("new", new, (0.0,), move.rename)):
        num = 16 if origin.signature.evolves else 128
        test, tuning = (origin.test(num, task) for task in ("constraint-aware", "constraint-aware, tuning"))
        row: dict[str, Any] = {"system": move.name, "way": way, "moved_to": told, "seed": seed}
        if parent is not None and told == "shifted":
            rows.append({**row, "noise": "", "rate": 0, "constants": "", "tuning": "", "error": error_of(parent, test)})
        for noise, (rate, constants) in product(noises, HOW):
            if parent is None and constants == REFITTED:
                continue  # from scratch everything is fitted
            pool = pool_of(origin, move.few, noise, seed)
            training = {"num_steps": 200, "batch_size": 16}
            how = {"num_samples": move.few, "seed": seed, "learning_rates": [rate], "training": training}
            if constants == REFITTED:
                how["refit_coefficients"] = "always"
            if parent is None:
                run = from_scratch(model, pool, AdaptRecipe.model_validate(how), out=folder)
            else:
                run = finetune(parent, pool, AdaptRecipe.model_validate({**how, "rename": names}), out=folder)
            found = {"tuning": error_of(run, tuning), "error": error_of(run, test)}
            rows.append({**row, "noise": noise, "rate": rate, "constants": constants, **found})
            print(told_row(rows[-1]), flush=True)
    return rows


def error_of(run: Run, samples: Samples) -> float:
    """Return the mean relative L2 error."""
    return evaluate(run, samples, record=False).mean()


if __name__ == "__main__":
    main()
