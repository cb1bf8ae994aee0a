"""Does pre-training on inputs alone save simulations, and how many? Poisson and Helmholtz, fields hidden and blurred.

The ranges of Chen et al. (arXiv:2402.15734): an encoder learns to reconstruct unlabelled inputs of wide ranges of the
coefficients, with part of the points hidden, blurred, both or neither; it is fine-tuned on a few solved samples of
narrower ranges, and scored on unseen ones of these and of others beyond. Beside it the same network learns from the
same solved samples from scratch, at the same steps, batches, learning rates to choose from, and trials.

**Simulations saved** are read off the curve of training from scratch: with so many solved samples it would reach the
error that fine-tuning reaches with n; less n, that is what was saved. The curve is joined by straight lines in
logarithms and made to fall; beyond its ends nothing is told but that. Intervals hold 95 % of the draws of seeds, with
repetition, of both sides.

Runs and the numbers of each stay in ``--folder``: started again, only what is missing is done. ``--kept`` trains
nothing. ``--num-points 32 --pretraining-steps 500 --steps 150`` is a quick look.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

import scifm
from harness import Row, argument_parser, publish, put_into
from scifm.config import config_hash
from scifm.data.origins import DownstreamPool, SystemOrigin
from scifm.evaluation.evaluate import evaluate
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.models.registry import load_operator
from scifm.report.drawing import write_figure
from scifm.systems.helmholtz import Helmholtz
from scifm.systems.knobs import Knob
from scifm.systems.poisson import Poisson
from scifm.systems.system import System
from scifm.training.finetune import AdaptRecipe
from scifm.training.pretrain import ModelConfig
from scifm.wording import plural

RANGES: dict[str, dict[str, System]] = {
    "poisson": {
        "pre-training": Poisson(anisotropy=Knob(1, 20)),
        "in distribution": Poisson(anisotropy=Knob(5, 15)),
        "out of distribution": Poisson(anisotropy=Knob(15, 50)),
    },
    "helmholtz": {
        "pre-training": Helmholtz(wavenumber_shift=Knob(1, 20, integer=True)),
        "in distribution": Helmholtz(wavenumber_shift=Knob(5, 15, integer=True)),
        "out of distribution": Helmholtz(wavenumber_shift=Knob(15, 20, integer=True)),
    },
}
TESTS = ("in distribution", "out of distribution")
BLURS: dict[str, tuple[float, float] | None] = {"none": None, "0-1": (0.0, 1.0)}
SCRATCH = "from scratch"
LEVEL = 0.95


@dataclass(frozen=True)
class Way:
    """How an encoder is pre-trained; without a ratio it is not."""

    ratio: float | None = None
    blur: str = "none"

    @property
    def name(self) -> str:
        """What the table calls it."""
        return SCRATCH if self.ratio is None else f"mask {self.ratio:g}, blur {self.blur}"


@dataclass(frozen=True)
class Cell:
    """One training on solved samples, and what it starts from."""

    system: str
    way: Way
    num_samples: int
    seed: int


def main() -> None:
    """Run the benchmark."""
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    ways = [Way(), *(Way(ratio, blur) for ratio, blur in product(options.masks, options.blurs))]
    rows: list[Row] = []
    tables: list[str] = []
    for system in options.systems:
        errors: dict[Cell, dict[str, float]] = {}
        tests: dict[str, Batch] = {}
        for way, seed, count in product(ways, range(options.seeds), options.labelled):
            cell = Cell(system, way, count, seed)
            found = kept(cell, options)
            if found is None and not options.kept:
                tests = tests or {name: origin(system, name, options).test(options.test, name) for name in TESTS}
                found = result(cell, tests, options)
            if found is not None:
                errors[cell] = found
        own = rows_of(system, ways, errors, options)
        rows += own
        tables.append(table_of(system, ways, own, options))
        publish(f"Without solutions: {system} at {options.num_points}² points", own, None)
    if options.json:
        publish("Without solutions", rows, options.json)
    if options.figure:
        write_figure(figure_of(rows, ways, options), options.figure)
    if options.docs:
        put_into(options.docs, "benchmarks/without_solutions.py", "\n\n".join([heading(options), *tables]))


def parsed() -> Namespace:
    """Return the arguments."""
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR", help="where runs and numbers are kept")
    parser.add_argument("--systems", nargs="+", choices=RANGES, default=list(RANGES))
    parser.add_argument("--num-points", type=int, default=64, help="points a side")
    parser.add_argument("--unlabelled", type=int, default=4096, help="inputs to pre-train on")
    parser.add_argument("--labelled", type=int, nargs="+", default=[16, 64, 256, 1024], help="solved samples")
    parser.add_argument("--masks", type=float, nargs="+", default=[0.0, 0.3, 0.6, 0.9], help="part that is hidden")
    parser.add_argument("--blurs", nargs="+", choices=BLURS, default=list(BLURS), help="in points")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kind", default="fno", help="of the network")
    parser.add_argument("--size", default="tiny", help="of the network")
    parser.add_argument("--pretraining-steps", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=300, help="on solved samples, fine-tuning and from scratch")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[1e-3, 5e-3], help="to choose from")
    parser.add_argument("--test", type=int, default=512, help="unseen samples of each test")
    parser.add_argument("--kept", action="store_true", help="train nothing: tell the numbers that are kept")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the tables into this page")
    parser.add_argument("--figure", type=Path, metavar="SVG", help="draw the errors of encoders without blur")
    return parser.parse_args()


def origin(system: str, which: str, options: Namespace) -> SystemOrigin:
    """Return where samples of one of the ranges come from."""
    return SystemOrigin.of(RANGES[system][which], Grid.square(options.num_points))


# --- one cell ---------------------------------------------------------------------------------------------------------


def settings_of(cell: Cell, options: Namespace) -> dict[str, Any]:
    """Return all that decides the numbers of a cell."""
    about = {name: getattr(options, name) for name in ("num_points", "kind", "size", "steps", "batch_size", "test")}
    about |= {"learning_rates": list(options.learning_rates), "pool": max(options.labelled), "cell": asdict(cell)}
    if cell.way.ratio is not None:
        about |= {name: getattr(options, name) for name in ("unlabelled", "pretraining_steps")}
    return about | {"systems": {name: own.to_dict() for name, own in RANGES[cell.system].items()}}


def file_of(cell: Cell, options: Namespace) -> Path:
    """Return where the numbers of a cell are kept."""
    name = f"{cell.system}-{cell.way.name}-{cell.num_samples}-{cell.seed}".replace(" ", "").replace(",", "-")
    return options.folder / "results" / f"{name}-{config_hash(settings_of(cell, options))}.json"


def kept(cell: Cell, options: Namespace) -> dict[str, float] | None:
    """Return the errors of a cell that are kept from before, by test; None: there are none of these settings."""
    file = file_of(cell, options)
    return dict(json.loads(file.read_text("utf-8"))["errors"]) if file.exists() else None


def result(cell: Cell, tests: dict[str, Batch], options: Namespace) -> dict[str, float]:
    """Train one cell, score it on each test, keep the numbers."""
    runs, pool = options.folder / "runs", pool_of(cell.system, options)
    how = AdaptRecipe(
        num_samples=cell.num_samples,
        seed=cell.seed,
        learning_rates=tuple(options.learning_rates),
        min_scored=1,
        training={"num_steps": options.steps, "batch_size": options.batch_size, "checkpoint_every": options.steps},
    )
    if cell.way.ratio is None:
        run = scifm.from_scratch(ModelConfig(kind=options.kind, size=options.size), pool, how, out=runs)
    else:
        run = scifm.finetune(pretrained(cell, options), pool, how, out=runs)
    operator = load_operator(run.path)
    errors = {name: evaluate(operator, samples, metrics=("relative_l2",)).mean() for name, samples in tests.items()}
    file = file_of(cell, options)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"about": settings_of(cell, options), "errors": errors}, indent=1), encoding="utf-8")
    told = ", ".join(f"{name} {error:.4g}" for name, error in errors.items())
    print(f"{cell.system}, {cell.way.name}, {cell.num_samples} samples, seed {cell.seed}: {told}", file=sys.stderr)
    return errors


def pool_of(system: str, options: Namespace) -> DownstreamPool:
    """Return the solved samples that subsets are taken from: the same ones for all."""
    return origin(system, "in distribution", options).pool(max(options.labelled))


def pretrained(cell: Cell, options: Namespace) -> scifm.Run:
    """Return the run of an encoder, done now if it is not there."""
    ranges = RANGES[cell.system]["pre-training"].to_dict()
    objective: dict[str, Any] = {"name": "masked", "ratio": cell.way.ratio}
    if (blur := BLURS[cell.way.blur]) is not None:
        objective["blur"] = list(blur)
    steps = options.pretraining_steps
    recipe = {
        "name": f"{cell.system}-{cell.way.name}-seed{cell.seed}".replace(" ", "").replace(",", "-"),
        "seed": cell.seed,
        "system": ranges,
        "data": {"num_points": options.num_points, "num_samples": options.unlabelled, "num_validation_samples": 64},
        "model": {"kind": options.kind, "size": options.size},
        "training": {
            "num_steps": steps,
            "batch_size": options.batch_size,
            "objective": objective,
            "validate_every": max(1, steps // 4),
            "checkpoint_every": max(1, steps // 4),
        },
    }
    return scifm.pretrain(recipe, out=options.folder / "runs")


# --- what is told -----------------------------------------------------------------------------------------------------


def equivalent(error: float, counts: Sequence[int], curve: Sequence[float]) -> float:
    """Return with how many samples training from scratch reaches an error; ∓ infinity beyond the ends of its curve.

    Args:
        error: that was reached.
        counts: of samples, increasing.
        curve: errors from scratch with these; where one is above the one before, that one counts.
    """
    falling = np.minimum.accumulate(np.asarray(curve, dtype=float))
    if error > falling[0]:
        return -math.inf
    if error < falling[-1]:
        return math.inf
    # interpolation wants what increases; of equal errors the fewest samples
    _, places = np.unique(falling, return_index=True)
    known, samples = np.log(falling[places]), np.log(np.asarray(counts, dtype=float)[places])
    return float(np.exp(np.interp(math.log(error), known, samples)))


def saved(
    tuned: Sequence[float], num_samples: int, counts: Sequence[int], scratch: Sequence[Sequence[float]]
) -> tuple[float, float, float]:
    """Return the simulations saved and the ends of their interval over seeds; infinite ones are beyond what was tried.

    Args:
        tuned: errors of fine-tuning, one a seed.
        num_samples: that it learned from.
        counts: of samples from scratch.
        scratch: errors from scratch by count, one a seed.
    """

    def of(ours: Sequence[float], curve: Sequence[float]) -> float:
        return equivalent(statistics.mean(ours), counts, curve) - num_samples

    values = sorted(
        of([tuned[i] for i in ours], [statistics.mean(own[i] for i in theirs) for own in scratch])
        for ours in drawn(len(tuned))
        for theirs in drawn(min(map(len, scratch)))
    )
    low, high = (values[round(share * (len(values) - 1))] for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return of(tuned, [statistics.mean(own) for own in scratch]), low, high


def drawn(count: int) -> Iterator[tuple[int, ...]]:
    """Yield draws of so many seeds with repetition: all of them where they are few, else 200."""
    if count <= 4:
        yield from product(range(count), repeat=count)
        return
    random = np.random.default_rng(0)
    yield from (tuple(random.integers(count, size=count).tolist()) for _ in range(200))


def rows_of(system: str, ways: Sequence[Way], errors: dict[Cell, dict[str, float]], options: Namespace) -> list[Row]:
    """Return means and spreads over seeds, and the simulations saved."""
    rows = []
    for test in TESTS:
        by_seed = {
            (way, count): [own[test] for c, own in errors.items() if (c.way, c.num_samples) == (way, count)]
            for way, count in product(ways, options.labelled)
        }
        counts = sorted(count for count in options.labelled if by_seed[Way(), count])
        scratch = [by_seed[Way(), count] for count in counts]
        for way, count in product(ways, options.labelled):
            case, found = f"{system}, {way.name}, {count} samples", by_seed[way, count]
            if not found:
                continue
            rows.append(Row(case, f"relative L2, {test}", statistics.mean(found), "1"))
            rows.append(Row(case, f"relative L2, {test}, spread over seeds", spread(found), "1"))
            if way != Way() and counts:
                names = ("", ", lower end", ", upper end")
                numbers = saved(found, count, counts, scratch)
                rows += [
                    Row(case, f"simulations saved, {test}{end}", number, "samples")
                    for end, number in zip(names, numbers, strict=True)
                ]
    return rows


def spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def heading(options: Namespace) -> str:
    """Return what the tables are of, in a few sentences."""
    return (
        f"{options.kind} of size {options.size} at {options.num_points}² points; {options.unlabelled:,} unlabelled "
        f"inputs, {options.pretraining_steps:,} steps of pre-training; {options.steps} steps on solved samples, the "
        f"learning rate chosen of {len(options.learning_rates)}; batches of {options.batch_size}. Mean relative L2 "
        f"error over {options.test} unseen samples, ± its standard deviation over {plural(options.seeds, 'seed')}, the "
        "lowest in bold; below it the simulations saved, with 95 % of the draws of seeds. < is an error above that of "
        "the fewest samples from scratch, > one below that of the most."
    )


def table_of(system: str, ways: Sequence[Way], rows: Sequence[Row], options: Namespace) -> str:
    """Return the errors of one system for the documentation."""
    found = {(row.case, row.metric): row.value for row in rows}

    def of(way: Way, count: int, metric: str) -> float | None:
        return found.get((f"{system}, {way.name}, {count} samples", metric))

    def cell(way: Way, count: int, test: str, best: float) -> str:
        metric, gain = f"relative L2, {test}", f"simulations saved, {test}"
        error, off = of(way, count, metric), of(way, count, f"{metric}, spread over seeds")
        if error is None or off is None:
            return "not run"
        told = f"{error:.3g}" + ("" if math.isnan(off) else f" ± {off:.1g}")
        told = f"**{told}**" if error == best else told
        ends = [of(way, count, f"{gain}{end}") for end in ("", ", lower end", ", upper end")]
        numbers = [number(end) for end in ends if end is not None]
        if len(set(numbers)) == 1:
            return f"{told}<br>{numbers[0]}"
        return f"{told}<br>{numbers[0]} ({numbers[1]} to {numbers[2]})" if numbers else told

    lines = []
    for test in TESTS:
        columns = [f"{count:,} samples" for count in options.labelled]
        lines += ["", f"**{system.capitalize()}, {test}**", "", "| | " + " | ".join(columns) + " |"]
        lines.append("|---|" + "---|" * len(columns))
        errors = {count: [of(way, count, f"relative L2, {test}") for way in ways] for count in options.labelled}
        best = {count: min((e for e in own if e is not None), default=math.inf) for count, own in errors.items()}
        for way in ways:
            cells = [cell(way, count, test, best[count]) for count in options.labelled]
            lines.append("| " + " | ".join([way.name, *cells]) + " |")
    return "\n".join(lines[1:])


def figure_of(rows: Sequence[Row], ways: Sequence[Way], options: Namespace) -> Figure:
    """Return errors over solved samples, a panel a system and test; ranges are a standard deviation over seeds."""
    found = {(row.case, row.metric): row.value for row in rows}

    def curve(system: str, test: str, way: Way) -> Series:
        metric = f"relative L2, {test}"
        cases = [f"{system}, {way.name}, {count} samples" for count in options.labelled]
        told = [found.get((case, metric)) for case in cases]
        off = [found.get((case, f"{metric}, spread over seeds")) or 0.0 for case in cases]
        ends = [(None, None) if y is None else (y - d, y + d) for y, d in zip(told, off, strict=True)]
        low, high = zip(*ends, strict=True)
        label = SCRATCH if way.ratio is None else f"{way.ratio:.0%} hidden" if way.ratio else "nothing hidden"
        return Series(label=label, x=tuple(options.labelled), y=tuple(told), low=low, high=high)

    panels = tuple(
        Panel(
            title=f"{system.capitalize()}, {test}",
            x=Axis(label="solved samples", scale="log"),
            y=Axis(label="relative L2 error", scale="log"),
            series=tuple(curve(system, test, way) for way in ways if way.blur == "none"),
        )
        for system in options.systems
        for test in TESTS
    )
    return Figure(caption="Encoders that learned to tell hidden inputs, fine-tuned, beside none.", panels=panels)


def number(saved_samples: float) -> str:
    """Return simulations saved; beyond the curve from scratch there is no number, only on which side of it."""
    if math.isinf(saved_samples):
        return ">" if saved_samples > 0 else "<"
    return f"{saved_samples:+,.0f}".replace("-0", "0")


if __name__ == "__main__":
    main()
