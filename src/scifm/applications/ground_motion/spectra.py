"""Fourier amplitude spectra of records, smoothed as Konno and Ohmachi do.

Smoothed is the power, and the root is taken then: of noise of random phase the power is right in the mean, and an
amplitude 11 % too small (a Rayleigh variable's mean is √(π/4) of its root mean square).

References:
    Konno and Ohmachi, Bull. Seismol. Soc. Am. 88 (1998) 228.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from scifm.applications.ground_motion.synthesis import StochasticMotion
from scifm.errors import ConfigError

__all__ = ["BANDWIDTH", "fourier_amplitudes", "konno_ohmachi", "smoothed_medians", "smoothed_spectra"]

BANDWIDTH = 20.0
"""b: a window falls to zero at f · 10^(±π/b)."""


def konno_ohmachi(frequencies: Tensor, centers: Tensor, bandwidth: float = BANDWIDTH) -> Tensor:
    """Return the weights that smooth a spectrum, ``(center, frequency)``, each row with the sum one.

    The weight is (sin x / x)⁴, x = b log₁₀(f / f_c), without an end: what lies beyond its first zero adds up to 0.3 %.

    Args:
        frequencies: of the spectrum [Hz], 0 or more.
        centers: where it is wanted [Hz], positive.
        bandwidth: b; larger is narrower.

    Raises:
        ConfigError: if a center is not among the frequencies' range, or b is not positive.
    """
    if not 0 < bandwidth < math.inf:
        raise ConfigError(f"The bandwidth of a Konno–Ohmachi window is positive; got {bandwidth}.")
    highest = float(frequencies.max())
    if not bool(((centers > 0) & (centers <= highest)).all()):
        raise ConfigError(
            f"Spectra are smoothed at frequencies above 0 and up to {highest:g} Hz; got {float(centers.min()):g} to "
            f"{float(centers.max()):g} Hz."
        )
    f, c = frequencies.double()[None], centers.double()[:, None]
    x = bandwidth * torch.log10(torch.where(f > 0, f, 1.0) / c)
    weights = torch.where(f > 0, torch.sinc(x / math.pi) ** 4, 0.0)
    main = (weights * (x.abs() < math.pi)).sum(dim=1)
    if not bool((main > 0).all()):
        raise ConfigError(
            f"No frequency of the spectrum lies in the window around {float(centers[main == 0][0]):g} Hz: records are "
            "too short for it. Ask for higher frequencies, or a smaller bandwidth."
        )
    return weights / weights.sum(dim=1, keepdim=True)


def fourier_amplitudes(velocity: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Return frequencies [Hz] and the Fourier amplitudes of records there, ``(record, frequency)`` [m].

    Args:
        velocity: ``(record, sample)`` [m/s].
        rate: samples a second [Hz].
    """
    motion = velocity.double()
    frequencies = torch.fft.rfftfreq(motion.shape[-1], 1 / rate, dtype=torch.float64)
    return frequencies, torch.fft.rfft(motion).abs() / rate


def smoothed_spectra(velocity: Tensor, rate: float, centers: Tensor, bandwidth: float = BANDWIDTH) -> Tensor:
    """Return smoothed Fourier amplitudes of records, ``(record, center)`` [m]; arguments are those of the two above."""
    frequencies, amplitudes = fourier_amplitudes(velocity, rate)
    weights = konno_ohmachi(frequencies, centers, bandwidth)
    return (amplitudes.square() @ weights.T).sqrt()


def smoothed_medians(
    motion: StochasticMotion, conditions: Mapping[str, Tensor], centers: Tensor, bandwidth: float = BANDWIDTH
) -> Tensor:
    """Return median spectra of drawn records, smoothed as those of records are, ``(record, center)`` [m].

    Args:
        motion: how they are drawn.
        conditions: ``magnitude`` and ``distance``, a number a record.
        centers, bandwidth: as of `konno_ohmachi`.
    """
    frequencies = torch.fft.rfftfreq(motion.num_samples, 1 / motion.rate, dtype=torch.float64)
    medians = motion.median_spectrum(frequencies, conditions["magnitude"], conditions["distance"])
    return (medians.square() @ konno_ohmachi(frequencies, centers, bandwidth).T).sqrt()
