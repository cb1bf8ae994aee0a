"""Earthquakes of a region as wavefields: what instruments at the surface record of sources that nobody tells.

What is stored is the ground velocity alone, frame by frame, seen from above; neither the medium, which is one and the
same for all events of a region, nor the source. So a frame does not say what comes next, as that of a solver does, and
who forecasts has to read several.

Source
    An earthquake of moment magnitude M breaks a fault of length L,

        log₁₀ L = 0.59 M − 2.44    [km]    (Wells and Coppersmith 1994, subsurface rupture length, all kinds)

    straight, from one end to the other, at `rupture_speed` times the mean speed of waves. What breaks in the time from
    one frame to the next is released as one pulse, when the rupture is there; a fault that is shorter than that is a
    point. The moment, 10^(1.5 M) of some unit (Hanks and Kanamori 1979), is shared by the pulses. Velocities are in
    units of a pulse of M 4 of unit height. Waves being linear, pulses are added to what is on its way when they are
    due: a march of any fault costs no more than its frames.

Waves
    physics = "acoustic"   the house's own system of that name (`scifm.systems.acoustic`): pulses of pressure
    physics = "elastic"    deepwave's elastic waves, of two speeds (extra ``waves``, `early_warning.elastic`)

    A random medium with absorbing layers, drawn from the number of the region.

References:
    Wells and Coppersmith, Bull. Seismol. Soc. Am. 84 (1994) 974; Hanks and Kanamori, J. Geophys. Res. 84 (1979) 2348;
    the task: Lyu et al., arXiv:2405.20516, who train on point sources and forecast larger ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from scifm.errors import ConfigError, SignatureError, suggest
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.seeds import generator_for
from scifm.systems.acoustic import Acoustic
from scifm.systems.evolving import Evolving
from scifm.systems.knobs import Knob
from scifm.systems.media import RandomMedium
from scifm.systems.system import SamplingRecord

__all__ = ["Events", "Source", "fault_length"]

_PHYSICS = ("acoustic", "elastic")
_UNIT_MAGNITUDE = 4.0  # of a pulse of unit height
_TURNS = 1000  # strikes that are tried for a long fault before a magnitude is refused


def fault_length(magnitude: float) -> float:
    """Return how long a fault breaks [km]."""
    return float(10 ** (0.59 * magnitude - 2.44))


@dataclass(frozen=True)
class Source:
    """One earthquake.

    Args:
        magnitude: moment magnitude M.
        places: of its pulses along axes in array order (y, x) [km], from where the rupture begins.
        frames: after how many frames each is released.
        height: of each of them.
    """

    magnitude: float
    places: tuple[tuple[float, float], ...]
    frames: tuple[int, ...]
    height: float


@dataclass(frozen=True)
class Events(Evolving):
    """Earthquakes of one region; the module has the full description.

    Args:
        magnitude: knob, M.
        physics: ``acoustic`` or ``elastic``.
        region: number of the region: which medium it has.
        mean_speed: of the waves, of elastic ones that of shear [km/s].
        contrast: standard deviation of the logarithm of the speed.
        correlation_length: over which it changes [km].
        medium: how it differs from place to place.
        pulse_width: of the pulses, a standard deviation [km]: two grid spacings or more.
        rupture_speed: over the mean speed of waves.
        absorbing_layer: thickness of the layer at both ends of each axis [km].
        save_interval: time between frames [s].
        num_frames: frames of an event, the first when it begins.

    Raises:
        ConfigError: if a setting makes no sense.
    """

    magnitude: Knob = Knob(3.5, 4.5)
    physics: str = "acoustic"
    region: int = 0
    mean_speed: float = 3.0
    contrast: float = 0.15
    correlation_length: float = 12.0
    medium: RandomMedium = field(default_factory=RandomMedium)
    pulse_width: float = 2.0
    rupture_speed: float = 0.8
    absorbing_layer: float = 8.0
    save_interval: float = 1.0
    num_frames: int = 40

    name: ClassVar[str] = "earthquakes"
    equation: ClassVar[str] = "waves of sources that are not told, in a medium that is not told"
    signature: ClassVar[Signature] = Signature(
        ("velocity_x", "velocity_y"), (), ("velocity_x", "velocity_y"), 2, evolves=True
    )
    homogeneities: ClassVar[tuple[Homogeneity, ...]] = (
        # of both directions: how large a wave is, one of them alone does not tell
        Homogeneity(
            (("velocity_x", 1.0), ("velocity_y", 1.0)), (), "sum",
            tuple(Homogeneity(((n, 1.0),), (n,), "rms") for n in ("velocity_x", "velocity_y")),
        ),
    )  # fmt: skip
    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        self.read_knobs()
        self.require_options()
        if self.physics not in _PHYSICS:
            raise ConfigError(f"Physics of events: {suggest(str(self.physics), _PHYSICS)}")
        positive = ("mean_speed", "correlation_length", "pulse_width", "rupture_speed", "absorbing_layer")
        for name in positive:
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"Events need {name} > 0; got {getattr(self, name)}.")
        if not 0 <= self.contrast < 1:
            raise ConfigError(f"The contrast of a medium is from 0 to less than 1; got {self.contrast}.")

    # --- sources ------------------------------------------------------------------------------------------------------

    def require_grid(self, grid: Grid) -> None:
        super().require_grid(grid)
        if set(grid.boundary) != {"open"}:
            raise SignatureError(f"A region has open ends; the grid's are {', '.join(dict.fromkeys(grid.boundary))}.")
        if self.pulse_width < 2 * max(grid.spacing) * (1 - 1e-9):
            raise SignatureError(
                f"Pulses of a width of {self.pulse_width:g} km ring on points {max(grid.spacing):g} km apart: give "
                f"pulse_width = {2 * max(grid.spacing):g} or more, or more points."
            )
        if not self._room(grid) > 0:
            raise SignatureError(
                f"Absorbing layers of {self.absorbing_layer:g} km leave no room for sources on a box with sides "
                f"{grid.extent} km: give a larger box or a thinner layer."
            )
        self._source(self.magnitude.high, grid, generator_for(0, "longest"))  # refuses what has no room

    def _room(self, grid: Grid) -> float:
        """Return the shorter side of the part of the box in which faults lie [km]."""
        return min(grid.extent) - 2 * (self.absorbing_layer + self.pulse_width)

    def draw(self, num_samples: int, grid: Grid, generator: torch.Generator | None) -> list[Source]:
        """Return earthquakes at random places, their faults wholly inside the absorbing layers.

        Raises:
            ConfigError: if a fault is too long for the box.
        """
        magnitudes = self.magnitude.draw(num_samples, generator, dtype=torch.float64, device=torch.device("cpu"))
        return [self._source(magnitude, grid, generator) for magnitude in magnitudes.tolist()]

    def _source(self, magnitude: float, grid: Grid, generator: torch.Generator | None) -> Source:
        step = self.rupture_speed * self.mean_speed * self.save_interval
        count = max(1, round(fault_length(magnitude) / step))
        length, margin = (count - 1) * step, self.absorbing_layer + self.pulse_width
        sides = torch.tensor(grid.extent, dtype=torch.float64)
        for _ in range(_TURNS):
            drawn = torch.rand(3, generator=generator, dtype=torch.float64)
            angle = 2 * math.pi * float(drawn[2])
            along = torch.tensor([math.sin(angle), math.cos(angle)], dtype=torch.float64)
            room = sides - 2 * margin - (length * along).abs()
            if bool((room >= 0).all()):
                first = margin + room * drawn[:2] + (-length * along).clamp(min=0)
                places = [(first + step * k * along).tolist() for k in range(count)]
                height = 10 ** (1.5 * (magnitude - _UNIT_MAGNITUDE)) / count
                return Source(magnitude, tuple((y, x) for y, x in places), tuple(range(count)), height)
        raise ConfigError(
            f"An earthquake of magnitude {magnitude:.2f} breaks {fault_length(magnitude):.0f} km, and the part of the "
            f"box inside of its absorbing layers is {self._room(grid):.0f} km long. Give smaller magnitudes, or "
            "a larger box (--set num_points=…)."
        )

    # --- waves --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        grid: Grid,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: Any = None,
        record: SamplingRecord | None = None,
    ) -> Batch:
        """Draw earthquakes and march their waves; see `System.sample`. On the CPU, wherever they are wanted."""
        _, device = self.require_sampling(num_samples, grid, generator, dtype, device)
        sources = self.draw(num_samples, grid, generator)
        if record is not None:
            record.drawn += num_samples
        return self.record(sources, grid, dtype=dtype).to(device, dtype)

    def record(self, sources: list[Source], grid: Grid, *, dtype: torch.dtype = torch.float32) -> Batch:
        """Return what instruments everywhere record of some earthquakes: whole trajectories.

        Raises:
            ConfigError: if what marches elastic waves is not installed.
            SignatureError: if they cannot be on this grid.
        """
        self.require_grid(grid)
        speed = self.speed(grid)
        if self.physics == "elastic":
            from scifm.applications.early_warning.elastic import elastic_waves

            made = elastic_waves(self, speed, sources, grid).to(dtype)
        else:
            made = self._acoustic_waves(speed.to(dtype), sources, grid)
        times = torch.tensor(self.times[1:], dtype=dtype).expand(len(made), -1)
        none = made.new_zeros(len(made), 0)
        return Batch(self.signature, grid, made[:, :1], none, made[:, 1:], (self.name,) * len(made), times)

    def speed(self, grid: Grid) -> Tensor:
        """Return the speed of waves in this region, ``(*space)`` [km/s] in float64."""
        generator = generator_for(self.region, "region")
        length = torch.tensor([self.correlation_length], dtype=torch.float64)
        return self.mean_speed * torch.exp(self.contrast * self.medium.draw(length, _wrapped(grid), generator)[0])

    def pulse(self, place: tuple[float, float], grid: Grid) -> Tensor:
        """Return a pulse of unit height, ``(*space)`` in float64."""
        lines = [
            torch.exp(-0.5 * ((points - own) / self.pulse_width).square())
            for points, own in zip(grid.coordinates(), place, strict=True)
        ]
        return lines[0][:, None] * lines[1]

    def _acoustic_waves(self, speed: Tensor, sources: list[Source], grid: Grid) -> Tensor:
        """Return velocities ``(batch, frame, direction, *space)``, from pulses of pressure over density."""
        waves, box = self._acoustic(), _wrapped(grid)
        names = waves.signature
        drawn, coefficients = waves.initial(1, box, generator_for(0, "layers"), torch.device("cpu"))
        state = torch.zeros(len(sources), len(names.inputs), *grid.num_points, dtype=speed.dtype)
        state[:] = drawn.to(state)  # the layers are the same for all
        state[:, : len(names.outputs)] = 0.0
        state[:, names.inputs.index("wave_speed")] = speed
        velocities = [names.outputs.index(name) for name in self.signature.outputs]
        frames, frame, none = [], 0, coefficients.to(state).expand(len(sources), -1)
        due = sorted({when for source in sources for when in source.frames if when < self.num_frames})
        for begin, end in zip(due, [*due[1:], self.num_frames - 1], strict=True):
            self._release(state, sources, begin, grid, names)
            if begin == 0:
                frames.append(state[:, None, velocities].clone())
            if end > begin:
                made = waves.advance(state, none, box, interval=self.save_interval, num_frames=end - begin)
                frames.append(made[:, :, velocities])
                state[:, : len(names.outputs)] = made[:, -1]
            frame = end
        assert frame == self.num_frames - 1
        return torch.cat(frames, dim=1)

    def _acoustic(self) -> Acoustic:
        fastest = self.mean_speed * math.exp(3 * self.contrast)  # its steps through a layer go by it
        speed, length, width = (Knob(n, n) for n in (fastest, self.correlation_length, self.pulse_width))
        about: dict[str, Any] = {"save_interval": self.save_interval, "num_frames": self.num_frames}
        return Acoustic(speed, Knob(0.0, 0.0), length, width, absorbing_layer=self.absorbing_layer, **about)

    def _release(self, state: Tensor, sources: list[Source], frame: int, grid: Grid, names: Signature) -> None:
        """Add the pulses that are due at a frame to the pressure, and to what of it belongs to each axis."""
        parts = [place for place, name in enumerate(names.outputs) if name.startswith("pressure_")]
        for row, source in enumerate(sources):
            for place, when in zip(source.places, source.frames, strict=True):
                if when == frame:
                    pulse = source.height * self.mean_speed * self.pulse(place, grid).to(state)
                    state[row, names.outputs.index("pressure")] += pulse
                    for part in parts:
                        state[row, part] += pulse / (len(parts) + 1)

    # --- what a record does not say -----------------------------------------------------------------------------------

    def initial(
        self, num_samples: int, grid: Grid, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        first = self.sample(num_samples, grid, generator, dtype=torch.float64, device=device)
        return first.inputs[:, 0], first.coefficients

    def sample_inputs(self, num_samples: int, grid: Grid, *given: Any, **more: Any) -> Batch:
        return replace(self.sample(num_samples, grid, *given, **more), targets=None, lead_time=None)

    def advance(
        self, inputs: Tensor, coefficients: Tensor, grid: Grid, *, interval: float, num_frames: int, refine: int = 1
    ) -> Tensor:
        raise SignatureError(
            "What is recorded at the surface does not say what comes next: the medium and what drives the waves are "
            "not in it. Forecast it with a network that reads several frames."
        )

    def tendency(self, inputs: Tensor, coefficients: Tensor, grid: Grid) -> Tensor:
        return self.advance(inputs, coefficients, grid, interval=self.save_interval, num_frames=1)


def _wrapped(grid: Grid) -> Grid:
    """Return the periodic box whose points are those of an open one: behind the last the first one follows."""
    sides = tuple(side * points / (points - 1) for side, points in zip(grid.extent, grid.num_points, strict=True))
    return Grid(grid.num_points, sides)
