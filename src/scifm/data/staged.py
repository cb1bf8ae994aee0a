"""Sources that take turns: a curriculum, in which easier problems come first.

Each stage is a source of its own, so that a batch is still a function of the step alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from scifm.data.stream import WHOLE, BatchSource, Epochs, Part
from scifm.fields.batch import Batch

__all__ = ["Staged", "sees_all", "stage_of"]


class Staged:
    """Sources one after the other, each for so many steps, the last to the end: a curriculum.

    Every stage counts its own steps from 0.

    Args:
        sources: with the same names on the same grid.
        steps: of training, that each but the last is for.
    """

    def __init__(self, sources: Sequence[BatchSource], steps: int) -> None:
        self.sources, self.steps, last = tuple(sources), steps, sources[-1]
        self.signature, self.grid, self.num_samples = last.signature, last.grid, last.num_samples
        ends = [end for source in self.sources for end in source.lead_times or ()]
        self.lead_times = (min(ends), max(ends)) if ends else None
        self.gaps = tuple(dict.fromkeys(name for source in self.sources for name in source.gaps))

    def stage(self, step: int) -> int:
        """Return which source a step is of, from 0."""
        return min(step // self.steps, len(self.sources) - 1)

    def batch(self, step: int, part: Part = WHOLE) -> Batch:
        """Return samples of `step`, of the source whose turn it is."""
        stage = self.stage(step)
        return self.sources[stage].batch(step - stage * self.steps, part)


def stage_of(source: BatchSource, step: int) -> int:
    """Return in which stage of a source a step lies; 0 of one that has none."""
    return source.stage(step) if isinstance(source, Staged) else 0


def sees_all(source: BatchSource) -> bool:
    """Return whether every step, of every stage, holds all samples there are."""
    if isinstance(source, Staged):
        return all(sees_all(one) for one in source.sources)
    return isinstance(source, Epochs) and source.batch_size == source.num_samples
