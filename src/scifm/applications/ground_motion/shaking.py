"""`shake`: new records for the conditions that are asked for, from a generator that was trained."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from scifm.applications.ground_motion.network import MotionConfig, MotionGenerator
from scifm.applications.ground_motion.records import require_obspy
from scifm.applications.ground_motion.spectrograms import inverted
from scifm.config import Config
from scifm.errors import ConfigError, OutsideWarning, SignatureError
from scifm.fields.seeds import generator_for
from scifm.models.architecture import evaluating
from scifm.models.folder import find_model
from scifm.runs import Run, write_atomically

__all__ = ["ShakeRecipe", "amplitudes_for", "load_generator", "shake", "texture"]

_AT_ONCE = 256
_DECONVOLUTIONS = 200


class ShakeRecipe(Config):
    """What is asked of a generator.

    Args:
        conditions: by name, a number each.
        num_records: how many records of them.
        iterations: of Griffin and Lim's method.
        strict: refuse conditions beyond those of the training instead of warning.
        seed: of every draw.
    """

    conditions: dict[str, float] = Field(default_factory=dict)
    num_records: int = Field(100, ge=1)
    iterations: int = Field(100, ge=1)
    strict: bool = False
    seed: int = Field(0, ge=0)

    @field_validator("conditions")
    @classmethod
    def _finite(cls, value: dict[str, float]) -> dict[str, float]:
        for name, number in value.items():
            if not math.isfinite(number):
                raise ValueError(f"{name} is a number; got {number}")
        return value


def load_generator(run: Run | str | Path) -> MotionGenerator:
    """Return the generator of a run, or of the folder of a model.

    Raises:
        RunError: if there is none, or it is an operator of another kind.
    """
    return MotionGenerator.from_pretrained(find_model(run).folder)


def texture(config: MotionConfig, levels: Tensor, generator: torch.Generator) -> Tensor:
    """Return the scatter of amplitudes of motion with random phases, ``(record, frame, frequency)``, its mean square 1.

    It is that of the spectrogram of white noise whose envelope is that of the record: a burst that is shorter than a
    window is seen by several frames, and each sees the same. Scatter drawn for itself would be no spectrogram of
    anything, and that of steady noise none of a burst.

    Args:
        config: of the generator.
        levels: ln of the root mean square of amplitudes, ``(record, frame, frequency)``, float64.
        generator: to draw from, on the CPU.
    """
    power = (2 * (levels - levels.amax(dim=1, keepdim=True))).exp()  # of each frequency by itself: all count alike
    seen = (power / power.sum(dim=1, keepdim=True)).mean(dim=2)
    windows = _windows(config)
    square = _envelopes(seen, windows)
    noise = torch.randn(square.shape, generator=generator, dtype=torch.float64)
    drawn = config.frames.amplitudes(noise * square.sqrt())
    return drawn / (square @ windows.T).sqrt()[..., None]


def _windows(config: MotionConfig) -> Tensor:
    """Return what of each sample's power every frame sees, ``(frame, sample)``: the squares of its window."""
    window = torch.hann_window(config.frames.window, dtype=torch.float64).square()
    frames, half = config.grid.num_points[0], config.frames.window // 2
    seen = torch.zeros(frames, config.num_samples + 2 * half, dtype=torch.float64)
    for number in range(frames):
        seen[number, number * config.frames.hop : number * config.frames.hop + len(window)] = window
    return seen[:, half:-half]


def _envelopes(seen: Tensor, windows: Tensor) -> Tensor:
    """Return the squares of envelopes that frames see as such a power, ``(record, sample)``, by Richardson and Lucy.

    Their iteration keeps what is positive so, and comes to what makes the power likeliest.
    """
    total = windows.sum(dim=0).clamp(min=1e-3)
    square = (seen @ windows) / total
    for _ in range(_DECONVOLUTIONS):
        square = square * ((seen / (square @ windows.T)) @ windows) / total
    return square


def amplitudes_for(generator: MotionGenerator, coefficients: Tensor, *, seed: int = 0, scatter: bool = True) -> Tensor:
    """Return amplitudes of new records, ``(record, frame, frequency)`` float64.

    Args:
        generator: asked.
        coefficients: conditions of each, in the order of its signature.
        seed: of every draw.
        scatter: whether levels are given the scatter of random phases; of one that says the mean alone there is none
            to be given.
    """
    device, dtype = generator.home
    parts = []
    with evaluating(generator):
        for number, start in enumerate(range(0, len(coefficients), _AT_ONCE)):
            own = coefficients[start : start + _AT_ONCE].to(device, dtype)
            levels = generator.drawn_levels(own, generator_for(seed, "latent", number, device=device))
            levels = levels.double().cpu()
            drawn = levels.exp()
            if scatter and generator.config.likelihood == "rayleigh":
                drawn = drawn * texture(generator.config, levels, generator_for(seed, "texture", number))
            parts.append(drawn)
    return torch.cat(parts)


def shake(run: Run | str | Path, recipe: ShakeRecipe, *, out: str | Path) -> Path:
    """Write new records for conditions into a file.

    Args:
        run: a run of 'scifm imitate', or the folder of its model.
        recipe: what is asked for.
        out: the new file: ``.npz`` (velocity in m/s, rate in Hz, conditions), or a format that obspy writes:
            ``.mseed``, ``.sac``, of which SAC takes one record.

    Returns:
        The file.

    Raises:
        ConfigError: if conditions are not those of the generator, the ending is unknown or a package is missing.
        RunError: if there is no generator, or the file cannot be written.
        SignatureError: if the conditions lie beyond those of the training and `strict` is set.
    """
    file = Path(out).expanduser()
    if file.suffix not in _WRITERS:
        raise ConfigError(f"Records are written as {', '.join(_WRITERS)}, by the ending of --out; got '{file.name}'.")
    generator = load_generator(run)
    names = generator.signature.coefficients
    if set(recipe.conditions) != set(names):
        raise ConfigError(
            f"This generator is asked by {', '.join(names)}; given are {', '.join(recipe.conditions) or 'none'}. Give "
            f"each once, as in {' '.join(f'--condition {name}=…' for name in names)}."
        )
    row = torch.tensor([[recipe.conditions[name] for name in names]])
    _require_inside(generator, row, strict=recipe.strict)
    amplitudes = amplitudes_for(generator, row.expand(recipe.num_records, -1), seed=recipe.seed)
    config = generator.config
    about = {"num_iterations": recipe.iterations, "seed": recipe.seed}
    velocity = inverted(amplitudes, config.frames, config.num_samples, **about)
    write_atomically(file, _WRITERS[file.suffix](velocity.numpy(), config.rate, recipe.conditions))
    return file


def _require_inside(generator: MotionGenerator, coefficients: Tensor, *, strict: bool) -> None:
    outside = generator.outside(generator.asked(coefficients))
    if not outside:
        return
    told = f"The generator is asked beyond the records it was trained on: {'; '.join(outside)}."
    if strict:
        raise SignatureError(f"{told} Train it on such records, or ask without strict.")
    warnings.warn(f"{told} What it makes there is a guess.", OutsideWarning, stacklevel=3)


def _as_arrays(velocity: np.ndarray, rate: float, conditions: Mapping[str, float]) -> bytes:
    target = io.BytesIO()
    named = {name: np.full(len(velocity), number) for name, number in conditions.items()}
    np.savez_compressed(target, allow_pickle=False, velocity=velocity, rate=np.array(rate), **named)
    return target.getvalue()


def _by_obspy(kind: str, velocity: np.ndarray, rate: float) -> bytes:
    obspy, target = require_obspy(), io.BytesIO()
    if kind == "SAC" and len(velocity) > 1:
        raise ConfigError(f"A SAC file holds one record, and {len(velocity)} are asked for: write .mseed or .npz.")
    traces = [
        obspy.Trace(
            np.ascontiguousarray(own), {"sampling_rate": rate, "network": "XX", "station": f"{number:05d}"[-5:]}
        )
        for number, own in enumerate(velocity)
    ]
    obspy.Stream(traces).write(target, format=kind)
    return target.getvalue()


_WRITERS = {
    ".npz": _as_arrays,
    ".mseed": lambda velocity, rate, conditions: _by_obspy("MSEED", velocity, rate),
    ".sac": lambda velocity, rate, conditions: _by_obspy("SAC", velocity, rate),
}
