"""What a transfer study tells: the models that `studies` returns, ``analysis.json`` holds and `report` draws.

Every number may be None: it could not be computed. Parts that a study does not have are empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from scifm.findings.finding import Finding
from scifm.findings.part import Number, Part

__all__ = [
    "Analysis",
    "Converged",
    "Crossover",
    "ErrorCurve",
    "ErrorPoint",
    "FrontierPoint",
    "Gain",
    "JointScaling",
    "Law",
    "Mixing",
    "Need",
    "Parameter",
    "Scaling",
    "ScalingAxis",
    "ScalingPoint",
    "Shift",
    "ShiftMeasure",
    "ShiftTask",
    "Size",
    "Source",
    "Target",
]


class Target(Part):
    """A task: a system with shifted knobs."""

    name: str
    system: str
    label: str = ""
    knobs: Mapping[str, Any] = Field(default_factory=dict)


class Source(Part):
    """A pre-training."""

    name: str
    systems: tuple[str, ...] = ()
    label: str = ""
    num_pretrain_samples: int | None = None


class Size(Part):
    """A size of the architecture."""

    name: str
    num_params: int = Field(gt=0)


class ErrorPoint(Part):
    """Mean relative L2 errors of the seeds on one number of samples: median, interval, each value with its run."""

    num_samples: int = Field(ge=0)
    median: Number = None
    low: Number = None
    high: Number = None
    values: tuple[Number, ...] = ()
    runs: tuple[str | None, ...] = ()


class ErrorCurve(Part):
    """Errors of one way (source, size, method) on one task."""

    kind: Literal["few_shot", "from_scratch", "from_scratch_converged", "zero_shot", "in_distribution"]
    source: str = ""
    target: str
    size: str
    method: str = ""
    points: tuple[ErrorPoint, ...] = ()


class _OnTask(Part):
    source: str
    target: str
    size: str
    method: str = ""


class Gain(_OnTask):
    """Error from scratch over error fine-tuned, on as many samples."""

    num_samples: int
    gain: Number = None
    low: Number = None
    high: Number = None
    negative: bool | None = None


class Need(_OnTask):
    """How many samples fine-tuning needs for what training from scratch reaches on `reference_samples`."""

    reference_samples: int
    reference_error: Number = None
    needed: Number = None
    ratio: Number = None
    ratio_low: Number = None
    ratio_high: Number = None
    bound: Literal["at most", "more than"] | None = None


class Converged(_OnTask):
    """Error from scratch where training went on as long as its held-out error fell, beside that of the equal budget."""

    num_samples: int
    error: Number = None
    low: Number = None
    high: Number = None
    equal: Number = None
    num_steps: tuple[int, ...] = ()
    num_limited: int = 0
    fewest: int | None = None


class Crossover(_OnTask):
    """The number of samples from which training from scratch is as good, None where none was measured."""

    num_samples: Number = None
    told: str = ""


class ShiftMeasure(Part):
    """A measure of how far a task lies from the pre-training, and how well its order is that of the errors."""

    name: str
    label: str = ""
    rank_correlation: Number = None
    num_tasks: int | None = None
    p_value: Number = None
    within: Mapping[str, Number] = Field(default_factory=dict)


class ShiftTask(Part):
    """Zero-shot error and values of the measures on one task."""

    source: str
    target: str
    size: str
    zero_shot: Number = None
    values: Mapping[str, Number] = Field(default_factory=dict)


class Shift(Part):
    """Measures of the shift against zero-shot errors."""

    measures: tuple[ShiftMeasure, ...] = ()
    tasks: tuple[ShiftTask, ...] = ()


class Mixing(Part):
    """Error fine-tuned from a mixture over error fine-tuned from the specialist."""

    target: str
    size: str
    num_samples: int
    specialist: str
    mixture: str
    contains_system: bool
    specialist_error: Number = None
    mixture_error: Number = None
    ratio: Number = None
    low: Number = None
    high: Number = None
    scratch_error: Number = None


class ScalingPoint(Part):
    """Errors of the seeds at one place of an axis."""

    x: float
    values: tuple[Number, ...] = ()


class Law(Part):
    """A fitted law, as text and on a grid to draw."""

    form: str = ""
    text: str = ""
    grid_x: tuple[Number, ...] = ()
    grid_y: tuple[Number, ...] = ()


class ScalingAxis(Part):
    """Error against one axis of scale: samples, size or compute."""

    axis: str
    label: str = ""
    points: tuple[ScalingPoint, ...] = ()
    law: Law | None = None
    verdict: str = ""
    told: str = ""


class FrontierPoint(Part):
    """The best split of one budget of pre-training."""

    flops: float
    num_params: float
    num_samples: float
    error: float
    at_edge: bool = False


class Parameter(Part):
    """A fitted number and its interval."""

    value: float
    low: Number = None
    high: Number = None


class JointScaling(Part):
    """The law of size and samples together, and how far it misses the largest cell when fitted without it."""

    text: str | None = None
    told: str = ""
    parameters: Mapping[str, Parameter] = Field(default_factory=dict)
    held_out_error: Number = None
    frontier: tuple[FrontierPoint, ...] = ()


class Scaling(Part):
    """Laws along each axis of scale, and of size and samples together."""

    axes: tuple[ScalingAxis, ...] = ()
    joint: JointScaling | None = None


class Analysis(Part):
    """``analysis.json``.

    `seconds` is wall time over all sittings; `seconds_by_part` that of the runs, added up: ``pretrain`` and ``adapt``.
    """

    title: str = ""
    num_test_samples: int | None = None
    num_seeds: int | None = None
    level: float | None = Field(default=None, gt=0, lt=1)
    verdict: tuple[Finding, ...] = ()
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
    scaling: Scaling = Scaling()
    audits: tuple[Finding, ...] = ()
    seconds: Number = None
    seconds_by_part: Mapping[str, float] = Field(default_factory=dict)
