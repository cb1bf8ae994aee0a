"""`Domain`: what an operator was trained on, as far as its answers hang on it.

Whether samples lie within is asked of what a network is given, behind the scalings that are exact: ten times the
forcing of a linear problem is nothing new to it, and a tenth of the viscosity is the same as ten times the velocity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from scifm.config import Plain
from scifm.errors import ConfigError
from scifm.fields.batch import Batch, Signature
from scifm.fields.gaps import Gaps
from scifm.fields.grid import Grid
from scifm.fields.normalization import Normalization
from scifm.fields.window import are_within, told_times
from scifm.wording import span

__all__ = ["Domain", "Range"]

Range = tuple[float, float]
"""The lowest and the highest."""

_RANGES = ("coefficients", "sizes", "encoded")
_SAME = 1e-3  # by which part two numbers differ that count as one
_AT_ONCE = 256  # samples
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
        gaps: where points of their fields were missing.
        meanings: what files said the numbers are, in words with units, by name of a field, a coefficient or an axis.

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
    gaps: Gaps = field(default_factory=Gaps)
    meanings: dict[str, str] = field(default_factory=dict)

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
        seen: dict[str, Any] = {part: {} for part in _RANGES}
        for name, kind, values, encoded in _numbers(samples, normalization):
            if len(values):
                seen[kind][name], seen["encoded"][name] = _range(values), _range(encoded)
        return cls(lead_times, forms, samples.grid, samples.num_samples, **seen, gaps=Gaps.of(samples))

    def renamed(self, call: Callable[[str], str]) -> Domain:
        """Return the same domain with other names for fields and coefficients."""
        ranges: dict[str, Any] = {
            part: {call(name): own for name, own in getattr(self, part).items()} for part in (*_RANGES, "meanings")
        }
        ranges |= {"gaps": self.gaps.renamed(call)}
        return replace(self, forms=tuple(tuple(map(call, form)) for form in self.forms), **ranges)

    def without(self, names: Iterable[str]) -> Domain:
        """Return the same domain without the ranges of some coefficients, about which nothing is then said."""
        gone = set(names)
        ranges: dict[str, Any] = {
            part: {name: own for name, own in getattr(self, part).items() if name not in gone} for part in _RANGES
        }
        return replace(self, **ranges) if gone else self

    def form_of(self, inputs: Iterable[str], signature: Signature) -> Signature:
        """Return the names of samples that have these input fields, where training samples differed in theirs.

        Coefficients are left as they are: which of them a sample has is its own matter.
        """
        given = set(inputs)
        for form in self.forms:
            own = tuple(name for name in signature.inputs if name in form)
            if set(own) == given:
                return replace(signature, inputs=own, outputs=tuple(n for n in signature.outputs if n in form))
        return signature

    def told(self) -> list[tuple[str, str]]:
        """Return in words what is known, by name."""
        rows = [] if self.grid is None else [("box", self.grid.told)]
        rows += [] if self.lead_times is None else [("time of a step", told_times(self.lead_times))]
        rows += [(name, _told(ends)) for name, ends in self.coefficients.items()]
        rows += [(f"size of {name} (root mean square)", _told(ends)) for name, ends in self.sizes.items()]
        rows += [("missing points in", ", ".join(self.gaps.fields))] if self.gaps else []
        return rows + [(f"what {name} is", text) for name, text in self.meanings.items()]

    def outside(self, batch: Batch, normalization: Normalization, *, any_resolution: bool = True) -> list[str]:
        """Return a sentence for each thing in which samples lie outside; none: they lie within, as far as is known.

        A range that was seen in a few samples is taken to reach a little further than they did.

        Args:
            batch: samples with names of the operator.
            normalization: the operator's.
            any_resolution: whether it may be asked on grids of other spacing.
        """
        if not batch.num_samples:
            return []
        found = [] if self.grid is None else self._of_box(self.grid, batch.grid, normalization, any_resolution)
        asked, known = batch.lead_times, self.lead_times
        if asked is not None and known is not None and not are_within(asked, known):
            found.append(f"a step is {told_times(asked)} long; training had {told_times(known)}")
        new = [name for name in batch.with_targets(None).gaps if name not in self.gaps.fields]
        if new:
            found.append(f"points of {', '.join(new)} are missing; in training none were")
        for name, kind, values, encoded in _numbers(batch, normalization) if self.encoded else ():
            if name not in self.encoded or not len(values):
                continue
            far = self._beyond(encoded, self.encoded[name], _ROUNDING)
            trained = getattr(self, kind)[name]
            itself = far & self._beyond(values, trained)
            if itself.any() or (far.any() and trained[0] < trained[1]):
                found.append(
                    _sentence(name if kind == "coefficients" else f"the size of {name}", values, far, itself, trained)
                )
        return found

    def _beyond(self, values: Tensor, seen: Range, rounding: float = 0.0) -> Tensor:
        low, high = seen
        margin = max(3 / (self.num_samples + 1) * (high - low), _SAME * max(abs(low), abs(high)), rounding)
        return ~((values >= low - margin) & (values <= high + margin))

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


def _sentence(what: str, values: Tensor, far: Tensor, itself: Tensor, trained: Range) -> str:
    """Return what is said of numbers that lie `far` out, of which some do so by `itself` and not beside others only."""
    which = itself if itself.any() else far
    where = "" if len(far) == 1 else f" in {int(which.sum())} of {len(far)} samples"
    why = "; training had" if itself.any() else ", which beside the size of the fields is beyond training, which had"
    return f"{what} is {_told(_range(values[which]))}{where}{why} {_told(trained)}"


def _numbers(batch: Batch, normalization: Normalization) -> Iterator[tuple[str, str, Tensor, Tensor]]:
    """Yield the numbers by name, of the samples that have it: what they are, and what a network is given."""
    pieces = [_of_piece(batch.select(slice(i, i + _AT_ONCE)), normalization) for i in range(0, len(batch), _AT_ONCE)]
    names, there = batch.signature, batch.has(batch.signature.names)
    kinds = ["coefficients"] * len(names.coefficients) + ["sizes"] * len(names.inputs)
    values, given, some = (torch.cat(parts).detach().cpu() for parts in zip(*pieces, strict=True))
    for place, (kind, name) in enumerate(zip(kinds, (*names.coefficients, *names.inputs), strict=True)):
        rows = some[:, place] if there is None else some[:, place] & there[:, names.names.index(name)].cpu()
        yield name, kind, values[rows, place].double(), given[rows, place].double()


def _of_piece(piece: Batch, normalization: Normalization) -> tuple[Tensor, Tensor, Tensor]:
    """Return the coefficients and the sizes of the input fields, ``(sample, number)``, as they are and as encoded.

    Last comes whether there is such a number: a field of which all points are missing has no size.
    """
    encoded, axes, valid = normalization.encode(piece), (1, *range(3, piece.inputs.dim())), piece.valid_inputs
    given, count = piece.inputs, torch.full_like(piece.inputs[:, 0].flatten(2)[:, :, 0], piece.inputs[0, :, 0].numel())
    if valid is not None:
        given, count = torch.where(valid, given, 0.0), valid.sum(axes).to(given)
    root = piece.inputs[0, :, 0].numel() ** 0.5 if valid is None else count.clamp(min=1).sqrt()
    sizes = (torch.linalg.vector_norm(fields, dim=axes) / root for fields in (given, encoded.inputs))
    both = zip((piece.coefficients, encoded.coefficients), sizes, strict=True)
    values, seen = (torch.cat(parts, dim=1) for parts in both)
    known = torch.ones_like(piece.coefficients, dtype=torch.bool)
    return values, seen, torch.cat([known, count > 0], dim=1)


def _range(values: Tensor) -> Range:
    low, high = torch.aminmax(values)
    return float(f"{low:.6g}"), float(f"{high:.6g}")


def _told(ends: Range) -> str:
    low, high = (f"{end:.3g}" for end in ends)
    return low if low == high else span(low, high)
