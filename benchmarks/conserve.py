"""Conservation as a hard constraint on answers with a spread: the published table, measured anew at a smaller size.

An attentive neural process learns solutions of one equation with one coefficient from values at 100 points of each. It
is asked for a whole profile at one time, with a mean and a standard deviation at 201 points. Then, with the same
weights,

* **ANP**: what it says;
* **SoftC**: what a second one says, trained alike but for λ times the mean square of what its mean misses of the
  equation at the points asked for, by automatic differentiation (``--soft``, λ = 1 as published; 0: none is trained).
  It costs four times as much, so a quarter of the functions of each step is looked at;
* **HardC**: all points moved alike, so that the integral is what the equation says it is at that time;
* **ProbConserv**: moved by their variance (`scifm.fields.conserving`);
* **ProbConserv, sum of the truth**: moved so that the rule gives what it gives of the truth, in place of the integral:
  of a profile that jumps the rule is off, and the difference tells what that costs;
* **ProbConserv, not negative**, **monotone**: as ProbConserv, and nowhere below zero, or nowhere rising along x, where
  the truth is not (`scifm.fields.bounded`).

The integral is that of the trapezoidal rule, as published. Each is done for every draw of the latent vector, and the
draws are mixed. Reported over 50 functions: mean (standard error) of the mass that is missed (CE), of the log density a
point (LL) and of the mean squared error (MSE). Dropout is off where it answers; published numbers have it on, and
``--dropout`` has too.

Published: 1.0 million weights, 10,000 functions, 20,000 steps of 250 functions, Adam 1e-4. Here by default fewer
weights, steps and functions a step, at a higher rate that falls, for about a quarter of an hour of one core an
equation. Weights stay in ``--work``: started again it goes on.
"""

from __future__ import annotations

import json
import math
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from harness import Row, argument_parser, publish
from scifm.fields.bounded import AtLeast, Bound, Bounded, Monotone, nearest
from scifm.fields.conserving import Diagonal, conserve, integral_weights
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.models.neural_process import AttentiveNeuralProcess, NeuralProcessConfig, PointAnswers
from scifm.report.drawing import write_figure
from scifm.systems.porous_medium import PorousMedium
from scifm.systems.stefan import Stefan

POINTS, DRAWS, TESTED = 201, 100, 50
TIMES = POSITIONS = 10  # of the points that are told, and of those asked for in training
FUNCTIONS = 10_000


@dataclass(frozen=True)
class Problem:
    """A family of functions u(x, t; c) with their integral at every time, of ∂u/∂t = ∂/∂x(k(u; c) ∂u/∂x)."""

    profile: Callable[[Tensor, Tensor, Tensor], Tensor]
    mass: Callable[[Tensor, Tensor], Tensor]
    conducts: Callable[[Tensor, Tensor], Tensor]
    low: float
    high: float
    length: float
    until: float
    asked_at: float
    tested: tuple[float, ...]
    positive: bool


def _front(
    system: PorousMedium | Stefan, conducts: Callable[[Tensor, Tensor], Tensor], low: float, high: float, until: float,
    tested: tuple[float, ...],
) -> Problem:  # fmt: skip
    one = torch.tensor(1.0, dtype=torch.float64)
    return Problem(
        lambda x, t, c: system.profile(x, t, c, 1.0), lambda t, c: system.filled(one, t, c, 1.0), conducts,
        low, high, 1.0, until, until / 2, tested, True,
    )  # fmt: skip


PROBLEMS = {
    "stefan": _front(Stefan(), lambda u, c: (u >= c).to(u), 0.55, 0.7, 0.1, (0.6, 0.5)),
    "porous_medium": _front(PorousMedium(), lambda u, c: u.clamp(min=0) ** c, 1.0, 6.0, 1.0, (1.0, 3.0, 6.0)),
    "heat": Problem(
        lambda x, t, c: torch.exp(-c * t) * torch.sin(x), lambda t, c: 0 * t * c, lambda u, c: c + 0 * u,
        1.0, 5.0, 2 * math.pi, 1.0, 0.5, (1.0, 5.0), False,
    ),
}  # fmt: skip

OF_PUBLISHED_WEIGHTS = {
    ("stefan", 0.6): {"ANP": (-12.95e-3, 3.539, 5.37e-3), "HardC": (0, 1.98, 5.17e-3),
                      "ProbConserv": (0, 3.560, 1.87e-3)},
    ("stefan", 0.5): {"ANP": (-3.06e-2, -0.385, 1.457e-2), "HardC": (0, -8.92, 1.362e-2),
                      "ProbConserv": (0, -0.161, 1.399e-2)},
    ("porous_medium", 1.0): {"ANP": (6.65e-3, 3.495, 9.39e-5), "HardC": (0, 3.160, 4.23e-5),
                             "ProbConserv": (0, 3.569, 1.71e-5)},
    ("porous_medium", 3.0): {"ANP": (-1.17e-3, 3.669, 1.92e-4), "HardC": (0, 3.437, 1.88e-4),
                             "ProbConserv": (0, 3.681, 2.12e-4)},
    ("porous_medium", 6.0): {"ANP": (-2.53e-3, 3.818, 7.80e-4), "HardC": (0, 3.410, 7.77e-4),
                             "ProbConserv": (0, 3.831, 1.06e-3)},
    ("heat", 1.0): {"ANP": (4.68e-3, 2.72, 1.71e-4), "SoftC": (3.47e-3, 2.40, 2.24e-4), "HardC": (0, 3.08, 1.37e-4),
                    "ProbConserv": (0, 2.74, 1.55e-4)},
}  # fmt: skip
"""Mass missed, log density a point and mean squared error of arXiv:2302.11002, dropout on: of heat as printed, of the
others measured with the weights that its authors published."""


def main() -> None:
    """Run the benchmark."""
    options = parsed()
    torch.set_num_threads(options.threads or 1)
    rows = []
    for name in options.problems:
        net = trained(name, options)
        soft = trained(name, options, soft=options.soft) if options.soft else None
        for value in PROBLEMS[name].tested:
            rows += scored(name, value, net, soft, options)
        if options.figure is not None and name == "stefan":
            write_figure(profiles(net, options), options.figure)
    publish("What hard conservation does to answers with a spread", rows, options.json)


def parsed() -> Namespace:
    """Return the options."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--work", type=Path, default=Path("work/conserve"), help="folder of weights")
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--soft", type=float, default=1.0, help="λ of SoftC, which is trained beside; 0: it is not")
    parser.add_argument("--dropout", action="store_true", help="keep dropout on where it answers, as published")
    parser.add_argument("--figure", type=Path, help="draw a profile of Stefan's problem, with its band, into this SVG")
    return parser.parse_args()


def functions(problem: Problem, count: int, seed: int) -> Tensor:
    """Return coefficients, uniform in the range of the training, ``(count, 1)``."""
    drawn = torch.rand(count, 1, generator=generator_for(seed, "functions"), dtype=torch.float64)
    return problem.low + (problem.high - problem.low) * drawn


def some_points(problem: Problem, coefficients: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return 10 × 10 points, times one in each tenth, and values there; both scaled to order one, in float32."""
    count = len(coefficients)
    steps = torch.arange(TIMES, dtype=torch.float64)
    times = (steps + torch.rand(count, TIMES, generator=generator, dtype=torch.float64)) / TIMES
    places = torch.rand(count, POSITIONS, generator=generator, dtype=torch.float64).sort(dim=1).values
    pair = torch.stack(torch.broadcast_tensors(times[:, :, None], places[:, None, :]), dim=-1).flatten(1, 2)
    values = problem.profile(problem.length * pair[..., 1], problem.until * pair[..., 0].clamp(min=1e-9), coefficients)
    return pair.float(), values.unsqueeze(-1).float()


def residual(problem: Problem, mean: Tensor, asked: Tensor, coefficients: Tensor) -> Tensor:
    """Return what ∂u/∂t − ∂/∂x(k ∂u/∂x) of a mean ``(batch, point)`` is at the points asked for, kept differentiable.

    Each point's mean hangs on that point alone of those asked for, so that one gradient of their sum is all of them.
    """
    (slope,) = torch.autograd.grad(mean.sum(), asked, create_graph=True)
    flux = problem.conducts(mean, coefficients.to(mean)) * slope[..., 1] / problem.length
    (bent,) = torch.autograd.grad(flux.sum(), asked, create_graph=True)
    return slope[..., 0] / problem.until - bent[..., 1] / problem.length


def trained(name: str, options: Namespace, soft: float = 0.0) -> AttentiveNeuralProcess:
    """Return the network of a problem, trained on from where it was left; with λ of SoftC, or without."""
    problem = PROBLEMS[name]
    torch.manual_seed(options.seed)
    net = AttentiveNeuralProcess(NeuralProcessConfig(width=options.width))
    optimizer = torch.optim.Adam(net.parameters(), lr=options.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate, total_steps=options.steps, pct_start=0.1)
    told = f"{name}-{options.width}-{options.steps}-{options.batch}-{options.rate:g}-{options.seed}"
    folder = options.work / (f"{told}-soft-{soft:g}" if soft else told)
    folder.mkdir(parents=True, exist_ok=True)
    weights, state = folder / "model.safetensors", folder / "state.pt"
    done, seconds = 0, 0.0
    if weights.is_file():
        net.load_state_dict(load_file(weights))
        saved = json.loads((folder / "done.json").read_text())
        done, seconds = saved["steps"], saved["seconds"]
        if done < options.steps:
            kept = torch.load(state, weights_only=True)
            optimizer.load_state_dict(kept["optimizer"])
            schedule.load_state_dict(kept["schedule"])
    pool = functions(problem, FUNCTIONS, options.seed)
    losses: list[float] = []
    net.train()
    began = time.process_time()
    for step in range(done, options.steps):
        generator = generator_for(options.seed, "step", str(step))
        torch.manual_seed(step)  # of dropout
        chosen = pool[torch.randint(len(pool), (options.batch,), generator=generator)]
        (points, values), (asked, truth) = (some_points(problem, chosen, generator) for _ in range(2))
        looked_at = options.batch // 4 if soft else 0
        off, losses_of = torch.zeros(()), []
        for part in (slice(None, looked_at), slice(looked_at, None)) if soft else (slice(None),):
            places = asked[part].requires_grad_(bool(soft) and part.stop is not None)
            with sdpa_kernel(SDPBackend.MATH):  # which has second derivatives
                said = net(points[part], values[part], places, truth[part], generator=generator)
            assert said.divergence is not None
            losses_of.append(said.divergence - said.log_density(truth[part]).sum((0, 2, 3)))
            if places.requires_grad:
                off = residual(problem, said.mean[0, ..., 0], places, chosen[part]).square().mean()
        loss = (torch.cat(losses_of).mean() + soft * off) / truth.shape[1]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 250 == 0 or step + 1 == options.steps:
            took = seconds + time.process_time() - began
            save_file(net.state_dict(), weights)
            torch.save({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, state)
            (folder / "done.json").write_text(json.dumps({"steps": step + 1, "seconds": took}))
            print(f"{name}: step {step + 1}, loss {sum(losses) / len(losses):.3f} a point, {took:.0f} s", flush=True)
            losses.clear()
    return net


@torch.no_grad()
def answers(
    problem: Problem, value: float, net: AttentiveNeuralProcess, *, seed: int, dropout: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return means and standard deviations ``(draw, function, point)``, the truth, the row and the known integral."""
    net.train(dropout)
    torch.manual_seed(seed)
    coefficients = torch.full((TESTED, 1), value, dtype=torch.float64)
    generator = generator_for(seed, "test", f"{value:g}")
    points, values = some_points(problem, coefficients, generator)
    x = torch.linspace(0, 1, POINTS, dtype=torch.float64)
    time_ = torch.tensor(problem.asked_at, dtype=torch.float64)
    asked = torch.stack([torch.full_like(x, problem.asked_at / problem.until), x], dim=-1).float()
    parts: list[PointAnswers] = []
    for _ in range(DRAWS // 20):
        parts.append(net(points, values, asked.expand(TESTED, -1, -1), num_draws=20, generator=generator))
    mean, scale = (torch.cat([getattr(part, name) for part in parts])[..., 0].double() for name in ("mean", "scale"))
    row = integral_weights(Grid((POINTS,), problem.length, "bounded"))
    truth = problem.profile(problem.length * x, time_, coefficients)
    return mean, scale, truth, row, problem.mass(time_, coefficients)[:, 0]


def corrected(
    problem: Problem, mean: Tensor, scale: Tensor, truth: Tensor, row: Tensor, mass: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean and variance by way, of every draw."""
    variance, known = scale.square(), mass.expand(mean.shape[:-1])
    moved = conserve(mean, Diagonal(variance), row, known)
    by_rule = conserve(mean, Diagonal(variance), row, (truth @ row).expand(mean.shape[:-1]))
    ways = {
        "ANP": (mean, variance),
        "HardC": (conserve(mean, None, row, known).mean, variance),
        "ProbConserv": (moved.mean, moved.variance.clamp(min=1e-8)),
        "ProbConserv, sum of the truth": (by_rule.mean, by_rule.variance.clamp(min=1e-8)),
    }
    bounds: dict[str, Bound] = {}
    if problem.positive:  # their profiles fall along x, too
        bounds = {"not negative": AtLeast(0.0), "monotone": Monotone(rising=False)}
    for told, bound in bounds.items():
        least = nearest(mean, Diagonal(variance), row[None], known[..., None], [Bounded((POINTS,), (bound,))])
        ways[f"ProbConserv, {told}"] = (least, moved.variance.clamp(min=1e-8))
    return ways


def scored(
    name: str, value: float, net: AttentiveNeuralProcess, soft: AttentiveNeuralProcess | None, options: Namespace
) -> list[Row]:
    """Return the rows of one coefficient."""
    problem, rows = PROBLEMS[name], []
    mean, scale, truth, row, mass = answers(problem, value, net, seed=options.seed, dropout=options.dropout)
    case = f"{name} {value:g}{', dropout on' if options.dropout else ''}"
    rule = float((truth @ row - mass).mean())
    rows.append(Row(case, "mass of the truth by the trapezoidal rule less the known one", rule, "1"))
    ways = corrected(problem, mean, scale, truth, row, mass)
    if soft is not None:
        told, doubt, *_ = answers(problem, value, soft, seed=options.seed, dropout=options.dropout)
        ways["SoftC"] = told, doubt.square()
    error = mean.mean(0) - truth
    for way, (draws, spread) in ways.items():
        mixed = draws.mean(0)
        variance = spread.mean(0) + (draws - mixed).square().mean(0)
        density = -0.5 * ((truth - mixed).square() / variance + (2 * math.pi * variance).log()).mean(-1)
        measured = {
            "mass missed": mixed @ row - mass,
            "log density": density,
            "squared error": (mixed - truth).square().mean(-1),
        }
        published_values = OF_PUBLISHED_WEIGHTS.get((name, value), {}).get(way, (None, None, None))
        for (metric, numbers), published in zip(measured.items(), published_values, strict=True):
            rows.append(Row(f"{case}, {way}", metric, float(numbers.mean()), "1"))
            rows.append(Row(f"{case}, {way}", f"{metric}, standard error", float(numbers.std()) / TESTED**0.5, "1"))
            if published is not None:
                rows.append(Row(f"{case}, {way}", f"{metric}, of the published weights", published, "1"))
        if way in ("HardC", "ProbConserv"):
            rows += aimed(f"{case}, {way}", error, mixed - mean.mean(0))
    return rows


def aimed(case: str, error: Tensor, moved: Tensor) -> list[Row]:
    """Return why a correction helps or not: what of the squared error lies along it, and how far it goes.

    Of an error e, moved by D, ‖e + D‖² = ‖e‖² (1 − s (1 − (1 − r)²)): s is the share of ‖e‖² that lies along D, and r
    how far D goes over the step along itself that would be best.
    """
    along, size = -(error * moved).sum(-1), moved.square().sum(-1)
    share = along.square() / (size * error.square().sum(-1))
    return [
        Row(case, "share of the squared error along what moves", float(share.mean()), "1"),
        Row(case, "how far it moves, over the best", float(size.sum() / along.sum()), "1"),
    ]


def profiles(net: AttentiveNeuralProcess, options: Namespace) -> Figure:
    """Return one profile within the range of the training, as answered and as moved."""
    problem, value = PROBLEMS["stefan"], 0.6
    mean, scale, truth, row, mass = answers(problem, value, net, seed=options.seed, dropout=options.dropout)
    x = tuple(torch.linspace(0, problem.length, POINTS, dtype=torch.float64).tolist())
    shown = slice(0, POINTS // 2)
    titles = {"ANP": "as answered", "ProbConserv": "moved by the variance"}
    panels = []
    for way, (draws, spread) in corrected(problem, mean, scale, truth, row, mass).items():
        if way not in titles:
            continue
        middle = draws.mean(0)
        width = 2 * (spread.mean(0) + (draws - middle).square().mean(0)).sqrt()
        own, wide = middle[0][shown], width[0][shown]
        low, high = tuple((own - wide).tolist()), tuple((own + wide).tolist())
        told = Series(label="answer ± 2 σ", x=x[shown], y=tuple(own.tolist()), low=low, high=high, marked=False)
        known = Series(label="truth", x=x[shown], y=tuple(truth[0][shown].tolist()), marked=False, line="dashed")
        axes = {"x": Axis(label="x"), "y": Axis(label="temperature", low=-0.4, high=1.2)}
        panels.append(Panel(title=titles[way], series=(told, known), **axes))
    caption = "Stefan's problem, threshold 0.6, t = 0.05: one function told at 100 points, and what it holds known."
    return Figure(caption=caption, panels=tuple(panels))


if __name__ == "__main__":
    main()
