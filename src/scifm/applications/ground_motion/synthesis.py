"""Records of earthquakes by the stochastic method: noise of random phase, shaped in time and in frequency.

A record is white noise under an envelope, brought to the spectrum that a point source has at a distance,

    A(f) = C M₀ 2πf / (1 + (f/f_c)²) · 1/R · exp(−π f R / (Q(f) β)) · exp(−π κ f)        [m], of velocity

    M₀ = 10^(1.5 M + 9.05) N m,    f_c = 0.49 β (Δσ / M₀)^(1/3),    C = 0.55 · 2 · 0.707 / (4π ρ β³)

of Brune's source, geometrical spreading, anelastic attenuation Q(f) = Q₀ f^η and that of the site, κ. Every record is
then multiplied by exp(δB + δW): δB is drawn once an event, with standard deviation τ, δW once a record, with φ. So the
truth is known: the median spectrum is A(f), its scaling follows, and the residuals of records have the standard
deviation √(τ² + φ²), to which noise of random phase adds what smoothing leaves of it.

The shear wave arrives `onset` seconds after a record begins; before that, and beneath all, is the noise of the place.

References:
    Boore, Pure Appl. Geophys. 160 (2003) 635, the method and its envelope; Brune, J. Geophys. Res. 75 (1970) 4997;
    Anderson and Hough, Bull. Seismol. Soc. Am. 74 (1984) 1969, κ; Hanks and Kanamori, ibid. 84 (1979) 2348, M₀.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pydantic import Field, model_validator
from torch import Tensor

from scifm.config import Config

__all__ = ["Drawn", "StochasticMotion"]

_RADIATION = 0.55 * 2.0 * 0.707  # mean over the sphere, free surface, one of two components
_EPSILON, _ETA, _STRETCH = 0.2, 0.05, 2.0  # Boore's envelope: where its peak lies, how low its end is, how late


@dataclass(frozen=True)
class Drawn:
    """Records of events.

    Args:
        velocity: ``(record, sample)`` [m/s].
        event: number of the event of each.
        magnitude: M.
        distance: R [km].
    """

    velocity: Tensor
    event: Tensor
    magnitude: Tensor
    distance: Tensor


class StochasticMotion(Config):
    """How records are made, and so what is true of them; the module has the equations.

    Args:
        magnitude: lowest and highest moment magnitude; drawn uniformly.
        distance: nearest and farthest [km]; drawn uniformly in its logarithm.
        stress_drop: Δσ [MPa].
        velocity: of shear waves at the source, β [km/s].
        density: there, ρ [kg/m³].
        quality: Q₀.
        quality_exponent: η.
        kappa: κ [s].
        between: standard deviation τ of an event's term, in ln units.
        within: standard deviation φ of a record's term, in ln units.
        path_duration: by which shaking lasts longer with distance [s/km].
        noise: root mean square of the noise of the place [m/s].
        rate: samples a second [Hz].
        num_samples: of a record.
        onset: when the shear wave arrives [s].
    """

    magnitude: tuple[float, float] = (2.0, 4.0)
    distance: tuple[float, float] = (5.0, 80.0)
    stress_drop: float = Field(5.0, gt=0, allow_inf_nan=False)
    velocity: float = Field(3.5, gt=0, allow_inf_nan=False)
    density: float = Field(2800.0, gt=0, allow_inf_nan=False)
    quality: float = Field(150.0, gt=0, allow_inf_nan=False)
    quality_exponent: float = Field(0.5, ge=0, le=1)
    kappa: float = Field(0.03, ge=0, allow_inf_nan=False)
    between: float = Field(0.4, ge=0, allow_inf_nan=False)
    within: float = Field(0.5, ge=0, allow_inf_nan=False)
    path_duration: float = Field(0.05, ge=0, allow_inf_nan=False)
    noise: float = Field(1e-9, gt=0, allow_inf_nan=False)
    rate: float = Field(50.0, gt=0, allow_inf_nan=False)
    num_samples: int = Field(1024, ge=64)
    onset: float = Field(2.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ranges_that_can_be_drawn(self) -> StochasticMotion:
        for name, (low, high) in (("magnitude", self.magnitude), ("distance", self.distance)):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"{name} is a lowest and a highest number, in this order; got {low}, {high}")
        if not self.distance[0] > 0:
            raise ValueError(f"distance is positive, since motion falls as 1/R; got {self.distance[0]}")
        if self.onset >= 0.5 * self.duration:
            raise ValueError(
                f"the shear wave arrives in the first half of a record, which lasts {self.duration:g} s; onset is "
                f"{self.onset:g}"
            )
        return self

    @property
    def duration(self) -> float:
        """How long a record lasts [s]."""
        return self.num_samples / self.rate

    @property
    def sigma(self) -> float:
        """Standard deviation of what is drawn for a record, √(τ² + φ²), in ln units."""
        return math.hypot(self.between, self.within)

    def corner(self, magnitude: Tensor) -> Tensor:
        """Return the corner frequency [Hz]."""
        return 490.0 * self.velocity * (1e6 * self.stress_drop / _moment(magnitude)) ** (1 / 3)

    def median_spectrum(self, frequency: Tensor, magnitude: Tensor, distance: Tensor) -> Tensor:
        """Return the median Fourier amplitude of velocity [m], without noise.

        Args:
            frequency: [Hz], 0 or more.
            magnitude: of the shape of `distance`, or one that fits it.
            distance: [km].

        Returns:
            ``(*distance, frequency)``, in the precision of `distance`.
        """
        f, far = frequency.to(distance), 1000.0 * distance[..., None]
        moment, corner = _moment(magnitude)[..., None], self.corner(magnitude)[..., None]
        scale = _RADIATION / (4 * math.pi * self.density * (1000.0 * self.velocity) ** 3)
        source = scale * moment * 2 * math.pi * f / (1 + (f / corner) ** 2)
        quality = self.quality * f.clamp(min=1e-3) ** self.quality_exponent
        path = torch.exp(-math.pi * f * far / (quality * 1000.0 * self.velocity)) / far
        return source * path * torch.exp(-math.pi * self.kappa * f)

    def draw(self, num_events: int, records_per_event: int, generator: torch.Generator, *, first: int = 0) -> Drawn:
        """Return records of random events, one event after the other.

        Args:
            num_events: how many.
            records_per_event: of each, at random distances.
            generator: to draw from, on the CPU.
            first: number of the first event.
        """
        count = num_events * records_per_event
        magnitude, between = torch.rand(num_events, generator=generator), torch.randn(num_events, generator=generator)
        distance, within = torch.rand(count, generator=generator), torch.randn(count, generator=generator)
        low, high = self.magnitude
        near, far = map(math.log, self.distance)
        each = (low + (high - low) * magnitude.double()).repeat_interleave(records_per_event)
        away = (near + (far - near) * distance.double()).exp()
        term = self.between * between.double().repeat_interleave(records_per_event) + self.within * within.double()
        motion = self.shaken(each, away, generator) * term.exp()[:, None]
        noise = torch.randn(motion.shape, generator=generator, dtype=torch.float64)
        event = torch.arange(first, first + num_events).repeat_interleave(records_per_event)
        return Drawn(motion + self.noise * noise, event, each, away)

    def shaken(self, magnitude: Tensor, distance: Tensor, generator: torch.Generator) -> Tensor:
        """Return records that have the median spectrum in the mean square, ``(record, sample)`` [m/s], without noise.

        Args:
            magnitude: ``(record,)``.
            distance: ``(record,)`` [km].
            generator: of the random phases, on the CPU.
        """
        count = self.num_samples
        noise = torch.randn((len(magnitude), count), generator=generator, dtype=torch.float64)
        shaped = noise * self.envelope(magnitude, distance)
        shaped = shaped / shaped.square().sum(dim=1, keepdim=True).sqrt()  # Parseval: the mean square of its spectrum
        frequency = torch.fft.rfftfreq(2 * count, 1 / self.rate, dtype=torch.float64)
        # ∫ … dt is a sum over samples times their spacing
        wanted = self.median_spectrum(frequency, magnitude.double(), distance.double()) * self.rate
        wanted[:, 0] = wanted[:, 1]  # no motion has a mean, and no logarithm is taken of zero
        return torch.fft.irfft(torch.fft.rfft(shaped, n=2 * count) * _causal(wanted), n=2 * count)[:, :count]

    def envelope(self, magnitude: Tensor, distance: Tensor) -> Tensor:
        """Return the envelope of each record, ``(record, sample)``, zero before the onset and one at its peak."""
        lasts = _STRETCH * (1 / self.corner(magnitude) + self.path_duration * distance)[:, None]
        late = torch.arange(self.num_samples, dtype=torch.float64) / self.rate - self.onset
        b = -_EPSILON * math.log(_ETA) / (1 + _EPSILON * (math.log(_EPSILON) - 1))
        c = b / _EPSILON
        part = late.clamp(min=0) / lasts
        return (part / _EPSILON) ** b * torch.exp(b - c * part)


def _moment(magnitude: Tensor) -> Tensor:
    """Return the seismic moment [N m]."""
    return 10 ** (1.5 * magnitude + 9.05)


def _causal(amplitudes: Tensor) -> Tensor:
    """Return the spectrum of these amplitudes ``(record, frequency)`` whose motion begins at once: of minimum phase.

    Of zero phase it would begin before the shear wave arrives. The phase is the Hilbert transform of ln A, had from its
    cepstrum, whose negative times are folded onto the positive ones.
    """
    cepstrum = torch.fft.irfft(amplitudes.log())
    half = cepstrum.shape[-1] // 2
    folded = torch.zeros_like(cepstrum)
    folded[:, 0], folded[:, half] = cepstrum[:, 0], cepstrum[:, half]
    folded[:, 1:half] = 2 * cepstrum[:, 1:half]
    return torch.fft.rfft(folded).exp()
