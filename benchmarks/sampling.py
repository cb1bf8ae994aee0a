"""How many solved problems a second does each system make, and how many times more than a plain NumPy loop?

The loop does what published generators do, one sample at a time: 144 exponentials on the grid, the sum, one complex
FFT there and back, in float64; Helmholtz repeats a sample until max|u| <= 2, advection–diffusion takes its speed from
the drawn ratio by a constant factor (in place of a table look-up). SciFM makes the same problems batched, in float32
(its default), and meets every advection–diffusion ratio. Both run side by side in one process.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from harness import Row, alternate, argument_parser, medians, publish
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.systems.catalog import SYSTEMS
from scifm.systems.evolving import Evolving

WIDTH = 1 / 32
CENTERS = 0.5 + (np.arange(12) - 5.5) * 2 * WIDTH


class NumpyLoop:
    """A generator of the same problems that works one sample at a time."""

    def __init__(self, num_points: int) -> None:
        self.rng = np.random.default_rng(0)
        points = np.arange(num_points) / num_points
        self.x, self.y = np.meshgrid(points, points)
        waves = 2 * np.pi * np.fft.fftfreq(num_points, 1 / num_points)
        self.kx, self.ky = waves[None, :], waves[:, None]

    def forcing(self, zero_mean: bool) -> np.ndarray:
        sparsity = self.rng.choice([0.2, 0.4, 0.6, 0.8])
        amplitudes = self.rng.uniform(1e-3, 1, 144) * (self.rng.random(144) > sparsity)
        total = np.zeros_like(self.x)
        for index in range(144):
            square = (self.x - CENTERS[index % 12]) ** 2 + (self.y - CENTERS[index // 12]) ** 2
            total += amplitudes[index] * np.exp(square * (-0.5 / WIDTH**2))
        total /= total.max()
        return total - total.mean() if zero_mean else total

    def diffusion(self) -> np.ndarray:
        anisotropy, angle = self.rng.uniform(1, 5), self.rng.uniform(0, 2 * math.pi)
        cos, sin = math.cos(angle), math.sin(angle)
        xx, yy, xy = cos**2 + anisotropy * sin**2, sin**2 + anisotropy * cos**2, (anisotropy - 1) * sin * cos
        return 0.01 * (xx * self.kx**2 + yy * self.ky**2 + 2 * xy * self.kx * self.ky)

    def solve(self, forcing: np.ndarray, symbol: np.ndarray) -> np.ndarray:
        inverse = np.divide(1, symbol, out=np.zeros_like(symbol), where=symbol != 0)
        return np.fft.ifft2(np.fft.fft2(forcing) * inverse).real

    def poisson(self) -> np.ndarray:
        return self.solve(self.forcing(True), self.diffusion())

    def advection_diffusion(self) -> np.ndarray:
        speed, angle = self.rng.uniform(0.2, 1) / 12, self.rng.uniform(0, 2 * math.pi)
        advection = 1j * speed * (math.cos(angle) * self.kx + math.sin(angle) * self.ky)
        return self.solve(self.forcing(True), self.diffusion() + advection)

    def helmholtz(self) -> np.ndarray:
        while True:
            symbol = 0.01 * (self.kx**2 + self.ky**2) - self.rng.integers(1, 11)
            solution = self.solve(self.forcing(False), symbol)
            if np.abs(solution).max() <= 2:
                return solution


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--num-points", type=int, default=128, help="points a side")
    parser.add_argument("--num-samples", type=int, default=1024, help="samples a call of ours")
    parser.add_argument("--num-calls", type=int, default=2, help="calls a turn of ours")
    parser.add_argument("--num-loop", type=int, default=24, help="samples a turn of the loop")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    grid, loop, rows = Grid.square(options.num_points), NumpyLoop(options.num_points), []
    for name, system_type in SYSTEMS.items():
        if issubclass(system_type, Evolving):
            continue  # timed by trajectories.py
        system, generator = system_type(), generator_for(0, "benchmark", name)
        one: Callable[[], np.ndarray] = getattr(loop, name)
        seconds = medians(
            alternate(
                {
                    "scifm": lambda s=system, g=generator: [
                        s.sample(options.num_samples, grid, g) for _ in range(options.num_calls)
                    ],
                    "numpy loop": lambda one=one: [one() for _ in range(options.num_loop)],
                },
                repeats=options.repeats,
                warmups=2,
            )
        )
        ours, theirs = (
            options.num_calls * options.num_samples / seconds["scifm"],
            options.num_loop / seconds["numpy loop"],
        )
        case = f"{name} {options.num_points}²"
        rows += [
            Row(case, "scifm", ours, "samples/s"),
            Row(case, "numpy loop", theirs, "samples/s"),
            Row(case, "ratio", ours / theirs, "1"),
        ]
    publish("Sampling: solved problems a second", rows, options.json)


if __name__ == "__main__":
    main()
