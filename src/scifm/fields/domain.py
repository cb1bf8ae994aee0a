"""`Domain`: what an operator was trained on, as far as its answers hang on it.

Whether samples lie within is asked of what a network is given, behind the scalings that are exact: ten times the
forcing of a linear problem is nothing new to it, and a tenth of the viscosity is the same as ten times the velocity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scifm.config import Plain
from scifm.errors import ConfigError
from scifm.fields.batch import Batch
from scifm.fields.grid import Grid
from scifm.fields.normalization import Encoded, Normalization
from scifm.wording import span

__all__ = ["Domain", "Range"]

Range = tuple[float, float]
"""The lowest and the highest."""

_SAME = 1e-3  # by which part two numbers differ that count as one
_ROUNDING = 1e-4  # of what a network is given, which is of order one


@dataclass(frozen=True)
class Domain(Plain):
    """The samples that an operator was trained on, in ranges.

    Args:
        lead_times: physical time from input to target; None for steady problems, and where nobody said. An operator
            answers no other.
        forms: the sets of fields its samples had, where these differed; it answers samples of each. Empty: all had all.
        grid: of the samples; None, as for all below: it was not recorded.
        num_samples: how many samples the ranges were seen in.
        coefficients: by name.
        sizes: by input field, the root mean square of a sample over space and frames.
        encoded: of both by name, as the network is given them.

    Raises:
        ConfigError: if lead times are not positive and finite, the shorter first.
    """

    lead_times: Range | None = None
    forms: tuple[tuple[str, ...], ...] = ()
    grid: Grid | None = None
    num_samples: int = 0
    coefficients: dict[str, Range] = field(default_factory=dict)
    sizes: dict[str, Range] = field(default_factory=dict)
    encoded: dict[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.lead_times is not None:
            low, high = self.lead_times
            if not 0 < low <= high < math.inf:
                raise ConfigError(f"lead_times are positive and finite, the shorter first; got {low:g} and {high:g}")

    @classmethod
    def of(
        cls,
        samples: Batch,
        normalization: Normalization,
        *,
        lead_times: Range | None = None,
        forms: tuple[tuple[str, ...], ...] = (),
    ) -> Domain:
        """Return the domain of samples, or of enough of them, that an operator of a normalization was trained on."""
        seen: dict[str, dict[str, Range]] = {"coefficients": {}, "sizes": {}, "encoded": {}}
        for name, kind, values, encoded in _numbers(samples, normalization.encode(samples)):
            if len(values):
                seen[kind][name], seen["encoded"][name] = _range(values), _range(encoded)
        return cls(lead_times, forms, samples.grid, samples.num_samples, **seen)

    def outside(self, batch: Batch, normalization: Normalization, *, any_resolution: bool = True) -> list[str]:
        """Return a sentence for each thing in which samples lie outside; none: they lie within, as far as is known.

        A range that was seen in a few samples is taken to reach a little further than they did.

        Args:
            batch: samples with names of the operator.
            normalization: the operator's.
            any_resolution: whether it may be asked on grids of other spacing.
        """
        found = [] if self.grid is None else self._of_box(self.grid, batch.grid, normalization, any_resolution)
        for name, kind, values, encoded in _numbers(batch, normalization.encode(batch)):
            if name not in self.encoded or not len(values):
                continue
            low, high = self.encoded[name]
            margin = max(3 / (self.num_samples + 1) * (high - low), _SAME * max(abs(low), abs(high)), _ROUNDING)
            far = ~((encoded >= low - margin) & (encoded <= high + margin))
            only, other = getattr(self, kind)[name]
            if only == other:
                far &= (values - only).abs() > _SAME * abs(only)
            if far.any():
                found.append(self._sentence(name, kind, values, far))
        return found

    def _sentence(self, name: str, kind: str, values: Tensor, far: Tensor) -> str:
        low, high = getattr(self, kind)[name]
        what = name if kind == "coefficients" else f"the size of {name}"
        own, trained = _told(_range(values[far])), _told((low, high))
        count = "" if len(far) == 1 else f" in {int(far.sum())} of {len(far)} samples"
        where = f"{what} is {own}{count}"
        if bool(((values[far] < low) | (values[far] > high)).any()):
            return f"{where}; training had {trained}"
        return f"{where}, which beside the size of the fields is beyond training, which had {trained}"

    @staticmethod
    def _of_box(trained: Grid, asked: Grid, normalization: Normalization, any_resolution: bool) -> list[str]:
        found = []
        sides = [own / theirs for own, theirs in zip(asked.extent, trained.extent, strict=True)]
        # where scalings know the box, one of the same shape is the same problem
        ratios = [side / sides[0] for side in sides] if normalization.depends_on_box else sides
        if any(abs(ratio - 1) > _SAME for ratio in ratios) or asked.boundary != trained.boundary:
            boxes = [grid.told.partition(" points on a box of ")[2] for grid in (asked, trained)]
            found.append(f"the box is {boxes[0]}; training had {boxes[1]}")
        if not any_resolution and asked.num_points != trained.num_points:
            found.append(
                f"the grid has {asked.told_points}; training had {trained.told_points}, and this kind of network "
                "answers at the resolution it was trained at"
            )
        return found


def _numbers(batch: Batch, encoded: Encoded) -> Iterator[tuple[str, str, Tensor, Tensor]]:
    """Yield the numbers by name, of the samples that have it: what they are, and what a network is given."""
    names, space = batch.signature, tuple(range(3, batch.inputs.dim()))
    there = batch.has(names.names)
    sizes, given_sizes = (
        fields.double().square().mean(dim=(1, *space)).sqrt() for fields in (batch.inputs, encoded.inputs)
    )
    for kind, own, values, given in (
        ("coefficients", names.coefficients, batch.coefficients, encoded.coefficients),
        ("sizes", names.inputs, sizes, given_sizes),
    ):
        for place, name in enumerate(own):
            rows = slice(None) if there is None else there[:, names.names.index(name)]
            yield name, kind, values[rows, place].detach().double().cpu(), given[rows, place].detach().double().cpu()


def _range(values: Tensor) -> Range:
    low, high = torch.aminmax(values)
    return float(f"{low:.6g}"), float(f"{high:.6g}")


def _told(ends: Range) -> str:
    low, high = (f"{end:.3g}" for end in ends)
    return low if low == high else span(low, high)
