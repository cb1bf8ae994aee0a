"""Which scheme of training learns an equation, and which a map of its step? And what do three gradients cost?

Fields are trained so that one step of Euler's scheme, of the midpoint rule or of the classical Runge–Kutta scheme meets
data that are `dt` apart: networks 2 → 50 tanh → 2 in double precision on one trajectory of an oscillator, a pendulum
and of Lotka and Volterra's equations, and operators of kind ``continuous`` on Burgers' equation. Each is then followed
in steps h from dt/16 to 4 dt, and its error at a later time is set beside h, with that of the equation itself
(Krishnapriyan, Queiruga, Erichson, Mahoney, arXiv:2202.08494). Told are errors at h = dt and dt/8, the plateau for
h → 0, and of the ordinary equations the plateau from another start.

``--only memory`` measures one training step of a ``continuous`` operator in two dimensions by the three gradients: the
peak of resident memory above what the process had, each in a process of its own, and the median time of the
processor, one thread. It reads /proc, so it needs Linux.
"""

from __future__ import annotations

import copy
import gc
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import scifm
from harness import Row, argument_parser, publish
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.norms import relative_l2
from scifm.fields.seeds import generator_for
from scifm.findings.figure import Axis, Figure, Panel, Series
from scifm.models.continuous import Continuous, ContinuousConfig
from scifm.models.parts.ode import GRADIENTS, SCHEMES, places, runge_kutta, solve
from scifm.report.drawing import write_figure
from scifm.systems.burgers import Burgers
from scifm.training.pretrain import pretrain
from scifm.trust.convergence import convergence_of, follow

RATIOS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0)
FINE, OWN = RATIOS[1], 1.0
PARTS = ("ordinary", "burgers", "memory")


@dataclass(frozen=True)
class Problem:
    """An ordinary equation: what is learned from times 0, dt, … to `length`, and judged at `until`."""

    field: Callable[[Tensor], Tensor]
    start: tuple[float, float]
    other: tuple[float, float]
    dt: float
    length: float
    until: float


def _oscillator(u: Tensor) -> Tensor:
    return torch.stack([u[..., 1], -u[..., 0]], dim=-1)


def _pendulum(u: Tensor) -> Tensor:
    return torch.stack([u[..., 1], -9.81 * u[..., 0].sin()], dim=-1)


def _lotka_volterra(u: Tensor) -> Tensor:
    prey, hunters = u.unbind(-1)
    return torch.stack([2 / 3 * prey - 4 / 3 * prey * hunters, prey * hunters - hunters], dim=-1)


PROBLEMS = {
    "oscillator": Problem(_oscillator, (1.0, 0.0), (0.6, 0.0), 0.1, 10.0, 10.0),
    "pendulum": Problem(_pendulum, (0.75 * math.pi, 0.0), (0.5 * math.pi, 0.0), 0.1, 10.0, 2.0),
    "Lotka–Volterra": Problem(_lotka_volterra, (1.0, 1.0), (1.0, 0.8), 0.1, 20.0, 8.0),
}

# Burgers' equation: trained at DT, judged FRAMES times that later
SYSTEM, POINTS, DT, FRAMES, NUM_TEST = Burgers(save_interval=0.1, num_frames=9), 64, 0.1, 8, 16
NETWORK = {"width": 24, "modes": 16, "latent_points": 0, "num_layers": 2, "projection_width": 48, "num_steps": 1}


def fitted(problem: Problem, scheme: str, *, seed: int, num_steps: int) -> nn.Module:
    """Return a network of which one step by a scheme was fitted to each pair of neighbouring times."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2)).double()
    states = [torch.tensor(problem.start, dtype=torch.float64)]
    for _ in range(round(problem.length / problem.dt)):
        states.append(follow(problem.field, states[-1], problem.dt, "rk4", 16))
    now, then = torch.stack(states[:-1]), torch.stack(states[1:])
    optimizer = torch.optim.LBFGS(
        net.parameters(), max_iter=num_steps, max_eval=2 * num_steps, tolerance_grad=0, tolerance_change=0,
        history_size=50, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> Tensor:
        optimizer.zero_grad()
        reached = solve(lambda y, _: net(y), now, problem.dt, scheme=SCHEMES[scheme], num_steps=1)
        value = (reached - then).square().mean() / problem.dt**2
        value.backward()
        return value

    optimizer.step(loss)
    return net


def ordinary(name: str, *, seed: int, num_steps: int) -> tuple[list[Row], dict[str, dict[str, list[float]]]]:
    """Return what was measured of an ordinary equation, and errors by kind and scheme for the figure."""
    problem, rows = PROBLEMS[name], list[Row]()
    curves: dict[str, dict[str, list[float]]] = {"learned": {}, "true": {}}
    start, other = (torch.tensor(state, dtype=torch.float64) for state in (problem.start, problem.other))
    ends = {key: follow(problem.field, own, problem.until, "rk4", 2000) for key, own in (("", start), ("other", other))}
    about: dict[str, Any] = {"step": problem.dt, "until": problem.until, "ratios": RATIOS}
    true = convergence_of(problem.field, start, truth=ends[""], **about)
    for scheme in SCHEMES:
        net = fitted(problem, scheme, seed=seed, num_steps=num_steps)
        found = convergence_of(net, start, truth=ends[""], schemes=[scheme], **about)[scheme]
        away = convergence_of(net, other, truth=ends["other"], schemes=[scheme], **{**about, "ratios": (FINE,)})[scheme]
        order, case = true[scheme].order, f"{name}, {scheme}"
        rows += [
            Row(case, "error at h = dt", found.at(OWN), "1"),
            Row(case, "error at h = dt/8", found.at(FINE), "1"),
            Row(case, "plateau", found.plateau, "1"),
            Row(case, "plateau from another start", away.plateau, "1"),
            Row(case, "error of the equation at h = dt", true[scheme].at(OWN), "1"),
        ]
        if order is not None:
            rows.append(
                Row(case, "observed order of the equation", order.value, f"{order.low:.2f} to {order.high:.2f}")
            )
        curves["learned"][scheme], curves["true"][scheme] = list(found.errors), list(true[scheme].errors)
        print(f"{case}: {found.at(OWN):.3g} at dt, {found.plateau:.3g} as h → 0", flush=True)
    return rows, curves


def burgers(*, seed: int, num_steps: int) -> tuple[list[Row], dict[str, dict[str, list[float]]]]:
    """Return the same of Burgers' equation, errors relative L2, means over trajectories."""
    grid, rows = Grid.square(POINTS, num_spatial_dims=1), list[Row]()
    curves: dict[str, dict[str, list[float]]] = {"learned": {}, "true": {}}
    draw = generator_for(1, "benchmark", "continuity")
    truth = SYSTEM.sample(NUM_TEST, grid, draw, dtype=torch.float64)
    short = replace(SYSTEM, save_interval=DT / 4, num_frames=5)
    near = short.sample(NUM_TEST, grid, generator_for(1, "benchmark", "continuity"), dtype=torch.float64)
    for scheme in SCHEMES:
        operator = _learned(scheme, seed, num_steps)
        errors = [_marched(operator, truth, ratio) for ratio in RATIOS]
        limit = operator.stepped(scheme="rk4", num_steps=16)
        plateau, case = _marched(limit, truth, 1 / 16), f"Burgers, {scheme}"
        rows += [
            Row(case, "error at h = dt", errors[RATIOS.index(OWN)], "of the truth"),
            Row(case, "error at h = dt/8", errors[RATIOS.index(FINE)], "of the truth"),
            Row(case, "plateau", plateau, "of the truth"),
        ]
        for frame, told in ((0, "dt/4"), (1, "dt/2"), (3, "dt")):
            rows.append(
                Row(case, f"error of the change after {told}, one step", _of_change(operator, near, frame), "1")
            )
            rows.append(Row(case, f"error of the change after {told}, as h → 0", _of_change(limit, near, frame), "1"))
        curves["learned"][scheme] = errors
        curves["true"][scheme] = [_followed(truth, scheme, ratio) for ratio in RATIOS]
        print(f"{case}: {errors[RATIOS.index(OWN)]:.3g} at dt, {plateau:.3g} as h → 0", flush=True)
    return rows, curves


def _learned(scheme: str, seed: int, num_steps: int) -> Continuous:
    training = {"num_steps": num_steps, "batch_size": 32, "learning_rate": 3e-3, "accelerator": "cpu"}
    training |= {"validate_every": num_steps, "checkpoint_every": num_steps, "log_every": num_steps}
    options = {"save_interval": SYSTEM.save_interval, "num_frames": SYSTEM.num_frames}
    recipe = {
        "name": f"continuity-{scheme}",
        "seed": seed,
        "system": {"name": "burgers", "options": options},
        "data": {"num_points": POINTS, "num_validation_samples": 16, "num_samples": 512},
        "model": {"kind": "continuous", "network": {**NETWORK, "scheme": scheme}},
        "training": training,
    }
    with tempfile.TemporaryDirectory() as folder:
        operator = scifm.load_operator(pretrain(recipe, out=folder).path)
    assert isinstance(operator, Continuous)
    return operator.double()


def _marched(operator: Continuous, truth: Batch, ratio: float) -> float:
    """Return the mean error at the end, marched in steps of so many times DT."""
    parts = max(1, round(1 / ratio))
    frames = FRAMES if ratio <= 1 else round(FRAMES / ratio)
    times = DT * FRAMES / frames * torch.arange(1, frames + 1, dtype=torch.float64)
    question = replace(truth, targets=None, lead_time=times.expand(truth.num_samples, -1))
    answer = operator.stepped(num_steps=parts).answers(question).require_targets()[:, -1:]
    return float(relative_l2(answer, truth.require_targets()[:, FRAMES - 1 : FRAMES], truth.grid).mean())


def _of_change(operator: Continuous, near: Batch, frame: int) -> float:
    known = near.require_targets()[:, frame : frame + 1]
    question = replace(near, targets=None, lead_time=near.lead_time[:, frame : frame + 1])
    answer = operator.answers(question).require_targets()
    return float(((answer - known).flatten(1).norm(dim=1) / (known - near.inputs).flatten(1).norm(dim=1)).mean())


def _followed(truth: Batch, scheme: str, ratio: float) -> float:
    """Return the error of the equation itself; not finite where the scheme leaves every bound."""
    state, count = truth.inputs, round(FRAMES / ratio)
    tableau, stages = SCHEMES[scheme], places(SCHEMES[scheme], 1)[0]

    def slope(now: tuple[Tensor, ...], _: Any) -> tuple[Tensor, ...]:
        return (SYSTEM.tendency(now[0][:, 0], truth.coefficients, truth.grid)[:, None],)

    for _ in range(count):
        (state,) = runge_kutta(slope, (state,), DT * FRAMES / count, tableau, stages)
    return float(relative_l2(state, truth.require_targets()[:, FRAMES - 1 : FRAMES], truth.grid).mean())


def drawn(curves: dict[str, dict[str, dict[str, list[float]]]]) -> Figure:
    """Return error against step, a panel a problem: learned, and the equation itself."""
    panels = []
    for name, kinds in curves.items():
        series = []
        for kind, line in (("learned", "solid"), ("true", "dashed")):
            for place, (scheme, errors) in enumerate(kinds[kind].items()):
                shown = tuple(e if 1e-9 < e < 1e2 else None for e in errors)
                looks: dict[str, Any] = {"line": line, "place": place, "marked": kind == "learned"}
                label = f"trained by {scheme}" if kind == "learned" else f"the equation by {scheme}"
                series.append(Series(label=label, x=RATIOS, y=shown, **looks))
        x = Axis(label="step h over that of training", scale="log", ticks=(0.0625, 0.25, 1.0, 4.0))
        panels.append(Panel(x=x, y=Axis(label="error at the end", scale="log"), series=tuple(series), title=name))
    caption = "Error against the step that a field is followed in, by the scheme that it was trained with."
    return Figure(caption=caption, panels=tuple(panels), columns=2)


# --- memory and time --------------------------------------------------------------------------------------------------

PLANE, BATCH, WIDTH = Grid.square(64), 4, 32
COUNTS = (1, 4, 16)


def _step_of(gradient: str, num_steps: int) -> tuple[float, float, list[float]]:
    """Return MiB above what the process had before, the median of seconds, and the gradient."""
    torch.set_num_threads(1)
    names = Signature(("u",), ("a",), ("u",), evolves=True)
    torch.manual_seed(0)
    settings = {"width": WIDTH, "modes": 12, "latent_points": 0, "projection_width": WIDTH, "gradient": gradient}
    operator = Continuous(names, ContinuousConfig(**settings))

    def one(count: int, num: int = BATCH) -> None:
        draw = torch.Generator().manual_seed(1)
        inputs = torch.randn(num, 1, 1, *PLANE.num_points, generator=draw)
        batch = Batch(names, PLANE, inputs, torch.ones(num, 1), lead_time=torch.ones(num, 1))
        operator.zero_grad()
        operator.stepped(num_steps=count)(batch).require_targets().square().mean().backward()

    one(1, 1)  # what comes once
    gc.collect()
    before = _peak_from_here()
    one(num_steps)
    peak = (_resident("VmHWM") - before) / 1024
    seconds = []
    for _ in range(3):
        start = time.process_time()
        one(num_steps)
        seconds.append(time.process_time() - start)
    weights = torch.cat([p.grad.flatten() for p in operator.parameters() if p.grad is not None])
    return peak, statistics.median(seconds), weights.tolist()


def _resident(name: str) -> int:
    """Return a number of kibibytes that Linux knows of this process."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def _peak_from_here() -> int:
    """Let the peak of resident memory begin at what there is now, and return that."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    return _resident("VmRSS")


def memory() -> list[Row]:
    rows = []
    for count in COUNTS:
        exactly: Tensor | None = None
        for gradient in GRADIENTS:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                peak, seconds, weights = pool.apply(_step_of, (gradient, count))
            found = torch.tensor(weights, dtype=torch.float64)
            exactly = copy.copy(found) if exactly is None else exactly
            off = float((found - exactly).norm() / exactly.norm())
            case = f"rk4 in {count} steps, {gradient}"
            rows += [Row(case, "peak memory", peak, "MiB"), Row(case, "time of the processor", seconds, "s")]
            rows += [Row(case, "off the plain gradient by", off, "of it")] if gradient != "plain" else []
            print(f"{case}: {peak:.0f} MiB, {seconds:.2f} s", flush=True)
    return rows


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--fits", type=int, default=400, help="iterations of L-BFGS for an ordinary equation")
    parser.add_argument("--steps", type=int, default=600, help="training steps for Burgers' equation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path, help="draw errors against steps into this file, .svg")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows, curves = list[Row](), {}
    for name in PROBLEMS if "ordinary" in options.only else ():
        found, curves[name] = ordinary(name, seed=options.seed, num_steps=options.fits)
        rows += found
    if "burgers" in options.only:
        found, curves["Burgers"] = burgers(seed=options.seed, num_steps=options.steps)
        rows += found
    if curves and options.figure:
        write_figure(drawn(curves), options.figure)
    if "memory" in options.only:
        rows += memory()
    publish("Continuous operator or map of a step; three gradients", rows, options.json)


if __name__ == "__main__":
    main()
