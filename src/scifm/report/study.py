"""What a study left on disk, checked part by part, and what of it the page shows first: size, source, tasks by system.

Nothing is unpickled.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from scifm.findings.study import Analysis, ErrorCurve, ErrorPoint, Gain, Size, Source, Target
from scifm.report.fields import Examples, read_examples
from scifm.report.records import (
    AGAIN,
    Curve,
    read_curve,
    read_model,
    read_object,
    read_rows,
    read_text,
    unreadable,
)
from scifm.wording import number_text, plural

__all__ = ["Study", "TaskGroup", "count_words", "drawable", "interval_text", "read_study"]

_ROW_COLUMNS = ("kind", "source", "target", "size", "num_samples", "seed", "relative_l2", "run")
_REMEDY = "Analyze the study again: what is complete is not repeated."


def drawable(value: float | None) -> bool:
    """Whether a value has a place on a logarithmic axis: there, finite, positive."""
    return value is not None and math.isfinite(value) and value > 0


def interval_text(low: float | None, high: float | None, write: Callable[[float | None], str] = number_text) -> str:
    """Return an interval, nothing where an end is not known."""
    return f"{write(low)}–{write(high)}" if drawable(low) and drawable(high) else ""


def count_words(count: int) -> str:
    """Return the name of a number of samples: ``zero-shot`` for none, ``1 sample``, ``1,024 samples``."""
    return plural(count, "sample") if count else "zero-shot"


@dataclass(frozen=True)
class TaskGroup:
    """The tasks of one system, mildest shift first, with the words their labels share taken out."""

    label: str
    targets: tuple[Target, ...]
    short_labels: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """All that the page of a study needs, and what it shows first."""

    analysis: Analysis
    path: Path = Path()
    rows: tuple[Mapping[str, Any], ...] | None = None
    examples: Examples | None = None
    environment: Mapping[str, Any] | None = None
    recipe: str | None = None

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The recipe as a tree; empty where there is none.

        Raises:
            RunError: if it is no TOML.
        """
        try:
            return tomllib.loads(self.recipe or "")
        except tomllib.TOMLDecodeError as error:
            raise unreadable(self.path / "config.toml", f"it is not valid TOML ({error})", remedy=_REMEDY) from error

    def curve(self, run: str) -> Curve:
        """Return what a run of the study logged, by its folder relative to the study's."""
        return read_curve(self.path / run)

    @cached_property
    def main_size(self) -> str | None:
        """The network with most points of fine-tuning; among equals the largest of the first architecture."""
        points = {size.name: 0 for size in self.analysis.sizes}
        for curve in self.analysis.curves:
            points[curve.size] = points.get(curve.size, 0) + len(curve.points) * (curve.kind == "few_shot")
        kinds = list(self.analysis.architectures)
        order = {
            size.name: (-kinds.index(size.architecture) if size.architecture in kinds else 0, size.num_params)
            for size in self.analysis.sizes
        }
        return max(points, key=lambda name: (points[name], order.get(name, (0, 0))), default=None)

    @cached_property
    def main_method(self) -> str:
        """``all`` (every weight trained) where it was used, else the first method."""
        return "all" if "all" in self.methods or not self.methods else self.methods[0]

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

    def target_label(self, name: str) -> str:
        """Return the label of a task, its name where it has none."""
        return next(target for target in self.analysis.targets if target.name == name).label or name

    def source_label(self, name: str) -> str:
        """Return the label of a source with the number of its samples."""
        source = self.source(name)
        count = source.num_pretrain_samples
        return f"{source.label or name} ({plural(count, 'sample')})" if count else source.label or name

    @cached_property
    def main_sources(self) -> Mapping[str, str | None]:
        """By task the source it is shown with: its own system alone, else the nearest to it; most samples first."""
        chosen = {}
        for target in self.analysis.targets:

            def fitness(source: Source, system: str = target.system) -> tuple[bool, bool, bool, int]:
                own, single = system in source.systems, len(source.systems) == 1
                return own and single, single, own, source.num_pretrain_samples or 0

            used = {c.source for c in self.curves(("few_shot", "zero_shot"), target=target.name, size=self.main_size)}
            candidates = [source for source in self.analysis.sources if source.name in used]
            chosen[target.name] = max(candidates, key=fitness).name if candidates else None
        return chosen

    def is_main(self, entry: Gain) -> bool:
        """Whether an entry is of the main size and from the main source of its task."""
        return entry.size == self.main_size and entry.source == self.main_sources[entry.target]

    def curves(self, kinds: Iterable[str], **wanted: str | None) -> list[ErrorCurve]:
        """Return the curves of some kinds, `wanted`: of a target, size, source or method; None admits every one."""
        known = {name: value for name, value in wanted.items() if value is not None}
        curves = [curve for curve in self.analysis.curves if curve.kind in kinds]
        return [curve for curve in curves if all(getattr(curve, name) == value for name, value in known.items())]

    def gains(self, target: Target, size: str | None) -> list[Gain]:
        """Return the gains of a task from its main source by the main method, fewest samples first."""
        wanted = (target.name, self.main_sources[target.name], self.main_method)
        own = [g for g in self.analysis.gains if (g.target, g.source, g.method) == wanted and size in (None, g.size)]
        return sorted(own, key=lambda gain: gain.num_samples)

    def level_of(self, kind: str, target: Target) -> ErrorPoint | None:
        """Return the one point of zero-shot or in distribution, from the main source of a task in the main size.

        In distribution belongs to the source: where it was not scored under the task's name, the source's only one.
        """
        source = self.main_sources[target.name]
        if source is None:
            return None
        curves = self.curves((kind,), size=self.main_size, source=source)
        if kind != "in_distribution" or len(curves) != 1:
            curves = [curve for curve in curves if curve.target == target.name]
        return next((point for curve in curves for point in curve.points), None)

    @cached_property
    def groups(self) -> tuple[TaskGroup, ...]:
        """Tasks by system, in the order of the analysis."""
        made = []
        for system in dict.fromkeys(target.system for target in self.analysis.targets):
            targets = tuple(target for target in self.analysis.targets if target.system == system)
            labels = [(target.label or target.name).partition(", ") for target in targets]
            alone = len(targets) == 1 and bool(targets[0].label) and not labels[0][1]
            shared = alone or all(comma and head == labels[0][0] for head, comma, _ in labels)
            short = tuple(rest if shared else "".join((head, comma, rest)) for head, comma, rest in labels)
            made.append(TaskGroup(labels[0][0] if shared else system, targets, short))
        return tuple(made)


# --- reading ----------------------------------------------------------------------------------------------------------

_PARTS = ("curves", "gains", "needs", "converged", "crossovers", "mixing")
_NAMES = {"target": "target", "size": "size", "source": "source", "specialist": "source", "mixture": "source"}


def _undeclared(analysis: Analysis) -> str | None:
    """Return what is wrong where a part names something that is not declared.

    In distribution is scored on the source's own test set, which need not be a task.
    """
    declared = {kind: {entry.name for entry in getattr(analysis, f"{kind}s")} for kind in ("target", "size", "source")}
    parts = {part: getattr(analysis, part) for part in _PARTS} | {"shift.tasks": analysis.shift.tasks}
    for part, entries in parts.items():
        for entry, (field, kind) in product(entries, _NAMES.items()):
            name = getattr(entry, field, "")
            own_test = field == "target" and getattr(entry, "kind", "") == "in_distribution"
            if name and name not in declared[kind] and not own_test:
                known = ", ".join(sorted(declared[kind])) or "none"
                return f"'{part}' names the {kind} {name!r}, which is not among its {kind}s ({known})"
    return None


def _read_table(path: Path) -> tuple[Mapping[str, Any], ...] | None:
    rows = read_rows(path, _ROW_COLUMNS)
    for number, row in enumerate(rows or ()):
        for name in ("num_samples", "seed", "relative_l2"):
            if row[name] is not None and not isinstance(row[name], int | float):
                why = f"'{name}' of row {number} should be a number and is {row[name]!r}"
                raise unreadable(path, why, remedy=AGAIN)
    return None if rows is None else tuple(rows)


def read_study(path: Path) -> Study:
    """Read a study folder: the one that holds ``analysis.json``.

    Raises:
        RunError: if a file that is there cannot be read or is not what its name promises.
    """
    analysis = read_model(path / "analysis.json", Analysis, remedy=_REMEDY)
    if why := _undeclared(analysis):
        raise unreadable(path / "analysis.json", why, remedy=_REMEDY)
    return Study(
        analysis,
        path,
        rows=_read_table(path / "table.parquet"),
        examples=read_examples(path / "examples.npz"),
        environment=read_object(path / "environment.json"),
        recipe=read_text(path / "config.toml"),
    )
