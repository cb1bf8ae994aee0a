"""What a transfer study left on disk: ``analysis.json`` checked part by part, ``table.parquet`` as rows.

Every number may be None: it could not be computed. Parts that a study does not have are empty. Nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scifm.report.files import AGAIN, read_object, read_rows, read_text, unreadable

__all__ = [
    "Analysis",
    "Audit",
    "Converged",
    "Crossover",
    "ErrorCurve",
    "ErrorPoint",
    "Gain",
    "Law",
    "Mixing",
    "Need",
    "ScalingAxis",
    "ScalingPoint",
    "Shift",
    "ShiftMeasure",
    "ShiftTask",
    "Size",
    "Source",
    "Target",
    "TransferRecord",
    "Verdict",
    "read_transfer_study",
]

_ROW_COLUMNS = ("kind", "source", "target", "size", "num_samples", "seed", "relative_l2", "run")
_REMEDY = "Analyze the study again: what is complete is not repeated."


class _Part(BaseModel):
    """A part of the analysis: frozen; keys it does not know are left to later versions."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Verdict(_Part):
    """A sentence the study supports, with its numbers; `good` is None where it is neither good nor bad."""

    said: str
    evidence: str = ""
    good: bool | None = None


class Target(_Part):
    """A task: a system with shifted knobs."""

    name: str
    system: str
    label: str = ""
    knobs: Mapping[str, Any] = Field(default_factory=dict)


class Source(_Part):
    """A pre-training."""

    name: str
    systems: tuple[str, ...] = ()
    label: str = ""
    num_pretrain_samples: int | None = None


class Size(_Part):
    """A size of the architecture."""

    name: str
    num_params: int = Field(gt=0)


class ErrorPoint(_Part):
    """Mean relative L2 errors of the seeds on one number of samples: median, interval, each value with its run."""

    num_samples: int = Field(ge=0)
    median: float | None = None
    low: float | None = None
    high: float | None = None
    values: tuple[float | None, ...] = ()
    runs: tuple[str | None, ...] = ()


class ErrorCurve(_Part):
    """Errors of one way (source, size, method) on one task."""

    kind: Literal["few_shot", "from_scratch", "from_scratch_converged", "zero_shot", "in_distribution"]
    source: str = ""
    target: str
    size: str
    method: str = ""
    points: tuple[ErrorPoint, ...] = ()


class _OnTask(_Part):
    source: str
    target: str
    size: str
    method: str = ""


class Gain(_OnTask):
    """Error from scratch over error fine-tuned, on as many samples."""

    num_samples: int
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    negative: bool | None = None


class Need(_OnTask):
    """How many samples fine-tuning needs for what training from scratch reaches on `reference_samples`."""

    reference_samples: int
    reference_error: float | None = None
    needed: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    bound: Literal["at most", "more than"] | None = None


class Converged(_OnTask):
    """Error from scratch where training went on as long as its held-out error fell, beside that of the equal budget."""

    num_samples: int
    error: float | None = None
    low: float | None = None
    high: float | None = None
    equal: float | None = None
    num_steps: tuple[int, ...] = ()
    num_limited: int = 0
    fewest: int | None = None


class Crossover(_OnTask):
    """The number of samples from which training from scratch is as good, None where none was measured."""

    num_samples: float | None = None
    told: str = ""


class ShiftMeasure(_Part):
    """A measure of how far a task lies from the pre-training, and how well its order is that of the errors."""

    name: str
    label: str = ""
    rank_correlation: float | None = None
    num_tasks: int | None = None


class ShiftTask(_Part):
    """Zero-shot error and values of the measures on one task."""

    source: str
    target: str
    size: str
    zero_shot: float | None = None
    values: Mapping[str, float | None] = Field(default_factory=dict)


class Shift(_Part):
    """Measures of the shift against zero-shot errors."""

    measures: tuple[ShiftMeasure, ...] = ()
    tasks: tuple[ShiftTask, ...] = ()


class Mixing(_Part):
    """Error fine-tuned from a mixture over error fine-tuned from the specialist."""

    target: str
    size: str
    num_samples: int
    specialist: str
    mixture: str
    contains_system: bool
    specialist_error: float | None = None
    mixture_error: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    scratch_error: float | None = None


class ScalingPoint(_Part):
    """Errors of the seeds at one place of an axis."""

    x: float
    values: tuple[float | None, ...] = ()


class Law(_Part):
    """A fitted law, as text and on a grid to draw."""

    form: str = ""
    text: str = ""
    grid_x: tuple[float | None, ...] = ()
    grid_y: tuple[float | None, ...] = ()


class ScalingAxis(_Part):
    """Error against one axis of scale: samples, size or compute."""

    axis: str
    label: str = ""
    points: tuple[ScalingPoint, ...] = ()
    law: Law | None = None
    verdict: str = ""
    told: str = ""


class FrontierPoint(_Part):
    """The best split of one budget of pre-training."""

    flops: float
    num_params: float
    num_samples: float
    error: float
    at_edge: bool = False


class JointScaling(_Part):
    """The law of size and samples together."""

    told: str = ""
    frontier: tuple[FrontierPoint, ...] = ()


class _Scaling(_Part):
    axes: tuple[ScalingAxis, ...] = ()
    joint: JointScaling | None = None


class Audit(_Part):
    """A check of the study itself."""

    name: str
    passed: bool
    told: str = ""


class Analysis(_Part):
    """``analysis.json``."""

    title: str = ""
    num_test_samples: int | None = None
    num_seeds: int | None = None
    level: float | None = Field(default=None, gt=0, lt=1)
    verdict: tuple[Verdict, ...] = ()
    targets: tuple[Target, ...]
    sources: tuple[Source, ...] = ()
    sizes: tuple[Size, ...] = ()
    curves: tuple[ErrorCurve, ...]
    gains: tuple[Gain, ...] = ()
    needs: tuple[Need, ...] = ()
    converged: tuple[Converged, ...] = ()
    crossovers: tuple[Crossover, ...] = ()
    shift: Shift = Shift()
    mixing: tuple[Mixing, ...] = ()
    scaling: _Scaling = _Scaling()
    audits: tuple[Audit, ...] = ()


@dataclass(frozen=True)
class TransferRecord:
    """All that the page of a transfer study needs."""

    path: Path
    analysis: Analysis
    rows: tuple[Mapping[str, Any], ...] | None
    environment: Mapping[str, Any] | None
    recipe: str | None


def _named(analysis: Analysis) -> Iterator[tuple[str, str, str]]:
    """Yield (where, what kind of name, name) of every name that must be declared.

    In distribution is scored on the source's own test set, which need not be a task.
    """
    parts: Mapping[str, tuple[Any, ...]] = {
        "curves": tuple(c for c in analysis.curves if c.kind != "in_distribution"),
        "gains": analysis.gains,
        "needs": analysis.needs,
        "converged": analysis.converged,
        "crossovers": analysis.crossovers,
        "shift.tasks": analysis.shift.tasks,
        "mixing": analysis.mixing,
    }
    for part, entries in parts.items():
        for entry in entries:
            yield part, "target", entry.target
            yield part, "size", entry.size
            sources = (entry.specialist, entry.mixture) if isinstance(entry, Mixing) else (entry.source,)
            yield from ((part, "source", source) for source in sources if source)


def _undeclared(analysis: Analysis) -> str | None:
    declared = {
        "target": {target.name for target in analysis.targets},
        "size": {size.name for size in analysis.sizes},
        "source": {source.name for source in analysis.sources},
    }
    for where, kind, name in _named(analysis):
        if name not in declared[kind]:
            known = ", ".join(sorted(declared[kind])) or "none"
            return f"'{where}' names the {kind} {name!r}, which is not among its {kind}s ({known})"
    return None


def _read_analysis(path: Path) -> Analysis:
    tree = read_object(path, remedy=_REMEDY)
    try:
        analysis = Analysis.model_validate({k: v for k, v in (tree or {}).items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise unreadable(path, f"'{place}' is not as expected ({first['msg']})", remedy=_REMEDY) from error
    if why := _undeclared(analysis):
        raise unreadable(path, why, remedy=_REMEDY)
    return analysis


def _read_table(path: Path) -> tuple[Mapping[str, Any], ...] | None:
    rows = read_rows(path, _ROW_COLUMNS)
    for number, row in enumerate(rows or ()):
        for name in ("num_samples", "seed", "relative_l2"):
            if row[name] is not None and not isinstance(row[name], int | float):
                why = f"'{name}' of row {number} should be a number and is {row[name]!r}"
                raise unreadable(path, why, remedy=AGAIN)
    return None if rows is None else tuple(rows)


def read_transfer_study(path: Path) -> TransferRecord:
    """Read a study folder: the one that holds ``analysis.json``.

    Raises:
        RunError: if a file that is there cannot be read or is not what its name promises.
    """
    return TransferRecord(
        path=path,
        analysis=_read_analysis(path / "analysis.json"),
        rows=_read_table(path / "table.parquet"),
        environment=read_object(path / "environment.json"),
        recipe=read_text(path / "config.toml"),
    )
