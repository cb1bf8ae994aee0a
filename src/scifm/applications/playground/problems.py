"""Problems made by hand, and their answers: sliders and a forcing become a batch, which network and solver both take.

A slider goes from half the trained range's lower end to twice its upper one. On the wire an answer is a 32-bit length,
that many bytes of JSON, then two float32 fields (prediction, reference), all little-endian; the JSON is padded with
blanks so that the fields start at a multiple of four.
"""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scifm.errors import ConfigError, DataError, RunError, suggest
from scifm.evaluation.pointwise import max_error, relative_l2
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.seeds import generator_for
from scifm.fields.spectral import require_periodic
from scifm.models.operator import Operator
from scifm.systems.knobs import Knob
from scifm.systems.periodic_elliptic import PeriodicElliptic, spectrum_on_grid
from scifm.systems.system import System
from scifm.wording import span

__all__ = [
    "Answer",
    "Dial",
    "Played",
    "PlayedSystem",
    "field_from_bytes",
    "field_to_bytes",
    "fields_from_bytes",
    "packed",
]

_LARGEST = 1e6  # of a forcing: far above any, far below where float32 overflows inside a network
_ROUNDING = 1e-6  # a mean this small beside the forcing is float32 noise
_NOTHING = 1e-12
_UNITS = {"angle": "rad", "direction": "rad", "wavenumber_shift": "1/T"}  # as the systems' own pages give them
_FULL_TURN = 2 * math.pi
_NUM_STEPS = 100  # at least, where the knob is no whole number


@dataclass(frozen=True)
class Dial:
    """One knob as a slider."""

    name: str
    trained: Knob  # the range it was drawn from in training
    low: float
    high: float
    step: float  # what one press of an arrow key adds, on the linear scale
    start: float  # where it stands at first, inside the trained range

    @classmethod
    def of(cls, system: System, name: str) -> Dial:
        """Return the dial of a knob of a system whose knobs are the trained ranges.

        An end that the system refuses, such as an anisotropy below 1, stays at the trained range's. Angles go round
        once.
        """
        knob = system.knobs[name]
        low, high = _bounds(knob, turns=_UNITS.get(name) == "rad")
        low = low if _accepts(system, name, low) else knob.low
        high = high if _accepts(system, name, high) else knob.high
        step = 1.0 if knob.integer else _round_step((high - low) / _NUM_STEPS)
        middle = knob.line.at((knob.line.place(knob.low) + knob.line.place(knob.high)) / 2)
        start = round(round(middle / step) * step, 10)
        return cls(name, knob, low, high, step, min(max(start, knob.low), knob.high))

    @property
    def unit(self) -> str:
        """The knob's unit, empty for a number without one."""
        return _UNITS.get(self.name, "")

    def __str__(self) -> str:
        """Return its name and trained range as a person writes them."""
        between = span(f"{self.trained.low:.4g}", f"{self.trained.high:.4g}")
        return f"{self.name.replace('_', ' ')} {between} {self.unit}".rstrip()

    def value(self, text: str) -> float:
        """Return the number that a browser sent.

        Raises:
            ConfigError: if it is none, or lies beyond the slider.
        """
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not self.low <= number <= self.high:  # false for NaN
            raise ConfigError(
                f"{self.name} must be a number from {self.low:.6g} to {self.high:.6g}; got '{text[:40]}'."
            )
        return number

    def is_trained(self, value: float) -> bool:
        """Return whether training can have met this value."""
        return bool(self.trained.contains(torch.tensor(value, dtype=torch.float64)))

    def to_dict(self) -> dict[str, Any]:
        knob = self.trained
        about = {"unit": self.unit, "trained": [knob.low, knob.high], "scale": knob.scale, "integer": knob.integer}
        return {**vars(self), **about}


def _bounds(knob: Knob, *, turns: bool) -> tuple[float, float]:
    if turns:
        return min(knob.low, 0.0), max(knob.high, _FULL_TURN)
    span = knob.high - knob.low or abs(knob.high) or 1.0
    low = knob.low / 2 if knob.low > 0 else knob.low - span
    high = 2 * knob.high if knob.high > 0 else knob.high + span
    return (math.floor(low), math.ceil(high)) if knob.integer else (low, high)


def _accepts(system: System, name: str, value: float) -> bool:
    try:
        system.where(**{name: value})
    except ConfigError:
        return False
    return True


def _round_step(step: float) -> float:
    """Return the largest of …, 0.1, 0.2, 0.5, 1, 2, 5, … that is not above `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= step * (1 + 1e-9))


@dataclass(frozen=True)
class Answer:
    """What the page shows of one problem."""

    prediction: Float[Tensor, "y x"]
    reference: Float[Tensor, "y x"]  # solved in float64
    relative_l2: float  # ‖prediction − reference‖₂ / ‖reference‖₂
    max_error: float
    network_seconds: float  # of `Operator.predict` alone
    solver_seconds: float  # of `System.solve` alone
    removed_mean: float  # what was taken away from the forcing
    trained: Mapping[str, bool]  # for each knob, whether training can have met its value
    notes: tuple[str, ...]  # sentences on what is special about this problem

    def to_bytes(self) -> bytes:
        """Return the form on the wire; an error that is not finite is null."""
        return packed(
            {
                "relative_l2": self.relative_l2 if math.isfinite(self.relative_l2) else None,
                "max_error": self.max_error if math.isfinite(self.max_error) else None,
                "network_ms": 1e3 * self.network_seconds,
                "solver_ms": 1e3 * self.solver_seconds,
                "removed_mean": self.removed_mean,
                "trained": dict(self.trained),
                "notes": self.notes,
            },
            self.prediction,
            self.reference,
        )


@dataclass(frozen=True)
class Played:
    """A system whose knobs are the ranges a run was trained on, with a dial for each of them."""

    dials: tuple[Dial, ...]
    system: System

    @property
    def title(self) -> str:
        """Its name as a person writes it, with the trained ranges."""
        return ", ".join([self.system.title, *map(str, self.dials)])

    def values(self, given: Mapping[str, str]) -> dict[str, float]:
        """Return the value of every knob out of what a browser sent, by name.

        Raises:
            ConfigError: if a name is unknown or missing, or a value is not valid.
        """
        names = [dial.name for dial in self.dials]
        for name in given:
            if name not in names:
                raise ConfigError(f"Knob of '{self.system.name}': {suggest(name[:40], names)}")
        missing = [name for name in names if name not in given]
        if missing:
            raise ConfigError(f"A value is missing for {', '.join(missing)}.")
        return {dial.name: dial.value(given[dial.name]) for dial in self.dials}

    def to_dict(self) -> dict[str, Any]:
        options = self.system.to_dict()["options"].items()
        plain = (f"{name.replace('_', ' ')} = {value}" for name, value in options if not isinstance(value, dict))
        return {
            "title": self.title,
            "equation": self.system.equation,
            "options": ", ".join(plain),
            "knobs": [dial.to_dict() for dial in self.dials],
        }


@dataclass(frozen=True)
class PlayedSystem(Played):
    """A steady system that a forcing drives, with a dial for each knob."""

    system: PeriodicElliptic

    @classmethod
    def of(cls, system: System) -> PlayedSystem:
        """Return a system to play with.

        Raises:
            RunError: if it is of a kind the page cannot show.
        """
        if not isinstance(system, PeriodicElliptic):
            raise RunError(
                f"The playground shows steady systems that a forcing drives, in two dimensions, and systems that "
                f"evolve; '{system.name}' is neither. Look at this run with 'scifm evaluate' and 'scifm report'."
            )
        return cls(tuple(Dial.of(system, name) for name in system.knobs), system)

    def draw_forcing(self, grid: Grid, seed: int) -> Float[Tensor, "y x"]:
        """Return a forcing as training draws them, float32; one seed means one forcing at every resolution.

        Raises:
            ConfigError: if the seed is not valid.
            SignatureError: if the grid is too coarse for this forcing.
        """
        return self.system.sample(1, grid, generator_for(seed, "playground")).inputs[0, 0, 0]

    def pose(self, forcing: Float[Tensor, "y x"], values: Mapping[str, float], grid: Grid) -> tuple[Batch, float]:
        """Return the problem with these knobs and this forcing, and what was taken away from the forcing.

        Where the equation needs a zero mean, that of the forcing is taken away. Coefficients that depend on the
        forcing, as the velocity that meets a ratio does, are found for this one.

        Raises:
            ConfigError: if the system does not allow a value.
            DataError: if the forcing is zero everywhere, or no coefficients do what the knobs ask for.
            SignatureError: if the system is not defined on this grid.
        """
        self.system.where(**values)
        require_periodic(grid)
        field, mean = forcing.to(torch.float64), 0.0
        size = float(field.abs().max())
        if self.system.zero_mean:
            mean = float(field.mean())
            field = field - mean
        if float(field.abs().max()) <= _NOTHING * size:
            raise DataError("The forcing is zero everywhere, so nothing is to be solved: paint something or redraw it.")
        drawn = {name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()}
        spectrum = spectrum_on_grid(torch.fft.rfft2(field[None]), grid)
        batch = Batch(
            signature=self.system.signature,
            grid=grid,
            inputs=field[None, None, None],
            coefficients=self.system.coefficients_for(drawn, spectrum, grid).to(torch.float64),
            systems=(self.system.name,),
        )
        return batch, mean if abs(mean) > _ROUNDING * size else 0.0

    def is_rejected(self, solved: Batch) -> bool:
        """Return whether the sampler would throw this problem away, so that training never met one like it."""
        accepted = self.system.acceptable(solved.coefficients, solved.field("solution")[:, 0], solved.grid)
        return accepted is not None and not bool(accepted.all())

    def answer(
        self, operator: Operator, forcing: Float[Tensor, "y x"], values: Mapping[str, float], grid: Grid
    ) -> Answer:
        """Put the problem of `pose` to network and solver; raises what that does."""
        batch, removed_mean = self.pose(forcing, values, grid)
        begun = time.perf_counter()
        predicted = operator.answers(batch)
        between = time.perf_counter()
        solved = self.system.solve(batch)
        ended = time.perf_counter()
        prediction, reference = predicted.require_targets(), solved.require_targets()
        notes = []
        if removed_mean:
            notes.append(
                f"This equation has solutions only for a forcing of zero mean: the mean, {removed_mean:.3g}, was "
                "taken away from the whole forcing before network and solver saw it, as the sampler does in training."
            )
        if self.is_rejected(solved):
            notes.append(
                f"The sampler throws a problem like this one away (max |u| is {float(reference.abs().max()):.3g}: too "
                "large, or near a resonance), so the network has met none in training."
            )
        return Answer(
            prediction=prediction[0, 0, 0],
            reference=reference[0, 0, 0],
            relative_l2=float(relative_l2(prediction, reference, grid)),
            max_error=float(max_error(prediction, reference, grid)),
            network_seconds=between - begun,
            solver_seconds=ended - between,
            removed_mean=removed_mean,
            trained={dial.name: dial.is_trained(values[dial.name]) for dial in self.dials},
            notes=tuple(notes),
        )

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "zero_mean": self.system.zero_mean}


def packed(told: Mapping[str, Any], *fields: Tensor) -> bytes:
    """Return the form on the wire: a length, so many bytes of JSON, and the numbers of fields behind them."""
    text = json.dumps(told, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<I", len(text)) + text + b"".join(map(field_to_bytes, fields))


def field_to_bytes(field: Float[Tensor, "*axes"]) -> bytes:
    """Return fields as little-endian float32, row by row."""
    return field.detach().cpu().numpy().astype("<f4").tobytes()


def field_from_bytes(content: bytes, grid: Grid) -> Float[Tensor, "y x"]:
    """Return the forcing that a browser sent.

    Raises:
        DataError: if it has not one float32 number for each point, or holds one that is not finite or huge.
    """
    return fields_from_bytes(content, grid, 1, "forcing")[0]


def fields_from_bytes(content: bytes, grid: Grid, num_fields: int, what: str) -> Tensor:
    """Return the fields ``(field, *space)`` of a problem that a browser sent; `what` names them together.

    Raises:
        DataError: if there is not one float32 number for each point of each, or one is not finite or huge.
    """
    expected = 4 * num_fields * math.prod(grid.num_points)
    if len(content) != expected:
        raise DataError(f"A {what} on {grid.num_points} points has {expected} bytes of float32; got {len(content)}.")
    values = np.frombuffer(content, dtype="<f4").reshape(num_fields, *grid.num_points).astype(np.float32)
    if not (np.isfinite(values).all() and float(np.abs(values).max()) <= _LARGEST):
        raise DataError(f"Every value of a {what} must be finite and at most {_LARGEST:g} in size.")
    return torch.from_numpy(values)
