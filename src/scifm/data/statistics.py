"""Statistics of a training split, gathered in one pass in float64.

They lie beside the data as ``stats.yaml`` in The Well's layout (statistic → field → number), with more rows than its
tools ask for.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scifm.errors import DataError, SignatureError, suggest
from scifm.fields.batch import Batch, Signature
from scifm.fields.grid import Grid

__all__ = ["Statistics", "Summary", "samples_at_once", "summarize"]

_BATCH_BYTES = 4 * 1024 * 1024  # more at a time leaves ever more unused holes in memory, and is not faster

_LARGEST = 1e150


@dataclass(frozen=True)
class Summary:
    """What one named quantity looks like over all samples and points, in its own unit.

    Args:
        mean: arithmetic mean.
        std: standard deviation, ddof 0.
        rms: root mean square.
        min: smallest value.
        max: largest value.
        median_rms: median over samples of each sample's root mean square (of a coefficient: its absolute value).
    """

    mean: float
    std: float
    rms: float
    min: float
    max: float
    median_rms: float


_ROWS = tuple(field.name for field in fields(Summary))


@dataclass(frozen=True)
class Statistics:
    """Summaries by name.

    Args:
        fields: of every input and output field.
        coefficients: of every coefficient.
        changes: of every output: how it changes from one frame to the next.
        num_samples: samples they were taken from.
    """

    fields: dict[str, Summary]
    coefficients: dict[str, Summary]
    changes: dict[str, Summary]
    num_samples: int

    def __getitem__(self, name: str) -> Summary:
        """Return the summary of one field or coefficient.

        Raises:
            SignatureError: if there is no such name.
        """
        both = {**self.fields, **self.coefficients}
        if name not in both:
            raise SignatureError(suggest(name, both))
        return both[name]

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of ``stats.yaml``.

        The change from one frame to the next (``mean_delta`` …), which The Well also asks for, goes from the blank
        frame of a steady problem to its solution, so there it is the solution itself.
        """
        table: dict[str, Any] = {row: {n: getattr(s, row) for n, s in self.fields.items()} for row in _ROWS}
        for row in _ROWS:
            table[f"{row}_delta"] = {name: getattr(s, row) for name, s in self.changes.items()}
        table["coefficients"] = {row: {n: getattr(s, row) for n, s in self.coefficients.items()} for row in _ROWS}
        table["num_samples"] = self.num_samples
        return table

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Statistics:
        """Read the entries of ``stats.yaml``; KeyError or TypeError if some are missing."""

        def summaries(table: Mapping[str, Any], ending: str = "") -> dict[str, Summary]:
            rows = {row: table[row + ending] for row in _ROWS}
            return {name: Summary(**{r: float(v[name]) for r, v in rows.items()}) for name in rows["mean"]}

        return cls(
            summaries(entries),
            summaries(entries["coefficients"]),
            summaries(entries, "_delta"),
            int(entries["num_samples"]),
        )


class _Gatherer:
    """Moments of one quantity, merged chunk by chunk so that a large mean does not eat the variance.

    The merging rule is that of Chan, Golub & LeVeque (1983), doi:10.1080/00031305.1983.10483115, eq. 2.1.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.sum_squares = 0.0  # of deviations from the mean
        self.min = float("inf")
        self.max = float("-inf")
        self.sizes = array("d")  # one buffer: a small tensor kept from each batch would pin large freed blocks

    def add(self, values: Tensor, valid: Tensor | None = None) -> None:
        """Add ``(batch, points)``, of which those count that are `valid`."""
        values = values.detach().to(dtype=torch.float64, device="cpu")
        if valid is not None and not valid.all():
            rows = [row[where] for row, where in zip(values, valid.cpu(), strict=True) if where.any()]
            for row in rows:
                self.add(row[None])
            return
        count, mean = values.numel(), float(values.mean())
        difference = mean - self.mean
        total = self.count + count
        self.sum_squares += float((values - mean).square().sum()) + difference**2 * self.count * count / total
        self.mean += difference * count / total
        self.count = total
        self.min = min(self.min, float(values.min()))
        self.max = max(self.max, float(values.max()))
        self.sizes.extend(values.square().mean(dim=1).sqrt().tolist())

    def summary(self) -> Summary:
        variance = self.sum_squares / self.count
        return Summary(
            mean=self.mean,
            std=variance**0.5,
            rms=(variance + self.mean**2) ** 0.5,
            min=self.min,
            max=self.max,
            median_rms=float(np.median(np.frombuffer(self.sizes))),
        )


def samples_at_once(signature: Signature, grid: Grid) -> int:
    """Return how many samples to hand to `summarize` at a time: few enough to take little memory, at least one."""
    numbers = (len(signature.inputs) + len(signature.outputs)) * math.prod(grid.num_points)
    return max(1, _BATCH_BYTES // (8 * numbers))


def summarize(batches: Iterable[Batch]) -> Statistics:
    """Return the statistics of all samples of `batches`, which may come one by one from disk.

    Points that are missing count for nothing. A state counts as it stands in the inputs: the last frame of a
    trajectory, which is only ever a target, is left out.

    Raises:
        DataError: if there is no sample, or a number is so large that its square is none.
        SignatureError: if the batches differ in signature, or have no targets.
    """
    gatherers: dict[str, dict[str, _Gatherer]] = {"field": {}, "coefficient": {}, "change": {}}
    signature, num_samples = None, 0
    for batch in batches:
        signature = signature or batch.signature
        if batch.signature != signature:
            raise SignatureError(f"Statistics need one signature; got {signature} and {batch.signature}.")
        if not batch.num_samples:
            continue
        num_samples += batch.num_samples
        for role, name, values, valid in _quantities(batch):
            values = values if valid is None else torch.where(valid, values, 0.0)
            _require_moderate(name, values)
            gatherers[role].setdefault(name, _Gatherer()).add(
                values.flatten(1), None if valid is None else valid.flatten(1)
            )
    if signature is None or not num_samples:
        raise DataError("Statistics need at least one sample; none was given.")
    for name, gatherer in (pair for named in gatherers.values() for pair in named.items()):
        if not gatherer.count:
            raise DataError(f"Every point of '{name}' is missing in all samples for training: leave the field out.")
    fields, coefficients, changes = (
        {name: gatherer.summary() for name, gatherer in gatherers[role].items()} for role in gatherers
    )
    still = {name: fields[name] for name in signature.outputs if name not in signature.state}
    return Statistics(fields, coefficients, {name: (changes | still)[name] for name in signature.outputs}, num_samples)


def _require_moderate(name: str, values: Tensor) -> None:
    largest = float(values.abs().max())
    if largest > _LARGEST:
        raise DataError(
            f"'{name}' reaches {largest:.3g}; sizes above {_LARGEST:g} cannot be squared, so nothing can be learned "
            "from them. Give the data in other units, or leave those samples out."
        )


def _quantities(batch: Batch) -> Iterator[tuple[str, str, Tensor, Tensor | None]]:
    for name in batch.signature.fields:
        yield "field", name, batch.field(name), batch.valid(name)
    for name in batch.signature.coefficients:
        yield "coefficient", name, batch.coefficient(name)[:, None], None
    for name in batch.signature.state:
        before, after = batch.valid(name), batch.valid_target(name)
        both = after if before is None else before if after is None else before & after
        yield "change", name, batch.target(name) - batch.field(name), both
