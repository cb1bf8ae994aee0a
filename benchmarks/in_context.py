"""Solved examples shown, or trained on? Errors far outside of the training, with 0 to 32 demonstrations.

An FNO is pre-trained on Poisson (anisotropy 1–20) or Helmholtz (whole wavenumber shifts 1–20), and asked about
anisotropies 15–50, or shifts 15–20, the ranges of Chen et al. (arXiv:2402.15734). Of each seed one pool of examples is
drawn; the first J of its permutation are

* **shown**: answers are corrected by them, as published and checked (`scifm.models.neighbours`);
* **trained on**: `scifm.finetune` with nothing set, which chooses a learning rate, or to keep the weights, by examples
  it holds out.

All are scored on the same unseen samples. The operator is normalized by the exact scalings of the equation, as ours are
(``homogeneous``), or by the rule of the published code (``joint``).

Runs and the numbers of every cell, one number of examples of one seed, stay in ``--work``: started again, only what is
missing is done.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

import scifm
from harness import Row, argument_parser, publish, put_into
from scifm.data.demonstrations import some_demonstrations
from scifm.data.origin_config import SystemConfig
from scifm.data.origins import DownstreamPool, SystemOrigin
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.wording import plural

WHOLE = {"scale": "linear", "integer": True}
SYSTEMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "poisson": ({"anisotropy": [1, 20]}, {"anisotropy": [15, 50]}),
    "helmholtz": (
        {"wavenumber_shift": {"low": 1, "high": 20, **WHOLE}},
        {"wavenumber_shift": {"low": 15, "high": 20, **WHOLE}},
    ),
}
"""Ranges to pre-train on, and those that are asked about."""
WAYS = {
    "shown, as published": {"way": "published"},
    "shown, checked": {"way": "checked"},
}
TRAINED = "trained on"
COUNTS = (0, 1, 2, 4, 8, 16, 32)


def main() -> None:
    """Run the benchmark."""
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    found: dict[tuple[str, str, int], list[dict[str, dict[str, float]]]] = {}
    for system in options.systems:
        for normalization in options.normalizations:
            for seed in options.seeds:
                for count in options.counts:
                    cell = result(system, normalization, seed, count, options)
                    found.setdefault((system, normalization, count), []).append(cell)
    rows = rows_of(found)
    publish("Errors far outside of the training, by demonstrations", rows, options.json)
    if options.docs:
        put_into(options.docs, "benchmarks/in_context.py", table_of(found, options))


def parsed() -> Namespace:
    """Return the arguments."""
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where runs and numbers are kept")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--normalizations", nargs="+", choices=["homogeneous", "joint"], default=["homogeneous"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--counts", nargs="+", type=int, default=list(COUNTS), help="of demonstrations")
    parser.add_argument("--num-points", type=int, default=64, help="a side")
    parser.add_argument("--size", default="small", help="of the FNO")
    parser.add_argument("--steps", type=int, default=3000, help="of the pre-training, 32 fresh samples each")
    parser.add_argument("--tuning-steps", type=int, default=300, help="of fine-tuning")
    parser.add_argument("--scored", type=int, default=256, help="samples that errors are means over")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the comparison into this page")
    return parser.parse_args()


def pretrained(system: str, normalization: str, seed: int, options: Namespace) -> scifm.Run:
    """Return the pre-training of a seed, done now if it is not there."""
    recipe = {
        "name": f"{system}-{normalization}",
        "seed": seed,
        "system": {"name": system, "knobs": SYSTEMS[system][0]},
        "data": {"num_points": options.num_points},
        "model": {"size": options.size, "normalization": normalization},
        "training": {"num_steps": options.steps, "batch_size": 32, "learning_rate": 3e-3},
    }
    return scifm.pretrain(recipe, out=options.work / "runs")


def result(system: str, normalization: str, seed: int, count: int, options: Namespace) -> dict[str, dict[str, float]]:
    """Return error and seconds by way for so many examples of a seed: those kept from before, or found now."""
    file = options.work / "results" / f"{system}-{normalization}-{seed}-{count}.json"
    names = ("num_points", "size", "steps", "tuning_steps", "scored")
    about = {**{name: getattr(options, name) for name in names}, "largest": max(options.counts)}
    kept = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if kept.get("about") == about:
        found: dict[str, dict[str, float]] = kept["found"]
        return found
    run = pretrained(system, normalization, seed, options)
    asked = SystemConfig(name=system, knobs=SYSTEMS[system][1]).build()
    origin = SystemOrigin.of(asked, Grid.square(options.num_points))
    pool = origin.pool(max(1, about["largest"]), seed)
    unseen, _ = origin.unseen(options.scored, seed)
    found = measured(run, pool, unseen.batch(slice(None)), count, seed, options)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"about": about, "found": found}, indent=1), encoding="utf-8")
    told = ", ".join(f"{way} {own['error']:.4g}" for way, own in found.items())
    print(f"{system}, {normalization}, seed {seed}, {plural(count, 'example')}: {told}", file=sys.stderr, flush=True)
    return found


def measured(
    run: scifm.Run, pool: DownstreamPool, unseen: Batch, count: int, seed: int, options: Namespace
) -> dict[str, dict[str, float]]:
    """Return error and seconds by way."""
    operator = scifm.load_operator(run.path)
    if not count:
        error = scifm.evaluate(operator, unseen, metrics=["relative_l2"]).mean()
        return {way: {"error": error, "seconds": 0.0} for way in (*WAYS, TRAINED)}
    found = {}
    shown = some_demonstrations(pool.samples, count, seed=seed)
    for way, settings in WAYS.items():
        start = time.perf_counter()
        scores = scifm.evaluate(scifm.corrected(operator, shown, **settings), unseen, metrics=["relative_l2"])
        found[way] = {"error": scores.mean(), "seconds": time.perf_counter() - start}
    start = time.perf_counter()
    training = {"num_steps": options.tuning_steps, "validate_every": 100, "checkpoint_every": 100}
    tuned = scifm.finetune(
        run, pool, num_samples=count, seed=seed, training=training, out=options.work / f"tuned-{run.path.name}"
    )
    seconds = time.perf_counter() - start
    scores = scifm.evaluate(scifm.load_operator(tuned.path), unseen, metrics=["relative_l2"])
    found[TRAINED] = {"error": scores.mean(), "seconds": seconds}
    return found


# --- what is told -----------------------------------------------------------------------------------------------------


def spread(cells: list[dict[str, dict[str, float]]], way: str, what: str = "error") -> tuple[float, float]:
    """Return mean and standard deviation over seeds; of one seed NaN."""
    values = [cell[way][what] for cell in cells]
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def rows_of(found: dict[tuple[str, str, int], list[dict[str, dict[str, float]]]]) -> list[Row]:
    """Return all numbers."""
    rows = []
    for (system, normalization, count), cells in found.items():
        case = f"{system}, {normalization}, {plural(count, 'example')}"
        for way in (*WAYS, TRAINED):
            mean, deviation = spread(cells, way)
            rows.append(Row(case, f"relative L2, {way}", mean, "1"))
            rows += [Row(case, f"its deviation over seeds, {way}", deviation, "1")] if len(cells) > 1 else []
            rows.append(Row(case, f"time, {way}", spread(cells, way, "seconds")[0], "s"))
    return rows


def table_of(found: dict[tuple[str, str, int], list[dict[str, dict[str, float]]]], options: Namespace) -> str:
    """Return what the documentation shows."""
    lines = [
        f"Relative L2 errors over {options.scored} unseen samples at {options.num_points}², mean and deviation over "
        f"{plural(len(options.seeds), 'seed')}; FNO '{options.size}', {options.steps:,} steps of pre-training, "
        f"{options.tuning_steps:,} of fine-tuning. The lowest of a row in bold:",
        "",
        f"| asked about | normalization | examples | {' | '.join((*WAYS, TRAINED))} | seconds, trained on |",
        "|---|---|---|" + "---|" * (len(WAYS) + 2),
    ]
    ranges = {"poisson": "Poisson, anisotropy 15–50", "helmholtz": "Helmholtz, shift 15–20"}
    for (system, normalization, count), cells in found.items():
        numbers = {way: spread(cells, way) for way in (*WAYS, TRAINED)}
        lowest = min(mean for mean, _ in numbers.values())
        told = []
        for mean, deviation in numbers.values():
            text = f"{mean:.3g}" + (f" ± {deviation:.2g}" if len(cells) > 1 else "")
            told.append(f"**{text}**" if mean == lowest and count else text)
        seconds = spread(cells, TRAINED, "seconds")[0]
        lines.append(f"| {ranges[system]} | {normalization} | {count} | {' | '.join(told)} | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
