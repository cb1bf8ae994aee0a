"""What of an analysis the page shows first: the main size, the source that suits a task, tasks by system."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from scifm.findings.study import Analysis, ErrorCurve, ErrorPoint, Size, Source, Target
from scifm.wording import plural

__all__ = ["KIND_NAMES", "StudyView", "TaskGroup", "count_words", "drawable"]

KIND_NAMES = {
    "in_distribution": "in distribution",
    "zero_shot": "zero-shot",
    "few_shot": "fine-tuned",
    "from_scratch": "from scratch",
    "from_scratch_converged": "from scratch, best budget",
    "pretrain": "pre-training",
    "adapt": "adaptations",
}


def drawable(value: float | None) -> bool:
    """Whether a value has a place on a logarithmic axis: there, finite, positive."""
    return value is not None and math.isfinite(value) and value > 0


def count_words(count: int) -> str:
    """Return the name of a number of samples: ``zero-shot`` for none, ``1 sample``, ``1,024 samples``."""
    if count == 0:
        return "zero-shot"
    return plural(count, "sample")


@dataclass(frozen=True)
class TaskGroup:
    """The tasks of one system, mildest shift first, with the words their labels share taken out."""

    system: str
    label: str
    targets: tuple[Target, ...]
    short_labels: tuple[str, ...]


@dataclass(frozen=True)
class StudyView:
    """An analysis and the choices of the page about it."""

    analysis: Analysis

    @cached_property
    def main_size(self) -> str | None:
        """The size with most points of fine-tuning; among equals the largest."""
        points = {size.name: 0 for size in self.analysis.sizes}
        for curve in self.analysis.curves:
            points[curve.size] = points.get(curve.size, 0) + len(curve.points) * (curve.kind == "few_shot")
        order = {size.name: size.num_params for size in self.analysis.sizes}
        return max(points, key=lambda name: (points[name], order.get(name, 0)), default=None)

    @cached_property
    def main_method(self) -> str:
        """``all`` (every weight trained) where it was used, else the first method."""
        methods = self.methods
        return "all" if "all" in methods or not methods else methods[0]

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """What was trained in fine-tuning, in order of appearance."""
        return tuple(dict.fromkeys(c.method for c in self.analysis.curves if c.kind == "few_shot"))

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """Sizes, smallest first."""
        return tuple(sorted(self.analysis.sizes, key=lambda size: size.num_params))

    def source(self, name: str) -> Source:
        """Return a source by name."""
        return next((s for s in self.analysis.sources if s.name == name), Source(name=name))

    def target(self, name: str) -> Target:
        """Return a task by name."""
        return next(t for t in self.analysis.targets if t.name == name)

    def target_label(self, name: str) -> str:
        """Return the label of a task, its name where it has none."""
        return self.target(name).label or name

    def source_label(self, name: str) -> str:
        """Return the label of a source with the number of its samples."""
        source = self.source(name)
        told = source.label or name
        count = source.num_pretrain_samples
        return f"{told} ({plural(count, 'sample')})" if count else told

    def main_source(self, target: Target) -> str | None:
        """Return the source a task is shown with: its own system alone, else the nearest to it; most samples first."""

        def fitness(source: Source) -> tuple[bool, bool, bool, int]:
            own, single = target.system in source.systems, len(source.systems) == 1
            return own and single, single, own, source.num_pretrain_samples or 0

        used = {c.source for c in self.curves(("few_shot", "zero_shot"), target=target.name, size=self.main_size)}
        candidates = [source for source in self.analysis.sources if source.name in used]
        return max(candidates, key=fitness).name if candidates else None

    def curves(
        self,
        kinds: Iterable[str],
        *,
        target: str | None = None,
        size: str | None = None,
        source: str | None = None,
        method: str | None = None,
    ) -> list[ErrorCurve]:
        """Return the curves of some kinds; None admits every task, size, source or method."""
        wanted = {"target": target, "size": size, "source": source, "method": method}
        return [
            curve
            for curve in self.analysis.curves
            if curve.kind in tuple(kinds)
            and all(value is None or getattr(curve, name) == value for name, value in wanted.items())
        ]

    def level_of(self, kind: str, *, target: str, size: str | None, source: str | None) -> ErrorPoint | None:
        """Return the one point of zero-shot or in distribution.

        In distribution belongs to the source: where it was not scored under the task's name, the source's only one.
        """
        found = self.curves((kind,), size=size, source=source)
        own = [curve for curve in found if curve.target == target]
        chosen = own or (found if kind == "in_distribution" and len(found) == 1 else [])
        points = [point for curve in chosen for point in curve.points]
        return points[0] if points else None

    @cached_property
    def groups(self) -> tuple[TaskGroup, ...]:
        """Tasks by system, in the order of the analysis."""
        systems = dict.fromkeys(target.system for target in self.analysis.targets)
        return tuple(_group(s, [t for t in self.analysis.targets if t.system == s]) for s in systems)


def _group(system: str, targets: Sequence[Target]) -> TaskGroup:
    labels = [target.label or target.name for target in targets]
    heads = {label.partition(", ")[0] for label in labels}
    if len(heads) == 1 and all(", " in label for label in labels):
        return TaskGroup(system, heads.pop(), tuple(targets), tuple(label.partition(", ")[2] for label in labels))
    return TaskGroup(system, system, tuple(targets), tuple(labels))
