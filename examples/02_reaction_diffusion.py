"""Write a NetCDF file of trajectories of a system that SciFM does not ship: what a scientist's own data look like.

FitzHugh–Nagumo, an activator u and an inhibitor v on a periodic square:

    ∂u/∂t = D Δu + u − u³ − k − v,    ∂v/∂t = 5 D Δv + u − v

Solved in Fourier space with SciPy's Runge–Kutta method of order 8; each trajectory has its own D, k and first state.
The tutorial docs/tutorials/reaction-diffusion.md goes on from the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import xarray as xr
from scipy.integrate import solve_ivp

SIDE = 2.0  # length of the square
NUM_POINTS = 32
TIMES = np.linspace(0, 5, 21)


def trajectory(diffusivity: float, threshold: float, generator: np.random.Generator) -> np.ndarray:
    """Return u and v, ``(2, time, y, x)``, from a smooth random first state."""
    wave = 2 * np.pi * np.fft.fftfreq(NUM_POINTS, SIDE / NUM_POINTS)
    squared = wave[:, None] ** 2 + wave[None, : NUM_POINTS // 2 + 1] ** 2
    speeds = diffusivity * np.array([1.0, 5.0])[:, None, None]

    def change(_: float, flat: np.ndarray) -> np.ndarray:
        u, v = state = flat.reshape(2, NUM_POINTS, NUM_POINTS)
        spread = np.fft.irfft2(-speeds * squared * np.fft.rfft2(state), s=state.shape[1:])
        return (spread + np.stack([u - u**3 - threshold - v, u - v])).ravel()

    noise = np.fft.rfft2(generator.standard_normal((2, NUM_POINTS, NUM_POINTS)))
    first = np.fft.irfft2(noise * np.exp(-squared / 60), s=(NUM_POINTS, NUM_POINTS))
    first *= 0.8 / first.std(axis=(1, 2), keepdims=True)
    solved = solve_ivp(change, TIMES[[0, -1]], first.ravel(), method="DOP853", t_eval=TIMES, rtol=1e-6, atol=1e-8)
    return solved.y.reshape(2, NUM_POINTS, NUM_POINTS, len(TIMES)).transpose(0, 3, 1, 2)


def main(path: str | Path, *, num_trajectories: int = 48, seed: int = 0) -> Path:
    """Write the file; return its path."""
    generator = np.random.default_rng(seed)
    diffusivity = generator.uniform(1e-3, 5e-3, num_trajectories)
    threshold = generator.uniform(-0.1, 0.1, num_trajectories)
    states = np.stack([trajectory(d, k, generator) for d, k in zip(diffusivity, threshold, strict=True)])
    line = np.arange(NUM_POINTS) * SIDE / NUM_POINTS
    dims = ("trajectory", "time", "y", "x")
    xr.Dataset(
        {
            "activator": (dims, states[:, 0].astype(np.float32)),
            "inhibitor": (dims, states[:, 1].astype(np.float32)),
            "diffusivity": ("trajectory", diffusivity),
            "threshold": ("trajectory", threshold),
        },
        coords={"time": TIMES, "y": line, "x": line},
        attrs={"title": "FitzHugh-Nagumo on a periodic square"},
    ).to_netcdf(path)
    return Path(path)


if __name__ == "__main__":
    print(main(sys.argv[1] if len(sys.argv) > 1 else "reaction_diffusion.nc"))
