"""Write NetCDF files of trajectories of a system that SciFM does not ship: what a scientist's own data look like.

FitzHugh–Nagumo, an activator u and an inhibitor v on a periodic square:

    ∂u/∂t = D Δu + u − u³ − k − v,    ∂v/∂t = 5 D Δv + u − v

Solved in Fourier space by SciPy, Runge–Kutta of order 8; each trajectory has its own D, k and first state. Two
files: 48 trajectories on 32² points, and 96 cheap ones on 16² with other thresholds k to pre-train on. The tutorial
docs/tutorials/reaction-diffusion.md goes on from them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import xarray as xr
from scipy.integrate import solve_ivp

SIDE = 2.0  # length of the square, mm
TIMES = np.linspace(0, 5, 21)  # s


def trajectory(num_points: int, diffusivity: float, threshold: float, generator: np.random.Generator) -> np.ndarray:
    """Return u and v, ``(2, time, y, x)``, from a smooth random first state."""
    wave = 2 * np.pi * np.fft.fftfreq(num_points, SIDE / num_points)
    squared = wave[:, None] ** 2 + wave[None, : num_points // 2 + 1] ** 2
    speeds = diffusivity * np.array([1.0, 5.0])[:, None, None]

    def change(_: float, flat: np.ndarray) -> np.ndarray:
        u, v = state = flat.reshape(2, num_points, num_points)
        spread = np.fft.irfft2(-speeds * squared * np.fft.rfft2(state), s=state.shape[1:])
        return (spread + np.stack([u - u**3 - threshold - v, u - v])).ravel()

    noise = np.fft.rfft2(generator.standard_normal((2, num_points, num_points)))
    first = np.fft.irfft2(noise * np.exp(-squared / 60), s=(num_points, num_points))
    first *= 0.8 / first.std(axis=(1, 2), keepdims=True)
    solved = solve_ivp(change, TIMES[[0, -1]], first.ravel(), method="DOP853", t_eval=TIMES, rtol=1e-6, atol=1e-8)
    return solved.y.reshape(2, num_points, num_points, len(TIMES)).transpose(0, 3, 1, 2)


def write(path: Path, num_trajectories: int, num_points: int, thresholds: tuple[float, float], seed: int) -> None:
    """Write one file, as xarray writes files: dimensions and variables have names, axes have coordinates."""
    generator = np.random.default_rng(seed)
    diffusivity = generator.uniform(1e-3, 5e-3, num_trajectories)
    threshold = generator.uniform(*thresholds, num_trajectories)
    pairs = zip(diffusivity, threshold, strict=True)
    states = np.stack([trajectory(num_points, d, k, generator) for d, k in pairs])
    line = np.arange(num_points) * SIDE / num_points
    dims = ("trajectory", "time", "y", "x")
    xr.Dataset(
        {
            "activator": (dims, states[:, 0].astype(np.float32)),
            "inhibitor": (dims, states[:, 1].astype(np.float32)),
            "diffusivity": ("trajectory", diffusivity, {"units": "mm2 s-1"}),
            "threshold": ("trajectory", threshold),
        },
        coords={
            "time": ("time", TIMES, {"units": "s"}),
            "y": ("y", line, {"units": "mm"}),
            "x": ("x", line, {"units": "mm"}),
        },
        attrs={"title": "FitzHugh-Nagumo on a periodic square"},
    ).to_netcdf(path)


def main(folder: str | Path) -> list[Path]:
    """Write both files; return their paths."""
    measured, cheap = Path(folder) / "measured.nc", Path(folder) / "cheap.nc"
    write(measured, num_trajectories=48, num_points=32, thresholds=(0.1, 0.3), seed=0)
    write(cheap, num_trajectories=96, num_points=16, thresholds=(-0.1, 0.1), seed=1)
    return [measured, cheap]


if __name__ == "__main__":
    for file in main(sys.argv[1] if len(sys.argv) > 1 else "."):
        print(file)
