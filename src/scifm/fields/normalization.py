"""Normalization: physical batches ⇄ numbers of order one, without losing what the physics knows.

Where a system declares a `Homogeneity`, each sample is brought to unit size exactly: fields and coefficients are
divided by powers of the sample's own size, and the answer is multiplied back. What varies after that is shifted and
scaled by constants fitted on training data. With no declared homogeneity only the constants act.

The reference paper's rule (divide forcing **and** coefficients by the forcing's size relative to its training median)
is the case ``kind="joint"``: one scaling under which forcing and coefficients grow together and the solution stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.homogeneity import Homogeneity

__all__ = ["Encoded", "Normalization"]

NormalizationKind = Literal["homogeneous", "joint", "constant"]


@dataclass(frozen=True)
class Encoded:
    """A batch as an operator sees it.

    Args:
        inputs: ``(batch, time, channel, *space)``.
        coefficients: ``(batch, coefficient)``.
        output_scale: ``(batch, 1, output, 1, …)``: the factor that makes an encoded answer physical.
    """

    inputs: Tensor
    coefficients: Tensor
    output_scale: Tensor


@dataclass(frozen=True)
class Normalization:
    """Fitted numbers; apply with `encode`.

    Args:
        homogeneities: scalings whose gauge is fixed for each sample; empty for ``kind="constant"``.
        gauge_sizes: for each homogeneity, the size that samples are brought to.
        input_scale: one divisor per input field.
        coefficient_shift: one offset per coefficient, subtracted first.
        coefficient_scale: one divisor per coefficient.
        output_scale: one factor per output field.
        kind: how it was fitted, for the record.
    """

    homogeneities: tuple[Homogeneity, ...]
    gauge_sizes: tuple[float, ...]
    input_scale: tuple[float, ...]
    coefficient_shift: tuple[float, ...]
    coefficient_scale: tuple[float, ...]
    output_scale: tuple[float, ...]
    kind: NormalizationKind = "homogeneous"

    def __post_init__(self) -> None:
        if len(self.homogeneities) != len(self.gauge_sizes):
            raise ConfigError("A normalization needs one gauge size for each homogeneity.")
        divisors = (*self.gauge_sizes, *self.input_scale, *self.coefficient_scale, *self.output_scale)
        if not all(0 < d < float("inf") for d in divisors):
            raise ConfigError(f"Every divisor of a normalization must be positive and finite; got {divisors}.")

    def encode(self, batch: Batch) -> Encoded:
        """Return the batch in numbers of order one. Targets play no part, so nothing leaks from them."""
        factors = [h.size(batch) / s for h, s in zip(self.homogeneities, self.gauge_sizes, strict=True)]
        names = batch.signature
        field = self._powers(factors, names.inputs, batch) * self._row(self.input_scale, batch)
        coefficient = self._powers(factors, names.coefficients, batch)
        answer = self._powers(factors, names.outputs, batch) * self._row(self.output_scale, batch)
        spatial = (1,) * batch.grid.num_spatial_dims
        shift, scale = self._row(self.coefficient_shift, batch), self._row(self.coefficient_scale, batch)
        return Encoded(
            inputs=batch.inputs / field.view(*field.shape[:1], 1, -1, *spatial),
            coefficients=(batch.coefficients / coefficient - shift) / scale,
            output_scale=answer.view(*answer.shape[:1], 1, -1, *spatial),
        )

    @staticmethod
    def _row(values: tuple[float, ...], batch: Batch) -> Tensor:
        return batch.inputs.new_tensor(values).view(1, -1)

    def _powers(self, factors: list[Tensor], names: tuple[str, ...], batch: Batch) -> Tensor:
        """Return ``(batch, name)``: the product of each sample's factors to the declared exponents."""
        result = batch.inputs.new_ones(batch.num_samples, len(names))
        for homogeneity, factor in zip(self.homogeneities, factors, strict=True):
            exponents = batch.inputs.new_tensor([homogeneity.exponent(name) for name in names])
            result = result * factor.view(-1, 1) ** exponents
        return result

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "homogeneities": [h.to_dict() for h in self.homogeneities],
            "gauge_sizes": list(self.gauge_sizes),
            "input_scale": list(self.input_scale),
            "coefficient_shift": list(self.coefficient_shift),
            "coefficient_scale": list(self.coefficient_scale),
            "output_scale": list(self.output_scale),
        }

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> Normalization:
        numbers = {
            key: tuple(float(v) for v in entries[key])
            for key in ("gauge_sizes", "input_scale", "coefficient_shift", "coefficient_scale", "output_scale")
        }
        return cls(tuple(Homogeneity.from_dict(h) for h in entries["homogeneities"]), kind=entries["kind"], **numbers)

    @classmethod
    def identity(cls, *, num_inputs: int, num_coefficients: int, num_outputs: int) -> Normalization:
        """Return the normalization that changes nothing."""
        ones = lambda n: (1.0,) * n  # noqa: E731
        return cls(
            (), (), ones(num_inputs), (0.0,) * num_coefficients, ones(num_coefficients), ones(num_outputs), "constant"
        )
