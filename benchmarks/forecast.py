"""How good are forecasts after equal training time: our default networks, or those of The Well's package?

All learn from the same stores (Gray–Scott, Navier–Stokes, shallow water at 64²), one frame to the next, batches of
equal size, one after the other on the same threads, and are judged by the same code: VRMSE of one step and over steps
6–12 and 13–30 from the first frames of unseen trajectories.

Ours: ``scifm.pretrain(recipe, store=…)`` with nothing set but the batch, and as many steps as a short trial says go
into the time, validation and saved states included. Theirs: a plain loop, mean squared error of normalized changes,
Adam at 1e-3, a linear rise over a tenth of the time and a cosine to zero behind it, as their configurations say;
`well_peers` tells what they are given and what they need. Their schedule follows the clock, so they use up their time
exactly; ours may end sooner or later, which is told. ``--clock cpu`` counts the seconds that the processors gave, a
thread, for a machine that others use too.

Stores, runs and every model's numbers stay in ``--stores``: started again, only what is missing is done.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import scifm
from harness import Row, argument_parser, publish, put_into
from scifm.data.origins import StoreOrigin
from scifm.evaluation.forecast import Forecast, judge
from scifm.evaluation.rollouts import RolloutRecipe, starts_of
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.operator import Operator
from scifm.systems.evolving import Evolving
from scifm.systems.gray_scott import GrayScott
from scifm.systems.navier_stokes import NavierStokes
from scifm.systems.shallow_water import ShallowWater
from scifm.wording import plural
from well_peers import WELL_SIZES, Peer, Scales, alive, make_network, make_ready

NUM_FRAMES = 32
NUM_STEPS = 30
SYSTEMS: dict[str, Evolving] = {
    system.name: replace(system, num_frames=NUM_FRAMES)  # type: ignore[type-var]
    for system in (GrayScott(), NavierStokes(), ShallowWater())
}
OURS = {"scifm FNO": "fno", "scifm U-Net": "unet"}
THEIRS = {"the_well FNO": "fno", "the_well UNetConvNext": "unet_convnext", "the_well AViT": "avit"}
BASELINES = ("persistence", "climatology", "linear")
WINDOWS = ("1", "6–12", "13–30")
VALIDATIONS = 4  # of ours, on the way
LEARNING_RATE, WARM_UP = 1e-3, 0.1

Clock = Callable[[], float]


def main() -> None:
    """Run the benchmark."""
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    if any(name in THEIRS for name in options.models) and not options.kept:
        make_ready(options.packages, needs_fno="the_well FNO" in options.models)
    threads = torch.get_num_threads()
    clock: Clock = time.perf_counter if options.clock == "wall" else lambda: time.process_time() / threads
    rows: list[Row] = []
    for system in options.systems:
        store, seconds = stored(system, options)
        rows.append(Row(f"{system}, the data", "trajectories to train on", store.splits["train"], "1"))
        rows.append(Row(f"{system}, the data", "time to make them", seconds, "s"))
        told = [model for model in options.models if not options.kept or kept(system, model, store, options)]
        results = {model: result(system, model, store, options, clock) for model in told}
        rows += {(row["case"], row["metric"]): Row(**row) for found in results.values() for row in found}.values()
        rows += lowest(system, rows)
        publish(f"Forecasts of {system} after {options.minutes:g} minutes", rows, options.json)
    if options.docs:
        put_into(options.docs, "benchmarks/forecast.py", table_of(rows, options))


def parsed() -> Namespace:
    """Return the arguments."""
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--stores", type=Path, required=True, metavar="DIR", help="where data, runs, numbers are kept")
    parser.add_argument("--minutes", type=float, default=10.0, help="time to train each model")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="which time: see above")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--models", nargs="+", choices=[*OURS, *THEIRS], default=[*OURS, *THEIRS], metavar="NAME")
    parser.add_argument("--trajectories", type=int, default=96, help="to train on; a quarter as many to be judged by")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", choices=WELL_SIZES, default="class", help="of theirs: see well_peers.py")
    parser.add_argument("--answer", choices=["change", "frame"], default="change", help="what theirs are trained on")
    parser.add_argument("--packages", type=Path, metavar="PEERS", help="folder that has neuraloperator 0.3.0")
    parser.add_argument("--kept", action="store_true", help="train nothing: tell the numbers that are kept")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the comparison into this page")
    return parser.parse_args()


def stored(system: str, options: Namespace) -> tuple[scifm.Store, float]:
    """Return the trajectories of a system, made now if they are not there, and the seconds that took."""
    count = options.trajectories
    store = scifm.generate(
        SYSTEMS[system],
        num_samples={"train": count, "valid": max(2, count // 12), "test": max(4, count // 4)},
        path=options.stores / f"{system}-{count}-{options.seed}",
        grid=Grid.square(64),
        seed=options.seed,
        chunk_size=8,
    )
    assert store.card.generation is not None
    return store, store.card.generation.seconds


def kept(system: str, model: str, store: scifm.Store, options: Namespace) -> list[dict[str, Any]] | None:
    """Return the rows of one model that are kept from before; None: there are none of these settings."""
    file, about = _place(system, model, store, options)
    found = json.loads(file.read_text("utf-8")) if file.exists() else {}
    rows: list[dict[str, Any]] | None = found.get("rows") if found.get("about") == about else None
    return rows


def _place(system: str, model: str, store: scifm.Store, options: Namespace) -> tuple[Path, dict[str, Any]]:
    names = ["minutes", "clock", "batch_size", "seed"] + (["sizes", "answer"] if model in THEIRS else [])
    about = {name: getattr(options, name) for name in names}
    about |= {"threads": torch.get_num_threads(), "store": store.content}
    return options.stores / "results" / f"{system}-{model.replace(' ', '-')}.json", about


def result(system: str, model: str, store: scifm.Store, options: Namespace, clock: Clock) -> list[dict[str, Any]]:
    """Return the rows of one model: those kept from before, or after training it now."""
    if (rows := kept(system, model, store, options)) is not None:
        return rows
    file, about = _place(system, model, store, options)
    train = train_ours if model in OURS else train_theirs
    operator, rows_of_training = train(system, model, store, options, clock)
    origin = StoreOrigin(store)
    how = RolloutRecipe(steps=NUM_STEPS, num_samples=store.splits["test"])
    starts = starts_of(origin, how, operator.history)
    found = judge(operator, starts.samples, training=starts.training, batch_size=16)
    case = f"{system}, {model}"
    made = [*rows_of_scores(case, found), *(Row(case, *row) for row in rows_of_training)]
    made += rows_of_baselines(system, found)
    rows = [asdict(row) for row in made]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"about": about, "rows": rows}, indent=1), encoding="utf-8")
    told = ", ".join(f"{row.value:.4g}" for row in made[: len(WINDOWS)])
    print(f"{case}: VRMSE {told}", file=sys.stderr, flush=True)
    return rows


# --- ours -------------------------------------------------------------------------------------------------------------


class Watch:
    """An observer that notes the time of every event."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.start, self.steps, self.pauses = clock, clock(), list[float](), list[float]()
        self._last = self.start
        self.first = 0.0

    def __call__(self, **event: Any) -> None:
        now = self.clock()
        if event["event"] == "step":
            self.steps.append(now - self._last)
            self.first = self.first or now - self.start
        elif event["event"] == "valid":
            self.pauses.append(now - self._last)
        self._last = now


def train_ours(
    system: str, model: str, store: scifm.Store, options: Namespace, clock: Clock
) -> tuple[Operator, list[tuple[str, float, str]]]:
    """Pre-train a default network for the time; return it and what is told of its training."""

    def pretrained(num_steps: int, out: str | Path) -> tuple[scifm.Run, Watch]:
        training: dict[str, Any] = {"num_steps": num_steps, "batch_size": options.batch_size}
        training["validate_every"] = training["checkpoint_every"] = math.ceil(num_steps / VALIDATIONS)
        recipe = {
            "name": f"{system}-{OURS[model]}",
            "seed": options.seed,
            "data": {"store": str(store.path)},
            "model": {"kind": OURS[model]},
            "training": training,
        }
        watch = Watch(clock)
        return scifm.pretrain(recipe, store=store, out=out, observe=watch), watch

    budget = 60 * options.minutes
    for trial in (20, 400):
        with tempfile.TemporaryDirectory() as folder:
            _, watch = pretrained(trial, folder)
        step = statistics.mean(watch.steps[trial // 4 :])  # not the median: what takes long now and then counts
        if 400 * step > 0.1 * budget:
            break  # a longer trial would take too much, and these steps are long enough to be timed
    pause = VALIDATIONS * statistics.median(watch.pauses)
    num_steps = max(1, int((budget - watch.first - pause) / step))
    with tempfile.TemporaryDirectory(dir=options.stores) as folder:
        run, watch = pretrained(num_steps, folder)
        taken = clock() - watch.start
        operator = scifm.load_operator(run.path / "model")
    return operator, of_training(operator, watch.steps, taken)


# --- theirs -----------------------------------------------------------------------------------------------------------


def train_theirs(
    system: str, model: str, store: scifm.Store, options: Namespace, clock: Clock
) -> tuple[Operator, list[tuple[str, float, str]]]:
    """Train a network of the package by a plain loop for the time; return it and what is told of its training."""
    start, budget = clock(), 60 * options.minutes
    pairs, names = store.split("train").load(), store.signature
    num_in, settings = len(names.inputs) + len(names.coefficients), WELL_SIZES[options.sizes][THEIRS[model]]
    torch.manual_seed(options.seed)
    network = make_network(THEIRS[model], num_in, len(names.outputs), store.grid.num_points, settings)
    reach = alive(network, num_in, store.grid.num_points)
    scales = Scales.of(pairs)
    operator = Peer(names, network, scales, name=model, answers_change=options.answer == "change").train()
    optimizer = torch.optim.Adam(operator.parameters(), lr=LEARNING_RATE)
    fields, following = pairs.inputs[:, 0], pairs.require_targets()[:, 0]
    generator, order, steps, last = generator_for(options.seed, "order"), torch.zeros(0).long(), list[float](), clock()
    while (done := (last - start) / budget) < 1:
        if len(order) < options.batch_size:
            order = torch.cat([order, torch.randperm(len(fields), generator=generator)])
        chosen, order = order[: options.batch_size], order[options.batch_size :]
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * factor(done)
        said = operator.answer(fields[chosen], pairs.coefficients[chosen])
        optimizer.zero_grad()
        nn.functional.mse_loss(said, operator.wanted(fields[chosen], following[chosen])).backward()
        optimizer.step()
        now = clock()
        steps.append(now - last)
        last = now
    told = of_training(operator, steps, last - start)
    return operator.eval(), [*told, ("share of one answer's gradient outside its pixel, untrained", reach, "1")]


def factor(done: float) -> float:
    """Return what the learning rate is multiplied by after a share of the time."""
    if done < WARM_UP:
        return done / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


# --- what is told -----------------------------------------------------------------------------------------------------


def of_training(operator: Operator, steps: list[float], taken: float) -> list[tuple[str, float, str]]:
    return [
        ("weights", operator.num_params, "1"),
        ("steps taken", len(steps), "steps"),
        ("time of a step, median", 1e3 * statistics.median(steps), "ms"),
        ("training time", taken, "s"),
    ]


def rows_of_scores(case: str, found: Forecast) -> list[Row]:
    """Return VRMSE over each window, NaN where a forecast was lost on the way, and how many were."""
    windows = found.windows()
    rows = [Row(case, f"VRMSE, steps {name}", windows[name], "1") for name in WINDOWS]
    return [*rows, Row(case, "forecasts lost", float((found.lost_at > 0).sum()), "1")]


def rows_of_baselines(system: str, found: Forecast) -> list[Row]:
    rows = []
    for name in BASELINES:
        trivial = replace(found, errors={"vrmse": found.baselines[name]["vrmse"]}).windows()
        rows += [Row(f"{system}, {name}", f"VRMSE, steps {window}", trivial[window], "1") for window in WINDOWS]
    return rows


def scores(system: str, rows: list[Row], window: str) -> dict[str, float]:
    """Return VRMSE by model; infinite where a forecast was lost."""
    found = {}
    for model in (*OURS, *THEIRS):
        for row in rows:
            if (row.case, row.metric) == (f"{system}, {model}", f"VRMSE, steps {window}"):
                found[model] = row.value if math.isfinite(row.value) else math.inf
    return found


def lowest(system: str, rows: list[Row]) -> list[Row]:
    """Return by how much the best of theirs is above the best of ours, for each window."""
    made = []
    for window in WINDOWS:
        values = scores(system, rows, window)
        ours, theirs = ([value for name, value in values.items() if name in group] for group in (OURS, THEIRS))
        if ours and theirs and math.isfinite(min(ours)):
            made.append(Row(f"{system}, best of theirs over best of ours", f"VRMSE, steps {window}",
                            min(theirs) / min(ours), "ratio"))  # fmt: skip
    return made


def table_of(rows: list[Row], options: Namespace) -> str:
    """Return what the documentation shows."""
    found = {(row.case, row.metric): row.value for row in rows}
    threads = plural(torch.get_num_threads(), "thread")
    lines = [
        f"{options.minutes:g} minutes of training each, batch {options.batch_size}, {threads}, {options.trajectories} "
        f"trajectories of {NUM_FRAMES} frames; VRMSE over unseen ones, the lowest in bold:",
        "",
        "| system | model | weights | steps | ms a step | step 1 | steps 6–12 | steps 13–30 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for system in options.systems:
        best = {window: min(scores(system, rows, window).values(), default=math.inf) for window in WINDOWS}
        for model in (*options.models, *BASELINES):
            case = f"{system}, {model}"
            cells = [system, model]
            for metric, form in (("weights", ",.0f"), ("steps taken", ",.0f"), ("time of a step, median", ",.4g")):
                value = found.get((case, metric))
                cells.append("" if value is None else format(value, form))
            for window in WINDOWS:
                value = found.get((case, f"VRMSE, steps {window}"))
                told = "not run" if value is None else f"{value:.3g}" if math.isfinite(value) else "lost"
                cells.append(f"**{told}**" if value == best[window] else told)
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
