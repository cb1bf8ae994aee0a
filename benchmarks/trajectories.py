"""How many trajectories a second does each solver make, beside exponax on the same problems?

exponax (JAX) runs jitted and vectorized over samples with a coefficient each, in an environment of its own:

    python -m venv PEER && PEER/bin/pip install exponax
    python benchmarks/trajectories.py --peer PEER/bin/python --json OUT

Both solve in float32 by exponential time differencing of order 4 with 2/3 dealiasing, in equal steps from equal starts,
in turns, and must end in the same fields. The floor is the time of the steps' transforms alone, in the pieces in which
the solver works: the least that this way of solving can take.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import Row, alternate, argument_parser, medians, publish
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.burgers import Burgers
from scifm.systems.kuramoto_sivashinsky import KuramotoSivashinsky
from scifm.systems.navier_stokes import NavierStokes
from scifm.systems.periodic_evolution import PIECE_POINTS, PeriodicEvolution

# system, points a side, samples, time between frames, frames, fields to the grid and back in one evaluation of N
CASES: tuple[tuple[PeriodicEvolution, int, int, float, int, tuple[int, int]], ...] = (
    (Burgers(max_step=0.001), 256, 256, 0.02, 20, (1, 1)),
    (KuramotoSivashinsky(max_step=0.1), 256, 256, 1.0, 20, (1, 1)),
    (NavierStokes(max_step=0.01).where(force=0), 64, 64, 0.1, 10, (2, 2)),
    (NavierStokes(max_step=0.01).where(force=0), 128, 16, 0.1, 10, (2, 2)),
)
STAGES = 4
CLOSE = {"burgers": 1e-4, "kuramoto_sivashinsky": 1e-2, "navier_stokes": 1e-4}  # chaos parts what rounding has parted


class Peer:
    """The other process, and what it is asked."""

    def __init__(self, python: str, threads: int | None) -> None:
        command = [python, str(Path(__file__).with_name("trajectories_peer.py"))]
        if threads:
            command = ["taskset", "-c", f"0-{threads - 1}", *command]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions = self._answer()

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("The other process ended; what it said stands above.")
        answer: dict[str, Any] = json.loads(line)
        return answer


def transforms(start: torch.Tensor, piece: int, num_steps: int, fields: tuple[int, int]) -> Callable[[], None]:
    """Return what runs the transforms of so many steps and nothing else."""
    dims = tuple(range(2, start.ndim))
    there, back = fields

    def run() -> None:
        for first in range(0, len(start), piece):
            part = start[first : first + piece]
            grid_fields = part.expand(-1, back, *part.shape[2:]).contiguous()
            spectrum = torch.fft.rfftn(part.expand(-1, there, *part.shape[2:]), dim=dims)
            for _ in range(STAGES * num_steps):
                torch.fft.irfftn(spectrum, s=part.shape[2:], dim=dims)
                torch.fft.rfftn(grid_fields, dim=dims)

    return run


def measure(case: tuple[Any, ...], peer: Peer | None, options: argparse.Namespace, folder: Path) -> list[Row]:
    system, num_points, num_samples, interval, num_frames, fields = case
    grid = Grid.square(num_points, num_spatial_dims=system.signature.num_spatial_dims)
    problems = system.sample(num_samples, grid, generator_for(0, "benchmark", system.name))
    start, coefficients = problems.inputs[:, 0], problems.coefficients
    num_steps = math.ceil(interval / system.longest_step(grid) - 1e-6)
    made: dict[str, torch.Tensor] = {}

    def ours() -> None:
        made["scifm"] = system.advance(start, coefficients, grid, interval=interval, num_frames=num_frames)

    piece = max(1, PIECE_POINTS["cpu"] // num_points**grid.num_spatial_dims)
    contestants: dict[str, Callable[[], Any]] = {
        "scifm": ours,
        "transforms alone": transforms(start, piece, num_steps * num_frames, fields),
    }
    if peer is not None:
        state = [system.signature.inputs.index(field) for field in system.signature.outputs]
        np.savez(folder / "given.npz", start=start[:, state].numpy(), coefficients=coefficients.numpy())
        about = {"name": system.name, "num_points": num_points, "extent": grid.extent[0]}
        about |= {"step": interval / num_steps, "num_steps": num_steps, "num_frames": num_frames}
        peer.ask(case=about, inputs=str(folder / "given.npz"))
        contestants["exponax"] = lambda: peer.ask(run=1)
    seconds = medians(alternate(contestants, repeats=options.repeats, warmups=1))
    name = f"{system.name} {' × '.join([str(num_points)] * grid.num_spatial_dims)}, {num_samples} samples"
    total = num_samples * num_steps * num_frames
    rows = [Row(name, "steps of a trajectory", num_steps * num_frames, "1")]
    rows += [Row(name, who, num_samples / taken, "trajectories/s") for who, taken in seconds.items() if who[0] != "t"]
    rows += [
        Row(name, "scifm", seconds["scifm"] / total * 1e6, "µs a step and sample"),
        Row(name, "share of the floor", seconds["transforms alone"] / seconds["scifm"], "1"),
    ]
    if peer is not None:
        peer.ask(save=str(folder / "made.npy"))
        theirs = torch.from_numpy(np.load(folder / "made.npy"))
        apart = float(torch.linalg.vector_norm(made["scifm"] - theirs) / torch.linalg.vector_norm(theirs))
        if not apart < CLOSE[system.name]:
            raise SystemExit(f"{name}: the two solvers part by {apart:.2g}, so their speed says nothing.")
        rows += [Row(name, "scifm / exponax", seconds["exponax"] / seconds["scifm"], "1")]
        rows += [Row(name, "apart in the end", apart, "relative")]
    return rows


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PYTHON", help="Python of an environment that has exponax")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    peer = None if options.peer is None else Peer(options.peer, options.threads)
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for case in CASES for row in measure(case, peer, options, Path(folder))]
    about = "" if peer is None else " beside " + ", ".join(f"{name} {which}" for name, which in peer.versions.items())
    publish(f"Trajectories a second{about}", rows, options.json)


if __name__ == "__main__":
    main()
