"""Whether made ground motion is like true motion: median spectra, scaling, scatter, and which part does what.

Records are drawn by the stochastic method, a generator is trained on 2,000 of them, and 1,000 others are made and
compared with as many true ones of the same conditions. Then one thing is changed at a time: no term of a whole record,
the mean of levels in place of their law, the prior rolled out by itself, fewer steps. That other true records differ
too is told in a row of its own.

``python benchmarks/ground_motion.py --folder DIR --seeds 3 --docs docs/guides/ground-motion.md`` keeps stores, runs and
accounts in the folder, so that it can be interrupted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from harness import argument_parser, put_into, write_measured
from scifm.applications.ground_motion.assessing import AssessRecipe, Likeness, compared
from scifm.applications.ground_motion.imitating import ImitateRecipe, imitate
from scifm.applications.ground_motion.making import RecordsRecipe, make_records
from scifm.applications.ground_motion.shaking import load_generator
from scifm.config import build_config

RESULTS = Path(__file__).parent / "results" / "ground-motion.csv"
USUAL = "as it is"
CASES: dict[str, dict[str, Any]] = {
    USUAL: {},
    "no term of a whole record": {"network": {"static": 0}},
    "prior rolled out by itself": {"network": {"prior": "own"}},
    "mean of levels, no scatter": {"network": {"likelihood": "mean"}},
}
COLUMNS = {
    "median spectrum, log₁₀": "bias", "slope in M": "magnitude", "slope in ln R": "distance", "scatter": "sigma",
    "told apart": "score",
}  # fmt: skip


def told(likeness: Likeness, score: float | None, centers: torch.Tensor) -> dict[str, float]:
    """Return the largest deviations over frequencies."""
    worst = likeness.sigma.abs().argmax()
    return {
        "bias": float(likeness.bias.abs().max()), "mean_bias": float(likeness.bias.abs().mean()),
        "magnitude": float(likeness.slopes[0].abs().max()), "distance": float(likeness.slopes[1].abs().max()),
        "sigma": float(likeness.sigma.abs().max()), "sigma_signed": float(likeness.sigma[worst]),
        "sigma_at": float(centers[worst]), "score": float("nan") if score is None else score,
    }  # fmt: skip


def asked(case: str, seed: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of one generator, and of other true records where it is the usual one."""
    store = make_records(RecordsRecipe(seed=seed), given.folder / f"records-{seed}")
    change = CASES[case]
    tree = {"store": str(store.path), "name": f"seed-{seed}", "seed": seed, **change}
    if given.steps is not None:
        tree["training"] = {"num_steps": given.steps}
    recipe = build_config(ImitateRecipe, _filled(tree), source=case)
    start = time.process_time()
    run = imitate(recipe, out=given.folder / "runs")
    generator = load_generator(run)
    how = AssessRecipe(num_records=given.num_records, seed=seed)
    trained = time.process_time()
    found = compared(generator, store, how)
    about = {"seed": seed, "steps": recipe.training.num_steps, "weights": generator.num_params}
    times = {"training_cpu_s": trained - start, "comparing_cpu_s": time.process_time() - trained}
    phases = {"convergence": found.convergence}
    rows = [{"case": case, **about, **told(found.likeness, found.score, found.centers), **phases, **times}]
    if case == USUAL and found.itself is not None:
        beside = told(found.itself, found.score_itself, found.centers)
        rows.append({"case": "other true records", **about, **beside, **dict.fromkeys((*phases, *times), float("nan"))})
    return rows


def _filled(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe whose tables are filled up from the defaults."""
    usual = ImitateRecipe(store=tree["store"])
    for name in ("network", "training"):
        tree[name] = {**getattr(usual, name).to_dict(), **tree.get(name, {})}
    return tree


def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and compare all."""
    rows: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        for case in given.only or CASES:
            if seed and case not in given.all_seeds:
                continue
            for row in asked(case, seed, given):
                rows.append(row)
                print(
                    ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()),
                    flush=True,
                )
            write_measured(given.out, rows)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the largest deviation over frequencies of every seed, as Markdown."""
    lines = ["| generator | seeds | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for case in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == case]
        cells = []
        for name in COLUMNS.values():
            values = [row[name] for row in own]
            plain = name in ("bias", "score")
            cells.append(", ".join(f"{value:.3f}" if plain else f"{100 * value:.1f} %" for value in values))
        lines.append(f"| {case} | {', '.join(str(row['seed']) for row in own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked."""
    parser = argument_parser("Whether made ground motion is like true motion")
    parser.add_argument("--folder", type=Path, required=True, help="where stores and runs are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of each training, instead of the usual")
    parser.add_argument("--num-records", type=int, default=1000, dest="num_records")
    parser.add_argument("--only", nargs="*", choices=tuple(CASES))
    parser.add_argument("--all-seeds", nargs="*", default=[USUAL], choices=tuple(CASES), dest="all_seeds",
                        help="cases of which every seed is tried; of the others the first")  # fmt: skip
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, help="the page to put the table into")
    given = parser.parse_args()
    torch.set_num_threads(given.threads or 1)
    rows = run(given)
    if given.docs is not None:
        put_into(given.docs, "ground motion", table(rows))


if __name__ == "__main__":
    main()
