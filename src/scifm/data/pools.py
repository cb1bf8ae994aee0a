"""`DownstreamPool`: the problems that few-shot subsets are taken from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scifm.fields.homogeneity import Homogeneity
from scifm.fields.samples import Samples
from scifm.fields.window import Window

__all__ = ["DownstreamPool"]


@dataclass(frozen=True)
class DownstreamPool:
    """Problems of the downstream task that few-shot subsets are taken from.

    A problem is a sample of a steady system, or a whole trajectory of an evolving one: windows of one trajectory are
    never on two sides of a comparison.

    Args:
        samples: the whole pool; subsets of a seed are nested prefixes of one permutation of its problems.
        origin: where they came from, for the record.
        homogeneities: exact scalings of the system, for fitting a normalization from scratch.
        meanings: what files said the numbers are, by name of a field, a coefficient or an axis; empty: nothing.
    """

    samples: Samples
    origin: dict[str, Any]
    homogeneities: tuple[Homogeneity, ...]
    meanings: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_problems(self) -> int:
        """How many there are to choose from."""
        return self.samples.num_problems

    @property
    def window(self) -> Window:
        """Which frames of a trajectory make a sample."""
        return Window.of(self.origin)
