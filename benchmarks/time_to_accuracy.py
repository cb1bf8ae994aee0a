"""How long does it take to learn Poisson(1–5) at 64² to a given error: the reference network and recipe, or ours?

Both train on fresh samples, batch 32, and take turns of a few steps in one process, so that a noisy machine disturbs
both alike. The time to an error is the number of steps it took times the median time of a step over the turns that both
took, so that what disturbs the machine after one has finished does not count against the other. Sampling is included,
scoring on 256 unseen samples is not. A schedule that ends early reaches a modest error sooner, so both contestants run
once for each error, on a schedule as long as that error needs (``--reference-steps``, ``--ours-steps``).
``--minutes 15`` asks instead how low each gets in that time: the schedule of each is as many steps as its median step,
taken over the first turns, goes into the time, so a machine that slows down later shortens nobody's training.

The reference recipe: summed squared error, Adam at 1e-3, cosine to zero, the paper's normalization and positive-uniform
first spectral weights. Its width and modes default to 32 and 16 instead of the paper's 64 and 32, which take several
times longer a step; ``--width 64 --modes 32`` runs those.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from harness import Row, argument_parser, publish
from scifm.data.normalize import fit_normalization
from scifm.data.stream import Stream
from scifm.evaluation.pointwise import relative_l2
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.fno import FNOConfig
from scifm.objectives.supervised import RelativeL2, SummedSquaredError
from scifm.systems import Knob, Poisson
from scifm.training.loop import TrainingConfig
from scifm.training.pretrain import build_operator
from scifm.training.schedules import learning_rate_factor
from textbook import TextbookFNO

SYSTEM = Poisson(anisotropy=Knob(1, 5))
GRID = Grid.square(64)
BATCH_SIZE = 32
TURN = 10  # steps a contestant takes before the other's turn
CALIBRATION_TURNS = 7


class Contestant:
    """A network with its recipe, taking timed steps."""

    def __init__(
        self,
        network: nn.Module,
        answer: Callable[[Batch], Tensor],
        loss: Callable[[Batch, Batch], Tensor],
        optimizer: torch.optim.Optimizer,
        factor: Callable[[int], float],
        num_steps: int,
        seed: int,
    ) -> None:
        self.network, self.answer, self.loss, self.optimizer = network, answer, loss, optimizer
        self.peak = optimizer.param_groups[0]["lr"]
        self.factor, self.num_steps = factor, num_steps
        self.stream = Stream(SYSTEM, GRID, batch_size=BATCH_SIZE, seed=seed)
        self.steps, self.error = 0, float("inf")
        self.turns: list[float] = []  # seconds a step, turn by turn

    def take_turn(self) -> None:
        """Take a few steps, timed."""
        started, first = time.perf_counter(), self.steps
        for _ in range(min(TURN, self.num_steps - self.steps)):
            self.optimizer.param_groups[0]["lr"] = self.peak * self.factor(self.steps)
            batch = self.stream.batch(self.steps)
            self.optimizer.zero_grad()
            self.loss(batch.with_targets(self.answer(batch)), batch).backward()
            self.optimizer.step()
            self.steps += 1
        self.turns.append((time.perf_counter() - started) / (self.steps - first))

    def score(self, test: Batch) -> None:
        """Set the error on `test`, not timed."""
        with torch.no_grad():
            pieces = [test.select(slice(start, start + 64)) for start in range(0, test.num_samples, 64)]
            errors = [relative_l2(self.answer(piece), piece.require_targets()) for piece in pieces]
        self.error = float(torch.cat(errors).mean())


def reference(num_steps: int, seed: int, *, width: int, modes: int) -> Contestant:
    """Return the reference network with its recipe."""
    normalization = fit_normalization(draw("fit", 512), SYSTEM.homogeneities, kind="joint")
    torch.manual_seed(seed)
    network = TextbookFNO(1 + len(SYSTEM.signature.coefficients), width=width, modes=modes)

    def answer(batch: Batch) -> Tensor:
        encoded = normalization.encode(batch)
        constants = encoded.coefficients[:, :, None, None].expand(-1, -1, *GRID.num_points)
        return network(torch.cat([encoded.inputs[:, 0], constants], dim=1)).unsqueeze(1)

    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def factor(step: int) -> float:
        return learning_rate_factor("cosine", step, num_steps, warmup_fraction=0.0)

    return Contestant(network, answer, SummedSquaredError().compare, optimizer, factor, num_steps, seed)


def ours(num_steps: int, seed: int) -> Contestant:
    """Return our default network with the default recipe."""
    config = TrainingConfig(num_steps=num_steps)
    normalization = fit_normalization(draw("fit", 512), SYSTEM.homogeneities)
    operator = build_operator(SYSTEM.signature, FNOConfig(), normalization, seed=seed)
    optimizer = torch.optim.AdamW(operator.parameters(), lr=config.learning_rate, weight_decay=0.0, fused=True)

    def factor(step: int) -> float:
        return learning_rate_factor(config.schedule, step, num_steps, warmup_fraction=config.warmup_fraction)

    def answer(batch: Batch) -> Tensor:
        return operator(batch).require_targets()

    return Contestant(operator, answer, RelativeL2().compare, optimizer, factor, num_steps, seed)


def draw(purpose: str, num_samples: int) -> Batch:
    """Return samples that no stream shares."""
    return SYSTEM.sample(num_samples, GRID, generator_for(0, "time to accuracy", purpose))


def race(target: float, contestants: dict[str, Contestant], test: Batch) -> None:
    """Let all take turns until each has reached `target` or the end of its schedule."""
    running = dict(contestants)
    while running:
        for name, contestant in list(running.items()):
            contestant.take_turn()
            contestant.score(test)
            told = f"step {contestant.steps}, {1e3 * contestant.turns[-1]:.0f} ms a step, error {contestant.error:.4f}"
            print(f"{name}: {told}", file=sys.stderr)
            if contestant.error <= target or contestant.steps >= contestant.num_steps:
                del running[name]


def seconds_to(target: float, contestants: dict[str, Contestant]) -> dict[str, float]:
    """Return steps times the median step over the turns all took; infinity for a target not reached."""
    shared = min(len(contestant.turns) for contestant in contestants.values())
    return {
        name: c.steps * statistics.median(c.turns[:shared]) if c.error <= target else float("inf")
        for name, c in contestants.items()
    }


def race_against_the_clock(minutes: float, size: dict[str, int], seed: int, test: Batch) -> list[Row]:
    """Let both train for `minutes` each and report how low they get."""
    makers = {"reference": partial(reference, seed=seed, **size), "ours": partial(ours, seed=seed)}
    trials = {name: make(CALIBRATION_TURNS * TURN) for name, make in makers.items()}
    for _ in range(CALIBRATION_TURNS):
        for trial in trials.values():
            trial.take_turn()
    rows = []
    for name, make in makers.items():
        step = statistics.median(trials[name].turns)
        contestant = make(int(60 * minutes / step))
        while contestant.steps < contestant.num_steps:
            contestant.take_turn()
        contestant.score(test)
        case = f"{name}, {minutes:g} minutes"
        rows.append(Row(case, "error at the end", contestant.error, "relative L2"))
        rows.append(Row(case, "steps taken", contestant.steps, "steps"))
        rows.append(Row(case, "time of a step, median of the first turns", 1e3 * step, "ms"))
        print(f"{case}: {contestant.error:.5f} after {contestant.steps} steps", file=sys.stderr)
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--width", type=int, default=32, help="of the reference network")
    parser.add_argument("--modes", type=int, default=16, help="of the reference network")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.05, 0.03], help="relative L2 errors to reach")
    parser.add_argument("--reference-steps", type=int, nargs="+", default=[700, 1500], help="schedule for each target")
    parser.add_argument("--ours-steps", type=int, nargs="+", default=[150, 300], help="schedule for each target")
    parser.add_argument("--minutes", type=float, help="ask how low each gets in this time instead")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = []
    test = draw("test", 256)
    size = {"width": arguments.width, "modes": arguments.modes}
    if arguments.minutes:
        rows = race_against_the_clock(arguments.minutes, size, arguments.seed, test)
        publish(f"How low in {arguments.minutes:g} minutes: Poisson(1–5), 64², batch 32", rows, arguments.json)
        return
    lengths = zip(arguments.targets, arguments.reference_steps, arguments.ours_steps, strict=True)
    for target, reference_steps, our_steps in lengths:
        contestants = {
            "reference": reference(reference_steps, arguments.seed, **size),
            "ours": ours(our_steps, arguments.seed),
        }
        race(target, contestants, test)
        reached = seconds_to(target, contestants)
        for name, contestant in contestants.items():
            case = f"{name}, to relative L2 {target:g}"
            rows.append(Row(case, "training time", reached[name], "s"))
            rows.append(Row(case, "steps taken", contestant.steps, "steps"))
            rows.append(
                Row(case, "time of a step, median of all turns", 1e3 * statistics.median(contestant.turns), "ms")
            )
            rows.append(Row(case, "error at the end", contestant.error, "relative L2"))
        rows.append(Row(f"to relative L2 {target:g}", "times faster", reached["reference"] / reached["ours"], "ratio"))
    publish("Seconds to accuracy on Poisson(1–5), 64², batch 32", rows, arguments.json)


if __name__ == "__main__":
    main()
