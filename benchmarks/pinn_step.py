"""What one loss with its gradient, and one iteration of L-BFGS, cost of the published plain PINN.

The problem is that of Krishnapriyan et al. (arXiv:2109.01050): convection at β = 30, 1,000 points of the equation, 256
of the initial state, 100 on either side of the seam, a network of 4 layers of 50 with tanh, float32. Contestants have
the same points and weights, take turns, and must give the same loss and gradient:

* ours: the objective ``collocation``; "through torch" is the same without the compiled kernel;
* nested, u and its first derivatives: ``torch.autograd.grad`` twice, all points in one pass, as DeepXDE does it;
* nested, with u_xx: as the published code does it, which asks for u_xx whatever its factor is, with passes of their own
  for the initial state and both sides of the seam;
* DeepXDE itself, in an environment of its own: ``--peer PYTHON`` with ``pip install deepxde torch`` there.

The floor is the operations of the products that ours needs (two planes of 1,000 points, one of 456; forward, and
twice that backward) at the speed of products and sums of numbers that stay in registers. On one thread times are of the
processor.

    python benchmarks/pinn_step.py --threads 1 --peer PYTHON --json OUT
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import cast
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from harness import Row, argument_parser, publish
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.models.coordinate import Coordinate, CoordinateConfig
from scifm.models.parts import jets
from scifm.native import Code, load, vector_flags, width
from scifm.objectives.collocation import Collocation
from scifm.systems.convection import Convection

SPEED, WIDTHS = 30.0, (2, 50, 50, 50, 50, 1)
PEAK = """
typedef long long i64;
#if defined(__AVX512F__)
enum { LANES = 16, SUMS = 24 };
#elif defined(__AVX__)
enum { LANES = 8, SUMS = 12 };
#else
enum { LANES = 4, SUMS = 12 };
#endif
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float at __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
void scifm_fused(int threads, i64 turns, float *x) {
    vec sum[SUMS], factor = *(at *)x;
    (void)threads;
    for (int i = 0; i < SUMS; i++) sum[i] = factor;
    for (i64 t = 0; t < turns; t++)
_Pragma("GCC unroll 24")
        for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * factor + factor;
    for (int i = 1; i < SUMS; i++) sum[0] += sum[i];
    *(at *)(x + 16) = sum[0];
    x[63] = 2 * LANES * SUMS; /* operations of a turn */
}
"""
OURS, TORCH = "ours", "ours, through torch"
FIRST, PUBLISHED, PEER = "nested, as DeepXDE", "nested with u_xx, as published", "DeepXDE"


class Problem:
    """The problem, its points and its network, for all contestants."""

    def __init__(self) -> None:
        grid = Grid((256,), (2 * math.pi,), (True,))
        self.batch: Batch = Convection(speed=SPEED).sample(1, grid, generator_for(0, "benchmark"), dtype=torch.float32)
        config = CoordinateConfig(periodic=False, scaled=False, initial="soft").on(grid).lasting(1.0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.operator = Coordinate(self.batch.signature, config)
        self.objective = Collocation(points="fixed").on(self.batch)
        self.generator = torch.Generator()
        self.ours()
        kept = self.objective._kept
        assert kept is not None
        ((start, values),), ((seam, _),) = kept.starts, kept.seams
        self.equation, self.start, self.seam = (one.features.planes[0].clone() for one in (kept.equation, start, seam))
        self.value = values[0][:, None].clone()
        self.layers = [cast(nn.Linear, layer) for layer in cast(nn.ModuleList, self.operator.networks[0])]
        self.weights = list(self.operator.parameters())

    def ours(self) -> Tensor:
        """Return the loss by the objective."""
        return self.objective(self.operator, self.batch, step=0, generator=self.generator)

    def through_torch(self) -> Tensor:
        """Return the same without the compiled kernel."""
        with mock.patch.object(jets, "jets_for", return_value=None):
            return self.ours()

    def network(self, points: Tensor) -> Tensor:
        """Return what the network answers at coordinates."""
        for layer in self.layers[:-1]:
            points = torch.tanh(layer(points))
        return self.layers[-1](points)

    def first_derivatives(self) -> Tensor:
        """Return the loss as DeepXDE computes it."""
        sides, start = len(self.seam), len(self.start)
        points = torch.cat([self.seam, self.start, self.equation]).requires_grad_()
        u = self.network(points)
        (slopes,) = torch.autograd.grad(u, points, torch.ones_like(u), create_graph=True)
        left = (slopes[:, 1] + SPEED * slopes[:, 0])[sides + start :]
        seam = u[: sides // 2] - u[sides // 2 : sides]
        begin = u[sides : sides + start] - self.value
        return left.square().mean() + begin.square().mean() + seam.square().mean()

    def published(self) -> Tensor:
        """Return the loss as the published code computes it."""
        x, t = (column.clone().requires_grad_() for column in self.equation.split(1, dim=1))
        u = self.network(torch.cat([x, t], dim=1))
        ones = torch.ones_like(u)
        (u_t,) = torch.autograd.grad(u, t, ones, retain_graph=True, create_graph=True)
        (u_x,) = torch.autograd.grad(u, x, ones, retain_graph=True, create_graph=True)
        (u_xx,) = torch.autograd.grad(u_x, x, ones, retain_graph=True, create_graph=True)
        left = u_t - 0.0 * u_xx + SPEED * u_x
        one, other = (self.network(side) for side in self.seam.chunk(2))
        begin = self.network(self.start) - self.value
        return left.square().mean() + begin.square().mean() + (one - other).square().mean()

    def slope(self, loss: Callable[[], Tensor]) -> Tensor:
        """Return a gradient by all weights in a row."""
        self.clear()
        loss().backward()
        return torch.cat([cast(Tensor, weight.grad).flatten() for weight in self.weights])

    def clear(self) -> None:
        for weight in self.weights:
            weight.grad = None


def evaluations(problem: Problem, loss: Callable[[], Tensor], count: int, clock: Callable[[], float]) -> float:
    """Return seconds of a loss with its gradient."""
    begins = clock()
    for _ in range(count):
        problem.clear()
        float(_backward(loss))
    return (clock() - begins) / count


def iterations(problem: Problem, loss: Callable[[], Tensor], count: int, clock: Callable[[], float]) -> float:
    """Return seconds of an iteration of L-BFGS, its line search included, from the first weights."""
    first = [weight.detach().clone() for weight in problem.weights]
    optimizer = torch.optim.LBFGS(
        problem.weights, max_iter=count, history_size=50, line_search_fn="strong_wolfe", tolerance_grad=0,
        tolerance_change=0,
    )  # fmt: skip

    def closure() -> Tensor:
        problem.clear()
        return _backward(loss)

    begins = clock()
    optimizer.step(closure)
    seconds = clock() - begins
    with torch.no_grad():
        for weight, value in zip(problem.weights, first, strict=True):
            weight.copy_(value)
    return seconds / optimizer.state[problem.weights[0]]["n_iter"]


def _backward(loss: Callable[[], Tensor]) -> Tensor:
    value = loss()
    value.backward()
    return value.detach()


class Peer:
    """DeepXDE in a process of its own, which is asked in its turn."""

    def __init__(self, python: str, problem: Problem, clock: str, folder: Path) -> None:
        weights = {f"weight{i}": weight.detach().numpy() for i, weight in enumerate(problem.weights)}
        points = {"equation": problem.equation, "start": problem.start, "seam": problem.seam, "value": problem.value}
        np.savez(folder / "problem.npz", **weights, **{name: part.numpy() for name, part in points.items()})
        script = Path(__file__).with_name("pinn_step_peer.py")
        command = [python, script, folder / "problem.npz", SPEED, torch.get_num_threads(), clock]
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == "ready":
                return
        raise SystemExit(f"{python} could not pose the problem in DeepXDE: are deepxde and torch installed there?")

    def ask(self, what: str, count: int) -> dict[str, float]:
        """Return seconds a piece and the loss."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what} {count}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def require_same(problem: Problem, contestants: dict[str, Callable[[], Tensor]]) -> float:
    """Return how far gradients are from the published way's, relative; stop where losses or gradients differ."""
    truth, worst = problem.slope(contestants[PUBLISHED]), 0.0
    value = float(contestants[PUBLISHED]().detach())
    for name, loss in contestants.items():
        apart = float((problem.slope(loss) - truth).norm() / truth.norm())
        if not apart < 1e-4 or not math.isclose(float(loss().detach()), value, rel_tol=1e-4):
            raise SystemExit(f"{name} has another loss or gradient ({apart:.2g}), so its speed says nothing.")
        worst = max(worst, apart)
    return worst


def best_rates() -> tuple[float, float]:
    """Return operations a second at best on one thread: of products and sums in registers, and of torch's products."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "peak.c"
        source.write_text(PEAK)
        library = load(Code((source,), vector_flags(width())))
    if library is None:
        raise SystemExit("This benchmark times a compiled kernel, which cannot be had here: see `scifm.native`.")
    size, turns, sink, seconds = 1024, 1_000_000, torch.ones(64), ([], [])
    a, b, c = (torch.randn(size, size) for _ in range(3))
    for _ in range(30):
        for taken, run in zip(
            seconds, (lambda: library.call("fused", turns, sink), lambda: torch.mm(a, b, out=c)), strict=True
        ):
            begins = time.perf_counter()
            run()
            taken.append(time.perf_counter() - begins)
    return float(sink[63]) * turns / min(seconds[0]), 2 * size**3 / min(seconds[1]) / torch.get_num_threads()


def main() -> None:
    parser = argument_parser((__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--iterations", type=int, default=20, help="of L-BFGS in a turn")
    parser.add_argument("--peer", help="Python of an environment with deepxde and torch; absent: DeepXDE is left out")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    clock_name = "process_time" if torch.get_num_threads() == 1 else "perf_counter"
    clock, problem = getattr(time, clock_name), Problem()
    contestants = {OURS: problem.ours, TORCH: problem.through_torch, FIRST: problem.first_derivatives,
                   PUBLISHED: problem.published}  # fmt: skip
    apart, case = require_same(problem, contestants), "convection, speed 30, 4 layers of 50"
    runs: dict[str, dict[str, Callable[[], float]]] = {
        "loss and gradient": {n: partial(evaluations, problem, c, 10, clock) for n, c in contestants.items()},
        "iteration of L-BFGS": {
            n: partial(iterations, problem, c, options.iterations, clock) for n, c in contestants.items()
        },
    }
    rows = [Row(case, "gradients apart at most", apart, "relative")]
    with tempfile.TemporaryDirectory() as folder:
        if options.peer:
            peer = Peer(options.peer, problem, clock_name, Path(folder))
            if not math.isclose(peer.ask("loss", 1)["loss"], float(problem.ours().detach()), rel_tol=1e-4):
                raise SystemExit("DeepXDE has another loss, so its speed says nothing.")
            runs["loss and gradient"][PEER] = lambda: peer.ask("loss", 10)["seconds"]
            runs["iteration of L-BFGS"][PEER] = lambda: peer.ask("lbfgs", options.iterations)["seconds"]
        else:
            print("DeepXDE itself is left out: name the Python of an environment that has it (--peer).")
        for what, ways in runs.items():
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for turn in range(options.turns + 1):
                for name, run in ways.items():
                    taken = run()
                    if turn:
                        seconds[name].append(taken)
            rows += rows_of(case, what, seconds)
            if what == "loss and gradient":
                best = min(seconds[OURS])
    if options.peer:
        peer.process.stdin.close()
        peer.process.wait()
    (rate, product), threads = best_rates(), torch.get_num_threads()
    operations = 3 * 2 * (2 * 1000 + 456) * sum(a * b for a, b in pairwise(WIDTHS))
    floor = operations / rate / threads
    rows += [
        Row(case, "operations of products", operations / 1e6, "MFLOP"),
        Row("this processor", "products and sums in registers, best, one thread", rate / 1e9, "GFLOP/s"),
        Row("this processor", "torch's product of 1024 x 1024, best, a thread", product / 1e9, "GFLOP/s"),
        Row(case, "floor of a loss and gradient", floor * 1e3, "ms"),
        Row(case, "floor over ours, best", floor / best, "1"),
    ]
    publish("One loss with its gradient of a physics-informed network", rows, options.json)


def rows_of(case: str, what: str, seconds: dict[str, list[float]]) -> list[Row]:
    """Return times, and how many times ours is faster: by the medians of turns, and by the best ones."""
    rows = []
    for name, taken in seconds.items():
        rows.append(Row(case, f"{what}: {name}, median", statistics.median(taken) * 1e3, "ms"))
        rows.append(Row(case, f"{what}: {name}, best", min(taken) * 1e3, "ms"))
    for name, taken in seconds.items():
        if name != OURS:
            ratio = statistics.median(taken) / statistics.median(seconds[OURS])
            rows.append(Row(case, f"{what}: {name} over ours, medians", ratio, "ratio"))
            rows.append(Row(case, f"{what}: {name} over ours, best", min(taken) / min(seconds[OURS]), "ratio"))
    return rows


if __name__ == "__main__":
    main()
