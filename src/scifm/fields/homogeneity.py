"""Homogeneities: exact scalings under which an equation keeps being true.

A system declares them; normalization uses them to bring every sample to one size without loss of information.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from scifm.errors import SignatureError
from scifm.fields.batch import Batch

__all__ = ["Homogeneity"]

Measure = Literal["rms", "value", "geometric_mean", "sum"]
_NUM_NAMES = {"rms": 1, "value": 1, "geometric_mean": 3, "sum": 0}


@dataclass(frozen=True)
class Homogeneity:
    """Multiplying every named quantity by ``s**exponent`` (any s > 0) turns a solution into a solution.

    Args:
        exponents: pairs (name of a field or coefficient, exponent); names left out are unchanged.
        gauge: the quantities whose size stands for the whole group, each with exponent 1.
        measure: how their size is taken: ``rms`` of one input field; the ``value`` of one coefficient; the
            ``geometric_mean`` of the eigenvalues of the symmetric tensor with entries (xx, yy, xy); the ``sum`` of the
            sizes of `parts`.
        parts: for ``sum``: the same scaling as several systems tell it. In a mixture the coefficients a system lacks
            are zero, and so is the size of the others' parts.

    Raises:
        SignatureError: if the gauge does not fit its measure or does not scale with exponent 1.

    Example:
        −∇·(K∇u) = f is linear in f: ``Homogeneity((("forcing", 1), ("solution", 1)), ("forcing",), "rms")``.
    """

    exponents: tuple[tuple[str, float], ...]
    gauge: tuple[str, ...]
    measure: Measure
    parts: tuple[Homogeneity, ...] = ()

    def __post_init__(self) -> None:
        powers = dict(self.exponents)
        if len(self.gauge) != _NUM_NAMES.get(self.measure):
            raise SignatureError(f"The measure '{self.measure}' does not fit the gauge {self.gauge}.")
        if any(powers.get(name) != 1 for name in self.gauge):
            raise SignatureError(f"Every gauge name needs exponent 1; got gauge {self.gauge} in {self.exponents}.")
        if (self.measure == "sum") != bool(self.parts):
            raise SignatureError("The measure 'sum' needs parts, and only it has them.")

    @classmethod
    def joined(cls, members: Sequence[Homogeneity]) -> Homogeneity:
        """Return the scaling that acts on each of several systems as its own member does.

        Raises:
            SignatureError: if two members scale one quantity differently.
        """
        distinct = list(dict.fromkeys(members))
        if len(distinct) == 1:
            return distinct[0]
        exponents: dict[str, float] = {}
        for name, power in (pair for member in distinct for pair in member.exponents):
            if exponents.setdefault(name, power) != power:
                raise SignatureError(
                    f"Cannot join scalings that multiply '{name}' by different powers, {exponents[name]} and {power}."
                )
        return cls(tuple(exponents.items()), (), "sum", tuple(distinct))

    def exponent(self, name: str) -> float:
        """Return the power of s that multiplies a quantity; 0 for names left out."""
        return dict(self.exponents).get(name, 0.0)

    def size(self, batch: Batch) -> Tensor:
        """Return the positive size of each sample's gauge, ``(batch,)``."""
        if self.measure == "rms":
            return batch.field(self.gauge[0]).flatten(1).square().mean(1).sqrt()
        if self.measure == "value":
            return batch.coefficient(self.gauge[0])
        if self.measure == "sum":
            return torch.stack([part.size(batch) for part in self.parts]).sum(0)
        xx, yy, xy = (batch.coefficient(name) for name in self.gauge)
        return (xx * yy - xy.square()).sqrt()

    def to_dict(self) -> dict[str, Any]:
        exponents = {name: float(power) for name, power in self.exponents}
        entries = {"exponents": exponents, "gauge": list(self.gauge), "measure": self.measure}
        return entries | ({"parts": [part.to_dict() for part in self.parts]} if self.parts else {})

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> Homogeneity:
        exponents = tuple((name, float(power)) for name, power in entries["exponents"].items())
        parts = tuple(cls.from_dict(part) for part in entries.get("parts", ()))
        return cls(exponents, tuple(entries["gauge"]), entries["measure"], parts)
