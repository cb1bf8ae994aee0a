"""Physics that is not told, learned from solved examples: shown to an operator that learned to use them, or otherwise.

Poisson's diffusion tensor is hidden from the network. An operator is pre-trained on samples in groups of eight that
share a tensor, each shown from none to seven others of its group. Then a few tensors are drawn in the range of the
training and beyond it. Of each there are examples, the first J of which are

* **shown** to it (`scifm.shown`);
* what its answers without any are **corrected** by, as published and checked (`scifm.corrected`);
* what it is **trained on**, without being shown any (`scifm.finetune` with nothing set but the steps).

All are scored on the same unseen samples of that tensor. With ``--told`` a second operator, which is told the tensor,
says what there is to be had.

Runs and the numbers of every cell, so many examples of one tensor, stay in ``--work``: started again, only what is
missing is done.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

import scifm
from harness import Row, argument_parser, publish, put_into
from scifm.data.origins import DownstreamPool, SystemOrigin
from scifm.data.subsets import nested_subsets
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.wording import plural

HIDDEN = list(scifm.Poisson.signature.coefficients)
RANGES = {"within": (1.0, 20.0), "beyond": (20.0, 40.0)}
"""Anisotropies of the training, and beyond it."""
SHOWN, TRAINED, TOLD = "shown", "trained on", "told the tensor"
CORRECTED = {"corrected, as published": "published", "corrected, checked": "checked"}
WAYS = (SHOWN, *CORRECTED, TRAINED)
COUNTS = (0, 1, 2, 4, 8, 16, 32)

Errors = dict[str, float]


def main() -> None:
    """Run the benchmark."""
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    found: dict[tuple[str, int], list[Errors]] = {}
    for where in options.ranges:
        for number in range(options.tensors):
            for count in options.counts:
                cell = result(where, number, count, options)
                found.setdefault((where, count), []).append(cell)
    for where in options.ranges if options.told else ():
        for number in range(options.tensors):
            told = result(where, number, None, options)
            for count in options.counts:
                found[where, count][number] |= told
    publish("Errors where physics is not told, by solved examples", rows_of(found), options.json)
    if options.docs:
        put_into(options.docs, "benchmarks/learned_in_context.py", table_of(found, options))


def parsed() -> Namespace:
    """Return the arguments."""
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where runs and numbers are kept")
    parser.add_argument("--ranges", nargs="+", choices=RANGES, default=list(RANGES))
    parser.add_argument("--tensors", type=int, default=4, help="drawn in each range")
    parser.add_argument("--told", action="store_true", help="train and ask the operator that is told the tensor too")
    parser.add_argument("--counts", nargs="+", type=int, default=list(COUNTS), help="of examples")
    parser.add_argument("--tuned", nargs="*", type=int, default=[8, 32], help="of them, those that are trained on")
    parser.add_argument("--num-points", type=int, default=16, help="a side")
    parser.add_argument("--steps", type=int, default=4000, help="of each pre-training, 32 fresh samples a step")
    parser.add_argument("--tuning-steps", type=int, default=200, help="of fine-tuning")
    parser.add_argument("--scored", type=int, default=64, help="samples of a tensor that errors are means over")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the comparison into this page")
    return parser.parse_args()


def pretrained(way: str, options: Namespace) -> scifm.Run:
    """Return a pre-training, done now if it is not there: ``shown`` or ``told``."""
    network = {"width": 48, "num_heads": 3, "num_blocks": 3, "patch": 4, "hides": [] if way == "told" else HIDDEN}
    recipe = {
        "name": f"poisson-{way}",
        "system": {"name": "poisson", "knobs": {"anisotropy": list(RANGES["within"])}},
        "data": {"num_points": options.num_points, "same_knobs": 8},
        "model": {"kind": "in_context", "network": network},
        "training": {
            "num_steps": options.steps,
            "batch_size": 32,
            "objective": {"name": "relative_l2", "shows": 8} if way == "shown" else "relative_l2",
            "validate_every": options.steps,
        },
    }
    return scifm.pretrain(recipe, out=options.work / "runs")


def result(where: str, number: int, count: int | None, options: Namespace) -> Errors:
    """Return the error by way for so many examples of a tensor: those kept from before, or found now.

    Args:
        count: of examples; None: of the operator that is told the tensor.
    """
    file = options.work / "results" / f"{where}-{number}-{'told' if count is None else count}.json"
    about = {name: getattr(options, name) for name in ("num_points", "steps", "tuning_steps", "scored")}
    about |= {"largest": max(COUNTS), "tuned": count in options.tuned}
    kept = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if kept.get("about") == about:
        errors: Errors = kept["errors"]
        return errors
    errors = measured(where, number, count, options)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"about": about, "errors": errors}, indent=1), encoding="utf-8")
    text = ", ".join(f"{way} {error:.4g}" for way, error in errors.items())
    by = "" if count is None else f", {plural(count, 'example')}"
    print(f"{where}, tensor {number}{by}: {text}", file=sys.stderr, flush=True)
    return errors


def asked(where: str, number: int, options: Namespace) -> tuple[DownstreamPool, Batch]:
    """Return a pool of examples of a tensor, and samples that score."""
    system = scifm.Poisson(anisotropy=RANGES[where])
    generator = generator_for(number, "tensor", where)
    drawn = {name: float(knob.draw(1, generator, dtype=torch.float64)) for name, knob in system.knobs.items()}
    origin = SystemOrigin.of(system.where(**drawn), Grid.square(options.num_points))
    return origin.pool(max(COUNTS), number), origin.unseen(options.scored, number)[0].batch(slice(None))


def measured(where: str, number: int, count: int | None, options: Namespace) -> Errors:
    """Return the error by way."""
    run = pretrained("told" if count is None else "shown", options)
    operator = scifm.load_operator(run.path)
    pool, unseen = asked(where, number, options)

    def error(operator: Any) -> float:
        return scifm.evaluate(operator, unseen, metrics=["relative_l2"]).mean()

    if count is None:
        return {TOLD: error(operator)}
    shown = pool.samples.batch(nested_subsets(pool.num_problems, [count], number)[count])
    errors = {SHOWN: error(scifm.shown(operator, shown))}
    if not count:
        return errors | dict.fromkeys((*CORRECTED, TRAINED), errors[SHOWN])
    errors |= {way: error(scifm.corrected(operator, shown, way=setting)) for way, setting in CORRECTED.items()}
    if count in options.tuned:
        start = time.perf_counter()
        training = {"num_steps": options.tuning_steps, "validate_every": 100, "checkpoint_every": 100}
        folder = options.work / f"tuned-{where}-{number}"
        tuned = scifm.finetune(run, pool, num_samples=count, seed=number, training=training, out=folder)
        errors[TRAINED] = error(scifm.load_operator(tuned.path))
        errors["seconds"] = time.perf_counter() - start
    return errors


# --- what is told -----------------------------------------------------------------------------------------------------


def mean(cells: list[Errors], way: str) -> float | None:
    """Return the mean over tensors; None where it was not done."""
    values = [cell[way] for cell in cells if way in cell]
    return statistics.mean(values) if len(values) == len(cells) else None


def rows_of(found: dict[tuple[str, int], list[Errors]]) -> list[Row]:
    """Return all numbers."""
    rows = []
    for (where, count), cells in found.items():
        for way in (*WAYS, TOLD):
            value = mean(cells, way)
            rows += [] if value is None else [Row(f"{where}, {plural(count, 'example')}", way, value, "1")]
        seconds = mean(cells, "seconds")
        rows += [] if seconds is None else [Row(f"{where}, {plural(count, 'example')}", "fine-tuning", seconds, "s")]
    return rows


def table_of(found: dict[tuple[str, int], list[Errors]], options: Namespace) -> str:
    """Return what the documentation shows."""
    done = [w for w in WAYS if any(count and mean(cells, w) is not None for (_, count), cells in found.items())]
    tuned = f", {options.tuning_steps:,} of fine-tuning" if TRAINED in done else ""
    ways = [*done, *([TOLD] if options.told else [])]
    lines = [
        f"Relative L2 errors over {options.scored} unseen samples of each of {options.tensors} tensors a range, at "
        f"{options.num_points}²; {options.steps:,} steps of pre-training{tuned}. The lowest of a row "
        f"in bold{'; told the tensor stands beside them' if options.told else ''}:",
        "",
        f"| anisotropy | examples | {' | '.join(ways)} |",
        "|---|---|" + "---|" * len(ways),
    ]
    for (where, count), cells in found.items():
        numbers = [mean(cells, way) for way in ways]
        lowest = min(number for number in numbers[: len(done)] if number is not None)
        texts = ["" if number is None else f"{number:.3g}" for number in numbers]
        told = [
            f"**{text}**" if number == lowest and count else text for number, text in zip(numbers, texts, strict=True)
        ]
        low, high = RANGES[where]
        lines.append(f"| {low:g}–{high:g} | {count} | {' | '.join(told)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
