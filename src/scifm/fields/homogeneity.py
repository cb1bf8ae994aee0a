"""Homogeneities: exact scalings under which an equation keeps being true.

A system declares them; normalization uses them to bring every sample to one size without loss of information.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from scifm.errors import SignatureError, suggest
from scifm.fields.batch import Batch, Signature

__all__ = ["Homogeneity", "scalings_of_all"]

Measure = Literal["rms", "value", "geometric_mean", "transport", "sum"]
_TAKES = {
    "rms": (1, "one input field"),
    "value": (1, "one coefficient"),
    "geometric_mean": (3, "the entries (xx, yy, xy) of a symmetric tensor in two dimensions"),
    "transport": (2, "the entries (x, y) of a velocity in two dimensions"),
    "sum": (0, "no name, its parts have their own"),
}


@dataclass(frozen=True)
class Homogeneity:
    """Multiplying every named quantity by ``s**exponent`` (any s > 0) turns a solution into a solution.

    Args:
        exponents: pairs (name of a field or coefficient, exponent); names left out are unchanged.
        gauge: the quantities whose size stands for the whole group, each with exponent 1.
        measure: how their size is taken: ``rms`` of one input field; the ``value`` of one coefficient; the
            ``geometric_mean`` of the eigenvalues of the symmetric tensor with entries (xx, yy, xy); the ``transport``
            |v|·L/2π of the velocity with entries (x, y), L the geometric mean of the sides of the box, which has the
            unit L²/T of a diffusion and is what balances it in the longest wave; the ``sum`` of the sizes of `parts`.
        parts: for ``sum``: the same scaling with other gauges: of the terms of one equation, or of several systems. In
            a mixture the coefficients a system lacks are zero, and so is the size of the others' parts.

        fields: in a mixture of systems with different fields: it holds for the samples that have just these; empty:
            for all.

    Raises:
        SignatureError: if the measure is unknown, or a gauge does not fit it or does not scale with exponent 1.

    Example:
        −∇·(K∇u) = f is linear in f: ``Homogeneity((("forcing", 1), ("solution", 1)), ("forcing",), "rms")``.
    """

    exponents: tuple[tuple[str, float], ...]
    gauge: tuple[str, ...]
    measure: Measure
    parts: tuple[Homogeneity, ...] = ()
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        powers = dict(self.exponents)
        if self.measure not in _TAKES:
            raise SignatureError(f"Measure of a homogeneity: {suggest(str(self.measure), _TAKES)}")
        num_names, takes = _TAKES[self.measure]
        if len(self.gauge) != num_names:
            raise SignatureError(f"The measure '{self.measure}' does not fit the gauge {self.gauge}: it takes {takes}.")
        if (self.measure == "sum") != bool(self.parts):
            raise SignatureError("The measure 'sum' needs parts, and only it has them.")
        for gauge in (part.gauge for part in self._terms()):
            if any(powers.get(name) != 1 for name in gauge):
                raise SignatureError(f"Every gauge name needs exponent 1; got gauge {gauge} in {self.exponents}.")

    @classmethod
    def joined(cls, members: Sequence[Homogeneity]) -> Homogeneity:
        """Return the scaling that acts on each of several systems as its own member does.

        Its size is the sum of the members', in which a measure of a gauge that several of them share counts once.

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
        terms: dict[tuple[tuple[str, ...], str], Homogeneity] = {}
        for term in (term for member in distinct for term in member._terms()):
            terms.setdefault((term.gauge, term.measure), term)
        first, *others = terms.values()
        if not others:
            return replace(first, exponents=tuple(exponents.items()))
        return cls(tuple(exponents.items()), (), "sum", (first, *others))

    def _terms(self) -> tuple[Homogeneity, ...]:
        """Return what the size is the sum of, itself if it is no sum."""
        return tuple(term for part in self.parts for term in part._terms()) if self.parts else (self,)

    @property
    def depends_on_box(self) -> bool:
        """Whether the sides of the box enter its size."""
        return any(term.measure == "transport" for term in self._terms())

    def exponent(self, name: str) -> float:
        """Return the power of s that multiplies a quantity; 0 for names left out."""
        return dict(self.exponents).get(name, 0.0)

    def size(self, batch: Batch) -> Tensor:
        """Return the positive size of each sample's gauge, ``(batch,)``; any number for samples it does not hold for.

        Raises:
            SignatureError: if the batch lacks a name of the gauge, or its box has not the dimensions of the measure.
        """
        return self._size(batch, batch.of_form(self.fields) if self.fields else None)

    def factor(self, batch: Batch, gauge_size: float) -> Tensor:
        """Return the s from a sample of size `gauge_size` to each, ``(batch,)``; 1 where it does not hold."""
        mine = batch.of_form(self.fields) if self.fields else None
        ratio = self._size(batch, mine) / gauge_size
        return ratio if mine is None else torch.where(mine, ratio, 1.0)

    def _size(self, batch: Batch, mine: Tensor | None) -> Tensor:
        if self.measure == "rms":
            square = _mean_square(batch, self.gauge[0])
            # the root of zero has no derivative, and of what is passed over none is wanted
            return (square if mine is None else torch.where(mine, square, 1.0)).sqrt()
        if self.measure == "value":
            return batch.coefficient(self.gauge[0])
        if self.measure == "transport":
            return self._transport(batch)
        if self.measure == "sum":
            return torch.stack([part._size(batch, mine) for part in self.parts]).sum(0)
        xx, yy, xy = (batch.coefficient(name) for name in self.gauge)
        return (xx * yy - xy.square()).sqrt()

    def _transport(self, batch: Batch) -> Tensor:
        sides = batch.grid.extent
        if len(sides) != len(self.gauge):
            raise SignatureError(
                f"The measure 'transport' of {self.gauge} is for boxes of {len(self.gauge)} dimensions; this one has "
                f"{len(sides)}."
            )
        velocity = torch.stack([batch.coefficient(name) for name in self.gauge], dim=1)
        length: float = math.prod(side ** (1 / len(sides)) for side in sides)
        return torch.linalg.vector_norm(velocity, dim=1) * (length / (2 * math.pi))

    def to_dict(self) -> dict[str, Any]:
        exponents = {name: float(power) for name, power in self.exponents}
        entries: dict[str, Any] = {"exponents": exponents, "gauge": list(self.gauge), "measure": self.measure}
        entries |= {"parts": [part.to_dict() for part in self.parts]} if self.parts else {}
        return entries | ({"fields": list(self.fields)} if self.fields else {})

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> Homogeneity:
        exponents = tuple((name, float(power)) for name, power in entries["exponents"].items())
        parts = tuple(cls.from_dict(part) for part in entries.get("parts", ()))
        return cls(exponents, tuple(entries["gauge"]), entries["measure"], parts, tuple(entries.get("fields", ())))


def _mean_square(batch: Batch, name: str) -> Tensor:
    """Return the mean square of a field over the points that count, ``(batch,)``; 1 where all that is there is zero."""
    fields, valid = batch.field(name).flatten(1), batch.valid(name)
    if valid is None:
        return fields.square().mean(1)
    valid = valid.flatten(1)
    square, count = torch.where(valid, fields, 0.0).square().mean(1), valid.sum(1)
    return torch.where(square > 0, square * (valid.shape[1] / count.clamp(min=1)), 1.0)


def scalings_of_all(members: Sequence[tuple[Signature, Sequence[Homogeneity]]]) -> tuple[Homogeneity, ...]:
    """Return the scalings of a mixture, each with the fields of the samples it holds for.

    Of systems with the same fields the first of each are told as one, then the second, and so on, as far as every one
    of them declares some: what one of them does not declare would change its solutions. Systems with other fields have
    their own.

    Args:
        members: names and scalings of each system.

    Raises:
        SignatureError: if two systems with the same fields scale one quantity differently.
    """
    alike: dict[frozenset[str], list[tuple[Signature, Sequence[Homogeneity]]]] = {}
    for member in members:
        alike.setdefault(frozenset(member[0].fields), []).append(member)
    if len(alike) == 1:
        return _joined(members)
    return tuple(replace(one, fields=group[0][0].fields) for group in alike.values() for one in _joined(group))


def _joined(members: Sequence[tuple[Signature, Sequence[Homogeneity]]]) -> tuple[Homogeneity, ...]:
    """Return the scalings of systems with the same fields, as far as each leaves the quantities of the others alone."""
    joined: list[Homogeneity] = []
    for scalings in zip(*(own for _, own in members), strict=False):
        one = Homogeneity.joined(scalings)
        for (signature, _), own in zip(members, scalings, strict=True):
            names = (*signature.fields, *signature.coefficients, "lead_time")
            if any(own.exponent(name) != one.exponent(name) for name in names):
                return tuple(joined)
        joined.append(one)
    return tuple(joined)
