"""Spectrograms of records, and records from spectrograms.

Both ways have one Hann window, one hop and one padding; frames are centered, so that a record of n samples has
1 + n // hop of them. What is learned is ln |S|, in ln of sums over samples, never less than the floor: a set part of
what the noise of the place makes of |S|. An epsilon of the machine in its place would fill the loss with how deep
the zeros of noise are.

Amplitudes have no phases. `inverted` finds some by the method of Griffin and Lim, of the package librosa (extra
``seismic``).

References:
    Griffin and Lim, IEEE Trans. ASSP 32 (1984) 236; Perraudin, Balazs and Søndergaard, WASPAA (2013), its momentum.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from scifm.config import Config
from scifm.errors import ConfigError, DataError
from scifm.fields.grid import Grid

__all__ = ["Frames", "inverted", "require_librosa", "spectral_convergence"]

_AT_ONCE = 64  # records whose phases are looked for together


class Frames(Config):
    """How a spectrogram is made.

    Args:
        window: samples of a Hann window.
        hop: samples from one frame to the next.
        quiet: how long a record is quiet before the motion begins [s]: what the noise of the place is measured on.
        floor: part of the noise's root mean square amplitude that no amplitude is less than.
    """

    window: int = Field(128, ge=8)
    hop: int = Field(32, ge=1)
    quiet: float = Field(1.5, gt=0, allow_inf_nan=False)
    floor: float = Field(0.3, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _frames_that_overlap(self) -> Frames:
        if self.window % 2:
            raise ValueError(f"a window has an even number of samples; got {self.window}")
        if 2 * self.hop > self.window:
            raise ValueError(
                f"frames overlap by half or more, for amplitudes alone have to tell the phases: hop is "
                f"{self.window // 2} or less; got {self.hop}"
            )
        return self

    def grid(self, num_samples: int, rate: float) -> Grid:
        """Return where a spectrogram lives: times of frames [s] by frequencies [Hz].

        Raises:
            ConfigError: if records are shorter than a window.
        """
        if num_samples < 2 * self.window:
            raise ConfigError(
                f"Records of {num_samples} samples have too few frames of {self.window}: give a shorter window, "
                f"{num_samples // 4} or less."
            )
        frames = 1 + num_samples // self.hop
        return Grid((frames, 1 + self.window // 2), ((frames - 1) * self.hop / rate, rate / 2), "open")

    def amplitudes(self, velocity: Tensor) -> Tensor:
        """Return |S| of records ``(record, sample)``, ``(record, frame, frequency)``."""
        window = torch.hann_window(self.window, dtype=velocity.dtype, device=velocity.device)
        about: dict[str, Any] = {"window": window, "center": True, "pad_mode": "constant", "return_complex": True}
        return torch.stft(velocity, self.window, self.hop, **about).abs().transpose(1, 2)

    def noise_level(self, velocity: Tensor, rate: float) -> float:
        """Return the root mean square of |S| of the noise of the place: of the median record before its motion begins.

        Raises:
            ConfigError: if less than a window's half of each record is quiet.
            DataError: if nothing is recorded there, so that no floor can be had.
        """
        count = int(self.quiet * rate)
        if count < self.window // 4:
            raise ConfigError(
                f"quiet = {self.quiet:g} s are {count} samples, too few to measure noise on; give a quarter of a "
                f"window at least, {self.window / 4 / rate:g} s."
            )
        quiet = velocity[:, :count].double()
        level = float((quiet - quiet.mean(dim=1, keepdim=True)).square().mean(dim=1).sqrt().median())
        if not level > 0:
            raise DataError(
                f"Records hold nothing but zeros in their first {self.quiet:g} s, so their noise is not known: cut "
                "them so that they begin before the motion, unfiltered, or add the noise of the instrument."
            )
        window = torch.hann_window(self.window, dtype=torch.float64)
        return level * math.sqrt(float(window.square().sum()))

    def levels(self, velocity: Tensor, noise: float) -> Tensor:
        """Return ln of the amplitudes of records, none less than the floor, ``(record, frame, frequency)``.

        Args:
            velocity: ``(record, sample)`` [m/s].
            noise: as `noise_level` says.
        """
        return self.amplitudes(velocity).clamp(min=self.floor * noise).log()


def require_librosa() -> Any:
    """Return the package that finds phases.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        import librosa
    except ImportError as error:
        raise ConfigError(
            "Waveforms are made of amplitudes by the package librosa, which is not installed: give "
            "pip install 'scifm[seismic]'."
        ) from error
    return librosa


def inverted(
    amplitudes: Tensor, frames: Frames, num_samples: int, *, num_iterations: int = 100, seed: int = 0
) -> Tensor:
    """Return records whose amplitudes are near these, ``(record, sample)`` [m/s], by Griffin and Lim.

    Args:
        amplitudes: |S|, ``(record, frame, frequency)``.
        frames: how they were made.
        num_samples: of a record.
        num_iterations: of the method.
        seed: of the phases that it begins with.

    Raises:
        ConfigError: if librosa is not installed.
    """
    librosa, parts = require_librosa(), list[NDArray[np.floating]]()
    wanted = amplitudes.transpose(1, 2).double().numpy()
    # its steps divide by amplitudes plus a constant of the machine: the motion of a small earthquake is no larger
    sizes = np.maximum(wanted.max(axis=(1, 2), keepdims=True), np.finfo(np.float64).tiny)
    for start in range(0, len(wanted), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        parts.append(librosa.griffinlim(
            wanted[rows] / sizes[rows], n_iter=num_iterations, hop_length=frames.hop, win_length=frames.window,
            n_fft=frames.window, window="hann", center=True, pad_mode="constant", dtype=np.float64,
            length=num_samples, init="random", random_state=np.random.default_rng(seed + start),
        ) * sizes[rows, 0])  # fmt: skip
    return torch.as_tensor(np.concatenate(parts), dtype=torch.float64)


def spectral_convergence(velocity: Tensor, amplitudes: Tensor, frames: Frames) -> Tensor:
    """Return how far the amplitudes of records are from those asked for, ‖|S(v)| − A‖ / ‖A‖ of each, ``(record,)``."""
    wanted = amplitudes.to(velocity)
    return (frames.amplitudes(velocity) - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
