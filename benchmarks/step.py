"""What one training step and one answer cost, beside neuraloperator and the textbook layer.

All contestants take turns in one process; medians. "ours" is the network with the same layers as the others' (full
grid, projection to 128); "ours, latent grid" is what the library uses by default: hidden layers on 2 points a mode, the
same modes and width. A step is forward, backward and Adam on random fields; inference is one forward pass. Peak memory
is what three steps add to a process of their own; the floor is that of ``counting.py`` for the full grid.

neuraloperator is asked for the same layers (linear skips, no channel MLP, no positional embedding), and also taken with
its defaults. It is not among our dependencies: ``pip install neuraloperator==2.0.0``.

With ``--device cuda`` the same is done on a GPU: peak memory is what torch took there, and the floor goes by the rates
of a product (in the precision that is asked for) and a copy measured on it. ``--compile`` adds every network through
``torch.compile``, ours in torch's own operations (``engine = "plain"``), which a compiler can see into.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from accelerator import measure_device, peak_of, require_device
from counting import Machine, floor_seconds, measure_machine
from harness import Row, alternate, argument_parser, medians, publish, put_into, read_rows
from scifm.fields.batch import Signature
from scifm.fields.grid import Grid
from scifm.fields.normalization import Encoded
from scifm.models.fno import FNO, FNOConfig
from textbook import TextbookFNO

try:
    from neuralop.models import FNO as NeuralopFNO  # noqa: N811 - a class, whatever its case
except ImportError:
    NeuralopFNO = None

CASES = [  # grid, modes, width, batch
    ((64, 64), 16, 32, 16),
    ((128, 128), 16, 32, 8),
    ((128, 128), 32, 64, 4),
    ((256, 256), 12, 32, 2),
    ((1024,), 64, 64, 32),
    ((32, 32, 32), 8, 32, 4),
    ((128, 128), 32, 64, 128),  # the reference paper's size, for a GPU
    ((16, 16), 4, 8, 2),  # to try the script
]
COEFFICIENTS = ("a", "b", "c")
FULL_GRID = {"latent_points": 0, "residual": False, "engine": "gemm"}
OTHERS, COMPILED = ("neuraloperator", "textbook"), ", compiled"


class Ours(nn.Module):
    """Our operator's network alone, on the same tensor as the others' networks."""

    def __init__(self, space: tuple[int, ...], **settings: Any) -> None:
        super().__init__()
        signature = Signature(("forcing",), COEFFICIENTS, ("solution",), len(space))
        self.grid = Grid(space, (1.0,) * len(space), (True,) * len(space))
        self.scale = torch.ones(())
        self.operator = FNO(signature, FNOConfig(num_layers=4, projection_width=128, **settings))

    def forward(self, x: Tensor) -> Tensor:
        constants = x[(slice(None), slice(1, None), *(0,) * (x.dim() - 2))]
        return self.operator.network(Encoded(x[:, None, :1], constants, self.grid, self.scale))[:, 0]


def contestants(space: tuple[int, ...], modes: int, width: int) -> dict[str, Callable[[], nn.Module]]:
    """Return how to make each of the networks to compare."""
    ours = {"width": width, "modes": modes}
    found: dict[str, Callable[[], nn.Module]] = {
        "ours": partial(Ours, space, **FULL_GRID, **ours),
        "ours, fft engine": partial(Ours, space, **FULL_GRID | {"engine": "fft"}, **ours),
        "ours, latent grid": partial(Ours, space, latent_points=2 * modes, engine="gemm", **ours),
        "textbook": partial(TextbookFNO, 1 + len(COEFFICIENTS), width=width, modes=modes, num_spatial_dims=len(space)),
    }
    if NeuralopFNO is not None:
        shared = {"n_modes": (2 * modes,) * len(space), "in_channels": 4, "out_channels": 1, "hidden_channels": width}
        same_layers = {"n_layers": 4, "use_channel_mlp": False, "fno_skip": "linear", "positional_embedding": None}
        same_ends = {"lifting_channel_ratio": 1, "projection_channel_ratio": 128 // width}
        found["neuraloperator, defaults"] = partial(NeuralopFNO, **shared)
        found["neuraloperator"] = partial(NeuralopFNO, **shared, **same_layers, **same_ends)
    return found


def step_of(network: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return a function that takes one training step."""
    optimizer = torch.optim.Adam(network.parameters(), fused=not any(p.is_complex() for p in network.parameters()))

    def step() -> None:
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()

    return step


def answer_of(network: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return a function that answers once."""

    @torch.inference_mode()
    def answer() -> None:
        network(x)

    return answer


def resident(field: str) -> int:
    """Return ``VmRSS`` (memory held now) or ``VmHWM`` (the most ever) of this process, in bytes."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def peak_bytes(index: int, name: str, threads: int) -> int:
    """Return what three training steps add to a process at most: weights, optimizer, activations, scratch."""
    torch.set_num_threads(threads)
    space, modes, width, batch = CASES[index]
    small = tuple(8 for _ in space)
    step_of(contestants(small, 2, 8)[name](), torch.randn(2, 1 + len(COEFFICIENTS), *small))()  # libraries come in
    before = resident("VmRSS")
    step = step_of(contestants(space, modes, width)[name](), torch.randn(batch, 1 + len(COEFFICIENTS), *space))
    for _ in range(3):
        step()
    return resident("VmHWM") - before


def peak_rows(index: int, case: str, names: list[str]) -> list[Row]:
    """Measure each contestant's peak memory in a process of its own."""
    threads = torch.get_num_threads()
    peaks = {}
    for name in names:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            peaks[name] = pool.submit(peak_bytes, index, name, threads).result()
    rows = [Row(case, f"step, peak memory: {name}", peak / 2**20, "MiB") for name, peak in peaks.items()]
    if "neuraloperator" in peaks:
        for mine in ("ours", "ours, latent grid"):
            ratio = peaks[mine] / peaks["neuraloperator"]
            rows.append(Row(case, f"step, peak memory: {mine} over neuraloperator", ratio, "ratio"))
    return rows


def table_of(rows: list[Row]) -> str:
    """Return what the documentation shows of the rows: how many times faster, how much memory."""
    columns = {
        "step, times neuralop.": "step: neuraloperator over ours",
        "step, times textbook": "step: textbook over ours",
        "share of floor": "step: floor over ours",
        "answer, times neuralop.": "inference: neuraloperator over ours",
        "memory, share": "step, peak memory: ours over neuraloperator",
        "step, latent grid": "step: neuraloperator over ours, latent grid",
    }
    cases = list(dict.fromkeys(row.case for row in rows if row.case != "machine"))
    found = {(row.case, row.metric): row.value for row in rows}
    measured = {metric for _, metric in found}
    columns = {head: metric for head, metric in columns.items() if metric in measured}
    lines = ["| case | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for case in cases:
        values = (found.get((case, metric)) for metric in columns.values())
        lines.append(f"| {case} | " + " | ".join("" if v is None else f"{v:.3g}" for v in values) + " |")
    return "\n".join(lines)


def peak_rows_there(case: str, made: dict[str, Callable[[], nn.Module]], x: Tensor) -> list[Row]:
    """Measure each contestant's peak memory on the GPU, one after the other."""
    rows = []
    for name, make in made.items():
        held = torch.cuda.memory_allocated(x.device)
        peak = peak_of(step_of(make().to(x.device), x), x.device, held)
        rows.append(Row(case, f"step, peak memory: {name}", peak / 2**20, "MiB"))
    return rows


def compiled(space: tuple[int, ...], modes: int, width: int, device: torch.device) -> dict[str, nn.Module]:
    """Return every network through torch's compiler, ours in operations that it can see into."""
    plain = {**FULL_GRID, "engine": "plain", "width": width, "modes": modes}
    made = {**contestants(space, modes, width), "ours": partial(Ours, space, **plain)}
    del made["ours, fft engine"], made["ours, latent grid"]
    return {name + COMPILED: cast(nn.Module, torch.compile(make().to(device))) for name, make in made.items()}


def timed_rows(
    case: str, networks: dict[str, nn.Module], x: Tensor, precision: str, repeats: int, clock: Callable[[], float]
) -> list[Row]:
    """Time a step and an answer of all, in turns."""
    rows = []
    for what, prepare in (("step", step_of), ("inference", answer_of)):
        prepared = {name: prepare(network, x) for name, network in networks.items()}
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            times = medians(alternate(prepared, repeats=repeats, warmups=2, clock=clock))
        rows += [Row(case, f"{what}: {name}", 1e3 * seconds, "ms") for name, seconds in times.items()]
        for other in (name for name in times if name.removesuffix(COMPILED) in OTHERS):
            for mine in ("ours", "ours, latent grid", "ours" + COMPILED):
                if mine in times:
                    rows.append(Row(case, f"{what}: {other} over {mine}", times[other] / times[mine], "ratio"))
    return rows


def floor_rows(case: str, index: int, machine: Machine, rows: list[Row]) -> list[Row]:
    """Return which share of the floor our step reaches, of those that were timed."""
    seconds = {row.metric.removeprefix("step: "): row.value / 1e3 for row in rows if row.unit == "ms"}
    mine = [name for name in ("ours", "ours" + COMPILED) if name in seconds]
    return [
        Row(case, f"step: floor over {name}", floor_seconds(CASES[index], machine) / seconds[name], "ratio")
        for name in mine
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(6)), help="which rows, from 0")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--contestants", nargs="+", metavar="NAME", help="only these networks, and no peak memory")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: of this process, on one thread")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="put the comparison into this page")
    parser.add_argument("--block", default="benchmarks/step.py", help="of the page, by the name in its comments")
    parser.add_argument("--rows", type=Path, metavar="CSV", help="put what was measured before into the page, no more")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", choices=["float32", "tf32", "bf16"], default="float32")
    parser.add_argument("--compile", action="store_true", help="also time every network through torch.compile")
    arguments = parser.parse_args()
    if arguments.rows:
        put_into(arguments.docs, arguments.block, table_of(read_rows(arguments.rows)))
        return
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.clock == "cpu" and torch.get_num_threads() > 1:
        parser.error("--clock cpu adds up what all threads take; it goes with --threads 1")
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    device, precision = require_device(arguments.device), arguments.precision
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    on_cpu = device.type == "cpu"
    machine = measure_machine() if on_cpu else measure_device(device, precision)
    rows = [Row("machine", "matrix product", machine.product / 1e9, "GFLOP/s")]
    rows.append(Row("machine", "copy, read plus written", machine.copy / 1e9, "GB/s"))
    for index in arguments.cases:
        space, modes, width, batch = CASES[index]
        x = torch.randn(batch, 1 + len(COEFFICIENTS), *space, device=device)
        wanted = arguments.contestants
        made = {n: make for n, make in contestants(space, modes, width).items() if not wanted or n in wanted}
        networks = {name: make().to(device) for name, make in made.items()}
        if arguments.compile:
            networks |= compiled(space, modes, width, device)
        case = f"{'x'.join(map(str, space))}, {modes} modes, width {width}, batch {batch}"
        case += "" if precision == "float32" else f", {precision}"
        timed = timed_rows(case, networks, x, precision, arguments.repeats, clock)
        rows += timed + floor_rows(case, index, machine, timed)
        if not on_cpu:
            rows += peak_rows_there(case, made, x)
        elif not wanted and Path("/proc/self/status").exists():
            rows += peak_rows(index, case, list(made))
    if arguments.docs:
        put_into(arguments.docs, arguments.block, table_of(rows))
    publish("One step and one answer of a Fourier neural operator", rows, arguments.json)


if __name__ == "__main__":
    main()
