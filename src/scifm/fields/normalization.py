"""Normalization: physical batches ⇄ numbers of order one, without losing what the physics knows.

Where a system declares a `Homogeneity`, each sample is brought to unit size exactly: fields and coefficients are
divided by powers of the sample's own size, and the answer is multiplied back. What varies after that is shifted and
scaled by constants fitted on training data. With no declared homogeneity only the constants act.

The state of an evolving system is answered as its change: an encoded answer of zero means that nothing moved. Of kind
``none`` it is answered itself, and no number is changed.

The reference paper's rule (divide forcing **and** coefficients by the forcing's size relative to its training median)
is the case ``kind="joint"``: one scaling under which forcing and coefficients grow together and the solution stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.homogeneity import Homogeneity
from scifm.fields.memory import Memory
from scifm.fields.on_device import numbers_for

__all__ = ["Encoded", "Normalization"]

_NUMBERS = (
    "gauge_sizes",
    *(f"{role}_{part}" for role in ("input", "coefficient", "output") for part in ("shift", "scale")),
)
NormalizationKind = Literal["homogeneous", "joint", "constant", "none"]


@dataclass(frozen=True)
class Encoded:
    """A batch as an operator sees it.

    Args:
        inputs: ``(batch, time, channel, *space)``.
        coefficients: ``(batch, coefficient)``.
        grid: where the answer is wanted; `inputs` reach further on a box with walls where a network thinks in periods.
        output_scale: ``(batch, 1, output, 1, …)``: the factor that makes an encoded answer physical.
        output_offset: what is added then, ``(batch, 1, output, *space)`` or with ones for axes along which it is
            constant; None: nothing.
        lead_time: ``(batch,)`` time from the last input frame to the answer, in units of what the sample's scalings and
            the training samples make of it; None for steady problems, and where nobody says.
        present: ``(batch, input)`` bool: which input fields each sample has; None: all have all.
        strengths: ``(batch, coefficient)``: coefficients in units of what the sample's scalings make of them, and zero
            where they are.
        systems: what each sample is of, by name; empty where nobody says.
        memory: of a question on a march, what operators remember of the frames before; None: nothing.
    """

    inputs: Tensor
    coefficients: Tensor
    grid: Grid
    output_scale: Tensor
    output_offset: Tensor | None = None
    lead_time: Tensor | None = None
    present: Tensor | None = None
    strengths: Tensor | None = None
    systems: tuple[str, ...] = ()
    memory: Memory | None = None

    def decode(self, answer: Tensor) -> Tensor:
        """Return an encoded answer ``(batch, 1, output, *space)`` in physical units."""
        scaled = answer * self.output_scale
        return scaled if self.output_offset is None else scaled + self.output_offset

    def encode(self, answer: Tensor) -> Tensor:
        """Return the inverse of `decode`: zero in the channels that a sample has not."""
        centered = answer if self.output_offset is None else answer - self.output_offset
        there = self.output_scale != 0
        return torch.where(there, centered / torch.where(there, self.output_scale, 1.0), 0.0)


@dataclass(frozen=True)
class Normalization:
    """Fitted numbers; apply with `encode`.

    Args:
        homogeneities: scalings whose gauge is fixed for each sample; empty for ``kind="constant"``.
        gauge_sizes: for each homogeneity, the size that samples are brought to.
        input_shift: one offset per input field, subtracted before the division.
        input_scale: one divisor per input field.
        coefficient_shift: one offset per coefficient, subtracted first.
        coefficient_scale: one divisor per coefficient.
        output_shift: one offset per output field, added after the multiplication.
        output_scale: one factor per output field.
        lead_time_scale: the typical lead time.
        coefficient_floor: one number per coefficient. Above zero its logarithm is shifted and scaled, and what is less
            than that number counts as it: far below all it was fitted on. For those that are positive and differ by
            orders of magnitude between samples: a viscosity in units of each sample's own velocity does, and half of it
            is as far away as twice as much. Zero, or nothing at all: the coefficient counts by its value.
        kind: how it was fitted, for the record.
    """

    homogeneities: tuple[Homogeneity, ...]
    gauge_sizes: tuple[float, ...]
    input_shift: tuple[float, ...]
    input_scale: tuple[float, ...]
    coefficient_shift: tuple[float, ...]
    coefficient_scale: tuple[float, ...]
    output_shift: tuple[float, ...]
    output_scale: tuple[float, ...]
    kind: NormalizationKind = "homogeneous"
    lead_time_scale: float = 1.0
    coefficient_floor: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.homogeneities) != len(self.gauge_sizes):
            raise ConfigError("A normalization needs one gauge size for each homogeneity.")
        scales = (self.input_scale, self.coefficient_scale, self.output_scale)
        divisors = (*self.gauge_sizes, *(one for scale in scales for one in scale), self.lead_time_scale)
        if not all(0 < d < float("inf") for d in divisors):
            raise ConfigError(f"Every divisor of a normalization must be positive and finite; got {divisors}.")

    @property
    def depends_on_box(self) -> bool:
        """Whether the sides of the box enter, beside the numbers of fields and coefficients."""
        return any(scaling.depends_on_box for scaling in self.homogeneities)

    def encode(self, batch: Batch) -> Encoded:
        """Return the batch in numbers of order one. Targets play no part, so nothing leaks from them.

        A field or a coefficient that a sample has not is zero, and so is the answer to it, whatever a network makes of
        it. Where points of an input are missing it is taken at its mean over the training samples, which is zero here.
        """
        factors = [h.factor(batch, size) for h, size in zip(self.homogeneities, self.gauge_sizes, strict=True)]
        names = batch.signature
        gauge = self._powers(factors, names.inputs, batch)
        field = gauge * self._row(self.input_scale, batch)
        coefficient = self._powers(factors, names.coefficients, batch)
        answer = self._powers(factors, names.outputs, batch)
        shift, scale = self._row(self.coefficient_shift, batch), self._row(self.coefficient_scale, batch)
        offset = self._channels(gauge * self._row(self.input_shift, batch), batch) if any(self.input_shift) else 0.0
        if batch.valid_inputs is not None:
            batch = replace(batch, inputs=torch.where(batch.valid_inputs, batch.inputs, offset))
        given, known, asked = (batch.has(part) for part in (names.inputs, names.coefficients, names.outputs))
        strengths = batch.coefficients / coefficient
        coefficients = (self._logarithms(strengths) - shift) / scale
        inputs = (batch.inputs - offset) / self._channels(field, batch)
        output_scale = self._channels(answer * self._row(self.output_scale, batch), batch)
        output_offset = self._output_offset(batch, answer)
        if asked is not None:
            output_scale = output_scale * self._channels(asked, batch)
            output_offset = None if output_offset is None else output_offset * self._channels(asked, batch)
        return Encoded(
            inputs=inputs if given is None else inputs * self._channels(given, batch),
            coefficients=coefficients if known is None else coefficients * known,
            grid=batch.grid,
            output_scale=output_scale,
            output_offset=output_offset,
            lead_time=self._lead_time(factors, batch),
            present=given,
            strengths=strengths,
            systems=batch.systems,
        )

    def coefficients_of(self, encoded: Tensor) -> Tensor:
        """Return the coefficients ``(batch, coefficient)`` that are encoded so, of samples of the gauge's size."""
        values = encoded * numbers_for(self.coefficient_scale, encoded) + numbers_for(self.coefficient_shift, encoded)
        if not any(self.coefficient_floor):
            return values
        return torch.where(numbers_for(self.coefficient_floor, values) > 0, values.exp(), values)

    @property
    def coefficient_sizes(self) -> tuple[float, ...]:
        """The usual size of each coefficient, in units of what the scalings make of it."""
        floors = self.coefficient_floor or (0.0,) * len(self.coefficient_shift)
        columns = zip(self.coefficient_shift, self.coefficient_scale, floors, strict=True)
        return tuple(math.exp(shift) if floor else math.hypot(shift, scale) for shift, scale, floor in columns)

    def _logarithms(self, coefficients: Tensor) -> Tensor:
        if not any(self.coefficient_floor):
            return coefficients
        columns = zip(coefficients.unbind(1), self.coefficient_floor, strict=True)
        return torch.stack([column.clamp(min=floor).log() if floor else column for column, floor in columns], dim=1)

    def _lead_time(self, factors: list[Tensor], batch: Batch) -> Tensor | None:
        if batch.lead_time is None:
            return None
        return batch.lead_time[:, 0] / (self._powers(factors, ("lead_time",), batch)[:, 0] * self.lead_time_scale)

    def _output_offset(self, batch: Batch, gauge: Tensor) -> Tensor | None:
        """Return where answers start from: the last input frame of a state field, and the shift."""
        shift = self._channels(gauge * self._row(self.output_shift, batch), batch) if any(self.output_shift) else None
        names = batch.signature
        if not names.state or self.kind == "none":
            return shift
        last = batch.inputs[:, -1:]
        nothing = torch.zeros_like(last[:, :, :1])
        parts = [
            last[:, :, names.inputs.index(name), None] if name in names.state else nothing for name in names.outputs
        ]
        start = torch.cat(parts, dim=2)
        return start if shift is None else start + shift

    @staticmethod
    def _channels(values: Tensor, batch: Batch) -> Tensor:
        """Return ``(batch, channel)`` as ``(batch, 1, channel, 1, …)``, to act on fields."""
        return values.view(*values.shape[:1], 1, -1, *(1,) * batch.grid.num_spatial_dims)

    @staticmethod
    def _row(values: tuple[float, ...], batch: Batch) -> Tensor:
        return numbers_for(values, batch.inputs).view(1, -1)

    def _powers(self, factors: list[Tensor], names: tuple[str, ...], batch: Batch) -> Tensor:
        """Return ``(batch, name)``: the product of each sample's factors to the declared exponents."""
        result = batch.inputs.new_ones(batch.num_samples, len(names))
        for homogeneity, factor in zip(self.homogeneities, factors, strict=True):
            exponents = numbers_for([homogeneity.exponent(name) for name in names], batch.inputs)
            result = result * factor.view(-1, 1) ** exponents
        return result

    def to_dict(self) -> dict[str, Any]:
        numbers = {name: list(getattr(self, name)) for name in _NUMBERS}
        time = {"lead_time_scale": self.lead_time_scale} if self.lead_time_scale != 1 else {}
        floors = {"coefficient_floor": list(self.coefficient_floor)} if any(self.coefficient_floor) else {}
        scalings = [h.to_dict() for h in self.homogeneities]
        return {"kind": self.kind, "homogeneities": scalings, **numbers, **time, **floors}

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> Normalization:
        numbers: dict[str, Any] = {key: tuple(float(v) for v in entries[key]) for key in _NUMBERS}
        scalings = tuple(Homogeneity.from_dict(h) for h in entries["homogeneities"])
        time = float(entries.get("lead_time_scale", 1.0))
        floors = tuple(map(float, entries.get("coefficient_floor", ())))
        return cls(scalings, kind=entries["kind"], **numbers, lead_time_scale=time, coefficient_floor=floors)

    @classmethod
    def identity(cls, *, num_inputs: int, num_coefficients: int, num_outputs: int) -> Normalization:
        """Return the normalization that changes nothing."""
        counts = {"input": num_inputs, "coefficient": num_coefficients, "output": num_outputs}
        shifts: dict[str, Any] = {f"{role}_shift": (0.0,) * count for role, count in counts.items()}
        scales: dict[str, Any] = {f"{role}_scale": (1.0,) * count for role, count in counts.items()}
        return cls((), (), **shifts, **scales, kind="constant")
